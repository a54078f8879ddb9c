//! Process-wide bounds on buffered bytes: a lease is taken before bytes are kept and given back by drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number of bytes that all requests share.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    bytes_max: u64,
    meter: Meter,
}

/// Who is told of bytes taken and given back.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    /// So many were taken.
    pub taken: fn(u64),
    /// So many were given back.
    pub returned: fn(u64),
}

impl Budget {
    /// A budget of `bytes_max` bytes, all of it free.
    pub fn new(bytes_max: u64, meter: Meter) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), bytes_max, meter })
    }

    /// Bytes leased out now.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Starts a lease of nothing.
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease { budget: Arc::clone(self), bytes: 0 }
    }
}

/// One request's share of a [`Budget`].
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Lease {
    /// Takes `more` bytes; false, and nothing taken, when the budget does not have them.
    #[must_use]
    pub fn grow(&mut self, more: u64) -> bool {
        let within = |used: u64| used.checked_add(more).filter(|sum| *sum <= self.budget.bytes_max);
        let granted = self.budget.used.fetch_update(Relaxed, Relaxed, within).is_ok();
        if granted {
            self.bytes += more;
            (self.budget.meter.taken)(more);
        }
        granted
    }

    /// Gives everything back.
    pub fn release(&mut self) {
        if self.bytes > 0 {
            self.budget.used.fetch_sub(self.bytes, Relaxed);
            (self.budget.meter.returned)(self.bytes);
            self.bytes = 0;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNMETERED: Meter = Meter { taken: |_| {}, returned: |_| {} };

    #[test]
    fn a_lease_never_exceeds_the_budget_and_returns_by_drop() {
        let budget = Budget::new(10, UNMETERED);
        let mut a = budget.lease();
        let mut b = budget.lease();
        assert!(a.grow(6) && !b.grow(5) && b.grow(4));
        assert_eq!(budget.used(), 10);
        drop(a);
        assert_eq!(budget.used(), 4);
        b.release();
        assert_eq!(budget.used(), 0);
        assert!(!b.grow(u64::MAX));
    }
}
