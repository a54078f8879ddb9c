//! An answer on its way to the client: its head, its bytes, its end.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::body::Body;
use super::call::{Answer, Call};
use super::exchange::{may_retry, turn_down};
use super::limit;
use super::meter::{self, Came, Chunk, Form, Meter, Used};
use crate::adapt::echo::Echo;
use crate::adapt::opening::{Opening, Verdict};
use crate::adapt::outcome::Outcome as Judgement;
use crate::adapt::refusal::{self, Refused, Told};
use crate::adapt::response;
use crate::adapt::stream_error::{Ending, Tail};
use crate::config::EchoModel;
use crate::error::ApiError;
use crate::metrics::Outcome;

/// Whether the body is in a coding that the engine could not undo. Nobody asked for one.
pub(super) fn compressed(head: &ResponseHeader) -> bool {
    head.headers.get(CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Passes a good answer on. From here on there is no other attempt.
pub(super) fn pass_on(head: &mut ResponseHeader, call: &mut Call) -> Result<()> {
    let sse = media_type_is(&head.headers, b"text/event-stream");
    let replaceable = sse && may_retry(call, |on| on.server_error);
    let (Some(routed), Some(endpoint), Some(requested)) = (call.routed.as_mut(), call.endpoint, &call.requested) else {
        return Ok(());
    };
    let rewritten = routed.plan.model.echo_model == EchoModel::Requested && (sse || json(&head.headers));
    let upgraded = head.status == 101;
    routed.answer = match (rewritten && !upgraded, sse) {
        (true, true) => Answer::Echoing(Box::new(Echo::sse(requested)), Some(Tail::default())),
        (true, false) => Answer::Echoing(Box::new(Echo::json(requested)), None),
        (false, _) => Answer::Passing(sse.then(Tail::default)),
    };
    if call.metered && !upgraded {
        let asked = call.body.as_ref().is_some_and(Body::asks_usage);
        let form = match (sse, json(&head.headers)) {
            (true, _) if asked => Form::Events(Chunk::Forges),
            (true, _) => Form::Events(Chunk::Clients),
            (false, true) => Form::Json,
            (false, false) => Form::Other,
        };
        routed.meter = Some(Box::new(Meter::new(endpoint, form, head.status.as_u16())));
    }
    if sse || upgraded {
        routed.streams();
    }
    if upgraded {
        // What follows is no body, and passes by.
        routed.works();
    }
    routed.opening = sse.then(|| Opening::new(endpoint));
    if let Some(body) = call.body.as_ref().filter(|_| replaceable) {
        body.hold_answer();
        routed.watch.hold(routed.plan.model.hold);
    }
    let strips = routed.meter.as_ref().is_some_and(|meter| meter.strips());
    let is_rewritten = strips || matches!(routed.answer, Answer::Echoing(..));
    let body = if is_rewritten { response::Body::Rewritten } else { response::Body::AsSent };
    response::head(head, &call.request_id, body);
    limit::tell(head, call)
}

/// Gathers a refusal of the request itself, to give it in the client's shape.
pub(super) fn refuse(head: &mut ResponseHeader, call: &mut Call) -> Result<()> {
    let status = head.status.as_u16();
    let empty = head.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() == b"0");
    if empty || compressed(head) {
        return Err(turn_down(call, Judgement::Refusal, ApiError::upstream_refusal(status, None)));
    }
    let Some(routed) = call.routed.as_mut() else { return Ok(()) };
    routed.settle(Outcome::RequestRefused, None);
    routed.answer = Answer::Refusal(status, Vec::new());
    call.failed(&ApiError::upstream_refusal(status, None));
    head.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    response::head(head, &call.request_id, response::Body::Rewritten);
    limit::tell(head, call)
}

fn media_type(headers: &HeaderMap) -> &[u8] {
    let value = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

fn media_type_is(headers: &HeaderMap, essence: &[u8]) -> bool {
    media_type(headers).eq_ignore_ascii_case(essence)
}

fn json(headers: &HeaderMap) -> bool {
    media_type_is(headers, b"application/json")
}

/// Passes the bytes of the answer through.
///
/// # Errors
/// A stream that fails before its first content, while another attempt may take its place.
pub(super) fn bytes(bytes: &mut Option<Bytes>, end: bool, call: &mut Call) -> Result<()> {
    let used = meter::pass(bytes, end, call);
    let dialect = call.dialect;
    let Some(routed) = call.routed.as_mut() else { return Ok(()) };
    routed.watch.heard();
    match &mut routed.answer {
        Answer::Awaited => {}
        Answer::Passing(tail) => follow(tail, bytes.as_ref()),
        Answer::Echoing(echo, tail) => {
            let spliced = bytes.take().map(|bytes| echo.feed(bytes)).unwrap_or_default();
            let rest = if end { echo.finish() } else { Bytes::new() };
            *bytes = Some(if rest.is_empty() { spliced } else { [spliced, rest].concat().into() });
            follow(tail, bytes.as_ref());
        }
        Answer::Refusal(_, gathered) => {
            // One byte over the limit is enough to tell that it is over.
            let room = refusal::BODY_BYTES_MAX + 1 - gathered.len();
            let more = bytes.take().unwrap_or_default();
            gathered.extend_from_slice(&more[..more.len().min(room)]);
            *bytes = Some(Bytes::new());
        }
    }
    if end && let Answer::Refusal(status, gathered) = &mut routed.answer {
        let (status, body) = (*status, Bytes::from(std::mem::take(gathered)));
        *bytes = routed.target().map(|target| {
            let request_id = call.request_id.to_str().unwrap_or_default();
            let refused = Refused { status, body: &body, dialect, request_id, provider: &target.provider };
            match refusal::tell(&refused) {
                Told::Body(body) => body,
                Told::Error(error) => error.body(dialect, request_id).into(),
            }
        });
    }
    if routed.opening.is_some() {
        open(bytes.as_ref(), end, call)?;
    }
    if used == Used::Known {
        meter::settle(call, Came::Whole);
    }
    if (bytes.as_ref().is_some_and(|bytes| !bytes.is_empty()) || end) && !held(call) {
        call.first_byte();
    }
    if end && let Some(routed) = call.routed.as_mut() {
        routed.settle(Outcome::Success, None);
    }
    Ok(())
}

/// Looks at a stream until its first content, and holds it for so long where another attempt may take its place.
/// What fails or ends before is as good as a 5xx then: the client has nothing of it yet.
fn open(bytes: Option<&Bytes>, end: bool, call: &mut Call) -> Result<()> {
    let Some(opening) = call.routed.as_mut().and_then(|routed| routed.opening.as_mut()) else { return Ok(()) };
    let verdict = opening.feed(bytes.map_or(&[], |bytes| bytes));
    let written = call.body.as_ref().is_some_and(Body::answered);
    match verdict {
        Verdict::Opening if !end => return Ok(()),
        Verdict::Content => {}
        Verdict::Opening | Verdict::Error if !written && may_retry(call, |on| on.server_error) => {
            return Err(turn_down(call, Judgement::Success, ApiError::upstream_error()));
        }
        // The provider's word passes, but it failed all the same.
        Verdict::Error => call.routed.iter_mut().for_each(|routed| routed.settle(Outcome::InvalidResponse, None)),
        Verdict::Opening => {}
    }
    release(call);
    Ok(())
}

/// Passes on what was held of an opening; from here on there is no other attempt.
fn release(call: &mut Call) {
    if let Some(routed) = call.routed.as_mut() {
        routed.opening = None;
        routed.watch.release();
    }
    if let Some(body) = &call.body {
        body.release_answer();
    }
}

/// Whether what has come of the answer waits for its first content.
fn held(call: &Call) -> bool {
    let opening =
        call.routed.as_ref().is_some_and(|routed| routed.opening.is_some() && routed.watch.held_until().is_some());
    opening && call.body.as_ref().is_some_and(|body| !body.answered())
}

fn follow(tail: &mut Option<Tail>, bytes: Option<&Bytes>) {
    if let (Some(tail), Some(bytes)) = (tail, bytes) {
        tail.push(bytes);
    }
}

/// Ends an answer that has begun so that nobody takes it for whole: an event stream by an error event,
/// everything else by a broken framing.
pub(super) async fn end_stream(session: &mut Session, call: &mut Call, error: &ApiError) {
    call.failed(error);
    let tail = call.routed.as_ref().and_then(|routed| match &routed.answer {
        Answer::Passing(tail) | Answer::Echoing(_, tail) => tail.as_ref(),
        Answer::Awaited | Answer::Refusal(..) => None,
    });
    let (Some(tail), Some(endpoint)) = (tail, call.endpoint) else {
        session.downstream_session.shutdown().await;
        return;
    };
    let event = tail.end(&Ending { endpoint, error, request_id: call.request_id.to_str().unwrap_or_default() });
    if session.write_response_body(Some(event), true).await.is_err() {
        call.left();
    }
}
