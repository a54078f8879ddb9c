//! The request body, which this room owns: the only one that wraps engine sessions.
//!
//! A body is read from the client through an [`Inspector`] until its model is known (capture). Then the
//! client's session is wrapped by a `Source`, from which the engine reads the body of each attempt: first
//! what is held, then what the client still sends, with the model's bytes replaced on the way. Every
//! byte is scanned before it is passed on, and a body that turns out to break the rules ends the upstream
//! exchange before its last byte, so no provider ever holds a complete request that was not authorised.
//!
//! Why a wrapper: the engine's own replay buffer ends at 64 KiB and then silently yields nothing.

mod budget;
mod gate;
mod held;
mod source;
mod watch;

pub use budget::{Budget, Meter};
pub use held::HeldLimits;
pub use watch::{Expiry, Watch};

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use pingora::{Error, ErrorType};
use pingora_core::protocols::http::{HttpTask, ServerSession};

use super::inspect::{Inspector, Splice};
use crate::error::ApiError;
use gate::Gate;
use held::{Held, HoldError, Piece, Spill};
use source::{Home, Source};

/// What bounds every body of the process.
#[derive(Debug)]
pub struct BodyLimits {
    /// More is 413; an endpoint may set less.
    pub bytes_max: u64,
    /// More is sent once only.
    pub replay_bytes_max: u64,
    /// Longest wait for the next bytes.
    pub stall: Duration,
    /// How slowly it may come.
    pub pace: Pace,
    /// What is kept, and where.
    pub held: HeldLimits,
}

/// What may follow an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// An attempt elsewhere.
    Another,
    /// At most the same once more, over a fresh connection.
    Nothing,
}

/// What is kept of a body whose attempt is the last. A pooled connection that turns out dead does so within
/// the first bytes, and memory that is not kept is used again while it is still in the processor's cache.
const LAST_REPLAY_BYTES_MAX: u64 = 256 << 10;

/// How slowly a body may come.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Waits for the client, all together, that nothing is asked of.
    pub grace: Duration,
    /// Bytes per second of waiting beyond that.
    pub rate_min: u64,
}

/// How far a body is read before it is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadUntil {
    /// The model is known.
    Model,
    /// Its end.
    End,
}

/// How a body is to be read.
pub struct Wanted {
    /// What scans it.
    pub inspector: Inspector,
    /// More is 413.
    pub bytes_max: u64,
    /// The client's Content-Length.
    pub announced: Option<u64>,
    /// How far it is read before it is routed.
    pub until: ReadUntil,
}

/// A request's body: a handle that the call holds while the engine holds the session.
pub struct Body {
    state: Arc<Mutex<State>>,
    home: Option<Home>,
}

pub(super) struct State {
    inspector: Inspector,
    limits: Arc<BodyLimits>,
    /// More is 413.
    bytes_max: u64,
    /// The client's Content-Length.
    announced: Option<u64>,
    /// Of this attempt; what is longer is not kept.
    replay_bytes_max: u64,
    stage: Stage,
    held: Held,
    /// Bytes read from the client.
    taken: u64,
    /// How long the client was waited for.
    waited: Duration,
    /// The client's last byte was read, and the body is whole.
    ended: bool,
    /// Read and scanned, not yet kept.
    pending: Option<(Bytes, Option<Spill>)>,
    /// Bytes of the client's body that this attempt was given.
    cursor: u64,
    block: usize,
    splice: Option<Splice>,
    /// The answer, as long as nothing of it was written. Once it is open, no other attempt will follow.
    gate: Gate,
    /// Bytes were given out that are no longer held.
    lost: bool,
    fault: Option<ApiError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was sent yet: a bound that is reached is an error.
    Capture,
    /// Being sent: a bound that is reached only ends the chance of another attempt.
    Forward,
}

/// What the source has next for the engine.
enum Step {
    /// Bytes, ready to be sent.
    Give(Bytes),
    /// Bytes on disk.
    Read(Piece),
    /// The client's turn.
    Take,
    /// Nothing more.
    Done,
}

impl Body {
    /// Reads the body of `session` until it can be routed.
    ///
    /// # Errors
    /// 400 for a body that breaks the rules or its framing, 408 for one that stops coming, 413 for one
    /// that is too large, 503 when the buffers of the process are full.
    pub async fn capture(
        session: &mut ServerSession,
        wanted: Wanted,
        limits: &Arc<BodyLimits>,
    ) -> Result<Body, ApiError> {
        let until = wanted.until;
        let body = Body { state: Arc::new(Mutex::new(State::new(wanted, Arc::clone(limits)))), home: None };
        body.read_while(session, |state| until == ReadUntil::End || state.inspector.model().is_none()).await?;
        Ok(body)
    }

    /// Reads on until `bytes` of the body are there, or all of it.
    ///
    /// # Errors
    /// As [`Body::capture`].
    pub async fn read_head(&self, session: &mut ServerSession, bytes: u64) -> Result<(), ApiError> {
        self.read_while(session, |state| state.taken < bytes).await
    }

