//! The data plane: Pingora's phases, each delegating in a few lines.
//!
//! A request: authenticate (headers only) -> inspect -> authorise -> plan, all in `request_filter`; then, per
//! attempt, `upstream_peer` -> `upstream_request_filter` -> the body from its source ->
//! `upstream_response_filter`; the answer's bytes through `response_body_filter`; `logging` at the end.
//! An attempt fails over until the head of its answer is passed on.

mod admission;
mod answer;
pub mod body;
mod call;
pub mod connector;
mod conversation;
mod dns;
mod exchange;
pub mod inspect;
pub mod keys;
pub mod lanes;
mod limit;
mod meter;
mod models;
pub mod pick;
mod probe;
mod request_head;
mod respond;
pub mod retry;
pub mod route;
pub mod self_service;
mod service;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, Result};
use pingora_core::protocols::http::compression::ResponseCompressionCtx;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::config::{Facts, Live, ProcessConf, Snapshot, Timeouts};
use crate::edge::{self, head::HeadLimits};
use crate::endpoint::{Dialect, Endpoint, ModelIn, ServedBy};
use crate::error::ApiError;
use crate::limits::Limits;
use crate::metrics;
use crate::usage::Ledger;
use admission::{Caller, Grant};
use body::{Asking, Body, BodyLimits, Budget, HeldLimits, Meter, Pace, ReadUntil, Wanted, Watch};
use call::{Call, Routed};
use dns::Dns;
use inspect::Inspector;
use keys::StoredKeys;
use lanes::Known;
use request_head::{announced_length, missing_model, query_model, sole_content_type};
use retry::RetryBudgets;
use route::{Plan, View};
use self_service::Desk;
pub use service::Service;
use upstream::Peers;

/// The data plane of one process.
pub struct Gateway {
    live: Arc<Live>,
    keys: Option<Arc<StoredKeys>>,
    desk: Option<Desk>,
    limits: Arc<Limits>,
    bodies: Arc<BodyLimits>,
    known: Known,
    budgets: RetryBudgets,
    dns: Dns,
    peers: Peers,
    heads: HeadLimits,
    /// The longest wait for a client to take more of its answer.
    write_stall: Duration,
    /// Where usage is recorded, if it is.
    ledger: Option<Arc<Ledger>>,
    /// What answers `/v1/files`, where there is a store for it.
    service: Option<Service>,
}

/// What `request_filter` came to.
enum Admitted {
    /// On to a provider.
    Proxy,
    /// Forge answered.
    Answered,
}

impl Gateway {
    /// Serves what `live` holds to its keys and those of the store, within the bounds of `conf`, and under `limits`.
    pub fn new(live: Arc<Live>, keys: Option<Arc<StoredKeys>>, limits: Arc<Limits>, conf: &ProcessConf) -> Self {
        let bounds = &conf.bounds;
        let memory = Meter { taken: metrics::buffered_add, returned: metrics::buffered_sub };
        let disk = Meter { taken: metrics::spilled_add, returned: metrics::spilled_sub };
        let bodies = BodyLimits {
            bytes_max: bounds.body_bytes_max,
            replay_bytes_max: bounds.replay_bytes_max,
            stall: bounds.body_stall,
            pace: Pace { grace: conf.clients.body_grace, rate_min: conf.clients.body_rate_min },
            held: HeldLimits {
                memory_bytes_max: bounds.body_memory_bytes_max,
                memory: Budget::new(bounds.buffered_bytes_max, memory),
                disk: Budget::new(bounds.spilled_bytes_max, disk),
                spill_dir: bounds.spill_dir.clone(),
            },
        };
        let dns = Dns::new(conf.upstream.dns_ttl_max);
        Self {
            live,
            keys,
            desk: None,
            limits,
            bodies: Arc::new(bodies),
            known: Known::default(),
            budgets: RetryBudgets::default(),
            dns,
            peers: Peers::new(conf.upstream.idle),
            heads: HeadLimits::of(&conf.clients),
            write_stall: conf.clients.write_stall,
            ledger: None,
            service: None,
        }
    }

    /// The same, with self service and applications at this desk.
    pub fn with_desk(self, desk: Desk) -> Self {
        Self { desk: Some(desk), ..self }
    }

