//! How many attempts beyond the first a model may make: a share of its recent requests, and a few a second.
//!
//! Without it, a provider that fails under load gets `retry.attempts` times the load. Time is an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

/// After so long, what was counted counts for a third.
const RECENT: Duration = Duration::from_secs(10);
/// Attempts a second that any model may make beyond its share.
const FREE_PER_SECOND: f64 = 10.0;
/// What was counted is aged no more often than this.
const STEP: Duration = Duration::from_millis(100);

/// The recent requests and further attempts of one model.
#[derive(Debug)]
pub struct RetryBudget {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    requests: f64,
    retries: f64,
    at: Instant,
}

impl RetryBudget {
    /// Nothing was counted yet.
    pub fn new(now: Instant) -> Self {
        Self { counts: Mutex::new(Counts { requests: 0.0, retries: 0.0, at: now }) }
    }

    /// Counts a request.
    pub fn request(&self, now: Instant) {
        let mut counts = self.counts.lock();
        counts.age(now);
        counts.requests += 1.0;
    }

    /// Takes one attempt beyond the first out of the budget; false when `percent` of the recent requests, and
    /// what is free, are used up.
    pub fn take(&self, percent: u32, now: Instant) -> bool {
        let mut counts = self.counts.lock();
        counts.age(now);
        let free = FREE_PER_SECOND * RECENT.as_secs_f64();
        let within = counts.retries + 1.0 <= counts.requests * f64::from(percent) / 100.0 + free;
        if within {
            counts.retries += 1.0;
        }
        within
    }
}

impl Counts {
    fn age(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        if elapsed >= STEP {
            let keep = (-elapsed.as_secs_f64() / RECENT.as_secs_f64()).exp();
            (self.requests, self.retries, self.at) = (self.requests * keep, self.retries * keep, now);
        }
    }
}

/// The budgets of all models by name. Outlives reloads; as bounded as the names of routes.yaml and its past.
#[derive(Debug, Default)]
pub struct RetryBudgets {
    by_model: RwLock<HashMap<String, Arc<RetryBudget>>>,
}

/// More models than any configuration has; beyond it, budgets that no request holds begin anew.
const MODELS_MAX: usize = 10_000;

impl RetryBudgets {
    /// The budget of `model`, a name of routes.yaml.
    pub fn of(&self, model: &str, now: Instant) -> Arc<RetryBudget> {
        if let Some(budget) = self.by_model.read().get(model) {
            return Arc::clone(budget);
        }
        let mut by_model = self.by_model.write();
        if by_model.len() >= MODELS_MAX {
            by_model.retain(|_, budget| Arc::strong_count(budget) > 1);
        }
        let budget = by_model.entry(model.to_owned()).or_insert_with(|| Arc::new(RetryBudget::new(now)));
        Arc::clone(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Retries granted in each second of `seconds`, at so many failing requests a second.
    fn granted(rate: u32, percent: u32, seconds: u32) -> Vec<u32> {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let of_second = |second: u32| {
            let at = |index: u32| start + Duration::from_secs(second.into()) + Duration::from_secs(1) * index / rate;
            let mut granted = 0;
            for index in 0..rate {
                budget.request(at(index));
                granted += u32::from(budget.take(percent, at(index)));
            }
            granted
        };
        (0..seconds).map(of_second).collect()
    }

    #[test]
    fn when_everything_fails_the_share_bounds_what_is_added() {
        let by_second = granted(1000, 20, 60);
        let later: u32 = by_second[30..].iter().sum();
        assert!((200 * 30..=211 * 30 + 30).contains(&later), "20 % and 10 a second: {later}");
        let whole: u32 = by_second.iter().sum();
        assert!(whole <= 60 * 210 + 120, "and no more at the start than is free: {whole}");
    }

    #[test]
    fn few_requests_are_never_refused_another_attempt() {
        assert_eq!(granted(9, 0, 30), vec![9; 30]);
        let over = granted(50, 0, 60);
        assert!(over[40..].iter().all(|granted| (8..=12).contains(granted)), "{over:?}");
    }

    #[test]
    fn every_model_has_its_own() {
        let (budgets, now) = (RetryBudgets::default(), Instant::now());
        while budgets.of("a", now).take(0, now) {}
        assert!(!budgets.of("a", now).take(0, now) && budgets.of("b", now).take(0, now));
    }
}
