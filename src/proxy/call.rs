//! The one value of a request, which each stage extends: the engine's CTX.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use pingora_proxy::Session;

use super::body::{Body, Expiry, Watch};
use super::lanes::{Fault, Underway};
use super::meter::Meter;
use super::retry::RetryBudget;
use super::route::{Attempt, Plan};
use super::service::Passage;
use crate::access::Record;
use crate::adapt::echo::Echo;
use crate::adapt::opening::Opening;
use crate::adapt::stream_error::Tail;
use crate::adapt::usage::Usage;
use crate::config::{Key, Snapshot, Target};
use crate::endpoint::{Dialect, Endpoint, dialect_of_path};
use crate::error::ApiError;
use crate::limits::{Reservation, Standing};
use crate::metrics::{self, Outcome};
use crate::usage::Ledger;

/// A request from its head to its last byte.
pub struct Call {
    /// When the head was read.
    pub began: Instant,
    /// Kept from the client or made; sent both ways.
    pub request_id: HeaderValue,
    /// What errors are written in.
    pub dialect: Dialect,
    /// The endpoint called, once known.
    pub endpoint: Option<Endpoint>,
    /// Who calls, once known.
    pub key: Option<Arc<Key>>,
    /// The name the client asked for, once known.
    pub requested: Option<String>,
    /// The request's body, where it has one.
    pub body: Option<Body>,
    /// The client's Content-Length.
    pub announced: Option<u64>,
    /// What it has taken of the limits it comes under.
    pub reservation: Option<Reservation>,
    /// How near these limits are, for the client.
    pub standing: Option<Standing>,
    /// Set once the request is to go upstream.
    pub routed: Option<Routed>,
    /// Where usage is recorded, if it is.
    pub ledger: Option<Arc<Ledger>>,
    /// Whether somebody wants to know what it uses: the ledger, or a limit.
    pub metered: bool,
    /// What the answer used, once that is known.
    pub used: Option<Usage>,
    /// What it cost, replaced attempts included, in micro-dollars.
    pub cost_microusd: u64,
    /// Set once the request is to go to the service behind the data plane.
    pub passage: Option<Passage>,
    status: u16,
    error_code: Option<&'static str>,
    first_byte: Option<Duration>,
    bytes_out: u64,
    left: bool,
    _in_flight: metrics::Held,
}

/// What exists once a request has a plan.
pub struct Routed {
    /// The configuration the request began with.
    pub snapshot: Arc<Snapshot>,
    /// The decision.
    pub plan: Plan,
    /// The time limits.
    pub watch: Arc<Watch>,
    /// What the model may spend on further attempts.
    pub budget: Arc<RetryBudget>,
    /// What happens to the answer's body.
    pub answer: Answer,
    /// Reads what the answer used.
    pub meter: Option<Box<Meter>>,
    /// The answer's opening, until it has shown content.
    pub opening: Option<Opening>,
    /// What the client is told if no attempt is left.
    pub failure: Option<ApiError>,
    /// How many addresses the origin of the attempt under way has.
    pub addresses: usize,
    /// How many of them could not be connected to, in the attempt of this position.
    unreachable: (usize, usize),
    underway: Option<Underway>,
    current: Option<Attempt>,
    next: usize,
    /// Attempts of the plan that were made; those made once more count once.
    tried: usize,
    attempts: u32,
    repeated: bool,
    settled: Option<Outcome>,
    judged: Option<Decision>,
    _stream: Option<metrics::Held>,
}

/// Whether an attempt needs leave to be made on its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It does: a lane that is kept out is passed over.
    Asked,
    /// It does not: it is the only one.
    Given,
}

/// What was decided about an attempt that its answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Another attempt follows.
    Next,
    /// None does.
    Last,
}

