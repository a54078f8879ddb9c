//! The way to the service behind the data plane, which answers `/v1/files` over HTTP on a private socket.
//!
//! Owns the heads both ways: what reaches the service is who calls, as recognised here, and the few headers it reads;
//! a client's own headers of these names never do. Bodies pass as they come: nothing is kept, so nothing is sent
//! twice, and a service that is slow slows its client.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, IF_NONE_MATCH, IF_RANGE, RANGE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::Session;

use super::body::{Body, BodyLimits, Relayed, Watch};
use super::call::Call;
use super::request_head::announced_length;
use super::respond;
use crate::adapt::response::{REQUEST_ID, X_REQUEST_ID};
use crate::config::{Key, Timeouts};
use crate::error::ApiError;
use crate::internal::{CALLER, Caller};

/// What a form adds to the file it carries.
const FORM_BYTES_MAX: u64 = 64 << 10;
/// The whole exchange may be long, since a body may be; every wait in it may not. Five minutes are for a bucket that
/// puts a large file together.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(3),
    first_byte: Duration::from_secs(300),
    idle: Duration::from_secs(120),
    total: Duration::from_secs(24 * 3600),
};
/// The headers of a client that the service reads.
const READ: [HeaderName; 4] = [CONTENT_TYPE, RANGE, IF_NONE_MATCH, IF_RANGE];

/// Where the service is, and how large a body it takes.
pub struct Service {
    /// The socket's path.
    pub socket: String,
    /// `files.file_bytes_max`.
    pub file_bytes_max: u64,
}

/// A request on its way to the service.
pub struct Passage {
    /// Its time limits.
    pub watch: Arc<Watch>,
    /// The client's Content-Length.
    announced: Option<u64>,
}

impl Service {
    /// The most a request of this method may carry.
    fn body_bytes_max(&self, method: &http::Method) -> u64 {
        if method == http::Method::POST { self.file_bytes_max.saturating_add(FORM_BYTES_MAX) } else { 0 }
    }

    /// Lets a request pass whose caller is known; false when the client left.
    ///
    /// # Errors
    /// 413 or 415 by what the head announces, before a byte is read.
    pub async fn admit(
        &self,
        session: &mut Session,
        call: &mut Call,
        limits: &Arc<BodyLimits>,
    ) -> Result<bool, ApiError> {
        let bytes_max = self.body_bytes_max(&session.req_header().method);
        let announced = announced_length(&session.req_header().headers, bytes_max)?;
        if respond::expects_continue(session) && session.downstream_session.write_continue_response().await.is_err() {
            call.left();
            return Ok(false);
        }
        let watch = Arc::new(Watch::new(call.began, TIMEOUTS));
        let relayed = Relayed { bytes_max, announced };
        let mut body = Body::relay(&mut session.downstream_session, relayed, limits);
        body.wrap(&mut session.downstream_session, Arc::clone(&watch));
        call.body = Some(body);
        call.passage = Some(Passage { watch, announced });
        Ok(true)
    }

    /// The engine's peer.
    pub fn peer(&self) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new_uds(&self.socket, false, String::new())?;
        peer.options.connection_timeout = Some(TIMEOUTS.connect);
        // The watch of the body decides; this is the last resort.
        peer.options.read_timeout = Some(TIMEOUTS.first_byte + Duration::from_secs(1));
        peer.options.write_timeout = Some(TIMEOUTS.idle);
        Ok(Box::new(peer))
    }
}

/// The head for the service.
pub(super) fn request_head(session: &Session, call: &Call) -> Result<RequestHeader> {
    let client = session.req_header();
    let target = client.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut head = RequestHeader::build(client.method.clone(), target.as_bytes(), Some(8))?;
    head.set_version(Version::HTTP_11);
    head.insert_header(HOST, HeaderValue::from_static("jobs"))?;
    for name in READ {
        if let Some(value) = client.headers.get(&name) {
            head.insert_header(name, value.clone())?;
        }
    }
    head.insert_header(X_REQUEST_ID, call.request_id.clone())?;
    let caller = call.key.as_deref().and_then(|key| caller(key).header());
    head.insert_header(CALLER, caller.ok_or_else(|| Error::new_in(ErrorType::InternalError))?)?;
    let length = match (&call.body, &call.passage) {
        (Some(body), Some(passage)) => body.length(passage.announced),
        _ => Some(0),
    };
    match length {
        Some(length) => head.insert_header(CONTENT_LENGTH, length)?,
        None => head.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?,
    }
    Ok(head)
}

fn caller(key: &Key) -> Caller {
    let team = key.team.as_deref().map(str::to_owned);
    Caller { key: key.id.to_string(), tier: key.tier.name.clone(), team }
}

/// Makes of the service's head what the client gets: all of it, being ours, and the request id.
pub(super) fn response_head(head: &mut ResponseHeader, call: &Call) -> Result<()> {
    for name in hop_by_hop(&head.headers) {
        head.remove_header(&name);
    }
    head.insert_header(X_REQUEST_ID, call.request_id.clone())?;
    head.insert_header(REQUEST_ID, call.request_id.clone())
}

/// RFC 9110 section 7.6.1. Framing is the engine's.
fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = ["connection", "keep-alive"].map(HeaderName::from_static);
    names.into_iter().filter(|name| headers.contains_key(name)).collect()
}
