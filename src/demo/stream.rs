//! Server-sent events, a little apart in time so that a reader sees them come.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use serde_json::Value;

/// The pause before every event but the first.
const PAUSE: Duration = Duration::from_millis(5);

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
