//! Puts the name the client asked for in place of the model's name in a provider's answer, in the bytes as
//! they pass: everything else stays bit for bit, numbers above all, and nothing is re-serialised.
//!
//! A JSON body has its name at the top level. An event of a stream has it there (chat completions), in
//! `response` (OpenAI's Responses) or in `message` (Anthropic's Messages); the first one found is the event's.
//! Names are found by their place in the document, never by their text. A key written with escapes is not
//! taken for `model`; no provider writes it so.
//!
//! Bytes leave with the chunk they came in. The one exception is a name that a chunk's end cuts in two: its
//! part, at most [`VALUE_BYTES_MAX`], waits for the rest. A document is touched only as long as it is
//! well-formed, at the levels read here; a longer name, or one that is no string, stays.
//!
//! ```
//! use bytes::Bytes;
//! use forge::adapt::echo::Echo;
//!
//! let mut echo = Echo::sse("mine");
//! let mut out = echo.feed(Bytes::from_static(b"data: {\"id\":1,\"model\":\"gp")).to_vec();
//! assert_eq!(out, b"data: {\"id\":1,\"model\":\"");
//! out.extend(echo.feed(Bytes::from_static(b"t-5\",\"x\":1.10}\n\n")));
//! out.extend(echo.finish());
//! assert_eq!(out, b"data: {\"id\":1,\"model\":\"mine\",\"x\":1.10}\n\n");
//! ```

mod document;
mod splice;

use bytes::Bytes;

use self::document::{Document, Paths};
use self::splice::Splice;
use super::sse::{Piece, Splitter};

/// The longest name replaced, in bytes with its quotes; fewer are held back.
pub const VALUE_BYTES_MAX: usize = 1024;

/// Splices one answer.
#[derive(Debug)]
pub struct Echo {
    document: Document,
    form: Form,
    /// The name as a JSON string, behind its opening quote.
    name: Vec<u8>,
}

#[derive(Debug)]
enum Form {
    Json,
    Sse(Splitter),
}

impl Echo {
    /// For a JSON body.
    pub fn json(name: &str) -> Self {
        Self { document: Document::new(Paths::Top), form: Form::Json, name: json_string_tail(name) }
    }

    /// For an event stream.
    pub fn sse(name: &str) -> Self {
        let document = Document::new(Paths::TopAndEnvelopes);
        Self { document, form: Form::Sse(Splitter::default()), name: json_string_tail(name) }
    }

    /// What of the body can leave now that `chunk` has come; `chunk` itself, uncopied, where nothing changes.
    pub fn feed(&mut self, chunk: Bytes) -> Bytes {
        let mut splice = Splice::new(&chunk, &self.name);
        match &mut self.form {
            Form::Json => self.document.feed(&chunk, 0, &mut splice),
            Form::Sse(splitter) => feed_events(splitter, &mut self.document, &chunk, &mut splice),
        }
        splice.finish()
    }

    /// What was held back when the body ended: empty, but for a body cut inside the name.
    pub fn finish(&mut self) -> Bytes {
        self.document.release()
    }
}

fn feed_events(splitter: &mut Splitter, document: &mut Document, chunk: &[u8], splice: &mut Splice<'_>) {
    let mut rest = chunk;
    while let Some(piece) = splitter.next(&mut rest) {
        let start = chunk.len() - rest.len() - piece.bytes().len();
        match piece {
            Piece::Data(bytes) => document.feed(bytes, start, splice),
            Piece::Other(_) => {}
            Piece::LineEnd(_) => document.end_line(start, splice),
            Piece::EventEnd(_) => document.reset(start, splice),
        }
    }
}

/// The JSON string of `text` but for its opening quote, which stays the provider's.
fn json_string_tail(text: &str) -> Vec<u8> {
    // A string can always be written.
    let mut string = serde_json::to_vec(text).unwrap_or_default();
    string.drain(..1.min(string.len()));
    string
}
