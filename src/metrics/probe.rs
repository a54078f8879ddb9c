//! Active probes of providers.

use super::METRICS;

/// What an active probe came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// It was answered as expected.
    Passed,
    /// It was not.
    Failed,
}

impl Probed {
    pub(super) const ALL: [Probed; 2] = [Probed::Passed, Probed::Failed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Probed::Passed => "passed",
            Probed::Failed => "failed",
        }
    }
}

/// Counts an active probe of `provider`.
pub fn probe(provider: &str, result: Probed) {
    // So that the series go with the provider.
    METRICS.with_provider(provider, |_| ());
    METRICS.probes.with_label_values(&[provider, result.name()]).inc();
}
