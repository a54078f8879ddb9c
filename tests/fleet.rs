//! Limits that several nodes share through a real Redis: nothing is granted twice, whatever happens to the server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "support/redis.rs"]
mod redis;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use forge::config::{HolderKind, LimitKind, LimitSet, LimitsConf, ProcessConf};
use forge::limits::{Claim, Claimed, Cost, Denied, Limits, Reservation};
use redis::Redis;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

const NODES: usize = 4;

/// The control runtime of all nodes: as in the product, requests do not delay it.
static CONTROL: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
/// One fleet at a time: on a small machine two would be slow, and slow means that shares are enforced.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A node of the fleet, with its own connection and its own task.
fn node(redis: &Redis) -> Arc<Limits> {
    let conf = ProcessConf::parse(&format!("limits: {}\n", redis.url()), "forge.yaml").unwrap();
    let LimitsConf::Redis(url) = conf.limits else { panic!("{:?}", conf.limits) };
    let (limits, task) = Limits::shared(&url).unwrap();
    CONTROL.spawn(task);
    Arc::new(limits)
}

async fn fleet(redis: &Redis) -> Vec<Arc<Limits>> {
    let nodes: Vec<_> = (0..NODES).map(|_| node(redis)).collect();
    for node in &nodes {
        joined(node).await;
    }
    // Each has to have heard of the others.
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    nodes
}

async fn joined(node: &Limits) {
    let start = Instant::now();
    while !node.is_shared() {
        assert!(start.elapsed() < Duration::from_secs(10), "the server is not found");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn claim<'a>(name: &'a str, json: &str, cost: Cost) -> Claim<'a> {
    let limits: LimitSet = serde_json::from_str(json).unwrap();
    Claim::new([Claimed { kind: HolderKind::Key, id: name, name, limits }], cost)
}

fn tokens(input_tokens: u64) -> Cost {
    Cost { input_tokens, ..Cost::default() }
}

