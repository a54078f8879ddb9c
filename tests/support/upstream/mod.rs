//! A scripted provider on loopback: it answers as told, misbehaves as told, and records what arrived.

mod http1;
mod http2;
mod io;
mod reply;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use self::io::Io;
pub use self::reply::{Gate, Reply, Step, sse_event};
use super::wire::{Framing, Head};

/// One request as it arrived, complete or not.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// Which connection, from 0.
    pub connection: usize,
    /// `1.1` or `2`.
    pub version: &'static str,
    /// The method.
    pub method: String,
    /// The request target, or `:path`.
    pub target: String,
    /// The head; over HTTP/2 rebuilt from the fields, `:authority` as `host`.
    pub head: Head,
    /// How the body was framed.
    pub framing: Framing,
    /// The body's bytes so far, without framing.
    pub body: Vec<u8>,
    /// The body's last byte came.
    pub complete: bool,
    /// What broke the grammar.
    pub faults: Vec<String>,
    /// When the other side closed or reset while this was being answered.
    pub abandoned: Option<Instant>,
}

impl Received {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What the connections of one upstream share.
#[derive(Default)]
struct Shared {
    script: Mutex<Script>,
    received: Mutex<Vec<Received>>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Script {
    streams_max: Option<u32>,
    queue: VecDeque<Reply>,
    otherwise: Option<Reply>,
    to_get: Option<Reply>,
    on_accept: VecDeque<Accept>,
}

/// Counts of connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connections {
    /// Accepted so far.
    pub accepted: usize,
    /// Open now.
    pub open: usize,
}

/// What happens to a connection before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// It is served.
    Serve,
    /// It is reset at once.
    Reset,
}

impl Shared {
    fn begin(&self, received: Received) -> usize {
        let mut all = lock(&self.received);
        all.push(received);
        all.len() - 1
    }

    fn update(&self, index: usize, change: impl FnOnce(&mut Received)) {
        change(&mut lock(&self.received)[index]);
    }

    /// What sends a request's body back.
    fn echo(&self, index: usize) -> (Vec<(String, String)>, Vec<u8>) {
        let received = &lock(&self.received)[index];
        let media_type = received.header("content-type").unwrap_or("application/octet-stream").to_owned();
        (vec![("content-type".into(), media_type)], received.body.clone())
    }

    fn next_reply(&self, index: usize) -> Reply {
        let got = lock(&self.received)[index].method == "GET";
        let mut script = lock(&self.script);
        if let (true, Some(reply)) = (got, &script.to_get) {
            return reply.clone();
        }
        script.queue.pop_front().or_else(|| script.otherwise.clone()).unwrap_or_else(Reply::ok)
    }

    fn streams_max(&self) -> Option<u32> {
        lock(&self.script).streams_max
    }

    fn next_accept(&self) -> Accept {
        lock(&self.script).on_accept.pop_front().unwrap_or(Accept::Serve)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How connections to an upstream are secured.
pub enum Security {
    /// Plain TCP; HTTP/1.1, or HTTP/2 with prior knowledge.
    Plain,
    /// TLS; HTTP/2 when ALPN agrees on it.
    Tls(TlsAcceptor),
}

/// A scripted upstream; stops when dropped.
pub struct Upstream {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Plain TCP; answers 200 until told otherwise.
    pub async fn start() -> Self {
        Self::start_with(Security::Plain).await
    }

    /// An upstream secured like this.
    pub async fn start_with(security: Security) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(accept(listener, shared.clone(), security));
        Self { addr, shared, task }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Answers the coming requests so, one each, then the default again.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.shared.script).queue.extend(replies);
    }

    /// Answers so whenever the script is empty.
    pub fn otherwise(&self, reply: Reply) {
        lock(&self.shared.script).otherwise = Some(reply);
    }

    /// Answers so to GET, whatever the script says.
    pub fn to_get(&self, reply: Reply) {
        lock(&self.shared.script).to_get = Some(reply);
    }

    /// Treats the coming connections so, one each, then serves again.
    pub fn on_accept(&self, actions: impl IntoIterator<Item = Accept>) {
        lock(&self.shared.script).on_accept.extend(actions);
    }

    /// Lets so many requests at a time use one coming HTTP/2 connection.
    pub fn streams_max(&self, streams: u32) {
        lock(&self.shared.script).streams_max = Some(streams);
    }

    /// Everything that arrived so far, in order.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// How many requests arrived so far.
    pub fn count(&self) -> usize {
        lock(&self.shared.received).len()
    }

    /// The one request that arrived; panics if it was not exactly one.
    pub fn only(&self) -> Received {
        let mut all = self.received();
        assert_eq!(all.len(), 1, "requests at the upstream");
        all.remove(0)
    }

    /// The request that arrived last.
    pub fn last(&self) -> Received {
        lock(&self.shared.received).last().cloned().expect("a request at the upstream")
    }

    /// Forgets what arrived. Nothing may be in flight.
    pub fn forget(&self) {
        lock(&self.shared.received).clear();
    }

    /// Connections so far and now.
    pub fn connections(&self) -> Connections {
        *lock(&self.shared.connections)
    }

    /// Reads something of the last request while it may still be arriving.
    pub fn peek<T>(&self, read: impl FnOnce(&Received) -> T) -> Option<T> {
        lock(&self.shared.received).last().map(read)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, security: Security) {
    let tls = match security {
        Security::Plain => None,
        Security::Tls(acceptor) => Some(acceptor),
    };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let id = {
            let mut counts = lock(&shared.connections);
            counts.accepted += 1;
            counts.open += 1;
            counts.accepted - 1
        };
        let (shared, tls) = (shared.clone(), tls.clone());
        connections.spawn(async move {
            serve(stream, id, shared.clone(), tls).await;
            lock(&shared.connections).open -= 1;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, id: usize, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    stream.set_nodelay(true).unwrap();
    if shared.next_accept() == Accept::Reset {
        stream.set_zero_linger().unwrap();
        return;
    }
    let stream = match tls {
        None => Io::Plain(stream),
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => Io::Tls(Box::new(stream)),
            Err(_) => return,
        },
    };
    let mut buf = bytes::BytesMut::new();
    let mut stream = stream;
    if stream.speaks_http2(&mut buf).await {
        http2::serve(io::Prefixed::new(buf, stream), id, shared).await;
    } else {
        http1::serve(stream, buf, id, shared).await;
    }
}

/// A port that refuses connections for as long as this lives: bound, not listening.
pub struct Refusing {
    /// The refusing address.
    pub addr: SocketAddr,
    _socket: TcpSocket,
}

impl Refusing {
    /// Takes a free port.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { addr: socket.local_addr().unwrap(), _socket: socket }
    }
}

/// A port that never completes a handshake: its accept queue is full.
pub struct Blackhole {
    /// The silent address.
    pub addr: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Blackhole {
    /// Takes a free port and fills its queue.
    pub async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        let patience = std::time::Duration::from_millis(300);
        while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(addr)).await {
            queued.push(stream.unwrap());
            assert!(queued.len() < 64, "the accept queue does not fill");
        }
        Self { addr, _listener: listener, _queued: queued }
    }
}
