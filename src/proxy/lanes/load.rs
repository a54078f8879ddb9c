//! How busy each place is: requests in flight, and how long it takes to its first byte.
//!
//! The latency is a moving average that a slow answer raises at once and fast ones lower slowly (peak EWMA,
//! as in Finagle and linkerd); it fades while nothing is heard, so that a place that was slow once is tried
//! again. All of it is in atomics: nobody waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::Id;

/// More places than any configuration has; beyond it, those at rest are forgotten.
const PLACES_MAX: usize = 10_000;
/// After so long of new answers, the old ones count for a third.
const DECAY: Duration = Duration::from_secs(2);
/// After so long without any, the last ones count for a third.
const FADE: Duration = Duration::from_secs(30);

/// What is seen of a place at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seen {
    /// Attempts under way.
    pub in_flight: u32,
    /// Time to the first byte, in seconds; `None` before the first answer.
    pub latency: Option<f64>,
}

/// One place. Times are milliseconds since `began` and microseconds of latency, packed so that they
/// change together; zero: nothing was seen.
#[derive(Debug)]
pub struct Load {
    began: Instant,
    in_flight: AtomicU32,
    latency: AtomicU64,
}

impl Load {
    /// At rest; `began` is any moment before the first observation.
    pub fn new(began: Instant) -> Self {
        Self { began, in_flight: AtomicU32::new(0), latency: AtomicU64::new(0) }
    }

    /// An attempt begins.
    pub fn enter(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// An attempt ends.
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// An answer took so long to its first byte.
    pub fn observe(&self, latency: Duration, now: Instant) {
        let sample = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX).max(1);
        let at = self.stamp(now);
        // Never fails: the closure always gives a value.
        let _ = self.latency.fetch_update(Relaxed, Relaxed, |packed| {
            let known = (packed >> 32) as u32;
            let average = if sample >= known {
                f64::from(sample)
            } else {
                let keep = share_left(at.wrapping_sub(packed as u32), DECAY);
                f64::from(known) * keep + f64::from(sample) * (1.0 - keep)
            };
            Some((u64::from(average as u32) << 32) | u64::from(at))
        });
    }

    /// An attempt failed after so long. Failing slowly is slow, failing fast is not fast: this only raises.
    pub fn observe_failure(&self, elapsed: Duration, now: Instant) {
        if self.seen(now).latency.is_some_and(|latency| elapsed.as_secs_f64() > latency) {
            self.observe(elapsed, now);
        }
    }

    /// How busy it is.
    pub fn seen(&self, now: Instant) -> Seen {
        let packed = self.latency.load(Relaxed);
        let micros = (packed >> 32) as u32;
        let elapsed_ms = self.stamp(now).wrapping_sub(packed as u32);
        let latency = f64::from(micros) * 1e-6 * share_left(elapsed_ms, FADE);
        Seen { in_flight: self.in_flight.load(Relaxed), latency: (micros > 0).then_some(latency) }
    }

    /// Milliseconds since `began`; wraps after 49 days, as all arithmetic on it does.
    fn stamp(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.began).as_millis() as u32
    }
}

/// How much of what was seen `elapsed_ms` ago still counts.
fn share_left(elapsed_ms: u32, period: Duration) -> f64 {
    (-f64::from(elapsed_ms) / period.as_millis() as f64).exp()
}

/// Every place that was used lately.
#[derive(Debug)]
pub struct Loads {
    began: Instant,
    by_place: RwLock<HashMap<Id, Arc<Load>>>,
}

impl Default for Loads {
    fn default() -> Self {
        Self { began: Instant::now(), by_place: RwLock::default() }
    }
}

impl Loads {
    /// The load of `place`.
    pub fn of(&self, place: Id) -> Arc<Load> {
        if let Some(load) = self.by_place.read().get(&place) {
            return Arc::clone(load);
        }
        let mut by_place = self.by_place.write();
        if by_place.len() >= PLACES_MAX {
            by_place.retain(|_, load| Arc::strong_count(load) > 1);
        }
        Arc::clone(by_place.entry(place).or_insert_with(|| Arc::new(Load::new(self.began))))
    }

    /// How busy `place` is.
    pub fn seen(&self, place: Id, now: Instant) -> Seen {
        self.by_place.read().get(&place).map_or_else(Seen::default, |load| load.seen(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_fades_slowly() {
        let now = Instant::now();
        let load = Load::new(now);
        load.observe_failure(MILLI, now);
        assert_eq!(load.seen(now), Seen::default());
        load.observe(10 * MILLI, now);
        load.observe_failure(MILLI, now);
        assert_eq!(load.seen(now).latency, Some(0.01));
        load.observe_failure(20 * MILLI, now);
        assert_eq!(load.seen(now).latency, Some(0.02));
        load.observe(500 * MILLI, now);
        assert_eq!(load.seen(now).latency, Some(0.5));
        let mut later = now;
        for _ in 0..10 {
            later += Duration::from_millis(200);
            load.observe(10 * MILLI, later);
        }
        let latency = load.seen(later).latency.unwrap();
        assert!((0.15..0.25).contains(&latency), "{latency}");
        let silent = load.seen(later + FADE).latency.unwrap();
        assert!(silent < latency * 0.4, "fades without answers: {silent}");
    }

    #[test]
    fn places_are_counted_apart_and_bounded() {
        let loads = Loads::default();
        let held = loads.of(Id(1));
        held.enter();
        for place in 2..PLACES_MAX as u64 + 10 {
            loads.of(Id(place));
        }
        assert!(loads.by_place.read().len() <= PLACES_MAX);
        let now = Instant::now();
        assert_eq!((loads.seen(Id(1), now).in_flight, loads.seen(Id(2), now).in_flight), (1, 0));
        held.leave();
        assert_eq!(loads.seen(Id(1), now).in_flight, 0);
    }
}
