//! The only place that chooses an HTTP status and the text a client reads.
//!
//! Rooms have small error enums of their own; on the request path they end in an [`ApiError`], made by
//! one of the constructors below. Client text never holds a secret, a host or internals: those go to
//! the log line, written where the error is handled.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::json;

use crate::endpoint::Dialect;

/// Whose fault an error is; decides nothing by itself, but is logged and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request cannot succeed as sent.
    Client,
    /// A provider failed; the same request may succeed later.
    Provider,
    /// Forge is at fault or at a limit.
    Ours,
}

/// An answer that says no: status, machine-readable code, text for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// HTTP status, 400..=599.
    pub status: u16,
    /// OpenAI's `error.type`.
    pub kind: &'static str,
    /// OpenAI's `error.code`; also the label of the error metric, so it is from a closed set.
    pub code: &'static str,
    /// OpenAI's `error.param`: the request field at fault.
    pub param: Option<&'static str>,
    /// What a person reads.
    pub message: Cow<'static, str>,
    /// Sent as `Retry-After`, in whole seconds rounded up, and as `retry-after-ms`.
    pub retry_after: Option<Duration>,
    /// Sent as `Allow` with a 405.
    pub allow: Option<&'static str>,
    /// Whose fault it is.
    pub fault: Fault,
}

const INVALID: &str = "invalid_request_error";

impl ApiError {
    fn new(status: u16, kind: &'static str, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let fault = if status >= 500 { Fault::Ours } else { Fault::Client };
        Self { status, kind, code, param: None, message: message.into(), retry_after: None, allow: None, fault }
    }

    fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    fn provider(mut self) -> Self {
        self.fault = Fault::Provider;
        self
    }

    /// 401: no credential, or one in a place that is not read.
    pub fn missing_key() -> Self {
        Self::new(
            401,
            INVALID,
            "invalid_api_key",
            "You didn't provide an API key. Send it as 'Authorization: Bearer sk-...' or 'x-api-key: sk-...'.",
        )
    }

    /// 401: a credential that names nobody, is malformed, sent twice or contradicts another.
    pub fn invalid_key() -> Self {
        Self::new(401, INVALID, "invalid_api_key", "Invalid API key provided.")
    }

    /// 401: a key that was good until it was revoked.
    pub fn revoked_key() -> Self {
        Self::new(401, INVALID, "invalid_api_key", "This API key has been revoked.")
    }

    /// 401: a key, or a secret that was rotated away, past its end.
    pub fn expired_key() -> Self {
        Self::new(401, INVALID, "invalid_api_key", "This API key has expired.")
    }

    /// 403: the endpoint exists, this key may not call it.
    pub fn endpoint_not_allowed(endpoint: &str) -> Self {
        Self::new(
            403,
            INVALID,
            "endpoint_not_allowed",
            format!("Your API key does not have access to the endpoint '{endpoint}'."),
        )
    }

    /// 403: this key may not be used from where the request came.
    pub fn network_not_allowed() -> Self {
        Self::new(403, INVALID, "network_not_allowed", "Your API key may not be used from this network.")
    }

    /// 403: the key's tier is not, or no longer, one of the routes.
    pub fn tier_not_served() -> Self {
        Self::new(403, INVALID, "tier_not_served", "Your API key belongs to a tier that is not served here.")
    }

    /// 503: whether the key is good cannot be found out now.
    pub fn keys_unavailable(retry_after: Duration) -> Self {
        let message = "Your API key cannot be checked at the moment. Please retry shortly.";
        let mut error = Self::new(503, "server_error", "keys_unavailable", message);
        error.retry_after = Some(retry_after);
        error
    }

    /// 503: what the client wants is in the store, which does not answer.
    pub fn store_unavailable(retry_after: Duration) -> Self {
        let message = "This cannot be answered at the moment. Please retry shortly.";
        let mut error = Self::new(503, "server_error", "store_unavailable", message);
        error.retry_after = Some(retry_after);
        error
    }

    /// 429: too many applications for keys.
    pub fn too_many_applications(retry_after: Duration) -> Self {
        let message = "Too many applications were sent. Please try again later.";
        let mut error = Self::new(429, "requests", "rate_limit_exceeded", message);
        error.retry_after = Some(retry_after);
        error
    }

