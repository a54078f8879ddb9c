//! The edge's own answers, and how it parts from a client.

use std::future::poll_fn;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::link::Link;
use crate::access::{self, Record};
use crate::endpoint::{Endpoint, dialect_of_path};
use crate::error::ApiError;
use crate::metrics;

/// How long a client that still sends may do so, that it gets to read the answer: closing at once would reset
/// the connection under it.
const LINGER: Duration = Duration::from_secs(2);

/// Who is refused.
pub(super) struct Refused<'a> {
    /// Empty when no path was read.
    pub(super) path: &'a str,
    pub(super) client_ip: Option<IpAddr>,
}

/// Answers with `error` and closes; counts and logs it as any other request.
pub(super) async fn refuse(link: &mut Link, error: &ApiError, refused: Refused<'_>) {
    let began = Instant::now();
    let request_id = access::new_request_id();
    let body = error.body(dialect_of_path(refused.path), &request_id);
    let answer = answer(error, &request_id, &body);
    let limit = link.limits().write_stall;
    let written = match answer {
        Ok(answer) => timeout(limit, write(link, &answer)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())),
        Err(error) => Err(error),
    };
    let record = Record {
        request_id: &request_id,
        endpoint: Endpoint::by_path(refused.path),
        status: error.status,
        error_code: Some(error.code),
        first_byte: Some(began.elapsed()),
        total: began.elapsed(),
        bytes_out: body.len() as u64,
        client_ip: refused.client_ip,
        aborted_by_client: written.is_err(),
        ..Record::default()
    };
    metrics::request(&record);
    access::write(&record);
    if written.is_ok() {
        linger(link).await;
    }
}

/// Says that nothing more will be sent, then reads and drops what still comes, for a while.
pub(super) async fn linger(link: &mut Link) {
    let parting = async {
        AsyncWriteExt::shutdown(link.io()).await?;
        while poll_fn(|cx| link.poll_drop(cx)).await? > 0 {}
        io::Result::Ok(())
    };
    if let Ok(Err(error)) = timeout(LINGER, parting).await {
        log::debug!("a client left before it was told goodbye: {error}");
    }
}

async fn write(link: &mut Link, answer: &[u8]) -> io::Result<()> {
    link.io().write_all(answer).await?;
    link.io().flush().await
}

fn answer(error: &ApiError, request_id: &str, body: &str) -> io::Result<Vec<u8>> {
    let reason = StatusCode::from_u16(error.status).ok().and_then(|status| status.canonical_reason());
    let mut out = Vec::with_capacity(512 + body.len());
    write!(out, "HTTP/1.1 {} {}\r\n", error.status, reason.unwrap_or_default())?;
    write!(out, "date: {}\r\n", httpdate::fmt_http_date(std::time::SystemTime::now()))?;
    write!(out, "content-type: application/json\r\ncontent-length: {}\r\n", body.len())?;
    write!(out, "cache-control: no-store\r\nx-request-id: {request_id}\r\nrequest-id: {request_id}\r\n")?;
    if let Some(wait) = error.retry_after {
        write!(out, "retry-after: {}\r\n", wait.as_secs().max(1))?;
    }
    if let Some(methods) = error.allow {
        write!(out, "allow: {methods}\r\n")?;
    }
    write!(out, "connection: close\r\n\r\n{body}")?;
    Ok(out)
}
