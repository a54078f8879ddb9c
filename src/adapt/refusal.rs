//! What a client reads when the provider refuses its request: the provider's reason, in the client's
//! dialect, without what is not the client's business.
//!
//! A body that has the dialect's shape passes byte for byte; where it holds URLs, hosts of the provider or
//! something that looks like a credential, these and nothing else are replaced, so that `code` and `param`,
//! which clients act on, arrive. Of a body in another shape the message is taken. Whatever is no JSON (an
//! error page of a proxy) is replaced by our own text.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use super::scrub::Scrubber;
use crate::config::Provider;
use crate::endpoint::Dialect;
use crate::error::ApiError;

/// The longest refusal that is read, in bytes; a longer one is answered by our own text.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// The longest message taken from a refusal, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 2 << 10;

/// A provider's refusal.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// The provider's status, which the client gets too.
    pub status: u16,
    /// The whole body, at most [`BODY_BYTES_MAX`] bytes.
    pub body: &'a Bytes,
    /// What the client reads.
    pub dialect: Dialect,
    /// Ours; takes the place of the provider's own in Anthropic's shape.
    pub request_id: &'a str,
    /// Who refused: its hosts and keys are what must not be shown.
    pub provider: &'a Provider,
}

/// What the client gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// This body, with the provider's status and `application/json`.
    Body(Bytes),
    /// This error, in the client's dialect.
    Error(ApiError),
}

/// Decides what the client reads of a refusal.
pub fn tell(refused: &Refused<'_>) -> Told {
    let own = |message| Told::Error(ApiError::upstream_refusal(refused.status, message));
    if refused.body.len() > BODY_BYTES_MAX {
        return own(None);
    }
    let Ok(value) = serde_json::from_slice::<Value>(refused.body) else { return own(None) };
    let scrubber = Scrubber::of(refused.provider);
    if has_shape(&value, refused.dialect)
        && let Some(body) = scrubbed_body(refused.body, &value, &scrubber)
    {
        return Told::Body(with_our_id(body, &value, refused.request_id));
    }
    own(message(&value).map(|text| bounded(&scrubber.scrub(text))))
}

/// Whether `value` is an error as the dialect's clients read it.
/// <https://platform.openai.com/docs/guides/error-codes>, <https://docs.anthropic.com/en/api/errors>
fn has_shape(value: &Value, dialect: Dialect) -> bool {
    let error = &value["error"];
    let is_error = error["message"].is_string();
    match dialect {
        Dialect::OpenAi => is_error,
        Dialect::Anthropic => is_error && error["type"].is_string() && value["type"] == "error",
    }
}

/// The body with what must not be shown replaced in its own bytes. `None` when that cannot be done there,
/// because it is written with escapes.
fn scrubbed_body(body: &Bytes, value: &Value, scrubber: &Scrubber<'_>) -> Option<Bytes> {
    let text = std::str::from_utf8(body).ok()?;
    match scrubber.scrub(text) {
        Cow::Borrowed(_) => is_clean(value, scrubber).then(|| body.clone()),
        Cow::Owned(text) => {
            let value = serde_json::from_str(&text).ok()?;
            is_clean(&value, scrubber).then(|| text.into())
        }
    }
}

/// The body with the provider's `request_id` replaced: support is asked about ours, which the headers and the
/// log carry. A value that cannot be found as it is written stays.
fn with_our_id(body: Bytes, value: &Value, ours: &str) -> Bytes {
    let Some(theirs) = value["request_id"].as_str().filter(|id| !id.is_empty()) else { return body };
    let (theirs, ours) = (format!("\"{theirs}\""), format!("\"{ours}\""));
    match memchr::memmem::rfind(&body, theirs.as_bytes()) {
        Some(at) => [&body[..at], ours.as_bytes(), &body[at + theirs.len()..]].concat().into(),
        None => body,
    }
}

fn is_clean(value: &Value, scrubber: &Scrubber<'_>) -> bool {
    match value {
        Value::String(text) => matches!(scrubber.scrub(text), Cow::Borrowed(_)),
        Value::Array(items) => items.iter().all(|item| is_clean(item, scrubber)),
        Value::Object(members) => members
            .iter()
            .all(|(key, item)| matches!(scrubber.scrub(key), Cow::Borrowed(_)) && is_clean(item, scrubber)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// The message of an error in one of the shapes that providers use.
fn message(value: &Value) -> Option<&str> {
    let places = [
        "/error/message",        // OpenAI, Azure, Anthropic, Google's native form, current vLLM
        "/0/error/message",      // Google's OpenAI surface
        "/error",                // Ollama, llama.cpp, Together
        "/message",              // Cohere, Mistral, earlier vLLM
        "/message/detail/0/msg", // Mistral's validation
        "/detail",               // FastAPI
        "/detail/0/msg",         // FastAPI's validation
        "/detail/message",
        "/detail/error/message",
        "/errors/0/message",
    ];
    places.iter().find_map(|place| value.pointer(place)?.as_str()).filter(|text| !text.is_empty())
}

/// At most [`MESSAGE_BYTES_MAX`] bytes of `text`, without control characters.
fn bounded(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars().filter(|c| !c.is_control() || *c == '\n') {
        if out.len() + character.len_utf8() > MESSAGE_BYTES_MAX {
            break;
        }
        out.push(character);
    }
    out
}
