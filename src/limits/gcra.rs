//! The maths of limits: pure, in whole numbers, with the time as an argument.
//!
//! A minute's limit is a [`Meter`]: GCRA in its form as a leaky bucket (ITU-T I.371, "continuous-state leaky
//! bucket"). It holds `amount` at once and drains `amount` a minute, so that no window of any length admits more than
//! `amount` + `amount` x length. A day's or a month's limit is a [`Window`]: a counter of the calendar day or month in
//! UTC, because that is what "per day" says on a bill.
//!
//! One unit in a meter is 60 000 parts, of which `amount` drain in a millisecond: no rounding, no drift.

/// Milliseconds of a minute: what a meter's amount is of, and the parts of one unit in it.
pub(super) const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
/// A reading that is older than the last one by less is late, not a step of the clock.
const LATE_MS_MAX: u64 = 1_000;
/// The most a meter holds: what Redis' numbers hold exactly, too.
const PARTS_MAX: u64 = 1 << 53;

/// The time, as a limit reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds since some start; should not step.
    pub mono_ms: u64,
    /// Milliseconds since 1970, UTC; may step.
    pub unix_ms: u64,
}

/// What a minute's limit has let through lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meter {
    /// Parts not drained yet; over `amount` units: in debt.
    parts: u64,
    at_ms: u64,
    /// Parts ever taken, around the end of the number: what was taken since is a difference.
    ever: u64,
}

/// When something was taken from a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark(u64);

impl Meter {
    /// A meter of `amount` that has room for so many units at `now_ms`.
    pub fn with_room((amount, room): (u64, u64), now_ms: u64) -> Self {
        Self { parts: parts(amount.saturating_sub(room)), at_ms: now_ms, ever: 0 }
    }

    /// Lets drain what has drained by `now_ms` at `amount` a minute. A clock that steps back drains nothing, and
    /// goes on from where it is.
    pub fn drain(&mut self, amount: u64, now_ms: u64) {
        if now_ms >= self.at_ms {
            let drained = (now_ms - self.at_ms).saturating_mul(amount);
            self.parts = self.parts.saturating_sub(drained);
            self.at_ms = now_ms;
        } else if self.at_ms - now_ms > LATE_MS_MAX {
            self.at_ms = now_ms;
        }
    }

    /// How long until `cost` units fit, in milliseconds; 0: now. To be asked of a drained meter.
    /// More than `amount` never fits, and is taken for `amount`.
    pub fn wait_ms(&self, amount: u64, cost: u64) -> u64 {
        let room_for = parts(cost.min(amount));
        (self.parts + room_for).saturating_sub(parts(amount)).div_ceil(amount.max(1))
    }

    /// Takes `cost` units, whether they fit or not.
    pub fn charge(&mut self, cost: u64) -> Mark {
        self.parts = (self.parts + parts(cost)).min(PARTS_MAX);
        self.ever = self.ever.wrapping_add(parts(cost));
        Mark(self.ever)
    }

    /// Gives back `cost` units of what was taken at `mark`, since they were not used after all, as far as they have
    /// not drained meanwhile. Returns the whole units given back. To be asked of a drained meter.
    ///
    /// What was taken after `mark` stays: a meter without the unused units either never ran dry since, then it holds
    /// exactly that much less; or it did, then it holds no more than what was taken since.
    pub fn refund(&mut self, cost: u64, mark: Mark) -> u64 {
        let since = self.ever.wrapping_sub(mark.0);
        let back = parts(cost).min(self.parts.saturating_sub(since));
        self.parts -= back;
        back / MINUTE_MS
    }

    /// Whole units that fit now.
    pub fn remaining(&self, amount: u64) -> u64 {
        parts(amount).saturating_sub(self.parts) / MINUTE_MS
    }

    /// Milliseconds until all of `amount` fits.
    pub fn full_in_ms(&self, amount: u64) -> u64 {
        self.parts.div_ceil(amount.max(1))
    }
}

/// Units as parts, at most what is exact.
fn parts(units: u64) -> u64 {
    units.saturating_mul(MINUTE_MS).min(PARTS_MAX)
}

/// What a window counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// The calendar day in UTC.
    Day,
    /// The calendar month in UTC.
    Month,
}

impl Period {
    /// The number of the day or month that `unix_ms` is in, from 1970.
    pub fn number(self, unix_ms: u64) -> u64 {
        let days = unix_ms / DAY_MS;
        match self {
            Period::Day => days,
            Period::Month => month_of(days),
        }
    }

