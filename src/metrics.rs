//! Every metric: its name, labels and unit, and the only way to observe it.
//!
//! Label values are bounded by configuration and by closed sets, never by what a client sends: `model` is
//! the name in routes.yaml (`none` when no model was found), `provider` its name there, `endpoint` a row of
//! the endpoint table, `code` one of [`crate::error::ApiError`]'s. Observing a request or an attempt costs
//! one hash look-up and a few atomic additions, without allocation once a series exists.

mod admin;
mod clients;
mod ejection;
mod files;
mod limits;
mod maker;
mod outcome;
mod probe;
mod process;
mod reloads;
mod store;
mod tls;
mod usage;

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use once_cell::sync::Lazy;
use prometheus::{
    Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use crate::access::Record;
use crate::endpoint::ENDPOINTS;
use maker::Maker;

pub use admin::{AdminRefusal, ApplicationResult, admin_refused, admin_request, application};
pub use clients::{client_connections, connection_refused, hold_connection, http2_resets_exceeded};
pub use ejection::Ejection;
pub use files::{Uploaded, files_held, upload};
pub use limits::{limited, limits_server, limits_shared};
pub use outcome::Outcome;
pub use probe::{Probed, probe};
pub use reloads::{Reload, reload};
pub use store::{KeyLookup, StoreOperation, key_lookup, keys_known, store_done, store_failed, store_up};
pub use tls::{CertificateLoad, HandshakeFailure, certificate, handshake_failed};
pub use usage::{UsageSeen, usage, usage_dropped, usage_journal_bytes, usage_journalled, usage_lag, usage_shipped};

/// Label value for a request without an endpoint or a configured model.
const NONE: &str = "none";

/// Upper bounds in seconds: from a cached embedding to a long generation.
const DURATION_BUCKETS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0];

/// Counts one up in a gauge for as long as it lives.
#[derive(Debug)]
#[must_use = "the gauge falls when this is dropped"]
pub struct Held(&'static IntGauge);

impl Held {
    fn by(gauge: &'static IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts a request as in flight. Hold it until the access line is written: a draining process leaves at zero.
pub fn hold_request() -> Held {
    Held::by(&METRICS.in_flight)
}

/// Counts an answer that is being streamed (SSE or WebSocket).
pub fn hold_stream() -> Held {
    Held::by(&METRICS.open_streams)
}

/// Marks that this process took its listeners over: its counters begin at zero while another one finishes.
pub fn took_over() {
    METRICS.process.took_over.set(1);
}

/// Requests in flight now.
pub fn in_flight() -> u64 {
    u64::try_from(METRICS.in_flight.get()).unwrap_or(0)
}

/// Counts a request that ended.
pub fn request(record: &Record<'_>) {
    let metrics = &*METRICS;
    metrics.with_request_series(record, |series| {
        series.requests[class_index(record.status)].inc();
        series.duration.observe(record.total.as_secs_f64());
        if let Some(first_byte) = record.first_byte {
            series.first_byte.observe(first_byte.as_secs_f64());
        }
    });
    let endpoint = record.endpoint.map_or(ENDPOINTS.len(), |endpoint| endpoint as usize);
    let Some(endpoint) = metrics.by_endpoint.get(endpoint) else { return };
    endpoint.bytes_in.inc_by(record.bytes_in);
    endpoint.bytes_out.inc_by(record.bytes_out);
    if record.aborted_by_client {
        endpoint.aborts.inc();
    }
    if let Some(code) = record.error_code {
        metrics.errors.with_label_values(&[endpoint.name, code]).inc();
    }
}

/// Counts an attempt at a provider that ended. `provider` is its name in routes.yaml.
pub fn attempt(provider: &str, outcome: Outcome) {
    METRICS.with_provider(provider, |series| series.attempts[outcome as usize].inc());
}

/// Counts a key, quota or origin of `provider` put out for `period`.
pub fn ejection(provider: &str, reason: Ejection, period: Duration) {
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + period;
    let until_secs = i64::try_from(until.as_secs()).unwrap_or(i64::MAX);
    METRICS.with_provider(provider, |series| {
        series.ejections[reason as usize].inc();
        series.ejected_until.set(series.ejected_until.get().max(until_secs));
    });
}

/// Counts a key, quota or origin that was put out.
pub fn lane_out() {
    METRICS.lanes_out.inc();
}

/// Counts a key, quota or origin that is in again, or forgotten.
pub fn lane_in() {
    METRICS.lanes_out.dec();
}

/// Counts an attempt that the retry budget of its model refused.
pub fn retry_refused() {
    METRICS.retries_refused.inc();
}

/// Request body bytes taken into memory.
pub fn buffered_add(bytes: u64) {
    METRICS.buffered_bytes.add(signed(bytes));
}

/// Request body bytes given back.
pub fn buffered_sub(bytes: u64) {
    METRICS.buffered_bytes.sub(signed(bytes));
}

/// Request body bytes spilled to disk.
pub fn spilled_add(bytes: u64) {
    METRICS.spilled_bytes.add(signed(bytes));
}

/// Spilled bytes given back.
pub fn spilled_sub(bytes: u64) {
    METRICS.spilled_bytes.sub(signed(bytes));
}

/// Forgets the series of models and providers that are configured no more, so that a long life of reloads
/// does not add up. A request still in flight on an older snapshot may bring one back.
pub fn retain(models: &HashSet<&str>, providers: &HashSet<&str>) {
    let metrics = &*METRICS;
    for (series, endpoint) in metrics.by_model.iter().zip(endpoint_names()) {
        let mut series = series.write().unwrap_or_else(PoisonError::into_inner);
        series.retain(|model, _| {
            let keep = models.contains(&**model) || **model == *NONE;
            if !keep {
                metrics.forget_model(endpoint, model);
            }
            keep
        });
    }
    metrics.usage.retain(models, providers);
    let mut series = metrics.by_provider.write().unwrap_or_else(PoisonError::into_inner);
    series.retain(|provider, _| {
        let keep = providers.contains(&**provider);
        if !keep {
            metrics.forget_provider(provider);
        }
        keep
    });
}

/// Counts access log lines that were lost.
pub(crate) fn access_lines_dropped(lines: u64) {
    METRICS.access_dropped.inc_by(lines);
}

/// The content type of [`render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All metrics in Prometheus' text format.
///
/// # Errors
/// The library refuses to encode a metric.
pub fn render() -> Result<Vec<u8>, prometheus::Error> {
    let metrics = &*METRICS;
    metrics.process.refresh();
    let mut out = Vec::with_capacity(16 << 10);
    TextEncoder::new().encode(&metrics.registry.gather(), &mut out)?;
    Ok(out)
}

static METRICS: Lazy<Metrics> = Lazy::new(Metrics::started);

const CLASSES: [&str; 6] = [NONE, "1xx", "2xx", "3xx", "4xx", "5xx"];

fn class_index(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status / 100),
        _ => 0,
    }
}

fn class_of(status: u16) -> &'static str {
    CLASSES[class_index(status)]
}