    /// What is known of the ways to providers.
    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// The same, with usage recorded in `ledger`.
    pub fn recording(self, ledger: Option<Arc<Ledger>>) -> Self {
        Self { ledger, ..self }
    }

    /// With the service that answers `/v1/files`; without one, those paths are unknown.
    pub fn with_service(self, service: Option<Service>) -> Self {
        Self { service, ..self }
    }

    async fn admit(&self, session: &mut Session, call: &mut Call) -> Result<Admitted, ApiError> {
        if session.req_header().version == Version::HTTP_2 {
            // The edge has checked what came over HTTP/1.
            let head = session.req_header();
            edge::check_decoded(head, &self.heads).map_err(|fault| fault.answer(&self.heads, head.uri.path()))?;
        }
        if let Some(desk) = self.desk.as_ref().filter(|desk| desk.takes_applications(session.req_header().uri.path())) {
            Box::pin(desk.apply(session, call)).await?;
            return Ok(Admitted::Answered);
        }
        let snapshot = self.live.load();
        let (keys, from) = ((snapshot.as_ref(), self.keys.as_deref()), call::client_ip(session));
        let caller = admission::authenticate(keys, session.req_header(), from).await?;
        call.key = Some(Arc::clone(caller.key()));
        let endpoint = admission::endpoint(&caller, session.req_header())?;
        call.endpoint = Some(endpoint);
        match endpoint.row().model_in {
            ModelIn::Nowhere if endpoint.row().served_by == ServedBy::Jobs => {
                let service = self.service.as_ref().ok_or_else(ApiError::unknown_path)?;
                let passes = service.admit(session, call, &self.bodies).await?;
                Ok(if passes { Admitted::Proxy } else { Admitted::Answered })
            }
            ModelIn::Nowhere => self.answer(session, call, &snapshot).await,
            ModelIn::Query => self.admit_websocket(session, call, (snapshot, caller)).await,
            ModelIn::Json | ModelIn::Multipart | ModelIn::JsonOrMultipart => {
                self.admit_body(session, call, (snapshot, caller)).await
            }
        }
    }

    /// The endpoints that Forge answers itself.
    async fn answer(&self, session: &mut Session, call: &mut Call, snapshot: &Snapshot) -> Result<Admitted, ApiError> {
        let head = session.req_header();
        let Some(key) = call.key.clone() else { return Err(ApiError::invalid_key()) };
        if head.headers.contains_key("anthropic-version") {
            call.dialect = Dialect::Anthropic;
        }
        let (path, query) = (head.uri.path(), head.uri.query());
        let value = match (call.endpoint, self.desk.as_ref()) {
            (Some(Endpoint::Usage), Some(desk)) => {
                Box::pin(desk.usage(session, call, key)).await?;
                return Ok(Admitted::Answered);
            }
            (Some(Endpoint::RotateKey), Some(desk)) => {
                Box::pin(desk.rotate(session, call, key)).await?;
                return Ok(Admitted::Answered);
            }
            (Some(Endpoint::Usage | Endpoint::RotateKey), None) => return Err(ApiError::unknown_path()),
            (Some(Endpoint::Limits), _) => {
                self_service::limits(snapshot, (&key, &self.limits), query.unwrap_or_default())?
            }
            _ => match path.strip_prefix("/v1/models/") {
                None => models::list(snapshot, &key, (call.dialect, query)),
                Some(id) => models::retrieve(snapshot, &key, (call.dialect, id))?,
            },
        };
        respond::json(session, call, &value).await;
        Ok(Admitted::Answered)
    }

    /// A WebSocket: the model is in the query, and there is no body.
    async fn admit_websocket(
        &self,
        session: &Session,
        call: &mut Call,
        (snapshot, caller): (Arc<Snapshot>, Caller),
    ) -> Result<Admitted, ApiError> {
        if !session.is_upgrade_req() || !asks_for_websocket(&session.req_header().headers) {
            return Err(ApiError::upgrade_required());
        }
        let named = query_model(session.req_header().uri.query().unwrap_or_default())?;
        call.requested = Some(named.clone());
        let grant = admission::authorise(caller, &snapshot, &named)?;
        self.route(session, call, (snapshot, grant)).await?;
        Ok(Admitted::Proxy)
    }

