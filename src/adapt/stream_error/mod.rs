//! The event that ends a stream whose upstream died, so that a cut never looks like an end.
//!
//! Its shape is the endpoint's: `{"error":…}` where OpenAI has no event names, an `error` event for Responses
//! and for Anthropic. It carries no `id:` (openai-python fails on what may follow one) and no `[DONE]` comes
//! after it.
//!
//! A stream can also die inside an event, half of which the client has. What was sent cannot be unsent, and
//! the official SDKs parse whatever event ends, so closing the half one as it is would make them fail on
//! malformed JSON instead of reading the error behind it. Therefore:
//!
//! * Anthropic: the half event is renamed `ping`, which the SDKs skip unread. The last `event:` line wins.
//! * OpenAI: the half document is completed to a well-formed one (see `complete`) with the error as its last
//!   member, which the SDKs look for in every event. The error follows once more as an event of its own.
//! * Where neither can be done, a blank line ends the half event.

mod complete;

use bytes::Bytes;
use memchr::memmem;
use serde_json::json;

use super::sse::{Piece, Splitter};
use crate::endpoint::{Dialect, Endpoint};
use crate::error::ApiError;

/// How much of an unended event is kept, in bytes; of a longer one it is only known that it is there.
pub const EVENT_BYTES_MAX: usize = 64 << 10;

/// The end of what the client has of a stream: whatever follows the last whole event.
#[derive(Debug, Default)]
pub struct Tail {
    /// Begins at the start of an event, unless it was too long.
    unended: Vec<Bytes>,
    bytes: usize,
    is_too_long: bool,
    /// The last chunk: Responses' events are numbered, and the error's number follows the last.
    last: Bytes,
}

/// What ends a stream.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// What was called: chooses the shape.
    pub endpoint: Endpoint,
    /// What happened.
    pub error: &'a ApiError,
    /// Shown where the dialect has a place for it.
    pub request_id: &'a str,
}

impl Tail {
    /// Notes what was sent to the client; keeps it, uncopied, only while an event is unended.
    pub fn push(&mut self, chunk: &Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.last = chunk.clone();
        if let Some(end) = last_event_end(chunk) {
            self.unended.clear();
            self.bytes = 0;
            self.is_too_long = false;
            self.keep(chunk.slice(end..));
        } else {
            self.keep(chunk.clone());
        }
    }

    fn keep(&mut self, chunk: Bytes) {
        if chunk.is_empty() || self.is_too_long {
            return;
        }
        self.bytes += chunk.len();
        self.unended.push(chunk);
        if self.bytes > EVENT_BYTES_MAX {
            self.is_too_long = true;
            self.unended.clear();
        }
    }

    /// The bytes to send before the stream is closed.
    pub fn end(&self, ending: &Ending<'_>) -> Bytes {
        let mut out = self.close_event(ending);
        out.extend_from_slice(self.event(ending).as_bytes());
        out.into()
    }

    /// What makes the half event harmless; empty where there is none.
    fn close_event(&self, ending: &Ending<'_>) -> Vec<u8> {
        if self.is_too_long {
            return b"\n\n".to_vec();
        }
        let half = Half::of(&self.unended.concat());
        if !half.is_inside_event {
            return Vec::new();
        }
        match ending.endpoint.row().dialect {
            Dialect::Anthropic => half.renamed(),
            Dialect::OpenAi => half.completed(&error_member(ending)),
        }
    }

    fn event(&self, ending: &Ending<'_>) -> String {
        let body = ending.error.body(ending.endpoint.row().dialect, ending.request_id);
        match (ending.endpoint.row().dialect, ending.endpoint) {
            (Dialect::Anthropic, _) => format!("event: error\ndata: {body}\n\n"),
            (Dialect::OpenAi, Endpoint::Responses) => {
                format!("event: error\ndata: {}\n\n", self.responses_body(ending))
            }
            (Dialect::OpenAi, _) => format!("data: {body}\n\n"),
        }
    }

    /// `ResponseErrorEvent` of OpenAI's published description, with the `error` besides that SDKs raise for.
    fn responses_body(&self, ending: &Ending<'_>) -> String {
        let error = ending.error;
        json!({
            "type": "error",
            "code": error.code,
            "message": error.message,
            "param": error.param,
            "sequence_number": sequence_number(&self.last).map_or(0, |number| number.saturating_add(1)),
            "error": {"type": error.kind, "code": error.code, "message": error.message, "param": error.param},
        })
        .to_string()
    }
}

