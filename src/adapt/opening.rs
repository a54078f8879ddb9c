//! The beginning of an event stream, up to its first content: as long as it lasts, nothing is lost by asking
//! another provider.
//!
//! A stream opens with events that say only that it opens (`message_start`, `response.created`, a chunk with
//! the role alone, comments). What follows decides: content, an error event, or nothing at all. An event that
//! cannot be read counts as content, since it is not ours to judge.
//!
//! ```
//! use forge::adapt::opening::{Opening, Verdict};
//! use forge::endpoint::Endpoint;
//!
//! let mut opening = Opening::new(Endpoint::ChatCompletions);
//! assert_eq!(opening.feed(b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"), Verdict::Opening);
//! assert_eq!(opening.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n"), Verdict::Content);
//! ```

use serde_json::Value;

use super::sse::{Piece, Splitter};
use crate::endpoint::Endpoint;

/// The most that an opening may be, in bytes; a longer one is content.
pub const OPENING_BYTES_MAX: usize = 64 << 10;

/// What a stream has shown so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing but that it opens.
    Opening,
    /// Content.
    Content,
    /// An error event, before any content.
    Error,
}

/// Reads a stream's opening.
#[derive(Debug)]
pub struct Opening {
    endpoint: Endpoint,
    splitter: Splitter,
    data: Vec<u8>,
    bytes: usize,
}

impl Opening {
    /// Of an answer to `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, splitter: Splitter::default(), data: Vec::new(), bytes: 0 }
    }

    /// Looks at the next bytes. To be asked no more once it has said anything but [`Verdict::Opening`].
    pub fn feed(&mut self, chunk: &[u8]) -> Verdict {
        self.bytes += chunk.len();
        if self.bytes > OPENING_BYTES_MAX {
            return Verdict::Content;
        }
        let mut rest = chunk;
        while let Some(piece) = self.splitter.next(&mut rest) {
            match piece {
                Piece::Data(bytes) => self.data.extend_from_slice(bytes),
                Piece::Other(_) | Piece::LineEnd(_) => {}
                Piece::EventEnd(_) => {
                    let data = std::mem::take(&mut self.data);
                    match self.judge(&data) {
                        Verdict::Opening => {}
                        decided => return decided,
                    }
                }
            }
        }
        Verdict::Opening
    }

    fn judge(&self, data: &[u8]) -> Verdict {
        if data.is_empty() || data == b"[DONE]" {
            return Verdict::Opening;
        }
        let Ok(event) = serde_json::from_slice::<Value>(data) else { return Verdict::Content };
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind == "error" || kind == "response.failed" || event.get("error").is_some_and(|error| !error.is_null()) {
            return Verdict::Error;
        }
        let opens = match self.endpoint {
            Endpoint::Messages => matches!(kind, "message_start" | "ping"),
            Endpoint::Responses => matches!(kind, "response.created" | "response.in_progress" | "response.queued"),
            Endpoint::ChatCompletions | Endpoint::Completions => !has_content(&event),
            Endpoint::Embeddings
            | Endpoint::Moderations
            | Endpoint::AudioSpeech
            | Endpoint::AudioTranscriptions
            | Endpoint::AudioTranslations
            | Endpoint::ImagesGenerations
            | Endpoint::ImagesEdits
            | Endpoint::ImagesVariations
            | Endpoint::MessagesCountTokens
            | Endpoint::Rerank
            | Endpoint::Realtime
            | Endpoint::Models
            | Endpoint::Model
            | Endpoint::Usage
            | Endpoint::Limits
            | Endpoint::RotateKey
            | Endpoint::Files
            | Endpoint::FileContent
            | Endpoint::File => false,
        };
        if opens { Verdict::Opening } else { Verdict::Content }
    }
}

/// Whether a chunk of a chat or text completion says anything: some text, a call, a reason to end.
fn has_content(event: &Value) -> bool {
    let Some(choices) = event.get("choices").and_then(Value::as_array) else { return true };
    choices.iter().any(|choice| {
        let ended = choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
        let text = choice.get("text").is_some_and(|text| !is_blank(text));
        let delta = choice.get("delta").and_then(Value::as_object);
        ended || text || delta.is_some_and(|delta| delta.iter().any(|(name, value)| name != "role" && !is_blank(value)))
    })
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on a whole stream, the same at every split.
    fn verdict(endpoint: Endpoint, stream: &str) -> Verdict {
        let whole = Opening::new(endpoint).feed(stream.as_bytes());
        for at in 0..=stream.len() {
            let mut opening = Opening::new(endpoint);
            let (first, second) = stream.as_bytes().split_at(at);
            let split = match opening.feed(first) {
                Verdict::Opening => opening.feed(second),
                decided => decided,
            };
            assert_eq!(split, whole, "split at {at}");
        }
        whole
    }

    #[test]
    fn openings_of_every_dialect() {
        use Endpoint::{ChatCompletions as Chat, Completions, ImagesGenerations, Messages, Responses};
        use Verdict::{Content, Error, Opening};
        let role =
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
        let start =
            "event: message_start\ndata: {\"type\":\"message_start\"}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n";
        let created =
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n";
        let error = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
        for (endpoint, stream, expected) in [
            (Chat, String::new(), Opening),
            (Chat, ": comment\n\n".into(), Opening),
            (Chat, role.into(), Opening),
            (Chat, format!("{role}data: [DONE]\n\n"), Opening),
            (Chat, format!("{role}data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}]}}\n\n"), Content),
            (Chat, format!("{role}data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{}}]}}}}]}}\n\n"), Content),
            (Chat, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".into(), Content),
            (Chat, "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n".into(), Opening),
            (Chat, format!("{role}{error}"), Error),
            (Chat, "data: not json\n\n".into(), Content),
            (Completions, "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":null}]}\n\n".into(), Opening),
            (Completions, "data: {\"choices\":[{\"text\":\"a\"}]}\n\n".into(), Content),
            (Messages, start.into(), Opening),
            (Messages, format!("{start}event: error\ndata: {{\"type\":\"error\",\"error\":{{}}}}\n\n"), Error),
            (Messages, format!("{start}data: {{\"type\":\"content_block_start\"}}\n\n"), Content),
            (Responses, created.into(), Opening),
            (Responses, format!("{created}data: {{\"type\":\"response.failed\"}}\n\n"), Error),
            (Responses, format!("{created}data: {{\"type\":\"response.output_item.added\"}}\n\n"), Content),
            (ImagesGenerations, "data: {\"type\":\"image_generation.partial_image\"}\n\n".into(), Content),
        ] {
            assert_eq!(verdict(endpoint, &stream), expected, "{stream}");
        }
    }

    #[test]
    fn an_opening_is_bounded() {
        let mut opening = Opening::new(Endpoint::ChatCompletions);
        let comment = [b':'; 1024];
        let fed = (0..65).find(|_| opening.feed(&comment) == Verdict::Content);
        assert_eq!(fed, Some(64));
    }
}