    /// Everything that has a body: it is read until its model is known, at least.
    async fn admit_body(
        &self,
        session: &mut Session,
        call: &mut Call,
        (snapshot, caller): (Arc<Snapshot>, Caller),
    ) -> Result<Admitted, ApiError> {
        let Some(endpoint) = call.endpoint else { return Err(ApiError::unknown_path()) };
        let row = endpoint.row();
        let bytes_max = row.body_bytes_max.min(self.bodies.bytes_max);
        let announced = announced_length(&session.req_header().headers, bytes_max)?;
        let inspector = Inspector::for_request(row, sole_content_type(&session.req_header().headers)?)?;
        if respond::expects_continue(session) && session.downstream_session.write_continue_response().await.is_err() {
            call.left();
            return Ok(Admitted::Answered);
        }
        let until = if snapshot.rules.reads_stream || (snapshot.rules.reads_body_bytes && announced.is_none()) {
            ReadUntil::End
        } else {
            ReadUntil::Model
        };
        call.ledger = self.ledger.clone();
        call.metered = call.ledger.is_some() || limit::may_limit(&snapshot, caller.key());
        let (sent, asking) = meter::wanted(endpoint).filter(|_| call.metered).unzip();
        let captured = Body::capture(
            &mut session.downstream_session,
            Wanted { inspector, bytes_max, announced, until, sent, asking: asking.unwrap_or(Asking::Nothing) },
            &self.bodies,
        )
        .await?;
        let named = captured.inspected(|found| found.model().map(|model| model.name.clone()));
        (call.body, call.announced) = (Some(captured), announced);
        let named = named.or(row.default_model.map(str::to_owned)).ok_or_else(missing_model)?;
        call.requested = Some(named.clone());
        let grant = admission::authorise(caller, &snapshot, &named)?;
        if let Some(body) = &call.body {
            body.read_stream_options(&mut session.downstream_session).await?;
        }
        let headers = &session.downstream_session.req_header().headers;
        if conversation::needs_head(&snapshot, &grant.model, headers)
            && let Some(body) = &call.body
        {
            body.read_head(&mut session.downstream_session, conversation::HEAD_BYTES).await?;
        }
        self.route(session, call, (snapshot, grant)).await?;
        let routed = call.routed.as_mut().zip(call.body.as_mut());
        if let Some((routed, body)) = routed {
            body.wrap(&mut session.downstream_session, Arc::clone(&routed.watch));
        }
        Ok(Admitted::Proxy)
    }

    /// Decides where a granted request goes, and takes it under its limits.
    async fn route(
        &self,
        session: &Session,
        call: &mut Call,
        (snapshot, grant): (Arc<Snapshot>, Grant),
    ) -> Result<(), ApiError> {
        let plan = self.plan(session, call, (&snapshot, &grant))?;
        limit::reserve(&self.limits, call, (&snapshot, &grant.key, &plan)).await?;
        let now = std::time::Instant::now();
        let budget = self.budgets.of(&plan.model.name, now);
        budget.request(now);
        let timeouts: Timeouts = plan.model.timeouts;
        let watch = Arc::new(Watch::new(call.began, timeouts));
        call.requested = Some(grant.model);
        call.routed = Some(Routed::new(snapshot, plan, (watch, budget)));
        Ok(())
    }

    fn plan(&self, session: &Session, call: &Call, (snapshot, grant): (&Snapshot, &Grant)) -> Result<Plan, ApiError> {
        let Some(endpoint) = call.endpoint else { return Err(ApiError::unknown_path()) };
        let now = std::time::Instant::now();
        let headers;
        let facts = if snapshot.rules.is_empty() {
            None
        } else {
            headers = &session.req_header().headers;
            Some(facts(session, call, (grant, headers)))
        };
        route::plan(
            snapshot,
            &route::Request {
                requested: &grant.model,
                endpoint,
                facts: facts.as_ref(),
                view: View {
                    out: &|lane| self.known.health.out(lane, now),
                    load: &|place| self.known.loads.seen(place, now),
                },
                seed: fastrand::u64(..),
                now_unix: &call::now_unix,
                conversation: &|| conversation::mark(&session.req_header().headers, call.body.as_ref()),
            },
        )
    }
}

