//! `POST /v1/embeddings`. <https://platform.openai.com/docs/api-reference/embeddings/create>
//!
//! A vector is made of pseudo-random numbers seeded by the text: the same text has the same vector, another
//! text one that is nearly at right angles to it.

use axum::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::fields::Fields;
use super::input::inputs;
use super::refusal::Refusal;

/// Dimensions when the request does not say: those of OpenAI's `text-embedding-3-small`.
const DIMENSIONS: u64 = 1536;
/// The most dimensions: those of OpenAI's `text-embedding-3-large`.
const DIMENSIONS_MAX: u64 = 3072;
/// The most inputs of one request, by the reference.
const INPUTS_MAX: usize = 2048;

pub(super) async fn create(fields: Fields) -> Result<Json<Value>, Refusal> {
    let model = fields.required_text("model")?;
    let inputs = inputs(&fields, "input")?;
    if inputs.len() > INPUTS_MAX || inputs.iter().any(|input| input.text.is_empty()) {
        return Err(Refusal::value("input", format!("1 to {INPUTS_MAX} texts that are not empty.")));
    }
    let dimensions = fields.count("dimensions", 1..=DIMENSIONS_MAX)?.unwrap_or(DIMENSIONS);
    let as_base64 = fields.choice("encoding_format", &[("float", false), ("base64", true)])? == Some(true);
    let tokens: u64 = inputs.iter().map(|input| input.tokens).sum();
    let entries = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(&input.text, dimensions);
        let embedding = if as_base64 { encoded(&vector).into() } else { Value::from(vector) };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    Ok(Json(json!({
        "object": "list", "model": model, "data": entries.collect::<Vec<_>>(),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
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
