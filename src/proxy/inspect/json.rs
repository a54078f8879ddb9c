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
use super::fields::{Capture, Fields, ModelValue};
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
    nesting: Nesting,
    fields: Fields,
    cut: Cut,
    /// Bytes of the body already scanned.
    scanned: u64,
    /// Just behind the opening brace: where a model can be inserted.
    opened_at: u64,
    empty: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Between(Due),
    Text(Text),
    Number(Number),
    /// A literal of which this much is still due.
    Literal(&'static [u8]),
}

/// Which token is due, white space aside.
#[derive(Debug, Clone, Copy)]
enum Due {
    Object,
    NameOrEnd,
    Name,
    Colon,
    Value,
    ValueOrEnd,
    CommaOrEnd,
    Nothing,
}

/// What a string is.
#[derive(Debug, Clone, Copy)]
enum Role {
    Name,
    Value,
}

/// Where in a string the scanner stands.
#[derive(Debug, Clone, Copy)]
enum Text {
    Plain,
    Escape,
    /// In `\uXXXX`: digits seen and their value.
    Hex(u8, u16),
}

/// The open objects and arrays: one bit each, innermost lowest; 1 is an object.
#[derive(Debug, Default)]
struct Nesting {
    objects: u128,
    depth: u32,
}

impl Nesting {
    fn open(&mut self, object: u128) -> bool {
        if self.depth == DEPTH_MAX {
            return false;
        }
        self.objects = self.objects << 1 | object;
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
            state: State::Between(Due::Object),
            role: Role::Name,
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
        match self.state {
            State::Between(Due::Nothing) => Ok(()),
            State::Between(Due::Object) if self.scanned == 0 => Err(self.fault(0, JsonFault::Empty)),
            State::Between(_) | State::Text(_) | State::Number(_) | State::Literal(_) => {
                Err(self.fault(0, JsonFault::Incomplete))
            }
        }
    }

    pub(super) fn model(&self) -> Option<&ModelValue> {
        self.fields.model()
    }

    pub(super) fn stream(&self) -> Option<bool> {
        self.fields.stream()
    }

    /// Puts `name` where the model's value stands, or a whole member first in the object.
    pub(super) fn splice(&self, name: &str) -> Splice {
        let value = serde_json::Value::from(name).to_string();
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
        let mut at = 0;
        while at < bytes.len() {
            at = match self.state {
                State::Between(due) => self.between(bytes, at, due)?,
                State::Text(Text::Plain) => self.plain_text(bytes, at)?,
                State::Text(Text::Escape) => self.escape(bytes, at)?,
                State::Text(Text::Hex(seen, value)) => self.hex(bytes[at], at, (seen, value))?,
                State::Number(number) => self.number(bytes, at, number)?,
                State::Literal(due) => self.literal(bytes, at, due)?,
            };
        }
        self.scanned += bytes.len() as u64;
        Ok(())
    }

