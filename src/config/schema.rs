//! The JSON Schema of routes.yaml, made from the same tables the checker walks.

use serde_json::{Value, json};

use super::catalogue;
use super::shape::{Key, ROUTES, Shape};
use crate::endpoint::Endpoint;

/// The JSON Schema (draft 2020-12) of routes.yaml, for editors and `forge schema`.
pub fn routes_schema() -> Value {
    let mut schema = of(&ROUTES);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Forge routes.yaml");
    schema
}

fn of(shape: &Shape) -> Value {
    match *shape {
        Shape::Text => json!({"type": ["string", "number", "boolean"]}),
        Shape::Count { min, max } => json!({"anyOf": [
            {"type": "integer", "minimum": min, "maximum": max},
            {"type": "string", "pattern": "^[0-9]+ *[kM]?$"},
        ]}),
        Shape::Bytes => json!({"anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": "^[0-9]+ *([KMG]iB)?$"},
        ]}),
        Shape::Duration => json!({"type": "string", "examples": ["500ms", "2s", "10m"]}),
        Shape::Price => json!({"anyOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,6})?$"},
        ]}),
        Shape::Date => json!({"type": "string", "examples": ["2026-11-01", "2026-11-01T12:00:00Z"]}),
        Shape::Percent => json!({"type": "string", "pattern": "^(100|[0-9]{1,2})%$"}),
        Shape::Budget => json!({
            "type": "string",
            "pattern": "^[0-9]+(\\.[0-9]{1,6}|[kM])? +(USD/day|USD/month|tokens/month)$",
            "examples": ["50 USD/month", "5 USD/day", "10M tokens/month"],
        }),
        Shape::Secret => json!({"type": "string", "pattern": "^(none$|env:.|file:.|plain:.)"}),
        Shape::Address => json!({"type": "string", "examples": ["0.0.0.0:8080"]}),
        Shape::Choice(words) => words_of(words.iter().copied()),
        Shape::Endpoint => words_of(Endpoint::proxied().map(Endpoint::name)),
        Shape::CatalogueRow => words_of(catalogue::names()),
        Shape::Map { keys, short } => map_of(keys, short),
        Shape::Named(shape) => json!({"type": ["object", "null"], "additionalProperties": of(shape)}),
        Shape::ByEndpoint(shape) => json!({
            "type": ["object", "null"],
            "propertyNames": words_of(Endpoint::proxied().map(Endpoint::name)),
            "additionalProperties": of(shape),
        }),
        Shape::Many(shape) => json!({"anyOf": [of(shape), {"type": "array", "items": of(shape)}, {"type": "null"}]}),
    }
}

fn map_of(keys: &[Key], short: Option<&str>) -> Value {
    let properties: serde_json::Map<_, _> = keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<_> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let kinds = if required.is_empty() { json!(["object", "null"]) } else { json!("object") };
    let map = json!({
        "type": kinds, "properties": properties, "required": required, "additionalProperties": false,
    });
    match short.and_then(|name| keys.iter().find(|key| key.name == name)) {
        Some(key) => json!({"anyOf": [of(&key.shape), map]}),
        None => map,
    }
}

fn property(key: &Key) -> Value {
    let mut schema = of(&key.shape);
    schema["description"] = json!(key.about);
    schema
}

/// The words, and as numbers those that YAML reads as numbers.
fn words_of(words: impl IntoIterator<Item = &'static str>) -> Value {
    let words = words.into_iter().flat_map(|word| {
        let number = word.parse::<u64>().ok().map(|number| json!(number));
        std::iter::once(json!(word)).chain(number)
    });
    json!({"enum": words.collect::<Vec<_>>()})
}
