//! What a model said, gathered for an estimate of its tokens: for providers that report nothing, and for
//! clients that leave before the report comes.
//!
//! Good enough for an estimate, and cheap: an event's text is looked for by bytes, an event that a chunk's end
//! cuts loses what is behind the cut.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memchr2;
use memchr::memmem::Finder;

use crate::endpoint::Endpoint;

/// Of the text itself, so much is kept; beyond it, bytes are counted.
pub const KEPT_BYTES_MAX: usize = 32 << 10;

/// Names whose values are text that a model wrote.
const NAMES: [&[u8]; 9] = [
    b"content",
    b"text",
    b"reasoning_content",
    b"reasoning",
    b"thinking",
    b"arguments",
    b"partial_json",
    b"refusal",
    b"delta",
];

/// The text so far.
#[derive(Debug)]
pub struct Said {
    form: Form,
    kept: Vec<u8>,
    bytes: u64,
}

#[derive(Debug)]
enum Form {
    /// Not an answer of text.
    Silent,
    /// An event stream: the value behind this in each event.
    Events(&'static Finder<'static>),
    /// A body: kept uncopied, and looked at only when it turns out to report nothing.
    Body(Vec<Bytes>, usize),
}

impl Said {
    /// Of an event stream that answers `endpoint`.
    pub fn in_events(endpoint: Endpoint) -> Self {
        static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\":"));
        static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"text\":"));
        Self::new(match endpoint {
            Endpoint::ChatCompletions | Endpoint::Messages | Endpoint::Responses => Form::Events(&DELTA),
            Endpoint::Completions => Form::Events(&TEXT),
            other => silent(other),
        })
    }

    /// Of a JSON body that answers `endpoint`.
    pub fn in_body(endpoint: Endpoint) -> Self {
        Self::new(match endpoint {
            Endpoint::ChatCompletions | Endpoint::Messages | Endpoint::Responses | Endpoint::Completions => {
                Form::Body(Vec::new(), 0)
            }
            other => silent(other),
        })
    }

    /// Of an answer that is no text of a model.
    pub fn nothing() -> Self {
        Self::new(Form::Silent)
    }

    fn new(form: Form) -> Self {
        Self { form, kept: Vec::new(), bytes: 0 }
    }

    /// Takes note of the next bytes of the answer.
    pub fn feed(&mut self, chunk: &Bytes) {
        let Self { form, kept, bytes } = self;
        match form {
            Form::Silent => {}
            Form::Events(before) => {
                for at in before.find_iter(chunk) {
                    gather(&chunk[at + before.needle().len()..], &mut |text| keep(text, kept, bytes));
                }
            }
            Form::Body(chunks, held) => {
                if *held < 2 * KEPT_BYTES_MAX {
                    *held += chunk.len();
                    chunks.push(chunk.clone());
                }
            }
        }
    }

    /// The text, and how many bytes it has beyond what was kept. JSON's escapes are as they came.
    pub fn finish(mut self) -> (Vec<u8>, u64) {
        if let Form::Body(chunks, _) = &self.form {
            let whole = chunks.concat();
            let (kept, bytes) = (&mut self.kept, &mut self.bytes);
            gather(&whole, &mut |text| keep(text, kept, bytes));
        }
        let beyond = self.bytes - self.kept.len() as u64;
        (self.kept, beyond)
    }
}

/// Endpoints whose answers are no text of a model.
fn silent(endpoint: Endpoint) -> Form {
    match endpoint {
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::Messages
        | Endpoint::Responses
        | Endpoint::Embeddings
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
        | Endpoint::File => Form::Silent,
    }
}

fn keep(text: &[u8], kept: &mut Vec<u8>, bytes: &mut u64) {
    *bytes += text.len() as u64;
    let room = KEPT_BYTES_MAX - kept.len();
    kept.extend_from_slice(&text[..text.len().min(room)]);
}

/// The texts in the value that `rest` begins with: itself, or those of an object's members that are named so.
fn gather(rest: &[u8], keep: &mut impl FnMut(&[u8])) {
    let mut at = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let is_object = rest.get(at) == Some(&b'{');
    if !is_object {
        if rest.get(at) == Some(&b'"') {
            keep(string(rest, at + 1).0);
        }
        return;
    }
    let (mut depth, mut is_said) = (0_u32, false);
    while let Some(byte) = rest.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return,
            b'}' | b']' => depth -= 1,
            b'"' => {
                let (text, end) = string(rest, at + 1);
                at = end;
                let is_name = rest.get(end + 1) == Some(&b':') || rest.get(end + 1..end + 3) == Some(b" :");
                if is_name {
                    is_said = NAMES.contains(&text);
                } else if is_said {
                    keep(text);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// The string that begins at `from`, behind its quote, and the place of the quote that ends it.
fn string(bytes: &[u8], from: usize) -> (&[u8], usize) {
    let mut at = from;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return (&bytes[from..at], at);
        }
        at += 2;
    }
    (bytes.get(from..).unwrap_or_default(), bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(said: Said, chunks: &[&str]) -> String {
        let mut said = said;
        for chunk in chunks {
            said.feed(&Bytes::copy_from_slice(chunk.as_bytes()));
        }
        String::from_utf8(said.finish().0).unwrap()
    }

    #[test]
    fn text_of_every_dialect() {
        use Endpoint::{ChatCompletions, Completions, Embeddings, Messages, Responses};
        for (endpoint, event, text) in [
            (
                ChatCompletions,
                r#"{"id":"content","choices":[{"delta":{"role":"assistant","content":"a\"b"}}]}"#,
                "a\\\"b",
            ),
            (
                ChatCompletions,
                r#"{"choices":[{"delta":{"tool_calls":[{"id":"x","function":{"name":"n","arguments":"{}"}}]},"x":"y"}]}"#,
                "{}",
            ),
            (Completions, r#"{"choices":[{"text":"abc","index":0}]}"#, "abc"),
            (Messages, r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"abc"}}"#, "abc"),
            (Messages, r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#, ""),
            (Responses, r#"{"type":"response.output_text.delta","delta":"abc","item_id":"m"}"#, "abc"),
            (Embeddings, r#"{"delta":"abc"}"#, ""),
        ] {
            assert_eq!(said(Said::in_events(endpoint), &[&format!("data: {event}\n\n")]), text, "{event}");
        }
        let body = r#"{"id":"x","choices":[{"message":{"role":"assistant","content":"one","tool_calls":[{"function":{"name":"f","arguments":"two"}}]}}]}"#;
        assert_eq!(said(Said::in_body(ChatCompletions), &[&body[..40], &body[40..]]), "onetwo");
        let body = r#"{"id":"x","content":[{"type":"text","text":"one"},{"type":"thinking","thinking":"two"}]}"#;
        assert_eq!(said(Said::in_body(Messages), &[body]), "onetwo");
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_rest_counted() {
        let event = format!("data: {{\"delta\":\"{}\"}}\n\n", "x".repeat(1000));
        let mut said = Said::in_events(Endpoint::Responses);
        for _ in 0..100 {
            said.feed(&Bytes::from(event.clone()));
        }
        let (kept, beyond) = said.finish();
        assert_eq!((kept.len(), beyond), (KEPT_BYTES_MAX, 100_000 - KEPT_BYTES_MAX as u64));
    }
}
