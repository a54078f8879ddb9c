//! What the whole-gateway tests share: an upstream that misbehaves on demand, a running gateway, clients
//! that speak raw bytes. Everything is on loopback, on ports the system chose, and gone after the test.

#![allow(dead_code, reason = "a test binary uses what it needs")]

pub mod client;
pub mod client_h2;
pub mod form;
pub mod gateway;
pub mod pki;
pub mod postgres;
pub mod redis;
pub mod s3;
pub mod tls;
pub mod upstream;
pub mod wire;

use std::time::{Duration, Instant};

/// How long anything that ought to happen may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `condition` until it holds; panics with `what` when [`PATIENCE`] is over.
pub async fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition).await;
}

/// Polls `condition` until it holds; panics with `what` when `limit` is over. Returns the time it took.
pub async fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}
