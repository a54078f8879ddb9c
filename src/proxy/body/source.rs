//! The client's session, wrapped so that the engine reads the body from us.
//!
//! Everything else passes straight through. The wrapped session comes home when the wrapper is dropped:
//! the engine hands out wrappers only as trait objects, and taking one apart would need `unsafe`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session as CustomSession;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::{Digest, l4::socket::SocketAddr};
use tokio::time::{Sleep, sleep_until};

use super::Watch;
use super::held::{Piece, read_spilled};
use super::state::{State, Step, take};

/// Where a wrapped session can be found once its wrapper is gone.
pub(super) struct Home(Arc<Mutex<Option<ServerSession>>>);

/// See the module.
pub(super) struct Source {
    inner: ServerSession,
    state: Arc<Mutex<State>>,
    watch: Arc<Watch>,
    timer: Option<Timer>,
    /// A write that cannot go on where it was cancelled is under way, or was cancelled.
    torn: bool,
    home: Arc<Mutex<Option<ServerSession>>>,
}

/// A session that nobody calls, to stand where one is taken out.
fn vacant() -> ServerSession {
    ServerSession::new_custom(Box::new(()))
}

impl Source {
    /// Wraps `session` in place.
    pub(super) fn install(session: &mut ServerSession, state: Arc<Mutex<State>>, watch: Arc<Watch>) -> Home {
        let home = Arc::new(Mutex::new(None));
        let inner = std::mem::replace(session, vacant());
        let source = Source { inner, state, watch, timer: None, torn: false, home: Arc::clone(&home) };
        *session = ServerSession::new_custom(Box::new(source));
        Home(home)
    }

    /// The next bytes of this attempt's body; never empty.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let step = self.state.lock().step();
            let bytes = match step {
                Step::Give(bytes) => bytes,
                Step::Read(Piece::Memory(bytes)) => self.state.lock().give(bytes),
                Step::Read(Piece::Disk { file, at, len }) => {
                    let read = read_spilled(file, at, len).await;
                    let bytes = read.map_err(|error| {
                        Error::because(ErrorType::FileReadError, "reading a spilled body", error).into_in()
                    })?;
                    self.state.lock().give(bytes)
                }
                Step::Take => match take(&mut self.inner, &self.state).await? {
                    Some(bytes) => self.state.lock().give(bytes),
                    None => return Ok(None),
                },
                Step::Done => return Ok(None),
            };
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    /// Waits until the client leaves, or a time limit of the upstream passes. Writes what was held for long
    /// enough on the way, since nothing else may come for a while.
    async fn idle(&mut self) -> Result<Option<Bytes>> {
        self.watch.sent();
        self.finish_release().await?;
        loop {
            let (at, expiry) = self.watch.next();
            let at = self.watch.held_until().map_or(at, |until| until.min(at));
            let timer = Timer::set(&mut self.timer, self.watch.began() + at);
            tokio::select! {
                biased;
                event = self.inner.read_body_or_idle(true) => return event,
                () = timer => {}
            }
            if self.watch.hold_is_over() {
                self.release().await?;
            }
            // The limit has moved on if something was heard meanwhile.
            if self.watch.next().0 <= self.watch.began().elapsed() {
                self.watch.expire(expiry);
                return Error::e_explain(ErrorType::ReadTimedout, "waiting for the upstream");
            }
        }
    }
}

impl Source {
    /// Writes what was held of the answer.
    async fn release(&mut self) -> Result<()> {
        self.watch.release();
        let Some(tasks) = self.state.lock().overdue() else { return Ok(()) };
        match &mut self.inner {
            // The engine drops this wait as soon as the provider sends more; this write can go on after that.
            ServerSession::H1(session) => {
                tasks.into_iter().for_each(|task| session.send_proxy_task(task));
                session.write_proxy_tasks().await.map(drop)
            }
            ServerSession::H2(_) | ServerSession::Subrequest(_) | ServerSession::Custom(_) => {
                self.torn = true;
                self.inner.response_duplex_vec(tasks).await?;
                self.torn = false;
                Ok(())
            }
        }
    }

