//! How metrics are made: named once, registered once.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{DURATION_BUCKETS, EndpointSeries, endpoint_names};

/// Makes and registers metrics. Names and labels are constants, so a failure is a slip in this file and
/// shows in the first test.
pub(super) struct Maker {
    pub(super) registry: Registry,
}

#[expect(clippy::expect_used, reason = "constant names, made once at start")]
impl Maker {
    pub(super) fn registered<T: Collector + Clone + 'static>(&self, metric: prometheus::Result<T>) -> T {
        let metric = metric.expect("a valid metric name");
        self.registry.register(Box::new(metric.clone())).expect("a metric name used once");
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.registered(IntCounter::new(name, help))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.registered(IntGauge::new(name, help))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn histogram(&self, name: &str, help: &str) -> Histogram {
        let opts = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS.to_vec());
        self.registered(Histogram::with_opts(opts))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS.to_vec());
        self.registered(HistogramVec::new(opts, labels))
    }

    pub(super) fn endpoints(&self) -> Vec<EndpointSeries> {
        let bytes_in = self.counters("forge_request_body_bytes_total", "Body bytes read from clients.", &["endpoint"]);
        let bytes_out = self.counters("forge_response_body_bytes_total", "Body bytes sent to clients.", &["endpoint"]);
        let aborts =
            self.counters("forge_client_aborts_total", "Requests whose client left before the end.", &["endpoint"]);
        endpoint_names()
            .map(|name| EndpointSeries {
                name,
                bytes_in: bytes_in.with_label_values(&[name]),
                bytes_out: bytes_out.with_label_values(&[name]),
                aborts: aborts.with_label_values(&[name]),
            })
            .collect()
    }
}
