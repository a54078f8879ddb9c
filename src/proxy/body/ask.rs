//! Asks the provider what a stream used, in the bytes of the request: `"stream_options":{"include_usage":true}`
//! where the client did not ask. <https://platform.openai.com/docs/api-reference/chat/create>
//!
//! A body of the usual size and speed is read to its end before it is sent, so what is put in is known when its length is
//! announced. Of a larger one it may not be known yet whether the client asks by itself: then the length announced
//! has room for the question, and what of it is not needed is filled with spaces before the object's last brace,
//! which JSON lets pass. One that does not even say `stream` by then is left as it is, to the byte.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memrchr;

use crate::proxy::inspect::{Inspector, Splice};

const MEMBER: &[u8] = b",\"stream_options\":{\"include_usage\":true}";
const OPTIONS: &[u8] = b"{\"include_usage\":true}";
const INNER: &[u8] = b",\"include_usage\":true";
const NAME: &[u8] = b"include_usage";

/// The longest question; no edit of the client's own options is longer.
const ROOM: u64 = MEMBER.len() as u64;

/// What a body says about usage, and what is done about it.
#[derive(Debug, Default)]
pub(super) struct Ask {
    options: Options,
    /// Where the object's last brace stands.
    closed_at: Option<u64>,
    /// Of the attempt under way.
    question: Question,
}

/// The client's own `stream_options`.
#[derive(Debug, Default)]
enum Options {
    #[default]
    Absent,
    Reading(Reader),
    /// It asks, or is nothing to put a question into.
    Settled,
    /// It does not ask; this makes it do so.
    Edit(Splice),
}

/// What is done in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Question {
    /// Nothing.
    #[default]
    None,
    /// The question is put; a body whose length was announced becomes longer by so much.
    Put(Option<u64>),
}

impl Ask {
    /// Looks at `chunk`, which stands at `start` of the body and was inspected.
    pub(super) fn scan(&mut self, chunk: &[u8], start: u64, inspector: &Inspector) {
        if let Some(at) = inspector.stream_options() {
            let from = at.saturating_sub(start) as usize;
            if matches!(self.options, Options::Absent) {
                self.options = Options::Reading(Reader::default());
            }
            if let Options::Reading(reader) = &mut self.options
                && let Some(settled) = reader.feed(chunk.get(from..).unwrap_or_default(), start + from as u64)
            {
                self.options = settled.map_or(Options::Settled, Options::Edit);
            }
        }
        if self.closed_at.is_none() && inspector.is_closed() {
            // What follows is white space.
            self.closed_at = memrchr(b'}', chunk).map(|at| start + at as u64);
        }
    }

    /// An attempt begins. `whole`: all of the body was scanned; `announced`: its length goes out before it.
    pub(super) fn begin(&mut self, wanted: Wanted, inspector: &Inspector) {
        let stream = inspector.stream();
        let settled = matches!(self.options, Options::Settled) || stream == Some(false);
        self.question = match wanted {
            Wanted::No => Question::None,
            _ if settled => Question::None,
            Wanted::OfWhole | Wanted::OfAnnounced if stream != Some(true) => Question::None,
            Wanted::OfWhole => Question::Put(Some(self.options_growth() + self.member(stream).len() as u64)),
            Wanted::OfAnnounced => Question::Put(Some(ROOM)),
            Wanted::OfChunks => Question::Put(None),
        };
    }

    /// Whether the attempt's body may differ by the question.
    pub(super) fn edits_anything(&self) -> bool {
        self.question != Question::None
    }

    /// By how much the attempt's body is longer than the client's.
    pub(super) fn growth(&self) -> u64 {
        match self.question {
            Question::None | Question::Put(None) => 0,
            Question::Put(Some(growth)) => growth,
        }
    }

    /// Whether the provider is asked for what the client did not ask for.
    pub(super) fn is_put(&self, inspector: &Inspector) -> bool {
        self.question != Question::None && inspector.stream() == Some(true) && !matches!(self.options, Options::Settled)
    }

    /// What the attempt changes, as far as it was read, in the order of the body; `model` is another such change.
    pub(super) fn edits(&self, model: Option<&Splice>, inspector: &Inspector) -> Vec<Splice> {
        let mut edits: Vec<Splice> = model.into_iter().cloned().collect();
        let Question::Put(growth) = self.question else { return edits };
        if let Options::Edit(edit) = &self.options {
            edits.push(edit.clone());
        }
        if let Some(at) = self.closed_at {
            let member = self.member(inspector.stream());
            let used = self.options_growth() + member.len() as u64;
            let spaces = growth.unwrap_or_default().saturating_sub(used) as usize;
            let mut with = BytesMut::with_capacity(spaces + member.len());
            with.put_bytes(b' ', spaces);
            with.extend_from_slice(member);
            if !with.is_empty() {
                edits.push(Splice { at: at..at, with: with.freeze() });
            }
        }
        edits.sort_by_key(|edit| edit.at.start);
        edits
    }

