//! The edge: what stands between the network and the engine's HTTP parser.
//!
//! Owns the bounds on connections, the strict reading of HTTP/1 framing, and the answers to what fails there.
//! Knows nothing of keys, models or providers. The engine's parser forgives what another server may read
//! differently (ARCHITECTURE.md lists each case); here such a request is refused before the engine sees it, and
//! nothing of it, or of what follows it on the connection, reaches a provider.
//!
//! HTTP/2 passes as it is, since its framing leaves no room for two readings; what its heads may say is checked
//! once they are decoded ([`check_decoded`]).

pub mod chunked;
mod connections;
mod decoded;
mod fault;
mod grammar;
mod guard;
pub mod head;
mod link;
mod refusal;
mod resets;
mod tls;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

pub use connections::{ConnectionLimits, raise_descriptor_limit};
pub use decoded::check_decoded;
pub use fault::Fault;
pub use tls::{Certificate, Tls, TlsError};

use crate::config::ClientConf;
use crate::error::ApiError;
use crate::metrics;
use connections::Connections;
use guard::{Guard, Home};
use head::HeadLimits;
use link::{Ending, Link, LinkLimits};
use refusal::Refused;
use tls::TlsDoor;

/// RFC 9113 section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a client that found no place is asked to wait.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many clients that found no place are told so at a time; the others are just closed.
const TOLD_MAX: usize = 64;

/// Stands between the listeners and the engine: checks what comes, and hands it to the engine's HTTP application.
pub struct Edge {
    connections: Arc<Connections>,
    limits: Arc<LinkLimits>,
    tellers: Semaphore,
    tls: Option<TlsDoor>,
    /// Whether clients on idle connections are waited for once accepting has stopped.
    patient: watch::Receiver<bool>,
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

impl Edge {
    /// Holds clients to `conf` and `connections`.
    pub fn new(conf: &ClientConf, connections: ConnectionLimits) -> Self {
        let limits = LinkLimits {
            head: HeadLimits::of(conf),
            header_timeout: conf.header_timeout,
            keepalive: conf.keepalive,
            write_stall: conf.write_stall,
            h2_resets_max: conf.h2_resets_max,
        };
        Self {
            connections: Connections::new(connections),
            limits: Arc::new(limits),
            tellers: Semaphore::new(TOLD_MAX),
            tls: None,
            patient: watch::Sender::new(false).subscribe(),
        }
    }

    /// Once accepting has stopped, and while `patient` is true, idle connections are not closed but waited for
    /// for a while ([`idle_patience`]).
    #[must_use]
    pub fn with_patience(mut self, patient: watch::Receiver<bool>) -> Self {
        self.patient = patient;
        self
    }

    /// Speaks TLS on the listeners at `addresses`, whose ports are known; the other ones stay plain.
    #[must_use]
    pub fn with_tls(mut self, tls: Arc<Tls>, addresses: Vec<SocketAddr>) -> Self {
        self.tls = Some(TlsDoor::new(tls, addresses));
        self
    }

    /// Serves one connection by `engine` until it closes. Its handshake counts as a connection, too.
    pub async fn serve<A: Engine>(&self, engine: &Arc<A>, io: Stream, shutdown: &ShutdownWatch) {
        let client_ip = client_ip(&io);
        let tls = self.tls.as_ref().and_then(|door| door.of(&io));
        let permit = self.connections.admit(client_ip);
        let io = match (tls, &permit) {
            (None, Some(_)) => io,
            (None, None) => return self.turn_away(Link::new(io, Arc::clone(&self.limits)), client_ip).await,
            (Some(tls), Some(_)) => match tls.handshake(io).await {
                Some(io) => io,
                None => return,
            },
            // To say so would cost a handshake.
            (Some(_), None) => return metrics::connection_refused(),
        };
        self.serve_admitted(engine, io, (client_ip, shutdown)).await;
    }

    async fn serve_admitted<A: Engine>(
        &self,
        engine: &Arc<A>,
        io: Stream,
        (client_ip, shutdown): (Option<IpAddr>, &ShutdownWatch),
    ) {
        let (alpn, secure) = (io.selected_alpn_proto(), io.get_ssl_digest().is_some());
        let mut link = Link::new(io, Arc::clone(&self.limits));
        let spoken = tokio::select! {
            protocol = protocol(&mut link) => protocol,
            () = self.closing(shutdown) => None,
        };
        match (spoken, secure, alpn) {
            (None, _, _) => {}
            (Some(Protocol::Http2), false, _) | (Some(Protocol::Http2), true, Some(ALPN::H2)) => {
                link.open_http2();
                let guard = Guard::new(link, &Home::default(), Protocol::Http2);
                ServerApp::process_new(engine, Box::new(guard), shutdown).await;
            }
            // HTTP/1 was not what ALPN agreed on: RFC 7301 section 3.2.
            (Some(Protocol::Http1), true, Some(ALPN::H2)) => {}
            // As HTTP/1, what HTTP/2 begins with is refused.
            (Some(Protocol::Http1 | Protocol::Http2), _, _) => {
                let mut left = self.serve_http1(engine, link, shutdown).await;
                // A draining engine lets connections go on which nothing has come, or not a whole head yet.
                while let Some(mut link) = left.take() {
                    if *shutdown.borrow() && link.awaits_request() && self.sends_more(&mut link, shutdown).await {
                        left = self.serve_http1(engine, link, shutdown).await;
                    } else {
                        self.part(&mut link, client_ip).await;
                    }
                }
            }
        }
    }

