//! One attempt at a provider: request out, answer judged, bytes through, and what follows when it fails.

use std::time::Instant;

use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{FailToProxy, Session};

use super::Gateway;
use super::answer::{compressed, end_stream, pass_on, refuse};
use super::body::{Asking, Body, Expiry, Next};
use super::call::{Call, Decision, Leave, Routed};
use super::limit;
use super::meter;
use super::respond;
use super::route::Attempt;
use super::upstream::{Route, Wire};
use crate::adapt::outcome::{self, Outcome as Judgement};
use crate::adapt::request::{self, Framing, Outgoing, Upgrade};
use crate::config::{RetryOn, StreamUsage, Target};
use crate::error::ApiError;
use crate::limits::Limits;
use crate::metrics::{self, Outcome};

/// The largest head of a provider's answer that is passed on; some clients take no larger one.
const HEAD_BYTES_MAX: usize = 64 << 10;

impl Gateway {
    /// The peer of the next attempt whose name resolves.
    pub(super) async fn next_peer(&self, call: &mut Call) -> Result<Box<HttpPeer>> {
        meter::replaced(call);
        let wire = if call.body.is_some() { Wire::Http } else { Wire::WebSocket };
        let Call { routed, body, requested, .. } = call;
        let Some(routed) = routed.as_mut() else { return Err(Error::new_in(ErrorType::InternalError)) };
        let begin = |attempt: Attempt, leave| match leave {
            Leave::Asked => self.known.begin(attempt.lane, Instant::now()),
            Leave::Given => Some(self.known.begin_anyway(attempt.lane, Instant::now())),
        };
        while let Some(attempt) = routed.advance(begin) {
            let model = &routed.plan.model;
            let target = routed.plan.target(attempt.slot);
            let Some(origin) = target.provider.origins.get(attempt.origin) else { continue };
            match self.dns.address(origin, attempt.origin + routed.addresses_tried()).await {
                Ok((address, addresses)) => {
                    routed.addresses = addresses;
                    if let (Some(body), Some(requested)) = (body, requested) {
                        let next = if routed.has_next() { Next::Another } else { Next::Nothing };
                        body.begin_attempt(target.model.as_deref().unwrap_or(requested), asking(target), next);
                    }
                    let generation = routed.snapshot.generation;
                    let timeouts = model.timeouts;
                    let provider = &target.provider;
                    return Ok(Box::new(self.peers.peer(&Route {
                        provider,
                        origin,
                        address,
                        timeouts,
                        wire,
                        generation,
                    })));
                }
                Err(error) => {
                    log::warn!("provider {}: {error}", target.provider.name);
                    routed.settle(Outcome::DnsFailed, None);
                    routed.failure = Some(ApiError::upstream_error());
                }
            }
        }
        routed.failure.get_or_insert_with(ApiError::upstream_error);
        Err(Error::new_up(ErrorType::ConnectError))
    }
}

/// Whether a provider is asked what a stream used.
fn asking(target: &Target) -> Asking {
    match target.provider.stream_usage {
        StreamUsage::Ask => Asking::Usage,
        StreamUsage::Leave => Asking::Nothing,
    }
}

/// Decides from the answer's head whether it is passed on, given in another shape, or not given at all.
pub(super) fn judge(head: &mut ResponseHeader, call: &mut Call) -> Result<()> {
    let status = head.status.as_u16();
    if head.status.is_informational() && status != 101 {
        return Ok(());
    }
    let Some(routed) = call.routed.as_mut() else { return Ok(()) };
    routed.watch.heard();
    let websocket = call.body.is_none();
    let judgement = match outcome::judge(status) {
        _ if head_bytes(head) > HEAD_BYTES_MAX => Judgement::ProviderFault,
        // 101 is the answer to an upgrade, the only one, and to nothing else.
        Judgement::Success if websocket != (status == 101) => Judgement::ProviderFault,
        judgement => judgement,
    };
    match judgement {
        Judgement::Success if compressed(head) => Err(turn_down(call, judgement, ApiError::upstream_error())),
        Judgement::Success => pass_on(head, call),
        Judgement::Refusal => refuse(head, call),
        Judgement::RateLimited
        | Judgement::RequestTimeout
        | Judgement::OurCredential
        | Judgement::Forbidden
        | Judgement::ProviderFault => Err(turn_down(call, judgement, refusal(head, judgement))),
    }
}