    fn member(&self, stream: Option<bool>) -> &'static [u8] {
        match self.options {
            Options::Absent if stream == Some(true) => MEMBER,
            Options::Absent | Options::Reading(_) | Options::Settled | Options::Edit(_) => b"",
        }
    }

    fn options_growth(&self) -> u64 {
        match &self.options {
            Options::Edit(Splice { at, with }) => with.len() as u64 - (at.end - at.start),
            Options::Absent | Options::Reading(_) | Options::Settled => 0,
        }
    }
}

/// Whether an attempt is to put the question, and what is known of the body then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is not.
    No,
    /// All of the body was read.
    OfWhole,
    /// Its length is announced before it was read.
    OfAnnounced,
    /// It has no length beforehand.
    OfChunks,
}

/// Reads the value of `stream_options`.
#[derive(Debug, Default)]
struct Reader {
    state: At,
    depth: u32,
    escaped: bool,
    key: Vec<u8>,
    is_empty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    Start,
    /// Between tokens, or in a number or literal that does not matter.
    Between,
    InString,
    /// Behind a string of the options themselves.
    AfterString,
    /// Where the value of `include_usage` is due.
    Value,
}

impl Reader {
    /// Looks at the next bytes, which stand at `start`. Settled: the edit that makes the options ask, if any.
    fn feed(&mut self, bytes: &[u8], start: u64) -> Option<Option<Splice>> {
        bytes.iter().zip(start..).find_map(|(byte, at)| self.step(*byte, at))
    }

    fn step(&mut self, byte: u8, at: u64) -> Option<Option<Splice>> {
        let edit = |at: Range<u64>, with: &'static [u8]| Some(Some(Splice { at, with: Bytes::from_static(with) }));
        match (self.state, byte) {
            (At::Start, b'{') => {
                (self.state, self.depth, self.is_empty) = (At::Between, 1, true);
            }
            (At::Start, b'n') => return edit(at..at + 4, OPTIONS),
            (At::Start, _) => return Some(None),
            (At::InString, _) if self.escaped => self.escaped = false,
            (At::InString, b'\\') => self.escaped = true,
            (At::InString, b'"') => self.state = if self.depth == 1 { At::AfterString } else { At::Between },
            (At::InString, byte) if self.key.len() <= NAME.len() => self.key.push(byte),
            (At::InString, _) => {}
            (At::AfterString | At::Value, b' ' | b'\t' | b'\r' | b'\n') => {}
            (At::AfterString, b':') => self.state = if self.key == NAME { At::Value } else { At::Between },
            // As long as what it replaces.
            (At::Value, b'f') => return edit(at..at + 5, b"true "),
            (At::Value, b'n') => return edit(at..at + 4, b"true"),
            (At::Value, _) => return Some(None),
            (At::AfterString | At::Between, b'"') => {
                self.key.clear();
                (self.state, self.is_empty) = (At::InString, false);
            }
            (At::AfterString | At::Between, b'{' | b'[') => (self.state, self.depth) = (At::Between, self.depth + 1),
            (At::AfterString | At::Between, b'}' | b']') => {
                (self.state, self.depth) = (At::Between, self.depth - 1);
                if self.depth == 0 {
                    return edit(at..at, if self.is_empty { &INNER[1..] } else { INNER });
                }
            }
            (At::AfterString | At::Between, _) => self.state = At::Between,
        }
        None
    }
}