    /// 403: the model exists, this key may not call it.
    pub fn model_not_allowed(model: &str) -> Self {
        Self::new(
            403,
            INVALID,
            "model_not_allowed",
            format!("Your API key does not have access to the model '{}'.", shown(model)),
        )
        .param("model")
    }

    /// 404: no such model.
    pub fn unknown_model(model: &str) -> Self {
        Self::new(
            404,
            INVALID,
            "model_not_found",
            format!("The model '{}' does not exist. List the models you can call with GET /v1/models.", shown(model)),
        )
        .param("model")
    }

    /// 404: the model exists, but none of its providers serves this endpoint.
    pub fn endpoint_not_served(model: &str, endpoint: &str) -> Self {
        Self::new(
            404,
            INVALID,
            "endpoint_not_supported",
            format!("The model '{}' is not served on {endpoint}.", shown(model)),
        )
        .param("model")
    }

    /// 404: no such path.
    pub fn unknown_path() -> Self {
        Self::new(
            404,
            INVALID,
            "unknown_url",
            "Unknown request URL. See the API reference for the endpoints served here.",
        )
    }

    /// 405: the path exists, the method does not.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(405, INVALID, "method_not_allowed", format!("This endpoint takes {allow} only."))
        }
    }

    /// 400: a body or header that breaks its grammar; `message` says what and where.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, INVALID, "invalid_request", message)
    }

    /// 400: a body that is not the JSON it must be; `message` says what and where.
    pub fn invalid_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, INVALID, "invalid_json", message)
    }

    /// 400: a body that is not the multipart form it must be; `message` says what and where.
    pub fn invalid_multipart(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, INVALID, "invalid_multipart", message)
    }

    /// 400: a field that is missing or has the wrong type or value.
    pub fn bad_field(param: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, INVALID, "invalid_value", message).param(param)
    }

    /// 413: over the endpoint's body limit.
    pub fn body_too_large(bytes_max: u64) -> Self {
        Self::new(413, INVALID, "request_too_large", format!("The request body is larger than {bytes_max} bytes."))
    }

    /// 413: a file over what one may have.
    pub fn file_too_large(bytes_max: u64) -> Self {
        Self::new(413, INVALID, "file_too_large", format!("The file is larger than {bytes_max} bytes.")).param("file")
    }

    /// 415: a media type or content coding the endpoint does not read.
    pub fn unsupported_media(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(415, INVALID, "unsupported_media_type", message)
    }

    /// 408: the client stopped sending its body.
    pub fn body_timeout() -> Self {
        Self::new(408, INVALID, "request_timeout", "The request body did not arrive in time.")
    }

    /// 408: the client did not finish its request's header.
    pub fn head_timeout() -> Self {
        Self::new(408, INVALID, "request_timeout", "The request's header did not arrive in time.")
    }

    /// 414: a path and query over the limit.
    pub fn target_too_long(bytes_max: u64) -> Self {
        Self::new(414, INVALID, "target_too_long", format!("The request target is longer than {bytes_max} bytes."))
    }

    /// 431: header fields over a limit; `message` says which.
    pub fn head_too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(431, INVALID, "headers_too_large", message)
    }

    /// 426: a realtime request that asks for no WebSocket.
    pub fn upgrade_required() -> Self {
        Self::new(426, INVALID, "upgrade_required", "This endpoint speaks WebSocket; send an upgrade request.")
    }

    /// 503: a bound of ours is reached; nothing was sent anywhere.
    pub fn overloaded(retry_after: Duration) -> Self {
        let mut error = Self::new(503, "server_error", "overloaded", "The gateway is busy. Please retry shortly.");
        error.retry_after = Some(retry_after);
        error
    }

    /// 404: no such object that the caller may see; `message` names its kind and id.
    pub fn no_such_object(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(404, INVALID, "not_found", message)
    }

    /// 403: the key's or its tier's share of storage is used up; `message` says which bound.
    pub fn storage_quota(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(403, INVALID, "storage_quota_exceeded", message)
    }

    /// 403: the caller sees the object, and may not change it.
    pub fn not_the_owner() -> Self {
        Self::new(403, INVALID, "not_the_owner", "The file belongs to another API key of your team.")
    }

    /// 507: no space is left where files are kept. RFC 4918 section 11.5.
    pub fn storage_full() -> Self {
        Self::new(507, "server_error", "storage_full", "The gateway has no space left for files.")
    }

    /// 503: files cannot be read or written now; the log line says why.
    pub fn storage_unavailable() -> Self {
        let message = "The gateway's file storage is unavailable. Please retry shortly.";
        let mut error = Self::new(503, "server_error", "storage_unavailable", message);
        error.retry_after = Some(Duration::from_secs(5));
        error
    }

    /// 429: every provider that could answer says it is at its limit.
    pub fn upstream_rate_limited(retry_after: Option<Duration>) -> Self {
        let mut error = Self::new(
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            "The model is at its rate limit. Please retry later.",
        );
        error.retry_after = retry_after;
        error.provider()
    }

    /// 429: a limit of the caller's, of what `kind` counts (OpenAI's `requests` or `tokens`). After `wait` the same
    /// request is let through.
    pub fn rate_limited(kind: &'static str, message: String, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(429, kind, "rate_limit_exceeded", message) }
    }

    /// 429: a budget or a month's quota of the caller's is used up; `wait` is until it is renewed.
    pub fn quota_exceeded(message: String, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(429, "insufficient_quota", "insufficient_quota", message) }
    }

    /// 500: every attempt failed.
    pub fn upstream_error() -> Self {
        Self::new(500, "server_error", "upstream_error", "The upstream provider failed to answer. Please retry.")
            .provider()
    }

    /// 500: the provider did not answer in time.
    pub fn upstream_timeout() -> Self {
        Self::new(
            500,
            "server_error",
            "upstream_timeout",
            "The upstream provider did not answer in time. Please retry.",
        )
        .provider()
    }

    /// A provider's refusal of the request itself (400, 404, 413, 422), in the client's shape.
    /// `message` is the provider's own, already stripped of anything that is not the client's business.
    pub fn upstream_refusal(status: u16, message: Option<String>) -> Self {
        let message = message.map_or(Cow::Borrowed("The upstream provider refused the request."), Cow::Owned);
        Self::new(status, INVALID, "upstream_refusal", message).provider()
    }

    /// 500: a fault of Forge; the log line says which.
    pub fn internal() -> Self {
        Self::new(500, "server_error", "internal_error", "The gateway failed to handle the request.")
    }

    /// The JSON body in `dialect`'s shape. `request_id` is shown where the dialect has a place for it.
    pub fn body(&self, dialect: Dialect, request_id: &str) -> String {
        match dialect {
            Dialect::OpenAi => json!({"error": {
                "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
            }})
            .to_string(),
            Dialect::Anthropic => json!({
                "type": "error",
                "error": {"type": self.anthropic_kind(), "message": self.message},
                "request_id": request_id,
            })
            .to_string(),
        }
    }

    /// Anthropic's `error.type` for this status. <https://docs.anthropic.com/en/api/errors>
    fn anthropic_kind(&self) -> &'static str {
        match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            408 | 504 => "timeout_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 | 529 => "overloaded_error",
            status if status >= 500 => "api_error",
            _ => "invalid_request_error",
        }
    }
}

/// Client-sent text fit to be shown back: bounded, without control characters.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut out: String = text.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect();
    if text.chars().count() > CHARS_MAX {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_follow_the_dialect() {
        let error = ApiError::invalid_key();
        let openai: serde_json::Value = serde_json::from_str(&error.body(Dialect::OpenAi, "req_1")).unwrap();
        assert_eq!(openai["error"]["code"], "invalid_api_key");
        assert_eq!(openai["error"]["message"], "Invalid API key provided.");
        let anthropic: serde_json::Value = serde_json::from_str(&error.body(Dialect::Anthropic, "req_1")).unwrap();
        assert_eq!(anthropic["type"], "error");
        assert_eq!(anthropic["error"]["type"], "authentication_error");
        assert_eq!(anthropic["request_id"], "req_1");
    }

    #[test]
    fn client_text_shown_back_is_bounded_and_clean() {
        let name = format!("a\r\n{}", "b".repeat(500));
        let message = ApiError::unknown_model(&name).message;
        assert!(message.len() < 200 && !message.contains('\n'), "{message}");
    }
}
