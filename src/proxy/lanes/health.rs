//! The breakers of everything that had trouble lately. What has no entry is well.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::breaker::{Blow, Breaker, Out};
use super::{Id, Lane};
use crate::metrics::{self, Ejection};

/// More than any configuration has; beyond it, a new fault evicts an arbitrary old one.
const ENTRIES_MAX: usize = 10_000;

/// What has been calm for long is forgotten this often, also when nobody asks for it any more.
const SWEEP: Duration = Duration::from_secs(60);

/// What is at fault when an attempt fails, and for how long the provider asks to be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The credential was refused.
    Credential,
    /// So it seems: a prompt can be refused in the same way, so one does not count for much.
    Forbidden,
    /// At its rate limit.
    Quota(Option<Duration>),
    /// The origin failed, was silent, or could not be reached.
    Place(Option<Duration>),
}

impl Fault {
    fn blow(self) -> Blow {
        match self {
            Fault::Credential => Blow::Decisive(Ejection::CredentialRefused),
            Fault::Forbidden => Blow::Counted(Ejection::CredentialRefused),
            Fault::Quota(Some(wait)) => Blow::Told(Ejection::RateLimited, wait),
            Fault::Quota(None) => Blow::Counted(Ejection::Throttled),
            Fault::Place(Some(wait)) => Blow::Told(Ejection::AskedForTime, wait),
            Fault::Place(None) => Blow::Counted(Ejection::Failing),
        }
    }

    fn at(self, lane: Lane) -> Id {
        match self {
            Fault::Credential | Fault::Forbidden => lane.key,
            Fault::Quota(_) => lane.quota,
            Fault::Place(_) => lane.place,
        }
    }
}

/// Leave to make an attempt, and which parts of the lane it probes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pass {
    probes: [Option<Id>; 4],
}

