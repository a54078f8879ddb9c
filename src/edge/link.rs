//! A client's connection, read strictly: bytes reach the engine only once they are checked.
//!
//! Owns the order of things on an HTTP/1 connection: a head, its body, the wait for the answer, the next head.
//! The engine never gets a byte of a head that is not sound and whole, nor one beyond the end of the request
//! it works on. So a pipelined request waits here, and whatever the engine's parser forgives it never sees.
//! A head in one piece is checked where the engine will read it, without a copy.
//!
//! A head at fault ends the connection for the engine as if the client had left; the edge answers it. A body
//! at fault is a read error at its first unsound byte; the request has begun, so the data plane answers it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

use super::chunked::Chunked;
use super::fault::Fault;
use super::head::{Framing, Head, HeadLimits, Next, Scan};
use super::resets::Resets;
use crate::metrics;

/// How much of what a client sends ahead of its turn is taken from the socket.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// How much is read at once while nobody has offered a buffer.
const READ_BYTES: usize = 4096;

/// What a connection is held to.
#[derive(Debug)]
pub(super) struct LinkLimits {
    pub(super) head: HeadLimits,
    pub(super) header_timeout: Duration,
    pub(super) keepalive: Duration,
    pub(super) write_stall: Duration,
    pub(super) h2_resets_max: u64,
}

/// A client's connection and what was read from it.
#[derive(Debug)]
pub(super) struct Link {
    io: Stream,
    limits: Arc<LinkLimits>,
    stage: Stage,
    /// Read from the client, not yet given to the engine.
    held: Held,
    /// When a head that has begun must be whole.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Who waits for bytes while none may pass.
    waiting: Option<Waker>,
    next: Next,
    /// The client closed its side.
    ended: bool,
    /// What of HTTP/2 is bounded here.
    resets: Option<Box<Resets>>,
}

#[derive(Debug)]
enum Stage {
    /// A head is awaited or has begun.
    Head(Scan),
    /// A sound head is being given out; then its body.
    Release { left: usize, body: Body, upgrade: Upgrade },
    /// A body passes.
    Body { body: Body, upgrade: Upgrade },
    /// The request was read to its end; the next must wait for the answer.
    Answering { upgrade: Upgrade },
    /// Everything passes: HTTP/2, or after 101.
    Open,
    /// A head was at fault: nothing passes.
    Refused(Fault),
    /// A body was at fault: nothing passes.
    Broken,
}

#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(Box<Chunked>),
}

/// Whether the answer may change the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    No,
    /// The first write of the answer will tell.
    Asked,
}

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    start: usize,
}

/// What became of a connection.
pub(super) enum Ending {
    /// Its head was at fault; the client is yet to be told. The path, if it was read.
    Refused(Fault, Option<String>),
    /// The client may still be sending, or has sent what nobody read.
    Unread,
    /// Nothing is left to be read.
    Clean,
}

impl Link {
    pub(super) fn new(io: Stream, limits: Arc<LinkLimits>) -> Self {
        Self {
            io,
            limits,
            stage: Stage::Head(Scan::default()),
            held: Held::default(),
            deadline: None,
            waiting: None,
            next: Next::Allowed,
            ended: false,
            resets: None,
        }
    }

    /// Lets everything pass from here on, but for a client that cancels too much.
    pub(super) fn open_http2(&mut self) {
        self.stage = Stage::Open;
        self.resets = Some(Box::new(Resets::new(self.limits.h2_resets_max, Instant::now())));
    }

    /// The connection itself.
    pub(super) fn io(&mut self) -> &mut Stream {
        &mut self.io
    }

    /// The connection itself, to be asked.
    pub(super) fn stream(&self) -> &Stream {
        &self.io
    }

