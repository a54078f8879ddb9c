//! The health of one thing: in, out for a while, or on probation. Pure: time and chance are arguments.
//!
//! Out: nothing is sent there until its time is over; each time in a row doubles it. Then one request at a
//! time is let through, and its outcome decides. An outcome counts only if its attempt began after the
//! ejection: what was under way before says nothing new.

use std::time::{Duration, Instant};

use crate::metrics::Ejection;

/// Failures in a row that put a thing out.
pub const IN_A_ROW_MAX: u32 = 5;
/// The share of failures that puts a thing out, once enough was seen.
const SHARE_MAX: f64 = 0.25;
/// What is enough: attempts of the recent past. As Envoy's `success_rate_request_volume`.
const SEEN_MIN: f64 = 100.0;
/// What is enough for one that was out lately.
const SEEN_AGAIN_MIN: f64 = 20.0;
/// How fast the past is forgotten: after so long it counts half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// Without trouble for so long, everything is forgotten.
const CALM: Duration = Duration::from_secs(120);
/// How much longer than computed an ejection may last, so that not everything comes back at once.
const JITTER: f64 = 0.2;

/// The first ejection of a series, and the longest.
fn periods(reason: Ejection) -> (Duration, Duration) {
    let seconds = Duration::from_secs;
    match reason {
        Ejection::CredentialRefused => (seconds(60), seconds(3600)),
        Ejection::RateLimited
        | Ejection::AskedForTime
        | Ejection::Throttled
        | Ejection::Failing
        | Ejection::ProbeFailed => (seconds(1), seconds(60)),
    }
}

/// Kept out: how much longer, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Out {
    /// Zero where its time is over and one request is finding out whether it works again.
    pub left: Duration,
    /// Why.
    pub reason: Ejection,
}

impl Out {
    /// Whether the provider itself said when to come back: earlier is pointless, even with nothing else left.
    pub fn is_the_providers_word(&self) -> bool {
        match self.reason {
            Ejection::RateLimited | Ejection::AskedForTime => !self.left.is_zero(),
            Ejection::Throttled | Ejection::CredentialRefused | Ejection::Failing | Ejection::ProbeFailed => false,
        }
    }
}

/// What a failed attempt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// One of many that together put a thing out.
    Counted(Ejection),
    /// Enough by itself.
    Decisive(Ejection),
    /// The provider said for how long.
    Told(Ejection, Duration),
}

#[derive(Debug, Clone, Copy)]
struct Spell {
    since: Instant,
    until: Instant,
    reason: Ejection,
    probing: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    spell: Option<Spell>,
    /// Ejections in a row, without calm between them.
    strikes: u32,
    in_a_row: u32,
    /// Attempts and failures of the recent past, older ones counting less.
    seen: f64,
    failed: f64,
    counted_at: Instant,
    troubled_at: Instant,
}

impl Breaker {
    /// In, without a past.
    pub fn new(now: Instant) -> Self {
        Self { spell: None, strikes: 0, in_a_row: 0, seen: 0.0, failed: 0.0, counted_at: now, troubled_at: now }
    }

    /// Whether and why it is kept out now. On probation it is not, unless a probe is under way.
    pub fn out(&self, now: Instant) -> Option<Out> {
        let spell = self.spell.filter(|spell| spell.probing || spell.until > now)?;
        Some(Out { left: spell.until.saturating_duration_since(now), reason: spell.reason })
    }

    /// Whether it was put out and did not work since.
    pub fn is_ejected(&self) -> bool {
        self.spell.is_some()
    }

    /// Ends an ejection for failures, so that a request may try, if a probe that began at `began` was answered.
    pub fn hasten(&mut self, (began, now): (Instant, Instant)) {
        if let Some(spell) = &mut self.spell
            && spell.reason == Ejection::Failing
            && began >= spell.since
        {
            spell.until = spell.until.min(now);
        }
    }

    /// Takes the one place of a probe, if it is on probation. To be asked only when it is not out.
    pub fn claim(&mut self) -> bool {
        self.spell.as_mut().is_some_and(|spell| !std::mem::replace(&mut spell.probing, true))
    }

