//! Server-sent events, a little apart in time so that a reader sees them come.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use serde_json::Value;

use super::fields::Fields;
use super::refusal::Refusal;

/// The pause before every event but the first.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether a stream of OpenAI's completions reports usage.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// In a chunk of its own at the end; `null` in every other.
    Last,
    /// Not at all.
    Left,
}

impl Usage {
    /// By `stream_options.include_usage`.
    pub(super) fn wished(fields: &Fields) -> Result<Self, Refusal> {
        let wish = fields.object("stream_options")?.and_then(|options| options.get("include_usage"));
        match wish {
            Some(Value::Bool(true)) => Ok(Self::Last),
            None | Some(Value::Bool(false) | Value::Null) => Ok(Self::Left),
            Some(_) => Err(Refusal::wrong_type("stream_options.include_usage", "a boolean")),
        }
    }
}

/// An event without a name, as OpenAI's chat streams have them.
pub(super) fn data(value: &Value) -> Event {
    Event::default().data(value.to_string())
}

/// An event named by its own `type`, as Anthropic's and the Responses API's streams have them.
pub(super) fn named(value: &Value) -> Event {
    data(value).event(value["type"].as_str().unwrap_or("message"))
}

/// The event that ends OpenAI's unnamed streams.
pub(super) fn done() -> Event {
    Event::default().data("[DONE]")
}

/// Sends `events` one by one.
pub(super) fn respond(events: Vec<Event>) -> Response {
    let paced = stream::iter(events.into_iter().enumerate()).then(async |(index, event)| {
        if index > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        Ok::<_, Infallible>(event)
    });
    Sse::new(paced).into_response()
}
