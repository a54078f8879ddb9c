//! `POST /v1/embeddings`. <https://platform.openai.com/docs/api-reference/embeddings/create>
//!
//! A vector is made of pseudo-random numbers seeded by the text: the same text has the same vector, another
//! text one that is nearly at right angles to it.

use axum::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::fields::Fields;
use super::input::{Input, inputs};
use super::refusal::Refusal;

/// Dimensions when the request does not say: those of OpenAI's `text-embedding-3-small`.
const DIMENSIONS: u64 = 1536;
/// The most dimensions: those of OpenAI's `text-embedding-3-large`.
const DIMENSIONS_MAX: u64 = 3072;
/// The most inputs of one request, by the reference.
const INPUTS_MAX: usize = 2048;

pub(super) async fn create(fields: Fields) -> Result<Json<List>, Refusal> {
    let model = fields.required_text("model")?;
    let inputs = inputs(&fields, "input")?;
    if inputs.len() > INPUTS_MAX || inputs.iter().any(|input| input.text.is_empty()) {
        return Err(Refusal::value("input", format!("1 to {INPUTS_MAX} texts that are not empty.")));
    }
    let dimensions = fields.count("dimensions", 1..=DIMENSIONS_MAX)?.unwrap_or(DIMENSIONS);
    let as_base64 = fields.choice("encoding_format", &[("float", false), ("base64", true)])? == Some(true);
    let tokens: u64 = inputs.iter().map(|input| input.tokens).sum();
    let entry = |(index, input): (usize, &Input)| {
        let vector = vector(&input.text, dimensions);
        let embedding = if as_base64 { Embedding::Base64(encoded(&vector)) } else { Embedding::Floats(vector) };
        Entry { object: "embedding", index, embedding }
    };
    Ok(Json(List {
        object: "list",
        model: model.to_owned(),
        data: inputs.iter().enumerate().map(entry).collect(),
        usage: json!({"prompt_tokens": tokens, "total_tokens": tokens}),
    }))
}

/// The answer, typed: as a tree of JSON values, its numbers would take eight times the memory.
#[derive(Serialize)]
pub(super) struct List {
    object: &'static str,
    model: String,
    data: Vec<Entry>,
    usage: Value,
}

#[derive(Serialize)]
struct Entry {
    object: &'static str,
    index: usize,
    embedding: Embedding,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embedding {
    Floats(Vec<f32>),
    Base64(String),
}

/// The unit vector of `text`.
fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    let mut seed = [0; 8];
    seed.copy_from_slice(&Sha256::digest(text.as_bytes())[..8]);
    let mut random = fastrand::Rng::with_seed(u64::from_le_bytes(seed));
    let vector: Vec<f32> = (0..dimensions).map(|_| random.f32() - 0.5).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.into_iter().map(|x| x / length).collect()
}

/// Little-endian 32-bit floats in base64.
fn encoded(vector: &[f32]) -> String {
    STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}