/// What is known of one part of a lane.
#[derive(Debug)]
struct Entry {
    breaker: Breaker,
    /// The origin that it is about.
    site: Id,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Health {
    entries: RwLock<HashMap<Id, Entry>>,
    count: AtomicUsize,
    swept: Mutex<Option<Instant>>,
}

impl Health {
    /// Whether nothing has had trouble lately, so that nothing needs to be looked up.
    pub fn all_well(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    /// Whether and why `lane` is kept out. The provider's own word comes first, then what lasts longest.
    pub fn out(&self, lane: Lane, now: Instant) -> Option<Out> {
        if self.all_well() {
            return None;
        }
        self.sweep(now);
        let entries = self.entries.read();
        let out = |id: Id| entries.get(&id)?.breaker.out(now);
        parts(lane).into_iter().filter_map(out).max_by_key(|out| (out.is_the_providers_word(), out.left))
    }

    /// Leave to make an attempt on `lane`; `None` while it is kept out. What is on probation is probed by it,
    /// until the pass is given back.
    pub fn admit(&self, lane: Lane, now: Instant) -> Option<Pass> {
        if !self.knows(lane) {
            return Some(Pass::default());
        }
        let mut entries = self.entries.write();
        if parts(lane).iter().any(|id| entries.get(id).is_some_and(|entry| entry.breaker.out(now).is_some())) {
            return None;
        }
        let probes = parts(lane).map(|id| entries.get_mut(&id)?.breaker.claim().then_some(id));
        Some(Pass { probes })
    }

    /// The attempt of `pass` says nothing about what it probed.
    pub fn give_back(&self, pass: Pass) {
        for id in pass.probes.into_iter().flatten() {
            if let Some(entry) = self.entries.write().get_mut(&id) {
                entry.breaker.release();
            }
        }
    }

    /// An attempt on `lane` that began at `began` was answered.
    pub fn succeed(&self, lane: Lane, (began, now): (Instant, Instant)) {
        if !self.knows(lane) {
            return;
        }
        let mut entries = self.entries.write();
        for id in parts(lane) {
            let Some(Entry { breaker, .. }) = entries.get_mut(&id) else { continue };
            if breaker.succeed(began, now) {
                metrics::lane_in();
            }
            if breaker.is_forgettable(now) {
                entries.remove(&id);
            }
        }
        self.count.store(entries.len(), Relaxed);
    }

    /// An attempt on `lane` that began at `began` failed; `chance` is in 0..1. Why and for how long this puts
    /// something out, if it does.
    pub fn fail(
        &self,
        lane: Lane,
        (began, now): (Instant, Instant),
        (fault, chance): (Fault, f64),
    ) -> Option<(Ejection, Duration)> {
        self.strike((fault.at(lane), lane.site), (began, now), (fault.blow(), chance)).0
    }

    /// The origin `site` failed its probe; without another word it is out for `period`. Whether this is new.
    pub fn probe_failed(&self, site: Id, now: Instant, period: Duration) -> bool {
        let (_, was_out) = self.strike((site, site), (now, now), (Blow::Told(Ejection::ProbeFailed, period), 0.0));
        !was_out
    }

    /// The origin `site` answered a probe that began at `began`: it is in, and what failures had put out there
    /// may be tried by a request.
    pub fn probe_passed(&self, site: Id, (began, now): (Instant, Instant)) {
        if self.all_well() {
            return;
        }
        let mut entries = self.entries.write();
        for entry in entries.values_mut().filter(|entry| entry.site == site) {
            entry.breaker.hasten((began, now));
        }
        if entries.get_mut(&site).is_some_and(|entry| entry.breaker.succeed(began, now)) {
            metrics::lane_in();
        }
    }

    /// Holds a failure against the part `id` of a lane at `site`; with whether it was out before.
    fn strike(
        &self,
        (id, site): (Id, Id),
        (began, now): (Instant, Instant),
        (blow, chance): (Blow, f64),
    ) -> (Option<(Ejection, Duration)>, bool) {
        let mut entries = self.entries.write();
        if !entries.contains_key(&id) {
            make_room(&mut entries, now);
        }
        let entry = entries.entry(id).or_insert_with(|| Entry { breaker: Breaker::new(now), site });
        let was_out = entry.breaker.is_ejected();
        let ejection = entry.breaker.fail((began, now), blow, chance);
        if ejection.is_some() && !was_out {
            metrics::lane_out();
        }
        self.count.store(entries.len(), Relaxed);
        (ejection, was_out)
    }

    /// Forgets what is calm, now and then.
    fn sweep(&self, now: Instant) {
        let Some(mut swept) = self.swept.try_lock() else { return };
        if now.saturating_duration_since(*swept.get_or_insert(now)) < SWEEP {
            return;
        }
        *swept = Some(now);
        let mut entries = self.entries.write();
        forget_calm(&mut entries, now);
        self.count.store(entries.len(), Relaxed);
    }

    /// Whether any part of `lane` has had trouble lately.
    fn knows(&self, lane: Lane) -> bool {
        if self.all_well() {
            return false;
        }
        let entries = self.entries.read();
        parts(lane).iter().any(|id| entries.contains_key(id))
    }
}

fn parts(lane: Lane) -> [Id; 4] {
    [lane.place, lane.quota, lane.key, lane.site]
}

fn forget_calm(entries: &mut HashMap<Id, Entry>, now: Instant) {
    entries.retain(|_, Entry { breaker, .. }| {
        let keep = !breaker.is_forgettable(now);
        if !keep && breaker.is_ejected() {
            metrics::lane_in();
        }
        keep
    });
}

/// Forgets what is calm, and something else when that is not enough.
fn make_room(entries: &mut HashMap<Id, Entry>, now: Instant) {
    if entries.len() < ENTRIES_MAX {
        return;
    }
    forget_calm(entries, now);
    let victim = if entries.len() < ENTRIES_MAX { None } else { entries.keys().next().copied() };
    if victim.and_then(|id| entries.remove(&id)).is_some_and(|entry| entry.breaker.is_ejected()) {
        metrics::lane_in();
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::IN_A_ROW_MAX;
    use super::*;

    fn lane(place: u64, key: u64) -> Lane {
        Lane { place: Id(place), key: Id(key), quota: Id(place * 1000 + key), site: Id(place + 1_000_000) }
    }

    #[test]
    fn a_fault_is_held_against_what_is_at_fault() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.all_well());
        let here = lane(1, 2);
        health.fail(here, (now, now), (Fault::Credential, 0.0));
        assert_eq!(health.out(lane(9, 2), now).map(|out| out.reason), Some(Ejection::CredentialRefused));
        assert_eq!(health.out(lane(1, 3), now), None, "another key");
        let health = Health::default();
        for _ in 0..IN_A_ROW_MAX {
            assert_eq!(health.out(here, now), None);
            health.fail(here, (now, now), (Fault::Quota(None), 0.0));
        }
        assert_eq!(health.out(here, now).map(|out| out.reason), Some(Ejection::Throttled));
        assert_eq!(health.out(lane(1, 3), now), None, "another key's quota");
        let health = Health::default();
        for _ in 0..IN_A_ROW_MAX {
            health.fail(here, (now, now), (Fault::Place(None), 0.0));
        }
        assert_eq!(health.out(lane(1, 3), now).map(|out| out.reason), Some(Ejection::Failing), "whatever the key");
        assert_eq!(health.out(lane(2, 2), now), None);
    }

