//! Four gateways, one limit, one Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::Request;
use crate::support::gateway::{Gateway, Setup, routes};
use crate::support::redis::Redis;
use crate::support::upstream::{Reply, Upstream};
use crate::world::{CHAT, chat, providers};

const NODES: usize = 4;

async fn fleet(redis: &Redis, limits: &str) -> (Upstream, Vec<Gateway>) {
    let upstream = Upstream::start().await;
    upstream.otherwise(Reply::ok());
    let text = routes(&format!("{}models:\n  m: up\nlimits: {{ {limits} }}\n", providers(upstream.port())));
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let conf = format!("limits: {}\nstore: none\n", redis.url());
        nodes.push(Gateway::start_with(Setup { routes: text.clone(), conf, ..Setup::default() }).await);
    }
    for node in &nodes {
        shared(node, 1.0).await;
    }
    // Each has to have heard of the others.
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    (upstream, nodes)
}

/// Waits until a gateway says that it counts with the fleet (1), or alone (0).
async fn shared(node: &Gateway, value: f64) {
    let began = Instant::now();
    while node.metric("forge_limits_shared", &[]).await != value {
        assert!(began.elapsed() < Duration::from_secs(10), "not {value}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends `requests` in all over kept-alive connections; how many were let through, and the slowest answer.
async fn hammer(nodes: &[Gateway], requests: usize) -> (u64, Duration) {
    const CLIENTS: usize = 16;
    let (sent, admitted, slowest) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let shared = Arc::new((sent, admitted, slowest));
    let client = |index: usize| {
        let (address, shared) = (nodes[index % nodes.len()].addr, Arc::clone(&shared));
        tokio::spawn(async move {
            let mut client = crate::support::client::Client::connect(address).await;
            let request = Request::post(CHAT, chat("m"));
            while shared.0.fetch_add(1, Ordering::Relaxed) < requests {
                let began = Instant::now();
                let response = client.exchange(&request).await;
                assert!(matches!(response.status, 200 | 429), "{response:?}");
                shared.1.fetch_add(u64::from(response.status == 200), Ordering::Relaxed);
                shared.2.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
            }
        })
    };
    for client in (0..CLIENTS).map(client).collect::<Vec<_>>() {
        client.await.unwrap();
    }
    (shared.1.load(Ordering::Relaxed), Duration::from_millis(shared.2.load(Ordering::Relaxed)))
}

/// Of all clients together, at all nodes.
const REQUESTS: usize = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_keep_to_one_limit() {
    let redis = Redis::start();
    let (upstream, nodes) = fleet(&redis, "rpm: 3000, rpd: 1M").await;
    let began = Instant::now();
    let (admitted, _) = hammer(&nodes, REQUESTS).await;
    let elapsed_ms = began.elapsed().as_millis() as u64;
    // The bound of the README: burst and rate, and a second of the rate that is leased ahead.
    let most = 3_000 + 3_000 * (elapsed_ms + 1_000) / 60_000;
    println!("{admitted} of {} in {elapsed_ms} ms, at most {most}", REQUESTS);
    assert!(admitted <= most, "{admitted} in {elapsed_ms} ms, at most {most}");
    assert!(admitted >= 2_900, "{admitted}: the fleet gets what it was promised");
    assert_eq!(upstream.count() as u64, admitted, "what was refused went nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_redis_hangs_no_request_and_is_taken_back() {
    let redis = Redis::start();
    let (_upstream, nodes) = fleet(&redis, "rpm: 400, rpd: 1000").await;
    redis.hang();
    let (alone, slowest) = hammer(&nodes, 1_200).await;
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // Shares of what was left, and a minute's share of the time it took.
    assert!((300..=500).contains(&alone), "{alone}");
    for node in &nodes {
        shared(node, 0.0).await;
    }
    redis.go_on();
    for node in &nodes {
        shared(node, 1.0).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (after, _) = hammer(&nodes, 200).await;
    assert!(after <= 60, "{after}: what each used alone is known to all");
}
