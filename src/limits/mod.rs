//! How much may be asked for: limits on requests, tokens, money and concurrency.
//!
//! A request [reserves](Limits::reserve) what it is expected to cost under every limit it comes under, in one decision:
//! all is taken or nothing. At its end the reservation is [settled](Reservation::settle) with what it did cost, which
//! may lead into debt; dropped, it gives tokens, money and its slot back (a request made stays a request made).
//!
//! Owns the maths ([`gcra`]), the counts of this process, and the lease of a fleet's counts from Redis. Must not touch:
//! requests, answers, the store; whoever has a store [saves](Limits::unsaved) and [restores](Limits::restore) the
//! counts of days and months.

mod bucket;
mod claim;
mod clock;
mod decide;
mod fleet;
pub mod gcra;
mod lease;
mod reservation;
mod saved;
mod table;
mod typical;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use bucket::{Cost, Gauge};
pub use claim::{Claim, Claimed};
use clock::Clock;
pub use decide::Standing;
use decide::{Basis, Decision, Refusal, decide};
use fleet::Fleet;
use gcra::Now;
pub use reservation::Reservation;
pub use saved::SavedCount;
use table::{Hold, Table};
pub use typical::Typical;

use crate::config::{ConnectionUrl, HolderKind, Limit};

/// Every count of this process.
pub struct Limits {
    table: Arc<Table>,
    clock: Arc<Clock>,
    /// `None`: this process counts for itself.
    fleet: Option<Fleet>,
    typical: Typical,
}

/// A request that has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Under this limit, the one that has to be waited for the longest.
    Limit {
        /// Which.
        limit: Limit,
        /// Whose.
        holder: HolderKind,
        /// What the holder is called.
        name: String,
        /// After so many milliseconds the same request is let through, if nobody else is before; above zero.
        wait_ms: u64,
        /// How near all limits are.
        standing: Standing,
    },
    /// Too many holders are active to count for another.
    Full,
}

/// One limit of a key as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Whose.
    pub holder: HolderKind,
    /// What the holder is called.
    pub name: String,
    /// Which.
    pub limit: Limit,
    /// How much of it is left.
    pub gauge: Gauge,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

impl Limits {
    /// Counts in memory, for this process alone.
    pub fn new() -> Self {
        let (table, clock) = (Arc::new(Table::new()), Arc::new(Clock::started()));
        Self { table, clock, fleet: None, typical: Typical::default() }
    }

    /// Counts for a fleet, through the server at `url`, and the task that speaks with it: to be run where waiting for a
    /// server hurts nobody.
    ///
    /// # Errors
    /// `url` is no Redis URL.
    pub fn shared(url: &ConnectionUrl) -> Result<(Self, impl Future<Output = ()> + Send + use<>), String> {
        let limits = Self::new();
        let (fleet, task) = Fleet::new(url, (Arc::clone(&limits.table), Arc::clone(&limits.clock)))?;
        Ok((Self { fleet: Some(fleet), ..limits }, task))
    }

    /// The time, as limits read it.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Takes what `claim` is expected to cost, of all limits or of none. Waits at most 20 ms, for a shared limit only.
    ///
    /// # Errors
    /// A limit has no room, or nothing more can be counted.
    pub async fn reserve(&self, claim: Claim<'_>) -> Result<Reservation, Denied> {
        let holds = self.holds(&claim)?;
        let Some(fleet) = &self.fleet else {
            let decision = decide(&holds, &claim.cost, (Basis::Whole, self.now()));
            return self.decided(&claim, holds, decision);
        };
        let decision = match decide(&holds, &claim.cost, (fleet.basis(), self.now())) {
            Decision::Ask => match fleet.ask(&holds, claim.cost).await {
                Some(Ok(reservation)) => return Ok(reservation),
                Some(Err(decision)) => decision,
                None => Decision::Ask,
            },
            decision => decision,
        };
        let decision = match decision {
            // Nobody answered in time, or others were quicker.
            Decision::Ask => decide(&holds, &claim.cost, (fleet.share(), self.now())),
            decision => decision,
        };
        self.decided(&claim, holds, decision)
    }

    fn decided(&self, claim: &Claim<'_>, holds: Vec<Hold>, decision: Decision) -> Result<Reservation, Denied> {
        match decision {
            Decision::Taken(marks, standing) => {
                let fleet = self.fleet.as_ref().map(|fleet| Arc::clone(&fleet.state));
                Ok(Reservation::new((Arc::clone(&self.clock), fleet), (holds, marks), (claim.cost, standing)))
            }
            Decision::Refused(refusal, standing) => Err(denied(claim, refusal, standing)),
            Decision::Ask => Err(Denied::Full),
        }
    }

    /// Every limit of `claim` as it stands, in the order of holders and kinds.
    pub fn current(&self, claim: &Claim<'_>) -> Vec<Current> {
        let now = self.now();
        let mut current = Vec::new();
        for claimed in claim.holders() {
            let state = self.table.peek(claimed.kind, claimed.id);
            let mut buckets = state.as_ref().map(|state| state.buckets.lock());
            for limit in claimed.limits.iter() {
                let gauge = match &mut buckets {
                    Some(buckets) => {
                        let bucket = buckets.of(limit.kind);
                        bucket.advance(limit.amount, now);
                        decide::gauge(bucket, limit.amount, (self.basis(), now))
                    }
                    None => Gauge { limit: limit.amount, remaining: limit.amount, reset_ms: 0 },
                };
                current.push(Current { holder: claimed.kind, name: claimed.name.to_owned(), limit, gauge });
            }
        }
        current
    }

    /// Whether limits are counted with the fleet now.
    pub fn is_shared(&self) -> bool {
        self.basis() == Basis::Leased
    }

    /// What models usually answer.
    pub fn typical(&self) -> &Typical {
        &self.typical
    }

    /// Forgets who has nothing left to count; to be called about once a minute.
    pub fn sweep(&self) {
        self.table.sweep(self.now());
    }

    fn basis(&self) -> Basis {
        self.fleet.as_ref().map_or(Basis::Whole, Fleet::basis)
    }

    fn holds(&self, claim: &Claim<'_>) -> Result<Vec<Hold>, Denied> {
        let hold = |claimed: &Claimed<'_>| {
            let state = self.table.find(claimed.kind, claimed.id).map_err(|_| Denied::Full)?;
            Ok(Hold { state, limits: claimed.limits.clone() })
        };
        claim.holders().iter().map(hold).collect()
    }
}

fn denied(claim: &Claim<'_>, refusal: Refusal, standing: Standing) -> Denied {
    let claimed = claim.holders().get(refusal.hold);
    Denied::Limit {
        limit: refusal.limit,
        holder: claimed.map_or(HolderKind::Global, |claimed| claimed.kind),
        name: claimed.map(|claimed| claimed.name.to_owned()).unwrap_or_default(),
        wait_ms: refusal.wait_ms,
        standing,
    }
}
