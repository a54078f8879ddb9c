//! What became of routes.yaml.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounterVec, IntGauge};

use super::maker::Maker;
use super::{METRICS, signed};

/// A result of loading routes.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The file is in force as this generation.
    Loaded {
        /// `Snapshot::generation`.
        generation: u64,
    },
    /// The file has faults; the one before stays in force.
    Rejected,
}

/// Counts a load of routes.yaml, the first included.
pub fn reload(result: Reload) {
    let metrics = &METRICS.reloads;
    match result {
        Reload::Loaded { generation } => {
            metrics.reloads.with_label_values(&["loaded"]).inc();
            metrics.generation.set(signed(generation));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            metrics.loaded_at.set(signed(now.as_secs()));
            metrics.last_reload_ok.set(1);
        }
        Reload::Rejected => {
            metrics.reloads.with_label_values(&["rejected"]).inc();
            metrics.last_reload_ok.set(0);
        }
    }
}

pub(super) struct ReloadMetrics {
    reloads: IntCounterVec,
    generation: IntGauge,
    loaded_at: IntGauge,
    last_reload_ok: IntGauge,
}

impl ReloadMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            reloads: make.counters(
                "forge_config_reloads_total",
                "Loads of routes.yaml, the first included.",
                &["result"],
            ),
            generation: make.gauge("forge_config_generation", "Generation of the routes in force."),
            loaded_at: make.gauge("forge_config_loaded_timestamp_seconds", "When the routes in force were loaded."),
            last_reload_ok: make
                .gauge("forge_config_last_reload_ok", "1: the last load succeeded, 0: it was rejected."),
        }
    }

    /// Makes the series that are worth a zero before their first event.
    pub(super) fn start(&self) {
        for result in ["loaded", "rejected"] {
            self.reloads.with_label_values(&[result]);
        }
    }
}
