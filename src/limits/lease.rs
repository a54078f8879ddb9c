//! What of a limit that a fleet shares lies with this node: granted by the server ahead of its use, spent here without
//! asking, given back when it was not.
//!
//! The server counts what it grants as spent, so that a lease never makes more of a limit; it only moves a unit's use
//! by at most [`LEASE_MS`]. What differs from what was granted is told to the server later: for a minute's limit as an
//! amount owed, for a day, a month and slots as the whole count of this node, which may be told any number of times.

use super::bucket::Level;
use super::gcra::{MINUTE_MS, Meter, Now};

/// How long what was granted may be spent.
pub(super) const LEASE_MS: u64 = 1_000;
/// As long for slots: another node may be waiting for them.
const SLOT_LEASE_MS: u64 = 100;
/// How long a refusal is believed without asking again.
const REFUSAL_MS_MAX: u64 = 100;

/// The lease of one bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lease {
    /// Granted and not spent.
    pub spare: u64,
    /// Until when it may be spent.
    until_ms: u64,
    /// How much more than needed is asked for.
    wish: u64,
    /// Of a minute's limit: used (or, if negative, not used) beyond what the server knows.
    pub owed: i64,
    /// What the server was told last of a window or slots.
    pub told: Option<(u64, u64)>,
    refused: Refused,
    /// Of a minute's limit: everyone's count, as the server said it last.
    view: Meter,
    seen: Seen,
}

/// A refusal of the server's.
#[derive(Debug, Clone, Copy, Default)]
struct Refused {
    cost: u64,
    /// When it fits.
    fits_at_ms: u64,
    believed_until_ms: u64,
}

/// What the server said last of a window or slots.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// What was left for everyone.
    room: u64,
    /// Of a window: which.
    number: u64,
    /// Of a window: how much this node may use of it if it hears no more.
    entitled: u64,
}

/// What the server says of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// Units granted; 0 where any bucket of the request refused.
    pub granted: u64,
    /// When it would fit; 0: it does.
    pub wait_ms: u64,
    /// What is left for everyone.
    pub room: u64,
}

impl Lease {
    /// Whether `cost` can be spent here.
    pub fn covers(&self, cost: u64, now: Now) -> bool {
        cost <= self.spare && now.mono_ms < self.until_ms || cost == 0
    }

    /// Spends what is here, as far as it goes.
    pub fn spend(&mut self, cost: u64) {
        self.spare = self.spare.saturating_sub(cost);
    }

    /// How long `cost` has to wait, if the server refused as much a moment ago.
    pub fn refused(&self, cost: u64, now: Now) -> Option<u64> {
        let believed = now.mono_ms < self.refused.believed_until_ms && cost >= self.refused.cost;
        believed.then(|| self.refused.fits_at_ms.saturating_sub(now.mono_ms).max(1))
    }

    /// How much more than needed is asked for: more each time it is asked again within the time of a lease.
    pub fn wish(&mut self, cost: u64, now: Now) -> u64 {
        let busy = now.mono_ms < self.until_ms;
        self.wish = if busy { self.wish.saturating_mul(2).clamp(cost.saturating_mul(2), 1 << 40) } else { 0 };
        self.wish
    }

    /// Takes in what the server said to a request for `cost`, made by one of `nodes`.
    pub fn answered(&mut self, (level, amount): (&Level, u64), (cost, answer, nodes): (u64, Answer, u64), now: Now) {
        let period = if matches!(level, Level::Count(_)) { SLOT_LEASE_MS } else { LEASE_MS };
        if answer.granted > 0 {
            self.spare = self.spare.saturating_add(answer.granted);
            self.until_ms = now.mono_ms + period;
        }
        if answer.wait_ms > 0 {
            let believed_until_ms = now.mono_ms + answer.wait_ms.min(REFUSAL_MS_MAX);
            self.refused = Refused { cost, fits_at_ms: now.mono_ms + answer.wait_ms, believed_until_ms };
        }
        match level {
            Level::Meter(_) => self.view = Meter::with_room((amount, answer.room), now.mono_ms),
            Level::Window(_, window) => {
                let own = window.taken().saturating_add(self.spare);
                let entitled = own.saturating_add(answer.room / nodes.max(1));
                self.seen = Seen { room: answer.room, number: window.number, entitled };
            }
            Level::Count(_) => self.seen.room = answer.room,
        }
    }

    /// Whether there is something that was not spent in time.
    pub fn expired(&self, now: Now) -> bool {
        self.spare > 0 && now.mono_ms >= self.until_ms
    }

    /// Takes back what was not spent in time.
    pub fn expire(&mut self, (level, amount): (&Level, u64), now: Now) {
        if !self.expired(now) {
            return;
        }
        if let Level::Meter(_) = level {
            // What has drained since it was granted is not given back: it would be granted twice.
            let drained = (now.mono_ms - self.until_ms + LEASE_MS).saturating_mul(amount).div_ceil(MINUTE_MS);
            self.underspent(self.spare.saturating_sub(drained));
        }
        (self.spare, self.wish) = (0, 0);
    }

    /// More of a minute's limit was used than the server knows.
    pub fn overspent(&mut self, units: u64) {
        self.owed = self.owed.saturating_add_unsigned(units);
    }

    /// Less of a minute's limit was used than the server knows.
    pub fn underspent(&mut self, units: u64) {
        self.owed = self.owed.saturating_sub_unsigned(units);
    }

    /// How much of a window or of slots this node lets through while it cannot ask: its share of `amount` among
    /// `nodes`, at least 1.
    pub fn share(&self, level: &Level, amount: u64, nodes: u64) -> u64 {
        let equal = amount / nodes.max(1);
        let share = match level {
            Level::Window(_, window) if window.number == self.seen.number && self.seen.number > 0 => self.seen.entitled,
            Level::Window(..) | Level::Meter(_) | Level::Count(_) => equal,
        };
        share.clamp(1, amount)
    }

    /// How long `cost` has to wait under a minute's limit while this node cannot ask: as if each of `nodes` did the
    /// same, starting from what the server said last.
    pub fn wait_alone_ms(&mut self, (amount, cost): (u64, u64), nodes: u64, now: Now) -> u64 {
        self.view.drain(amount, now.mono_ms);
        self.view.wait_ms(amount, cost.saturating_mul(nodes))
    }

    /// Takes `cost` of a minute's limit while this node cannot ask; the server will be told.
    pub fn take_alone(&mut self, cost: u64, nodes: u64) {
        self.view.charge(cost.saturating_mul(nodes));
        self.overspent(cost);
    }

    /// What is left of `amount` for everyone, as far as is known.
    pub fn room(&self, level: &Level, amount: u64, now: Now) -> u64 {
        let room = match level {
            Level::Meter(_) => {
                let mut view = self.view;
                view.drain(amount, now.mono_ms);
                view.remaining(amount)
            }
            Level::Window(..) | Level::Count(_) => self.seen.room,
        };
        room.saturating_add(self.spare).min(amount)
    }

    /// Whether there is nothing to give back or to tell.
    pub fn idle(&self) -> bool {
        self.spare == 0 && self.owed == 0
    }
}
