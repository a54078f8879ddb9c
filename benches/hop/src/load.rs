//! The load generator: keep-alive connections, each sending its next request when the last is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::wire::{self, ResponseHead};

/// What a connection does.
#[derive(Clone)]
pub struct Load {
    /// The gateway.
    pub addr: SocketAddr,
    /// A whole request, head and body.
    pub request: Arc<[u8]>,
    /// When it stops.
    pub stop: Stop,
}

/// When a connection stops; a request begun is always finished.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// After this time.
    After(Duration),
    /// After so many requests.
    Requests(usize),
}

/// What a run brought; every request in it succeeded.
pub struct Outcome {
    /// Of each request, from its first byte sent to its answer's last byte received; sorted.
    pub latencies: Vec<Duration>,
    /// From start to the last answer.
    pub elapsed: Duration,
}

/// No run may take longer than its time and this.
const GRACE: Duration = Duration::from_secs(20);

/// Runs `connections` connections to their end.
///
/// # Errors
/// The first request that fails, or is answered with another status than 200, ends the run.
pub async fn run(load: &Load, connections: usize) -> Result<Outcome> {
    let limit = GRACE + if let Stop::After(time) = load.stop { time } else { Duration::ZERO };
    tokio::time::timeout(limit, run_all(load, connections)).await.context("the run did not end")?
}

async fn run_all(load: &Load, connections: usize) -> Result<Outcome> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..connections {
        running.spawn(run_one(load.clone(), start));
    }
    let mut latencies = Vec::new();
    while let Some(finished) = running.join_next().await {
        latencies.extend(finished??);
    }
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    Ok(Outcome { latencies, elapsed })
}

async fn run_one(load: Load, start: Instant) -> Result<Vec<Duration>> {
    let mut client = Client::connect(load.addr).await?;
    let mut latencies = Vec::new();
    let go_on = |done: usize| match load.stop {
        Stop::After(time) => start.elapsed() < time,
        Stop::Requests(count) => done < count,
    };
    while go_on(latencies.len()) {
        let sent = Instant::now();
        client.send(&load.request).await?;
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}

/// One keep-alive connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to a gateway.
    pub async fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and returns its answer's body, transfer coding removed.
    pub async fn fetch(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        let head = self.send(request).await?;
        let body = &self.buffer[head.bytes..];
        if head.content_length.is_some() { Ok(body.to_vec()) } else { wire::unchunk(body) }
    }

    /// Sends a request and reads its answer into the buffer.
    async fn send(&mut self, request: &[u8]) -> Result<ResponseHead> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
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
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
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
