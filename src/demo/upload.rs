//! `multipart/form-data` requests: text fields as [`Fields`], files by name and size.
//!
//! A file's bytes are counted and let go, so that an upload of any size costs no memory.

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use serde_json::Value;

use super::fields::{Fields, unreadable};
use super::refusal::Refusal;

/// The longest text field, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What a form held.
#[derive(Debug, Default)]
pub(super) struct Upload {
    pub fields: Fields,
    pub files: Vec<File>,
}

/// One file of a form.
#[derive(Debug)]
pub(super) struct File {
    /// The form field it came in, without the `[]` of a list.
    pub field: String,
    pub name: String,
    pub size_bytes: u64,
}

impl Upload {
    /// The first file of that field.
    pub(super) fn file(&self, field: &str) -> Result<&File, Refusal> {
        self.files.iter().find(|file| file.field == field).ok_or_else(|| Refusal::missing(field))
    }

    async fn take(&mut self, mut part: Field<'_>) -> Result<(), Refusal> {
        let field = part.name().unwrap_or_default().trim_end_matches("[]").to_owned();
        if let Some(name) = part.file_name().map(str::to_owned) {
            let mut size_bytes = 0;
            while let Some(chunk) = part.chunk().await.map_err(malformed)? {
                size_bytes += chunk.len() as u64;
            }
            self.files.push(File { field, name, size_bytes });
            return Ok(());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = part.chunk().await.map_err(malformed)? {
            if bytes.len() + chunk.len() > TEXT_BYTES_MAX {
                return Err(Refusal::value(&field, "the field is too long."));
            }
            bytes.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(bytes).map_err(|_| Refusal::value(&field, "the field is not UTF-8."))?;
        self.fields.0.insert(field.clone(), typed(&field, text));
        Ok(())
    }
}

/// A form has only text; the fields that the reference types otherwise are read as that, if they can be.
fn typed(field: &str, text: String) -> Value {
    let other = match field {
        "n" | "partial_images" | "temperature" => serde_json::from_str(&text).ok().filter(Value::is_number),
        "stream" => text.to_lowercase().parse().ok().map(Value::Bool),
        _ => None,
    };
    other.unwrap_or(Value::String(text))
}

fn malformed(error: MultipartError) -> Refusal {
    match unreadable(error.status()) {
        Refusal::Body(_) => Refusal::Body(format!("Could not parse the multipart form: {}", error.body_text())),
        other => other,
    }
}

impl<S: Send + Sync> FromRequest<S> for Upload {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let mut form = Multipart::from_request(request, state)
            .await
            .map_err(|_| Refusal::Body("The request must be multipart/form-data with a boundary.".to_owned()))?;
        let mut upload = Self::default();
        while let Some(part) = form.next_field().await.map_err(malformed)? {
            upload.take(part).await?;
        }
        Ok(upload)
    }
}
