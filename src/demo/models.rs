//! `GET /v1/models`: the demo provider names one model, though it answers for every name.
//!
//! <https://platform.openai.com/docs/api-reference/models>, <https://docs.anthropic.com/en/api/models-list>

use axum::Json;
use axum::extract::Path;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::refusal::Refusal;

const MODEL: &str = "forge-demo";

pub(super) async fn list(headers: HeaderMap) -> Json<Value> {
    if is_anthropic(&headers) {
        let page = json!({"data": [anthropic_model()], "has_more": false, "first_id": MODEL, "last_id": MODEL});
        return Json(page);
    }
    Json(json!({"object": "list", "data": [openai_model()]}))
}

pub(super) async fn retrieve(Path(id): Path<String>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    if id != MODEL {
        return Err(Refusal::UnknownModel(id));
    }
    Ok(Json(if is_anthropic(&headers) { anthropic_model() } else { openai_model() }))
}

fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

fn openai_model() -> Value {
    json!({"id": MODEL, "object": "model", "created": 1_767_225_600, "owned_by": "forge"})
}

fn anthropic_model() -> Value {
    json!({
        "type": "model", "id": MODEL, "display_name": "Forge demo", "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
    })
}
