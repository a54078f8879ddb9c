//! The certificate of the TLS listeners: loaded at start, watched from then on; what became of each try is told here.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::StartError;
use crate::config::{FileWatch, TlsConf};
use crate::edge::{Certificate, Tls, TlsError};
use crate::metrics::{self, CertificateLoad};

/// A certificate that is valid for less than this is worth a word.
const NEARLY_OVER: Duration = Duration::from_secs(14 * 24 * 3600);

/// TLS towards clients, and the watch that replaces its certificate.
pub(super) struct Certificates {
    tls: Arc<Tls>,
    watch: FileWatch,
}

impl Certificates {
    /// Reads the files that `conf` names and watches them.
    ///
    /// # Errors
    /// They cannot be used, or there is no thread for the watch.
    pub(super) fn load(conf: &TlsConf) -> Result<Self, StartError> {
        let (loaded, files) = Tls::load(conf);
        let (tls, certificate) = loaded?;
        tell(&Ok(certificate));
        let tls = Arc::new(tls);
        let watched = Arc::clone(&tls);
        let watch = FileWatch::start("certificates", files, move || {
            let (result, files) = watched.reload();
            tell(&result);
            files
        })?;
        Ok(Self { tls, watch })
    }

    pub(super) fn tls(&self) -> Arc<Tls> {
        Arc::clone(&self.tls)
    }

    /// Reads the files again, changed or not. Returns at once.
    pub(super) fn reload(&self) {
        self.watch.reload();
    }
}

fn tell(result: &Result<Certificate, TlsError>) {
    match result {
        Ok(certificate) => {
            let not_after_unix = certificate.not_after_unix;
            metrics::certificate(CertificateLoad::Loaded { not_after_unix });
            let until = UNIX_EPOCH + Duration::from_secs(u64::try_from(not_after_unix).unwrap_or(0));
            let shown = humantime::format_rfc3339_seconds(until);
            match until.duration_since(SystemTime::now()) {
                Ok(left) if left > NEARLY_OVER => log::info!("the TLS certificate is valid until {shown}"),
                Ok(_) => log::warn!("the TLS certificate is valid until {shown} only"),
                Err(_) => log::warn!("the TLS certificate has not been valid since {shown}"),
            }
        }
        Err(error) => {
            log::error!("the certificate before stays in force: {error}");
            metrics::certificate(CertificateLoad::Rejected);
        }
    }
}