fn endpoint_names() -> impl Iterator<Item = &'static str> {
    ENDPOINTS.iter().map(|row| row.name).chain([NONE])
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

type ByName<T> = RwLock<HashMap<Box<str>, T>>;

struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    first_byte: HistogramVec,
    errors: IntCounterVec,
    attempts: IntCounterVec,
    ejections: IntCounterVec,
    ejected_until: IntGaugeVec,
    probes: IntCounterVec,
    lanes_out: IntGauge,
    retries_refused: IntCounter,
    limits: limits::LimitMetrics,
    in_flight: IntGauge,
    open_streams: IntGauge,
    buffered_bytes: IntGauge,
    spilled_bytes: IntGauge,
    access_dropped: IntCounter,
    clients: clients::ClientMetrics,
    process: process::ProcessMetrics,
    store: store::StoreMetrics,
    reloads: reloads::ReloadMetrics,
    usage: usage::UsageMetrics,
    tls: tls::TlsMetrics,
    admin: admin::AdminMetrics,
    files: files::FileMetrics,
    /// Handles by endpoint (the last slot: none) and model.
    by_model: Vec<ByName<RequestSeries>>,
    by_endpoint: Vec<EndpointSeries>,
    by_provider: ByName<ProviderSeries>,
}

struct RequestSeries {
    requests: [IntCounter; CLASSES.len()],
    duration: Histogram,
    first_byte: Histogram,
}

struct EndpointSeries {
    name: &'static str,
    bytes_in: IntCounter,
    bytes_out: IntCounter,
    aborts: IntCounter,
}

struct ProviderSeries {
    attempts: [IntCounter; Outcome::ALL.len()],
    ejections: [IntCounter; Ejection::ALL.len()],
    ejected_until: IntGauge,
}

/// What a request is told apart by.
const REQUEST_LABELS: [&str; 2] = ["endpoint", "model"];

