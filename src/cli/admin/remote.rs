//! A client of the admin API: one request, one answer, over the engine's own connections.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use pingora::http::RequestHeader;
use pingora_core::connectors::http::Connector;
use pingora_core::upstreams::peer::HttpPeer;
use serde_json::Value;

use crate::admin::api::{Content, Request};
use crate::admin::problem;
use crate::cli::Failure;

/// The longest wait for an answer.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A running gateway's admin API.
pub(super) struct Remote {
    authority: String,
    host: String,
    port: u16,
    tls: bool,
    token: String,
    connector: Connector,
}

/// An answer as it came.
struct Answered {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Remote {
    /// The API at `url`, e.g. `http://127.0.0.1:9090`.
    pub(super) fn new(url: &str, token: &str) -> Result<Self, Failure> {
        let wrong = || Failure::Usage(format!("'{url}' is no URL such as http://127.0.0.1:9090"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().filter(|_| matches!(uri.path(), "" | "/") && uri.query().is_none());
        let authority = authority.ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let (authority, token) = (authority.as_str().to_owned(), token.to_owned());
        Ok(Self { authority, host, port, tls, token, connector: Connector::new(None) })
    }

    /// Asks.
    pub(super) async fn ask(&self, request: Request) -> Result<Content, Failure> {
        let answered = tokio::time::timeout(WAIT_MAX, self.exchange(request)).await;
        let failed = |text: String| Failure::Fault(format!("{}: {text}", self.authority));
        let answered = answered
            .map_err(|_| failed(format!("no answer within {} s", WAIT_MAX.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        match (answered.status, answered.content_type.split(';').next().unwrap_or_default()) {
            (200..=299, "application/json") => {
                let read = serde_json::from_slice(&answered.body);
                read.map(Content::Json).map_err(|error| failed(format!("the answer is no JSON: {error}")))
            }
            (200..=299, "text/csv") => Ok(Content::Csv(String::from_utf8_lossy(&answered.body).into_owned())),
            (204, _) => Ok(Content::Nothing),
            (_, problem::CONTENT_TYPE) => {
                let problem: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
                Err(Failure::Fault(problem["detail"].as_str().unwrap_or("refused").to_owned()))
            }
            (status, _) => Err(failed(format!("this is no admin API of Forge: status {status}"))),
        }
    }

    async fn exchange(&self, request: Request) -> pingora::Result<Answered> {
        let peer = HttpPeer::new(self.address().await?, self.tls, self.host.clone());
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        session.write_request_header(Box::new(self.head(&request)?)).await?;
        session.write_request_body(Bytes::from(request.body), true).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let head = session.response_header();
        let status = head.map_or(0, |head| head.status.as_u16());
        let content_type = head.and_then(|head| head.headers.get(CONTENT_TYPE)?.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let mut body = Vec::new();
        while let Some(bytes) = session.read_response_body().await? {
            body.extend_from_slice(&bytes);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(pingora::Error::explain(pingora::ErrorType::InternalError, "the answer is too large"));
            }
        }
        Ok(Answered { status, content_type, body })
    }

    async fn address(&self) -> pingora::Result<SocketAddr> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await.ok().and_then(|mut all| all.next());
        found.ok_or_else(|| pingora::Error::explain(pingora::ErrorType::ConnectError, "no such host"))
    }

    fn head(&self, request: &Request) -> pingora::Result<RequestHeader> {
        let mut target = request.path.clone();
        if !request.query.is_empty() {
            target = format!("{target}?{}", request.query);
        }
        let mut head = RequestHeader::build(request.method.as_str(), target.as_bytes(), None)?;
        head.insert_header(HOST, &self.authority)?;
        head.insert_header(AUTHORIZATION, format!("Bearer {}", self.token))?;
        head.insert_header(CONTENT_LENGTH, request.body.len())?;
        if let Some(content_type) = &request.content_type {
            head.insert_header(CONTENT_TYPE, content_type)?;
        }
        if let Some(accept) = &request.accept {
            head.insert_header(ACCEPT, accept)?;
        }
        Ok(head)
    }
}
