//! The guard over a scripted connection: whatever the cuts, the engine is given the same bytes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// A connection that delivers these pieces, one a read, and then ends.
#[derive(Debug)]
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(piece) = self.0.front_mut() else { return Poll::Ready(Ok(())) };
        let length = piece.len().min(buf.remaining());
        buf.put_slice(&piece[..length]);
        piece.drain(..length);
        if piece.is_empty() {
            self.0.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Shutdown for Pieces {
    async fn shutdown(&mut self) {}
}
impl UniqueID for Pieces {
    fn id(&self) -> UniqueIDType {
        0
    }
}
impl Ssl for Pieces {}
impl Peek for Pieces {}
impl GetTimingDigest for Pieces {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![]
    }
}
impl GetProxyDigest for Pieces {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}
impl GetSocketDigest for Pieces {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

fn guard(pieces: Vec<Vec<u8>>, home: &Home) -> Stream {
    let conf = ClientConf::default();
    let limits = LinkLimits {
        head: HeadLimits::of(&conf),
        header_timeout: conf.header_timeout,
        keepalive: conf.keepalive,
        write_stall: conf.write_stall,
        h2_resets_max: conf.h2_resets_max,
    };
    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    Box::new(Guard::new(Link::new(Box::new(Pieces(pieces)), Arc::new(limits)), home, Protocol::Http1))
}

/// What an engine that answers at once is given, request by request, and how the connection ends.
#[derive(Debug, PartialEq, Eq)]
struct Served {
    requests: Vec<String>,
    ending: String,
}

fn serve(pieces: Vec<Vec<u8>>, buffer_bytes: usize) -> Served {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let home = Home::default();
    let mut stream = Some(guard(pieces, &home));
    let mut requests = vec![Vec::new()];
    let mut cx = Context::from_waker(Waker::noop());
    while let Some(engine) = stream.as_mut() {
        let mut space = vec![0; buffer_bytes];
        let mut buf = ReadBuf::new(&mut space);
        let read = Pin::new(&mut *engine).poll_read(&mut cx, &mut buf);
        requests.last_mut().unwrap().extend_from_slice(buf.filled());
        let ended = match read {
            Poll::Ready(Ok(())) => buf.filled().is_empty(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => panic!("nothing to wait for"),
        };
        if ended {
            break;
        }
        if engine.as_any().downcast_ref::<Guard>().unwrap().is_answering() {
            stream = stream.take().and_then(Guard::next_request);
            requests.extend(stream.is_some().then(Vec::new));
        }
    }
    // Gone already where no request may follow.
    drop(stream.take());
    let link = home.lock().take();
    let ending = match link.map(|link| link.ending()) {
        None => "kept".to_owned(),
        Some(Ending::Refused(fault, path)) => format!("refused {fault:?} {path:?}"),
        Some(Ending::Unread) => "unread".to_owned(),
        Some(Ending::Clean) => "clean".to_owned(),
    };
    let requests = requests.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    Served { requests, ending }
}

fn whole(bytes: &str) -> Served {
    serve(vec![bytes.as_bytes().to_vec()], 4096)
}

const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

#[test]
fn rule_8_pipelined_requests_are_given_out_one_by_one() {
    let served = whole(&[POST, GET, CHUNKED, GET].concat());
    assert_eq!(served.requests, [POST, GET, CHUNKED, GET, ""]);
    assert_eq!(served.ending, "clean");
}

#[test]
fn nothing_of_a_refused_head_is_given_out_and_all_before_it_is() {
    let bad = "POST /v1/messages?x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx";
    let served = whole(&[POST, bad, GET].concat());
    assert_eq!(served.requests, [POST, ""]);
    assert_eq!(served.ending, "refused Framing Some(\"/v1/messages\")");
}

#[test]
fn a_broken_body_ends_at_its_last_sound_byte() {
    let served = whole(&[&CHUNKED.replace("\r\n0\r\n", "x\r\n0\r\n"), GET].concat());
    assert_eq!(served.requests, [CHUNKED.strip_suffix("\r\n0\r\n\r\n").unwrap()]);
    assert_eq!(served.ending, "unread");
}

#[test]
fn rule_7_nothing_follows_connection_close() {
    let last = GET.replace("\r\n\r\n", "\r\nX: y\r\nConnection: x\r\nconnection: Close\r\n\r\n");
    let served = whole(&[&last, GET].concat());
    assert_eq!((served.requests, served.ending.as_str()), (vec![last], "unread"));
}

#[test]
fn a_head_cut_short_is_refused_and_a_body_cut_short_ends() {
    assert_eq!(whole("GET / HT").ending, "refused CutShort Some(\"/\")");
    assert_eq!(whole("").ending, "clean");
    let served = whole(POST.strip_suffix("lo").unwrap());
    assert_eq!((served.requests.len(), served.ending.as_str()), (1, "clean"));
}

proptest! {
    #[test]
    fn any_split_gives_the_same_requests_and_the_same_end(
        parts in prop::collection::vec(0..9_usize, 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        buffer_bytes in prop_oneof![1..8_usize, Just(4096)],
    ) {
        let forms = [
            GET.to_owned(), POST.to_owned(), CHUNKED.to_owned(), "\r\n".to_owned() + GET,
            CHUNKED.replace("5\r\n", "5;x=y\r\n"), CHUNKED.replace("0\r\n\r\n", "0\r\nX: y\r\n\r\n"),
            POST.replace("Host", "Connection: close\r\nHost"), GET.replace("Host: a\r\n", ""), POST.replace(": 5", ": 5, 5"),
        ];
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| forms[*part].bytes()).collect();
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // Whether bytes after the last request were read already depends on the cuts, and only decides how long
        // the goodbye takes.
        let serve = |pieces, buffer_bytes| {
            let Served { requests, ending } = serve(pieces, buffer_bytes);
            Served { requests, ending: ending.replace("unread", "clean") }
        };
        let expected = serve(vec![bytes.clone()], 4096);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect();
        prop_assert_eq!(serve(pieces, buffer_bytes), expected);
    }
}
