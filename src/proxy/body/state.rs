//! What is known of one body: read so far, kept, given out in this attempt. The engine's side of it is `source`.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use pingora::{Error, ErrorType};
use pingora_core::protocols::http::{HttpTask, ServerSession};

use super::ask::{self, Ask, edited};
use super::gate::Gate;
use super::held::{Held, HoldError, Piece, Spill};
use super::{Asking, BodyLimits, Pace, ReadUntil, Relayed, Wanted};
use crate::adapt::usage::sent::Sent;
use crate::error::ApiError;
use crate::proxy::inspect::{Inspector, Splice};

pub(super) struct State {
    pub(super) inspector: Inspector,
    pub(super) limits: Arc<BodyLimits>,
    /// More is 413.
    bytes_max: u64,
    /// The client's Content-Length.
    pub(super) announced: Option<u64>,
    /// Of this attempt; what is longer is not kept.
    pub(super) replay_bytes_max: u64,
    pub(super) stage: Stage,
    pub(super) held: Held,
    /// Bytes read from the client.
    pub(super) taken: u64,
    /// How long the client was waited for.
    waited: Duration,
    /// The client's last byte was read, and the body is whole.
    pub(super) ended: bool,
    /// Read and scanned, not yet kept.
    pending: Option<(Bytes, Option<Spill>)>,
    /// Bytes of the client's body that this attempt was given.
    pub(super) cursor: u64,
    pub(super) block: usize,
    pub(super) splice: Option<Splice>,
    /// What follows the bytes given last, where a splice cut a chunk in two.
    pub(super) rest: Option<Bytes>,
    /// Where attempts may ask what their streams used.
    pub(super) ask: Option<Ask>,
    /// Where usage is recorded.
    pub(super) sent: Option<Box<Sent>>,
    /// The answer, as long as nothing of it was written. Once it is open, no other attempt will follow.
    pub(super) gate: Gate,
    /// Bytes were given out that are no longer held.
    pub(super) lost: bool,
    pub(super) fault: Option<ApiError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing was sent yet: a bound that is reached is an error.
    Capture,
    /// Being sent: a bound that is reached only ends the chance of another attempt.
    Forward,
}

/// What the source has next for the engine.
pub(super) enum Step {
    /// Bytes, ready to be sent.
    Give(Bytes),
    /// Bytes on disk.
    Read(Piece),
    /// The client's turn.
    Take,
    /// Nothing more.
    Done,
}

/// Reads the next chunk from the client, scans it and keeps it. `None`: the body is whole.
/// Safe to cancel: a chunk that was read waits in the state.
pub(super) async fn take(session: &mut ServerSession, state: &Mutex<State>) -> pingora::Result<Option<Bytes>> {
    if state.lock().pending.is_none() {
        let wait_max = state.lock().wait_max();
        let waiting = Waiting { state, since: Instant::now() };
        let read = pingora_timeout::timeout(wait_max, session.read_request_body()).await;
        drop(waiting);
        let chunk = match read {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => {
                // Where the next request would begin is anyone's guess.
                session.set_keepalive(None);
                return Err(state.lock().broken(error));
            }
            Err(_) => {
                session.set_keepalive(None);
                return Err(state.lock().fail(ApiError::body_timeout()));
            }
        };
        let done = chunk.is_none() || session.is_body_done();
        state.lock().accept(chunk, done)?;
    }
    let spill = state.lock().pending.as_ref().and_then(|(_, spill)| spill.clone());
    let written = match spill {
        Some(spill) => Some(spill.write().await),
        None => None,
    };
    state.lock().kept(written)
}

fn malformed() -> ApiError {
    ApiError::bad_request("The request body is malformed or was cut short.")
}

/// Whether the edge ended the body at a byte that breaks its framing.
fn refused_by_edge(error: &Error) -> bool {
    error.root_cause().downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::InvalidData)
}

/// Adds to what was waited for the client, also when the wait is cancelled.
struct Waiting<'a> {
    state: &'a Mutex<State>,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        self.state.lock().waited += waited;
    }
}

impl Pace {
    /// How much longer a body may be waited for, after `waited` for `taken` bytes.
    fn left(&self, taken: u64, waited: Duration) -> Duration {
        let earned = Duration::from_secs_f64(taken as f64 / self.rate_min.max(1) as f64);
        self.grace.saturating_add(earned).saturating_sub(waited)
    }
}

