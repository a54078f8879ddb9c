//! Answers that Forge gives itself: errors and lists, in the client's own dialect.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Version};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::call::Call;
use super::limit;
use crate::adapt::response::{REQUEST_ID, X_REQUEST_ID};
use crate::error::ApiError;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// How long a client may go on sending a body that nobody wants, so that it gets to read the answer:
/// closing at once would reset the connection under the answer. The edge adds two seconds after its half-close.
const LINGER: Duration = Duration::from_secs(3);

/// Answers with `error`, unless an answer has begun. A client that is gone is no error.
pub async fn error(session: &mut Session, call: &mut Call, error: &ApiError) {
    call.failed(error);
    if answered(session) {
        return;
    }
    if chunked(session) {
        // What is left of the body is drained, and the edge may find its framing broken then: too late to say
        // that the connection ends.
        session.set_keepalive(None);
    }
    let body = error.body(call.dialect, call.request_id.to_str().unwrap_or_default());
    let head = head(call, error.status, body.len()).and_then(|mut head| {
        if let Some(wait) = error.retry_after {
            head.insert_header(RETRY_AFTER, whole_seconds(wait).to_string())?;
            // OpenAI's and Anthropic's SDKs read this one first.
            head.insert_header(RETRY_AFTER_MS, wait.as_millis().to_string())?;
        }
        if let Some(method) = error.allow {
            head.insert_header(ALLOW, method)?;
        }
        Ok(head)
    });
    send(session, call, (head, Bytes::from(body))).await;
}

/// Answers 200 with a JSON value.
pub async fn json(session: &mut Session, call: &mut Call, value: &serde_json::Value) {
    give(session, call, (200, value)).await;
}

/// Answers 202 with a JSON value.
pub async fn accepted(session: &mut Session, call: &mut Call, value: &serde_json::Value) {
    give(session, call, (202, value)).await;
}

async fn give(session: &mut Session, call: &mut Call, (status, value): (u16, &serde_json::Value)) {
    let body = Bytes::from(value.to_string());
    let head = head(call, status, body.len());
    send(session, call, (head, body)).await;
}

/// Whether the final head of an answer was written.
pub fn answered(session: &Session) -> bool {
    session.response_written().is_some_and(|head| !head.status.is_informational() || head.status == 101)
}

fn head(call: &Call, status: u16, length: usize) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(status, Some(8))?;
    head.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    head.insert_header(CONTENT_LENGTH, length)?;
    head.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    head.insert_header(X_REQUEST_ID, call.request_id.clone())?;
    head.insert_header(REQUEST_ID, call.request_id.clone())?;
    limit::tell(&mut head, call)?;
    Ok(head)
}

async fn send(session: &mut Session, call: &mut Call, (head, body): (pingora::Result<ResponseHeader>, Bytes)) {
    let head = match head {
        Ok(head) => head,
        Err(error) => {
            log::error!("an answer could not be built: {error}");
            return;
        }
    };
    let unread = !session.is_body_done();
    let waits = expects_continue(session);
    if unread && waits {
        // The client waits for a word before it sends the body; without one, the connection's next bytes
        // could be that body or another request.
        session.set_keepalive(None);
    }
    let length = body.len() as u64;
    let written = match session.write_response_header(Box::new(head), false).await {
        Ok(()) => session.write_response_body(Some(body), true).await,
        Err(error) => Err(error),
    };
    match written {
        Ok(()) => call.answered(length),
        Err(error) => {
            log::debug!("the client left before its answer: {error}");
            call.left();
            return;
        }
    }
    if unread && !waits {
        linger(session).await;
    }
}

/// Reads and drops what the client still sends, for a while.
async fn linger(session: &mut Session) {
    session.set_total_drain_timeout(Some(LINGER));
    if session.drain_request_body().await.is_err() {
        session.set_keepalive(None);
    }
}

/// Whether the request's body comes in chunks.
fn chunked(session: &Session) -> bool {
    session.req_header().headers.contains_key(TRANSFER_ENCODING)
}

/// Whether the client waits for `100 Continue` and has not had it. RFC 9110 section 10.1.1.
pub fn expects_continue(session: &Session) -> bool {
    let head = session.req_header();
    head.version == Version::HTTP_11
        && session.response_written().is_none()
        && head.headers.get(EXPECT).is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// `Retry-After` is in whole seconds; rounding up keeps it truthful.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::from_millis(2_100)), 3);
    }
}