/// The fields of a head in bytes, as HTTP/1 would write them.
fn head_bytes(head: &ResponseHeader) -> usize {
    const SEPARATORS: usize = ": \r\n".len();
    head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + SEPARATORS).sum()
}

/// What the client is told if nobody answers, and for how long the provider asks to be left alone.
fn refusal(head: &ResponseHeader, judgement: Judgement) -> ApiError {
    let now_unix = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() as i64);
    let wait = outcome::retry_after(&head.headers, now_unix).filter(|wait| !wait.is_zero());
    let error = match judgement {
        Judgement::RateLimited => ApiError::upstream_rate_limited(wait),
        Judgement::RequestTimeout => ApiError::upstream_timeout(),
        Judgement::Success
        | Judgement::Refusal
        | Judgement::OurCredential
        | Judgement::Forbidden
        | Judgement::ProviderFault => ApiError::upstream_error(),
    };
    ApiError { retry_after: wait, ..error }
}

/// Replaces the engine's copy of the client's head by one made for the provider.
pub(super) fn request_head(session: &Session, head: &mut RequestHeader, call: &Call) -> Result<()> {
    let attempt = call.routed.as_ref().and_then(|routed| Some((routed, routed.current()?)));
    let (Some((routed, attempt)), Some(endpoint), Some(requested)) = (attempt, call.endpoint, &call.requested) else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let target = routed.plan.target(attempt.slot);
    let provider = &target.provider;
    let Some(origin) = provider.origins.get(attempt.origin) else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let (framing, upgrade) = match &call.body {
        None => (Framing::None, Upgrade::WebSocket),
        Some(body) => (body.length(call.announced).map_or(Framing::Chunked, Framing::Length), Upgrade::None),
    };
    let client = session.req_header();
    *head = request::head(&Outgoing {
        endpoint,
        query: client.uri.query(),
        headers: &client.headers,
        provider,
        origin,
        key: provider.keys.get(attempt.key),
        model: target.model.as_deref().unwrap_or(requested),
        request_id: &call.request_id,
        framing,
        upgrade,
        version: head.version,
    })
    .map_err(|error| Error::because(ErrorType::InternalError, "building the upstream request", error).into_in())?;
    Ok(())
}

/// Ends an attempt because of its answer; `error` is for the client if no other attempt is made.
pub(super) fn turn_down(call: &mut Call, judgement: Judgement, error: ApiError) -> Box<Error> {
    let (outcome, wanted): (_, fn(&RetryOn) -> bool) = match judgement {
        Judgement::RateLimited => (Outcome::RateLimited, |on| on.rate_limited),
        Judgement::RequestTimeout => (Outcome::RequestTimeout, |on| on.request_timeout),
        Judgement::OurCredential => (Outcome::CredentialRefused, |on| on.server_error),
        Judgement::Forbidden => (Outcome::Forbidden, |on| on.server_error),
        Judgement::ProviderFault => (Outcome::ServerError, |on| on.server_error),
        Judgement::Success => (Outcome::InvalidResponse, |on| on.server_error),
        Judgement::Refusal => (Outcome::RequestRefused, |_| false),
    };
    let retry = retry(call, wanted);
    if let Some(routed) = call.routed.as_mut() {
        routed.settle(outcome, error.retry_after);
        routed.failure = Some(error);
        routed.judge(if retry { Decision::Next } else { Decision::Last });
    }
    let mut error = Error::new_up(ErrorType::Custom("the provider's answer"));
    error.set_retry(retry);
    error
}

