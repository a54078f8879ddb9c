//! Which ways to a provider are kept out, because it asked for time.
//!
//! A lane is one origin of one provider, with one credential, for one upstream model: what a provider's
//! `Retry-After` speaks about. The state outlives reloads, since a lane's id depends on its parts alone.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::config::Provider;

/// More lanes than any configuration has; beyond it, the lane free soonest is forgotten.
const LANES_MAX: usize = 10_000;

/// One way to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneId(u64);

impl LaneId {
    /// The lane of `provider`'s origin and key (by position) for `upstream_model`.
    pub fn new(provider: &Provider, origin: usize, key: usize, upstream_model: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        provider.name.hash(&mut hasher);
        provider.origins.get(origin).map(|origin| (&origin.authority, &origin.base_path)).hash(&mut hasher);
        provider.keys.get(key).map(|key| key.fingerprint).hash(&mut hasher);
        upstream_model.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Why a lane is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// 429: at its rate limit.
    RateLimited,
    /// Any other refusal that came with `Retry-After`.
    Unavailable,
}

/// The lanes kept out now. Costs one atomic load while there are none.
#[derive(Debug, Default)]
pub struct Lanes {
    count: AtomicUsize,
    until: RwLock<HashMap<LaneId, (Instant, Reason)>>,
}

impl Lanes {
    /// Whether no lane is kept out, so that nothing needs to be looked up.
    pub fn all_free(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    /// How much longer `lane` is kept out, and why.
    pub fn kept_out(&self, lane: LaneId, now: Instant) -> Option<(Duration, Reason)> {
        if self.all_free() {
            return None;
        }
        let (until, reason) = *self.until.read().get(&lane)?;
        until.checked_duration_since(now).filter(|left| !left.is_zero()).map(|left| (left, reason))
    }

    /// Keeps `lane` out for `period` from `now`.
    pub fn keep_out(&self, lane: LaneId, now: Instant, (period, reason): (Duration, Reason)) {
        let mut until = self.until.write();
        until.retain(|_, (until, _)| *until > now);
        if until.len() >= LANES_MAX {
            let soonest = until.iter().min_by_key(|(_, (until, _))| *until).map(|(lane, _)| *lane);
            soonest.and_then(|lane| until.remove(&lane));
        }
        until.insert(lane, (now + period, reason));
        self.count.store(until.len(), Relaxed);
    }

    /// Lets `lane` in again, because it answered.
    pub fn let_in(&self, lane: LaneId) {
        if self.all_free() {
            return;
        }
        let mut until = self.until.write();
        until.remove(&lane);
        self.count.store(until.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_out_for_its_time_and_no_other_is() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        let (one, two) = (LaneId(1), LaneId(2));
        assert!(lanes.all_free());
        lanes.keep_out(one, now, (Duration::from_secs(5), Reason::RateLimited));
        assert_eq!(lanes.kept_out(one, now), Some((Duration::from_secs(5), Reason::RateLimited)));
        assert_eq!(lanes.kept_out(two, now), None);
        assert_eq!(lanes.kept_out(one, now + Duration::from_secs(5)), None);
        lanes.let_in(one);
        assert!(lanes.all_free());
    }

    #[test]
    fn the_table_is_bounded() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        for id in 0..LANES_MAX as u64 + 5 {
            lanes.keep_out(LaneId(id), now, (Duration::from_secs(60 + id), Reason::Unavailable));
        }
        assert_eq!(lanes.until.read().len(), LANES_MAX);
        assert_eq!(lanes.kept_out(LaneId(0), now), None);
    }
}
