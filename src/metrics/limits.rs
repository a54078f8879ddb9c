//! What is counted of limits.

use std::time::Duration;

use prometheus::{Histogram, IntCounterVec, IntGauge};

use super::METRICS;
use super::maker::Maker;
use crate::config::{HolderKind, LimitKind};

pub(super) struct LimitMetrics {
    limited: IntCounterVec,
    shared: IntGauge,
    server: Histogram,
}

impl LimitMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            limited: make.counters(
                "forge_limited_total",
                "Requests refused under a limit, by what it limits and whose it is.",
                &["limit", "holder"],
            ),
            shared: make.gauge(
                "forge_limits_shared",
                "1: limits are counted with the fleet; 0: this node counts alone, by its share where there is a fleet.",
            ),
            server: make.histogram("forge_limits_server_seconds", "What a call to the fleet's server took."),
        }
    }
}

/// Counts a request refused under a limit of `kind` that `holder` has.
pub fn limited(kind: LimitKind, holder: HolderKind) {
    METRICS.limits.limited.with_label_values(&[kind.name(), holder.name()]).inc();
}

/// Says whether limits are counted with the fleet, or by this node alone.
pub fn limits_shared(shared: bool) {
    METRICS.limits.shared.set(i64::from(shared));
}

/// Measures a call to the fleet's server, whatever came of it.
pub fn limits_server(took: Duration) {
    METRICS.limits.server.observe(took.as_secs_f64());
}