/// Whether another attempt may follow: the plan has one, the model's policy wants it, nothing was given to
/// the client, and the body can be sent again in time.
pub(super) fn may_retry(call: &Call, wanted: impl Fn(&RetryOn) -> bool) -> bool {
    let replayable = call.body.as_ref().is_none_or(Body::replayable);
    call.routed.as_ref().is_some_and(|routed| {
        routed.has_next()
            && wanted(&routed.plan.model.retry.on)
            && routed.expired() != Some(Expiry::Total)
            && replayable
    })
}

/// Whether another attempt follows: it may, and the model's budget has one.
fn retry(call: &Call, wanted: impl Fn(&RetryOn) -> bool) -> bool {
    let Some(routed) = call.routed.as_ref().filter(|_| may_retry(call, wanted)) else { return false };
    let within = routed.budget.take(routed.plan.model.retry.budget_percent, Instant::now());
    if !within {
        metrics::retry_refused();
    }
    within
}

/// The attempt had no connection.
pub(super) fn not_connected(call: &mut Call, mut error: Box<Error>) -> Box<Error> {
    let elsewhere = call.routed.as_mut().is_some_and(|routed| {
        log_failure(routed, &error);
        unreachable(&error) && routed.readdress()
    });
    let retry = elsewhere || retry(call, |on| on.connect);
    if let Some(routed) = call.routed.as_mut().filter(|_| !elsewhere) {
        routed.settle(Outcome::ConnectFailed, None);
        let timed_out = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
        routed.failure = Some(if timed_out { ApiError::upstream_timeout() } else { ApiError::upstream_error() });
    }
    error.set_retry(retry);
    error
}

/// Whether the address was not reached, so that another one may be.
fn unreachable(error: &Error) -> bool {
    use ErrorType::{ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout};
    matches!(error.etype(), ConnectError | ConnectNoRoute | ConnectRefused | ConnectTimedout)
}

/// The attempt broke on an established connection.
pub(super) fn broken(session: &Session, call: &mut Call, (mut error, reused): (Box<Error>, bool)) -> Box<Error> {
    // The engine panics when a retry that depends on reuse is asked for before this is settled.
    error.retry.decide_reuse(reused);
    let judged = call.routed.as_ref().and_then(Routed::judged);
    let retry = match judged {
        Some(decision) => decision == Decision::Next,
        None => {
            after_break(call, &error, if respond::answered(session) { Gone::Answering } else { Gone::Silent(reused) })
        }
    };
    error.set_retry(retry);
    error
}

/// How far an attempt had come when it broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// Nothing was written to the client; whether the connection had served before.
    Silent(bool),
    /// The client has part of an answer.
    Answering,
}

/// What follows a break that no status explains.
fn after_break(call: &mut Call, error: &Error, gone: Gone) -> bool {
    let body_fault = call.body.as_ref().is_some_and(|body| body.fault().is_some());
    let Some(expired) = call.routed.as_ref().map(Routed::expired) else { return false };
    let answering = call.routed.as_ref().is_some_and(Routed::answering);
    let (outcome, failure, retry) = match (expired, error.esource()) {
        _ if body_fault => (Outcome::Aborted, None, false),
        (Some(Expiry::FirstByte), _) => {
            (Outcome::FirstByteTimeout, Some(ApiError::upstream_timeout()), retry(call, |on| on.first_byte))
        }
        // The head alone is no answer yet: the wait for its first byte goes on.
        (Some(Expiry::Idle), _) if gone != Gone::Answering => {
            (Outcome::FirstByteTimeout, Some(ApiError::upstream_timeout()), retry(call, |on| on.first_byte))
        }
        (Some(Expiry::Total), _) if gone == Gone::Answering => {
            // A long answer in a short time is nobody's fault.
            call.routed.iter_mut().for_each(Routed::excuse);
            (Outcome::StreamTimeout, Some(ApiError::upstream_timeout()), false)
        }
        (Some(Expiry::Idle | Expiry::Total), _) => (Outcome::StreamTimeout, Some(ApiError::upstream_timeout()), false),
        (None, ErrorSource::Downstream) => (Outcome::Aborted, None, false),
        (None, _) if gone == Gone::Answering => (Outcome::StreamCut, Some(ApiError::upstream_error()), false),
        (None, _) if answering => {
            (Outcome::StreamCut, Some(ApiError::upstream_error()), retry(call, |on| on.server_error))
        }
        (None, _) if gone == Gone::Silent(true) && fresh_connection(call) => return true,
        (None, _) => (Outcome::Reset, Some(ApiError::upstream_error()), retry(call, |on| on.connect)),
    };
    if let Some(routed) = call.routed.as_mut() {
        if failure.is_some() {
            log_failure(routed, error);
        }
        routed.settle(outcome, None);
        routed.failure = failure.or(routed.failure.take());
    }
    retry
}

