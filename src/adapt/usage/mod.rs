//! What an answer says it cost: read from its bytes as they pass, whichever dialect and endpoint.
//!
//! Owns: where usage stands in answers, what its fields mean, the chunk that only a gateway asked for, and
//! the text that an estimate is made from where nothing is reported. Nothing is delayed, and no content is
//! parsed: of an event stream, only events whose bytes name `usage` are walked, and of what is walked, only the
//! usage object itself (at most [`OBJECT_BYTES_MAX`]) is read.
//!
//! Usage is found by its place in the document, never by its text alone: what a model writes, or a tool's
//! schema that a provider repeats, may hold a `usage` too.
//!
//! ```
//! use forge::adapt::usage::Reader;
//! use forge::endpoint::Endpoint;
//!
//! let mut reader = Reader::sse(Endpoint::ChatCompletions);
//! reader.feed(b"data: {\"choices\":[],\"usage\":{\"prompt_to");
//! reader.feed(b"kens\":9,\"completion_tokens\":3,\"total_tokens\":12}}\n\ndata: [DONE]\n\n");
//! let usage = reader.reported().unwrap();
//! assert_eq!((usage.input_tokens, usage.output_tokens), (9, 3));
//! ```

pub mod said;
pub mod sent;
pub mod strip;
mod walk;
mod wire;

use std::sync::LazyLock;

use memchr::memmem::Finder;

use self::walk::{Part, Walker, Wanted};
use self::wire::Wire;
use super::sse::{Piece, Splitter};
use crate::endpoint::Endpoint;

/// The longest usage object that is read, in bytes; a longer one counts as none.
pub const OBJECT_BYTES_MAX: usize = 16 << 10;

/// What a request used. Every provider's counting is brought to this one: parts are included in their whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the prompt, with what was read from a cache and what was written to one.
    pub input_tokens: u64,
    /// Of these, read from the provider's cache.
    pub cached_input_tokens: u64,
    /// Of the input tokens, written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Of the input tokens, of sound.
    pub audio_input_tokens: u64,
    /// Of the input tokens, of pictures.
    pub image_input_tokens: u64,
    /// Of the answer, with what the model thought.
    pub output_tokens: u64,
    /// Of these, what the model thought.
    pub reasoning_tokens: u64,
    /// Of the output tokens, of sound.
    pub audio_output_tokens: u64,
    /// Pictures made.
    pub images: u64,
    /// Characters turned into speech.
    pub characters: u64,
    /// Sound that was heard, in milliseconds.
    pub audio_ms: u64,
    /// Searches, where a provider bills so (a rerank of up to 100 documents at Cohere).
    pub searches: u64,
    /// Documents ranked.
    pub documents: u64,
}

impl Usage {
    /// Whether nothing was used.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads one answer's usage.
#[derive(Debug)]
pub struct Reader {
    endpoint: Endpoint,
    walker: Walker,
    form: Form,
    wire: Option<Wire>,
    /// Counted where nothing is reported: pictures, documents.
    items: u64,
    /// Of `verbose_json`.
    duration_ms: Option<u64>,
}

#[derive(Debug)]
enum Form {
    Json,
    Sse {
        splitter: Splitter,
        /// The next byte begins an event, and no byte order mark.
        between_events: bool,
    },
}

impl Reader {
    /// Of a JSON body.
    pub fn json(endpoint: Endpoint) -> Self {
        Self::new(endpoint, Form::Json)
    }

    /// Of an event stream.
    pub fn sse(endpoint: Endpoint) -> Self {
        Self::new(endpoint, Form::Sse { splitter: Splitter::default(), between_events: false })
    }

    fn new(endpoint: Endpoint, form: Form) -> Self {
        let walker = Walker::new(match form {
            Form::Json => wanted(endpoint),
            // Its events are not all walked, so nothing can be counted in them.
            Form::Sse { .. } => Wanted::Nothing,
        });
        Self { endpoint, walker, form, wire: None, items: 0, duration_ms: None }
    }