/// Asks every node in turn for `requests` in all, from `tasks` tasks; how many were let through.
async fn hammer(nodes: &[Arc<Limits>], json: &'static str, (requests, tasks): (usize, usize)) -> u64 {
    let work = (0..tasks).map(|task| {
        let node = Arc::clone(&nodes[task % nodes.len()]);
        tokio::spawn(async move {
            let mut admitted = 0;
            for _ in 0..requests / tasks {
                if let Ok(reservation) = node.reserve(claim("k", json, tokens(1))).await {
                    reservation.settle(tokens(1));
                    admitted += 1;
                }
                tokio::task::yield_now().await;
            }
            admitted
        })
    });
    let mut admitted = 0;
    for task in work.collect::<Vec<_>>() {
        admitted += task.await.unwrap();
    }
    admitted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_requests_on_four_nodes_keep_to_one_limit() {
    let _alone = ALONE.lock().await;
    let redis = Redis::start();
    let nodes = fleet(&redis).await;
    let began = Instant::now();
    let admitted = hammer(&nodes, r#"{"rpm": 6000, "tpm": 60000, "rpd": 1000000}"#, (100_000, 64)).await;
    // The bound of the README: the burst, the rate, and a lease's second of the rate.
    let elapsed_ms = began.elapsed().as_millis() as u64;
    let most = 6_000 + 6_000 * (elapsed_ms + 1_000) / 60_000;
    assert!(admitted <= most, "{admitted} in {elapsed_ms} ms, at most {most}");
    assert!(admitted >= 5_900, "{admitted}: the fleet gets what it was promised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_days_limit_is_exact() {
    let _alone = ALONE.lock().await;
    let redis = Redis::start();
    let nodes = fleet(&redis).await;
    let json = r#"{"rpd": 1000}"#;
    let admitted = hammer(&nodes, json, (20_000, 64)).await;
    assert!(admitted <= 1_000, "{admitted}");
    // What a node had ahead and did not use comes back within a second or so.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let rest = hammer(&nodes, json, (2_000, 4)).await;
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let last = hammer(&nodes, json, (400, 4)).await;
    assert_eq!(admitted + rest + last, 1_000, "{admitted} + {rest} + {last}");
    // A node that comes later knows what the others used.
    let late = node(&redis);
    joined(&late).await;
    assert!(late.reserve(claim("k", json, tokens(1))).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_are_shared_and_given_back() {
    let _alone = ALONE.lock().await;
    let redis = Redis::start();
    let nodes = fleet(&redis).await;
    let json = r#"{"concurrent": 10}"#;
    let mut held: Vec<Reservation> = Vec::new();
    for round in 0..40 {
        if let Ok(reservation) = nodes[round % NODES].reserve(claim("k", json, Cost::default())).await {
            held.push(reservation);
        }
    }
    assert_eq!(held.len(), 10);
    held.truncate(3);
    let began = Instant::now();
    while held.len() < 10 {
        assert!(began.elapsed() < Duration::from_secs(3), "{} of 10", held.len());
        if let Ok(reservation) = nodes[0].reserve(claim("k", json, Cost::default())).await {
            held.push(reservation);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for node in &nodes {
        assert!(node.reserve(claim("k", json, Cost::default())).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn estimates_are_settled_across_nodes() {
    let _alone = ALONE.lock().await;
    let redis = Redis::start();
    let nodes = fleet(&redis).await;
    let json = r#"{"tpd": 1000, "tpm": 1000}"#;
    let first = nodes[0].reserve(claim("k", json, tokens(900))).await.unwrap();
    let denied = nodes[1].reserve(claim("k", json, tokens(900))).await.unwrap_err();
    assert!(matches!(denied, Denied::Limit { limit, .. } if limit.kind == LimitKind::Tpd), "{denied:?}");
    first.settle(tokens(50));
    let began = Instant::now();
    let second = loop {
        match nodes[1].reserve(claim("k", json, tokens(900))).await {
            Ok(reservation) => break reservation,
            Err(_) => assert!(began.elapsed() < Duration::from_secs(2), "what was not used comes back"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(second.standing().tokens.map(|gauge| gauge.limit), Some(1_000));
    // Into debt: nobody gets anything.
    second.settle(tokens(5_000));
    tokio::time::sleep(Duration::from_millis(200)).await;
    for node in &nodes {
        assert!(node.reserve(claim("k", json, tokens(1))).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_delays_nobody_and_each_node_enforces_its_share() {
    let _alone = ALONE.lock().await;
    let redis = Redis::start();
    let nodes = fleet(&redis).await;
    let json = r#"{"rpm": 400, "rpd": 2000}"#;
    let before = hammer(&nodes, json, (40, 4)).await;
    assert_eq!(before, 40);
    redis.hang();
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut alone = 0;
    for round in 0..2_000 {
        let asked = Instant::now();
        alone += u64::from(nodes[round % NODES].reserve(claim("k", json, tokens(1))).await.is_ok());
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
    assert!(nodes.iter().all(|node| !node.is_shared()));
    // Each node has 100 of the 400, of which it has used 10 or so; and some of what was leased.
    let elapsed_s = began.elapsed().as_secs() + 1;
    assert!((300..=400 + elapsed_s * 7 + 10).contains(&alone), "{alone}");
    redis.go_on();
    for node in &nodes {
        joined(node).await;
    }
    // What was used meanwhile is known to all: the minute's limit has nothing left.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = hammer(&nodes, json, (400, 8)).await;
    assert!(after <= 40, "{after} more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_everything_is_told_anew() {
    let _alone = ALONE.lock().await;
    let mut redis = Redis::start();
    let nodes = fleet(&redis).await;
    let json = r#"{"rpd": 100}"#;
    assert_eq!(hammer(&nodes, json, (80, 8)).await, 80);
    redis.replace();
    // Whoever notices first says so; none is refused meanwhile what is its share.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for node in &nodes {
        joined(node).await;
    }
    let after = hammer(&nodes, json, (400, 8)).await;
    assert!((1..=20).contains(&after), "{after}");
}
