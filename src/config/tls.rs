//! `tls:` of conf/forge.yaml: TLS towards clients; and the files it names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::amount;
use super::place::Place;
use super::secret::{FilesRead, read_regular, sha256};

/// TLS towards clients.
#[derive(Debug, Clone)]
pub struct TlsConf {
    /// `tls.listen`: where clients connect with TLS (HTTP/1.1 and HTTP/2 by ALPN).
    pub listen: Vec<SocketAddr>,
    /// `tls.certificate`: PEM, the server's certificate first, then the intermediate ones.
    pub certificate: PathBuf,
    /// `tls.key`: PEM, PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
    /// `tls.client_ca`: PEM, the authorities that clients' certificates must come from. Default: none is asked for.
    pub client_ca: Option<PathBuf>,
    /// `tls.client_certificates`. Default: required. Only with `tls.client_ca`.
    pub client_certificates: ClientCertificates,
    /// `tls.version_min`. Default 1.2.
    pub version_min: TlsVersion,
    /// `tls.handshake_timeout`: from accepting a connection to the end of its handshake. Default 10 s.
    pub handshake_timeout: Duration,
}

/// Whether a client needs a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// None, no connection.
    #[default]
    Required,
    /// One that is shown must be valid.
    Optional,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// What the files hold.
#[derive(Debug)]
pub struct TlsMaterial {
    /// The server's certificate, then the intermediate ones; at least one.
    pub chain: Vec<CertificateDer<'static>>,
    /// The server's key; whether it fits is not known yet.
    pub key: PrivateKeyDer<'static>,
    /// The clients' authorities; none where `tls.client_ca` is not set.
    pub client_ca: Vec<CertificateDer<'static>>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum TlsFault {
    #[error("{} cannot be read: {error}", .path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{} holds no certificate in PEM", .path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} is no PEM file of certificates: {error}", .path.display())]
    Certificates { path: PathBuf, error: pem::Error },
    // The error of the reader says nothing of the content.
    #[error("{} holds no private key in PEM: {error}", .path.display())]
    Key { path: PathBuf, error: pem::Error },
}

impl TlsConf {
    pub(super) fn read(tls: &Place<'_>) -> Option<Self> {
        let client_ca = tls.read("client_ca", path);
        let client_certificates = tls.get("client_certificates");
        if let (Some(place), None) = (&client_certificates, &client_ca) {
            place.fault("without 'client_ca' no client is asked for a certificate");
        }
        let listen = tls.get("listen")?;
        if listen.items().is_empty() {
            listen.fault("an empty list: leave 'tls' out instead");
        }
        Some(Self {
            listen: listen.items().iter().filter_map(|item| item.text()?.parse().ok()).collect(),
            certificate: tls.read("certificate", path)?,
            key: tls.read("key", path)?,
            client_ca,
            client_certificates: tls.read("client_certificates", client_mode).unwrap_or_default(),
            version_min: tls.read("version_min", version).unwrap_or_default(),
            handshake_timeout: tls.read("handshake_timeout", amount::duration).unwrap_or(Duration::from_secs(10)),
        })
    }

    /// Reads the files; the second value says what was read, also where a file cannot be used. Blocks.
    pub fn read_files(&self) -> (Result<TlsMaterial, TlsFault>, FilesRead) {
        let mut files = FilesRead::new();
        let mut read = |path: &PathBuf| {
            let result = read_regular(path);
            files.insert(path.clone(), result.as_deref().ok().map(sha256));
            result.map_err(|error| TlsFault::Unreadable { path: path.clone(), error })
        };
        let (chain, key) = (read(&self.certificate), read(&self.key));
        let client_ca = self.client_ca.as_ref().map(&mut read);
        (self.material((chain, key), client_ca), files)
    }

    fn material(
        &self,
        (chain, key): (Result<Vec<u8>, TlsFault>, Result<Vec<u8>, TlsFault>),
        client_ca: Option<Result<Vec<u8>, TlsFault>>,
    ) -> Result<TlsMaterial, TlsFault> {
        let client_ca = match (&self.client_ca, client_ca) {
            (Some(path), Some(pem)) => certificates(path, &pem?)?,
            (None, _) | (_, None) => Vec::new(),
        };
        let key = PrivateKeyDer::from_pem_slice(&key?);
        Ok(TlsMaterial {
            chain: certificates(&self.certificate, &chain?)?,
            key: key.map_err(|error| TlsFault::Key { path: self.key.clone(), error })?,
            client_ca,
        })
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(none) if none.is_empty() => Err(TlsFault::NoCertificate { path: path.to_owned() }),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(TlsFault::Certificates { path: path.to_owned(), error }),
    }
}

fn path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text))
}

fn client_mode(text: &str) -> Option<ClientCertificates> {
    match text {
        "required" => Some(ClientCertificates::Required),
        "optional" => Some(ClientCertificates::Optional),
        _ => None,
    }
}

fn version(text: &str) -> Option<TlsVersion> {
    match text {
        "1.2" => Some(TlsVersion::V1_2),
        "1.3" => Some(TlsVersion::V1_3),
        _ => None,
    }
}
