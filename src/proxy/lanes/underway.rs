//! An attempt under way: in flight until dropped, a probe until its outcome is known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::{Fault, Pass};
use super::{Health, Known, Lane, Load};
use crate::metrics::Ejection;

/// See the module.
#[derive(Debug)]
pub struct Underway {
    health: Arc<Health>,
    load: Arc<Load>,
    lane: Lane,
    pass: Pass,
    began: Instant,
    answered: bool,
}

impl Underway {
    pub(super) fn new(known: &Known, (lane, pass): (Lane, Pass), now: Instant) -> Self {
        let load = known.loads.of(lane.place);
        load.enter();
        Self { health: Arc::clone(&known.health), load, lane, pass, began: now, answered: false }
    }

    /// The first byte of what was wanted has come: the lane works. Only the first word counts.
    pub fn answered(&mut self, now: Instant) {
        if !self.answered {
            self.answered = true;
            self.load.observe(now.saturating_duration_since(self.began), now);
            self.pass = Pass::default();
            self.health.succeed(self.lane, (self.began, now));
        }
    }

    /// The attempt failed; `chance` is in 0..1. Why and for how long this puts something out, if it does.
    pub fn failed(&mut self, now: Instant, (fault, chance): (Fault, f64)) -> Option<(Ejection, Duration)> {
        if !self.answered {
            self.load.observe_failure(now.saturating_duration_since(self.began), now);
        }
        self.health.give_back(std::mem::take(&mut self.pass));
        self.health.fail(self.lane, (self.began, now), (fault, chance))
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.load.leave();
        self.health.give_back(self.pass);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Id;
    use super::*;

    #[test]
    fn an_attempt_is_in_flight_and_a_probe_until_it_is_dropped() {
        let (known, now) = (Known::default(), Instant::now());
        let lane = Lane { place: Id(1), key: Id(2), quota: Id(3), site: Id(4) };
        let mut first = known.begin(lane, now).unwrap();
        assert_eq!(known.loads.seen(lane.place, now).in_flight, 1);
        assert!(first.failed(now, (Fault::Quota(Some(Duration::from_secs(1))), 0.0)).is_some());
        drop(first);
        assert!(known.begin(lane, now).is_none());
        assert_eq!(known.loads.seen(lane.place, now).in_flight, 0);
        let later = now + Duration::from_secs(1);
        let probe = known.begin(lane, later).unwrap();
        assert!(known.begin(lane, later).is_none());
        drop(probe);
        let mut probe = known.begin(lane, later).unwrap();
        probe.answered(later);
        assert!(known.begin(lane, later).is_some());
    }
}
