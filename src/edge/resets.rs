//! How much a client may cancel on one HTTP/2 connection.
//!
//! A stream that is reset at once costs the client two small frames and the server a request begun: with no bound
//! but the one on open streams, a connection can begin as many as it can send (CVE-2023-44487, "rapid reset").
//! Only frame headers are looked at (RFC 9113 section 4.1); nothing is changed.

use std::time::{Duration, Instant};

/// What the bound is for.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

const PREFACE_BYTES: usize = super::HTTP2_PREFACE.len();
const FRAME_HEAD_BYTES: usize = 9;
/// RFC 9113 section 6.4.
const RST_STREAM: u8 = 3;

/// Counts the streams that a client resets, in the bytes that it sends.
#[derive(Debug)]
struct Frames {
    head: [u8; FRAME_HEAD_BYTES],
    have: usize,
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { head: [0; FRAME_HEAD_BYTES], have: 0, skip: PREFACE_BYTES }
    }
}

impl Frames {
    /// How many resets begin in the next bytes.
    fn resets(&mut self, mut bytes: &[u8]) -> u32 {
        let mut resets = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            (self.skip, bytes) = (self.skip - skipped, &bytes[skipped..]);
            let taken = (FRAME_HEAD_BYTES - self.have).min(bytes.len());
            if taken == 0 {
                return resets;
            }
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            (self.have, bytes) = (self.have + taken, &bytes[taken..]);
            if self.have == FRAME_HEAD_BYTES {
                let [a, b, c, kind, ..] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                self.have = 0;
                resets += u32::from(kind == RST_STREAM);
            }
        }
    }
}

/// See the module: so many resets in a [`WINDOW`], at once or spread.
#[derive(Debug)]
pub(super) struct Resets {
    frames: Frames,
    max: f64,
    left: f64,
    counted_at: Instant,
}

impl Resets {
    pub(super) fn new(max: u64, now: Instant) -> Self {
        let max = max as f64;
        Self { frames: Frames::default(), max, left: max, counted_at: now }
    }

    /// Reads on. False: the client has cancelled too much; `clock` is asked only when it cancels.
    pub(super) fn allow(&mut self, bytes: &[u8], clock: impl FnOnce() -> Instant) -> bool {
        let resets = self.frames.resets(bytes);
        if resets == 0 {
            return true;
        }
        let now = clock();
        let earned = now.saturating_duration_since(self.counted_at).as_secs_f64() / WINDOW.as_secs_f64() * self.max;
        self.left = (self.left + earned).min(self.max) - f64::from(resets);
        self.counted_at = now;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let mut out = (payload as u32).to_be_bytes()[1..].to_vec();
        out.extend([kind, 0, 0, 0, 0, 1]);
        // Payload that looks like the head of a reset.
        out.extend([0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1].iter().cycle().take(payload));
        out
    }

    #[test]
    fn resets_are_counted_however_the_bytes_are_cut() {
        let frames = [frame(4, 0), frame(1, 90), frame(RST_STREAM, 4), frame(0, 1000), frame(RST_STREAM, 4)];
        let bytes = [super::super::HTTP2_PREFACE.to_vec(), frames.concat()].concat();
        assert_eq!(Frames::default().resets(&bytes), 2);
        for step in [1, 2, 7, 24, 33, 100] {
            let mut frames = Frames::default();
            assert_eq!(bytes.chunks(step).map(|piece| frames.resets(piece)).sum::<u32>(), 2, "in pieces of {step}");
        }
    }

    #[test]
    fn a_burst_is_allowed_and_a_flood_is_not() {
        let began = Instant::now();
        let mut resets = Resets::new(100, began);
        assert!(resets.allow(super::super::HTTP2_PREFACE, || unreachable!("nothing was cancelled")));
        let reset = frame(RST_STREAM, 4);
        assert!((0..100).all(|_| resets.allow(&reset, || began)));
        assert!(!resets.allow(&reset, || began));
        let mut resets = Resets::new(100, began);
        resets.allow(super::super::HTTP2_PREFACE, || began);
        let steady = (0..10_000).all(|n| resets.allow(&reset, || began + n * WINDOW / 100));
        assert!(steady, "ten a second, for ever");
    }
}
