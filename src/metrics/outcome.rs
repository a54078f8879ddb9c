//! The closed set of ways an attempt at a provider ends.

/// How an attempt at a provider ended: the `outcome` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// An answer below 400 that came to its end.
    Success,
    /// The provider refuses the request itself (400, 404, 413, 422 and other 4xx).
    RequestRefused,
    /// The provider refuses our credential (401, 402).
    CredentialRefused,
    /// 403.
    Forbidden,
    /// 408.
    RequestTimeout,
    /// 429.
    RateLimited,
    /// 5xx.
    ServerError,
    /// An answer we do not pass on: a redirect, or bytes that are no HTTP.
    InvalidResponse,
    /// Name resolution failed.
    DnsFailed,
    /// Refused, unreachable, timed out while connecting, or TLS failed.
    ConnectFailed,
    /// The connection ended before any byte of an answer.
    Reset,
    /// No answer within `timeouts.first_byte`.
    FirstByteTimeout,
    /// The answer stopped: within `timeouts.idle` or `timeouts.total` nothing more came.
    StreamTimeout,
    /// The connection ended inside the answer.
    StreamCut,
    /// The client left, or its body turned out invalid, before the answer was complete.
    Aborted,
}

impl Outcome {
    pub(super) const ALL: [Outcome; 15] = [
        Outcome::Success,
        Outcome::RequestRefused,
        Outcome::CredentialRefused,
        Outcome::Forbidden,
        Outcome::RequestTimeout,
        Outcome::RateLimited,
        Outcome::ServerError,
        Outcome::InvalidResponse,
        Outcome::DnsFailed,
        Outcome::ConnectFailed,
        Outcome::Reset,
        Outcome::FirstByteTimeout,
        Outcome::StreamTimeout,
        Outcome::StreamCut,
        Outcome::Aborted,
    ];

    /// The label value, also fit for a log line.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::RequestRefused => "request_refused",
            Outcome::CredentialRefused => "credential_refused",
            Outcome::Forbidden => "forbidden",
            Outcome::RequestTimeout => "request_timeout",
            Outcome::RateLimited => "rate_limited",
            Outcome::ServerError => "server_error",
            Outcome::InvalidResponse => "invalid_response",
            Outcome::DnsFailed => "dns_failed",
            Outcome::ConnectFailed => "connect_failed",
            Outcome::Reset => "reset",
            Outcome::FirstByteTimeout => "first_byte_timeout",
            Outcome::StreamTimeout => "stream_timeout",
            Outcome::StreamCut => "stream_cut",
            Outcome::Aborted => "aborted",
        }
    }
}