    #[test]
    fn the_providers_word_comes_first() {
        let (health, now) = (Health::default(), Instant::now());
        let here = lane(1, 2);
        health.fail(here, (now, now), (Fault::Credential, 0.0));
        health.fail(here, (now, now), (Fault::Quota(Some(Duration::from_secs(5))), 0.0));
        let out = health.out(here, now).unwrap();
        assert_eq!((out.reason, out.left), (Ejection::RateLimited, Duration::from_secs(5)));
    }

    #[test]
    fn one_attempt_probes_and_its_end_decides() {
        let (health, now) = (Health::default(), Instant::now());
        let here = lane(1, 2);
        health.fail(here, (now, now), (Fault::Quota(Some(Duration::from_secs(1))), 0.0));
        assert!(health.admit(here, now).is_none());
        let later = now + Duration::from_secs(1);
        let pass = health.admit(here, later).unwrap();
        assert!(health.admit(here, later).is_none());
        assert_eq!(health.out(here, later).map(|out| out.left), Some(Duration::ZERO));
        health.give_back(pass);
        assert!(health.admit(here, later).is_some());
        health.succeed(here, (later, later));
        assert!(health.admit(here, later).is_some() && health.admit(here, later).is_some());
        assert!(!health.all_well(), "remembered for a while");
        let calm = later + Duration::from_secs(600);
        health.succeed(here, (calm, calm));
        assert!(health.all_well());
    }

    #[test]
    fn a_probe_takes_an_origin_out_and_lets_requests_try_early() {
        let (health, began) = (Health::default(), Instant::now());
        let (here, now) = (lane(1, 2), began + Duration::from_millis(1));
        for _ in 0..IN_A_ROW_MAX {
            health.fail(here, (began, now), (Fault::Place(None), 0.0));
        }
        assert!(health.admit(here, now).is_none());
        health.probe_passed(Id(77), (now, now));
        assert!(health.admit(here, now).is_none(), "another origin");
        health.probe_passed(here.site, (now, now));
        let pass = health.admit(here, now).expect("one may try");
        assert!(health.admit(here, now).is_none(), "one at a time");
        health.give_back(pass);
        health.succeed(here, (now, now));

        let period = Duration::from_secs(10);
        assert!(health.probe_failed(here.site, now, period));
        assert!(!health.probe_failed(here.site, now, period), "known already");
        let out = health.out(lane(1, 3), now).expect("every key and model there");
        assert_eq!((out.reason, out.is_the_providers_word()), (Ejection::ProbeFailed, false));
        assert!(health.out(lane(2, 2), now).is_none());
        let later = now + Duration::from_secs(1);
        health.probe_passed(here.site, (later, later));
        assert!(health.out(here, later).is_none());
        assert!(health.admit(here, later).is_some() && health.admit(here, later).is_some(), "no probation");
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_forgotten() {
        let (health, now) = (Health::default(), Instant::now());
        health.fail(lane(1, 2), (now, now), (Fault::Credential, 0.0));
        assert!(health.out(lane(3, 4), now).is_none() && !health.all_well());
        assert!(health.out(lane(3, 4), now + Duration::from_secs(600)).is_none() && health.all_well());
    }

    #[test]
    fn the_table_is_bounded() {
        let (health, now) = (Health::default(), Instant::now());
        for place in 0..ENTRIES_MAX as u64 + 5 {
            health.fail(lane(place, 1), (now, now), (Fault::Place(None), 0.0));
        }
        assert_eq!(health.entries.read().len(), ENTRIES_MAX);
    }
}
