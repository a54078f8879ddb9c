//! The fields Forge reads of a JSON object, `model` and `stream`, and the decoding of their names and text.

use std::ops::Range;

use super::fault::{BodyFault, Field, FieldFault, JsonFault};

/// Bytes of a model's name, decoded.
pub const MODEL_BYTES_MAX: usize = 256;

/// Enough to tell every name Forge reads from all others, in any spelling of [`field_named`].
const NAME_BYTES_KEPT: usize = 16;

/// The model a body names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelValue {
    /// The name, escapes decoded: 1 to 256 bytes, no control characters.
    pub name: String,
    /// Where the value stands in the body, in bytes: of JSON with its quotes, of multipart the part's content.
    pub span: Range<u64>,
}

/// What is being decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capture {
    /// Nothing.
    Off,
    /// A top-level name.
    Name,
    /// The model's value.
    Model,
}

/// The fields read so far.
#[derive(Debug)]
pub(super) struct Fields {
    capture: Capture,
    text: Vec<u8>,
    /// The first half of an escaped surrogate pair.
    high: Option<u16>,
    /// Whose value is due or under way.
    field: Option<Due>,
    /// Where the string or value of interest begins.
    begun_at: u64,
    seen: Seen,
    model: Option<ModelValue>,
    null_model: Option<Range<u64>>,
    stream: Option<bool>,
    stream_options: Option<u64>,
}

/// What a value that matters is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Field(Field),
    /// `stream_options`: noted where it stands, and otherwise let alone.
    StreamOptions,
}

#[derive(Debug, Default)]
struct Seen {
    model: bool,
    stream: bool,
}

/// JSON's literals (RFC 8259, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    True,
    False,
    Null,
}

impl Literal {
    pub(super) fn text(self) -> &'static [u8] {
        match self {
            Literal::True => b"true",
            Literal::False => b"false",
            Literal::Null => b"null",
        }
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            capture: Capture::Off,
            text: Vec::new(),
            high: None,
            field: None,
            begun_at: 0,
            seen: Seen::default(),
            model: None,
            null_model: None,
            stream: None,
            stream_options: None,
        }
    }
}

impl Fields {
    pub(super) fn model(&self) -> Option<&ModelValue> {
        self.model.as_ref()
    }

    /// Where the value of `model` stands, `null` included.
    pub(super) fn model_span(&self) -> Option<Range<u64>> {
        self.model.as_ref().map(|model| model.span.clone()).or_else(|| self.null_model.clone())
    }

    pub(super) fn stream(&self) -> Option<bool> {
        self.stream
    }

    /// Where the value of the first `stream_options` begins.
    pub(super) fn stream_options(&self) -> Option<u64> {
        self.stream_options
    }

    #[inline]
    pub(super) fn is_capturing(&self) -> bool {
        self.capture != Capture::Off
    }

    /// A string to decode begins at `offset`, its quote.
    pub(super) fn begin(&mut self, capture: Capture, offset: u64) {
        self.capture = capture;
        self.begun_at = offset;
        self.text.clear();
        self.high = None;
    }

    /// A value begins with `byte` at `offset`; a fault if it is a field's and of the wrong type.
    #[inline]
    pub(super) fn begin_value(&mut self, byte: u8, offset: u64) -> Result<(), BodyFault> {
        match self.field {
            None => Ok(()),
            Some(Due::Field(field)) => self.begin_field(field, byte, offset),
            Some(Due::StreamOptions) => {
                self.field = None;
                self.stream_options.get_or_insert(offset);
                Ok(())
            }
        }
    }

    fn begin_field(&mut self, field: Field, byte: u8, offset: u64) -> Result<(), BodyFault> {
        self.begun_at = offset;
        match (field, byte) {
            (Field::Model, b'"') => self.begin(Capture::Model, offset),
            (Field::Model, b'n') | (Field::Stream, b't' | b'f' | b'n') => {}
            (Field::Model | Field::Stream, _) => return Err(BodyFault::field(field, FieldFault::Type, offset)),
        }
        Ok(())
    }

    /// A literal ended before `behind`. `null` counts as a field left out.
    pub(super) fn end_literal(&mut self, literal: Literal, behind: u64) {
        match (self.field.take(), literal) {
            (Some(Due::Field(Field::Model)), _) => self.null_model = Some(self.begun_at..behind),
            (Some(Due::Field(Field::Stream)), Literal::True) => self.stream = Some(true),
            (Some(Due::Field(Field::Stream)), Literal::False) => self.stream = Some(false),
            (Some(Due::Field(Field::Stream)), Literal::Null) | (Some(Due::StreamOptions) | None, _) => {}
        }
    }

