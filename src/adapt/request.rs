//! The head of the request to a provider: built from what may pass, never edited from what came.
//!
//! What passes is said by [`super::rules`]; here is the order: method and target, `Host`, the client's
//! headers that pass, the WebSocket handshake, the provider's own headers, the request id, framing, and last
//! the provider's credential, so that nothing a client sends can stand in for any of these.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use memchr::memmem;
use pingora::http::RequestHeader;

use super::AdaptError;
use super::response::X_REQUEST_ID;
use super::rules::{self, Verdict};
use super::target::target;
use crate::config::{Auth, Origin, Provider, ProviderKey};
use crate::endpoint::Endpoint;

/// Header fields that Forge adds to a client's, at most; a provider's own come on top.
const ADDED_MAX: usize = 8;

/// How the length of the body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`, in bytes, after the model's name was spliced.
    Length(u64),
    /// Chunked on HTTP/1.1; HTTP/2 frames by itself.
    Chunked,
    /// No body.
    None,
}

/// Whether the connection is to change its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// It stays HTTP.
    None,
    /// RFC 6455. Only `/v1/realtime` has it, only on HTTP/1.1.
    WebSocket,
}

/// All that a request head is made of.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// What was called: gives method and path.
    pub endpoint: Endpoint,
    /// The client's query without `?`, undecoded.
    pub query: Option<&'a str>,
    /// The client's headers, credentials and all.
    pub headers: &'a HeaderMap,
    /// Who is called.
    pub provider: &'a Provider,
    /// Where; one of the provider's.
    pub origin: &'a Origin,
    /// As whom; `None` for a provider that wants no credential.
    pub key: Option<&'a ProviderKey>,
    /// The upstream's name for the model: part of Azure's path and of realtime's query.
    pub model: &'a str,
    /// Sent as `x-request-id`.
    pub request_id: &'a HeaderValue,
    /// How the length of the body is told.
    pub framing: Framing,
    /// Whether to ask for a WebSocket.
    pub upgrade: Upgrade,
    /// Of the upstream connection. The engine has set it on the head it asks to have filtered, and ends the
    /// process' task when an HTTP/2 request says otherwise.
    pub version: Version,
}

/// Builds the head.
///
/// # Errors
/// [`AdaptError`] when configured path and client query make no valid request target.
pub fn head(outgoing: &Outgoing<'_>) -> Result<RequestHeader, AdaptError> {
    let credentials = Credentials::of(outgoing.headers);
    let target = target(outgoing, &credentials);
    let mut head = HeaderMap::with_capacity(outgoing.headers.len() + ADDED_MAX);
    set(&mut head, &HOST, &outgoing.origin.authority);
    pass_client_headers(&mut head, outgoing.headers, &credentials);
    if outgoing.framing != Framing::None && !is_form(&head) {
        // What was read as JSON is to be read as JSON, whatever type the client's library put in.
        head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if outgoing.upgrade == Upgrade::WebSocket {
        pass_websocket(&mut head, outgoing.headers)?;
    }
    for (name, value) in &outgoing.provider.headers {
        if !is_framing(name) {
            set(&mut head, name, value);
        }
    }
    set(&mut head, &X_REQUEST_ID, outgoing.request_id);
    frame(&mut head, outgoing);
    authorise(&mut head, outgoing);
    complete(head, outgoing, &target)
}

/// Puts the request line before the header fields. The engine's own way to add fields would keep a second map, of
/// how their names are written.
fn complete(headers: HeaderMap, outgoing: &Outgoing<'_>, target: &str) -> Result<RequestHeader, AdaptError> {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = match outgoing.endpoint.row().method {
        "GET" => Method::GET,
        _ => Method::POST,
    };
    (parts.headers, parts.version) = (headers, outgoing.version);
    let mut head = RequestHeader::from(parts);
    head.set_raw_path(target.as_bytes()).map_err(|_| AdaptError::InvalidTarget)?;
    Ok(head)
}

/// The client's headers that [`rules::REQUEST`] lets pass, but for those named in `Connection` and those that
/// carry the client's credential under another name.
fn pass_client_headers(head: &mut HeaderMap, headers: &HeaderMap, credentials: &Credentials<'_>) {
    let hop_by_hop = HopByHop::of(headers);
    for (name, value) in headers {
        let passes = rules::known_request_header(name) == Verdict::Pass
            && !hop_by_hop.has(name)
            && !is_credential(value)
            && !credentials.are_in(value.as_bytes());
        // A second media type would be a second reading of the body, so only the first, which was read, passes.
        if passes && !(*name == CONTENT_TYPE && head.contains_key(name)) {
            head.append(name, value.clone());
        }
    }
}

