//! The one decision about a request: under the locks of all its holders, all of it is taken or nothing.

use super::bucket::{Bucket, Cost, Gauge, Level, window_left_ms};
use super::gcra::{MINUTE_MS, Mark, Now};
use super::table::{Hold, Locked, lock};
use crate::config::{Limit, LimitKind};

/// What decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// This node's counts alone.
    Whole,
    /// What was leased from the fleet.
    Leased,
    /// This node's counts against its share among so many nodes.
    Share(u64),
}

/// How near the limits are: of those on requests, and of those on tokens, the one with the least left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// `rpm` and `rpd`.
    pub requests: Option<Gauge>,
    /// All that count tokens.
    pub tokens: Option<Gauge>,
}

impl Standing {
    fn see(&mut self, kind: LimitKind, gauge: Gauge) {
        let tightest = match kind {
            LimitKind::Rpm | LimitKind::Rpd => &mut self.requests,
            LimitKind::Tpm
            | LimitKind::Itpm
            | LimitKind::Otpm
            | LimitKind::Tpd
            | LimitKind::Itpd
            | LimitKind::Otpd
            | LimitKind::TokensMonth => &mut self.tokens,
            LimitKind::SpendDay | LimitKind::SpendMonth | LimitKind::Concurrent => return,
        };
        if tightest.is_none_or(|other| (gauge.remaining, gauge.limit) < (other.remaining, other.limit)) {
            *tightest = Some(gauge);
        }
    }
}

/// The limit that has to be waited for the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Position of the holder.
    pub hold: usize,
    pub limit: Limit,
    pub wait_ms: u64,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Decision {
    Taken(Vec<Mark>, Standing),
    Refused(Refusal, Standing),
    /// What is leased does not cover it.
    Ask,
}

/// Decides on `cost` under the limits of `holds`.
pub(super) fn decide(holds: &[Hold], cost: &Cost, (basis, now): (Basis, Now)) -> Decision {
    decide_locked(holds, &mut lock(holds), (cost, basis, now))
}

/// As [`decide`], where the holders are locked already.
pub(super) fn decide_locked(
    holds: &[Hold],
    locked: &mut [Locked<'_>],
    (cost, basis, now): (&Cost, Basis, Now),
) -> Decision {
    let mut verdict = Verdict::default();
    for (index, (hold, buckets)) in holds.iter().zip(locked.iter_mut()).enumerate() {
        for limit in hold.limits.iter() {
            let bucket = buckets.of(limit.kind);
            let wait = wait(bucket, (limit, cost.units(limit.kind)), (basis, now));
            verdict.add(wait, Refusal { hold: index, limit, wait_ms: 0 });
        }
    }
    match verdict {
        Verdict { refusal: Some(refusal), .. } => Decision::Refused(refusal, standing(holds, locked, (basis, now))),
        Verdict { ask: true, .. } => Decision::Ask,
        Verdict { .. } => {
            let marks = take(holds, locked, (cost, basis));
            Decision::Taken(marks, standing(holds, locked, (basis, now)))
        }
    }
}

#[derive(Default)]
struct Verdict {
    refusal: Option<Refusal>,
    ask: bool,
}

impl Verdict {
    fn add(&mut self, wait: Wait, refusal: Refusal) {
        match wait {
            Wait::None => {}
            Wait::Ask => self.ask = true,
            Wait::For(wait_ms) if self.refusal.is_none_or(|longest| longest.wait_ms < wait_ms) => {
                self.refusal = Some(Refusal { wait_ms, ..refusal });
            }
            Wait::For(_) => {}
        }
    }
}

enum Wait {
    None,
    Ask,
    For(u64),
}

fn wait(bucket: &mut Bucket, (limit, cost): (Limit, u64), (basis, now): (Basis, Now)) -> Wait {
    let (amount, cost) = (limit.amount, cost.min(limit.amount));
    bucket.amount = amount;
    bucket.advance(amount, now);
    let wait_ms = match (basis, &bucket.level) {
        (Basis::Leased, _) if bucket.lease.covers(cost, now) => 0,
        (Basis::Leased, _) => return bucket.lease.refused(cost, now).map_or(Wait::Ask, Wait::For),
        (Basis::Whole, _) => bucket.wait_ms((amount, cost), now),
        (Basis::Share(_), _) if cost == 0 => 0,
        (Basis::Share(nodes), Level::Meter(_)) => bucket.lease.wait_alone_ms((amount, cost), nodes, now),
        (Basis::Share(nodes), Level::Window(..) | Level::Count(_)) => {
            let share = bucket.lease.share(&bucket.level, amount, nodes);
            bucket.wait_ms((share, cost), now)
        }
    };
    if wait_ms == 0 { Wait::None } else { Wait::For(wait_ms) }
}

/// Takes `cost` of every limit, whether it fits or not. Returns when, for each limit in order.
fn take(holds: &[Hold], locked: &mut [Locked<'_>], (cost, basis): (&Cost, Basis)) -> Vec<Mark> {
    let mut marks = Vec::with_capacity(8);
    for (hold, buckets) in holds.iter().zip(locked) {
        for limit in hold.limits.iter() {
            let units = cost.units(limit.kind).min(limit.amount);
            let bucket = buckets.of(limit.kind);
            marks.push(bucket.take(limit.amount, units));
            match (basis, &bucket.level) {
                (Basis::Whole, _) => {}
                (Basis::Leased, _) => bucket.lease.spend(units),
                (Basis::Share(nodes), Level::Meter(_)) => bucket.lease.take_alone(units, nodes),
                (Basis::Share(_), Level::Window(..) | Level::Count(_)) => {}
            }
        }
    }
    marks
}

/// How near the limits of `holds` are.
fn standing(holds: &[Hold], locked: &mut [Locked<'_>], (basis, now): (Basis, Now)) -> Standing {
    let mut standing = Standing::default();
    for (hold, buckets) in holds.iter().zip(locked) {
        for limit in hold.limits.iter() {
            standing.see(limit.kind, gauge(buckets.of(limit.kind), limit.amount, (basis, now)));
        }
    }
    standing
}

/// What is left of one limit, for the fleet where it is shared.
pub(super) fn gauge(bucket: &Bucket, amount: u64, (basis, now): (Basis, Now)) -> Gauge {
    match basis {
        Basis::Whole => bucket.gauge(amount, now),
        Basis::Leased | Basis::Share(_) => {
            let remaining = bucket.lease.room(&bucket.level, amount, now);
            let reset_ms = match &bucket.level {
                Level::Meter(_) => (amount - remaining).saturating_mul(MINUTE_MS).div_ceil(amount.max(1)),
                Level::Window(period, window) => window_left_ms(*period, window, now),
                Level::Count(_) => 0,
            };
            Gauge { limit: amount, remaining, reset_ms }
        }
    }
}
