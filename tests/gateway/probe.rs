//! Active probes: who fails them gets no request, who answers them gets one early.

use std::time::{Duration, Instant};

use crate::support::gateway::{Gateway, PROVIDER_KEY, routes};
use crate::support::upstream::{Reply, Upstream};
use crate::world::{CHAT, chat};

/// Provider `first` with this probe, before provider `second` without one.
async fn two(probe: &str) -> (Upstream, Upstream, Gateway) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let provider = |name: &str, port: u16, more: &str| {
        format!(
            "  {name}: {{ dialect: openai, url: \"http://127.0.0.1:{port}/v1\", key: \"plain:{PROVIDER_KEY}\"{more} }}\n"
        )
    };
    let text = format!(
        "providers:\n{}{}models:\n  m: {{ to: first/x, else: second/y }}\n  one: first/x\n",
        provider("first", first.port(), &format!(", headers: {{ x-team: forge }}, probe: {probe}")),
        provider("second", second.port(), ""),
    );
    (first, second, Gateway::start(&routes(&text)).await)
}

fn probes(upstream: &Upstream) -> usize {
    upstream.received().iter().filter(|received| received.method == "GET").count()
}

fn requests(upstream: &Upstream) -> usize {
    upstream.received().iter().filter(|received| received.method == "POST").count()
}

async fn until(what: &str, gateway: &Gateway, metric: (&str, &[&str]), holds: impl Fn(f64) -> bool) {
    let start = Instant::now();
    while !holds(gateway.metric(metric.0, metric.1).await) {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const FAILED: (&str, &[&str]) = ("forge_upstream_probes_total", &["failed"]);
const OUT: (&str, &[&str]) = ("forge_upstream_lanes_out", &[]);

#[tokio::test]
async fn a_failing_probe_takes_an_origin_out_and_an_answered_one_brings_it_back() {
    let (first, second, gateway) = two("{ path: /health, interval: 100ms, timeout: 1s, status: 200 }").await;
    until("a probe", &gateway, ("forge_upstream_probes_total", &["passed"]), |count| count >= 2.0).await;
    let probe = first.received().into_iter().find(|received| received.method == "GET").unwrap();
    assert_eq!(probe.target, "/health", "from the root of the host");
    assert_eq!(probe.header("x-team"), Some("forge"));
    assert_eq!(probe.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    assert!(probe.faults.is_empty(), "{:?}", probe.faults);
    gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!((requests(&first), requests(&second), probes(&second)), (1, 0, 0));

    // Not the status that is expected; nothing else is wrong with it.
    first.otherwise(Reply::json(204, ""));
    until("out", &gateway, OUT, |count| count == 1.0).await;
    first.forget();
    for _ in 0..5 {
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
    assert_eq!((requests(&first), requests(&second)), (0, 5));
    first.otherwise(Reply::ok());
    until("in again", &gateway, OUT, |count| count == 0.0).await;
    for _ in 0..5 {
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
    assert_eq!((requests(&first), requests(&second)), (5, 5));
}

#[tokio::test]
async fn what_failures_put_out_is_tried_early_once_it_answers_a_probe() {
    let (first, _second, gateway) = two("{ path: /health, interval: 50ms }").await;
    // Probes pass all along; requests fail, so each time out is longer.
    first.to_get(Reply::ok());
    first.otherwise(Reply::error(500));
    for _ in 0..5 {
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
    let began = Instant::now();
    first.otherwise(Reply::ok());
    first.forget();
    while requests(&first) == 0 {
        assert!(began.elapsed() < Duration::from_millis(900), "not before its second is over");
        gateway.post(CHAT, chat("m")).await.expect(200);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("in again", &gateway, OUT, |count| count == 0.0).await;
}

#[tokio::test]
async fn silence_fails_a_probe_and_a_reload_takes_probes_away() {
    let (first, second, gateway) = two("{ path: /health, interval: 100ms, timeout: 200ms }").await;
    first.to_get(Reply::hang());
    until("out", &gateway, OUT, |count| count == 1.0).await;
    assert!(gateway.metric(FAILED.0, FAILED.1).await >= 2.0);
    gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!((requests(&first), requests(&second)), (0, 1));
    gateway.post(CHAT, chat("one")).await.expect(200);
    let text = std::fs::read_to_string(gateway.routes_path()).unwrap();
    let (before, after) = (text.find(", probe:").unwrap(), text.find("200ms }").unwrap() + "200ms }".len());
    std::fs::write(gateway.routes_path(), format!("{}{}", &text[..before], &text[after..])).unwrap();
    until("loaded", &gateway, ("forge_config_generation", &[]), |generation| generation == 2.0).await;
    // The watch of the configuration and a probe under way.
    tokio::time::sleep(Duration::from_millis(900)).await;
    first.forget();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(probes(&first), 0);
    gateway.post(CHAT, chat("m")).await.expect(200);
}
