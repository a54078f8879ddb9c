//! Reload, drain, metrics, logs: what an operator sees.

use std::time::Duration;

use crate::support::client::Request;
use crate::support::gateway::{Gateway, Setup, sum_samples};
use crate::support::upstream::{Gate, Reply, Step, Upstream};
use crate::support::{PATIENCE, eventually};
use crate::world::{CHAT, World, chat, chat_stream, usual_routes};

#[tokio::test]
async fn sigterm_lets_streams_end_and_leaves_at_once() {
    let mut world = World::with_conf("grace: 20s\n").await;
    let gate = Gate::new();
    world.upstream.script([Reply::sse_head()
        .then(Step::Data("data: 1\n\n".into()))
        .then(Step::Wait(gate.clone()))
        .then(Step::Data("data: [DONE]\n\n".into()))
        .then(Step::End)]);
    let mut idle = world.gateway.connect().await;
    idle.exchange(&Request::get("/v1/models")).await.expect(200);
    let mut client = world.gateway.connect().await;
    client.send(&Request::post(CHAT, chat_stream("m")).wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    client.read_until(&mut reading, "data: 1").await;

    world.gateway.signal("TERM");
    let start = std::time::Instant::now();
    while world.gateway.probe("/readyz").await == Some(200) {
        assert!(start.elapsed() < Duration::from_secs(5), "still ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while tokio::net::TcpStream::connect(world.gateway.addr).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "still accepting");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(world.gateway.running(), "left with a stream open");
    gate.open(1);
    let (rest, end) = client.rest(&mut reading).await;
    assert_eq!((String::from_utf8_lossy(&rest).as_ref(), end), ("data: [DONE]\n\n", Ok(())));
    let (status, took) = world.gateway.exited_within(Duration::from_secs(5)).await;
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(3), "{took:?} after the last stream");
    assert!(world.gateway.access_log().contains("status=200"), "the last line is written");
}

#[tokio::test]
async fn sigterm_without_requests_leaves_at_once_and_the_grace_period_is_an_end() {
    let mut world = World::with_conf("grace: 20s\n").await;
    let _idle = world.gateway.connect().await;
    world.gateway.signal("TERM");
    let (status, took) = world.gateway.exited_within(Duration::from_secs(10)).await;
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");

    let mut world = World::with_conf("grace: 1s\n").await;
    world.upstream.script([Reply::sse_head().then(Step::Data("data: 1\n\n".into())).then(Step::Hang)]);
    let mut client = world.gateway.connect().await;
    client.send(&Request::post(CHAT, chat_stream("m")).wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    client.read_until(&mut reading, "data: 1").await;
    world.gateway.signal("TERM");
    world.gateway.exited_within(Duration::from_secs(8)).await;
}

#[tokio::test]
async fn many_streams_outlive_sigterm() {
    let mut world = World::with_conf("grace: 60s\n").await;
    let gate = Gate::new();
    let mut reply = Reply::sse_head().then(Step::Data("data: 1\n\n".into())).then(Step::Wait(gate.clone()));
    reply.steps.extend([Step::Data("data: [DONE]\n\n".into()), Step::End]);
    world.upstream.otherwise(reply);
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut client = world.gateway.connect().await;
        client.send(&Request::post(CHAT, chat_stream("m")).wire()).await.unwrap();
        streams.push(client);
    }
    let mut readings = Vec::new();
    for client in &mut streams {
        let mut reading = client.read_head().await.unwrap();
        client.read_until(&mut reading, "data: 1").await;
        readings.push(reading);
    }
    assert_eq!(world.gateway.metric("forge_open_streams", &[]).await, 100.0);
    world.gateway.signal("TERM");
    eventually("draining", || std::net::TcpStream::connect(world.gateway.addr).is_err()).await;
    gate.open(100);
    for (client, reading) in streams.iter_mut().zip(&mut readings) {
        let (rest, end) = client.rest(reading).await;
        assert_eq!((rest.as_slice(), end), (&b"data: [DONE]\n\n"[..], Ok(())));
    }
    let (status, _) = world.gateway.exited_within(Duration::from_secs(5)).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_successor_takes_over_without_a_lost_request() {
    let mut world = World::with_conf("grace: 20s\n").await;
    let gate = Gate::new();
    let mut reply = Reply::sse_head().then(Step::Data("data: 1\n\n".into())).then(Step::Wait(gate.clone()));
    reply.steps.extend([Step::Data("data: [DONE]\n\n".into()), Step::End]);
    world.upstream.script([reply]);
    let mut client = world.gateway.connect().await;
    client.send(&Request::post(CHAT, chat_stream("m")).wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    client.read_until(&mut reading, "data: 1").await;

    let mut old = world.gateway.upgrade().await;
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_secs(3) || world.gateway.probe("/readyz").await != Some(200) {
        assert!(start.elapsed() < PATIENCE, "the successor is not ready:\n{}", world.gateway.output());
        world.gateway.post(CHAT, chat("m")).await.expect(200);
    }
    gate.open(1);
    let (rest, end) = client.rest(&mut reading).await;
    assert_eq!((rest.as_slice(), end), (&b"data: [DONE]\n\n"[..], Ok(())), "the old process ends what it began");
    drop(client);
    eventually("the old process leaves", || old.try_wait().unwrap().is_some()).await;
    world.gateway.post(CHAT, chat("m")).await.expect(200);
}

#[tokio::test]
async fn unknown_names_make_no_series() {
    let world = World::start().await;
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    world.gateway.post(CHAT, chat("wild-0")).await.expect(200);
    world.gateway.post(CHAT, chat("unknown-0")).await.expect(404);
    world.gateway.get("/unknown/0").await.expect(404);
    world.gateway.access_line("unknown-0").await;
    let series = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
    let before = series(&world.gateway.metrics().await);
    let mut client = world.gateway.connect().await;
    for index in 1..=50 {
        client.exchange(&Request::post(CHAT, chat(&format!("unknown-{index}")))).await.expect(404);
        client.exchange(&Request::post(CHAT, chat(&format!("wild-{index}")))).await.expect(200);
        client.exchange(&Request::get(&format!("/unknown/{index}"))).await.expect(404);
        client.exchange(&Request { method: format!("M{index}"), ..Request::get(CHAT) }).await.expect(405);
    }
    let page = world.gateway.metrics().await;
    assert!(!page.contains("unknown-") && !page.contains("wild-1"), "a client's word in a label");
    let after = series(&page);
    assert!(after <= before + 40, "{before} series grew to {after}");
}

/// Every metric an operator is promised.
const METRICS: [&str; 12] = [
    "forge_requests_total",
    "forge_request_duration_seconds_bucket",
    "forge_request_first_byte_seconds_bucket",
    "forge_errors_total",
    "forge_upstream_attempts_total",
    "forge_upstream_ejections_total",
    "forge_requests_in_flight",
    "forge_buffered_bytes",
    "forge_spilled_bytes",
    "forge_config_reloads_total",
    "forge_config_generation",
    "forge_build_info",
];

#[tokio::test]
async fn the_admin_listener_answers() {
    let world = World::start().await;
    world.upstream.script([Reply::error(503).header("retry-after", "1")]);
    world.gateway.post(CHAT, chat("m")).await.expect(500);
    world.gateway.post("/v1/embeddings", chat("free-m")).await.expect(200);
    world.gateway.access_line("model=free-m").await;
    assert_eq!(world.gateway.probe("/healthz").await, Some(200));
    assert_eq!(world.gateway.probe("/readyz").await, Some(200));
    let page = world.gateway.metrics().await;
    for name in METRICS {
        assert!(page.lines().any(|line| line.starts_with(name)), "{name} is missing:\n{page}");
    }
    let count = |labels: &[&str]| sum_samples(&page, "forge_requests_total", labels);
    assert_eq!(count(&["endpoint=\"chat_completions\"", "model=\"m\"", "status=\"5xx\""]), 1.0);
    assert_eq!(count(&["endpoint=\"embeddings\"", "model=\"free-m\"", "status=\"2xx\""]), 1.0);
    assert_eq!(sum_samples(&page, "forge_requests_in_flight", &[]), 0.0);
    assert_eq!(sum_samples(&page, "forge_buffered_bytes", &[]), 0.0);
    let routes = world.gateway.admin_get("/routes").await.expect(200).json();
    assert_eq!(routes["providers"][0]["name"], "up");
    for path in ["/metrics", "/healthz", "/routes"] {
        world.gateway.get(path).await.expect(404);
    }
}

#[tokio::test]
async fn requests_in_flight_are_counted_and_come_to_rest() {
    let world = World::start().await;
    let gate = Gate::new();
    world.upstream.script(vec![
        Reply::steps([
            Step::ReadBody,
            Step::Wait(gate.clone()),
            Step::Head(204, Vec::new(), crate::support::wire::Framing::Empty)
        ]);
        5
    ]);
    let requests = futures::future::join_all((0..5).map(|_| world.gateway.post(CHAT, chat("m"))));
    let check = async {
        eventually("5 requests at the upstream", || world.upstream.count() == 5).await;
        assert_eq!(world.gateway.metric("forge_requests_in_flight", &[]).await, 5.0);
        gate.open(5);
    };
    tokio::join!(requests, check);
    at_rest(&world.gateway).await;
    for break_off in [Reply::hang(), Reply::sse_head().then(Step::Hang)] {
        world.upstream.script([break_off]);
        let mut client = world.gateway.connect().await;
        client.send(&Request::post(CHAT, chat("m")).wire()).await.unwrap();
        let arrived = world.upstream.count();
        eventually("the request at the upstream", || {
            world.upstream.count() > arrived || world.upstream.last().complete
        })
        .await;
        drop(client);
        at_rest(&world.gateway).await;
    }
}

async fn at_rest(gateway: &Gateway) {
    let start = std::time::Instant::now();
    while gateway.metric("forge_requests_in_flight", &[]).await > 0.0 {
        assert!(start.elapsed() < PATIENCE, "requests still in flight");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn each_request_has_one_access_line() {
    let world = World::start().await;
    world.upstream.script([Reply::sse(["data: 1\n\n", "data: [DONE]\n\n"])]);
    world.gateway.send(&Request::post(CHAT, chat_stream("m")).header("x-request-id", "line-1")).await.expect(200);
    let line = world.gateway.access_line("line-1").await;
    let body = chat_stream("m").len();
    for part in [
        "request_id=line-1",
        "key=tester",
        "endpoint=chat_completions",
        "model=m",
        "provider=up",
        "upstream_model=upstream-name",
        "attempts=1",
        "status=200",
        "stream=true",
        "first_byte_ms=",
        "total_ms=",
        &format!("bytes_in={body}"),
        "bytes_out=23",
    ] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    world.gateway.send(&Request::new("POST", CHAT).body("x").header("x-request-id", "line-2")).await.expect(401);
    let line = world.gateway.access_line("line-2").await;
    assert!(
        line.contains("status=401") && line.contains("error=invalid_api_key") && !line.contains("key=tester"),
        "{line}"
    );
    let odd = Request::post(CHAT, "{\"model\":\"a status=200 \\\"x\\\" \u{202e}\"}").header("x-request-id", "line-3");
    world.gateway.send(&odd).await.expect(404);
    world.gateway.access_line("line-3").await;
    let log = world.gateway.access_log();
    assert_eq!(log.lines().count(), 3, "{log}");
}

#[tokio::test]
async fn access_lines_may_be_json() {
    let upstream = Upstream::start().await;
    let setup = Setup { routes: usual_routes(upstream.port()), log_format: "json".into(), ..Setup::default() };
    let gateway = Gateway::start_with(setup).await;
    gateway.send(&Request::post(CHAT, chat("m")).header("x-request-id", "line-1")).await.expect(200);
    gateway.send(&Request::post(CHAT, "{\"model\":\"a\\\"}{\"}").header("x-request-id", "line-2")).await.expect(404);
    gateway.access_line("line-2").await;
    let lines: Vec<serde_json::Value> = gateway
        .access_log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["request_id"], &lines[0]["status"], &lines[0]["attempts"]),
        (&"line-1".into(), &200.into(), &1.into())
    );
    assert_eq!((&lines[1]["model"], &lines[1]["error"]), (&"a\"}{".into(), &"model_not_found".into()));
}

#[tokio::test]
async fn idle_connections_cost_nobody_anything() {
    let world = World::start().await;
    let before = world.gateway.resident_bytes();
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(world.gateway.connect().await);
    }
    let asked = std::time::Instant::now();
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?} beside {} idle connections", asked.elapsed(), idle.len());
    let grown = world.gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 60 << 20, "{} MB for {} idle connections", grown >> 20, idle.len());
}
