//! One RFC 8259 object, read incrementally: the whole grammar, and of its content only the top-level
//! `model` and `stream`.
//!
//! Owns the grammar. Builds no tree, keeps no byte it has seen but the name or model being decoded.
//! It accepts what `serde_json` accepts when it skips values, less the ambiguous: repeated or miscased
//! `model` and `stream`, a NUL in a top-level name, a byte order mark, more than 128 levels.
//! A lone `\ud800` is grammar (section 8.2) and passes where nothing is decided on it: agents do send
//! emoji cut in half, and the provider is the one to judge. In a top-level name or in `model` it is a fault.

use super::Splice;
use super::fault::{BodyFault, JsonFault};
use super::fields::{Capture, Fields, Literal, ModelValue};
use super::number::Number;
use super::text;
use super::utf8::{Cut, Joined};

/// Objects and arrays within each other, the outermost included.
pub const DEPTH_MAX: u32 = 128;

/// The scanner of a JSON body.
#[derive(Debug)]
pub struct JsonScanner {
    state: State,
    /// Of the string under way.
    role: Role,
    /// Of the `\uXXXX` under way: digits seen, and their value.
    hex: (u8, u16),
    number: Number,
    /// The literal under way, and bytes of it seen.
    literal: (Literal, usize),
    nesting: Nesting,
    fields: Fields,
    cut: Cut,
    /// Bytes of the body already scanned.
    scanned: u64,
    /// Just behind the opening brace: where a model can be inserted.
    opened_at: u64,
    empty: bool,
}

/// What is due, white space aside; or what the scanner stands in.
///
/// One byte without payload, so that it stays in a register: what belongs to a state is a field of the
/// scanner, written only where a chunk may end in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Object,
    NameOrEnd,
    Name,
    Colon,
    Value,
    ValueOrEnd,
    CommaOrEnd,
    Nothing,
    InText,
    InEscape,
    InHex,
    InNumber,
    InLiteral,
}

/// What a string is.
#[derive(Debug, Clone, Copy)]
enum Role {
    Name,
    Value,
}

/// The open objects and arrays: one bit each, innermost lowest; 1 is an object.
#[derive(Debug, Default)]
struct Nesting {
    objects: u128,
    depth: u32,
}

impl Nesting {
    #[inline]
    fn open(&mut self, object: bool) -> bool {
        if self.depth == DEPTH_MAX {
            return false;
        }
        self.objects = self.objects << 1 | u128::from(object);
        self.depth += 1;
        true
    }

    fn close(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

impl Default for JsonScanner {
    fn default() -> Self {
        Self {
            state: State::Object,
            role: Role::Name,
            hex: (0, 0),
            number: Number::Zero,
            literal: (Literal::Null, 0),
            nesting: Nesting::default(),
            fields: Fields::default(),
            cut: Cut::default(),
            scanned: 0,
            opened_at: 0,
            empty: true,
        }
    }
}

impl JsonScanner {
    /// Scans the next bytes of the body. Not to be called again after a fault.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), BodyFault> {
        let mut rest = chunk;
        while self.cut.len() > 0 {
            let Some((&byte, after)) = rest.split_first() else { return Ok(()) };
            rest = after;
            match self.cut.join(byte) {
                Joined::Whole(bytes, len) => self.scan(&bytes[..len])?,
                Joined::Short => {}
                Joined::Invalid => return Err(self.fault(0, JsonFault::NotUtf8)),
            }
        }
        let (valid, bad) = self.cut.split(rest);
        self.scan(valid)?;
        if bad { Err(self.fault(0, JsonFault::NotUtf8)) } else { Ok(()) }
    }

    /// The body has ended. Not to be called after a fault.
    pub(super) fn finish(&self) -> Result<(), BodyFault> {
        if self.cut.len() > 0 {
            return Err(self.fault(0, JsonFault::NotUtf8));
        }
        match self.scanned {
            _ if self.state == State::Nothing => Ok(()),
            0 => Err(self.fault(0, JsonFault::Empty)),
            _ => Err(self.fault(0, JsonFault::Incomplete)),
        }
    }

    pub(super) fn model(&self) -> Option<&ModelValue> {
        self.fields.model()
    }

    pub(super) fn stream(&self) -> Option<bool> {
        self.fields.stream()
    }

    pub(super) fn stream_options(&self) -> Option<u64> {
        self.fields.stream_options()
    }

    /// Whether the object has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Nothing
    }

