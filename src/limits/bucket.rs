//! One limit of one holder: what was let through under it, and what of the fleet's share lies here.

use super::gcra::{Mark, Meter, Now, Period, Window};
use super::lease::Lease;
use crate::config::LimitKind;

/// What a request costs, or has cost: the request itself is always 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Tokens that are read.
    pub input_tokens: u64,
    /// Tokens that are written.
    pub output_tokens: u64,
    /// Micro-dollars; 0 where no price is known.
    pub microusd: u64,
}

impl Cost {
    /// How much of it a limit of `kind` counts.
    pub(super) fn units(&self, kind: LimitKind) -> u64 {
        match kind {
            LimitKind::Rpm | LimitKind::Rpd | LimitKind::Concurrent => 1,
            LimitKind::Tpm | LimitKind::Tpd | LimitKind::TokensMonth => {
                self.input_tokens.saturating_add(self.output_tokens)
            }
            LimitKind::Itpm | LimitKind::Itpd => self.input_tokens,
            LimitKind::Otpm | LimitKind::Otpd => self.output_tokens,
            LimitKind::SpendDay | LimitKind::SpendMonth => self.microusd,
        }
    }
}

/// How a reservation ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    /// It cost this.
    Settled(Cost),
    /// It cost no token and no money. A request it was all the same.
    Released,
}

impl Ending {
    fn units(&self, kind: LimitKind) -> u64 {
        match self {
            Ending::Settled(actual) => actual.units(kind),
            Ending::Released => Cost::default().units(kind),
        }
    }
}

/// What a reservation took of one bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// The limit then.
    pub amount: u64,
    /// What was expected.
    pub cost: Cost,
    /// When, for a meter.
    pub mark: Mark,
}

/// The three ways of counting.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    /// Per minute.
    Meter(Meter),
    /// Per day or month.
    Window(Period, Window),
    /// At once.
    Count(u64),
}

/// How much is let through, and how soon it will be again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    /// What the limit is.
    pub limit: u64,
    /// What of it is left.
    pub remaining: u64,
    /// Milliseconds until all of it is there again.
    pub reset_ms: u64,
}

/// One limit's state.
#[derive(Debug)]
pub(super) struct Bucket {
    pub kind: LimitKind,
    /// What the limit was when it was last decided on.
    pub amount: u64,
    pub level: Level,
    /// What of the fleet's share lies here; unused on one machine.
    pub lease: Lease,
    /// Of a day or month: which the store knows, and how much of it.
    pub saved: (u64, u64),
}

impl Bucket {
    pub fn new(kind: LimitKind) -> Self {
        let level = match kind {
            LimitKind::Rpm | LimitKind::Tpm | LimitKind::Itpm | LimitKind::Otpm => Level::Meter(Meter::default()),
            LimitKind::Rpd | LimitKind::Tpd | LimitKind::Itpd | LimitKind::Otpd | LimitKind::SpendDay => {
                Level::Window(Period::Day, Window::default())
            }
            LimitKind::TokensMonth | LimitKind::SpendMonth => Level::Window(Period::Month, Window::default()),
            LimitKind::Concurrent => Level::Count(0),
        };
        Self { kind, amount: 0, level, lease: Lease::default(), saved: (0, 0) }
    }

    /// Brings the count up to `now`.
    pub fn advance(&mut self, amount: u64, now: Now) {
        match &mut self.level {
            Level::Meter(meter) => meter.drain(amount, now.mono_ms),
            Level::Window(period, window) => window.roll(period.number(now.unix_ms)),
            Level::Count(_) => {}
        }
    }

    /// How long until `cost` fits, in milliseconds; 0: now. What is free always fits.
    pub fn wait_ms(&self, (amount, cost): (u64, u64), now: Now) -> u64 {
        /// When a slot falls free cannot be known.
        const SLOT_WAIT_MS: u64 = 1_000;
        match &self.level {
            _ if cost == 0 => 0,
            Level::Meter(meter) => meter.wait_ms(amount, cost),
            Level::Window(_, window) if window.fits(amount, cost) => 0,
            Level::Window(period, window) => window_left_ms(*period, window, now),
            Level::Count(count) => {
                if *count < amount {
                    0
                } else {
                    SLOT_WAIT_MS
                }
            }
        }
    }

    /// Takes `cost`, at most all of `amount`.
    pub fn take(&mut self, amount: u64, cost: u64) -> Mark {
        let cost = cost.min(amount);
        match &mut self.level {
            Level::Meter(meter) => return meter.charge(cost),
            Level::Window(_, window) => window.held = window.held.saturating_add(cost),
            Level::Count(count) => *count += 1,
        }
        Mark::default()
    }

    /// Puts what was used in the place of what `taken` took.
    pub fn end(&mut self, taken: &Taken, ending: Ending, now: Now) {
        let reserved = taken.cost.units(self.kind).min(taken.amount);
        let used = ending.units(self.kind);
        match &mut self.level {
            Level::Meter(meter) if used > reserved => {
                meter.charge(used - reserved);
                self.lease.overspent(used - reserved);
            }
            Level::Meter(meter) => {
                meter.drain(taken.amount, now.mono_ms);
                let back = meter.refund(reserved - used, taken.mark);
                self.lease.underspent(back);
            }
            Level::Window(_, window) => {
                window.held = window.held.saturating_sub(reserved);
                window.used = window.used.saturating_add(used);
            }
            Level::Count(count) => *count = count.saturating_sub(1),
        }
    }

    /// Whether forgetting it would change nothing.
    pub fn idle(&mut self, now: Now) -> bool {
        if !self.lease.idle() {
            return false;
        }
        match &mut self.level {
            Level::Meter(meter) => {
                meter.drain(self.amount, now.mono_ms);
                meter.full_in_ms(self.amount) == 0
            }
            Level::Window(period, window) => {
                window.held == 0 && (window.used == 0 || window.number < period.number(now.unix_ms))
            }
            Level::Count(count) => *count == 0,
        }
    }

    /// What is left, of `amount`; to be asked of an advanced bucket.
    pub fn gauge(&self, amount: u64, now: Now) -> Gauge {
        let (remaining, reset_ms) = match &self.level {
            Level::Meter(meter) => (meter.remaining(amount), meter.full_in_ms(amount)),
            Level::Window(period, window) => {
                (amount.saturating_sub(window.taken()), window_left_ms(*period, window, now))
            }
            Level::Count(count) => (amount.saturating_sub(*count), 0),
        };
        Gauge { limit: amount, remaining, reset_ms }
    }
}

/// Milliseconds to the end of the window that is counted; at least 1.
pub(super) fn window_left_ms(period: Period, window: &Window, now: Now) -> u64 {
    period.end_unix_ms(window.number).saturating_sub(now.unix_ms).max(1)
}