/// The value of `error` as a member of a completed event.
fn error_member(ending: &Ending<'_>) -> String {
    let error = ending.error;
    json!({"message": error.message, "type": error.kind, "param": error.param, "code": error.code}).to_string()
}

/// The place behind the last blank line that lies wholly in this chunk.
fn last_event_end(chunk: &[u8]) -> Option<usize> {
    if chunk.ends_with(b"\n\n") || chunk.ends_with(b"\r\n\r\n") {
        return Some(chunk.len());
    }
    let lf = memmem::rfind(chunk, b"\n\n").map(|at| at + 2);
    let crlf = memmem::rfind(chunk, b"\r\n\r\n").map(|at| at + 4);
    lf.max(crlf)
}

/// The number that the last numbered event of a chunk has.
fn sequence_number(chunk: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"sequence_number\":";
    let start = memmem::rfind(chunk, NAME)? + NAME.len();
    let rest = chunk.get(start..)?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

/// An event that lacks its end.
struct Half {
    is_inside_event: bool,
    /// At the start of a line, and behind no CR, which a LF would only complete.
    is_between_lines: bool,
    /// The last line is one of data.
    is_in_data: bool,
    /// Of all its data lines, with a newline between two.
    data: Vec<u8>,
    /// What a character that is cut in two lacks, so that clients can decode the line.
    character_rest: &'static [u8],
}

impl Half {
    fn of(tail: &[u8]) -> Self {
        let (mut splitter, mut rest) = (Splitter::default(), tail);
        let (mut data, mut is_in_data) = (Vec::new(), false);
        while let Some(piece) = splitter.next(&mut rest) {
            match piece {
                Piece::Data(bytes) => {
                    data.extend_from_slice(bytes);
                    is_in_data = true;
                }
                Piece::Other(_) => {}
                Piece::LineEnd(_) => {
                    if is_in_data {
                        data.push(b'\n');
                    }
                    is_in_data = false;
                }
                Piece::EventEnd(_) => data.clear(),
            }
        }
        Self {
            is_inside_event: splitter.is_inside_event(),
            is_between_lines: splitter.is_at_line_start() && !tail.ends_with(b"\r"),
            is_in_data,
            data,
            character_rest: character_rest(tail),
        }
    }

    /// Ends the line it stands in, if it does not stand between two.
    fn end_line(&self) -> Vec<u8> {
        let newline: &[u8] = if self.is_between_lines { b"" } else { b"\n" };
        [self.character_rest, newline].concat()
    }

    fn renamed(&self) -> Vec<u8> {
        [&self.end_line()[..], b"event: ping\n\n"].concat()
    }

    fn completed(&self, error: &str) -> Vec<u8> {
        let line = self.end_line();
        if self.data.trim_ascii().is_empty() {
            // Not ended here: the error's own data becomes this event's.
            return line;
        }
        let blank = [&line[..], b"\n"].concat();
        if !self.is_in_data {
            return blank;
        }
        let document = [&self.data[..], self.character_rest].concat();
        match complete::with_error(&document, error) {
            Some(rest) => [self.character_rest, rest.as_bytes(), b"\n\n"].concat(),
            None => blank,
        }
    }
}

/// The bytes that make a cut character at the end of `text` one that can be decoded.
fn character_rest(text: &[u8]) -> &'static [u8] {
    let lead = text.iter().rev().take(3).position(|byte| *byte >= 0xC0);
    let Some(seen) = lead.map(|at| at + 1) else { return b"" };
    let lead = text[text.len() - seen];
    match (lead, seen) {
        (0xC2..=0xDF, 1) => b"\x80",
        (0xE0, 1) => b"\xA0\x80",
        (0xE1..=0xEF, 1) => b"\x80\x80",
        (0xE0..=0xEF, 2) => b"\x80",
        (0xF0, 1) => b"\x90\x80\x80",
        (0xF1..=0xF4, 1) => b"\x80\x80\x80",
        (0xF0..=0xF4, 2) => b"\x80\x80",
        (0xF0..=0xF4, 3) => b"\x80",
        _ => b"",
    }
}