    /// Whether the request was read to its end and its answer is awaited.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.stage, Stage::Answering { .. })
    }

    /// Whether the next request has not come yet, or not the whole of its head.
    pub(super) fn awaits_request(&self) -> bool {
        matches!(self.stage, Stage::Head(_)) && !self.ended
    }

    /// Makes ready for the next request; false: none may follow.
    pub(super) fn next_request(&mut self) -> bool {
        let allowed = self.next == Next::Allowed && self.is_answering();
        if allowed {
            self.stage = Stage::Head(Scan::default());
            self.waiting = None;
        }
        allowed
    }

    pub(super) fn limits(&self) -> &LinkLimits {
        &self.limits
    }

    /// What was read and not given out.
    pub(super) fn held(&self) -> &[u8] {
        self.held.rest()
    }

    /// Reads what the client sends, to be given out later. Returns how many bytes came; none: it closed its
    /// side.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [const { std::mem::MaybeUninit::uninit() }; READ_BYTES];
        let mut buf = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        self.ended = buf.filled().is_empty();
        self.held.push(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Reads what the client sends, and drops it. Returns how many bytes came; none: it closed its side.
    pub(super) fn poll_drop(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.held = Held::default();
        self.poll_fill(cx)
    }

    /// How things stand once the engine is done with the connection.
    pub(super) fn ending(&self) -> Ending {
        match &self.stage {
            // An empty line that some clients send behind a body is no request to be answered.
            Stage::Refused(Fault::TooSlow | Fault::CutShort) if self.held.rest().iter().all(is_line_end) => {
                Ending::Clean
            }
            Stage::Refused(fault) => Ending::Refused(*fault, self.refused_path()),
            _ if self.ended => Ending::Clean,
            Stage::Release { .. } | Stage::Body { .. } | Stage::Broken => Ending::Unread,
            Stage::Head(_) | Stage::Answering { .. } | Stage::Open if !self.held.is_empty() => Ending::Unread,
            Stage::Head(_) | Stage::Answering { .. } | Stage::Open => Ending::Clean,
        }
    }

    fn refused_path(&self) -> Option<String> {
        // Scanned once more, since only a refusal needs it.
        let mut scan = Scan::default();
        let _ = scan.advance(self.held.rest(), &self.limits.head);
        scan.path(self.held.rest()).map(str::to_owned)
    }

    fn refuse(&mut self, fault: Fault) {
        self.deadline = None;
        self.stage = Stage::Refused(fault);
    }

    /// A head was found sound; `left` bytes of it are still to be given out.
    fn accept(&mut self, head: &Head, left: usize) {
        self.deadline = None;
        self.next = head.next;
        let upgrade = if head.upgrade { Upgrade::Asked } else { Upgrade::No };
        let body = match head.framing {
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Box::default()),
        };
        self.stage = match left {
            0 => Stage::Body { body, upgrade },
            left => Stage::Release { left, body, upgrade },
        };
        self.settle();
    }

    /// How many of `bytes` may pass now; moves the stage on accordingly.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let passed = match &mut self.stage {
            Stage::Release { left, .. } => {
                let passed = bytes.len().min(*left);
                *left -= passed;
                passed
            }
            Stage::Body { body, .. } => body.pass(bytes),
            Stage::Open if self.resets.as_mut().is_none_or(|resets| resets.allow(bytes, Instant::now)) => bytes.len(),
            Stage::Open => {
                metrics::http2_resets_exceeded();
                self.stage = Stage::Broken;
                0
            }
            Stage::Head(_) | Stage::Answering { .. } | Stage::Refused(_) | Stage::Broken => 0,
        };
        self.settle();
        passed
    }

    /// Leaves a stage that has nothing more to pass.
    fn settle(&mut self) {
        if matches!(self.stage, Stage::Release { left: 0, .. })
            && let Stage::Release { body, upgrade, .. } = std::mem::replace(&mut self.stage, Stage::Broken)
        {
            self.stage = Stage::Body { body, upgrade };
        }
        if let Stage::Body { body, upgrade } = &self.stage {
            match body.state() {
                BodyState::Open => {}
                BodyState::Done => self.stage = Stage::Answering { upgrade: *upgrade },
                BodyState::Broken => self.stage = Stage::Broken,
            }
        }
    }

    /// Gives out what is held, as far as it may pass.
    fn give_held(&mut self, buf: &mut ReadBuf<'_>) {
        let held = std::mem::take(&mut self.held);
        let offered = &held.rest()[..held.rest().len().min(buf.remaining())];
        let passed = self.pass(offered);
        buf.put_slice(&offered[..passed]);
        self.held = held.after(passed);
    }

    /// Reads straight into the engine's buffer, and takes back what may not pass.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        self.ended = read.is_empty();
        let passed = self.pass(read);
        self.held.push(&read[passed..]);
        buf.set_filled(before + passed);
        Poll::Ready(Ok(()))
    }

    /// Awaits a whole head. With one in a single piece, gives it out at once, with what follows of its body.
    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Stage::Head(scan) = &mut self.stage else { return Poll::Ready(Ok(())) };
        if !self.held.is_empty() {
            match scan.advance(self.held.rest(), &self.limits.head) {
                Ok(Some(head)) => {
                    self.accept(&head, head.bytes);
                    return Poll::Ready(Ok(()));
                }
                Ok(None) => {}
                Err(fault) => {
                    self.refuse(fault);
                    return Poll::Ready(Ok(()));
                }
            }
            let limit = self.limits.header_timeout;
            let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            if deadline.as_mut().poll(cx).is_ready() {
                self.refuse(Fault::TooSlow);
                return Poll::Ready(Ok(()));
            }
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let outcome = self.head_read(&buf.filled()[before..]);
        buf.set_filled(before + outcome);
        Poll::Ready(Ok(()))
    }

    /// Looks at what was read while a head is awaited; returns how many bytes of it pass as they are.
    fn head_read(&mut self, read: &[u8]) -> usize {
        if read.is_empty() {
            self.ended = true;
            if !self.held.is_empty() {
                self.refuse(Fault::CutShort);
            }
            return 0;
        }
        if self.held.is_empty()
            && let Stage::Head(scan) = &mut self.stage
        {
            match scan.advance(read, &self.limits.head) {
                Ok(Some(head)) => {
                    self.accept(&head, 0);
                    let passed = head.bytes + self.pass(&read[head.bytes..]);
                    self.held.push(&read[passed..]);
                    return passed;
                }
                Ok(None) => {}
                Err(fault) => self.refuse(fault),
            }
        }
        self.held.push(read);
        0
    }

    /// The client's turn is over until the answer is written: only notices whether it leaves.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.rest().len() < AHEAD_BYTES_MAX {
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// Gives the engine what it may have.
    pub(super) fn poll_checked(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            match self.stage {
                Stage::Head(_) => {
                    ready!(self.poll_head(cx, buf))?;
                    if buf.filled().len() > before || (self.ended && self.held.is_empty()) {
                        return Poll::Ready(Ok(()));
                    }
                }
                Stage::Release { .. } | Stage::Body { .. } | Stage::Open if !self.held.is_empty() => {
                    self.give_held(buf);
                    if buf.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
                Stage::Release { .. } | Stage::Body { .. } | Stage::Open => {
                    ready!(self.poll_direct(cx, buf))?;
                    if buf.filled().len() > before || self.ended {
                        return Poll::Ready(Ok(()));
                    }
                }
                Stage::Answering { .. } => {
                    self.waiting = Some(cx.waker().clone());
                    return self.poll_ahead(cx);
                }
                Stage::Refused(_) => return Poll::Ready(Ok(())),
                Stage::Broken => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, Fault::Chunk))),
            }
        }
    }

    /// Looks at the first bytes of an answer to a request that asked for another protocol.
    pub(super) fn answered(&mut self, first: &[u8]) {
        let (Stage::Answering { upgrade } | Stage::Release { upgrade, .. } | Stage::Body { upgrade, .. }) =
            &mut self.stage
        else {
            return;
        };
        if std::mem::replace(upgrade, Upgrade::No) == Upgrade::Asked && first.starts_with(b"HTTP/1.1 101 ") {
            self.stage = Stage::Open;
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Whether the answer's first write is still to be looked at.
    pub(super) fn upgrade_asked(&self) -> bool {
        matches!(
            self.stage,
            Stage::Answering { upgrade: Upgrade::Asked }
                | Stage::Release { upgrade: Upgrade::Asked, .. }
                | Stage::Body { upgrade: Upgrade::Asked, .. }
        )
    }
}

enum BodyState {
    Open,
    Done,
    Broken,
}

impl Body {
    fn pass(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Length(left) => {
                let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= passed as u64;
                passed
            }
            Self::Chunked(chunked) => chunked.advance(bytes),
        }
    }

    fn state(&self) -> BodyState {
        match self {
            Self::Length(0) => BodyState::Done,
            Self::Length(_) => BodyState::Open,
            Self::Chunked(chunked) if chunked.done() => BodyState::Done,
            Self::Chunked(chunked) if chunked.fault().is_some() => BodyState::Broken,
            Self::Chunked(_) => BodyState::Open,
        }
    }
}

impl Held {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// What is left once `passed` bytes are gone. Nothing: the memory is given back, for a connection may idle.
    fn after(mut self, passed: usize) -> Self {
        self.start += passed;
        if self.is_empty() { Self::default() } else { self }
    }
}

fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}
