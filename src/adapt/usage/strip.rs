//! Takes the chunk out of a stream that says nothing but what was used, where only Forge had asked for it.
//! <https://platform.openai.com/docs/api-reference/chat/create#chat_create-stream_options>: its `choices` is
//! empty and its `usage` is an object. The `"usage":null` that the other chunks get stays: SDKs know it, and
//! cutting it out would mean to copy every event.
//!
//! An event waits only while it is not whole and may still be such a chunk, which no client could use before
//! its end anyway; content passes as it comes.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use super::super::sse::{Piece, Splitter};
use super::has_usage;

/// The longest usage chunk; a longer event is content.
const EVENT_BYTES_MAX: usize = 8 << 10;

/// Strips one stream.
#[derive(Debug, Default)]
pub struct Strip {
    splitter: Splitter,
    /// The next byte begins an event, and no byte order mark.
    between_events: bool,
    /// The beginning of an event that may be a usage chunk.
    held: BytesMut,
    /// Inside an event that is none.
    passing: bool,
    /// The last event was taken out; a LF that completes its last CR goes, too.
    taken: bool,
}

impl Strip {
    /// What of the stream can leave now that `chunk` has come; `chunk` itself, uncopied, where nothing is taken.
    pub fn feed(&mut self, chunk: Bytes) -> Bytes {
        if self.between_events && chunk.ends_with(b"\n\n") && !has_usage(&chunk) {
            return chunk;
        }
        let mut out = BytesMut::with_capacity(self.held.len() + chunk.len());
        let (mut rest, mut begun) = (&chunk[..], 0);
        while let Some(piece) = self.splitter.next(&mut rest) {
            let end = chunk.len() - rest.len();
            match piece {
                Piece::EventEnd(_) => {
                    self.end_event(&chunk[begun..end], &mut out);
                    begun = end;
                }
                Piece::LineEnd(b"\n") if self.taken && begun + 1 == end && self.held.is_empty() => begun = end,
                Piece::Data(_) | Piece::Other(_) | Piece::LineEnd(_) => self.taken = false,
            }
        }
        self.begin_event(&chunk[begun..], &mut out);
        self.between_events = !self.splitter.is_inside_event() && chunk.ends_with(b"\n");
        out.freeze()
    }

    /// What was held when the stream ended: the beginning of an event that has no end.
    pub fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    fn end_event(&mut self, rest: &[u8], out: &mut BytesMut) {
        if std::mem::take(&mut self.passing) {
            out.extend_from_slice(rest);
            return;
        }
        self.held.extend_from_slice(rest);
        self.taken = is_usage_only(&self.held);
        if !self.taken {
            out.extend_from_slice(&self.held);
        }
        self.held.clear();
    }

    fn begin_event(&mut self, bytes: &[u8], out: &mut BytesMut) {
        if !self.passing {
            self.held.extend_from_slice(bytes);
            self.passing = self.held.len() > EVENT_BYTES_MAX || is_content(&self.held);
            if self.passing {
                out.extend_from_slice(&self.held);
                self.held.clear();
            }
        } else {
            out.extend_from_slice(bytes);
        }
    }
}

/// Whether a whole event holds no choice, but usage.
fn is_usage_only(event: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow)]
        choices: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        usage: &'a serde_json::value::RawValue,
    }
    has_usage(event)
        && no_choice(event) == Some(true)
        && event.len() <= EVENT_BYTES_MAX
        && data(event).is_some_and(|data| {
            serde_json::from_slice::<Chunk<'_>>(data)
                .is_ok_and(|chunk| is_empty_list(chunk.choices.get()) && chunk.usage.get().starts_with('{'))
        })
}

fn is_empty_list(json: &str) -> bool {
    json.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inner| inner.trim().is_empty())
}

/// The value of an event's one `data` field.
fn data(event: &[u8]) -> Option<&[u8]> {
    let mut lines = event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    let first = lines.next()?;
    lines.next().is_none().then(|| first.trim_ascii())
}

/// Whether the beginning of an event shows that it is no usage chunk.
fn is_content(event: &[u8]) -> bool {
    no_choice(event) == Some(false) || event.starts_with(b":") || event.starts_with(b"data: [")
}

/// Whether the first `choices` is an empty list; `None`: that is not to be seen yet.
fn no_choice(event: &[u8]) -> Option<bool> {
    const NAME: &[u8] = b"\"choices\"";
    let behind = memmem::find(event, NAME)? + NAME.len();
    let mut value = event[behind..].iter().filter(|byte| !matches!(byte, b' ' | b'\t'));
    match (value.next()?, value.next()?, value.next()?) {
        (b':', b'[', b']') => Some(true),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n";
    const USAGE: &str =
        "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn stripped(stream: &str, cuts: &[usize]) -> String {
        let (mut strip, mut out, mut from) = (Strip::default(), Vec::new(), 0);
        for cut in cuts.iter().copied().chain([stream.len()]) {
            out.extend_from_slice(&strip.feed(Bytes::copy_from_slice(&stream.as_bytes()[from..cut])));
            from = cut;
        }
        out.extend_from_slice(&strip.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_the_usage_chunk_goes_at_every_cut() {
        let groq = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\n";
        let filter = "data: {\"id\":\"\",\"choices\":[],\"prompt_filter_results\":[{}]}\n\n";
        let forged = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"choices\\\":[],\\\"usage\\\":{}\"}}]}\n\n";
        let spaced = "data: {\"choices\": [ ], \"usage\": {\"prompt_tokens\": 1}}\r\n\r\n";
        for (stream, expected) in [
            (format!("{FIRST}{USAGE}{DONE}"), format!("{FIRST}{DONE}")),
            (format!("{FIRST}{groq}{DONE}"), format!("{FIRST}{groq}{DONE}")),
            (format!("{filter}{FIRST}{spaced}{DONE}"), format!("{filter}{FIRST}{DONE}")),
            (format!(": ping\n\n{forged}{USAGE}"), format!(": ping\n\n{forged}")),
            (format!("{FIRST}data: {{\"choices\":[],\"usa"), format!("{FIRST}data: {{\"choices\":[],\"usa")),
        ] {
            for cut in 0..=stream.len() {
                for second in [cut, (cut + 7).min(stream.len())] {
                    assert_eq!(stripped(&stream, &[cut, second]), expected, "cut at {cut} and {second}");
                }
            }
            assert_eq!(stripped(&stream, &(0..stream.len()).collect::<Vec<_>>()), expected, "byte by byte");
        }
    }

    #[test]
    fn content_does_not_wait_for_its_end() {
        let mut strip = Strip::default();
        let half = Bytes::from_static(b"data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"con");
        assert_eq!(strip.feed(half.clone()), half);
        assert_eq!(strip.feed(Bytes::from_static(b"tent\":\"a\"}}]}\n\n")).len(), 15);
        let long = Bytes::from("data: ".to_owned() + &"x".repeat(EVENT_BYTES_MAX));
        assert_eq!(strip.feed(long.clone()), long);
    }
}
