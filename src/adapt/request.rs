//! The head of the request to a provider: built from what may pass, never edited from what came.
//!
//! What passes is said by [`super::rules`]; here is the order: method and target, `Host`, the client's
//! headers that pass, the WebSocket handshake, the provider's own headers, the request id, framing, and last
//! the provider's credential, so that nothing a client sends can stand in for any of these.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use memchr::memmem;
use pingora::http::RequestHeader;

use super::AdaptError;
use super::response::X_REQUEST_ID;
use super::rules::{self, Verdict};
use super::target::target;
use crate::config::{Auth, Origin, Provider, ProviderKey};
use crate::endpoint::Endpoint;

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
    let method = outgoing.endpoint.row().method;
    let credentials = Credentials::of(outgoing.headers);
    let target = target(outgoing, &credentials);
    let mut head = RequestHeader::build_no_case(method, target.as_bytes(), Some(outgoing.headers.len() + 8))
        .map_err(|_| AdaptError::InvalidTarget)?;
    head.set_version(outgoing.version);
    set(&mut head, &HOST, &outgoing.origin.authority)?;
    pass_client_headers(&mut head, outgoing.headers, &credentials)?;
    if outgoing.framing != Framing::None && !is_form(&head) {
        // What was read as JSON is to be read as JSON, whatever type the client's library put in.
        set(&mut head, &CONTENT_TYPE, &HeaderValue::from_static("application/json"))?;
    }
    if outgoing.upgrade == Upgrade::WebSocket {
        pass_websocket(&mut head, outgoing.headers)?;
    }
    for (name, value) in &outgoing.provider.headers {
        if !is_framing(name) {
            set(&mut head, name, value)?;
        }
    }
    set(&mut head, &X_REQUEST_ID, outgoing.request_id)?;
    frame(&mut head, outgoing)?;
    authorise(&mut head, outgoing)?;
    Ok(head)
}

/// The client's headers that [`rules::REQUEST`] lets pass, but for those named in `Connection` and those that
/// carry the client's credential under another name.
fn pass_client_headers(
    head: &mut RequestHeader,
    headers: &HeaderMap,
    credentials: &Credentials<'_>,
) -> Result<(), AdaptError> {
    for (name, value) in headers {
        let passes = rules::request_header(name.as_str()) == Verdict::Pass
            && !connection_names(headers).any(|named| named.eq_ignore_ascii_case(name.as_str()))
            && !is_credential(value)
            && !credentials.are_in(value.as_bytes());
        // A second media type would be a second reading of the body, so only the first, which was read, passes.
        if passes && !(*name == CONTENT_TYPE && head.headers.contains_key(name)) {
            append(head, name, value)?;
        }
    }
    Ok(())
}

fn is_form(head: &RequestHeader) -> bool {
    const FORM: &[u8] = b"multipart/form-data";
    let media = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    media.get(..FORM.len()).is_some_and(|media| media.eq_ignore_ascii_case(FORM))
}

/// The handshake of RFC 6455 section 4.1, without the credentials browsers put among the sub-protocols.
fn pass_websocket(head: &mut RequestHeader, headers: &HeaderMap) -> Result<(), AdaptError> {
    for name in [&SEC_WEBSOCKET_KEY, &SEC_WEBSOCKET_VERSION, &SEC_WEBSOCKET_EXTENSIONS] {
        for value in headers.get_all(name) {
            append(head, name, value)?;
        }
    }
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let kept: Vec<&str> = offered.flat_map(|value| value.split(',')).map(str::trim).filter(|p| may_offer(p)).collect();
    if !kept.is_empty() {
        let value = HeaderValue::from_str(&kept.join(", ")).map_err(|_| AdaptError::InvalidHeader("sub-protocol"))?;
        set(head, &SEC_WEBSOCKET_PROTOCOL, &value)?;
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

fn frame(head: &mut RequestHeader, outgoing: &Outgoing<'_>) -> Result<(), AdaptError> {
    match outgoing.framing {
        Framing::Length(bytes) => set(head, &CONTENT_LENGTH, &HeaderValue::from(bytes))?,
        Framing::Chunked if outgoing.version == Version::HTTP_2 => {}
        Framing::Chunked => set(head, &TRANSFER_ENCODING, &HeaderValue::from_static("chunked"))?,
        Framing::None => {}
    }
    match outgoing.upgrade {
        Upgrade::None => Ok(()),
        Upgrade::WebSocket => {
            set(head, &CONNECTION, &HeaderValue::from_static("Upgrade"))?;
            set(head, &UPGRADE, &HeaderValue::from_static("websocket"))
        }
    }
}

fn authorise(head: &mut RequestHeader, outgoing: &Outgoing<'_>) -> Result<(), AdaptError> {
    let Some(key) = outgoing.key else { return Ok(()) };
    match credential_header(outgoing.provider.auth) {
        Some(name) => set(head, &name, &key.header),
        None => Ok(()),
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

/// The header names that `Connection` makes hop-by-hop, as they came.
pub(super) fn connection_names(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|value| value.split(',')).map(str::trim)
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
        self.0.iter().flatten().any(|key| memmem::find(bytes, key).is_some())
    }
}

/// Whether a value is a credential, whoever's and under whatever name.
fn is_credential(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let schemes: [&[u8]; 3] = [b"bearer ", b"basic ", b"sk-"];
    schemes.iter().any(|scheme| bytes.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

fn set(head: &mut RequestHeader, name: &HeaderName, value: &HeaderValue) -> Result<(), AdaptError> {
    head.insert_header(name, value).map_err(|_| AdaptError::InvalidHeader("of the request"))
}

fn append(head: &mut RequestHeader, name: &HeaderName, value: &HeaderValue) -> Result<(), AdaptError> {
    head.append_header(name, value).map(|_| ()).map_err(|_| AdaptError::InvalidHeader("of the request"))
}
