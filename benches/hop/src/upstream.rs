//! A provider that costs next to nothing: reads a request, throws its body away, answers the same bytes each time.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::server::SendResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::case::MODEL_UPSTREAM;
use crate::link::{Certificate, Link, Wire};
use crate::wire;

/// What a request is answered with.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// A chat completion of about 450 bytes.
    Reply,
    /// A stream of chat completion chunks.
    Events {
        /// How many, without the closing `[DONE]`.
        count: usize,
        /// From one to the next.
        pause: Duration,
    },
}

/// A running server. Dropping it closes its listener; its connections end with the gateway's.
pub struct Upstream {
    /// Where it listens, on loopback.
    pub addr: SocketAddr,
    captured: Capture,
    accepting: JoinHandle<()>,
}

/// `Some` while bodies are kept for a look at them.
type Capture = Arc<Mutex<Option<Vec<u8>>>>;

impl Upstream {
    /// Starts a server on a free port of loopback.
    pub async fn start(mode: Mode, link: Link, certificate: &Certificate) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let captured = Capture::default();
        let tls = if link == Link::Tls { Some(certificate.acceptor()?) } else { None };
        let service = Service { answer: Answer::new(mode), captured: captured.clone(), link, tls };
        let accepting = tokio::spawn(accept(listener, Arc::new(service)));
        Ok(Self { addr, captured, accepting })
    }

    /// Keeps the body bytes of what arrives from here on.
    pub fn capture(&self) {
        *lock(&self.captured) = Some(Vec::new());
    }

    /// Returns the body bytes kept, and keeps no more.
    pub fn captured(&self) -> Vec<u8> {
        lock(&self.captured).take().unwrap_or_default()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(captured: &Capture) -> MutexGuard<'_, Option<Vec<u8>>> {
    captured.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every connection is served with.
struct Service {
    answer: Answer,
    captured: Capture,
    link: Link,
    tls: Option<TlsAcceptor>,
}

async fn accept(listener: TcpListener, service: Arc<Service>) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            if let Err(error) = service.serve(stream).await {
                eprintln!("upstream: {error:#}");
            }
        });
    }
}

impl Service {
    async fn serve(self: Arc<Self>, stream: TcpStream) -> Result<()> {
        let stream = Wire::accept(stream, self.tls.as_ref()).await?;
        match self.link {
            Link::Http1 | Link::Tls => serve_http1(stream, &self.answer, &self.captured).await,
            Link::Http2 => self.serve_http2(stream).await,
        }
    }

    async fn serve_http2(self: Arc<Self>, stream: Wire) -> Result<()> {
        let mut connection = h2::server::handshake(stream).await?;
        while let Some(Ok((request, respond))) = connection.accept().await {
            let service = Arc::clone(&self);
            tokio::spawn(async move {
                // An error is a client that has gone with its measurement.
                let _ = service.exchange(request.into_body(), respond).await;
            });
        }
        Ok(())
    }

    async fn exchange(&self, mut body: h2::RecvStream, respond: SendResponse<Bytes>) -> Result<()> {
        while let Some(bytes) = body.data().await {
            let bytes = bytes?;
            keep(&self.captured, &bytes);
            body.flow_control().release_capacity(bytes.len())?;
        }
        self.answer.send(respond).await
    }
}

/// Answers the requests of one connection until the gateway closes it.
async fn serve_http1(mut stream: Wire, answer: &Answer, captured: &Capture) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while let Some(rest) = read_head(&mut stream, &mut buffer, captured).await? {
        skip_body(&mut stream, &mut buffer, rest, captured).await?;
        if answer.write(&mut stream).await.is_err() {
            break; // the measurement is over and the gateway gone
        }
    }
    Ok(())
}

/// Reads a request head; returns how many body bytes are still to come, or `None` at the end of the connection.
async fn read_head(stream: &mut Wire, buffer: &mut [u8], captured: &Capture) -> Result<Option<usize>> {
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) if filled == 0 => return Ok(None),
            Ok(0) => bail!("connection closed within a head of up to {} bytes", buffer.len()),
            Ok(read) => filled += read,
            Err(error) => return Err(error.into()),
        }
        if let Some(head) = wire::request_head(&buffer[..filled])? {
            let body = &buffer[head.bytes..filled];
            keep(captured, body);
            let rest = head.content_length.checked_sub(body.len()).context("more bytes than the request declares")?;
            return Ok(Some(rest));
        }
    }
}