    /// When the day or month `number` ends, in milliseconds since 1970.
    pub fn end_unix_ms(self, number: u64) -> u64 {
        match self {
            Period::Day => (number + 1).saturating_mul(DAY_MS),
            Period::Month => first_day_of(number + 1).saturating_mul(DAY_MS),
        }
    }
}

/// Months from January 1970 to the day `days` after 1 January 1970, in the Gregorian calendar.
/// The algorithm is "civil_from_days": <https://howardhinnant.github.io/date_algorithms.html>.
fn month_of(days: u64) -> u64 {
    let from_march_0000 = days + 719_468;
    let (era, day_of_era) = (from_march_0000 / 146_097, from_march_0000 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    (era * 400 + year_of_era) * 12 + month_from_march + 2 - 1_970 * 12
}

/// Days from 1 January 1970 to the first of the month `number`: "days_from_civil".
fn first_day_of(number: u64) -> u64 {
    let months_from_march_0000 = number + 1_970 * 12 - 2;
    let (year, month_from_march) = (months_from_march_0000 / 12, months_from_march_0000 % 12);
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month_from_march + 2) / 5;
    era * 146_097 + day_of_era - 719_468
}

/// What a day's or a month's limit has let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// The day or month counted, as [`Period::number`].
    pub number: u64,
    /// Used for good; survives the process.
    pub used: u64,
    /// Reserved by requests under way; these count in the window they end in.
    pub held: u64,
}

impl Window {
    /// Goes on to the window `number`. A clock that steps back by one window finds the later one still counting; one
    /// that steps back further was wrong before, and its count is carried back.
    pub fn roll(&mut self, number: u64) {
        if number > self.number {
            (self.number, self.used) = (number, 0);
        } else if number + 1 < self.number {
            self.number = number;
        }
    }

    /// Whether `cost` fits below `amount`. More than `amount` never fits, and is taken for `amount`.
    pub fn fits(&self, amount: u64, cost: u64) -> bool {
        self.taken().saturating_add(cost.min(amount)) <= amount
    }