    fn between(&mut self, bytes: &[u8], from: usize, due: Due) -> Result<usize, BodyFault> {
        let mut at = from;
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
            at += 1;
        }
        let Some(&byte) = bytes.get(at) else { return Ok(at) };
        let object = self.nesting.in_object();
        match (due, byte) {
            (Due::Object, b'{') => self.open(at, byte)?,
            (Due::NameOrEnd | Due::Name, b'"') => self.begin_name(at),
            (Due::Colon, b':') => self.state = State::Between(Due::Value),
            (Due::ValueOrEnd, b']') => self.close(),
            (Due::NameOrEnd, b'}') => self.close(),
            (Due::CommaOrEnd, b',') => self.state = State::Between(if object { Due::Name } else { Due::Value }),
            (Due::CommaOrEnd, b'}') if object => self.close(),
            (Due::CommaOrEnd, b']') if !object => self.close(),
            (Due::Value | Due::ValueOrEnd, _) => self.begin_value(bytes, at, due)?,
            _ => return Err(self.fault(at, self.unexpected(due, &bytes[at..]))),
        }
        Ok(at + 1)
    }

    fn unexpected(&self, due: Due, rest: &[u8]) -> JsonFault {
        match due {
            Due::Object if rest.starts_with("\u{feff}".as_bytes()) => JsonFault::ByteOrderMark,
            Due::Object => JsonFault::NotAnObject,
            Due::NameOrEnd => JsonFault::Expected("a name in quotes or '}'"),
            Due::Name => JsonFault::Expected("a name in quotes"),
            Due::Colon => JsonFault::Expected("':'"),
            Due::Value => JsonFault::Expected("a value"),
            Due::ValueOrEnd => JsonFault::Expected("a value or ']'"),
            Due::CommaOrEnd if self.nesting.in_object() => JsonFault::Expected("',' or '}'"),
            Due::CommaOrEnd => JsonFault::Expected("',' or ']'"),
            Due::Nothing => JsonFault::Trailing,
        }
    }

    fn open(&mut self, at: usize, bracket: u8) -> Result<(), BodyFault> {
        let object = bracket == b'{';
        if !self.nesting.open(u128::from(object)) {
            return Err(self.fault(at, JsonFault::TooDeep));
        }
        if self.nesting.depth == 1 {
            self.opened_at = self.offset(at) + 1;
        }
        self.state = State::Between(if object { Due::NameOrEnd } else { Due::ValueOrEnd });
        Ok(())
    }

    fn close(&mut self) {
        self.nesting.close();
        self.end_value();
    }

    fn end_value(&mut self) {
        self.state = State::Between(if self.nesting.depth == 0 { Due::Nothing } else { Due::CommaOrEnd });
    }

    fn begin_name(&mut self, at: usize) {
        if self.nesting.depth == 1 {
            self.empty = false;
            self.fields.begin(Capture::Name, self.offset(at));
        }
        self.role = Role::Name;
        self.state = State::Text(Text::Plain);
    }

    fn begin_value(&mut self, bytes: &[u8], at: usize, due: Due) -> Result<(), BodyFault> {
        let byte = bytes[at];
        self.fields.begin_value(byte, self.offset(at))?;
        self.state = match byte {
            b'"' => {
                self.role = Role::Value;
                State::Text(Text::Plain)
            }
            b'{' | b'[' => return self.open(at, byte),
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'n' => State::Literal(b"ull"),
            _ => match Number::begin(byte) {
                Some(number) => State::Number(number),
                None => return Err(self.fault(at, self.unexpected(due, &bytes[at..]))),
            },
        };
        Ok(())
    }

    fn literal(&mut self, bytes: &[u8], at: usize, due: &'static [u8]) -> Result<usize, BodyFault> {
        let got = &bytes[at..];
        let same = due.iter().zip(got).take_while(|(due, got)| due == got).count();
        if same < due.len() && same < got.len() {
            return Err(self.fault(at + same, JsonFault::Literal));
        }
        if same < due.len() {
            self.state = State::Literal(&due[same..]);
        } else {
            self.fields.end_literal(self.offset(at + same));
            self.end_value();
        }
        Ok(at + same)
    }

    fn number(&mut self, bytes: &[u8], from: usize, number: Number) -> Result<usize, BodyFault> {
        let mut number = number;
        for (index, &byte) in bytes[from..].iter().enumerate() {
            match number.next(byte) {
                Some(next) => number = next,
                None if number.is_whole() => {
                    self.end_value();
                    return Ok(from + index);
                }
                None => return Err(self.fault(from + index, JsonFault::Number)),
            }
        }
        self.state = State::Number(number);
        Ok(bytes.len())
    }

    fn plain_text(&mut self, bytes: &[u8], from: usize) -> Result<usize, BodyFault> {
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
            None => return Ok(at),
            Some(b'"') => self.end_text(at)?,
            Some(b'\\') => self.state = State::Text(Text::Escape),
            Some(_) => return Err(self.fault(at, JsonFault::ControlCharacter)),
        }
        Ok(at + 1)
    }

    fn end_text(&mut self, at: usize) -> Result<(), BodyFault> {
        self.fields.end(self.offset(at))?;
        match self.role {
            Role::Name => self.state = State::Between(Due::Colon),
            Role::Value => self.end_value(),
        }
        Ok(())
    }

    fn escape(&mut self, bytes: &[u8], at: usize) -> Result<usize, BodyFault> {
        match (bytes[at], text::short_escape(bytes[at])) {
            (b'u', _) => self.state = State::Text(Text::Hex(0, 0)),
            (_, Some(byte)) => {
                self.fields.take(&[byte], self.offset(at))?;
                self.state = State::Text(Text::Plain);
            }
            (_, None) => return Err(self.fault(at, JsonFault::Escape)),
        }
        Ok(at + 1)
    }

    fn hex(&mut self, byte: u8, at: usize, (seen, value): (u8, u16)) -> Result<usize, BodyFault> {
        let Some(digit) = char::from(byte).to_digit(16) else {
            return Err(self.fault(at, JsonFault::Escape));
        };
        let value = value << 4 | digit as u16;
        if seen < 3 {
            self.state = State::Text(Text::Hex(seen + 1, value));
        } else {
            self.fields.take_unit(value, self.offset(at))?;
            self.state = State::Text(Text::Plain);
        }
        Ok(at + 1)
    }
}
