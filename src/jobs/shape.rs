//! Files as the API shows them. <https://platform.openai.com/docs/api-reference/files/object>

use serde_json::{Value, json};

use crate::store::FileRecord;

/// What a client may upload a file for.
pub(super) const PURPOSES: [&str; 6] = ["assistants", "batch", "evals", "fine-tune", "user_data", "vision"];

/// A file object.
pub(super) fn file(record: &FileRecord) -> Value {
    json!({
        "id": record.id,
        "object": "file",
        "bytes": record.bytes,
        "created_at": record.created_unix_ms / 1000,
        "expires_at": record.expires_unix_ms.map(|at| at / 1000),
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "status_details": null,
    })
}

/// A list; `more` says that it goes on behind it.
pub(super) fn list(data: Vec<Value>, more: bool) -> Value {
    let id = |object: Option<&Value>| object.map_or(Value::Null, |object| object["id"].clone());
    let (first_id, last_id) = (id(data.first()), id(data.last()));
    json!({"object": "list", "data": data, "first_id": first_id, "last_id": last_id, "has_more": more})
}