    /// The probe ended without saying anything.
    pub fn release(&mut self) {
        if let Some(spell) = &mut self.spell {
            spell.probing = false;
        }
    }

    /// An attempt that began at `began` succeeded. Whether this ends an ejection.
    pub fn succeed(&mut self, began: Instant, now: Instant) -> bool {
        if self.spell.is_some_and(|spell| began < spell.since) {
            return false;
        }
        self.decay(now);
        self.seen += 1.0;
        self.in_a_row = 0;
        self.spell.take().is_some()
    }

    /// An attempt that began at `began` failed; `chance` is in 0..1. The time it is put out for, if it is now.
    pub fn fail(&mut self, (began, now): (Instant, Instant), blow: Blow, chance: f64) -> Option<(Ejection, Duration)> {
        self.decay(now);
        self.troubled_at = now;
        (self.seen, self.failed, self.in_a_row) = (self.seen + 1.0, self.failed + 1.0, self.in_a_row.saturating_add(1));
        let known = self.spell.is_some_and(|spell| began < spell.since);
        let (reason, told) = match blow {
            Blow::Told(reason, period) => (reason, Some(period)),
            Blow::Decisive(_) | Blow::Counted(_) if known => return None,
            Blow::Decisive(reason) => (reason, None),
            Blow::Counted(reason) if self.spell.is_some() || self.is_too_much() => (reason, None),
            Blow::Counted(_) => return None,
        };
        let period = told.unwrap_or_else(|| self.next_period(reason, chance));
        let until = self.spell.map_or(now + period, |spell| spell.until.max(now + period));
        self.spell = Some(Spell { since: now, until, reason, probing: false });
        (self.in_a_row, self.seen, self.failed) = (0, 0.0, 0.0);
        Some((reason, period))
    }

    /// Whether there is nothing worth remembering.
    pub fn is_forgettable(&self, now: Instant) -> bool {
        let over = self.spell.is_none_or(|spell| !spell.probing && spell.until + CALM < now);
        over && self.troubled_at + CALM < now
    }

    fn is_too_much(&self) -> bool {
        let enough = if self.strikes == 0 { SEEN_MIN } else { SEEN_AGAIN_MIN };
        self.in_a_row >= IN_A_ROW_MAX || (self.seen >= enough && self.failed / self.seen >= SHARE_MAX)
    }

    fn next_period(&mut self, reason: Ejection, chance: f64) -> Duration {
        let (first, longest) = periods(reason);
        let period = first.saturating_mul(1 << self.strikes.min(12)).min(longest);
        self.strikes = self.strikes.saturating_add(1);
        period.mul_f64(1.0 + JITTER * chance)
    }

    fn decay(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.counted_at);
        let keep = 0.5_f64.powf(elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64());
        (self.seen, self.failed, self.counted_at) = (self.seen * keep, self.failed * keep, now);
        if self.spell.is_none() && now.saturating_duration_since(self.troubled_at) > CALM {
            self.strikes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FAILS: Blow = Blow::Counted(Ejection::Failing);

    fn put_out(breaker: &mut Breaker, now: Instant) -> Duration {
        (0..IN_A_ROW_MAX).find_map(|_| breaker.fail((now, now), FAILS, 0.0)).unwrap().1
    }

    #[test]
    fn failures_in_a_row_put_it_out_and_a_success_between_does_not() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for _ in 0..IN_A_ROW_MAX - 1 {
            assert_eq!(breaker.fail((now, now), FAILS, 0.0), None);
        }
        breaker.succeed(now, now);
        assert_eq!(breaker.out(now), None);
        assert_eq!(put_out(&mut breaker, now), SECOND);
        assert_eq!(breaker.out(now), Some(Out { left: SECOND, reason: Ejection::Failing }));
        assert_eq!(breaker.out(now + SECOND), None, "on probation");
    }

