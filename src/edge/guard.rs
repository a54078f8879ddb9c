//! The engine's hold on a client's connection: a stream like any other, whose reads are checked.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Protocol;
use super::link::Link;

/// Where a link is found once the engine has dropped its guard.
pub(super) type Home = Arc<Mutex<Option<Link>>>;

/// The engine's hold on a link. Dropping it sends the link home.
#[derive(Debug)]
pub(super) struct Guard {
    link: Option<Link>,
    home: Home,
    protocol: Protocol,
}

impl Guard {
    pub(super) fn new(link: Link, home: &Home, protocol: Protocol) -> Self {
        Self { link: Some(link), home: Arc::clone(home), protocol }
    }

    /// Makes ready for the next request of a connection that the engine kept. `None`: none may follow.
    pub(super) fn next_request(stream: Stream) -> Option<Stream> {
        let mut guard = stream.into_any().downcast::<Self>().ok()?;
        let link = guard.link.as_mut()?;
        if link.next_request() { Some(guard) } else { None }
    }

    #[cfg(test)]
    pub(super) fn is_answering(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_answering)
    }

    fn link(&mut self) -> io::Result<&mut Link> {
        self.link.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        *self.home.lock() = self.link.take();
    }
}

impl AsyncRead for Guard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.link()?.poll_checked(cx, buf)
    }
}

impl AsyncWrite for Guard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let link = self.link()?;
        if link.upgrade_asked() {
            link.answered(buf);
        }
        Pin::new(link.io()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let link = self.link()?;
        if link.upgrade_asked()
            && let Some(first) = bufs.iter().find(|buf| !buf.is_empty())
        {
            link.answered(first);
        }
        Pin::new(link.io()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.stream().is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.link()?.io()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.link()?.io()).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Guard {
    async fn shutdown(&mut self) {
        if let Some(link) = &mut self.link {
            link.io().shutdown().await;
        }
    }
}

impl Peek for Guard {}

impl UniqueID for Guard {
    fn id(&self) -> UniqueIDType {
        self.link.as_ref().map_or(-1, |link| link.stream().id())
    }
}

impl Ssl for Guard {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.link.as_ref()?.stream().get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.link.as_ref()?.stream().get_ssl_digest()
    }

    /// HTTP/2 is said to be what was agreed on also where the client just began with it (h2c): the engine then
    /// needs no look at its first bytes.
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match self.protocol {
            Protocol::Http1 => self.link.as_ref()?.stream().selected_alpn_proto(),
            Protocol::Http2 => Some(ALPN::H2),
        }
    }
}

impl GetTimingDigest for Guard {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.link.as_ref().map_or_else(Vec::new, |link| link.stream().get_timing_digest())
    }

    fn get_read_pending_time(&self) -> Duration {
        self.link.as_ref().map_or(Duration::ZERO, |link| link.stream().get_read_pending_time())
    }

    fn get_write_pending_time(&self) -> Duration {
        self.link.as_ref().map_or(Duration::ZERO, |link| link.stream().get_write_pending_time())
    }
}

impl GetProxyDigest for Guard {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.link.as_ref()?.stream().get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        if let Some(link) = &mut self.link {
            link.io().set_proxy_digest(digest);
        }
    }
}

impl GetSocketDigest for Guard {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.link.as_ref()?.stream().get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        if let Some(link) = &mut self.link {
            link.io().set_socket_digest(digest);
        }
    }
}