    /// Puts `name` where the model's value stands, or a whole member first in the object.
    pub(super) fn splice(&self, name: &str) -> Splice {
        // A string can always be written.
        let value = serde_json::to_string(name).unwrap_or_default();
        let (at, with) = match self.fields.model_span() {
            Some(span) => (span, value),
            None => {
                let comma = if self.empty { "" } else { "," };
                (self.opened_at..self.opened_at, format!("\"model\":{value}{comma}"))
            }
        };
        Splice { at, with: with.into() }
    }

    fn fault(&self, at: usize, fault: JsonFault) -> BodyFault {
        BodyFault::json(fault, self.offset(at))
    }

    /// Of the byte `at` in what is being scanned.
    fn offset(&self, at: usize) -> u64 {
        self.scanned + at as u64
    }

    /// Scans `bytes`, which hold whole characters.
    fn scan(&mut self, bytes: &[u8]) -> Result<(), BodyFault> {
        let (mut state, mut at) = (self.state, 0);
        while at < bytes.len() {
            (state, at) = match state {
                State::InText => self.text(bytes, at)?,
                State::InNumber => self.number(bytes, at, self.number)?,
                State::InLiteral => self.literal(bytes, at)?,
                State::InEscape => (self.escape(bytes[at], at)?, at + 1),
                State::InHex => (self.hex(bytes[at], at)?, at + 1),
                due => self.token(bytes, at, due)?,
            };
        }
        self.state = state;
        self.scanned += bytes.len() as u64;
        Ok(())
    }

