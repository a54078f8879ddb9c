//! The soak: a mixed load for minutes. Memory must stay flat after the warm-up, every descriptor must come back, and
//! every counter of the gateway must say what the clients counted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::case::{Case, POST, SOAK_STREAM};
use crate::client::{Client, Door, Prepared};
use crate::gateway::{KEY, KEY_HASH, Running, Setting, start_forge};
use crate::link::Link;
use crate::load::{Load, Stop};
use crate::measure::{Settings, request};
use crate::process;
use crate::upstream::{Mode, Upstream};

const REPLIES: Case = Case { name: "replies", connections: 16, ..POST };
const LARGE: Case = Case { name: "large bodies", body_bytes: 512 << 10, connections: 2, ..POST };
const STREAMS: Case = Case { name: "streams", connections: 64, mode: SOAK_STREAM, ..POST };

/// How long one kind of load runs before the next is counted.
const LAP: Duration = Duration::from_secs(5);
/// Longer than the gateway of the soak keeps an idle connection.
const SETTLE: Duration = Duration::from_secs(5);

/// What the clients counted.
#[derive(Default, Debug)]
struct Told {
    requests: u64,
    abandoned: u64,
}

/// Runs the soak for `time`.
///
/// # Errors
/// A request that fails, memory that grows, a descriptor that stays, or a counter that disagrees.
pub async fn soak(settings: &Settings, time: Duration) -> Result<()> {
    let plain = Upstream::start(Mode::Reply, Link::Http1, &settings.certificate).await?;
    let streams = Upstream::start(SOAK_STREAM, Link::Http1, &settings.certificate).await?;
    let setting = Setting::new(&settings.places, (Link::Http1, &settings.certificate), plain.addr)?;
    let (gateway, admin) =
        start_forge(&setting, &routes(plain.addr, streams.addr), "store: none\nupstream: { idle: 2s }\n")?;
    let pid = gateway.pid();
    let mut told = Told::default();
    lap(&gateway, &mut told).await.context("warm-up")?;
    tokio::time::sleep(SETTLE).await;
    let descriptors = process::descriptors(pid)?;

    let (start, mut rss_kib) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        lap(&gateway, &mut told).await?;
        rss_kib.push(process::rss_kib(pid)?);
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        eprintln!("{minutes:.1} min: {} requests, {:.1} MiB", told.requests, mib(rss_kib.last().copied()));
    }
    tokio::time::sleep(SETTLE).await;
    memory_is_flat(&rss_kib)?;
    let left = process::descriptors(pid)?;
    ensure!(left <= descriptors, "{left} descriptors are open at rest, {descriptors} were before");
    counters_agree(&scrape(admin).await?, &told)?;
    println!(
        "soak: {} requests ({} abandoned) in {:.0} s; {:.1} MiB resident at the end; {left} descriptors; counters agree",
        told.requests,
        told.abandoned,
        start.elapsed().as_secs_f64(),
        mib(rss_kib.last().copied())
    );
    Ok(())
}

fn mib(kib: Option<u64>) -> f64 {
    kib.unwrap_or_default() as f64 / 1024.0
}

/// Every kind of load at once, for one lap, and some clients that leave.
async fn lap(gateway: &Running, told: &mut Told) -> Result<()> {
    let door = Door { addr: gateway.addr, link: Link::Http1, tls: None };
    let load = |case: &Case| -> Result<Load> {
        Ok(Load { stop: Stop::After(LAP), ..Load::new(door.clone(), &request(case, KEY), case.connections)? })
    };
    let (replies, large, streams) = (load(&REPLIES)?, load(&LARGE)?, load(&STREAMS)?);
    let (replies, large, streams, left) =
        tokio::try_join!(replies.run(), large.run(), streams.run(), abandon(&door, 20))?;
    told.requests += (replies.latencies.len() + large.latencies.len() + streams.latencies.len()) as u64 + left;
    told.abandoned += left;
    Ok(())
}

/// Clients that leave within a stream.
async fn abandon(door: &Door, count: u64) -> Result<u64> {
    let prepared = Prepared::new(&request(&STREAMS, KEY), door.addr)?;
    for _ in 0..count {
        let clients = Client::connect(door, 1).await?;
        clients.into_iter().next().context("no client")?.abandon(&prepared).await?;
        tokio::time::sleep(LAP / 40).await;
    }
    Ok(count)
}

/// After the first quarter, which warms up, memory may not grow.
fn memory_is_flat(rss_kib: &[u64]) -> Result<()> {
    let quarter = rss_kib.len() / 4;
    ensure!(quarter > 0, "too short to tell whether memory grows: at least {} s are needed", 4 * LAP.as_secs());
    let median = |part: &[u64]| {
        let mut sorted = part.to_vec();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    };
    let (early, late) = (median(&rss_kib[quarter..2 * quarter]), median(&rss_kib[rss_kib.len() - quarter..]));
    ensure!(late <= early + early / 20 + 1024, "memory grew from {early} KiB to {late} KiB");
    Ok(())
}

fn counters_agree(page: &HashMap<String, f64>, told: &Told) -> Result<()> {
    let sum = |name: &str| -> f64 {
        page.iter().filter(|(series, _)| series.split('{').next() == Some(name)).map(|(_, value)| value).sum()
    };
    let expected = [
        ("forge_requests_total", told.requests as f64),
        ("forge_upstream_attempts_total", told.requests as f64),
        ("forge_client_aborts_total", told.abandoned as f64),
        ("forge_requests_in_flight", 0.0),
        ("forge_open_streams", 0.0),
        ("forge_client_connections", 0.0),
        ("forge_buffered_bytes", 0.0),
        ("forge_spilled_bytes", 0.0),
        ("forge_access_log_dropped_total", 0.0),
    ];
    for (name, value) in expected {
        ensure!(page.keys().any(|series| series.starts_with(name)) || value == 0.0, "{name} is not on the page");
        ensure!(sum(name) == value, "{name} is {}, the clients counted {value}", sum(name));
    }
    Ok(())
}

/// The metrics page, by series.
async fn scrape(admin: SocketAddr) -> Result<HashMap<String, f64>> {
    let mut stream = TcpStream::connect(admin).await?;
    let head = format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    let lines = page.lines().filter(|line| line.starts_with("forge_"));
    Ok(lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?)))
        .collect())
}

fn routes(plain: SocketAddr, streams: SocketAddr) -> String {
    let provider = |name: &str, addr| {
        format!("  {name}: {{ dialect: openai, url: \"http://{addr}/v1\", key: \"plain:sk-upstream\" }}\n")
    };
    format!(
        "version: 1\nproviders:\n{}{}models:\n  bench: plain/bench-upstream-70b\n  streams: streams/bench-upstream-70b\n\
         rules:\n  - {{ when: 'stream', use: streams }}\n\
         tiers:\n  bench: {{ models: [\"*\"] }}\n\
         keys:\n  - {{ name: bench, hash: \"sha256:{KEY_HASH}\", tier: bench }}\n",
        provider("plain", plain),
        provider("streams", streams),
    )
}
