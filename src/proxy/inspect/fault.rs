//! What can be wrong with a body, where, and how the client is told.

use std::fmt;

use crate::error::ApiError;

/// A body that Forge will not pass on.
///
/// The same body gives the same fault however it is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyFault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Bytes of the body before the fault.
    pub offset: u64,
}

impl BodyFault {
    pub(super) fn json(fault: JsonFault, offset: u64) -> Self {
        Self { kind: FaultKind::Json(fault), offset }
    }

    pub(super) fn field(field: Field, fault: FieldFault, offset: u64) -> Self {
        Self { kind: FaultKind::Field(field, fault), offset }
    }
}

/// A field that Forge reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `model`
    Model,
    /// `stream`
    Stream,
}

impl Field {
    /// Its name in the body.
    pub fn name(self) -> &'static str {
        match self {
            Field::Model => "model",
            Field::Stream => "stream",
        }
    }
}

/// The kinds of [`BodyFault`]: of JSON, of multipart, of the fields Forge reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// JSON that breaks the grammar or a bound.
    Json(JsonFault),
    /// A field of the right name with a wrong value, or in a wrong number.
    Field(Field, FieldFault),
}

/// JSON that Forge does not pass on. RFC 8259.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Nothing at all.
    #[error("the body is empty")]
    Empty,
    /// The document ends before its object does.
    #[error("the document is incomplete")]
    Incomplete,
    /// Not UTF-8 (section 8.1).
    #[error("not valid UTF-8")]
    NotUtf8,
    /// A byte order mark, which section 8.1 forbids senders to add.
    #[error("a byte order mark is not allowed")]
    ByteOrderMark,
    /// A document that is not an object.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// More than white space after the object.
    #[error("nothing may follow the object")]
    Trailing,
    /// Another token was due.
    #[error("expected {0}")]
    Expected(&'static str),
    /// `-`, `01`, `1.`, `1e` and the like (section 6).
    #[error("malformed number")]
    Number,
    /// Neither `true`, `false` nor `null`.
    #[error("malformed literal")]
    Literal,
    /// A raw control character in a string (section 7).
    #[error("control characters in a string must be escaped")]
    ControlCharacter,
    /// A backslash followed by what section 7 does not list.
    #[error("malformed escape in a string")]
    Escape,
    /// Half a surrogate pair, in a name or value that Forge reads.
    #[error("an escaped surrogate lacks its other half")]
    LoneSurrogate,
    /// `\u0000` in a top-level name: a reader with C strings sees another name.
    #[error("a top-level name must not hold a NUL")]
    NulInName,
    /// More than [`super::DEPTH_MAX`] nested objects and arrays.
    #[error("nested deeper than {max} levels", max = super::DEPTH_MAX)]
    TooDeep,
}

/// What is wrong with a field that Forge reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldFault {
    /// It is there more than once; readers differ in which one counts.
    Duplicate,
    /// Its name is spelt in another case; some readers take it, some do not.
    Miscased,
    /// The value has the wrong type.
    Type,
    /// The value is empty or over [`super::MODEL_BYTES_MAX`].
    Length,
    /// The value is not UTF-8.
    NotUtf8,
    /// The value holds a control character.
    ControlCharacter,
}

impl FaultKind {
    fn field_text(field: Field, fault: FieldFault) -> String {
        let name = field.name();
        match fault {
            FieldFault::Duplicate => format!("'{name}' is given more than once"),
            FieldFault::Miscased => format!("write '{name}' in lower case"),
            FieldFault::Type => match field {
                Field::Model => "'model' must be a string".to_owned(),
                Field::Stream => "'stream' must be true or false".to_owned(),
            },
            FieldFault::Length => format!("'{name}' must be 1 to {} bytes long", super::MODEL_BYTES_MAX),
            FieldFault::NotUtf8 => format!("'{name}' must be UTF-8"),
            FieldFault::ControlCharacter => format!("'{name}' must not hold control characters"),
        }
    }
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match self.kind {
            FaultKind::Json(fault) => write!(f, "Invalid JSON at byte {offset}: {fault}."),
            FaultKind::Field(field, fault) => {
                write!(f, "Invalid request body at byte {offset}: {}.", FaultKind::field_text(field, fault))
            }
        }
    }
}

impl std::error::Error for BodyFault {}

impl From<BodyFault> for ApiError {
    fn from(fault: BodyFault) -> Self {
        let message = fault.to_string();
        match fault.kind {
            FaultKind::Json(_) => ApiError::invalid_json(message),
            FaultKind::Field(field, _) => ApiError::bad_field(field.name(), message),
        }
    }
}
