//! Active probes: origins that are asked for their health between requests, where routes.yaml says so.
//!
//! Runs on the control runtime, over connections of its own. Knows requests only through what it shares with
//! them, the health of lanes: an origin that fails its probe is kept out for every model, one that answers is
//! tried by a request at once where failures had put it out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::header::HOST;
use pingora::http::RequestHeader;
use pingora_core::connectors::http::Connector;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Gateway;
use super::connector::GatheringConnector;
use super::dns::Dns;
use super::lanes::{Known, Lanes};
use super::upstream::{Peers, Route, Wire};
use crate::adapt::request::credential_header;
use crate::config::{Live, Origin, Probe, ProcessConf, Provider, Snapshot, Timeouts};
use crate::metrics::{self, Probed};

/// How often a new configuration is looked for.
const CONFIG_POLL: Duration = Duration::from_millis(500);
/// A first failure is asked about again after this long at most.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Failures in a row that count.
const FAILURES_MIN: u32 = 2;
/// Interim responses before the one that counts. RFC 9110 section 15.2.
const INTERIM_MAX: usize = 8;

/// Asks all origins that have a probe.
pub struct Prober {
    live: Arc<Live>,
    known: Known,
    dns: Dns,
    peers: Peers,
    connector: Connector<GatheringConnector>,
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
enum ProbeError {
    #[error("no answer in time")]
    Timeout,
    #[error("status {0}")]
    Status(u16),
    #[error("the name has no address")]
    Dns,
    #[error("{0}")]
    Connection(#[from] Box<pingora::Error>),
}

impl Gateway {
    /// Who asks for the health of what this gateway uses.
    pub fn prober(&self, conf: &ProcessConf) -> Prober {
        Prober {
            live: Arc::clone(&self.live),
            known: self.known.clone(),
            dns: Dns::new(conf.upstream.dns_ttl_max),
            peers: Peers::new(conf.upstream.idle),
            connector: Connector::new_custom(None, GatheringConnector::new(None)),
        }
    }
}

/// One origin of one provider of one generation of the configuration.
struct Site {
    snapshot: Arc<Snapshot>,
    provider: Arc<Provider>,
    origin: usize,
}

impl Prober {
    /// Asks for as long as the process lives. To be run on the control runtime.
    pub async fn run(self) {
        let this = Arc::new(self);
        let mut asking = JoinSet::new();
        let mut generation = None;
        loop {
            let snapshot = this.live.load();
            if generation.replace(snapshot.generation) != Some(snapshot.generation) {
                asking.shutdown().await;
                for provider in snapshot.providers.iter().filter(|provider| provider.probe.is_some()) {
                    for origin in 0..provider.origins.len() {
                        let (snapshot, provider) = (Arc::clone(&snapshot), Arc::clone(provider));
                        asking.spawn(Arc::clone(&this).keep_asking(Site { snapshot, provider, origin }));
                    }
                }
            }
            sleep(CONFIG_POLL).await;
        }
    }

    async fn keep_asking(self: Arc<Self>, site: Site) {
        let Some(probe) = &site.provider.probe else { return };
        let Some(origin) = site.provider.origins.get(site.origin) else { return };
        let id = Lanes::new(&site.provider, "").site(site.origin);
        // Not all at the same moment.
        sleep(probe.interval.min(SECOND_LOOK).mul_f64(fastrand::f64())).await;
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let asked = timeout(probe.timeout, self.ask(&site, (origin, probe)));
            let result = asked.await.unwrap_or(Err(ProbeError::Timeout));
            failures = if result.is_ok() { 0 } else { failures + 1 };
            let probed = if result.is_ok() { Probed::Passed } else { Probed::Failed };
            metrics::probe(&site.provider.name, probed);
            match result {
                Ok(()) => self.known.health.probe_passed(id, (began, Instant::now())),
                Err(error) => {
                    let (name, number) = (&site.provider.name, site.origin + 1);
                    log::debug!("provider {name}: url {number} failed its probe: {error}");
                    if failures >= FAILURES_MIN && self.known.health.probe_failed(id, Instant::now(), lasts(probe)) {
                        log::warn!("provider {name}: url {number} is kept out: it fails its probe: {error}");
                    }
                }
            }
            let wait = if failures == 1 { probe.interval.min(SECOND_LOOK) } else { probe.interval };
            sleep(wait).await;
        }
    }

    async fn ask(&self, site: &Site, (origin, probe): (&Origin, &Probe)) -> Result<(), ProbeError> {
        let provider = &*site.provider;
        let (address, _) = self.dns.address(origin, site.origin).await.map_err(|_| ProbeError::Dns)?;
        let limit = probe.timeout;
        let timeouts = Timeouts { connect: limit, first_byte: limit, idle: limit, total: limit };
        let generation = site.snapshot.generation;
        let route = Route { provider, origin, address, timeouts, wire: Wire::Http, generation };
        let (mut session, _) = self.connector.get_http_session(&self.peers.peer(&route)).await?;
        session.write_request_header(Box::new(head(provider, origin, probe)?)).await?;
        session.finish_request_body().await?;
        let mut status = 0;
        for _ in 0..INTERIM_MAX {
            session.read_response_header().await?;
            status = session.response_header().map_or(0, |head| head.status.as_u16());
            if !(100..200).contains(&status) {
                break;
            }
        }
        session.shutdown().await;
        if probe.accepts(status) { Ok(()) } else { Err(ProbeError::Status(status)) }
    }
}

/// A GET with the provider's own headers and its first key.
fn head(provider: &Provider, origin: &Origin, probe: &Probe) -> Result<RequestHeader, Box<pingora::Error>> {
    let mut head = RequestHeader::build(Method::GET, probe.path.as_bytes(), None)?;
    head.insert_header(HOST, origin.authority.clone())?;
    for (name, value) in &provider.headers {
        head.insert_header(name.clone(), value.clone())?;
    }
    if let (Some(name), Some(key)) = (credential_header(provider.auth), provider.keys.first()) {
        head.insert_header(name, key.header.clone())?;
    }
    Ok(head)
}

/// How long a failed probe keeps an origin out, should no other follow: probes may be taken out of the file.
fn lasts(probe: &Probe) -> Duration {
    (probe.interval + probe.timeout) * 2
}
