//! Names to addresses, without blocking a worker and without asking twice within the answer's lifetime.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use parking_lot::RwLock;

use crate::config::Origin;

/// How long an answer without a lifetime of its own is believed (from the system's resolver).
const TTL_UNKNOWN: Duration = Duration::from_secs(10);
/// No answer is asked for more often than this.
const TTL_MIN: Duration = Duration::from_secs(1);
/// How long a name that just failed is served from its old answer before it is asked for again.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// The name has no address, or nobody could be asked.
#[derive(Debug, thiserror::Error)]
#[error("{host} has no address: {reason}")]
pub struct DnsError {
    host: String,
    reason: String,
}

#[derive(Debug)]
struct Answer {
    addresses: Vec<IpAddr>,
    until: Instant,
}

/// A resolver with a cache of its own in front.
#[derive(Debug)]
pub struct Dns {
    resolver: Option<TokioResolver>,
    ttl_max: Duration,
    answers: RwLock<HashMap<String, Arc<Answer>>>,
}

impl Dns {
    /// Reads the system's configuration; where there is none, the system's own resolver is asked.
    /// No answer is believed for longer than `ttl_max`.
    pub fn new(ttl_max: Duration) -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        if let Err(error) = &resolver {
            log::info!("names are looked up by the system's resolver: {error}");
        }
        Self { resolver: resolver.ok(), ttl_max, answers: RwLock::default() }
    }

    /// An address of `origin`, and how many it has; `turn` chooses among them.
    ///
    /// # Errors
    /// [`DnsError`] when the name has none. An answer that ran out is still used while the name servers
    /// cannot be reached.
    pub async fn address(&self, origin: &Origin, turn: usize) -> Result<(SocketAddr, usize), DnsError> {
        if let Ok(address) = origin.host.parse::<IpAddr>() {
            return Ok((SocketAddr::new(address, origin.port), 1));
        }
        let answer = self.answer(&origin.host).await?;
        let address = answer.addresses.get(turn % answer.addresses.len().max(1));
        let address = address.ok_or_else(|| DnsError { host: origin.host.clone(), reason: "empty answer".into() })?;
        Ok((SocketAddr::new(*address, origin.port), answer.addresses.len()))
    }

    async fn answer(&self, host: &str) -> Result<Arc<Answer>, DnsError> {
        let now = Instant::now();
        let known = self.answers.read().get(host).cloned();
        if let Some(answer) = known.as_ref().filter(|answer| answer.until > now) {
            return Ok(Arc::clone(answer));
        }
        let answer = match (self.ask(host).await, known) {
            (Ok(answer), _) => answer,
            (Err(error), None) => return Err(error),
            (Err(error), Some(old)) => {
                log::warn!("{error}; using the last known addresses");
                Answer { addresses: old.addresses.clone(), until: now + RETRY_AFTER_FAILURE }
            }
        };
        let answer = Arc::new(answer);
        self.answers.write().insert(host.to_owned(), Arc::clone(&answer));
        Ok(answer)
    }

    async fn ask(&self, host: &str) -> Result<Answer, DnsError> {
        let failed = |reason: String| DnsError { host: host.to_owned(), reason };
        let now = Instant::now();
        if let Some(resolver) = &self.resolver
            && let Ok(found) = resolver.lookup_ip(host).await
        {
            let addresses: Vec<_> = found.iter().collect();
            let ttl = found.valid_until().saturating_duration_since(now).clamp(TTL_MIN, self.ttl_max.max(TTL_MIN));
            if !addresses.is_empty() {
                return Ok(Answer { addresses, until: now + ttl });
            }
        }
        // Names that only the system knows: /etc/hosts through NSS, mDNS, search domains.
        let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| failed(error.to_string()))?;
        let addresses: Vec<_> = found.map(|address| address.ip()).collect();
        if addresses.is_empty() {
            return Err(failed("empty answer".into()));
        }
        Ok(Answer { addresses, until: now + TTL_UNKNOWN.min(self.ttl_max) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str) -> Origin {
        Origin {
            tls: false,
            host: host.into(),
            port: 80,
            base_path: String::new(),
            authority: http::HeaderValue::from_static("h"),
        }
    }

    #[tokio::test]
    async fn literals_need_no_resolver() {
        let dns = Dns::new(Duration::from_secs(60));
        assert_eq!(dns.address(&origin("127.0.0.1"), 7).await.unwrap().0.to_string(), "127.0.0.1:80");
        assert_eq!(dns.address(&origin("::1"), 7).await.unwrap().0.to_string(), "[::1]:80");
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_its_lifetime_and_turns_go_round() {
        let dns = Dns::new(Duration::from_secs(60));
        let addresses = vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let until = Instant::now() + Duration::from_secs(60);
        dns.answers.write().insert("svc.test".into(), Arc::new(Answer { addresses, until }));
        let mut seen = Vec::new();
        for turn in 0..3 {
            seen.push(dns.address(&origin("svc.test"), turn).await.unwrap().0.ip().to_string());
        }
        assert_eq!(seen, ["10.0.0.1", "10.0.0.2", "10.0.0.1"]);
    }

    #[tokio::test]
    async fn localhost_resolves() {
        let dns = Dns::new(Duration::from_secs(60));
        assert!(dns.address(&origin("localhost"), 0).await.unwrap().0.ip().is_loopback());
    }
}