/// The engine takes any upgrade for one, `h2c` too.
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// What rules may read of this request.
fn facts<'a>(session: &'a Session, call: &'a Call, (grant, headers): (&'a Grant, &'a HeaderMap)) -> Facts<'a> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = call.body.as_ref();
    Facts {
        model: &grant.model,
        endpoint: call.endpoint.unwrap_or(Endpoint::Models),
        stream: body.is_some_and(|body| body.inspected(|found| found.stream() == Some(true))),
        tier: &grant.key.tier.name,
        key_name: &grant.key.name,
        key_metadata: &grant.key.metadata,
        headers,
        path: session.req_header().uri.path(),
        client_ip: call::client_ip(session),
        body_bytes: announced.unwrap_or_else(|| body.map_or(0, Body::taken)),
        time_unix: call::now_unix(),
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Call;

    fn new_ctx(&self) -> Call {
        Call::new()
    }

    async fn early_request_filter(&self, session: &mut Session, call: &mut Call) -> Result<()> {
        call.begin(session);
        if session.is_process_shutting_down() {
            // Said before the connection is closed, so that no request is sent into the closing.
            session.set_keepalive(None);
        }
        let client = &mut session.downstream_session;
        client.set_write_timeout(Some(self.write_stall));
        client.set_ignore_info_resp(true);
        // An early answer does not end the connection: what the client still sends is read and dropped.
        client.set_close_on_response_before_downstream_finish(false);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, call: &mut Call) -> Result<bool> {
        match self.admit(session, call).await {
            Ok(Admitted::Proxy) => Ok(false),
            Ok(Admitted::Answered) => Ok(true),
            Err(error) => {
                respond::error(session, call, &error).await;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, call: &mut Call) -> Result<Box<HttpPeer>> {
        // Undoes what a provider compresses although it was not asked to; fresh for each attempt, since the
        // engine's does not survive a second answer.
        session.upstream_compression = ResponseCompressionCtx::new(0, true, false);
        if let (Some(_), Some(service)) = (&call.passage, &self.service) {
            return service.peer();
        }
        self.next_peer(call).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        call: &mut Call,
    ) -> Result<()> {
        if call.passage.is_some() {
            *upstream = service::request_head(session, call)?;
            return Ok(());
        }
        exchange::request_head(session, upstream, call)
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        upstream: &mut ResponseHeader,
        call: &mut Call,
    ) -> Result<()> {
        if let Some(passage) = &call.passage {
            passage.watch.heard();
            return service::response_head(upstream, call);
        }
        exchange::judge(upstream, call)
    }

    async fn response_filter(&self, session: &mut Session, head: &mut ResponseHeader, _call: &mut Call) -> Result<()> {
        if session.req_header().version == Version::HTTP_10 {
            // The engine chunks what has no length, which an HTTP/1.0 client cannot read: the end of the
            // connection ends the body. RFC 9112 section 6.1.
            head.remove_header(&TRANSFER_ENCODING);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        call: &mut Call,
    ) -> Result<Option<Duration>> {
        if let Some(passage) = &call.passage {
            passage.watch.heard();
            call.first_byte();
            return Ok(None);
        }
        answer::bytes(body, end, call).map(|()| None)
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        call: &mut Call,
    ) -> Result<Option<Bytes>> {
        // Trailers end a body whose end the body filter did not see, and are not passed on.
        trailers.clear();
        let mut rest = None;
        answer::bytes(&mut rest, true, call)?;
        Ok(Some(rest.unwrap_or_default()))
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        call: &mut Call,
        error: Box<Error>,
    ) -> Box<Error> {
        exchange::not_connected(call, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        call: &mut Call,
        client_reused: bool,
    ) -> Box<Error> {
        exchange::broken(session, call, (error, client_reused))
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, call: &mut Call) -> FailToProxy {
        exchange::give_up(session, call, error).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, call: &mut Call) {
        exchange::end(session, call, (error, &self.limits));
    }

    // The access line says it all, once.
    fn suppress_error_log(&self, _session: &Session, _call: &Call, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _call: &Call,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