/// What happens to the bytes of the answer.
pub enum Answer {
    /// Its head has not come.
    Awaited,
    /// They pass as they are; a stream's tail is kept, so that a cut can be told safely.
    Passing(Option<Tail>),
    /// The model's name is replaced on the way.
    Echoing(Box<Echo>, Option<Tail>),
    /// A refusal: gathered, then given in the client's shape.
    Refusal(u16, Vec<u8>),
}

impl Call {
    /// A request whose head was not looked at yet.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            request_id: HeaderValue::from_static("-"),
            dialect: Dialect::OpenAi,
            endpoint: None,
            key: None,
            requested: None,
            body: None,
            announced: None,
            reservation: None,
            standing: None,
            routed: None,
            ledger: None,
            metered: false,
            used: None,
            cost_microusd: 0,
            passage: None,
            status: 0,
            error_code: None,
            first_byte: None,
            bytes_out: 0,
            left: false,
            _in_flight: metrics::hold_request(),
        }
    }

    /// Takes from the head what even an error needs.
    pub fn begin(&mut self, session: &Session) {
        let head = session.req_header();
        self.began = Instant::now();
        self.request_id = request_id(&head.headers);
        self.dialect = dialect_of_path(head.uri.path());
    }

    /// Forge answered by itself.
    pub fn answered(&mut self, body_bytes: u64) {
        self.bytes_out += body_bytes;
        self.first_byte();
    }

    /// The first byte of the answer is on its way.
    pub fn first_byte(&mut self) {
        if self.first_byte.is_some() {
            return;
        }
        self.first_byte = Some(self.began.elapsed());
        if let Some(routed) = self.routed.as_mut() {
            routed.works();
        }
    }

    /// The limit of time that ended the exchange, if one did.
    pub fn expired(&self) -> Option<Expiry> {
        let passage = self.passage.as_ref().and_then(|passage| passage.watch.expired());
        passage.or_else(|| self.routed.as_ref().and_then(Routed::expired))
    }

    /// The request ends in `error`.
    pub fn failed(&mut self, error: &ApiError) {
        self.error_code = Some(error.code);
    }

    /// The client left before its answer was complete.
    pub fn left(&mut self) {
        self.left = true;
    }

    /// Whether a provider's answer has reached the client, in part at least.
    pub fn is_answered(&self) -> bool {
        let answered = self.routed.as_ref().is_some_and(|routed| match routed.answer {
            Answer::Passing(_) | Answer::Echoing(..) => true,
            Answer::Awaited | Answer::Refusal(..) => false,
        });
        answered && self.first_byte.is_some()
    }

    /// Counts and logs the request; the last thing that happens to it.
    pub fn finish(&mut self, session: &Session) {
        self.status = session.response_written().map_or(0, |head| head.status.as_u16());
        self.bytes_out = self.bytes_out.max(session.body_bytes_sent() as u64);
        let record = self.record(session);
        metrics::request(&record);
        crate::access::write(&record);
    }

    fn record<'a>(&'a self, session: &Session) -> Record<'a> {
        let routed = self.routed.as_ref();
        let target = routed.and_then(|routed| Some(routed.plan.target(routed.current()?.slot)));
        let requested = self.requested.as_deref();
        Record {
            request_id: self.request_id.to_str().unwrap_or("-"),
            key_name: self.key.as_ref().map(|key| key.name.as_str()),
            endpoint: self.endpoint,
            model: routed.map(|routed| routed.plan.model.name.as_str()),
            requested_model: requested,
            provider: target.map(|target| target.provider.name.as_str()),
            upstream_model: target.and_then(|target| target.model.as_deref().or(requested)),
            attempts: routed.map_or(0, |routed| routed.attempts),
            status: self.status,
            error_code: self.error_code,
            rule: routed.and_then(|routed| routed.plan.rule),
            stream: self.body.as_ref().is_some_and(|body| body.inspected(|found| found.stream() == Some(true))),
            first_byte: self.first_byte,
            total: self.began.elapsed(),
            bytes_in: self.body.as_ref().map_or(0, Body::taken),
            bytes_out: self.bytes_out,
            client_ip: client_ip(session),
            aborted_by_client: self.left,
            input_tokens: self.used.map(|used| used.input_tokens),
            output_tokens: self.used.map(|used| used.output_tokens),
        }
    }
}

