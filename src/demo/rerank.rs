//! `POST /v1/rerank`, in the form Cohere, Jina and Voyage share. <https://docs.cohere.com/reference/rerank>
//!
//! The score of a document is the share of the query's words that it holds; words that begin alike count half.

use axum::Json;
use serde_json::{Value, json};

use super::fields::Fields;
use super::refusal::Refusal;
use super::writing::{id, tokens};

/// Letters two words must begin with alike to count half.
const STEM_CHARS: usize = 4;
/// Words of the query that are looked for; each is compared with every word of every document.
const QUERY_WORDS_MAX: usize = 64;

pub(super) async fn create(fields: Fields) -> Result<Json<Value>, Refusal> {
    let model = fields.required_text("model")?;
    let query = fields.required_text("query")?;
    let documents = fields.required_list("documents")?;
    let texts = documents.iter().enumerate().map(|(index, document)| text(document, index));
    let texts = texts.collect::<Result<Vec<&str>, Refusal>>()?;
    let top_n = fields.count("top_n", 1..=u64::MAX)?.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let with_documents = fields.flag("return_documents")? == Some(true);

    let mut asked = words(query);
    asked.truncate(QUERY_WORDS_MAX);
    let mut ranked: Vec<(usize, f64)> = texts.iter().map(|text| score(&asked, &words(text))).enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let results = ranked.into_iter().take(top_n).map(|(index, score)| {
        let mut result = json!({"index": index, "relevance_score": score});
        if with_documents {
            result["document"] = json!({"text": texts.get(index)});
        }
        result
    });
    let total = tokens(query) + texts.iter().map(|text| tokens(text)).sum::<u64>();
    Ok(Json(json!({
        "id": id("rerank-"), "model": model, "results": results.collect::<Vec<_>>(),
        "usage": {"total_tokens": total},
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    })))
}

/// A document is a string or an object with `text`.
fn text(document: &Value, index: usize) -> Result<&str, Refusal> {
    let text = document.as_str().or_else(|| document["text"].as_str());
    text.ok_or_else(|| Refusal::wrong_type(&format!("documents[{index}]"), "a string or an object with 'text'"))
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// 0 to 1.
fn score(asked: &[String], held: &[String]) -> f64 {
    let matches = asked.iter().map(|word| held.iter().map(|other| likeness(word, other)).fold(0.0, f64::max));
    matches.sum::<f64>() / asked.len().max(1) as f64
}

fn likeness(a: &str, b: &str) -> f64 {
    let shared = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    if a == b {
        1.0
    } else if shared >= STEM_CHARS {
        0.5
    } else {
        0.0
    }
}