fn is_form(head: &HeaderMap) -> bool {
    const FORM: &[u8] = b"multipart/form-data";
    let media = head.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    media.get(..FORM.len()).is_some_and(|media| media.eq_ignore_ascii_case(FORM))
}

/// The handshake of RFC 6455 section 4.1, without the credentials browsers put among the sub-protocols.
fn pass_websocket(head: &mut HeaderMap, headers: &HeaderMap) -> Result<(), AdaptError> {
    for name in [&SEC_WEBSOCKET_KEY, &SEC_WEBSOCKET_VERSION, &SEC_WEBSOCKET_EXTENSIONS] {
        for value in headers.get_all(name) {
            head.append(name, value.clone());
        }
    }
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let kept: Vec<&str> = offered.flat_map(|value| value.split(',')).map(str::trim).filter(|p| may_offer(p)).collect();
    if !kept.is_empty() {
        let value = HeaderValue::from_str(&kept.join(", ")).map_err(|_| AdaptError::InvalidHeader("sub-protocol"))?;
        head.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok(())
}

/// Whether a sub-protocol is one, and not a credential or account dressed up as one.
/// <https://platform.openai.com/docs/guides/realtime-websocket>
fn may_offer(protocol: &str) -> bool {
    const DRESSED: [&str; 3] = ["openai-insecure-api-key.", "openai-organization.", "openai-project."];
    let lower = protocol.to_ascii_lowercase();
    !lower.is_empty() && !DRESSED.iter().any(|prefix| lower.starts_with(prefix))
}

fn frame(head: &mut HeaderMap, outgoing: &Outgoing<'_>) {
    match outgoing.framing {
        Framing::Length(bytes) => set(head, &CONTENT_LENGTH, &HeaderValue::from(bytes)),
        Framing::Chunked if outgoing.version == Version::HTTP_2 => {}
        Framing::Chunked => set(head, &TRANSFER_ENCODING, &HeaderValue::from_static("chunked")),
        Framing::None => {}
    }
    match outgoing.upgrade {
        Upgrade::None => {}
        Upgrade::WebSocket => {
            set(head, &CONNECTION, &HeaderValue::from_static("Upgrade"));
            set(head, &UPGRADE, &HeaderValue::from_static("websocket"));
        }
    }
}

fn authorise(head: &mut HeaderMap, outgoing: &Outgoing<'_>) {
    let Some(key) = outgoing.key else { return };
    if let Some(name) = credential_header(outgoing.provider.auth) {
        set(head, &name, &key.header);
    }
}

/// The header that carries a provider's credential.
pub fn credential_header(auth: Auth) -> Option<HeaderName> {
    match auth {
        Auth::Bearer => Some(AUTHORIZATION),
        Auth::XApiKey => Some(X_API_KEY),
        Auth::ApiKey => Some(API_KEY),
        Auth::None => None,
    }
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// What only Forge says, whatever `headers` of routes.yaml says.
fn is_framing(name: &HeaderName) -> bool {
    [&HOST, &CONTENT_LENGTH, &TRANSFER_ENCODING, &CONNECTION, &UPGRADE].contains(&name)
}

/// The header names that `Connection` makes hop-by-hop, as they came. RFC 9110 section 7.6.1.
pub(super) struct HopByHop<'a>(Option<&'a HeaderMap>);

impl<'a> HopByHop<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        Self(headers.contains_key(CONNECTION).then_some(headers))
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        let lines = self.0.into_iter().flat_map(|headers| headers.get_all(CONNECTION));
        let mut names = lines.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        names.any(|named| named.trim().eq_ignore_ascii_case(name.as_str()))
    }
}

/// The client's own credentials, so that nothing else carries them on.
pub(super) struct Credentials<'a>([Option<&'a [u8]>; 2]);

impl<'a> Credentials<'a> {
    /// Shorter ones are no secret and would be found everywhere.
    const BYTES_MIN: usize = 8;

    fn of(headers: &'a HeaderMap) -> Self {
        let value = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
        let bearer = value(&AUTHORIZATION).and_then(|line| line.split(|b| *b == b' ').next_back());
        let long = |key: Option<&'a [u8]>| key.filter(|key| key.len() >= Self::BYTES_MIN);
        Self([long(bearer), long(value(&X_API_KEY))])
    }

    pub(super) fn are_in(&self, bytes: &[u8]) -> bool {
        self.0.iter().flatten().any(|key| key.len() <= bytes.len() && memmem::find(bytes, key).is_some())
    }
}

/// Whether a value is a credential, whoever's and under whatever name.
fn is_credential(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let schemes: [&[u8]; 3] = [b"bearer ", b"basic ", b"sk-"];
    schemes.iter().any(|scheme| bytes.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

fn set(head: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    head.insert(name, value.clone());
}