    /// Request after request, as the engine's own loop does it, but each begins only after the one before. Returns
    /// the connection that is left.
    async fn serve_http1<A: Engine>(&self, engine: &Arc<A>, link: Link, shutdown: &ShutdownWatch) -> Option<Link> {
        let home = Home::default();
        let mut session = ServerSession::new_http1(Box::new(Guard::new(link, &home, Protocol::Http1)));
        let keepalive = whole_seconds(self.limits.keepalive);
        session.set_keepalive((!*shutdown.borrow()).then_some(keepalive));
        while let Some(kept) = engine.process_new_http(session, shutdown).await {
            let (stream, settings) = kept.consume();
            let Some(stream) = Guard::next_request(stream) else { break };
            session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            // What the engine carries over is "for ever".
            session.set_keepalive(Some(keepalive));
        }
        home.lock().take()
    }

    /// Waits for more from a client of a draining process, where there is patience for it. Its next answer tells it
    /// to close.
    async fn sends_more(&self, link: &mut Link, shutdown: &ShutdownWatch) -> bool {
        tokio::select! {
            biased;
            () = self.closing(shutdown) => false,
            read = poll_fn(|cx| link.poll_fill(cx)) => read.is_ok_and(|count| count > 0),
        }
    }

    /// The last word to a client that the engine is done with.
    async fn part(&self, link: &mut Link, client_ip: Option<IpAddr>) {
        match link.ending() {
            Ending::Refused(fault, path) => {
                let path = path.as_deref().unwrap_or_default();
                let error = fault.answer(&self.limits.head, path);
                refusal::refuse(link, &error, Refused { path, client_ip }).await;
            }
            Ending::Unread => refusal::linger(link).await,
            Ending::Clean => {}
        }
    }

    /// Waits until idle connections are to be closed: when the process drains, or some time later.
    async fn closing(&self, shutdown: &ShutdownWatch) {
        true_of(shutdown.clone()).await;
        let mut patient = self.patient.clone();
        tokio::select! {
            biased;
            _ = patient.wait_for(|patient| !*patient) => {}
            () = sleep(idle_patience(self.limits.keepalive)) => {}
        }
    }

    /// Tells a client that there is no place for its connection.
    async fn turn_away(&self, mut link: Link, client_ip: Option<IpAddr>) {
        metrics::connection_refused();
        let Ok(_teller) = self.tellers.try_acquire() else { return };
        let error = ApiError::overloaded(FULL_RETRY_AFTER);
        refusal::refuse(&mut link, &error, Refused { path: "", client_ip }).await;
    }
}

/// What serves the requests that the edge lets through. Of HTTP/2 it is given the connection, whose
/// `selected_alpn_proto` says so even without TLS.
pub trait Engine: HttpServerApp + Send + Sync + 'static {}

impl<A: HttpServerApp + Send + Sync + 'static> Engine for A {}

/// How long idle connections are waited for where there is patience: who asks often will have asked by then.
pub fn idle_patience(keepalive: Duration) -> Duration {
    const MAX: Duration = Duration::from_secs(10);
    keepalive.min(MAX)
}

/// The engine's HTTP/2 options: its bounded defaults, and ours.
pub fn http2_options(conf: &ClientConf) -> H2Options {
    let bounded = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let mut options = default_h2_options();
    options.max_concurrent_streams(bounded(conf.h2_streams_max));
    options.max_header_list_size(bounded(conf.header_bytes_max));
    options
}

/// Reads until it is clear what the client speaks. `None`: it left, or stayed silent for too long.
async fn protocol(link: &mut Link) -> Option<Protocol> {
    let mut limit = link.limits().keepalive;
    loop {
        let read = timeout(limit, poll_fn(|cx| link.poll_fill(cx))).await;
        let read = read.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        let held = link.held();
        match read {
            _ if held.starts_with(HTTP2_PREFACE) => return Some(Protocol::Http2),
            Ok(1..) if HTTP2_PREFACE.starts_with(held) => limit = link.limits().header_timeout,
            _ if held.is_empty() => return None,
            // Also the beginning of a preface that does not go on; as HTTP/1 it is refused.
            _ => return Some(Protocol::Http1),
        }
    }
}

/// Waits until `state` is true, or can no longer become so.
async fn true_of(mut state: watch::Receiver<bool>) {
    let _ = state.wait_for(|state| *state).await;
}

fn client_ip(io: &Stream) -> Option<IpAddr> {
    io.get_socket_digest()?.peer_addr()?.as_inet().map(|address| address.ip())
}

/// The engine takes whole seconds, and 0 for ever.
fn whole_seconds(limit: Duration) -> u64 {
    limit.as_secs().max(1)
}

#[cfg(test)]
mod tests;
