//! What of a request's body counts for an estimate: its text, its pictures and sounds by number, and the
//! characters that are to be spoken.

use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

use super::walk::{Part, Walker, Wanted};
use crate::endpoint::Endpoint;

/// Bytes of a request's JSON for each token: what its names and brackets cost is about what long words save.
pub const BYTES_PER_TOKEN: u64 = 4;
/// Tokens of a picture, sound or document whose size in tokens only its provider knows: about that of a
/// picture of 1024 by 1024 at OpenAI.
pub const TOKENS_PER_MEDIUM: u64 = 1000;

/// A shorter value is text.
const MEDIUM_BYTES_MIN: u64 = 256;

/// Counts while a body passes.
#[derive(Debug)]
pub struct Sent {
    bytes: u64,
    media: u64,
    media_bytes: u64,
    /// Bytes of the encoded medium under way.
    medium: Option<u64>,
    spoken: Option<Spoken>,
}

#[derive(Debug)]
struct Spoken {
    walker: Walker,
    characters: u64,
    escape: Escape,
}

/// How far into an escape the text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    No,
    Begun,
    /// So many hex digits are to come, and their value so far.
    Hex(u8, u16),
}

impl Sent {
    /// For a request to `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        let spoken = (endpoint == Endpoint::AudioSpeech).then(|| Spoken {
            walker: Walker::new(Wanted::TextOf(b"input")),
            characters: 0,
            escape: Escape::No,
        });
        Self { bytes: 0, media: 0, media_bytes: 0, medium: None, spoken }
    }

    /// Takes note of the next bytes of the body.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.count_media(chunk);
        if let Some(Spoken { walker, characters, escape }) = &mut self.spoken {
            walker.feed(chunk, &mut |part| {
                if let Part::Text(text) = part {
                    *characters += text.iter().map(|byte| u64::from(begins_character(*byte, escape))).sum::<u64>();
                }
            });
        }
    }

    fn count_media(&mut self, chunk: &[u8]) {
        static BASE64: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b";base64,"));
        static DATA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"data\":\""));
        let mut rest = chunk;
        loop {
            if let Some(so_far) = self.medium {
                let end = memchr(b'"', rest);
                let bytes = so_far + end.unwrap_or(rest.len()) as u64;
                self.medium = Some(bytes);
                let Some(end) = end else { return };
                self.medium = None;
                if bytes >= MEDIUM_BYTES_MIN {
                    (self.media, self.media_bytes) = (self.media + 1, self.media_bytes + bytes);
                }
                rest = &rest[end + 1..];
            }
            let (base64, data) = (BASE64.find(rest), DATA.find(rest));
            let Some(at) = base64.into_iter().chain(data).min() else { return };
            rest = &rest[at + 8..];
            self.medium = Some(0);
        }
    }

    /// An estimate of the input's tokens.
    pub fn tokens(&self) -> u64 {
        let media_bytes = self.media_bytes + self.medium.unwrap_or_default();
        self.bytes.saturating_sub(media_bytes).div_ceil(BYTES_PER_TOKEN) + self.media * TOKENS_PER_MEDIUM
    }

    /// The body's bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Characters to be spoken; 0 where nothing is.
    pub fn characters(&self) -> u64 {
        self.spoken.as_ref().map_or(0, |spoken| spoken.characters)
    }
}

/// Whether `byte` of a JSON string begins another character of its text.
fn begins_character(byte: u8, escape: &mut Escape) -> bool {
    match (*escape, byte) {
        (Escape::No, b'\\') => {
            *escape = Escape::Begun;
            false
        }
        (Escape::No, byte) => byte & 0xC0 != 0x80,
        (Escape::Begun, b'u') => {
            *escape = Escape::Hex(4, 0);
            false
        }
        (Escape::Begun, _) => {
            *escape = Escape::No;
            true
        }
        (Escape::Hex(left, value), byte) => {
            let value = value << 4 | char::from(byte).to_digit(16).unwrap_or_default() as u16;
            *escape = if left > 1 { Escape::Hex(left - 1, value) } else { Escape::No };
            // The second half of a pair belongs to the first.
            left == 1 && !(0xDC00..=0xDFFF).contains(&value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(endpoint: Endpoint, body: &str, cut: usize) -> Sent {
        let mut sent = Sent::new(endpoint);
        let (first, second) = body.as_bytes().split_at(cut);
        sent.feed(first);
        sent.feed(second);
        sent
    }

    #[test]
    fn spoken_characters_are_counted_at_every_cut() {
        let body = r#"{"model":"tts","voice":"x","input":"a\n\"\u09b8\ud83d\ude00আ é","z":{"input":"no"}}"#;
        for cut in 0..=body.len() {
            assert_eq!(sent(Endpoint::AudioSpeech, body, cut).characters(), 8, "cut at {cut}");
        }
        assert_eq!(sent(Endpoint::ChatCompletions, body, 5).characters(), 0);
    }

    #[test]
    fn a_picture_counts_as_one_and_not_by_its_bytes() {
        let picture = "iVBOR".repeat(100_000);
        let openai = format!(r#"{{"image_url":{{"url":"data:image/png;base64,{picture}"}},"text":"hello"}}"#);
        let anthropic = format!(r#"{{"source":{{"type":"base64","data":"{picture}"}},"text":"hello"}}"#);
        for body in [openai, anthropic] {
            let tokens = sent(Endpoint::ChatCompletions, &body, body.len() / 2).tokens();
            assert!((1010..1030).contains(&tokens), "{tokens}");
        }
        assert_eq!(sent(Endpoint::ChatCompletions, r#"{"data":"short","a":1}"#, 3).tokens(), 6);
    }
}
