//! What can be wrong with a request before anyone asks what it wants, and what its sender is told.

use super::head::HeadLimits;
use crate::endpoint::Endpoint;
use crate::error::ApiError;

/// The rule that a request breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not `method target HTTP/1.x`.
    #[error("The request line is malformed.")]
    RequestLine,
    /// TRACE or CONNECT.
    #[error("The method is not served here.")]
    Method,
    /// Not a path of printable ASCII, or with `#`, `\` or `%00`.
    #[error("The request target is malformed.")]
    Target,
    /// Over `target_bytes_max`.
    #[error("The request target is too long.")]
    TargetTooLong,
    /// Not a token, or with `_`.
    #[error("A header field's name is malformed.")]
    FieldName,
    /// A control character.
    #[error("A header field's value holds a control character.")]
    FieldValue,
    /// A line that continues the one before.
    #[error("A header field is folded over lines.")]
    Folded,
    /// A CR or LF that is not half of CRLF, or a line without a colon.
    #[error("A header line does not end as it must.")]
    LineEnd,
    /// Over `header_fields_max`.
    #[error("Too many header fields.")]
    TooManyFields,
    /// Over `header_field_bytes_max` or `header_bytes_max`.
    #[error("The header fields are too large.")]
    FieldsTooLarge,
    /// Missing, repeated or malformed.
    #[error("The Host header must be sent exactly once and name a host.")]
    Host,
    /// Content-Length or Transfer-Encoding.
    #[error("The body's framing is ambiguous: send one Content-Length, or 'Transfer-Encoding: chunked'.")]
    Framing,
    /// A chunk that is not as it must be.
    #[error("The chunked framing of the request body is malformed.")]
    Chunk,
    /// The client closed before the head's end.
    #[error("The request ended inside its header.")]
    CutShort,
    /// Over `header_timeout`.
    #[error("The request's header did not arrive in time.")]
    TooSlow,
}

impl Fault {
    /// What the client is told; `path` is empty when none was read.
    pub fn answer(self, limits: &HeadLimits, path: &str) -> ApiError {
        match self {
            Self::Method => {
                let endpoint = Endpoint::by_path(path);
                ApiError::method_not_allowed(endpoint.map_or("GET, POST", |endpoint| endpoint.row().method))
            }
            Self::TargetTooLong => ApiError::target_too_long(limits.target_bytes_max as u64),
            Self::TooManyFields | Self::FieldsTooLarge => ApiError::head_too_large(self.to_string()),
            Self::TooSlow => ApiError::head_timeout(),
            Self::RequestLine
            | Self::Target
            | Self::FieldName
            | Self::FieldValue
            | Self::Folded
            | Self::LineEnd
            | Self::Host
            | Self::Framing
            | Self::Chunk
            | Self::CutShort => ApiError::bad_request(self.to_string()),
        }
    }
}
