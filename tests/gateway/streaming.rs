//! Event streams: nothing waits, whoever leaves is noticed, and a cut never looks like an end.

use std::time::{Duration, Instant};

use crate::support::client::Request;
use crate::support::client_h2::H2Stream;
use crate::support::gateway::{Gateway, PROVIDER_KEY, routes};
use crate::support::upstream::{Gate, Reply, Step, Upstream, sse_event};
use crate::support::{eventually, within};
use crate::world::{CHAT, MESSAGES, World, chat, chat_stream};

const LAG_MAX: Duration = Duration::from_millis(250);
const LEAVE_MAX: Duration = Duration::from_secs(3);

fn delta(text: &str) -> String {
    sse_event(&format!(r#"{{"id":"1","model":"upstream-name","choices":[{{"delta":{{"content":"{text}"}}}}]}}"#))
}

/// A stream of `count` events that waits for the test before each but the first.
fn gated(gate: &Gate, count: usize) -> Reply {
    let mut reply = Reply::sse_head().then(Step::Data(delta("event-0").into()));
    for index in 1..count {
        reply = reply.then(Step::Wait(gate.clone())).then(Step::Data(delta(&format!("event-{index}")).into()));
    }
    reply.then(Step::Wait(gate.clone())).then(Step::Data("data: [DONE]\n\n".into())).then(Step::End)
}

/// A gateway in front of one upstream, spoken to in this version of HTTP.
async fn world_over(version: &str) -> World {
    let upstream = Upstream::start().await;
    let url = format!("http://127.0.0.1:{}/v1", upstream.port());
    let key = format!("key: \"plain:{PROVIDER_KEY}\", http: \"{version}\"");
    let text = format!(
        "providers:\n  up: {{ dialect: openai, url: \"{url}\", {key} }}\n  \
         claude: {{ dialect: anthropic, url: \"{url}\", {key} }}\n\
         models:\n  m: {{ to: up/upstream-name, timeouts: {{ idle: 1s }} }}\n  \
         claude-m: {{ to: claude/x, timeouts: {{ idle: 1s }} }}\n"
    );
    World { gateway: Gateway::start(&routes(&text)).await, upstream }
}

#[tokio::test]
async fn each_event_passes_before_the_next_is_written() {
    for version in ["1", "2"] {
        let world = world_over(version).await;
        let gate = Gate::new();
        world.upstream.script([gated(&gate, 20), gated(&gate, 20)]);
        let request = Request::post(CHAT, chat_stream("m"));
        let mut client = world.gateway.connect().await;
        client.send(&request.wire()).await.unwrap();
        let mut reading = client.read_head().await.unwrap();
        assert_eq!((reading.status, reading.head.get("content-type")), (200, Some("text/event-stream")));
        client.read_until(&mut reading, "event-0").await;
        for index in 1..20 {
            let opened = Instant::now();
            gate.open(1);
            let arrived = client.read_until(&mut reading, &format!("event-{index}\"")).await;
            assert!(arrived - opened < LAG_MAX, "event {index} took {:?}", arrived - opened);
        }
        gate.open(1);
        client.read_until(&mut reading, "data: [DONE]\n\n").await;
        assert_eq!(client.next_piece(&mut reading).await, Ok(None));

        let mut stream = H2Stream::open(world.gateway.addr, &request).await.unwrap();
        let mut text = String::new();
        for index in 0..20 {
            while !text.contains(&format!("event-{index}\"")) {
                text.push_str(&String::from_utf8_lossy(&stream.next_piece().await.unwrap().expect("more events")));
            }
            assert!(!text.contains(&format!("event-{}\"", index + 1)), "from the future");
            gate.open(1);
        }
    }
}

#[tokio::test]
async fn a_connection_serves_on_after_a_stream() {
    let world = World::start().await;
    let mut client = world.gateway.connect().await;
    for _ in 0..3 {
        world.upstream.script([Reply::sse([delta("a"), "data: [DONE]\n\n".into()])]);
        client.exchange(&Request::post(CHAT, chat_stream("m"))).await.expect(200);
        client.exchange(&Request::post(CHAT, chat("m"))).await.expect(200);
    }
    assert_eq!(world.upstream.connections().accepted, 1, "and so does the upstream's");
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_upstream_along() {
    for version in ["1", "2"] {
        let world = world_over(version).await;
        for (phase, reply) in [
            ("before the head", Reply::hang()),
            ("after the head", Reply::sse_head().then(Step::Hang)),
            ("inside the stream", Reply::sse_head().then(Step::Data(delta("event").into())).then(Step::Hang)),
        ] {
            for leave in ["close", "reset"] {
                world.upstream.script([reply.clone()]);
                let mut client = world.gateway.connect().await;
                client.send(&Request::post(CHAT, chat_stream("m")).wire()).await.unwrap();
                eventually("the request at the upstream", || {
                    world.upstream.count() == 1 && world.upstream.last().complete
                })
                .await;
                if phase == "inside the stream" {
                    let mut reading = client.read_head().await.unwrap();
                    client.read_until(&mut reading, "event").await;
                }
                if leave == "reset" {
                    client.reset()
                } else {
                    drop(client)
                }
                let what = format!("HTTP/{version}: upstream left after a {leave} {phase}");
                within(LEAVE_MAX, &what, || world.upstream.last().abandoned.is_some()).await;
                world.upstream.forget();
            }
        }
        world.upstream.script([Reply::hang()]);
        let (addr, request) = (world.gateway.addr, Request::post(CHAT, chat_stream("m")));
        let stream = tokio::spawn(async move { H2Stream::open(addr, &request).await.map(drop) });
        eventually("the request at the upstream", || world.upstream.count() == 1).await;
        stream.abort();
        within(LEAVE_MAX, "upstream left by an h2 client", || world.upstream.last().abandoned.is_some()).await;
        world.gateway.access_line("aborted=true").await;
    }
}

/// The data of each event, in order.
fn events(text: &str) -> Vec<String> {
    text.split("\n\n")
        .filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")))
        .map(str::to_owned)
        .collect()
}

/// Ways a stream may be cut after its first event.
fn cuts() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        ("closed", vec![Step::Close]),
        ("reset", vec![Step::Reset]),
        ("closed inside an event", vec![Step::Data("data: {\"id\":\"1\",\"cho".into()), Step::Close]),
        ("closed between fields", vec![Step::Data("event: x\n".into()), Step::Close]),
        ("silent", vec![Step::Hang]),
    ]
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_in_an_error_event() {
    for version in ["1", "2"] {
        let world = world_over(version).await;
        for (what, cut) in cuts() {
            let mut reply = Reply::sse_head().then(Step::Data(delta("first").into()));
            reply.steps.extend(cut);
            world.upstream.script([reply.clone(), reply]);
            let answer = world.gateway.post(CHAT, chat_stream("m")).await;
            let text = answer.text();
            assert!(text.contains("first") && !text.contains("[DONE]"), "HTTP/{version} {what}: {text}");
            let last = events(&text).pop().unwrap();
            let error: serde_json::Value = serde_json::from_str(&last).unwrap_or_else(|_| panic!("{what}: {text}"));
            let code = error["error"]["code"].as_str().unwrap_or_default().to_owned();
            assert!(code.starts_with("upstream_"), "HTTP/{version} {what}: {text}");
            assert!(text.ends_with("\n\n"), "{what}: {text}");

            let text = world.gateway.post(MESSAGES, chat_stream("claude-m")).await.text();
            let last = text.trim_end().rsplit("\n\n").next().unwrap().to_owned();
            assert!(last.starts_with("event: error\ndata: {"), "HTTP/{version} {what}: {text}");
            let error: serde_json::Value = serde_json::from_str(&events(&text).pop().unwrap()).unwrap();
            assert_eq!((&error["type"], error["error"]["type"].is_string()), (&"error".into(), true), "{what}: {text}");
        }
        world.gateway.post(CHAT, chat("m")).await.expect(200);
    }
}

#[tokio::test]
async fn the_limit_on_the_whole_ends_a_stream_that_goes_on() {
    let upstream = Upstream::start().await;
    let line = crate::world::provider("up", "openai", upstream.port());
    let text = format!("providers:\n{line}models:\n  m: {{ to: up/x, timeouts: {{ total: 1s }} }}\n");
    let gateway = Gateway::start(&routes(&text)).await;
    let mut reply = Reply::sse_head();
    for _ in 0..100 {
        reply = reply.then(Step::Data(delta("more").into())).then(Step::Pause(Duration::from_millis(100)));
    }
    upstream.script([reply]);
    let start = Instant::now();
    let text = gateway.post(CHAT, chat_stream("m")).await.text();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(text.contains("more") && text.contains("upstream_timeout") && !text.contains("[DONE]"), "{text}");
    within(LEAVE_MAX, "the upstream is left", || upstream.last().abandoned.is_some()).await;
}

#[tokio::test]
async fn an_answer_that_is_cut_looks_cut() {
    let world = world_over("1").await;
    let head = Step::Head(
        200,
        vec![("content-type".into(), "application/json".into())],
        crate::support::wire::Framing::Length(1000),
    );
    for end in [Step::Close, Step::Reset] {
        world.upstream.script([Reply::steps([Step::ReadBody, head.clone(), Step::Data("{\"id\":1".into()), end])]);
        let mut client = world.gateway.connect().await;
        client.send(&Request::post(CHAT, chat("m")).wire()).await.unwrap();
        match client.read().await {
            Ok(answer) => assert!(answer.status >= 500 || !answer.faults.is_empty(), "{answer:?}"),
            Err(error) => panic!("neither an error nor a cut answer: {error}"),
        }
    }
}

#[tokio::test]
async fn a_large_answer_waits_for_a_slow_client() {
    let world = World::start().await;
    let before = world.gateway.resident_bytes();
    let piece = "x".repeat(1 << 20);
    world.upstream.script([Reply::sse((0..40).map(|_| sse_event(&piece)))]);
    let mut client = world.gateway.connect().await;
    client.send(&Request::post(CHAT, chat_stream("m")).wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let grown = world.gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "{} MB held for a client that does not read", grown >> 20);
    let (body, end) = client.rest(&mut reading).await;
    assert_eq!((body.len(), end), (40 * ((1 << 20) + 8), Ok(())));
}