impl State {
    pub(super) fn new(wanted: Wanted, limits: Arc<BodyLimits>) -> Self {
        Self {
            held: Held::new(&limits.held),
            inspector: wanted.inspector,
            bytes_max: wanted.bytes_max.min(limits.bytes_max),
            announced: wanted.announced,
            replay_bytes_max: limits.replay_bytes_max,
            limits,
            stage: Stage::Capture,
            taken: 0,
            waited: Duration::ZERO,
            ended: false,
            pending: None,
            cursor: 0,
            block: 0,
            splice: None,
            rest: None,
            ask: (wanted.asking == Asking::Usage).then(Ask::default),
            sent: wanted.sent.map(Box::new),
            gate: Gate::default(),
            lost: false,
            fault: None,
        }
    }

    /// Of a body that passes once, unread and not kept.
    pub(super) fn relaying(relayed: Relayed, limits: Arc<BodyLimits>) -> Self {
        let Relayed { bytes_max, announced } = relayed;
        let wanted = Wanted {
            inspector: Inspector::nothing(),
            bytes_max,
            announced,
            until: ReadUntil::Model,
            sent: None,
            asking: Asking::Nothing,
        };
        Self { bytes_max, stage: Stage::Forward, lost: true, ..Self::new(wanted, limits) }
    }

    /// How long the next bytes may be waited for.
    fn wait_max(&self) -> Duration {
        self.limits.stall.min(self.limits.pace.left(self.taken, self.waited))
    }

    /// Records why the exchange ends; the engine gets an error that only says that it does.
    fn fail(&mut self, fault: ApiError) -> Box<Error> {
        self.fault = Some(fault);
        Error::new(ErrorType::Custom("request body refused"))
    }

    /// What a read that failed means: a client that reset its connection, or the engine its stream, reads no
    /// answer; one that broke the framing or closed its half inside the body does.
    fn broken(&mut self, error: Box<Error>) -> Box<Error> {
        match error.etype() {
            ErrorType::ReadError if refused_by_edge(&error) => self.fail(malformed()),
            ErrorType::ReadError | ErrorType::H2Error => error,
            ErrorType::ReadTimedout => self.fail(ApiError::body_timeout()),
            _ => self.fail(malformed()),
        }
    }

    /// The answer to an error of [`take`].
    pub(super) fn fault_of(&self) -> ApiError {
        self.fault.clone().unwrap_or_else(malformed)
    }

    /// Scans what was read from the client and makes it pending.
    fn accept(&mut self, chunk: Option<Bytes>, done: bool) -> pingora::Result<()> {
        if let Some(chunk) = chunk {
            if self.taken + chunk.len() as u64 > self.bytes_max {
                return Err(self.fail(ApiError::body_too_large(self.bytes_max)));
            }
            self.inspector.feed(&chunk).map_err(|fault| self.fail(fault.into()))?;
            if let Some(sent) = &mut self.sent {
                sent.feed(&chunk);
            }
            if let Some(ask) = &mut self.ask {
                ask.scan(&chunk, self.taken, &self.inspector);
            }
            self.taken += chunk.len() as u64;
            let spill = self.keep(&chunk)?;
            self.pending = Some((chunk, spill));
        }
        // Over HTTP/2 the end comes after the last byte, and a provider that was told the length holds a
        // complete request before the end is known.
        if done || self.announced == Some(self.taken) {
            self.inspector.finish().map_err(|fault| self.fail(fault.into()))?;
            self.ended = true;
        }
        Ok(())
    }

    fn keep(&mut self, chunk: &Bytes) -> pingora::Result<Option<Spill>> {
        if self.lost {
            return Ok(None);
        }
        let capture = self.stage == Stage::Capture;
        let fits = self.held.len() + chunk.len() as u64 <= self.replay_bytes_max;
        if !capture && (self.gate.is_open() || !fits) {
            self.forget();
            return Ok(None);
        }
        match self.held.push(chunk, &self.limits.held) {
            Ok(spill) => Ok(spill),
            Err(HoldError::Budget) if capture => Err(self.fail(ApiError::overloaded(Duration::from_secs(1)))),
            Err(_) => {
                self.forget();
                Ok(None)
            }
        }
    }

