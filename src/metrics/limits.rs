//! What is counted of limits.

use prometheus::IntCounterVec;

use super::METRICS;
use super::maker::Maker;
use crate::config::{HolderKind, LimitKind};

pub(super) struct LimitMetrics {
    limited: IntCounterVec,
}

impl LimitMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            limited: make.counters(
                "forge_limited_total",
                "Requests refused under a limit, by what it limits and whose it is.",
                &["limit", "holder"],
            ),
        }
    }
}

/// Counts a request refused under a limit of `kind` that `holder` has.
pub fn limited(kind: LimitKind, holder: HolderKind) {
    METRICS.limits.limited.with_label_values(&[kind.name(), holder.name()]).inc();
}