impl Routed {
    /// A request with a plan, before its first attempt.
    pub fn new(snapshot: Arc<Snapshot>, plan: Plan, (watch, budget): (Arc<Watch>, Arc<RetryBudget>)) -> Self {
        Self {
            snapshot,
            plan,
            watch,
            budget,
            answer: Answer::Awaited,
            meter: None,
            opening: None,
            failure: None,
            addresses: 1,
            unreachable: (0, 0),
            underway: None,
            current: None,
            next: 0,
            tried: 0,
            attempts: 0,
            repeated: false,
            settled: None,
            judged: None,
            _stream: None,
        }
    }

    /// Moves on to the next attempt for which `begin` gives leave; the last one that is left before any was made
    /// is made all the same.
    pub fn advance(&mut self, begin: impl Fn(Attempt, Leave) -> Option<Underway>) -> Option<Attempt> {
        self.underway = None;
        let attempt = loop {
            let attempt = self.plan.attempt(self.next)?;
            self.next += 1;
            let last = self.plan.attempt(self.next).is_none();
            let leave = if self.tried == 0 && last { Leave::Given } else { Leave::Asked };
            self.underway = begin(attempt, leave);
            if self.underway.is_some() {
                break attempt;
            }
        };
        self.current = Some(attempt);
        (self.tried, self.attempts) = (self.tried + 1, self.attempts + 1);
        (self.answer, self.opening) = (Answer::Awaited, None);
        (self.settled, self.judged) = (None, None);
        self.watch.begin_attempt();
        Some(attempt)
    }

    /// Has the current attempt made once more, on a fresh connection. Once per request: the pool's other
    /// connections may be as dead as the one that failed.
    pub fn repeat(&mut self) -> bool {
        let first = !self.repeated;
        if first {
            self.repeated = true;
            (self.next, self.tried) = (self.next - 1, self.tried - 1);
        }
        first
    }

    /// Has the current attempt made to another address of its origin; false when there is none, or no time.
    /// Nothing was sent yet, so this is no retry of the request. Two addresses are the usual case: IPv4 and IPv6.
    pub fn readdress(&mut self) -> bool {
        const ADDRESSES_MAX: usize = 4;
        let tried = self.addresses_tried() + 1;
        let another = tried < self.addresses.min(ADDRESSES_MAX) && self.expired().is_none();
        if another {
            (self.next, self.tried) = (self.next - 1, self.tried - 1);
            self.attempts -= 1;
            self.unreachable = (self.next, tried);
        }
        another
    }

    /// How many addresses of its origin the attempt under way has tried in vain.
    pub fn addresses_tried(&self) -> usize {
        let (position, tried) = self.unreachable;
        if position + 1 == self.next { tried } else { 0 }
    }

    /// The attempt under way.
    pub fn current(&self) -> Option<Attempt> {
        self.current
    }

    /// The target of the attempt under way.
    pub fn target(&self) -> Option<&Target> {
        self.current().map(|attempt| self.plan.target(attempt.slot))
    }

    /// Whether the plan has another attempt.
    pub fn has_next(&self) -> bool {
        self.tried < self.plan.attempts.len() && self.plan.attempt(self.next).is_some()
    }

    /// Whether the head of an answer has come that is worth passing on.
    pub fn answering(&self) -> bool {
        !matches!(self.answer, Answer::Awaited)
    }

