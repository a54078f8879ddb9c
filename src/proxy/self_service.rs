//! What clients may ask of the gateway itself: their usage, their limits, another secret, a key.
//!
//! Limits are known here. Everything else is in the store, which the data plane never waits for: it is asked over a
//! channel, with a deadline, and answered on the control runtime (`server/desk.rs`).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::CONTENT_TYPE;
use parking_lot::Mutex;
use pingora_proxy::Session;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::call::{self, Call};
use super::{announced_length, respond};
use crate::allowance::{Allowance, Rate};
use crate::config::{ApplyConf, Key, Snapshot};
use crate::error::ApiError;
use crate::limits::{Claim, Limits};
use crate::metrics::{self, ApplicationResult};

/// Where applications for keys are sent.
pub const APPLY_PATH: &str = "/apply";
/// The largest body that is read here.
const BODY_BYTES_MAX: u64 = 8 << 10;
/// The longest wait for it.
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);
/// The longest wait for the control runtime.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// When a client may ask again that was not answered in time.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Questions that wait for the control runtime.
const ASKS_MAX: usize = 64;

/// The data plane's side of the channel.
pub struct Desk {
    asks: mpsc::Sender<Ask>,
    applications: Option<Mutex<Allowance>>,
}

/// A question to the control runtime.
pub struct Ask {
    /// What is wanted.
    pub what: Wish,
    /// Takes the answer; dropped when there is none.
    pub answer: oneshot::Sender<Result<Value, ApiError>>,
}

/// What a client wants.
pub enum Wish {
    /// What its key used; the undecoded query says when, and by what.
    Usage {
        /// Whose.
        key: Arc<Key>,
        /// The undecoded query.
        query: String,
    },
    /// Another secret for its key.
    Rotate {
        /// Whose.
        key: Arc<Key>,
        /// JSON.
        body: Vec<u8>,
    },
    /// A key.
    Apply {
        /// JSON.
        body: Vec<u8>,
        /// Where it was sent from.
        from: IpAddr,
    },
}

impl Desk {
    /// A desk that takes applications as `apply` says, and the questions it will ask.
    pub fn new(apply: Option<&ApplyConf>) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let allowance = |apply: &ApplyConf| {
            let rate = |times| Rate { times, period: apply.period };
            Mutex::new(Allowance::new(rate(apply.per_address), rate(apply.in_all)))
        };
        (Self { asks, applications: apply.map(allowance) }, asked)
    }

    /// Whether `path` is where applications are taken, and they are.
    pub fn takes_applications(&self, path: &str) -> bool {
        path == APPLY_PATH && self.applications.is_some()
    }

    /// Takes an application for a key. What is said is the same for everyone whose application has its form.
    ///
    /// # Errors
    /// 400 for a body without that form, 405, 413, 415; 429 for too many; 503.
    pub async fn apply(&self, session: &mut Session, call: &mut Call) -> Result<(), ApiError> {
        if session.req_header().method != http::Method::POST {
            return Err(ApiError::method_not_allowed("POST"));
        }
        let from = call::client_ip(session).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        if let Some(wait) = self.applications.as_ref().and_then(|all| all.lock().take(from, Instant::now()).err()) {
            metrics::application(ApplicationResult::Limited);
            return Err(ApiError::too_many_applications(wait));
        }
        let body = read_json(session, call).await?;
        let answer = self.ask(|answer| Ask { what: Wish::Apply { body, from }, answer }).await?;
        respond::accepted(session, call, &answer).await;
        Ok(())
    }

    /// Answers `GET /v1/usage`.
    ///
    /// # Errors
    /// 400 for a query that cannot be read, 503.
    pub async fn usage(&self, session: &mut Session, call: &mut Call, key: Arc<Key>) -> Result<(), ApiError> {
        let query = session.req_header().uri.query().unwrap_or_default().to_owned();
        let answer = self.ask(|answer| Ask { what: Wish::Usage { key, query }, answer }).await?;
        respond::json(session, call, &answer).await;
        Ok(())
    }

    /// Answers `POST /v1/keys/rotate`.
    ///
    /// # Errors
    /// 400 for a body that cannot be read and for a key of routes.yaml, 503.
    pub async fn rotate(&self, session: &mut Session, call: &mut Call, key: Arc<Key>) -> Result<(), ApiError> {
        let body = read_json(session, call).await?;
        let answer = self.ask(|answer| Ask { what: Wish::Rotate { key, body }, answer }).await?;
        respond::json(session, call, &answer).await;
        Ok(())
    }

    async fn ask(&self, ask: impl FnOnce(oneshot::Sender<Result<Value, ApiError>>) -> Ask) -> Result<Value, ApiError> {
        let unavailable = || ApiError::store_unavailable(RETRY_AFTER);
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(ask(answer)).map_err(|_| unavailable())?;
        let answered = pingora_timeout::timeout(ANSWER_WAIT_MAX, answered).await;
        answered.map_err(|_| unavailable())?.map_err(|_| unavailable())?
    }
}

/// How the limits of `key` stand: `GET /v1/limits`. With `model=NAME` in the query, that model's, too.
///
/// # Errors
/// 404 for a model that is none.
pub fn limits(snapshot: &Snapshot, (key, limits): (&Key, &Limits), query: &str) -> Result<Value, ApiError> {
    let model = if query.is_empty() { None } else { Some(super::query_model(query)?) };
    let model = match &model {
        Some(name) => {
            let found = snapshot.models.find(name).filter(|_| key.may_call(name));
            Some(found.ok_or_else(|| ApiError::unknown_model(name))?)
        }
        None => None,
    };
    let claim = model.map_or_else(|| Claim::of_key(snapshot, key), |model| Claim::of(snapshot, key, model));
    let current = limits.current(&claim).into_iter().map(|current| {
        json!({
            "object": "limit",
            "holder": {"kind": current.holder.name(), "name": current.name},
            "limit": current.limit.kind.name(),
            "amount": current.gauge.limit,
            "remaining": current.gauge.remaining,
            "reset_ms": current.gauge.reset_ms,
        })
    });
    let key = json!({"id": key.id.as_ref(), "name": key.name, "tier": key.tier.name});
    Ok(json!({"object": "list", "key": key, "data": current.collect::<Vec<_>>()}))
}

/// A small body of JSON, whole; empty where there is none.
async fn read_json(session: &mut Session, call: &mut Call) -> Result<Vec<u8>, ApiError> {
    let announced = announced_length(&session.req_header().headers, BODY_BYTES_MAX)?;
    if announced == Some(0) || session.is_body_empty() {
        return Ok(Vec::new());
    }
    let media = session.req_header().headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
    let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::unsupported_media("Send JSON, with 'Content-Type: application/json'."));
    }
    if respond::expects_continue(session) && session.downstream_session.write_continue_response().await.is_err() {
        call.left();
        return Err(ApiError::body_timeout());
    }
    let read = pingora_timeout::timeout(BODY_WAIT_MAX, read_whole(session)).await;
    read.map_err(|_| ApiError::body_timeout())?
}

async fn read_whole(session: &mut Session) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    loop {
        match session.downstream_session.read_request_body().await {
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            Ok(None) => return Ok(body),
            Err(error) => {
                log::debug!("a client's body broke off: {error}");
                return Err(ApiError::bad_request("The request body could not be read to its end."));
            }
        }
        if body.len() as u64 > BODY_BYTES_MAX {
            return Err(ApiError::body_too_large(BODY_BYTES_MAX));
        }
    }
}
