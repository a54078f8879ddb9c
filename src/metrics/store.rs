//! The store and the cache of its keys.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::{METRICS, Maker};

/// How a stored key was found out about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum KeyLookup {
    /// It was known.
    Hit,
    /// The store was asked.
    Miss,
    /// It was known to be no good.
    Refused,
    /// The store was not asked, because it was asked too often.
    Throttled,
}

impl KeyLookup {
    const ALL: [KeyLookup; 4] = [KeyLookup::Hit, KeyLookup::Miss, KeyLookup::Refused, KeyLookup::Throttled];

    /// The label value.
    const fn name(self) -> &'static str {
        match self {
            KeyLookup::Hit => "hit",
            KeyLookup::Miss => "miss",
            KeyLookup::Refused => "refused",
            KeyLookup::Throttled => "throttled",
        }
    }
}

/// What the store was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StoreOperation {
    /// Find a key.
    FindKey,
    /// Say what changed.
    Changes,
    /// Note which keys were used.
    TouchKeys,
    /// Record usage.
    RecordUsage,
}

impl StoreOperation {
    const ALL: [StoreOperation; 4] =
        [StoreOperation::FindKey, StoreOperation::Changes, StoreOperation::TouchKeys, StoreOperation::RecordUsage];

    /// The label value.
    const fn name(self) -> &'static str {
        match self {
            StoreOperation::FindKey => "find_key",
            StoreOperation::Changes => "changes",
            StoreOperation::TouchKeys => "touch_keys",
            StoreOperation::RecordUsage => "record_usage",
        }
    }
}

/// Counts how a stored key was found out about.
pub fn key_lookup(how: KeyLookup) {
    METRICS.store.lookups[how as usize].inc();
}

/// How many stored keys are known.
pub fn keys_known(count: usize) {
    METRICS.store.known.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// Observes an operation of the store that was done.
pub fn store_done(operation: StoreOperation, took: Duration) {
    METRICS.store.seconds[operation as usize].observe(took.as_secs_f64());
}

/// Counts an operation of the store that failed or took too long.
pub fn store_failed(operation: StoreOperation) {
    METRICS.store.failures[operation as usize].inc();
}

/// Whether the store answers.
pub fn store_up(up: bool) {
    METRICS.store.up.set(i64::from(up));
}

pub(super) struct StoreMetrics {
    lookups: [IntCounter; 4],
    known: IntGauge,
    seconds: [Histogram; 4],
    failures: [IntCounter; 4],
    up: IntGauge,
}

impl StoreMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        let lookups = make.counters(
            "forge_key_lookups_total",
            "How stored keys were found out about: known, asked for, known to be no good, asked for too often.",
            &["result"],
        );
        let seconds = make.histograms("forge_store_seconds", "Operations of the store that were done.", &["operation"]);
        let failures = make.counters(
            "forge_store_failures_total",
            "Operations of the store that failed or took too long.",
            &["operation"],
        );
        Self {
            lookups: KeyLookup::ALL.map(|how| lookups.with_label_values(&[how.name()])),
            known: make.gauge("forge_keys_known", "Stored keys that are remembered."),
            seconds: StoreOperation::ALL.map(|operation| seconds.with_label_values(&[operation.name()])),
            failures: StoreOperation::ALL.map(|operation| failures.with_label_values(&[operation.name()])),
            up: make.gauge("forge_store_up", "1: the store answered last time."),
        }
    }
}
