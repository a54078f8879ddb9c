//! One client: a connection kept alive, one request at a time on it.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::link::{Link, Wire};
use crate::wire::{self, ResponseHead};

/// What a client sends, again and again.
pub struct Request {
    /// Names and values of its fields, without those that frame it.
    pub fields: Vec<(&'static str, String)>,
    /// Its path.
    pub path: &'static str,
    /// Its body.
    pub body: Bytes,
}

impl Request {
    /// As HTTP/1.1 writes it.
    pub fn bytes(&self, host: &str) -> Bytes {
        let fields: String = self.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (path, length) = (self.path, self.body.len());
        let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{fields}content-length: {length}\r\n\r\n");
        [head.as_bytes(), &self.body].concat().into()
    }

    /// As HTTP/2 has it.
    pub fn head(&self, host: &str) -> Result<http::Request<()>> {
        let uri = format!("http://{host}{}", self.path);
        let mut builder = http::Request::post(uri).header("content-length", self.body.len());
        for (name, value) in &self.fields {
            builder = builder.header(*name, value);
        }
        Ok(builder.version(http::Version::HTTP_2).body(())?)
    }
}

/// How clients get to a gateway.
#[derive(Clone)]
pub struct Door {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it speaks.
    pub link: Link,
    /// Set when it speaks TLS.
    pub tls: Option<TlsConnector>,
}

/// A connection, or one of the streams that share one.
pub enum Client {
    /// HTTP/1.1.
    Http1(Box<Http1>),
    /// HTTP/2.
    Http2(SendRequest<Bytes>),
}

impl Client {
    /// As many clients as asked for. HTTP/2 clients share connections by `STREAMS`.
    pub async fn connect(door: &Door, count: usize) -> Result<Vec<Self>> {
        /// What one application's connection carries at once.
        const STREAMS: usize = 8;
        let mut clients = Vec::with_capacity(count);
        while clients.len() < count {
            let stream = Wire::connect(TcpStream::connect(door.addr).await?, door.tls.as_ref()).await?;
            match door.link {
                Link::Http1 | Link::Tls => clients.push(Self::Http1(Box::new(Http1 { stream, buffer: Vec::new() }))),
                Link::Http2 => {
                    let (sender, connection) = h2::client::handshake(stream).await?;
                    tokio::spawn(connection);
                    let streams = STREAMS.min(count - clients.len());
                    clients.extend((0..streams).map(|_| Self::Http2(sender.clone())));
                }
            }
        }
        Ok(clients)
    }

    /// Sends a request and returns its answer's body, transfer coding removed.
    pub async fn fetch(&mut self, request: &Prepared) -> Result<Vec<u8>> {
        match self {
            Self::Http1(client) => client.fetch(&request.bytes).await,
            Self::Http2(sender) => {
                let mut body = Vec::new();
                exchange(sender, request, |bytes| body.extend_from_slice(bytes)).await?;
                Ok(body)
            }
        }
    }

    /// Sends a request, reads the beginning of its answer, and leaves.
    pub async fn abandon(self, request: &Prepared) -> Result<()> {
        match self {
            Self::Http1(mut client) => {
                client.stream.write_all(&request.bytes).await?;
                client.stream.flush().await?;
                client.read().await
            }
            Self::Http2(_) => bail!("only a connection of its own can be left"),
        }
    }

    /// Sends a request and reads its answer to the end.
    pub async fn send(&mut self, request: &Prepared) -> Result<()> {
        match self {
            Self::Http1(client) => client.send(&request.bytes).await.map(drop),
            Self::Http2(sender) => exchange(sender, request, |_| ()).await,
        }
    }
}

/// A request made ready once for both versions.
pub struct Prepared {
    bytes: Bytes,
    head: http::Request<()>,
    body: Bytes,
}

impl Prepared {
    /// For a gateway at `addr`.
    pub fn new(request: &Request, addr: SocketAddr) -> Result<Self> {
        let host = addr.to_string();
        Ok(Self { bytes: request.bytes(&host), head: request.head(&host)?, body: request.body.clone() })
    }
}

async fn exchange(sender: &SendRequest<Bytes>, request: &Prepared, mut take: impl FnMut(&[u8])) -> Result<()> {
    let mut sender = sender.clone().ready().await?;
    let (answer, mut stream) = sender.send_request(request.head.clone(), false)?;
    // The window is the gateway's; what is over it waits in h2.
    stream.send_data(request.body.clone(), true)?;
    let (head, mut body) = answer.await?.into_parts();
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        take(&bytes);
        body.flow_control().release_capacity(bytes.len())?;
    }
    if head.status != 200 {
        bail!("answered with {}", head.status);
    }
    Ok(())
}

/// A connection of HTTP/1.1.
pub struct Http1 {
    stream: Wire,
    buffer: Vec<u8>,
}

impl Http1 {
    async fn fetch(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        let head = self.send(request).await?;
        let body = &self.buffer[head.bytes..];
        if head.content_length.is_some() { Ok(body.to_vec()) } else { wire::unchunk(body) }
    }

    /// Sends a request and reads its answer into the buffer.
    async fn send(&mut self, request: &[u8]) -> Result<ResponseHead> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let head = loop {
            self.read().await?;
            if let Some(head) = wire::response_head(&self.buffer)? {
                break head;
            }
        };
        while !self.is_complete(&head) {
            self.read().await?;
        }
        if head.status != 200 {
            bail!("answered with {}", String::from_utf8_lossy(&self.buffer));
        }
        Ok(head)
    }

    async fn read(&mut self) -> Result<()> {
        self.buffer.reserve(4 << 10);
        let read = self.stream.read_buf(&mut self.buffer).await.context("reading an answer")?;
        if read == 0 {
            bail!("connection closed after {:?}", String::from_utf8_lossy(&self.buffer));
        }
        Ok(())
    }

    fn is_complete(&self, head: &ResponseHead) -> bool {
        match head.content_length {
            Some(length) => self.buffer.len() >= head.bytes + length,
            None => self.buffer.ends_with(wire::LAST_CHUNK),
        }
    }
}