    /// Takes note of a spilled chunk and hands the pending one on.
    fn kept(&mut self, written: Option<std::io::Result<Arc<std::fs::File>>>) -> pingora::Result<Option<Bytes>> {
        let Some((chunk, _)) = self.pending.take() else {
            return Ok(None);
        };
        match written {
            None => {}
            Some(Ok(file)) => self.held.spilled(file, chunk.len()),
            Some(Err(error)) => {
                log::error!("a request body could not be spilled: {error}");
                if self.stage == Stage::Capture {
                    return Err(self.fail(ApiError::overloaded(Duration::from_secs(5))));
                }
                self.forget();
            }
        }
        Ok(Some(chunk))
    }

    /// What of the answer may be written; from the first byte on, what was sent is not kept.
    pub(super) fn admit(&mut self, tasks: Vec<HttpTask>) -> Option<Vec<HttpTask>> {
        let admitted = self.gate.admit(tasks);
        if self.gate.is_open() {
            self.forget_sent();
        }
        admitted
    }

    /// What was held of the answer for long enough, if there is anything to be written.
    pub(super) fn overdue(&mut self) -> Option<Vec<HttpTask>> {
        self.gate.release();
        self.admit(Vec::new()).filter(|tasks| !tasks.is_empty())
    }

    /// Gives up the chance of another attempt. Only called once everything held was sent.
    fn forget(&mut self) {
        self.held.clear();
        self.lost = true;
    }

    fn forget_sent(&mut self) {
        if self.cursor >= self.held.len() && self.held.len() > 0 {
            self.forget();
        }
    }

    pub(super) fn all_sent(&self) -> bool {
        self.ended && self.pending.is_none() && self.rest.is_none() && self.cursor == self.taken
    }

    /// What comes next in this attempt.
    pub(super) fn step(&mut self) -> Step {
        if let Some(rest) = self.rest.take() {
            return Step::Give(rest);
        }
        if self.all_sent() {
            return Step::Done;
        }
        if self.lost || self.cursor >= self.held.len() {
            return if self.ended && self.pending.is_none() { Step::Done } else { Step::Take };
        }
        match self.held.piece(&mut self.block, self.cursor) {
            Some(Piece::Memory(bytes)) => Step::Give(self.give(bytes)),
            Some(disk) => Step::Read(disk),
            None => Step::Done,
        }
    }

    /// Moves past `bytes`, the next of the client's body, and makes them what the provider is to read.
    pub(super) fn give(&mut self, bytes: Bytes) -> Bytes {
        let start = self.cursor;
        self.cursor += bytes.len() as u64;
        if self.gate.is_open() {
            self.forget_sent();
        }
        let asking = self.ask.as_ref().filter(|ask| ask.edits_anything());
        match (asking, &self.splice) {
            (Some(ask), splice) => edited(bytes, start, &ask.edits(splice.as_ref(), &self.inspector)),
            (None, Some(splice)) => {
                let (bytes, rest) = spliced(bytes, start, splice);
                self.rest = rest;
                bytes
            }
            (None, None) => bytes,
        }
    }

    /// Another attempt begins, which asks or does not.
    pub(super) fn begin_asking(&mut self, asking: Asking) {
        let Some(ask) = &mut self.ask else { return };
        let wanted = match asking {
            Asking::Nothing => ask::Wanted::No,
            Asking::Usage if self.ended => ask::Wanted::OfWhole,
            Asking::Usage if self.announced.is_some() => ask::Wanted::OfAnnounced,
            Asking::Usage => ask::Wanted::OfChunks,
        };
        ask.begin(wanted, &self.inspector);
    }
}

/// More than this behind a splice is passed on as it is rather than copied.
const COPIED_BYTES_MAX: usize = 8 << 10;

