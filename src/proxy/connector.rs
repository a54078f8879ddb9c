//! Connections to providers over HTTP/1.1, on which a request's head leaves together with the beginning of its body.
//!
//! The engine writes the head and flushes it, then the body: two system calls, two packets and, in front of TLS, two
//! records, of which the first wakes a provider that can do nothing yet. Here a head waits for what is written next.
//! That is never long: an attempt begins once the body's first bytes are there, or its end.
//!
//! The engine asks a connector of ours only for peers with an ALPN of ours ([`alpn`]); it is never offered to a
//! server. Pooling, TLS and the HTTP/1.1 client stay the engine's.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use once_cell::sync::Lazy;
use pingora::Result;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{CustomALPN, SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora_core::upstreams::peer::Peer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A head and the beginning of its body are gathered up to this; what is more leaves without being copied.
const GATHERED_BYTES_MAX: usize = 4 << 10;

/// What the engine knows peers by that [`GatheringConnector`] connects to.
pub fn alpn() -> ALPN {
    static ALPN: Lazy<ALPN> = Lazy::new(|| ALPN::Custom(CustomALPN::new(b"forge-http1".to_vec())));
    ALPN.clone()
}

/// Makes connections that gather.
pub struct GatheringConnector {
    transport: TransportConnector,
}

impl GatheringConnector {
    /// Connects as the engine does with the same options.
    pub fn new(options: Option<ConnectorOptions>) -> Self {
        Self { transport: TransportConnector::new(options) }
    }
}

#[async_trait]
impl Connector for GatheringConnector {
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<(Connection<()>, bool)> {
        let mut peer = peer.clone();
        if let Some(options) = peer.get_mut_peer_options() {
            options.alpn = ALPN::H1;
        }
        let io = self.transport.new_stream(&peer).await?;
        Ok((Connection::Stream(Box::new(Gathering::new(io))), false))
    }

    /// The engine keeps the connections itself, being HTTP/1.1.
    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<()> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        _session: (),
        _peer: &P,
        _idle_timeout: Option<Duration>,
    ) {
    }
}

/// A connection to a provider.
#[derive(Debug)]
struct Gathering<S> {
    io: S,
    held: Vec<u8>,
    /// Bytes of `held` that were sent already.
    sent: usize,
    /// The next flush is the one behind a head.
    head: bool,
}

impl<S> Gathering<S> {
    fn new(io: S) -> Self {
        Self { io, held: Vec::new(), sent: 0, head: false }
    }
}

/// Whether `bytes` are the head of a request with a body, which the engine writes in one piece. A body that looks
/// like one would only leave a little later: with what is written next, or at its end.
fn is_head(bytes: &[u8]) -> bool {
    bytes.starts_with(b"POST ") && bytes.ends_with(b"\r\n\r\n")
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    /// Sends what is held, followed by `bufs`; how many bytes of those went with it.
    fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        while self.sent < self.held.len() {
            let held = &self.held[self.sent..];
            let written = if let ([first, ..], true) = (bufs, self.io.is_write_vectored()) {
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &[IoSlice::new(held), IoSlice::new(first)]))?
            } else {
                ready!(Pin::new(&mut self.io).poll_write(cx, held))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let beyond = written.saturating_sub(held.len());
            self.sent += written - beyond;
            if beyond > 0 {
                self.clear();
                return Poll::Ready(Ok(beyond));
            }
        }
        self.clear();
        Poll::Ready(Ok(0))
    }

    fn clear(&mut self) {
        self.held.clear();
        (self.sent, self.head) = (0, false);
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.held.is_empty() {
            if !is_head(buf) {
                return Pin::new(&mut this.io).poll_write(cx, buf);
            }
            this.head = true;
            this.held.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        if this.sent == 0 && this.held.len() + buf.len() <= GATHERED_BYTES_MAX {
            this.held.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        match ready!(this.poll_send(cx, &[IoSlice::new(buf)]))? {
            0 => Pin::new(&mut this.io).poll_write(cx, buf),
            written => Poll::Ready(Ok(written)),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        }
        // Chunks: gathered as long as they are small, and sent by the flush behind them.
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if std::mem::take(&mut this.head) {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_send(cx, &[]))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, &[]))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

// What follows passes straight through.

#[async_trait]
impl Shutdown for Gathering<Stream> {
    async fn shutdown(&mut self) {
        self.io.shutdown().await;
    }
}

#[async_trait]
impl Peek for Gathering<Stream> {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.io.try_peek(buf).await
    }
}