/// The part of the edited body that `bytes`, found at `start` of the client's body, turn into.
///
/// A replacement travels with the chunk that holds the first replaced byte; an insertion (an empty range) with
/// the chunk that holds the byte it stands before.
pub(super) fn edited(bytes: Bytes, start: u64, edits: &[Splice]) -> Bytes {
    let end = start + bytes.len() as u64;
    let starts_here = |edit: &Splice| (start..end).contains(&edit.at.start);
    let touches = |edit: &&Splice| starts_here(edit) || (edit.at.start < end && start < edit.at.end);
    if !edits.iter().any(|edit| touches(&edit)) {
        return bytes;
    }
    let longer: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = BytesMut::with_capacity(bytes.len() + longer);
    let mut taken = 0;
    for edit in edits.iter().filter(touches) {
        let within = |offset: u64| (offset.clamp(start, end) - start) as usize;
        out.extend_from_slice(&bytes[taken..within(edit.at.start).max(taken)]);
        if starts_here(edit) {
            out.extend_from_slice(&edit.with);
        }
        taken = within(edit.at.end).max(taken);
    }
    out.extend_from_slice(&bytes[taken..]);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// What a provider gets of `body`, scanned in these cuts, with `read` bytes of it known when the attempt begins.
    fn sent(body: &str, cuts: [usize; 2], wanted: impl Fn(bool) -> Wanted) -> (String, u64, bool) {
        let (mut inspector, mut ask) = (Inspector::json(), Ask::default());
        let chunks = [0..cuts[0], cuts[0]..cuts[1], cuts[1]..body.len()];
        let mut out = Vec::new();
        for (index, range) in chunks.into_iter().enumerate() {
            let chunk = &body.as_bytes()[range.clone()];
            inspector.feed(chunk).unwrap();
            ask.scan(chunk, range.start as u64, &inspector);
            if index == 0 {
                ask.begin(wanted(range.end == body.len()), &inspector);
            }
            let edits = ask.edits(None, &inspector);
            out.extend_from_slice(&edited(Bytes::copy_from_slice(chunk), range.start as u64, &edits));
        }
        inspector.finish().unwrap();
        (String::from_utf8(out).unwrap(), ask.growth(), ask.is_put(&inspector))
    }

    #[test]
    fn the_question_is_put_at_every_cut_and_the_length_holds() {
        for (body, asks) in [
            (r#"{"model":"m","stream":true,"messages":[{"a":"}"}]}"#, true),
            (r#"{"model":"m","stream":true,"messages":[{"stream_options":{}}] }  "#, true),
            (r#"{"model":"m","stream":true,"stream_options":null,"n":1}"#, true),
            (r#"{"model":"m","stream_options":{},"stream":true}"#, true),
            (r#"{"model":"m","stream_options":{ "x":{"include_usage":true},"y":"}\"" } ,"stream":true}"#, true),
            (r#"{"model":"m","stream":true,"stream_options":{"include_usage" : false}}"#, true),
            (r#"{"model":"m","stream":true,"stream_options":{"include_usage":null,"z":[1]}}"#, true),
            (r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#, false),
            (r#"{"model":"m","stream":true,"stream_options":7}"#, false),
            (r#"{"model":"m","stream":false,"messages":[]}"#, false),
            (r#"{"model":"m"}"#, false),
        ] {
            for first in 0..=body.len() {
                for second in first..=body.len() {
                    for announced in [Wanted::OfAnnounced, Wanted::OfChunks] {
                        let wanted = |whole: bool| if whole { Wanted::OfWhole } else { announced };
                        let (out, growth, put) = sent(body, [first, second], wanted);
                        let what = format!("{body} cut at {first} and {second}: {out}");
                        let (was, is): (Value, Value) =
                            (serde_json::from_str(body).unwrap(), serde_json::from_str(&out).expect(&what));
                        let streams = body[..first].contains("\"stream\":true");
                        let in_time = first == body.len() || announced == Wanted::OfChunks || streams;
                        assert_eq!(put, asks && in_time, "{what}");
                        if put {
                            assert_eq!(is["stream_options"]["include_usage"], true, "{what}");
                        } else {
                            assert_eq!(is, was, "{what}");
                        }
                        if !in_time {
                            assert_eq!(out, body, "{what}");
                        }
                        if announced == Wanted::OfAnnounced || first == body.len() {
                            assert_eq!(out.len() as u64, body.len() as u64 + growth, "{what}");
                        }
                    }
                }
            }
            assert_eq!(sent(body, [3, 9], |_| Wanted::No), (body.to_owned(), 0, false));
        }
    }

    #[test]
    fn edits_come_out_the_same_however_the_body_is_cut() {
        let body = Bytes::from_static(br#"{"a":1,"model":"old","z":[2]}"#);
        let splice = |at: Range<u64>, with: &'static str| Splice { at, with: Bytes::from_static(with.as_bytes()) };
        let edits = [splice(1..1, "\"m\":0,"), splice(15..20, "\"brand-new\""), splice(28..28, "  !")];
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let mut out = Vec::new();
                for range in [0..first, first..second, second..body.len()] {
                    out.extend_from_slice(&edited(body.slice(range.clone()), range.start as u64, &edits));
                }
                assert_eq!(out, br#"{"m":0,"a":1,"model":"brand-new","z":[2]  !}"#, "cut at {first} and {second}");
            }
        }
    }
}
