//! The head of a provider's answer as the client gets it.

use http::header::{CONNECTION, CONTENT_LENGTH, RETRY_AFTER, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use super::request::HopByHop;
use super::rules::{self, Verdict};

/// Header fields that Forge adds to a provider's, at most; the engine adds some of its own.
const ADDED_MAX: usize = 8;

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
pub fn head(response: &mut ResponseHeader, request_id: &HeaderValue, body: Body) {
    let hop_by_hop = HopByHop::of(&response.headers);
    let mut headers = HeaderMap::with_capacity(response.headers.len() + ADDED_MAX);
    for (name, value) in &response.headers {
        if passes(response, name, body) && (*name == CONTENT_LENGTH || !hop_by_hop.has(name)) {
            headers.append(name, value.clone());
        }
    }
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        headers.append(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.append(UPGRADE, HeaderValue::from_static("websocket"));
    }
    headers.append(X_REQUEST_ID, request_id.clone());
    headers.append(REQUEST_ID, request_id.clone());
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (response.status, response.version, headers);
    *response = ResponseHeader::from(parts);
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
