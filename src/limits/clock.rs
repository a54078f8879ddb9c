//! The clock of the limits.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::gcra::Now;

/// Reads the time; set by hand in tests.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    #[cfg(test)]
    pub set: parking_lot::Mutex<Option<Now>>,
}

impl Clock {
    pub fn started() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(test)]
            set: parking_lot::Mutex::default(),
        }
    }

    pub fn now(&self) -> Now {
        #[cfg(test)]
        if let Some(now) = *self.set.lock() {
            return now;
        }
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: millis(self.started.elapsed()), unix_ms: millis(unix) }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
