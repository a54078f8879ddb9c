//! The time limits of a request, kept where the engine waits: beside the client's idle connection.
//!
//! The engine has one read timeout per upstream connection; it cannot tell the wait for the first byte
//! from the pauses of a stream, nor bound all attempts together. Times are milliseconds since the
//! request began; zero means "not yet".

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::config::Timeouts;

/// Which limit passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// No response byte in time; another target may be tried.
    FirstByte,
    /// A stream paused for too long.
    Idle,
    /// The request as a whole took too long.
    Total,
}

/// The clock of one request.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    timeouts: Timeouts,
    sent_ms: AtomicU64,
    heard_ms: AtomicU64,
    expired: AtomicU8,
    /// Until when an opening is held.
    held_ms: AtomicU64,
}

impl Watch {
    /// Starts at `began`.
    pub fn new(began: Instant, timeouts: Timeouts) -> Self {
        Self {
            began,
            timeouts,
            sent_ms: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
            expired: AtomicU8::new(0),
            held_ms: AtomicU64::new(0),
        }
    }

    fn now_ms(&self) -> u64 {
        // At least 1, so that zero can mean "not yet".
        (self.began.elapsed().as_millis() as u64).max(1)
    }

    /// Another attempt begins.
    pub fn begin_attempt(&self) {
        self.sent_ms.store(0, Relaxed);
        self.heard_ms.store(0, Relaxed);
        self.expired.store(0, Relaxed);
        self.release();
    }

    /// What has come of the answer is held for `period`.
    pub fn hold(&self, period: Duration) {
        self.held_ms.store(self.now_ms() + period.as_millis() as u64, Relaxed);
    }

    /// Nothing is held.
    pub fn release(&self) {
        self.held_ms.store(0, Relaxed);
    }

    /// Until when the answer is held, counted from the request's begin. Reads no clock.
    pub fn held_until(&self) -> Option<Duration> {
        let held = self.held_ms.load(Relaxed);
        (held > 0).then(|| Duration::from_millis(held))
    }

    /// Whether the answer was held for long enough.
    pub fn hold_is_over(&self) -> bool {
        self.held_until().is_some_and(|until| until <= self.began.elapsed())
    }

    /// The request's last byte is on its way.
    pub fn sent(&self) {
        if self.sent_ms.load(Relaxed) == 0 {
            self.sent_ms.store(self.now_ms(), Relaxed);
        }
    }

    /// Bytes of the response arrived.
    pub fn heard(&self) {
        self.heard_ms.store(self.now_ms(), Relaxed);
    }

    /// When the next limit passes, counted from the request's begin, and which it is. Reads no clock.
    pub fn next(&self) -> (Duration, Expiry) {
        let (heard, sent) = (self.heard_ms.load(Relaxed), self.sent_ms.load(Relaxed));
        let total = self.timeouts.total;
        let (at, expiry) = match (heard, sent) {
            (0, 0) => (total, Expiry::Total),
            (0, sent) => (Duration::from_millis(sent) + self.timeouts.first_byte, Expiry::FirstByte),
            (heard, _) => (Duration::from_millis(heard) + self.timeouts.idle, Expiry::Idle),
        };
        if at < total { (at, expiry) } else { (total, Expiry::Total) }
    }

    /// When the request began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Records that a limit passed.
    pub fn expire(&self, expiry: Expiry) {
        self.expired.store(expiry as u8 + 1, Relaxed);
    }

    /// The limit that ended this attempt, if one did.
    pub fn expired(&self) -> Option<Expiry> {
        match self.expired.load(Relaxed) {
            0 => None,
            1 => Some(Expiry::FirstByte),
            2 => Some(Expiry::Idle),
            _ => Some(Expiry::Total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_in_force_follows_the_exchange() {
        let timeouts = Timeouts {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            total: Duration::from_secs(100),
        };
        let watch = Watch::new(Instant::now(), timeouts);
        assert_eq!(watch.next().1, Expiry::Total);
        watch.sent();
        assert_eq!(watch.next().1, Expiry::FirstByte);
        watch.heard();
        assert_eq!(watch.next().1, Expiry::Idle);
        assert!(watch.next().0 >= Duration::from_secs(20));
        watch.expire(Expiry::Idle);
        assert_eq!(watch.expired(), Some(Expiry::Idle));
        watch.hold(Duration::from_secs(3600));
        assert!(!watch.hold_is_over());
        watch.begin_attempt();
        assert_eq!((watch.expired(), watch.next().1, watch.held_until()), (None, Expiry::Total, None));
        watch.hold(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        assert!(watch.hold_is_over());
    }
}