/// The part of the rewritten body that `bytes`, found at `start` of the client's body, turn into: one piece, or two.
fn spliced(bytes: Bytes, start: u64, splice: &Splice) -> (Bytes, Option<Bytes>) {
    let end = start + bytes.len() as u64;
    // The replacement travels with the chunk that holds the first replaced byte; an insertion (an empty
    // range) with the chunk that holds the byte it stands before.
    let starts_here = (start..end).contains(&splice.at.start);
    if !starts_here && (end <= splice.at.start || start >= splice.at.end) {
        return (bytes, None);
    }
    let within = |offset: u64| (offset.clamp(start, end) - start) as usize;
    let before = &bytes[..within(splice.at.start)];
    let after = bytes.slice(within(splice.at.end)..);
    let copied = if after.len() <= COPIED_BYTES_MAX { &after[..] } else { &[] };
    let mut out = BytesMut::with_capacity(before.len() + splice.with.len() + copied.len());
    out.extend_from_slice(before);
    if starts_here {
        out.extend_from_slice(&splice.with);
    }
    out.extend_from_slice(copied);
    (out.freeze(), (after.len() > COPIED_BYTES_MAX).then_some(after))
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, HeldLimits, Meter, ReadUntil};
    use super::*;

    #[test]
    fn rule_19_a_body_must_keep_its_pace_once_the_grace_is_spent() {
        let pace = Pace { grace: Duration::from_secs(60), rate_min: 1024 };
        let left = |taken, waited| pace.left(taken, Duration::from_secs(waited));
        assert_eq!(left(0, 0), Duration::from_secs(60));
        assert_eq!(left(10, 60).as_secs(), 0);
        assert_eq!(left(1024 * 100, 60), Duration::from_secs(100));
        assert_eq!(left(1024 * 100, 161), Duration::ZERO);
    }

    #[test]
    fn what_cannot_be_sent_again_is_not_kept_any_more() {
        let unmetered = Meter { taken: |_| {}, returned: |_| {} };
        let memory = Budget::new(1 << 20, unmetered);
        let held = HeldLimits {
            memory_bytes_max: 1 << 20,
            memory: Arc::clone(&memory),
            disk: Budget::new(0, unmetered),
            spill_dir: std::env::temp_dir(),
        };
        let limits = BodyLimits {
            bytes_max: 1 << 20,
            replay_bytes_max: 10,
            stall: Duration::from_secs(1),
            pace: Pace { grace: Duration::from_secs(1), rate_min: 1 },
            held,
        };
        let wanted = Wanted {
            inspector: Inspector::json(),
            bytes_max: 1 << 20,
            announced: None,
            until: ReadUntil::Model,
            sent: None,
            asking: Asking::Nothing,
        };
        let mut state = State::new(wanted, Arc::new(limits));
        state.stage = Stage::Forward;
        let mut kept = Vec::new();
        for _ in 0..4 {
            assert!(state.keep(&Bytes::from_static(b"12345678")).unwrap().is_none());
            kept.push(memory.used());
        }
        assert_eq!((kept, state.lost), (vec![8, 0, 0, 0], true));
    }

    #[test]
    fn what_is_long_behind_a_splice_is_not_copied() {
        let body = Bytes::from(vec![b'x'; COPIED_BYTES_MAX + 11]);
        let splice = Splice { at: 5..10, with: Bytes::from_static(b"new") };
        let (first, rest) = spliced(body.clone(), 0, &splice);
        assert_eq!((&first[..], rest.as_deref()), (&b"xxxxxnew"[..], Some(&body[10..])));
        assert_eq!(rest.unwrap().as_ptr(), body[10..].as_ptr());
    }

    #[test]
    fn a_splice_comes_out_the_same_however_the_body_is_cut() {
        let body = Bytes::from_static(br#"{"a":1,"model":"old","z":[2]}"#);
        let cases = [
            (15..20, &b"\"brand-new\""[..], &br#"{"a":1,"model":"brand-new","z":[2]}"#[..]),
            (1..1, &b"\"m\":0,"[..], &br#"{"m":0,"a":1,"model":"old","z":[2]}"#[..]),
            (0..29, &b"{}"[..], &b"{}"[..]),
        ];
        for (at, with, expected) in cases {
            let splice = Splice { at, with: Bytes::copy_from_slice(with) };
            for first in 0..=body.len() {
                for second in first..=body.len() {
                    let mut out = Vec::new();
                    for range in [0..first, first..second, second..body.len()] {
                        let start = range.start as u64;
                        let (bytes, rest) = spliced(body.slice(range), start, &splice);
                        assert!(rest.is_none());
                        out.extend_from_slice(&bytes);
                    }
                    assert_eq!(out, expected, "cut at {first} and {second}");
                }
            }
        }
    }
}
