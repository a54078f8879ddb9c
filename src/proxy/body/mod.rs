//! The request body, which this room owns: the only one that wraps engine sessions.
//!
//! A body is read from the client through an [`Inspector`] until its model is known (capture). Then the
//! client's session is wrapped by a `Source`, from which the engine reads the body of each attempt: first
//! what is held, then what the client still sends, with the model's bytes replaced on the way. Every
//! byte is scanned before it is passed on, and a body that turns out to break the rules ends the upstream
//! exchange before its last byte, so no provider ever holds a complete request that was not authorised.
//!
//! Why a wrapper: the engine's own replay buffer ends at 64 KiB and then silently yields nothing.

mod ask;
mod budget;
mod gate;
mod held;
mod source;
mod state;
mod watch;

pub use budget::{Budget, Meter};
pub use held::HeldLimits;
pub use watch::{Expiry, Watch};

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pingora_core::protocols::http::ServerSession;

use super::inspect::Inspector;
use crate::adapt::usage::sent::Sent;
use crate::error::ApiError;
use source::{Home, Source};
use state::{Stage, State, take};

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

/// How long a body is waited for, so that it is known what it says of its stream. Most are here at once; a provider
/// can do nothing before it has all of it anyway.
const READ_ON_MAX: Duration = Duration::from_millis(500);

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
    /// What is counted of it, where its usage is recorded.
    pub sent: Option<Sent>,
    /// Whether attempts may ask for usage.
    pub asking: Asking,
}

/// Whether an attempt asks its provider what the stream used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// If it is a stream, and the client does not ask.
    Usage,
    /// It does not.
    Nothing,
}

/// How a body passes that is not inspected.
pub struct Relayed {
    /// More is 413, whatever [`BodyLimits::bytes_max`] says.
    pub bytes_max: u64,
    /// The client's Content-Length.
    pub announced: Option<u64>,
}

/// A request's body: a handle that the call holds while the engine holds the session.
pub struct Body {
    state: Arc<Mutex<State>>,
    home: Option<Home>,
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

    /// A body that passes as it comes, once: nothing of it is scanned or kept.
    pub fn relay(session: &mut ServerSession, relayed: Relayed, limits: &Arc<BodyLimits>) -> Body {
        let mut state = State::relaying(relayed, Arc::clone(limits));
        state.ended = session.is_body_empty();
        Body { state: Arc::new(Mutex::new(state)), home: None }
    }

    /// Reads on until `bytes` of the body are there, or all of it.
    ///
    /// # Errors
    /// As [`Body::capture`].
    pub async fn read_head(&self, session: &mut ServerSession, bytes: u64) -> Result<(), ApiError> {
        self.read_while(session, |state| state.taken < bytes).await
    }

    /// Reads on to the end of a body whose attempts may ask for usage, unless it is known before that it asks for no
    /// stream, it is large, or its client takes longer than most: then they ask as far as they can all the same.
    ///
    /// # Errors
    /// As [`Body::capture`].
    pub async fn read_stream_options(&self, session: &mut ServerSession) -> Result<(), ApiError> {
        let is_worth_it = {
            let state = self.state.lock();
            let small_bytes_max = state.limits.held.memory_bytes_max.min(state.limits.replay_bytes_max);
            state.ask.is_some() && state.announced.is_some_and(|length| length <= small_bytes_max)
        };
        if !is_worth_it {
            return Ok(());
        }
        let reading = self.read_while(session, |state| state.inspector.stream() != Some(false));
        // What was read when the time is over waits in the state.
        pingora_timeout::timeout(READ_ON_MAX, reading).await.unwrap_or(Ok(()))
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
    pub fn begin_attempt(&self, upstream_model: &str, asking: Asking, next: Next) {
        let mut state = self.state.lock();
        state.begin_asking(asking);
        state.replay_bytes_max = match next {
            Next::Another => state.limits.replay_bytes_max,
            Next::Nothing => state.limits.replay_bytes_max.min(LAST_REPLAY_BYTES_MAX),
        };
        state.stage = Stage::Forward;
        (state.splice, state.rest) = (state.inspector.splice(upstream_model), None);
        (state.cursor, state.block) = (0, 0);
        state.gate.close();
    }

    /// Holds the answer, its bytes included, until [`release_answer`](Self::release_answer).
    pub fn hold_answer(&self) {
        self.state.lock().gate.hold();
    }

    /// Lets the answer pass from its next bytes on.
    pub fn release_answer(&self) {
        self.state.lock().gate.release();
    }

    /// Whether part of the answer was written.
    pub fn answered(&self) -> bool {
        self.state.lock().gate.is_open()
    }

    /// The length of this attempt's body, if it is known; `announced` is the client's Content-Length.
    pub fn length(&self, announced: Option<u64>) -> Option<u64> {
        let state = self.state.lock();
        let bytes = if state.ended { state.taken } else { announced? };
        Some(
            match &state.splice {
                None => bytes,
                Some(splice) => bytes - (splice.at.end - splice.at.start) + splice.with.len() as u64,
            } + state.ask.as_ref().map_or(0, |ask| ask.growth()),
        )
    }

    /// Whether this attempt asks for usage that the client did not ask for.
    pub fn asks_usage(&self) -> bool {
        let state = self.state.lock();
        state.ask.as_ref().is_some_and(|ask| ask.is_put(&state.inspector))
    }

    /// Looks at what was counted of it, where its usage is recorded.
    pub fn sent<T>(&self, look: impl FnOnce(&Sent) -> T) -> Option<T> {
        self.state.lock().sent.as_deref().map(look)
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
