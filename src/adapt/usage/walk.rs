//! Walks a JSON document in chunks to the few places that say what it cost.
//!
//! Lenient: only strings and brackets are followed. A document that is no JSON leads nowhere.

use memchr::memchr2;

use super::OBJECT_BYTES_MAX;

/// What is looked for besides usage objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    /// The objects in the top-level list of this name.
    ItemsOf(&'static [u8]),
    /// The top-level number `duration`.
    Duration,
    /// The top-level text of this name.
    TextOf(&'static [u8]),
}

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    /// A usage object, whole.
    Usage(&'a [u8]),
    /// One more object of the list.
    Item,
    /// The digits of the duration, in seconds.
    Duration(&'a [u8]),
    /// The next bytes of the text, escapes as they are.
    Text(&'a [u8]),
}

/// Deeper documents are let alone.
const DEPTH_MAX: u32 = 512;

/// The longest number read, in bytes.
const NUMBER_BYTES_MAX: usize = 32;

/// A walk through one document.
#[derive(Debug)]
pub(super) struct Walker {
    wanted: Wanted,
    state: State,
    /// Open brackets.
    depth: u32,
    /// The last byte was a backslash inside a string.
    escaped: bool,
    /// The string under way or just read, where it may be a key.
    key: Key,
    /// In an object of the top level that may hold usage.
    in_envelope: bool,
    /// In the list whose objects are counted.
    in_list: bool,
    /// Depth inside the object being kept; 0: none is.
    keeping: u32,
    kept: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// On the way to the next quote or bracket.
    Seek,
    InString,
    /// Behind a string that is a key if a colon follows.
    AfterString,
    /// Behind a key that matters, and its colon.
    AfterKey(Interest),
    InNumber,
    InText,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interest {
    Usage,
    Envelope,
    List,
    Duration,
    Text,
}

/// The beginning of a string.
#[derive(Debug, Clone, Copy, Default)]
struct Key {
    bytes: [u8; Key::BYTES_MAX],
    len: usize,
}

impl Key {
    /// Longer than every key that matters.
    const BYTES_MAX: usize = 16;

    fn push(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(Self::BYTES_MAX - self.len);
        self.bytes[self.len..self.len + taken].copy_from_slice(&bytes[..taken]);
        self.len += taken;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Walker {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            state: State::Seek,
            depth: 0,
            escaped: false,
            key: Key::default(),
            in_envelope: false,
            in_list: false,
            keeping: 0,
            kept: Vec::new(),
        }
    }

    /// Begins another document.
    pub(super) fn reset(&mut self) {
        *self = Self { kept: std::mem::take(&mut self.kept), ..Self::new(self.wanted) };
        self.kept.clear();
    }

    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut impl FnMut(Part<'_>)) {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            let was_keeping = self.keeping > 0;
            let next = self.step(bytes, at, found);
            if was_keeping || self.keeping > 0 {
                self.keep(&bytes[at..next], found);
            }
            at = next;
        }
    }

    /// Moves on to the next thing of interest, which is behind `at`, but for a state that only changes.
    fn step(&mut self, bytes: &[u8], at: usize, found: &mut impl FnMut(Part<'_>)) -> usize {
        match self.state {
            State::Seek => match bracket_or_quote(&bytes[at..]) {
                None => bytes.len(),
                Some(0) => {
                    self.turn(bytes[at], found);
                    at + 1
                }
                Some(length) => at + length,
            },
            State::InString => self.string(bytes, at),
            State::InText => {
                let (text, next) = self.string_end(bytes, at);
                found(Part::Text(&bytes[at..text]));
                if next.is_some() {
                    self.state = State::Seek;
                }
                next.unwrap_or(bytes.len())
            }
            State::AfterString => self.after_string(bytes[at], at),
            State::AfterKey(interest) => self.after_key(interest, (bytes[at], at), found),
            State::InNumber => self.number(bytes, at, found),
            State::Done => bytes.len(),
        }
    }

    /// A bracket or a quote.
    fn turn(&mut self, byte: u8, found: &mut impl FnMut(Part<'_>)) {
        match byte {
            b'"' => {
                self.key = Key::default();
                self.state = State::InString;
            }
            b'{' | b'[' => {
                if self.in_list && self.depth == 2 && byte == b'{' {
                    found(Part::Item);
                }
                self.open();
            }
            _ => self.close(),
        }
    }

    fn open(&mut self) {
        self.depth += 1;
        self.state = if self.depth > DEPTH_MAX { State::Done } else { State::Seek };
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth < 2 {
            (self.in_envelope, self.in_list) = (false, false);
        }
        self.state = if self.depth == 0 { State::Done } else { State::Seek };
    }

    /// Whether keys matter here.
    fn watches(&self) -> bool {
        self.keeping == 0 && (self.depth == 1 || (self.depth == 2 && self.in_envelope))
    }

    fn string(&mut self, bytes: &[u8], at: usize) -> usize {
        let watches = self.watches();
        let (end, next) = self.string_end(bytes, at);
        if watches {
            self.key.push(&bytes[at..end]);
        }
        if next.is_some() {
            self.state = if watches { State::AfterString } else { State::Seek };
        }
        next.unwrap_or(bytes.len())
    }

    /// Where the string's text ends, and the place behind its quote if that is here.
    fn string_end(&mut self, bytes: &[u8], from: usize) -> (usize, Option<usize>) {
        let mut at = from + usize::from(std::mem::take(&mut self.escaped));
        loop {
            let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) else {
                return (bytes.len(), None);
            };
            at += found;
            if bytes[at] == b'"' {
                return (at, Some(at + 1));
            }
            at += 2;
            self.escaped = at > bytes.len();
        }
    }

    fn after_string(&mut self, byte: u8, at: usize) -> usize {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => at + 1,
            b':' => {
                self.state = self.interest().map_or(State::Seek, State::AfterKey);
                at + 1
            }
            _ => {
                self.state = State::Seek;
                at
            }
        }
    }

    fn interest(&self) -> Option<Interest> {
        let key = self.key.bytes();
        match (self.depth, key, self.wanted) {
            (_, b"usage", _) => Some(Interest::Usage),
            (2, b"billed_units", _) => Some(Interest::Usage),
            (1, b"response" | b"message" | b"x_groq" | b"meta", _) => Some(Interest::Envelope),
            (1, b"duration", Wanted::Duration) => Some(Interest::Duration),
            (1, key, Wanted::ItemsOf(name)) if key == name => Some(Interest::List),
            (1, key, Wanted::TextOf(name)) if key == name => Some(Interest::Text),
            _ => None,
        }
    }

    fn after_key(&mut self, interest: Interest, (byte, at): (u8, usize), found: &mut impl FnMut(Part<'_>)) -> usize {
        match (interest, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => return at + 1,
            (Interest::Usage, b'{') => {
                self.open();
                self.keeping = self.depth;
                self.kept.clear();
                return at + 1;
            }
            (Interest::Envelope, b'{') => self.in_envelope = true,
            (Interest::List, b'[') => self.in_list = true,
            (Interest::Duration, b'0'..=b'9') => {
                self.kept.clear();
                self.state = State::InNumber;
                return at;
            }
            (Interest::Text, b'"') => {
                found(Part::Text(&[]));
                self.state = State::InText;
                return at + 1;
            }
            (Interest::Usage | Interest::Envelope | Interest::List | Interest::Duration | Interest::Text, _) => {}
        }
        self.state = State::Seek;
        at
    }

    fn number(&mut self, bytes: &[u8], at: usize, found: &mut impl FnMut(Part<'_>)) -> usize {
        let digits = bytes[at..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'.')).count();
        let room = NUMBER_BYTES_MAX.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[at..at + digits.min(room)]);
        if at + digits < bytes.len() {
            found(Part::Duration(&self.kept));
            self.state = State::Seek;
        }
        at + digits
    }

    /// Keeps bytes of a usage object; hands it over once it is whole.
    fn keep(&mut self, bytes: &[u8], found: &mut impl FnMut(Part<'_>)) {
        if self.kept.len() + bytes.len() <= OBJECT_BYTES_MAX {
            self.kept.extend_from_slice(bytes);
        } else {
            // Too long to be one; what follows can make it no shorter.
            self.kept.clear();
            self.state = State::Done;
            self.keeping = 0;
        }
        if self.keeping > 0 && self.depth < self.keeping {
            self.keeping = 0;
            found(Part::Usage(&self.kept));
            self.kept.clear();
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
