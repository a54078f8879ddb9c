//! From an attempt to the engine's peer: address, TLS, protocol, timeouts.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pingora_core::upstreams::peer::{ALPN, HttpPeer, PeerOptions, Scheme};
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};

use super::connector;
use crate::config::{HttpVersions, Origin, Provider, Timeouts};

/// Concurrent requests on one HTTP/2 connection. RFC 9113 section 6.5.2 recommends at least 100.
const H2_STREAMS_MAX: usize = 100;
/// How often an HTTP/2 connection is asked whether it is alive.
const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// The longest wait for the upstream to take more of a body.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a connection is for: HTTP, or HTTP/1.1 that turns into a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Whichever version the provider is configured for.
    Http,
    /// HTTP/1.1 only.
    WebSocket,
}

/// All that a peer is made of.
pub struct Route<'a> {
    /// Who.
    pub provider: &'a Provider,
    /// Where.
    pub origin: &'a Origin,
    /// The origin's address.
    pub address: SocketAddr,
    /// The model's limits.
    pub timeouts: Timeouts,
    /// What for.
    pub wire: Wire,
    /// The snapshot's generation: certificates are those of its load.
    pub generation: u64,
}

/// A provider's certificates as the engine wants them, parsed once per load.
#[derive(Clone)]
struct Certificates {
    generation: u64,
    ca: Option<Arc<[WrappedX509]>>,
    client: Option<Arc<CertKey>>,
}

/// Makes peers.
pub struct Peers {
    idle: Duration,
    certificates: Mutex<HashMap<String, Certificates>>,
}

impl Peers {
    /// Idle connections are kept for `idle`.
    pub fn new(idle: Duration) -> Self {
        Self { idle, certificates: Mutex::default() }
    }

    /// The engine's peer for `route`. Verification is on, whatever the route says.
    pub fn peer(&self, route: &Route<'_>) -> HttpPeer {
        let (provider, origin) = (route.provider, route.origin);
        let sni = provider.tls.server_name.as_ref().unwrap_or(&origin.host);
        let alpn = alpn(route);
        let mut options = PeerOptions::new();
        options.connection_timeout = Some(route.timeouts.connect);
        options.total_connection_timeout = Some(route.timeouts.connect);
        // The watch of the body knows the finer limits; this one is the last resort, and must not come first.
        options.read_timeout = Some(route.timeouts.first_byte.max(route.timeouts.idle) + Duration::from_secs(1));
        options.write_timeout = Some(WRITE_TIMEOUT);
        options.idle_timeout = Some(self.idle);
        options.max_h2_streams = H2_STREAMS_MAX;
        options.h2_ping_interval = Some(H2_PING_INTERVAL);
        let mut peer = HttpPeer::new(route.address, origin.tls, if origin.tls { sni.clone() } else { String::new() });
        if peer.scheme == Scheme::HTTPS && (provider.tls.ca.is_some() || provider.tls.client.is_some()) {
            let certificates = self.certificates(provider, route.generation);
            options.ca = certificates.ca;
            peer.client_cert_key = certificates.client;
        }
        peer.group_key = group_key(route, &alpn);
        options.alpn = alpn;
        peer.options = options;
        peer
    }

    fn certificates(&self, provider: &Provider, generation: u64) -> Certificates {
        let mut known = self.certificates.lock();
        known.retain(|_, certificates| certificates.generation >= generation);
        let entry = known.entry(provider.name.clone()).or_insert_with(|| Certificates {
            generation,
            ca: provider
                .tls
                .ca
                .as_ref()
                .map(|ca| ca.iter().map(|der| WrappedX509::new(der.clone(), parse_x509)).collect()),
            client: provider
                .tls
                .client
                .as_ref()
                .map(|client| Arc::new(CertKey::new(client.chain.clone(), client.key.clone()))),
        });
        entry.clone()
    }
}

fn alpn(route: &Route<'_>) -> ALPN {
    match (route.wire, route.provider.http) {
        (Wire::WebSocket, _) => ALPN::H1,
        (Wire::Http, HttpVersions::Http2) => ALPN::H2,
        (Wire::Http, HttpVersions::Auto) if route.origin.tls => ALPN::H2H1,
        (Wire::Http, HttpVersions::Auto | HttpVersions::Http1) => connector::alpn(),
    }
}

/// Keeps connections apart that the engine's pool would take for the same: it looks at neither the trusted
/// certificates nor ALPN.
fn group_key(route: &Route<'_>, alpn: &ALPN) -> u64 {
    let mut hasher = DefaultHasher::new();
    route.provider.name.hash(&mut hasher);
    alpn.get_max_http_version().hash(&mut hasher);
    alpn.get_min_http_version().hash(&mut hasher);
    if route.provider.tls.ca.is_some() || route.provider.tls.client.is_some() {
        route.generation.hash(&mut hasher);
    }
    hasher.finish()
}
