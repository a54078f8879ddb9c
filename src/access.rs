//! The access log: one line per request, as text (`key=value`) or JSON, to stderr or to a file.
//!
//! Owns the shape of that line. A line never holds a credential, a header or anything of a body;
//! text that a client sent is bounded and escaped. Lines for a file go through a bounded queue and a
//! thread of their own, so that a slow disk delays nobody; what the queue cannot take is counted.
//!
//! ```
//! # use forge::access::{Record, write_line};
//! # use forge::config::LogFormat;
//! let record = Record { request_id: "req_1", key_name: Some("demo"), status: 200, ..Record::default() };
//! let mut line = String::new();
//! write_line(&mut line, &record, std::time::UNIX_EPOCH, LogFormat::Text);
//! assert!(line.starts_with("time=1970-01-01T00:00:00.000Z request_id=req_1 key=demo"));
//! ```

mod line;
mod sink;

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

pub use line::write_line;
use once_cell::sync::OnceCell;
use sink::FileSink;

use crate::config::LogFormat;
use crate::endpoint::Endpoint;

/// The `log` target of access lines that go to stderr; `RUST_LOG=forge::access=off` silences them.
pub const LOG_TARGET: &str = "forge::access";

/// One request as it ended. Made once, read by the access log and the metrics.
#[derive(Debug, Clone, Default)]
pub struct Record<'a> {
    /// `x-request-id`, sent both ways.
    pub request_id: &'a str,
    /// Name of the client's key; `None` before or without authentication.
    pub key_name: Option<&'a str>,
    /// The endpoint called; `None` for a path that no endpoint has.
    pub endpoint: Option<Endpoint>,
    /// `Model::name` of the snapshot, wildcards unresolved: bounded by configuration, hence the metrics' label.
    pub model: Option<&'a str>,
    /// What the client named; shown in the log only.
    pub requested_model: Option<&'a str>,
    /// Name of the provider tried last.
    pub provider: Option<&'a str>,
    /// The provider's name for the model.
    pub upstream_model: Option<&'a str>,
    /// Attempts at providers, 0 when Forge answered by itself.
    pub attempts: u32,
    /// Status sent to the client; 0 when the client left before there was one.
    pub status: u16,
    /// `ApiError::code`, where the answer is Forge's own error.
    pub error_code: Option<&'static str>,
    /// Position, from 0, of the rule that matched.
    pub rule: Option<usize>,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// From the request's head to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// From the request's head to the end.
    pub total: Duration,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// The peer's address.
    pub client_ip: Option<IpAddr>,
    /// The client left before the answer was complete.
    pub aborted_by_client: bool,
    /// Tokens of the prompt, where usage is recorded.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, where usage is recorded.
    pub output_tokens: Option<u64>,
}

/// A request id of our own, for a request that brought none: `req_` and 24 hex digits.
pub fn new_request_id() -> String {
    const DIGITS: usize = 24;
    let mut id = String::with_capacity("req_".len() + DIGITS);
    id.push_str("req_");
    let random = fastrand::u128(..);
    id.extend((0..DIGITS).map(|digit| char::from(b"0123456789abcdef"[(random >> (4 * digit)) as usize & 15])));
    id
}

struct AccessLog {
    format: LogFormat,
    file: Option<FileSink>,
}

static LOG: OnceCell<AccessLog> = OnceCell::new();

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Sets where lines go, once per process: to `path` (appended to, created if absent), else through `log`.
///
/// # Errors
/// The file cannot be opened, or its thread not started.
pub fn init(format: LogFormat, path: Option<&Path>) -> io::Result<()> {
    let file = path.map(FileSink::open).transpose()?;
    if LOG.set(AccessLog { format, file }).is_err() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the access log is set already"));
    }
    Ok(())
}

/// Writes the line of a request that ended. Before [`init`] lines go through `log` as text.
pub fn write(record: &Record<'_>) {
    let (format, file) = LOG.get().map_or((LogFormat::Text, None), |log| (log.format, log.file.as_ref()));
    if file.is_none() && !log::log_enabled!(target: LOG_TARGET, log::Level::Info) {
        return;
    }
    LINE.with_borrow_mut(|line| {
        line.clear();
        write_line(line, record, SystemTime::now(), format);
        match file {
            Some(file) => file.push(line),
            None => log::info!(target: LOG_TARGET, "{line}"),
        }
    });
}

/// Opens the file anew, after a rotation moved it away.
///
/// # Errors
/// The file cannot be opened; the old one stays in use.
pub fn reopen() -> io::Result<()> {
    match LOG.get().and_then(|log| log.file.as_ref()) {
        Some(file) => file.reopen(),
        None => Ok(()),
    }
}

/// Writes what is queued; call before the process leaves. Blocks for as long as the disk does.
pub fn flush() {
    if let Some(file) = LOG.get().and_then(|log| log.file.as_ref()) {
        file.flush();
    }
}