    /// Counts how the attempt under way ended; only the first word counts. A failure is held against what is at
    /// fault; `wait` is for how long the provider asks to be left alone.
    pub fn settle(&mut self, outcome: Outcome, wait: Option<Duration>) {
        if self.settled.is_some() {
            return;
        }
        let Some(target) = self.current().map(|attempt| self.plan.target(attempt.slot)) else { return };
        let provider = &target.provider.name;
        metrics::attempt(provider, outcome);
        self.settled = Some(outcome);
        // What ends without an answer is no longer in flight.
        let Some(mut underway) = self.underway.take() else { return };
        let Some(fault) = fault(outcome, wait) else {
            if matches!(outcome, Outcome::Success | Outcome::RequestRefused) {
                underway.answered(Instant::now());
            }
            return;
        };
        if let Some((reason, period)) = underway.failed(Instant::now(), (fault, fastrand::f64())) {
            log::warn!("provider {provider}: kept out for {period:.1?}: {}", reason.name());
            metrics::ejection(provider, reason, period);
        }
    }

    /// The provider does what was asked for, although nothing of an answer's body has come.
    pub fn works(&mut self) {
        if let Some(underway) = self.underway.as_mut() {
            underway.answered(Instant::now());
        }
    }

    /// However the attempt under way ends, it says nothing about its lane.
    pub fn excuse(&mut self) {
        self.underway = None;
    }

    /// Records what follows an answer that ended the attempt.
    pub fn judge(&mut self, decision: Decision) {
        self.judged = Some(decision);
    }

    /// What was decided, if its answer ended the attempt.
    pub fn judged(&self) -> Option<Decision> {
        self.judged
    }

    /// Counts the answer as a stream until the request ends.
    pub fn streams(&mut self) {
        self._stream = Some(metrics::hold_stream());
    }

    /// What a passed time limit means for the client.
    pub fn expired(&self) -> Option<Expiry> {
        self.watch.expired()
    }
}

/// What an outcome is held against, if it is a failure of the provider's side.
fn fault(outcome: Outcome, wait: Option<Duration>) -> Option<Fault> {
    match outcome {
        Outcome::Success | Outcome::RequestRefused | Outcome::Aborted => None,
        Outcome::CredentialRefused => Some(Fault::Credential),
        Outcome::Forbidden => Some(Fault::Forbidden),
        Outcome::RateLimited => Some(Fault::Quota(wait)),
        Outcome::RequestTimeout
        | Outcome::ServerError
        | Outcome::InvalidResponse
        | Outcome::DnsFailed
        | Outcome::ConnectFailed
        | Outcome::Reset
        | Outcome::FirstByteTimeout
        | Outcome::StreamTimeout
        | Outcome::StreamCut => Some(Fault::Place(wait)),
    }
}

/// The client's `x-request-id` if it is fit to be logged, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    const BYTES_MAX: usize = 128;
    let fit = |id: &&HeaderValue| {
        let id = id.as_bytes();
        (1..=BYTES_MAX).contains(&id.len())
            && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
            && !id.starts_with(b"sk-")
    };
    let mut sent = headers.get_all("x-request-id").iter();
    match (sent.next().filter(fit), sent.next()) {
        (Some(id), None) => id.clone(),
        _ => new_request_id(),
    }
}

fn new_request_id() -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(crate::access::new_request_id()))
        .unwrap_or(HeaderValue::from_static("req_0"))
}

/// Seconds since 1970.
pub fn now_unix() -> i64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() as i64)
}

/// The peer's address. Forwarding headers say nothing here: anyone can send them.
pub fn client_ip(session: &Session) -> Option<IpAddr> {
    session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-request-id", HeaderValue::from_str(value).unwrap());
        }
        values.first().is_some_and(|first| request_id(&headers) == first)
    }

    #[test]
    fn only_a_clean_request_id_is_kept() {
        assert!(kept(&["abc-1_2.3:4"]));
        assert!(!kept(&["a b"]) && !kept(&[&"a".repeat(129)]) && !kept(&["a", "b"]) && !kept(&["sk-secret"]));
        let made = new_request_id();
        assert_eq!(made.len(), 28);
        assert_ne!(made, new_request_id());
    }
}
