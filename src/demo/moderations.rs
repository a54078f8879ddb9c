//! `POST /v1/moderations`. <https://platform.openai.com/docs/api-reference/moderations/create>

use axum::Json;
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::refusal::Refusal;
use super::turn::Content;
use super::writing::id;

/// Every category, with the words by which the demo model knows it.
const CATEGORIES: [(&str, &[&str]); 13] = [
    ("harassment", &["idiot", "loser"]),
    ("harassment/threatening", &[]),
    ("hate", &["subhuman"]),
    ("hate/threatening", &[]),
    ("illicit", &["counterfeit", "shoplift"]),
    ("illicit/violent", &["bomb"]),
    ("self-harm", &["suicide"]),
    ("self-harm/intent", &[]),
    ("self-harm/instructions", &[]),
    ("sexual", &["porn"]),
    ("sexual/minors", &[]),
    ("violence", &["kill", "murder", "bomb"]),
    ("violence/graphic", &["gore"]),
];

pub(super) async fn create(fields: Fields) -> Result<Json<Value>, Refusal> {
    let model = fields.text("model")?.unwrap_or("omni-moderation-latest");
    let results: Vec<Value> = texts(fields.required("input")?)?.iter().map(|text| result(text)).collect();
    Ok(Json(json!({"id": id("modr-"), "model": model, "results": results})))
}

/// One text for every result: a string, each of several strings, or a list of parts taken as one.
fn texts(input: &Value) -> Result<Vec<String>, Refusal> {
    match input {
        Value::Array(list) if list.is_empty() => Err(Refusal::value("input", "the array must not be empty.")),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            Ok(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        other => Ok(vec![Content::read(other, "input")?.text]),
    }
}

fn result(text: &str) -> Value {
    let words: Vec<String> = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
    let (mut categories, mut scores, mut inputs) = (Map::new(), Map::new(), Map::new());
    for (category, signs) in CATEGORIES {
        let found = signs.iter().any(|sign| words.iter().any(|word| word == sign));
        categories.insert(category.to_owned(), found.into());
        scores.insert(category.to_owned(), (if found { 0.97 } else { 0.0001 }).into());
        inputs.insert(category.to_owned(), json!(["text"]));
    }
    let flagged = categories.values().any(|found| *found == Value::Bool(true));
    json!({
        "flagged": flagged, "categories": categories, "category_scores": scores,
        "category_applied_input_types": inputs,
    })
}
