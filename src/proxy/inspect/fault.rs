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

    pub(super) fn multipart(fault: MultipartFault, offset: u64) -> Self {
        Self { kind: FaultKind::Multipart(fault), offset }
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
    /// A form that breaks the grammar or a bound.
    Multipart(MultipartFault),
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

/// A form that Forge does not pass on. RFC 2046, section 5.1; RFC 7578.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultipartFault {
    /// Something stands before the first boundary.
    #[error("the body must begin with '--' and the boundary")]
    Opening,
    /// The body ends before the closing boundary.
    #[error("the closing boundary is missing")]
    Incomplete,
    /// Something stands behind a boundary, on its line.
    #[error("a boundary must be followed by CRLF or by '--'")]
    Boundary,
    /// A boundary begins a line that no CRLF begins.
    #[error("a boundary must be preceded by CRLF")]
    LineEnd,
    /// More than line ends follow the closing boundary.
    #[error("nothing may follow the closing boundary")]
    Trailing,
    /// More than [`super::PARTS_MAX`] parts.
    #[error("more than {max} parts", max = super::PARTS_MAX)]
    TooManyParts,
    /// A header block over [`super::PART_HEAD_BYTES_MAX`].
    #[error("the headers of a part are longer than {max} bytes", max = super::PART_HEAD_BYTES_MAX)]
    HeadTooLong,
    /// A header block that is not UTF-8.
    #[error("the headers of a part are not UTF-8")]
    HeaderNotUtf8,
    /// A line that is no `name: value`, or a value that breaks its grammar.
    #[error("a part has a malformed header")]
    Header,
    /// A header that is given twice.
    #[error("a part has a header more than once")]
    RepeatedHeader,
    /// A part without a disposition.
    #[error("a part has no Content-Disposition")]
    NoDisposition,
    /// A disposition that is no `form-data; name="…"`, or one that readers take differently.
    #[error("a part's Content-Disposition is malformed or ambiguous")]
    Disposition,
    /// Content that is encoded (RFC 7578, section 4.7 deprecates it).
    #[error("a part's Content-Transfer-Encoding must be 7bit, 8bit or binary")]
    TransferEncoding,
    /// A multipart within the form.
    #[error("a part must not be multipart itself")]
    Nested,
    /// A part whose `Content-Length` is not its length.
    #[error("a part's Content-Length is wrong")]
    Length,
    /// A part that changes how the others are decoded.
    #[error("a '_charset_' part is not allowed")]
    CharsetPart,
    /// More than one `file` on an endpoint that takes one.
    #[error("'file' is given more than once")]
    SecondFile,
    /// No `file` on an endpoint that takes one.
    #[error("'file' is missing")]
    NoFile,
}

/// What is wrong with a field that Forge reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldFault {
    /// It is there more than once; readers differ in which one counts.
    Duplicate,
    /// Its name is spelt in another way, which some readers take and some do not.
    Miscased,
    /// The value has the wrong type.
    Type,
    /// The part is a file, or text that is not UTF-8.
    NotText,
    /// The value is empty or over [`super::MODEL_BYTES_MAX`].
    Length,
    /// The value is not UTF-8.
    NotUtf8,
    /// The value holds a control character.
    ControlCharacter,
}

impl FaultKind {
    pub(super) fn at(self, offset: u64) -> BodyFault {
        BodyFault { kind: self, offset }
    }

    fn field_text(field: Field, fault: FieldFault) -> String {
        let name = field.name();
        match fault {
            FieldFault::Duplicate => format!("'{name}' is given more than once"),
            FieldFault::Miscased => format!("write the name as '{name}', exactly"),
            FieldFault::Type => match field {
                Field::Model => "'model' must be a string".to_owned(),
                Field::Stream => "'stream' must be true or false".to_owned(),
            },
            FieldFault::NotText => format!("'{name}' must be plain text in UTF-8, not a file"),
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
            FaultKind::Multipart(fault) => write!(f, "Invalid multipart body at byte {offset}: {fault}."),
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
            FaultKind::Multipart(MultipartFault::NoFile | MultipartFault::SecondFile) => {
                ApiError::bad_field("file", message)
            }
            FaultKind::Multipart(_) => ApiError::invalid_multipart(message),
            FaultKind::Field(field, _) => ApiError::bad_field(field.name(), message),
        }
    }
}