impl UniqueID for Gathering<Stream> {
    fn id(&self) -> UniqueIDType {
        self.io.id()
    }
}

impl Ssl for Gathering<Stream> {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.io.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.io.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.io.selected_alpn_proto()
    }
}

impl GetTimingDigest for Gathering<Stream> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.io.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.io.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.io.get_write_pending_time()
    }
}

impl GetProxyDigest for Gathering<Stream> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.io.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.io.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Gathering<Stream> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.io.set_socket_digest(digest);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Takes at most `room` bytes a write, and records each.
    #[derive(Debug)]
    struct Wire {
        room: usize,
        writes: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Wire {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut taken: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            taken.truncate(self.room);
            let count = taken.len();
            self.writes.push(taken);
            Poll::Ready(Ok(count))
        }
        fn is_write_vectored(&self) -> bool {
            true
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    const HEAD: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n";

    fn gathering(room: usize) -> Gathering<Wire> {
        Gathering::new(Wire { room, writes: vec![] })
    }

    #[tokio::test]
    async fn a_head_leaves_with_the_beginning_of_its_body() {
        for body_len in [0, 1, 900, GATHERED_BYTES_MAX, 70_000] {
            let mut io = gathering(usize::MAX);
            let body = vec![b'x'; body_len];
            for _ in 0..2 {
                io.write_all(HEAD).await.unwrap();
                io.flush().await.unwrap();
                assert!(io.io.writes.is_empty());
                io.write_all(&body).await.unwrap();
                io.flush().await.unwrap();
                assert_eq!(std::mem::take(&mut io.io.writes), [[HEAD, &body].concat()]);
            }
        }
    }

    #[tokio::test]
    async fn chunks_leave_with_the_flush_behind_them() {
        let mut io = gathering(usize::MAX);
        io.write_all(HEAD).await.unwrap();
        io.flush().await.unwrap();
        let parts = [IoSlice::new(b"5\r\n"), IoSlice::new(b"hello"), IoSlice::new(b"\r\n")];
        for at in 0..parts.len() {
            assert_eq!(io.write_vectored(&parts[at..]).await.unwrap(), parts[at].len());
        }
        io.flush().await.unwrap();
        assert_eq!(io.io.writes, [[HEAD, b"5\r\nhello\r\n"].concat()]);
        assert_eq!(io.write_vectored(&parts).await.unwrap(), 10);
        assert_eq!(io.io.writes.len(), 2);
    }

    #[tokio::test]
    async fn nothing_is_lost_when_a_connection_takes_little_at_a_time() {
        for room in [1, 7, HEAD.len(), HEAD.len() + 1, 1000] {
            for body_len in [0, 10, GATHERED_BYTES_MAX, 20_000] {
                let mut io = gathering(room);
                let body: Vec<u8> = (0..body_len).map(|index| index as u8).collect();
                io.write_all(HEAD).await.unwrap();
                io.flush().await.unwrap();
                io.write_all(&body).await.unwrap();
                io.write_all(b"tail").await.unwrap();
                io.flush().await.unwrap();
                assert_eq!(io.io.writes.concat(), [HEAD, &body, b"tail"].concat(), "{room} {body_len}");
            }
        }
    }

    #[tokio::test]
    async fn a_request_without_a_body_leaves_at_once() {
        let mut io = gathering(usize::MAX);
        io.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(io.io.writes.len(), 1);
    }
}
