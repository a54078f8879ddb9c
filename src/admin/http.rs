//! The admin API over HTTP: a request of axum's in, one of [`Api`] out, and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::api::{self, Answer, Api, Content, ROUTES_BYTES_MAX};
use super::problem::{self, Kind, Problem};
use crate::credential::random_hex;

/// The longest wait for a body.
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Serves `/admin/v1/…`.
pub(super) async fn serve(
    State(admin): State<Admin>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let id = random_hex::<12>().unwrap_or_default();
    let answer = answer(&admin, from, request).await;
    let mut response = answer.map_or_else(|problem| of_problem(&problem, &id), of_answer);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    response
}

async fn answer(admin: &Admin, from: SocketAddr, request: Request) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    // Who may not ask is not listened to.
    let caller = admin.credentials.check(authorization(&head.headers), from.ip()).await?;
    let text = |name: &HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let request = api::Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: text(&header::CONTENT_TYPE),
        accept: text(&header::ACCEPT),
        idempotency_key: text(&IDEMPOTENCY_KEY),
        body: read(body).await?,
    };
    Api::answer(Arc::clone(&admin.api), Some(caller), request).await
}

/// The one `Authorization` of a request; several are as good as none.
fn authorization(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        (None, _) => None,
        (Some(_), Some(_)) => Some(b""),
    }
}

async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let too_large = |_| Problem::new(Kind::BodyTooLarge, format!("No body over {ROUTES_BYTES_MAX} bytes is read."));
    let late = |_| Problem::new(Kind::InvalidRequest, "The body did not arrive in time.");
    let bytes = tokio::time::timeout(BODY_WAIT_MAX, to_bytes(body, ROUTES_BYTES_MAX)).await;
    Ok(bytes.map_err(late)?.map_err(too_large)?.to_vec())
}

fn of_answer(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    match answer.content {
        Content::Json(value) => (status, axum::Json(value)).into_response(),
        Content::Csv(text) => {
            let headers = [
                (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
                (header::CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""),
            ];
            (status, headers, text).into_response()
        }
        Content::Nothing => status.into_response(),
    }
}

fn of_problem(problem: &Problem, id: &str) -> Response {
    if problem.kind.status() >= 500 {
        log::error!("admin: request {id}: {}", problem.detail);
    }
    let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = problem.body(&format!("urn:forge:request:{id}")).to_string();
    let mut response = (status, [(header::CONTENT_TYPE, problem::CONTENT_TYPE)], body).into_response();
    let headers = response.headers_mut();
    if let Some(wait) = problem.retry_after {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = problem.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        headers.insert(header::ALLOW, allow);
    }
    if problem.kind == Kind::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"forge admin\""));
    }
    response
}

/// Before pages that are open on loopback only: elsewhere they want a credential, of any role.
pub(super) async fn wants_credential(
    State(admin): State<Admin>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if !admin.pages_are_open
        && let Err(problem) = admin.credentials.check(authorization(request.headers()), from.ip()).await
    {
        return of_problem(&problem, "page");
    }
    next.run(request).await
}