    #[test]
    fn a_share_of_failures_puts_it_out() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        let mut ejected = None;
        for round in 0..200 {
            let failed = if round % 3 == 0 { breaker.fail((now, now), FAILS, 0.0) } else { None };
            if round % 3 != 0 {
                breaker.succeed(now, now);
            }
            ejected = ejected.or(failed.map(|_| round));
        }
        assert!(ejected.is_some_and(|round| (99..130).contains(&round)), "{ejected:?}");
        let mut breaker = Breaker::new(now);
        for round in 0..2000 {
            match round % 10 {
                0 => assert_eq!(breaker.fail((now, now), FAILS, 0.0), None, "a tenth is bearable"),
                _ => assert!(!breaker.succeed(now, now)),
            }
        }
    }

    #[test]
    fn each_time_in_a_row_doubles_to_a_bound_and_calm_forgets() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(now);
        let mut period = put_out(&mut breaker, now);
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            now += period;
            assert!(breaker.claim());
            period = breaker.fail((now, now), FAILS, 0.0).unwrap().1;
            assert_eq!(period, SECOND * seconds, "a failed probe is enough");
        }
        now += period;
        assert!(breaker.claim() && breaker.succeed(now, now) && breaker.out(now).is_none());
        assert_eq!(put_out(&mut breaker, now + 30 * SECOND), 60 * SECOND, "soon after: no new start");
        now += 30 * SECOND + 60 * SECOND;
        breaker.succeed(now, now);
        now += CALM + SECOND;
        assert!(breaker.is_forgettable(now));
        assert_eq!(put_out(&mut breaker, now), SECOND);
    }

    #[test]
    fn one_probe_at_a_time() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        let later = now + put_out(&mut breaker, now);
        assert!(breaker.claim() && !breaker.claim());
        assert_eq!(breaker.out(later).map(|out| out.left), Some(Duration::ZERO));
        breaker.release();
        assert_eq!(breaker.out(later), None);
        assert!(breaker.claim());
    }

    #[test]
    fn what_began_before_the_ejection_says_nothing() {
        let began = Instant::now();
        let now = began + SECOND;
        let mut breaker = Breaker::new(began);
        put_out(&mut breaker, now);
        assert!(!breaker.succeed(began, now));
        assert_eq!(breaker.fail((began, now), FAILS, 0.0), None);
        assert_eq!(breaker.out(now).map(|out| out.left), Some(SECOND));
        assert!(breaker.succeed(now, now), "an attempt made all the same");
    }

    #[test]
    fn an_answered_probe_lets_a_request_try_early() {
        let began = Instant::now();
        let now = began + SECOND / 2;
        let mut breaker = Breaker::new(began);
        put_out(&mut breaker, now);
        breaker.hasten((began, now));
        assert!(breaker.out(now).is_some(), "asked before it failed");
        breaker.hasten((now, now));
        assert_eq!(breaker.out(now), None);
        assert!(breaker.is_ejected() && breaker.claim(), "on probation");
        assert_eq!(breaker.fail((now, now), FAILS, 0.0), Some((Ejection::Failing, 2 * SECOND)));
        let mut breaker = Breaker::new(began);
        breaker.fail((now, now), Blow::Told(Ejection::AskedForTime, SECOND), 0.0);
        breaker.hasten((now, now));
        assert!(breaker.out(now).is_some(), "the provider's word stands");
    }

    #[test]
    fn a_provider_that_says_for_how_long_is_taken_at_its_word() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        let told = Blow::Told(Ejection::RateLimited, 7 * SECOND);
        assert_eq!(breaker.fail((now, now), told, 0.9), Some((Ejection::RateLimited, 7 * SECOND)));
        breaker.fail((now, now), Blow::Told(Ejection::RateLimited, SECOND), 0.0);
        assert_eq!(breaker.out(now).map(|out| out.left), Some(7 * SECOND), "the longest word stands");
    }

    #[test]
    fn chance_only_lengthens_and_a_refused_key_stays_out_for_long() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        let (_, period) = breaker.fail((now, now), Blow::Decisive(Ejection::CredentialRefused), 1.0).unwrap();
        assert_eq!(period, Duration::from_secs(72));
    }
}
