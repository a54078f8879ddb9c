//! TLS towards clients: the handshake, and certificates that are replaced while connections are open.
//!
//! A connection keeps the certificate it began with; the next handshake uses what is in force then. Keys, the
//! clients' authorities and the resumption tickets change together, so nobody resumes a session that the new
//! files would not have let begin.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as Socket;
use rustls::crypto::ring;
use rustls::server::{ServerConfig, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, SupportedProtocolVersion};
use tokio::time::timeout;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{ClientCertificates, FilesRead, TlsConf, TlsFault, TlsMaterial, TlsVersion};
use crate::metrics::{self, HandshakeFailure};

/// RFC 7301 names, the preferred one first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS as it is offered to clients now.
pub struct Tls {
    conf: TlsConf,
    acceptor: ArcSwap<Acceptor>,
}

/// A certificate that was put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    /// Until when it is valid, in seconds since 1970.
    pub not_after_unix: i64,
}

/// Why files cannot be served from.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum TlsError {
    #[error("tls: {0}")]
    File(#[from] TlsFault),
    #[error("tls: the certificate is malformed")]
    Malformed,
    #[error("tls: certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
    #[error("tls: client_ca cannot be used: {0}")]
    ClientCa(#[from] VerifierBuilderError),
}

impl Tls {
    /// Reads the files that `conf` names. The last value says what was read. Blocks.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(conf: &TlsConf) -> (Result<(Self, Certificate), TlsError>, FilesRead) {
        let (material, files) = conf.read_files();
        let made = material.map_err(TlsError::from).and_then(|material| acceptor(conf, material));
        let made = made.map(|(acceptor, certificate)| {
            (Self { conf: conf.clone(), acceptor: ArcSwap::from_pointee(acceptor) }, certificate)
        });
        (made, files)
    }

    /// Reads the files again and puts them in force for handshakes to come; what cannot be used changes
    /// nothing. Blocks.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn reload(&self) -> (Result<Certificate, TlsError>, FilesRead) {
        let (loaded, files) = Self::load(&self.conf);
        let loaded = loaded.map(|(fresh, certificate)| {
            self.acceptor.store(fresh.acceptor.into_inner());
            certificate
        });
        (loaded, files)
    }

    /// Shakes hands within the time for it. `None`: that failed, and was counted; the connection is closed.
    pub(super) async fn handshake(&self, io: Stream) -> Option<Stream> {
        let socket = io.into_any().downcast::<Socket>().ok()?;
        let acceptor = self.acceptor.load_full();
        let failure = match timeout(self.conf.handshake_timeout, acceptor.tls_handshake(*socket)).await {
            Ok(Ok(stream)) => return Some(Box::new(stream)),
            Ok(Err(error)) => {
                log::debug!("a TLS handshake failed: {error}");
                HandshakeFailure::Refused
            }
            Err(_) => HandshakeFailure::Timeout,
        };
        metrics::handshake_failed(failure);
        None
    }
}

fn acceptor(conf: &TlsConf, material: TlsMaterial) -> Result<(Acceptor, Certificate), TlsError> {
    let leaf = material.chain.first().ok_or(TlsError::Malformed)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| TlsError::Malformed)?;
    let certificate = Certificate { not_after_unix: leaf.validity().not_after.timestamp() };
    let provider = Arc::new(ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = match conf.version_min {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
    let builder = if material.client_ca.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for authority in material.client_ca {
            roots.add(authority)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(match conf.client_certificates {
            ClientCertificates::Required => verifier.build()?,
            ClientCertificates::Optional => verifier.allow_unauthenticated().build()?,
        })
    };
    let mut config = builder.with_single_cert(material.chain, material.key)?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // Tickets hold a session with the client, so that none is held here.
    config.ticketer = ring::Ticketer::new()?;
    Ok((Acceptor::from_server_config(Arc::new(config)), certificate))
}

/// Which connections TLS is spoken on: the engine does not say where it accepted one.
pub(super) struct TlsDoor {
    tls: Arc<Tls>,
    addresses: Vec<SocketAddr>,
}

impl TlsDoor {
    /// TLS on these listeners, whose ports are known.
    pub(super) fn new(tls: Arc<Tls>, addresses: Vec<SocketAddr>) -> Self {
        Self { tls, addresses }
    }

    /// TLS, if `io` was accepted by a listener that speaks it.
    pub(super) fn of(&self, io: &Stream) -> Option<&Tls> {
        let local = *io.get_socket_digest()?.local_addr()?.as_inet()?;
        self.addresses.iter().any(|listener| accepts(*listener, local)).then_some(&*self.tls)
    }
}

/// Whether a connection to `local` came through `listener`. Two listeners on one port differ in their address.
fn accepts(listener: SocketAddr, local: SocketAddr) -> bool {
    let listens_on = listener.ip().to_canonical();
    listener.port() == local.port() && (listens_on.is_unspecified() || listens_on == local.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_belongs_to_the_listener_it_came_through() {
        let accepts = |listener: &str, local: &str| accepts(listener.parse().unwrap(), local.parse().unwrap());
        assert!(accepts("0.0.0.0:8443", "10.0.0.7:8443"));
        assert!(accepts("[::]:8443", "[::ffff:10.0.0.7]:8443"));
        assert!(accepts("127.0.0.1:8443", "127.0.0.1:8443"));
        assert!(!accepts("127.0.0.1:8443", "127.0.0.2:8443"));
        assert!(!accepts("0.0.0.0:8443", "127.0.0.1:8080"));
    }
}
