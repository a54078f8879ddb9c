//! What a request has taken, until it ends.

use std::fmt;
use std::sync::Arc;

use super::bucket::{Cost, Ending, Taken};
use super::clock::Clock;
use super::decide::Standing;
use super::fleet::State;
use super::gcra::Mark;
use super::table::Hold;

/// What a request has taken. Dropped, it gives tokens, money and its slot back.
#[must_use = "a reservation that is dropped is released"]
pub struct Reservation {
    clock: Arc<Clock>,
    fleet: Option<Arc<State>>,
    holds: Vec<Hold>,
    /// Of each limit of each holder, in order.
    marks: Vec<Mark>,
    cost: Cost,
    standing: Standing,
}

impl Reservation {
    pub(super) fn new(
        (clock, fleet): (Arc<Clock>, Option<Arc<State>>),
        (holds, marks): (Vec<Hold>, Vec<Mark>),
        (cost, standing): (Cost, Standing),
    ) -> Self {
        Self { clock, fleet, holds, marks, cost, standing }
    }

    /// How near the limits were when it was made, itself included.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// What it was expected to cost.
    pub fn expected(&self) -> Cost {
        self.cost
    }

    /// Ends it with what it did cost; more than expected leads into debt.
    pub fn settle(mut self, actual: Cost) {
        self.end(Ending::Settled(actual));
    }

    fn end(&mut self, ending: Ending) {
        if self.holds.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut marks = self.marks.iter();
        for hold in std::mem::take(&mut self.holds) {
            let mut buckets = hold.state.buckets.lock();
            for (limit, mark) in hold.limits.iter().zip(&mut marks) {
                let taken = Taken { amount: limit.amount, cost: self.cost, mark: *mark };
                buckets.of(limit.kind).end(&taken, ending, now);
            }
            if let Some(fleet) = &self.fleet {
                fleet.changed(&hold.state, &mut buckets);
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end(Ending::Released);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("cost", &self.cost).finish_non_exhaustive()
    }
}
