//! `GET /v1/models` and `GET /v1/models/{id}`: what a key may call, in the dialect of the caller.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference/models>, <https://docs.anthropic.com/en/api/models-list>.
//! A caller that sends `anthropic-version` reads Anthropic's. Wildcards cannot be listed; a name that one
//! matches can be retrieved.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::config::{Key, Model, Snapshot};
use crate::endpoint::Dialect;
use crate::error::ApiError;

/// Anthropic's page size when the caller names none, and the largest it takes.
const PAGE_DEFAULT: usize = 20;
const PAGE_MAX: usize = 1000;

/// The models `key` may call. `query` pages Anthropic's form (`limit`, `after_id`, `before_id`).
pub fn list(snapshot: &Snapshot, key: &Key, (dialect, query): (Dialect, Option<&str>)) -> Value {
    let models = snapshot.models.exact.iter().filter(|model| key.may_call(&model.name));
    match dialect {
        Dialect::OpenAi => {
            let data: Vec<_> = models.map(|model| openai(snapshot, model, &model.name)).collect();
            json!({"object": "list", "data": data})
        }
        Dialect::Anthropic => {
            let all: Vec<_> = models.map(|model| anthropic(snapshot, &model.name)).collect();
            page(all, query.unwrap_or_default())
        }
    }
}

/// The model at `/v1/models/{id}`; `encoded` is the undecoded id.
///
/// # Errors
/// 404 when there is none of that name, or the key may not call it.
pub fn retrieve(snapshot: &Snapshot, key: &Key, (dialect, encoded): (Dialect, &str)) -> Result<Value, ApiError> {
    let name = percent_decode_str(encoded).decode_utf8().map_err(|_| ApiError::unknown_model(encoded))?;
    match snapshot.models.find(&name) {
        Some(model) if key.may_call(&name) => Ok(match dialect {
            Dialect::OpenAi => openai(snapshot, model, &name),
            Dialect::Anthropic => anthropic(snapshot, &name),
        }),
        _ => Err(ApiError::unknown_model(&name)),
    }
}

fn openai(snapshot: &Snapshot, model: &Model, name: &str) -> Value {
    json!({"id": name, "object": "model", "created": snapshot.loaded_unix, "owned_by": model.owned_by})
}

fn anthropic(snapshot: &Snapshot, name: &str) -> Value {
    json!({"type": "model", "id": name, "display_name": name, "created_at": rfc3339(snapshot.loaded_unix),
        "lifecycle": "active"})
}

fn page(all: Vec<Value>, query: &str) -> Value {
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let limit = parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let position = |id: &str| all.iter().position(|model| model["id"] == id);
    let after = parameter("after_id").and_then(position).map_or(0, |index| index + 1);
    let before = parameter("before_id").and_then(position);
    let (start, end) = match before {
        Some(before) => (before.saturating_sub(limit), before),
        None => (after, all.len().min(after + limit)),
    };
    let more = if before.is_some() { start > 0 } else { end < all.len() };
    let data = &all[start..end];
    let id = |model: Option<&Value>| model.map(|model| model["id"].clone());
    json!({"data": data, "has_more": more, "first_id": id(data.first()), "last_id": id(data.last())})
}

/// Seconds since 1970 as RFC 3339 in UTC.
fn rfc3339(unix: i64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix.max(0) as u64);
    humantime::format_rfc3339_seconds(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_forth_and_back() {
        let all: Vec<Value> = (0..5).map(|id| json!({"id": format!("m{id}")})).collect();
        let ids = |query: &str| {
            let page = page(all.clone(), query);
            let ids: Vec<_> =
                page["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect();
            (ids.join(" "), page["has_more"].as_bool().unwrap())
        };
        assert_eq!(ids(""), ("m0 m1 m2 m3 m4".into(), false));
        assert_eq!(ids("limit=2"), ("m0 m1".into(), true));
        assert_eq!(ids("limit=2&after_id=m1"), ("m2 m3".into(), true));
        assert_eq!(ids("limit=9&after_id=m1"), ("m2 m3 m4".into(), false));
        assert_eq!(ids("limit=2&before_id=m3"), ("m1 m2".into(), true));
        assert_eq!(ids("limit=2&before_id=m1"), ("m0".into(), false));
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }
}