    /// Looks at the next bytes of the answer, as the provider sent them.
    pub fn feed(&mut self, chunk: &[u8]) {
        let Self { walker, form, wire, items, duration_ms, .. } = self;
        let mut found = |part: Part<'_>| match part {
            Part::Usage(object) => wire::read(object, wire),
            Part::Item => *items += 1,
            Part::Duration(seconds) => *duration_ms = wire::milliseconds(seconds),
            Part::Text(_) => {}
        };
        match form {
            Form::Json => walker.feed(chunk, &mut found),
            Form::Sse { between_events, .. } if *between_events && chunk.ends_with(b"\n\n") && !has_usage(chunk) => {}
            Form::Sse { splitter, between_events } => {
                let mut rest = chunk;
                while let Some(piece) = splitter.next(&mut rest) {
                    match piece {
                        Piece::Data(bytes) => walker.feed(bytes, &mut found),
                        Piece::Other(_) | Piece::LineEnd(_) => {}
                        Piece::EventEnd(_) => walker.reset(),
                    }
                }
                *between_events = !splitter.is_inside_event() && chunk.ends_with(b"\n");
            }
        }
    }

    /// Whether a usage object was read. A later one may say more.
    pub fn is_reported(&self) -> bool {
        self.wire.is_some()
    }

    /// What the provider reported, or what its answer shows by itself (pictures); `None`: neither.
    pub fn reported(&self) -> Option<Usage> {
        let reported = self.wire.as_ref().map(|wire| wire.usage(self.endpoint));
        let mut usage = reported.unwrap_or_default();
        match self.endpoint {
            Endpoint::ImagesGenerations | Endpoint::ImagesEdits | Endpoint::ImagesVariations => {
                // A stream of one picture says when it is there, with its usage.
                usage.images = self.items.max(reported.is_some().into());
            }
            Endpoint::Rerank => usage.documents = self.items,
            Endpoint::AudioTranscriptions | Endpoint::AudioTranslations if usage.audio_ms == 0 => {
                usage.audio_ms = self.duration_ms.unwrap_or_default();
            }
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::Moderations
            | Endpoint::AudioSpeech
            | Endpoint::AudioTranscriptions
            | Endpoint::AudioTranslations
            | Endpoint::Messages
            | Endpoint::MessagesCountTokens
            | Endpoint::Responses
            | Endpoint::Realtime
            | Endpoint::Models
            | Endpoint::Model
            | Endpoint::Usage
            | Endpoint::Limits
            | Endpoint::RotateKey
            | Endpoint::Files
            | Endpoint::FileContent
            | Endpoint::File => {}
        }
        (reported.is_some() || !usage.is_zero()).then_some(usage)
    }
}

/// Whether anything of an answer to `endpoint` is billed.
pub fn is_metered(endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::AudioSpeech
        | Endpoint::AudioTranscriptions
        | Endpoint::AudioTranslations
        | Endpoint::ImagesGenerations
        | Endpoint::ImagesEdits
        | Endpoint::ImagesVariations
        | Endpoint::Messages
        | Endpoint::Responses
        | Endpoint::Rerank => true,
        Endpoint::Moderations
        | Endpoint::MessagesCountTokens
        | Endpoint::Realtime
        | Endpoint::Models
        | Endpoint::Model
        | Endpoint::Usage
        | Endpoint::Limits
        | Endpoint::RotateKey
        | Endpoint::Files
        | Endpoint::FileContent
        | Endpoint::File => false,
    }
}

/// What is looked for besides usage objects.
fn wanted(endpoint: Endpoint) -> Wanted {
    match endpoint {
        Endpoint::ImagesGenerations | Endpoint::ImagesEdits | Endpoint::ImagesVariations => Wanted::ItemsOf(b"data"),
        Endpoint::Rerank => Wanted::ItemsOf(b"results"),
        Endpoint::AudioTranscriptions | Endpoint::AudioTranslations => Wanted::Duration,
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::Moderations
        | Endpoint::AudioSpeech
        | Endpoint::Messages
        | Endpoint::MessagesCountTokens
        | Endpoint::Responses
        | Endpoint::Realtime
        | Endpoint::Models
        | Endpoint::Model
        | Endpoint::Usage
        | Endpoint::Limits
        | Endpoint::RotateKey
        | Endpoint::Files
        | Endpoint::FileContent
        | Endpoint::File => Wanted::Nothing,
    }
}

/// Whether events in `chunk` may hold a usage object. `"usage":null`, which some providers put in every event,
/// is none.
pub(super) fn has_usage(chunk: &[u8]) -> bool {
    const NAME: &[u8] = b"\"usage\"";
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME));
    FINDER.find_iter(chunk).any(|at| {
        let value = chunk[at + NAME.len()..].iter().find(|byte| !matches!(byte, b' ' | b':' | b'\t'));
        value != Some(&b'n')
    })
}

#[cfg(test)]
mod tests;