    /// Ends a write of [`release`](Self::release) that was cancelled.
    async fn finish_release(&mut self) -> Result<()> {
        match &mut self.inner {
            ServerSession::H1(session) if session.has_pending_proxy_tasks() => {
                session.write_proxy_tasks().await.map(drop)
            }
            // The client's window was full at the first bytes, and more came: what it got is cut short.
            _ if self.torn => {
                Error::e_explain(ErrorType::WriteError, "an opening was cut short").map_err(Error::into_down)
            }
            _ => Ok(()),
        }
    }
}

/// One timer for all the times the engine begins to wait anew: with each event of a stream. It may go off
/// early, never late.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    at: Instant,
}

impl Timer {
    /// The timer, set to go off at `at` or before.
    fn set(timer: &mut Option<Timer>, at: Instant) -> &mut Pin<Box<Sleep>> {
        let timer = timer.get_or_insert_with(|| Timer { sleep: Box::pin(sleep_until(at.into())), at });
        if at < timer.at || timer.sleep.is_elapsed() {
            timer.sleep.as_mut().reset(at.into());
            timer.at = at;
        }
        &mut timer.sleep
    }
}

impl Home {
    /// Drops the wrapper in `session` and puts the wrapped session there.
    pub(super) fn restore(self, session: &mut ServerSession) {
        drop(std::mem::replace(session, vacant()));
        if let Some(inner) = self.0.lock().take() {
            *session = inner;
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        *self.home.lock() = Some(std::mem::replace(&mut self.inner, vacant()));
    }
}

type MessageReader = Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

#[async_trait]
impl CustomSession for Source {
    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.next().await
    }
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.is_body_done() { self.idle().await } else { self.next().await }
    }
    fn is_body_done(&mut self) -> bool {
        self.state.lock().all_sent()
    }
    fn is_body_empty(&mut self) -> bool {
        let state = self.state.lock();
        state.ended && state.taken == 0
    }
    fn body_bytes_read(&self) -> usize {
        self.state.lock().taken as usize
    }
    // The engine's replay buffer stays off: an attempt reads the body from its first byte again.
    fn enable_retry_buffering(&mut self) {}
    fn retry_buffer_truncated(&self) -> bool {
        false
    }
    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }
    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.finish_release().await?;
        if self.watch.hold_is_over() {
            self.state.lock().gate.release();
        }
        let admitted = self.state.lock().admit(tasks);
        match admitted {
            Some(tasks) => self.inner.response_duplex_vec(tasks).await,
            None => Ok(false),
        }
    }
    async fn abandon(&mut self, _context: &str) {
        self.inner.shutdown().await;
    }
    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.inner.shutdown().await;
    }
    async fn finish(&mut self) -> Result<()> {
        self.inner.finish_body().await
    }

    // What follows passes straight through.
    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }
    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }
    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
    }
    async fn write_response_header(&mut self, header: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.inner.write_response_header(header).await
    }
    async fn write_response_header_ref(&mut self, header: &ResponseHeader, _end: bool) -> Result<()> {
        self.inner.write_response_header_ref(header).await
    }
    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner.write_response_body(data, end).await
    }
    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_response_trailers(trailers).await
    }
    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_read_timeout(timeout);
    }
    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.get_read_timeout()
    }
    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }
    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }
    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }
    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }
    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }
    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }
    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }
    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }
    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }
    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }
    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.to_h1_raw()
    }
    fn is_upgrade_req(&self) -> bool {
        self.inner.is_upgrade_req()
    }
    fn was_upgraded(&self) -> bool {
        self.inner.was_upgraded()
    }

    // Custom messages are a feature of custom protocols; HTTP has none.
    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_reader(&mut self) -> Option<MessageReader> {
        None
    }
    fn restore_custom_message_reader(&mut self, _reader: MessageReader) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }
    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
