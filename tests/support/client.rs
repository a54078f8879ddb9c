//! Clients that say exactly what they are told and read answers strictly.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;
use super::gateway::KEY;
use super::wire::{BodyDecoder, Framing, Head};

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// What `Host` says.
    pub host: String,
    /// In order; `host` and framing are added when it is sent.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// How the body is sent.
    pub sending: Sending,
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// With Content-Length.
    Length,
    /// In chunks of this many bytes.
    Chunked(usize),
}

impl Request {
    /// A request without body and without credentials.
    pub fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        let host = "forge.test".to_owned();
        Self { method, target, host, headers: Vec::new(), body: Bytes::new(), sending: Sending::Length }
    }

    /// A GET with the usual key.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target).bearer(KEY)
    }

    /// A POST of JSON with the usual key.
    pub fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        Self::new("POST", target).bearer(KEY).header("content-type", "application/json").body(body)
    }

    /// With this key.
    pub fn bearer(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without this header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Bytes::copy_from_slice(body.as_ref());
        self
    }

    /// Framed like this.
    pub fn sending(mut self, sending: Sending) -> Self {
        self.sending = sending;
        self
    }

    /// The head as sent over HTTP/1.1.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.sending {
            Sending::Chunked(_) => text.push_str("transfer-encoding: chunked\r\n"),
            Sending::Length if self.method == "GET" && self.body.is_empty() => {}
            Sending::Length => text.push_str(&format!("content-length: {}\r\n", self.body.len())),
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// The body as sent over HTTP/1.1.
    pub fn body_bytes(&self) -> Vec<u8> {
        let Sending::Chunked(size) = self.sending else { return self.body.to_vec() };
        let mut out = Vec::with_capacity(self.body.len() + self.body.len() / size * 8 + 16);
        for chunk in self.body.chunks(size) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
        out
    }

    /// Head and body as sent over HTTP/1.1.
    pub fn wire(&self) -> Vec<u8> {
        [self.head_bytes(), self.body_bytes()].concat()
    }
}

/// An answer as it arrived.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The head.
    pub head: Head,
    /// The body without framing.
    pub body: Vec<u8>,
    /// What broke the grammar or the framing; empty for a whole, clean answer.
    pub faults: Vec<String>,
}

impl Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// `error.code` of OpenAI's shape.
    #[track_caller]
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Asserts status and a clean end.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} {:?}", self.text(), self.head.fields);
        assert!(self.faults.is_empty(), "{:?}", self.faults);
        self
    }
}

/// A client's HTTP/1.1 connection.
pub struct Client {
    stream: TcpStream,
    buf: BytesMut,
}

/// A response whose body is read piece by piece.
pub struct Reading {
    /// The head.
    pub head: Head,
    /// The status.
    pub status: u16,
    decoder: BodyDecoder,
}