async fn skip_body(stream: &mut Wire, buffer: &mut [u8], mut rest: usize, captured: &Capture) -> Result<()> {
    while rest > 0 {
        let room = rest.min(buffer.len());
        let read = stream.read(&mut buffer[..room]).await?;
        if read == 0 {
            return Ok(()); // an aborted request; the next read sees the end of the connection
        }
        keep(captured, &buffer[..read]);
        rest -= read;
    }
    Ok(())
}

fn keep(captured: &Capture, bytes: &[u8]) {
    if let Some(body) = lock(captured).as_mut() {
        body.extend_from_slice(bytes);
    }
}

/// The bytes of an answer, made once.
struct Answer {
    /// As HTTP/1.1 writes it; of a plain reply, body and all.
    head: Vec<u8>,
    /// One event of a stream, framed as a chunk.
    event: Vec<u8>,
    count: usize,
    pause: Duration,
    tail: Vec<u8>,
    mode: Mode,
}

/// What a provider's own headers weigh.
const FIELDS: [(&str, &str); 5] = [
    ("date", "Sat, 01 Nov 2025 00:00:00 GMT"),
    ("server", "bench"),
    ("openai-processing-ms", "12"),
    ("openai-version", "2020-10-01"),
    ("x-request-id", "req_0123456789abcdef"),
];

impl Answer {
    fn new(mode: Mode) -> Self {
        let fields: String = FIELDS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        match mode {
            Mode::Reply => {
                let body = reply_body(MODEL_UPSTREAM);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\n{fields}content-length: {length}\r\n\r\n{body}"
                );
                let (event, tail) = (Vec::new(), Vec::new());
                Self { head: head.into_bytes(), event, count: 0, pause: Duration::ZERO, tail, mode }
            }
            Mode::Events { count, pause } => {
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-type: {EVENTS}\r\n{fields}transfer-encoding: chunked\r\n\r\n");
                let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len()).into_bytes();
                let tail = [chunk(DONE), b"0\r\n\r\n".to_vec()].concat();
                Self { head: head.into_bytes(), event: chunk(&event(MODEL_UPSTREAM)), count, pause, tail, mode }
            }
        }
    }

    async fn write(&self, stream: &mut Wire) -> io::Result<()> {
        stream.write_all(&self.head).await?;
        stream.flush().await?;
        if self.count > 0 {
            let mut ticks = tokio::time::interval(self.pause);
            for _ in 0..self.count {
                ticks.tick().await;
                stream.write_all(&self.event).await?;
                stream.flush().await?;
            }
        }
        stream.write_all(&self.tail).await?;
        stream.flush().await
    }

    /// The same over HTTP/2.
    async fn send(&self, mut respond: SendResponse<Bytes>) -> Result<()> {
        let media_type = if self.count > 0 { EVENTS } else { JSON };
        let mut head = http::Response::builder().header("content-type", media_type);
        for (name, value) in FIELDS {
            head = head.header(name, value);
        }
        let mut stream = respond.send_response(head.body(())?, false)?;
        if self.count > 0 {
            let event = Bytes::from(event(MODEL_UPSTREAM));
            let mut ticks = tokio::time::interval(self.pause);
            for _ in 0..self.count {
                ticks.tick().await;
                stream.send_data(event.clone(), false)?;
            }
        }
        let end = if self.count > 0 { DONE.to_owned() } else { answer_body(self.mode, MODEL_UPSTREAM) };
        Ok(stream.send_data(end.into(), true)?)
    }
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const DONE: &str = "data: [DONE]\n\n";

/// The JSON body of a reply that names `model`.
fn reply_body(model: &str) -> String {
    format!(
        concat!(
            r#"{{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,"#,
            r#""model":"{}","choices":[{{"index":0,"message":{{"role":"assistant","#,
            r#""content":"Hello! How can I assist you today?","refusal":null,"annotations":[]}},"#,
            r#""logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":19,"completion_tokens":10,"#,
            r#""total_tokens":29}},"service_tier":"default","system_fingerprint":"fp_44709d6fcb"}}"#
        ),
        model
    )
}

/// One event of a stream that names `model`.
fn event(model: &str) -> String {
    format!(
        concat!(
            r#"data: {{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","#,
            r#""created":1741569952,"model":"{}","system_fingerprint":"fp_44709d6fcb","#,
            r#""choices":[{{"index":0,"delta":{{"content":" Hello"}},"logprobs":null,"finish_reason":null}}]}}"#,
            "\n\n"
        ),
        model
    )
}

/// The whole body of a right answer that names `model`, without transfer coding.
pub fn answer_body(mode: Mode, model: &str) -> String {
    match mode {
        Mode::Reply => reply_body(model),
        Mode::Events { count, .. } => event(model).repeat(count) + DONE,
    }
}