impl Metrics {
    fn new() -> Self {
        let make = Maker { registry: Registry::new() };
        Self {
            requests: make.counters(
                "forge_requests_total",
                "Requests that ended, by the class of the status sent; none: the client left before there was one.",
                &["endpoint", "model", "status"],
            ),
            duration: make.histograms(
                "forge_request_duration_seconds",
                "From a request's head to the end of its answer.",
                &REQUEST_LABELS,
            ),
            first_byte: make.histograms(
                "forge_request_first_byte_seconds",
                "From a request's head to the first byte of its answer.",
                &REQUEST_LABELS,
            ),
            errors: make.counters(
                "forge_errors_total",
                "Answers that were errors of Forge's, by code.",
                &["endpoint", "code"],
            ),
            attempts: make.counters(
                "forge_upstream_attempts_total",
                "Attempts at providers that ended.",
                &["provider", "outcome"],
            ),
            ejections: make.counters(
                "forge_upstream_ejections_total",
                "Times a key, a quota or an origin was put out for a while, by reason.",
                &["provider", "reason"],
            ),
            ejected_until: make.gauges(
                "forge_upstream_ejected_until_timestamp_seconds",
                "When the latest ejection ends; in the past: none is in force.",
                &["provider"],
            ),
            probes: make.counters(
                "forge_upstream_probes_total",
                "Active probes of providers that have one configured.",
                &["provider", "result"],
            ),
            lanes_out: make.gauge(
                "forge_upstream_lanes_out",
                "Keys, quotas and origins that were put out and have not worked since.",
            ),
            retries_refused: make.counter(
                "forge_retries_refused_total",
                "Attempts not made because the model's retry budget was used up.",
            ),
            limits: limits::LimitMetrics::new(&make),
            in_flight: make.gauge("forge_requests_in_flight", "Requests being served."),
            open_streams: make.gauge("forge_open_streams", "Answers being streamed."),
            buffered_bytes: make.gauge("forge_buffered_bytes", "Request body bytes held in memory."),
            spilled_bytes: make.gauge("forge_spilled_bytes", "Request body bytes held in temporary files."),
            access_dropped: make
                .counter("forge_access_log_dropped_total", "Access lines lost to a slow or failing file."),
            clients: clients::ClientMetrics::new(&make),
            process: process::ProcessMetrics::new(&make),
            store: store::StoreMetrics::new(&make),
            reloads: reloads::ReloadMetrics::new(&make),
            usage: usage::UsageMetrics::new(&make),
            tls: tls::TlsMetrics::new(&make),
            admin: admin::AdminMetrics::new(&make),
            files: files::FileMetrics::new(&make),
            by_model: endpoint_names().map(|_| RwLock::default()).collect(),
            by_endpoint: make.endpoints(),
            by_provider: RwLock::default(),
            registry: make.registry,
        }
    }

    /// With the series that are worth a zero before their first event.
    fn started() -> Self {
        let metrics = Self::new();
        metrics.reloads.start();
        metrics
    }

    fn with_request_series(&self, record: &Record<'_>, observe: impl FnOnce(&RequestSeries)) {
        let index = record.endpoint.map_or(ENDPOINTS.len(), |endpoint| endpoint as usize);
        let Some(by_model) = self.by_model.get(index) else { return };
        let endpoint = record.endpoint.map_or(NONE, |endpoint| endpoint.name());
        with_series(by_model, record.model.unwrap_or(NONE), observe, |model| RequestSeries {
            requests: CLASSES.map(|class| self.requests.with_label_values(&[endpoint, model, class])),
            duration: self.duration.with_label_values(&[endpoint, model]),
            first_byte: self.first_byte.with_label_values(&[endpoint, model]),
        });
    }

    fn with_provider(&self, provider: &str, observe: impl FnOnce(&ProviderSeries)) {
        with_series(&self.by_provider, provider, observe, |provider| ProviderSeries {
            attempts: Outcome::ALL.map(|outcome| self.attempts.with_label_values(&[provider, outcome.name()])),
            ejections: Ejection::ALL.map(|reason| self.ejections.with_label_values(&[provider, reason.name()])),
            ejected_until: self.ejected_until.with_label_values(&[provider]),
        });
    }

    // A series that is already gone is what these want, so their errors are none.

    fn forget_model(&self, endpoint: &str, model: &str) {
        for class in CLASSES {
            let _ = self.requests.remove_label_values(&[endpoint, model, class]);
        }
        let _ = self.duration.remove_label_values(&[endpoint, model]);
        let _ = self.first_byte.remove_label_values(&[endpoint, model]);
    }

    fn forget_provider(&self, provider: &str) {
        for outcome in Outcome::ALL {
            let _ = self.attempts.remove_label_values(&[provider, outcome.name()]);
        }
        for reason in Ejection::ALL {
            let _ = self.ejections.remove_label_values(&[provider, reason.name()]);
        }
        let _ = self.ejected_until.remove_label_values(&[provider]);
        for result in Probed::ALL {
            let _ = self.probes.remove_label_values(&[provider, result.name()]);
        }
    }
}

/// Observes on the series of `name`, which is made the first time.
fn with_series<T>(map: &ByName<T>, name: &str, observe: impl FnOnce(&T), make: impl FnOnce(&str) -> T) {
    if let Some(series) = map.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return observe(series);
    }
    let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
    observe(map.entry(name.into()).or_insert_with(|| make(name)));
}

#[cfg(test)]
mod tests;