    /// Used and held.
    pub fn taken(&self) -> u64 {
        self.used.saturating_add(self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Admits `cost` if it fits.
    fn admit(meter: &mut Meter, (amount, cost): (u64, u64), now_ms: u64) -> bool {
        meter.drain(amount, now_ms);
        let fits = meter.wait_ms(amount, cost) == 0;
        if fits {
            meter.charge(cost.min(amount));
        }
        fits
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut meter = Meter::default();
        assert_eq!((0..30).filter(|_| admit(&mut meter, (20, 1), 5_000)).count(), 20);
        assert_eq!((meter.wait_ms(20, 1), meter.remaining(20), meter.full_in_ms(20)), (3_000, 0, 60_000));
        assert!(!admit(&mut meter, (20, 1), 7_999) && admit(&mut meter, (20, 1), 8_000));
        assert!(!admit(&mut meter, (20, 1), 10_999) && admit(&mut meter, (20, 1), 11_000));
    }

    #[test]
    fn rates_that_do_not_divide_a_minute_do_not_drift() {
        let mut meter = Meter::default();
        let day_ms = 24 * 60 * MINUTE_MS;
        let admitted = (0..day_ms).step_by(7).filter(|now| admit(&mut meter, (7_001, 1), *now)).count() as u64;
        // Every millisecond of the day admits at the exact rate, and the burst came once.
        let exact = 7_001 + 7_001 * 24 * 60;
        assert!(admitted <= exact && admitted + 2 >= exact, "{admitted} of {exact}");
    }

    #[test]
    fn debt_is_waited_for_and_refunds_are_exact() {
        let mut meter = Meter::default();
        meter.drain(60, 0);
        let first = meter.charge(180);
        assert_eq!((meter.wait_ms(60, 1), meter.remaining(60)), (121_000, 0));
        assert_eq!(meter.refund(150, first), 150);
        assert_eq!((meter.wait_ms(60, 30), meter.remaining(60)), (0, 30));
        let second = meter.charge(20);
        // What drains is what was taken first: after ten seconds 20 of the first are left.
        meter.drain(60, 10_000);
        assert_eq!((meter.refund(30, first), meter.remaining(60)), (20, 40), "what was taken since stays");
        assert_eq!((meter.refund(1_000, second), meter.remaining(60)), (20, 60), "never more than all of it");
    }

    #[test]
    fn more_than_the_whole_limit_waits_for_the_whole() {
        let mut meter = Meter::default();
        assert!(admit(&mut meter, (1_000, 50_000), 0));
        assert_eq!(meter.wait_ms(1_000, 50_000), 60_000);
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let at = |text: &str| {
            let since = humantime::parse_rfc3339(text).unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
            since.as_millis() as u64
        };
        for (inside, end) in [
            ("1970-01-01T00:00:00Z", "1970-02-01T00:00:00Z"),
            ("2024-02-29T23:59:59.999Z", "2024-03-01T00:00:00Z"),
            ("2025-02-28T12:00:00Z", "2025-03-01T00:00:00Z"),
            ("2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
            ("2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"),
            ("2100-02-10T00:00:00Z", "2100-03-01T00:00:00Z"),
        ] {
            let number = Period::Month.number(at(inside));
            assert_eq!(Period::Month.end_unix_ms(number), at(end), "{inside}");
            assert_eq!(Period::Month.number(at(end)), number + 1, "{inside}");
            assert_eq!(Period::Month.number(at(end) - 1), number, "{inside}");
        }
        assert_eq!(Period::Day.end_unix_ms(Period::Day.number(at("2026-12-31T23:59:59Z"))), at("2027-01-01T00:00:00Z"));
    }

    #[test]
    fn a_window_and_a_clock_that_steps() {
        let mut window = Window { number: 10, used: 7, held: 1 };
        window.roll(9);
        assert_eq!(window, Window { number: 10, used: 7, held: 1 }, "just past midnight and back");
        window.roll(3);
        assert_eq!(window, Window { number: 3, used: 7, held: 1 }, "nothing granted anew, and no wait for day 10");
        window.roll(4);
        assert_eq!(window, Window { number: 4, used: 0, held: 1 }, "what is under way counts where it ends");
        assert!(window.fits(3, 2) && !window.fits(3, 3) && !Window { held: 1, ..window }.fits(1, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the costs, gaps and late readings: no window admits more than burst and rate allow.
        #[test]
        fn no_window_admits_more_than_burst_and_rate(
            amount in 1u64..100_000,
            steps in prop::collection::vec((0u64..40_000, 0u64..1_000, 1u64..200_000), 1..200),
        ) {
            let mut meter = Meter::default();
            let mut now = 10_000;
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (gap, late, cost) in steps {
                now += gap;
                // Readings come late, and in any order, but by less than a second.
                if admit(&mut meter, (amount, cost), now - late.min(999)) {
                    admitted.push((now, cost.min(amount)));
                }
            }
            for (first, &(from, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for &(until, cost) in &admitted[first..] {
                    sum += cost;
                    // A late reading puts an admission before the moment it is counted at.
                    let elapsed = until - from + 999;
                    prop_assert!(sum * MINUTE_MS <= amount * MINUTE_MS + elapsed * amount);
                }
            }
        }

        /// A clock that steps back any number of times grants nothing by it, and locks nobody out.
        #[test]
        fn a_clock_that_steps_back_neither_grants_nor_locks_out(
            amount in 1u64..10_000,
            steps in prop::collection::vec((0u64..5_000, 0u64..100_000_000), 1..100),
        ) {
            let mut meter = Meter::default();
            let (mut now, mut forward, mut sum) = (10_000_000_000u64, 0u64, 0u64);
            for (gap, back) in steps {
                now += gap;
                forward += gap;
                while admit(&mut meter, (amount, amount.div_ceil(3)), now) {
                    sum += amount.div_ceil(3);
                }
                prop_assert!(sum * MINUTE_MS <= amount * MINUTE_MS + forward * amount);
                now -= back;
            }
            meter.drain(amount, now);
            let wait = meter.wait_ms(amount, 1);
            prop_assert!(wait <= MINUTE_MS);
            prop_assert!(admit(&mut meter, (amount, 1), now + wait + LATE_MS_MAX));
        }

        /// Who waits as long as told is let through, at any cost and any past.
        #[test]
        fn who_waits_as_told_is_let_through(
            amount in 1u64..100_000_000,
            past in prop::collection::vec((0u64..90_000, 0u64..300_000_000), 0..50),
            cost in 1u64..300_000_000,
        ) {
            let (mut meter, mut now) = (Meter::default(), 0);
            for (gap, charged) in past {
                now += gap;
                meter.drain(amount, now);
                meter.charge(charged);
            }
            let wait = meter.wait_ms(amount, cost);
            if wait > 0 {
                let mut early = meter;
                prop_assert!(!admit(&mut early, (amount, cost), now + wait - 1), "not a millisecond too long");
            }
            prop_assert!(admit(&mut meter, (amount, cost), now + wait));
        }
    }
}
