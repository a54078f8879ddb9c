//! A certificate authority for one test: leaves for servers and clients, written as PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, crypto::ring};

/// Signs the leaves of one test.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    /// Certificates from this authority's own up to, but without, the root's, in PEM.
    above: String,
}

/// A leaf and its key.
pub struct Leaf {
    certificate: Certificate,
    key_pair: KeyPair,
    above: String,
}

/// The versions of TLS that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    All,
    /// 1.2.
    Only12,
    /// 1.3.
    Only13,
}

/// Whom a TLS server lets in.
pub enum Clients<'a> {
    /// Anyone.
    Any,
    /// Holders of a certificate of this authority.
    Certified(&'a Authority),
}

impl Authority {
    /// A new authority with a fresh key.
    pub fn new() -> Self {
        let (params, key_pair) = (authority_params("test authority"), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key_pair).unwrap();
        Self { certificate, issuer: Issuer::new(params, key_pair), above: String::new() }
    }

    /// An authority below this one.
    pub fn intermediate(&self) -> Self {
        let (params, key_pair) = (authority_params("test intermediate"), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key_pair, &self.issuer).unwrap();
        let above = certificate.pem() + &self.above;
        Self { certificate, issuer: Issuer::new(params, key_pair), above }
    }

    /// A leaf for this name or address.
    pub fn leaf(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key_pair = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key_pair, &self.issuer).unwrap();
        Leaf { certificate, key_pair, above: self.above.clone() }
    }

    /// Clients that trust this authority, speak these versions of TLS and offer these protocols by ALPN.
    pub fn client(&self, shown: Option<&Leaf>, versions: Versions, alpn: &[&str]) -> ClientConfig {
        let versions: &[&SupportedProtocolVersion] = match versions {
            Versions::All => &[&TLS13, &TLS12],
            Versions::Only12 => &[&TLS12],
            Versions::Only13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(leaf) => builder.with_client_auth_cert(leaf.chain(), leaf.key()).unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// Writes the authority's certificate to `dir/name`.
    pub fn write_pem(&self, dir: &Path, name: &str) -> PathBuf {
        write(dir, name, &self.certificate.pem())
    }
}

impl Leaf {
    /// Writes the chain below the root and the key to `dir/name.crt` and `dir/name.key`.
    pub fn write_pem(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = write(dir, &format!("{name}.crt"), &(self.certificate.pem() + &self.above));
        (certificate, write(dir, &format!("{name}.key"), &self.key_pair.serialize_pem()))
    }

    /// A TLS server with this leaf that offers these protocols by ALPN.
    pub fn acceptor(&self, clients: Clients<'_>, alpn: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            Clients::Any => builder.with_no_client_auth(),
            Clients::Certified(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(self.chain(), self.key()).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// The certificate itself.
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let above = CertificateDer::pem_slice_iter(self.above.as_bytes()).map(Result::unwrap);
        std::iter::once(self.certificate.der().clone()).chain(above).collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key_pair.serialize_der()))
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
