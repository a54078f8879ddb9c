//! Walks a JSON document in chunks to the value of its `model`.
//!
//! Strict on the levels where the key may stand, so that a malformed document is let alone from the fault
//! on; below them only strings and brackets are followed.

use bytes::Bytes;
use memchr::memchr2;

use super::VALUE_BYTES_MAX;
use super::splice::Splice;

/// Where `model` may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paths {
    /// In the top-level object.
    Top,
    /// There, and in the objects `response` and `message` of it.
    TopAndEnvelopes,
}

/// Deeper documents are let alone; as deep as the inspection of requests goes.
const DEPTH_MAX: u32 = 128;

/// Where in the document the next byte stands: on a level that is read, or below (`Deep…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    FirstKey,
    Key,
    InKey,
    Colon,
    Value,
    AfterValue,
    InScalar,
    InString,
    InModel,
    Deep,
    InDeepString,
    /// Nothing more to find: found, ended or malformed.
    Done,
}

#[derive(Debug)]
pub(super) struct Document {
    paths: Paths,
    state: State,
    /// In a string, the next byte stands behind a backslash.
    escaped: bool,
    /// Open containers, the innermost in the lowest bit; 1 is an object.
    open: u128,
    depth: u32,
    /// The second level is an envelope, so it is read.
    in_envelope: bool,
    key: Key,
    /// The part of the model's name that earlier chunks ended with.
    held: Vec<u8>,
}

/// The key being read, as far as it could be one that matters.
#[derive(Debug, Clone, Copy, Default)]
struct Key {
    bytes: [u8; 8],
    length: usize,
}

impl Key {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
        }
        self.length = end;
    }

    fn is(&self, name: &[u8]) -> bool {
        self.bytes.get(..self.length) == Some(name)
    }
}

impl Document {
    pub(super) fn new(paths: Paths) -> Self {
        Self {
            paths,
            state: State::Start,
            escaped: false,
            open: 0,
            depth: 0,
            in_envelope: false,
            key: Key::default(),
            held: Vec::new(),
        }
    }

    /// Reads on. `data` stands at `start` of the chunk that `splice` changes.
    pub(super) fn feed(&mut self, data: &[u8], start: usize, splice: &mut Splice<'_>) {
        let mut at = 0;
        while at < data.len() && self.state != State::Done {
            let rest = &data[at..];
            at += match self.state {
                State::InModel => self.read_model(rest, start + at, splice),
                State::InKey => self.read_key(rest),
                State::InString => self.skip_string(rest, State::AfterValue),
                State::InDeepString => self.skip_string(rest, State::Deep),
                State::InScalar => self.skip_scalar(rest),
                State::Deep => self.skip_deep(rest),
                State::Start
                | State::FirstKey
                | State::Key
                | State::Colon
                | State::Value
                | State::AfterValue
                | State::Done => self.step(rest[0]),
            };
        }
    }

    /// A line of the event ends at `start`; another `data` line may carry on behind a newline, which JSON
    /// allows between tokens only.
    pub(super) fn end_line(&mut self, start: usize, splice: &mut Splice<'_>) {
        match self.state {
            State::InModel | State::InKey | State::InString | State::InDeepString => self.give_up(start, splice),
            State::InScalar => self.state = State::AfterValue,
            State::Start
            | State::FirstKey
            | State::Key
            | State::Colon
            | State::Value
            | State::AfterValue
            | State::Deep
            | State::Done => {}
        }
    }

    /// The document ends at `start`, another begins behind.
    pub(super) fn reset(&mut self, start: usize, splice: &mut Splice<'_>) {
        self.give_up(start, splice);
        self.state = State::Start;
        (self.open, self.depth, self.in_envelope, self.escaped) = (0, 0, false, false);
    }

    /// What is held back, when nothing more comes.
    pub(super) fn release(&mut self) -> Bytes {
        self.state = State::Done;
        std::mem::take(&mut self.held).into()
    }

    /// Lets the document alone from `start` on; the held part of a name leaves as it came.
    fn give_up(&mut self, start: usize, splice: &mut Splice<'_>) {
        if !self.held.is_empty() {
            splice.replace(start..start, &self.held);
            self.held.clear();
        }
        self.state = State::Done;
    }

    /// Reads the name without its opening quote, or what of it is here, into `held` or out of it.
    fn read_model(&mut self, rest: &[u8], start: usize, splice: &mut Splice<'_>) -> usize {
        let closed = self.string_end(rest);
        let part = &rest[..closed.unwrap_or(rest.len())];
        if self.held.len() + part.len() >= VALUE_BYTES_MAX || part.iter().any(|byte| *byte < b' ') {
            self.give_up(start, splice);
        } else if closed.is_none() {
            self.held.extend_from_slice(part);
            splice.withhold(start);
        } else {
            splice.rename(&self.held, start..start + part.len());
            self.held.clear();
            self.state = State::Done;
        }
        part.len()
    }

