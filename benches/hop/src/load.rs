//! The load generators. Closed: each client sends its next request when the last is answered. Open: requests are
//! sent at a constant rate whatever the answers do, and their latency counts from when they were due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::{Client, Door, Prepared, Request};

/// What is sent, to whom, for how long.
#[derive(Clone)]
pub struct Load {
    /// The gateway.
    pub door: Door,
    /// The request, whole.
    pub request: Arc<Prepared>,
    /// Requests under way at once; of an open load: at most.
    pub clients: usize,
    /// When requests are sent.
    pub pace: Pace,
    /// When sending stops; a request begun is always finished.
    pub stop: Stop,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as the client's last one is answered.
    Closed,
    /// One after each such period.
    Every(Duration),
}

/// When sending stops.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// After this time.
    After(Duration),
    /// After so many requests of each client.
    Requests(usize),
}

/// What a run brought; every request in it succeeded.
pub struct Outcome {
    /// Of each request, from when it was due or sent to its answer's last byte; sorted.
    pub latencies: Vec<Duration>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

/// No run may take longer than its time and this.
const GRACE: Duration = Duration::from_secs(30);

impl Load {
    /// A load on `door`.
    pub fn new(door: Door, request: &Request, clients: usize) -> Result<Self> {
        let request = Arc::new(Prepared::new(request, door.addr)?);
        Ok(Self { door, request, clients, pace: Pace::Closed, stop: Stop::Requests(1) })
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first request that fails, or is answered with another status than 200, ends the run.
    pub async fn run(&self) -> Result<Outcome> {
        let limit = GRACE + if let Stop::After(time) = self.stop { time } else { Duration::ZERO };
        tokio::time::timeout(limit, self.run_all()).await.context("the run did not end")?
    }

    async fn run_all(&self) -> Result<Outcome> {
        let clients = Client::connect(&self.door, self.clients).await?;
        let start = Instant::now();
        let mut latencies = match self.pace {
            Pace::Closed => closed(self, clients, start).await?,
            Pace::Every(period) => open(self, clients, period).await?,
        };
        let elapsed = start.elapsed();
        latencies.sort_unstable();
        Ok(Outcome { latencies, elapsed })
    }
}

async fn closed(load: &Load, clients: Vec<Client>, start: Instant) -> Result<Vec<Duration>> {
    let mut running = JoinSet::new();
    for mut client in clients {
        let load = load.clone();
        running.spawn(async move {
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
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(finished) = running.join_next().await {
        latencies.extend(finished??);
    }
    Ok(latencies)
}

/// Clients wait for work in a queue; when all are busy, what is due waits for the first that is free, and its
/// latency says so.
async fn open(load: &Load, clients: Vec<Client>, period: Duration) -> Result<Vec<Duration>> {
    let (free, mut idle) = mpsc::unbounded_channel();
    for client in clients {
        free.send(client).ok().context("nobody takes clients")?;
    }
    let Stop::After(time) = load.stop else { anyhow::bail!("an open load stops by time") };
    let mut running = JoinSet::new();
    let (start, mut due) = (Instant::now(), Duration::ZERO);
    while due < time {
        // Timers are a millisecond apart: too coarse for latencies of a few hundred microseconds.
        while start.elapsed() < due {
            tokio::task::yield_now().await;
        }
        let mut client = idle.recv().await.context("no client is left")?;
        let (request, free, was_due) = (Arc::clone(&load.request), free.clone(), start + due);
        running.spawn(async move {
            client.send(&request).await?;
            let latency = was_due.elapsed();
            free.send(client).ok();
            anyhow::Ok(latency)
        });
        due += period;
    }
    let mut latencies = Vec::new();
    while let Some(finished) = running.join_next().await {
        latencies.push(finished??);
    }
    Ok(latencies)
}
