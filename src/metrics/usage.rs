//! What was used, and what is on its way to the store.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::{ByName, METRICS, Maker, signed, with_series};

/// What a record says, for the metrics.
#[derive(Debug, Clone, Copy)]
pub struct UsageSeen<'a> {
    /// The provider's name in routes.yaml.
    pub provider: &'a str,
    /// The model's name there.
    pub model: &'a str,
    /// Amounts by kind, e.g. `input_tokens`, in an order that is always the same.
    pub amounts: &'a [(&'static str, u64)],
    /// In micro-dollars.
    pub cost_microusd: u64,
    /// Whether some of it was estimated.
    pub estimated: bool,
}

/// The label of records, by whether some of the usage was estimated.
const ESTIMATED: [&str; 2] = ["false", "true"];

/// Counts what a request used.
pub fn usage(seen: &UsageSeen<'_>) {
    let metrics = &METRICS.usage;
    // Names of routes.yaml hold no such byte.
    let name = format!("{}\u{0}{}", seen.provider, seen.model);
    let make = |_: &str| {
        let labels = [seen.provider, seen.model];
        Series {
            amounts: seen.amounts.iter().map(|(kind, _)| (*kind, metrics.unit(labels, kind))).collect(),
            cost: metrics.cost.with_label_values(&labels),
            records: ESTIMATED.map(|it| metrics.records.with_label_values(&[labels[0], labels[1], it])),
        }
    };
    let observe = |series: &Series| {
        for ((_, counter), (_, amount)) in series.amounts.iter().zip(seen.amounts) {
            counter.inc_by(*amount);
        }
        series.cost.inc_by(seen.cost_microusd);
        series.records[usize::from(seen.estimated)].inc();
    };
    with_series(&metrics.series, &name, observe, make);
}

/// Counts a record written to the journal.
pub fn usage_journalled(bytes: u64) {
    METRICS.usage.waiting.inc();
    METRICS.usage.journal_bytes.add(signed(bytes));
}

/// Counts a record that was lost: the journal was full, its disk failed, or the store refused it.
pub fn usage_dropped() {
    METRICS.usage.dropped.inc();
}

/// Counts records that the store has; `earlier` of them were written before this process began.
pub fn usage_shipped(records: u64, earlier: u64) {
    METRICS.usage.waiting.sub(signed(records.saturating_sub(earlier)));
    METRICS.usage.shipped.inc_by(records);
}

/// The size of the journal, as its files have it.
pub fn usage_journal_bytes(bytes: u64) {
    METRICS.usage.journal_bytes.set(signed(bytes));
}

/// How long the oldest record has been waiting for the store; zero when none is.
pub fn usage_lag(lag: Duration) {
    METRICS.usage.lag.set(signed(lag.as_secs()));
}

pub(super) struct UsageMetrics {
    units: IntCounterVec,
    cost: IntCounterVec,
    records: IntCounterVec,
    waiting: IntGauge,
    journal_bytes: IntGauge,
    dropped: IntCounter,
    shipped: IntCounter,
    lag: IntGauge,
    series: ByName<Series>,
}

struct Series {
    amounts: Vec<(&'static str, IntCounter)>,
    cost: IntCounter,
    records: [IntCounter; 2],
}

impl UsageMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            units: make.counters(
                "forge_usage_units_total",
                "What requests used: tokens and the like, by kind. Parts are included in their whole.",
                &["provider", "model", "kind"],
            ),
            cost: make.counters(
                "forge_usage_cost_microusd_total",
                "What requests cost, in millionths of a US dollar.",
                &["provider", "model"],
            ),
            records: make.counters(
                "forge_usage_records_total",
                "Usage records made, by whether some of the usage was estimated.",
                &["provider", "model", "estimated"],
            ),
            waiting: make.gauge("forge_usage_journal_records", "Usage records of this process that the store lacks."),
            journal_bytes: make.gauge("forge_usage_journal_bytes", "The usage journal's size."),
            dropped: make.counter(
                "forge_usage_dropped_total",
                "Usage records lost: the journal was full, its disk failed, or the store refused them.",
            ),
            shipped: make.counter("forge_usage_shipped_total", "Usage records that the store took."),
            lag: make.gauge("forge_usage_lag_seconds", "How long the oldest usage record has waited for the store."),
            series: ByName::default(),
        }
    }

    fn unit(&self, [provider, model]: [&str; 2], kind: &str) -> IntCounter {
        self.units.with_label_values(&[provider, model, kind])
    }

    /// Forgets what is configured no more.
    pub(super) fn retain(&self, models: &HashSet<&str>, providers: &HashSet<&str>) {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.retain(|name, series| {
            let (provider, model) = name.split_once('\u{0}').unwrap_or_default();
            let keep = providers.contains(provider) && models.contains(model);
            if !keep {
                self.forget((provider, model), series);
            }
            keep
        });
    }

    /// A series that is already gone is what this wants, so its errors are none.
    fn forget(&self, (provider, model): (&str, &str), series: &Series) {
        for (kind, _) in &series.amounts {
            let _ = self.units.remove_label_values(&[provider, model, kind]);
        }
        let _ = self.cost.remove_label_values(&[provider, model]);
        for estimated in ESTIMATED {
            let _ = self.records.remove_label_values(&[provider, model, estimated]);
        }
    }
}