/// A pooled connection that the provider had closed meanwhile: the same attempt goes over a fresh one.
fn fresh_connection(call: &mut Call) -> bool {
    let replayable = call.body.as_ref().is_none_or(Body::replayable);
    replayable && call.routed.as_mut().is_some_and(Routed::repeat)
}

fn log_failure(routed: &Routed, error: &Error) {
    if let Some(target) = routed.target() {
        log::warn!("provider {}: {error}", target.provider.name);
    }
}

/// No attempt is left, or the client is at fault or gone: the last word to the client.
pub(super) async fn give_up(session: &mut Session, call: &mut Call, error: &Error) -> FailToProxy {
    if let Some(body) = call.body.as_mut() {
        // The client's own session is needed to close or keep its connection.
        body.unwrap(&mut session.downstream_session);
    }
    session.set_keepalive(None);
    let body_fault = call.body.as_ref().and_then(Body::fault);
    let failure = call.routed.as_mut().and_then(|routed| routed.failure.take());
    let told = match (body_fault, failure) {
        (Some(fault), _) => Some(fault),
        // Also where an earlier attempt failed: this one did not.
        (None, _) if client_left(call, error) => None,
        (None, Some(failure)) => Some(failure),
        (None, None) if call.passage.is_some() => {
            log::error!("request {}: the file service: {error}", call.request_id.to_str().unwrap_or("-"));
            Some(ApiError::storage_unavailable())
        }
        (None, None) => {
            log::error!("request {}: {error}", call.request_id.to_str().unwrap_or("-"));
            Some(ApiError::internal())
        }
    };
    match told {
        None => call.left(),
        Some(told) if respond::answered(session) => end_stream(session, call, &told).await,
        Some(told) => respond::error(session, call, &told).await,
    }
    FailToProxy { error_code: error_code(session), can_reuse_downstream: false }
}

/// Whether an error means that the client is gone. Faults of its body and passed time limits come to light at
/// its session too.
fn client_left(call: &Call, error: &Error) -> bool {
    *error.esource() == ErrorSource::Downstream
        && call.body.as_ref().is_none_or(|body| body.fault().is_none())
        && call.expired().is_none()
}

fn error_code(session: &Session) -> u16 {
    session.response_written().map_or(0, |head| head.status.as_u16())
}

/// The end of the request, whatever it was.
pub(super) fn end(session: &mut Session, call: &mut Call, (error, limits): (Option<&Error>, &Limits)) {
    if let Some(body) = call.body.as_mut() {
        body.unwrap(&mut session.downstream_session);
    }
    if error.is_some_and(|error| client_left(call, error)) {
        call.left();
        if let Some(routed) = call.routed.as_mut() {
            routed.settle(Outcome::Aborted, None);
        }
    }
    meter::end(call);
    limit::end(limits, call);
    call.finish(session);
}