impl Client {
    /// Connects.
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(addr)).await.expect("connect in time").expect("connect");
        stream.set_nodelay(true).unwrap();
        Self { stream, buf: BytesMut::new() }
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the gateway takes the bytes in time")
    }

    /// Sends the bytes one by one, each its own write.
    pub async fn drip(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        for byte in bytes {
            self.send(std::slice::from_ref(byte)).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Sends the whole request, then reads the answer. A write that fails is forgiven if an answer is there.
    pub async fn send_then_read(&mut self, request: &Request) -> Response {
        let sent = self.send(&request.wire()).await;
        match timeout(PATIENCE, self.read()).await {
            Ok(Ok(response)) => response,
            other => panic!("no answer: {other:?} after sending: {sent:?}"),
        }
    }

    /// Sends the request while reading the answer; stops sending when the answer is whole.
    pub async fn exchange(&mut self, request: &Request) -> Response {
        let wire = request.wire();
        let Self { stream, buf } = self;
        let (mut reader, mut writer) = stream.split();
        let sending = async move {
            if writer.write_all(&wire).await.is_err() {
                std::future::pending::<()>().await;
            }
            std::future::pending::<Response>().await
        };
        let reading = async { read_response(&mut reader, buf).await.expect("an answer") };
        let both = async {
            tokio::select! {
                response = reading => response,
                response = sending => response,
            }
        };
        timeout(2 * PATIENCE, both).await.expect("an answer in time")
    }

    /// Reads one final response whole; 1xx responses are skipped.
    pub async fn read(&mut self) -> std::io::Result<Response> {
        read_response(&mut self.stream, &mut self.buf).await
    }

    /// Reads one head, 1xx included; the body stays to be read.
    pub async fn read_head(&mut self) -> std::io::Result<Reading> {
        timeout(PATIENCE, read_head(&mut self.stream, &mut self.buf)).await.expect("a head in time")
    }

    /// The next piece of a body as it comes; `None` at its regular end, an error at any other.
    pub async fn next_piece(&mut self, reading: &mut Reading) -> Result<Option<Vec<u8>>, String> {
        loop {
            let mut piece = Vec::new();
            reading.decoder.decode(&mut self.buf, &mut piece)?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
            if reading.decoder.done() {
                return Ok(None);
            }
            let read =
                timeout(PATIENCE, self.stream.read_buf(&mut self.buf)).await.map_err(|_| "nothing came in time")?;
            if read.map_err(|error| error.to_string())? == 0 {
                return if reading.decoder.may_close() { Ok(None) } else { Err("closed inside the body".into()) };
            }
        }
    }

    /// Reads pieces until they hold `text`; returns when that was.
    pub async fn read_until(&mut self, reading: &mut Reading, text: &str) -> Instant {
        let mut all = String::new();
        while !all.contains(text) {
            match self.next_piece(reading).await {
                Ok(Some(piece)) => all.push_str(&String::from_utf8_lossy(&piece)),
                other => panic!("{other:?} while waiting for {text:?} after {all:?}"),
            }
        }
        Instant::now()
    }

    /// Reads the rest of a body: the bytes, and how they ended.
    pub async fn rest(&mut self, reading: &mut Reading) -> (Vec<u8>, Result<(), String>) {
        let mut all = Vec::new();
        loop {
            match self.next_piece(reading).await {
                Ok(Some(piece)) => all.extend_from_slice(&piece),
                Ok(None) => return (all, Ok(())),
                Err(fault) => return (all, Err(fault)),
            }
        }
    }

    /// The bytes that came and were not part of a response, e.g. of an upgraded connection.
    pub async fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buf.len() < length {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buf)).await.expect("bytes in time").unwrap();
            assert!(read > 0, "closed after {} of {length} bytes", self.buf.len());
        }
        self.buf.split_to(length).to_vec()
    }

    /// Whether the other side closes within `limit`, having sent nothing more.
    pub async fn closed_within(&mut self, limit: Duration) -> bool {
        matches!(timeout(limit, self.stream.read_buf(&mut self.buf)).await, Ok(Ok(0) | Err(_)))
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub async fn close_sending(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Leaves with a reset, as a crashed client does.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }
}

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin), buf: &mut BytesMut) -> std::io::Result<Reading> {
    loop {
        if let Some(head) = Head::take(buf) {
            let status = head.start.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
            let framing = match status {
                100..=199 | 204 | 304 => Framing::Empty,
                _ => head.framing(Framing::UntilClose),
            };
            return Ok(Reading { status, decoder: BodyDecoder::new(framing), head });
        }
        if stream.read_buf(buf).await? == 0 {
            let text = format!("closed before a head; {} bytes: {:?}", buf.len(), String::from_utf8_lossy(buf));
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text));
        }
    }
}

async fn read_response(stream: &mut (impl AsyncReadExt + Unpin), buf: &mut BytesMut) -> std::io::Result<Response> {
    let mut reading = read_head(stream, buf).await?;
    while (100..200).contains(&reading.status) {
        reading = read_head(stream, buf).await?;
    }
    let Reading { head, status, mut decoder } = reading;
    let (mut body, mut faults) = (Vec::new(), head.faults.clone());
    if !head.start.starts_with("HTTP/1.1 ") {
        faults.push(format!("status line {:?}", head.start));
    }
    loop {
        if let Err(fault) = decoder.decode(buf, &mut body) {
            faults.push(fault);
            break;
        }
        if decoder.done() {
            break;
        }
        match stream.read_buf(buf).await {
            Ok(read) if read > 0 => {}
            Ok(_) if decoder.may_close() => break,
            end => {
                faults.push(format!("closed inside the body: {end:?}"));
                break;
            }
        }
    }
    Ok(Response { status, head, body, faults })
}