    async fn read_while(
        &self,
        session: &mut ServerSession,
        wanting: impl Fn(&State) -> bool + Send,
    ) -> Result<(), ApiError> {
        while self.wants(&wanting) {
            match take(session, &self.state).await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return Err(self.state.lock().fault_of()),
            }
        }
        Ok(())
    }

    fn wants(&self, wanting: impl Fn(&State) -> bool) -> bool {
        let state = self.state.lock();
        !state.ended && wanting(&state)
    }

    /// Looks at the body's first `bytes`, as far as they were read and are in memory, without the model's value.
    pub fn head<T>(&self, bytes: u64, look: impl FnOnce(&[u8]) -> T) -> T {
        let state = self.state.lock();
        let mut head = state.held.head(bytes as usize);
        if let Some(model) = state.inspector.model() {
            let within = |offset: u64| offset.min(head.len() as u64) as usize;
            let (start, end) = (within(model.span.start), within(model.span.end));
            head.drain(start..end);
        }
        look(&head)
    }

    /// Looks at what the inspector found.
    pub fn inspected<T>(&self, look: impl FnOnce(&Inspector) -> T) -> T {
        look(&self.state.lock().inspector)
    }

    /// Bytes read from the client so far.
    pub fn taken(&self) -> u64 {
        self.state.lock().taken
    }

    /// Whether the client's last byte was read.
    pub fn ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Makes `session` the engine's source of this body.
    pub fn wrap(&mut self, session: &mut Box<ServerSession>, watch: Arc<Watch>) {
        self.home = Some(Source::install(session, Arc::clone(&self.state), watch));
    }

    /// Puts the client's own session back; keep-alive needs it. Does nothing when it is there already.
    pub fn unwrap(&mut self, session: &mut Box<ServerSession>) {
        if let Some(home) = self.home.take() {
            home.restore(session);
        }
    }

    /// Starts an attempt from the body's first byte, naming the model `upstream_model`.
    pub fn begin_attempt(&self, upstream_model: &str, next: Next) {
        let mut state = self.state.lock();
        state.replay_bytes_max = match next {
            Next::Another => state.limits.replay_bytes_max,
            Next::Nothing => state.limits.replay_bytes_max.min(LAST_REPLAY_BYTES_MAX),
        };
        state.stage = Stage::Forward;
        state.splice = state.inspector.splice(upstream_model);
        (state.cursor, state.block) = (0, 0);
        state.gate.close();
    }

    /// The length of this attempt's body, if it is known; `announced` is the client's Content-Length.
    pub fn length(&self, announced: Option<u64>) -> Option<u64> {
        let state = self.state.lock();
        let bytes = if state.ended { state.taken } else { announced? };
        Some(match &state.splice {
            None => bytes,
            Some(splice) => bytes - (splice.at.end - splice.at.start) + splice.with.len() as u64,
        })
    }

    /// Whether the body can be sent again from its first byte.
    pub fn replayable(&self) -> bool {
        let state = self.state.lock();
        !state.lost && state.fault.is_none()
    }

    /// Why the body ended the exchange, if it did.
    pub fn fault(&self) -> Option<ApiError> {
        self.state.lock().fault.clone()
    }
}

/// Reads the next chunk from the client, scans it and keeps it. `None`: the body is whole.
/// Safe to cancel: a chunk that was read waits in the state.
async fn take(session: &mut ServerSession, state: &Mutex<State>) -> pingora::Result<Option<Bytes>> {
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
    fn new(wanted: Wanted, limits: Arc<BodyLimits>) -> Self {
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
            gate: Gate::default(),
            lost: false,
            fault: None,
        }
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
    fn fault_of(&self) -> ApiError {
        self.fault.clone().unwrap_or_else(malformed)
    }

    /// Scans what was read from the client and makes it pending.
    fn accept(&mut self, chunk: Option<Bytes>, done: bool) -> pingora::Result<()> {
        if let Some(chunk) = chunk {
            if self.taken + chunk.len() as u64 > self.bytes_max {
                return Err(self.fail(ApiError::body_too_large(self.bytes_max)));
            }
            self.inspector.feed(&chunk).map_err(|fault| self.fail(fault.into()))?;
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
    fn admit(&mut self, tasks: Vec<HttpTask>) -> Option<Vec<HttpTask>> {
        let admitted = self.gate.admit(tasks);
        if self.gate.is_open() {
            self.forget_sent();
        }
        admitted
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

    fn all_sent(&self) -> bool {
        self.ended && self.pending.is_none() && self.cursor == self.taken
    }

    /// What comes next in this attempt.
    fn step(&mut self) -> Step {
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
    fn give(&mut self, bytes: Bytes) -> Bytes {
        let start = self.cursor;
        self.cursor += bytes.len() as u64;
        if self.gate.is_open() {
            self.forget_sent();
        }
        match &self.splice {
            Some(splice) => spliced(bytes, start, splice),
            None => bytes,
        }
    }
}

/// The part of the rewritten body that `bytes`, found at `start` of the client's body, turn into.
fn spliced(bytes: Bytes, start: u64, splice: &Splice) -> Bytes {
    let end = start + bytes.len() as u64;
    // The replacement travels with the chunk that holds the first replaced byte; an insertion (an empty
    // range) with the chunk that holds the byte it stands before.
    let starts_here = (start..end).contains(&splice.at.start);
    if !starts_here && (end <= splice.at.start || start >= splice.at.end) {
        return bytes;
    }
    let within = |offset: u64| (offset.clamp(start, end) - start) as usize;
    let before = &bytes[..within(splice.at.start)];
    let after = &bytes[within(splice.at.end)..];
    let mut out = BytesMut::with_capacity(before.len() + splice.with.len() + after.len());
    out.extend_from_slice(before);
    if starts_here {
        out.extend_from_slice(&splice.with);
    }
    out.extend_from_slice(after);
    out.freeze()
}

#[cfg(test)]
mod tests {
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
                        out.extend_from_slice(&spliced(body.slice(range), start, &splice));
                    }
                    assert_eq!(out, expected, "cut at {first} and {second}");
                }
            }
        }
    }
}
