//! TLS towards clients: handshakes that failed, and the certificate in force.

use prometheus::{IntCounter, IntGauge};

use super::METRICS;
use super::maker::Maker;

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The client left, spoke something else, or showed no certificate that is accepted.
    Refused,
    /// It took too long.
    Timeout,
}

/// What became of a try to load the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateLoad {
    /// It is in force, until this many seconds since 1970.
    Loaded {
        /// Its end.
        not_after_unix: i64,
    },
    /// The one before stays in force.
    Rejected,
}

/// Counts a handshake that failed.
pub fn handshake_failed(why: HandshakeFailure) {
    match why {
        HandshakeFailure::Refused => METRICS.tls.refused.inc(),
        HandshakeFailure::Timeout => METRICS.tls.timeout.inc(),
    }
}

/// Counts a try to load the certificate.
pub fn certificate(load: CertificateLoad) {
    match load {
        CertificateLoad::Loaded { not_after_unix } => {
            METRICS.tls.loaded.inc();
            METRICS.tls.not_after.set(not_after_unix);
        }
        CertificateLoad::Rejected => METRICS.tls.rejected.inc(),
    }
}

pub(super) struct TlsMetrics {
    refused: IntCounter,
    timeout: IntCounter,
    loaded: IntCounter,
    rejected: IntCounter,
    not_after: IntGauge,
}

impl TlsMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        let failures = make.counters(
            "forge_tls_handshake_failures_total",
            "TLS handshakes of clients that failed; refused: also clients that just left.",
            &["reason"],
        );
        let loads = make.counters(
            "forge_tls_certificate_loads_total",
            "Loads of the TLS certificate, the first included.",
            &["result"],
        );
        Self {
            refused: failures.with_label_values(&["refused"]),
            timeout: failures.with_label_values(&["timeout"]),
            loaded: loads.with_label_values(&["loaded"]),
            rejected: loads.with_label_values(&["rejected"]),
            not_after: make.gauge(
                "forge_tls_certificate_not_after_timestamp_seconds",
                "Until when the TLS certificate in force is valid; 0: there is none.",
            ),
        }
    }
}