    fn read_key(&mut self, rest: &[u8]) -> usize {
        let closed = self.string_end(rest);
        // With its backslashes: a key that has one is none that is looked for.
        self.key.push(&rest[..closed.map_or(rest.len(), |end| end - 1)]);
        if closed.is_some() {
            self.state = State::Colon;
        }
        closed.unwrap_or(rest.len())
    }

    /// A byte between tokens, or the first of one.
    fn step(&mut self, byte: u8) -> usize {
        self.state = match (self.state, byte) {
            (state, b' ' | b'\t' | b'\n' | b'\r') => state,
            (State::Start | State::Value, b'{') => self.enter(1),
            (State::Value, b'[') => self.enter(0),
            (State::FirstKey | State::AfterValue, b'}') => self.leave(1),
            (State::FirstKey | State::Key, b'"') => self.begin_key(),
            (State::Colon, b':') => State::Value,
            (State::AfterValue, b',') => State::Key,
            (State::Value, b'"') if self.key.is(b"model") => State::InModel,
            (State::Value, b'"') => State::InString,
            (State::Value, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => State::InScalar,
            _ => State::Done,
        };
        1
    }

    fn begin_key(&mut self) -> State {
        self.key = Key::default();
        State::InKey
    }

    fn enter(&mut self, kind: u128) -> State {
        if self.depth == DEPTH_MAX {
            return State::Done;
        }
        let is_envelope = self.paths == Paths::TopAndEnvelopes
            && self.depth == 1
            && kind == 1
            && (self.key.is(b"response") || self.key.is(b"message"));
        self.open = self.open << 1 | kind;
        self.depth += 1;
        self.in_envelope |= is_envelope;
        if self.depth == 1 || is_envelope { State::FirstKey } else { State::Deep }
    }

    fn leave(&mut self, kind: u128) -> State {
        if self.open & 1 != kind {
            return State::Done;
        }
        self.open >>= 1;
        self.depth -= 1;
        self.in_envelope &= self.depth > 1;
        match self.depth {
            0 => State::Done,
            1 => State::AfterValue,
            2 if self.in_envelope => State::AfterValue,
            _ => State::Deep,
        }
    }

    fn skip_string(&mut self, rest: &[u8], then: State) -> usize {
        let closed = self.string_end(rest);
        if closed.is_some() {
            self.state = then;
        }
        closed.unwrap_or(rest.len())
    }

    fn skip_scalar(&mut self, rest: &[u8]) -> usize {
        let end = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b' ' | b'\t' | b'\n' | b'\r'));
        if end.is_some() {
            self.state = State::AfterValue;
        }
        end.unwrap_or(rest.len())
    }

    fn skip_deep(&mut self, rest: &[u8]) -> usize {
        let Some(at) = bracket_or_quote(rest) else { return rest.len() };
        self.state = match rest[at] {
            b'"' => State::InDeepString,
            b'{' => self.enter(1),
            b'[' => self.enter(0),
            b'}' => self.leave(1),
            _ => self.leave(0),
        };
        at + 1
    }

    /// The place behind the quote that closes the string `rest` is in; `None` when it is not here.
    fn string_end(&mut self, rest: &[u8]) -> Option<usize> {
        let mut at = usize::from(std::mem::take(&mut self.escaped));
        loop {
            let found = at + memchr2(b'"', b'\\', rest.get(at..)?)?;
            if rest[found] == b'"' {
                return Some(found + 1);
            }
            at = found + 2;
            self.escaped = at > rest.len();
        }
    }
}

/// The first of `"{}[]`. Long runs without any (numbers of an embedding) are passed in blocks, which the
/// compiler turns into vector instructions.
fn bracket_or_quote(bytes: &[u8]) -> Option<usize> {
    // `[` and `]` are `{` and `}` without their 0x20 bit.
    let is = |byte: u8| byte == b'"' || byte | 0x20 == b'{' || byte | 0x20 == b'}';
    const BLOCK: usize = 32;
    let blocks = bytes.chunks_exact(BLOCK);
    let clear = blocks.take_while(|block| !block.iter().fold(false, |any, byte| any | is(*byte))).count() * BLOCK;
    bytes[clear..].iter().position(|byte| is(*byte)).map(|at| clear + at)
}