    #[inline]
    fn token(&mut self, bytes: &[u8], from: usize, due: State) -> Result<(State, usize), BodyFault> {
        let mut at = from;
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
            at += 1;
        }
        let Some(&byte) = bytes.get(at) else { return Ok((due, at)) };
        let object = self.nesting.in_object();
        let state = match (due, byte) {
            (State::CommaOrEnd, b',') if object => State::Name,
            (State::CommaOrEnd, b',') => State::Value,
            (State::Value | State::ValueOrEnd, b'0'..=b'9' | b'-') => return self.begin_number(bytes, at),
            (State::Colon, b':') => State::Value,
            (State::NameOrEnd | State::Name, b'"') => self.begin_name(at),
            (State::CommaOrEnd | State::NameOrEnd, b'}') if object => self.close(),
            (State::CommaOrEnd | State::ValueOrEnd, b']') if !object => self.close(),
            (State::Value | State::ValueOrEnd, _) => self.begin_value(bytes, at, due)?,
            (State::Object, b'{') => self.open(at, byte)?,
            _ => return Err(self.fault(at, self.unexpected(due, &bytes[at..]))),
        };
        Ok((state, at + 1))
    }

    #[cold]
    fn unexpected(&self, due: State, rest: &[u8]) -> JsonFault {
        match due {
            State::Object if rest.starts_with("\u{feff}".as_bytes()) => JsonFault::ByteOrderMark,
            State::Object => JsonFault::NotAnObject,
            State::NameOrEnd => JsonFault::Expected("a name in quotes or '}'"),
            State::Name => JsonFault::Expected("a name in quotes"),
            State::Colon => JsonFault::Expected("':'"),
            State::Value => JsonFault::Expected("a value"),
            State::ValueOrEnd => JsonFault::Expected("a value or ']'"),
            State::CommaOrEnd if self.nesting.in_object() => JsonFault::Expected("',' or '}'"),
            State::CommaOrEnd => JsonFault::Expected("',' or ']'"),
            State::Nothing | State::InText | State::InEscape | State::InHex | State::InNumber | State::InLiteral => {
                JsonFault::Trailing
            }
        }
    }

    #[inline]
    fn open(&mut self, at: usize, bracket: u8) -> Result<State, BodyFault> {
        let object = bracket == b'{';
        if !self.nesting.open(object) {
            return Err(self.fault(at, JsonFault::TooDeep));
        }
        if self.nesting.depth == 1 {
            self.opened_at = self.offset(at) + 1;
        }
        Ok(if object { State::NameOrEnd } else { State::ValueOrEnd })
    }

    #[inline]
    fn close(&mut self) -> State {
        self.nesting.close();
        self.end_value()
    }

    #[inline]
    fn end_value(&self) -> State {
        if self.nesting.depth == 0 { State::Nothing } else { State::CommaOrEnd }
    }

    #[inline]
    fn begin_name(&mut self, at: usize) -> State {
        if self.nesting.depth == 1 {
            self.empty = false;
            self.fields.begin(Capture::Name, self.offset(at));
        }
        self.role = Role::Name;
        State::InText
    }

    #[inline]
    fn begin_value(&mut self, bytes: &[u8], at: usize, due: State) -> Result<State, BodyFault> {
        let byte = bytes[at];
        self.fields.begin_value(byte, self.offset(at))?;
        let literal = match byte {
            b'"' => {
                self.role = Role::Value;
                return Ok(State::InText);
            }
            b'{' | b'[' => return self.open(at, byte),
            b't' => Literal::True,
            b'f' => Literal::False,
            b'n' => Literal::Null,
            _ => return Err(self.fault(at, self.unexpected(due, &bytes[at..]))),
        };
        self.literal = (literal, 1);
        Ok(State::InLiteral)
    }

    fn literal(&mut self, bytes: &[u8], at: usize) -> Result<(State, usize), BodyFault> {
        let (literal, seen) = self.literal;
        let due = &literal.text()[seen..];
        let got = &bytes[at..];
        let same = due.iter().zip(got).take_while(|(due, got)| due == got).count();
        let behind = at + same;
        if same == due.len() {
            self.fields.end_literal(literal, self.offset(behind));
            return Ok((self.end_value(), behind));
        }
        if same < got.len() {
            return Err(self.fault(behind, JsonFault::Literal));
        }
        self.literal = (literal, seen + same);
        Ok((State::InLiteral, behind))
    }

    #[inline]
    fn begin_number(&mut self, bytes: &[u8], at: usize) -> Result<(State, usize), BodyFault> {
        self.fields.begin_value(bytes[at], self.offset(at))?;
        self.number(bytes, at + 1, Number::begin(bytes[at]))
    }

    #[inline]
    fn number(&mut self, bytes: &[u8], from: usize, number: Number) -> Result<(State, usize), BodyFault> {
        let (mut number, mut at) = (number, from);
        while let Some(&byte) = bytes.get(at) {
            match number.next(byte) {
                Some(next) => number = next,
                None if number.is_whole() => return Ok((self.end_value(), at)),
                None => return Err(self.fault(at, JsonFault::Number)),
            }
            at += 1;
        }
        self.number = number;
        Ok((State::InNumber, at))
    }

    #[inline]
    fn text(&mut self, bytes: &[u8], from: usize) -> Result<(State, usize), BodyFault> {
        let at = if self.fields.is_capturing() {
            let end = text::plain_run_end(bytes, from);
            if end > from {
                self.fields.take(&bytes[from..end], self.offset(from))?;
            }
            end
        } else {
            text::text_end(bytes, from)
        };
        match bytes.get(at) {
            None => Ok((State::InText, at)),
            Some(b'"') => Ok((self.end_text(at)?, at + 1)),
            Some(b'\\') => Ok((State::InEscape, at + 1)),
            Some(_) => Err(self.fault(at, JsonFault::ControlCharacter)),
        }
    }

    #[inline]
    fn end_text(&mut self, at: usize) -> Result<State, BodyFault> {
        self.fields.end(self.offset(at))?;
        Ok(match self.role {
            Role::Name => State::Colon,
            Role::Value => self.end_value(),
        })
    }

    fn escape(&mut self, byte: u8, at: usize) -> Result<State, BodyFault> {
        match (byte, text::short_escape(byte)) {
            (b'u', _) => {
                self.hex = (0, 0);
                Ok(State::InHex)
            }
            (_, Some(byte)) => {
                self.fields.take(&[byte], self.offset(at))?;
                Ok(State::InText)
            }
            (_, None) => Err(self.fault(at, JsonFault::Escape)),
        }
    }

    fn hex(&mut self, byte: u8, at: usize) -> Result<State, BodyFault> {
        let Some(digit) = char::from(byte).to_digit(16) else {
            return Err(self.fault(at, JsonFault::Escape));
        };
        let (seen, value) = self.hex;
        self.hex = (seen + 1, value << 4 | digit as u16);
        if seen < 3 {
            return Ok(State::InHex);
        }
        self.fields.take_unit(self.hex.1, self.offset(at))?;
        Ok(State::InText)
    }
}