    /// Plain text, at `offset`, of the string being decoded.
    pub(super) fn take(&mut self, bytes: &[u8], offset: u64) -> Result<(), BodyFault> {
        if self.high.is_some() {
            return Err(BodyFault::json(JsonFault::LoneSurrogate, offset));
        }
        self.keep(bytes)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), BodyFault> {
        let room = match self.capture {
            Capture::Off => return Ok(()),
            Capture::Name => NAME_BYTES_KEPT.saturating_sub(self.text.len()),
            Capture::Model if self.text.len() + bytes.len() > MODEL_BYTES_MAX => {
                return Err(BodyFault::field(Field::Model, FieldFault::Length, self.begun_at));
            }
            Capture::Model => bytes.len(),
        };
        self.text.extend_from_slice(&bytes[..room.min(bytes.len())]);
        Ok(())
    }

    /// A UTF-16 unit from an escape that ends at `offset`.
    pub(super) fn take_unit(&mut self, unit: u16, offset: u64) -> Result<(), BodyFault> {
        if !self.is_capturing() {
            return Ok(());
        }
        if unit == 0 && self.capture == Capture::Name {
            return Err(BodyFault::json(JsonFault::NulInName, self.begun_at));
        }
        let units = match (self.high.take(), unit) {
            (None, 0xd800..=0xdbff) => {
                self.high = Some(unit);
                return Ok(());
            }
            (high, _) => high.into_iter().chain([unit]),
        };
        for decoded in char::decode_utf16(units) {
            let character = decoded.map_err(|_| BodyFault::json(JsonFault::LoneSurrogate, offset))?;
            self.keep(character.encode_utf8(&mut [0; 4]).as_bytes())?;
        }
        Ok(())
    }

    /// The string ended with the quote at `offset`.
    #[inline]
    pub(super) fn end(&mut self, offset: u64) -> Result<(), BodyFault> {
        match self.capture {
            Capture::Off => Ok(()),
            Capture::Name => self.end_name(offset),
            Capture::Model => self.end_model(offset),
        }
    }

    fn end_name(&mut self, offset: u64) -> Result<(), BodyFault> {
        self.take(&[], offset)?;
        self.capture = Capture::Off;
        let Some((field, spelling)) = field_named(&self.text) else {
            self.field = (self.text == b"stream_options").then_some(Due::StreamOptions);
            return Ok(());
        };
        if spelling == Spelling::Miscased {
            return Err(BodyFault::field(field, FieldFault::Miscased, self.begun_at));
        }
        let seen = match field {
            Field::Model => &mut self.seen.model,
            Field::Stream => &mut self.seen.stream,
        };
        if std::mem::replace(seen, true) {
            return Err(BodyFault::field(field, FieldFault::Duplicate, self.begun_at));
        }
        self.field = Some(Due::Field(field));
        Ok(())
    }

    fn end_model(&mut self, offset: u64) -> Result<(), BodyFault> {
        self.take(&[], offset)?;
        self.capture = Capture::Off;
        self.field = None;
        let fault = |fault| BodyFault::field(Field::Model, fault, self.begun_at);
        self.model = Some(ModelValue::check(&self.text, self.begun_at..offset + 1).map_err(fault)?);
        Ok(())
    }
}

impl ModelValue {
    /// The model that `bytes` name.
    pub(super) fn check(bytes: &[u8], span: Range<u64>) -> Result<ModelValue, FieldFault> {
        if bytes.is_empty() || bytes.len() > MODEL_BYTES_MAX {
            return Err(FieldFault::Length);
        }
        let name = std::str::from_utf8(bytes).map_err(|_| FieldFault::NotUtf8)?;
        if name.chars().any(char::is_control) {
            return Err(FieldFault::ControlCharacter);
        }
        Ok(ModelValue { name: name.to_owned(), span })
    }
}

/// Whether a name is written as the reference writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    Exact,
    Miscased,
}

/// The field that some reader may take `name` for. Go's `encoding/json` folds ASCII case and U+017F to `s`.
pub(super) fn field_named(name: &[u8]) -> Option<(Field, Spelling)> {
    match name {
        b"model" => Some((Field::Model, Spelling::Exact)),
        b"stream" => Some((Field::Stream, Spelling::Exact)),
        _ if name.eq_ignore_ascii_case(b"model") => Some((Field::Model, Spelling::Miscased)),
        _ if name.strip_prefix("ſ".as_bytes()).is_some_and(|rest| rest.eq_ignore_ascii_case(b"tream"))
            || name.eq_ignore_ascii_case(b"stream") =>
        {
            Some((Field::Stream, Spelling::Miscased))
        }
        _ => None,
    }
}
