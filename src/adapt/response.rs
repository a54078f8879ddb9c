//! The head of a provider's answer as the client gets it.

use http::header::{CONNECTION, CONTENT_LENGTH, RETRY_AFTER, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use super::AdaptError;
use super::rules::{self, Verdict};

/// Whether Forge changes the body that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// The provider's bytes.
    AsSent,
    /// The model's name is spliced in, so the length is not known beforehand.
    Rewritten,
}

/// The name OpenAI's SDKs read the request id from.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The name Anthropic's SDKs read the request id from.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Makes of the provider's head what the client gets: what [`rules::RESPONSE`] lists and the request id,
/// under both of its names. `Retry-After` passes with 429 and 503 only, where it means something to the
/// client. What is hop-by-hop or named in `Connection` is not listed and so does not pass; framing is the
/// engine's: without `Content-Length` it chunks.
///
/// # Errors
/// The engine refuses a status outside 100..=999.
pub fn head(response: &mut ResponseHeader, request_id: &HeaderValue, body: Body) -> Result<(), AdaptError> {
    let mut clean = ResponseHeader::build_no_case(response.status, Some(response.headers.len() + 2))
        .map_err(|_| AdaptError::InvalidStatus)?;
    clean.set_version(response.version);
    for (name, value) in &response.headers {
        if passes(response, name, body) && !named_in_connection(response, name) {
            append(&mut clean, name, value)?;
        }
    }
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        append(&mut clean, &CONNECTION, &HeaderValue::from_static("Upgrade"))?;
        append(&mut clean, &UPGRADE, &HeaderValue::from_static("websocket"))?;
    }
    append(&mut clean, &X_REQUEST_ID, request_id)?;
    append(&mut clean, &REQUEST_ID, request_id)?;
    *response = clean;
    Ok(())
}

fn passes(response: &ResponseHeader, name: &HeaderName, body: Body) -> bool {
    let status = response.status;
    if *name == CONTENT_LENGTH {
        return body == Body::AsSent;
    }
    if *name == RETRY_AFTER {
        return matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS && rules::RESPONSE_WEBSOCKET.contains(&name.as_str()) {
        return true;
    }
    rules::response_header(name.as_str()) == Verdict::Pass
}

/// Whether a `Connection` line names this header, which makes it hop-by-hop. RFC 9110 section 7.6.1.
fn named_in_connection(response: &ResponseHeader, name: &HeaderName) -> bool {
    *name != CONTENT_LENGTH
        && super::request::connection_names(&response.headers).any(|named| named.eq_ignore_ascii_case(name.as_str()))
}

fn append(head: &mut ResponseHeader, name: &HeaderName, value: &HeaderValue) -> Result<(), AdaptError> {
    head.append_header(name, value).map(|_| ()).map_err(|_| AdaptError::InvalidHeader("of the response"))
}
