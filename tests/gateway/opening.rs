//! A stream is committed to at its first content: until then another target may take its place.

use std::time::{Duration, Instant};

use crate::support::client::Request;
use crate::support::client_h2::H2Stream;
use crate::support::upstream::{Gate, Reply, Step, sse_event};
use crate::world::{CHAT, MESSAGES, World, chat_stream};

const DONE: &str = "data: [DONE]\n\n";

fn role() -> String {
    sse_event(r#"{"id":"1","model":"x","choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#)
}

fn content(text: &str) -> String {
    sse_event(&format!(r#"{{"id":"1","model":"x","choices":[{{"delta":{{"content":"{text}"}}}}]}}"#))
}

fn overloaded() -> String {
    sse_event(r#"{"error":{"message":"overloaded-by-chance","type":"server_error"}}"#)
}

/// A model with a fallback, and one without.
async fn world() -> World {
    World::with_models(
        "  m: { to: up/first, else: [up/second] }\n  alone: up/only\n  \
         claude-m: { to: claude/first, else: [claude/second] }\n",
    )
    .await
}

/// The body the client reads when `first` is what the first target sends.
async fn answer(world: &World, (path, model): (&str, &str), first: Reply) -> String {
    world.upstream.forget();
    world.upstream.script([first, Reply::sse([content("from the second"), DONE.into()])]);
    world.gateway.send(&Request::post(path, chat_stream(model))).await.expect(200).text()
}

#[tokio::test]
async fn what_fails_before_its_first_content_fails_over() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"x\"}}\n\n";
    let error =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n";
    let chat = (CHAT, "m");
    for (name, call, first) in [
        ("an error event", chat, Reply::sse([overloaded()])),
        ("an error event behind the role", chat, Reply::sse([role(), overloaded()])),
        ("an error event of Anthropic", (MESSAGES, "claude-m"), Reply::sse([start, error])),
        ("a stream of nothing", chat, Reply::sse([DONE])),
        ("a stream of the role alone", chat, Reply::sse([role(), DONE.into()])),
        ("a head without an event", chat, Reply::sse_head().then(Step::Reset)),
        ("a cut behind the role", chat, Reply::sse_head().then(Step::Data(role().into())).then(Step::Close)),
    ] {
        // One of its own each: a target that fails again and again is not asked first any more.
        let world = world().await;
        let body = answer(&world, call, first).await;
        assert!(body.contains("from the second") && !body.contains("overloaded"), "{name}: {body}");
        assert_eq!(world.upstream.count(), 2, "{name}");
    }
}

#[tokio::test]
async fn what_fails_behind_its_first_content_does_not() {
    let world = world().await;
    let body = answer(&world, (CHAT, "m"), Reply::sse([content("begun"), overloaded()])).await;
    assert!(body.contains("begun") && body.contains("overloaded-by-chance"), "{body}");
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test]
async fn without_another_target_the_providers_word_passes() {
    let world = world().await;
    let body = answer(&world, (CHAT, "alone"), Reply::sse([role(), overloaded()])).await;
    assert!(body.contains("assistant") && body.contains("overloaded-by-chance"), "{body}");
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test]
async fn a_slow_opening_is_not_held_for_long() {
    let world = world().await;
    let gate = Gate::new();
    let reply = Reply::sse_head()
        .then(Step::Data(role().into()))
        .then(Step::Pause(Duration::from_millis(300)))
        .then(Step::Data(": ping\n\n".into()))
        .then(Step::Wait(gate.clone()))
        .then(Step::Data(content("late").into()))
        .then(Step::End);
    world.upstream.script([reply]);
    let mut client = world.gateway.connect().await;
    client.send(&Request::post(CHAT, chat_stream("m")).wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    client.read_until(&mut reading, ": ping").await;
    gate.open(1);
    client.read_until(&mut reading, "late").await;
}

#[tokio::test]
async fn an_opening_is_released_by_the_clock_alone_over_both_protocols() {
    let models = "  m: { to: up/first, else: [up/second], hold: 400ms }\n";
    for version in [1, 2] {
        let world = World::with_models(models).await;
        let gate = Gate::new();
        let mut reply = Reply::sse_head().then(Step::Data(role().into())).then(Step::Wait(gate.clone()));
        reply.steps.extend([Step::Data(content("late").into()), Step::Data(overloaded().into()), Step::End]);
        world.upstream.script([reply]);
        let (request, began) = (Request::post(CHAT, chat_stream("m")), Instant::now());
        let (text, waited) = if version == 1 {
            let mut client = world.gateway.connect().await;
            client.send(&request.wire()).await.unwrap();
            let mut reading = client.read_head().await.unwrap();
            client.read_until(&mut reading, "assistant").await;
            let waited = began.elapsed();
            gate.open(1);
            let (rest, end) = client.rest(&mut reading).await;
            assert_eq!(end, Ok(()));
            (String::from_utf8(rest).unwrap(), waited)
        } else {
            let mut stream = H2Stream::open(world.gateway.addr, &request).await.unwrap();
            let mut text = String::new();
            while !text.contains("assistant") {
                text.push_str(&String::from_utf8_lossy(&stream.next_piece().await.unwrap().unwrap()));
            }
            let waited = began.elapsed();
            gate.open(1);
            while let Some(piece) = stream.next_piece().await.unwrap() {
                text.push_str(&String::from_utf8_lossy(&piece));
            }
            (text, waited)
        };
        assert!((400..1500).contains(&waited.as_millis()), "HTTP/{version}: {waited:?}");
        assert!(text.contains("late") && text.contains("overloaded-by-chance"), "{text}");
        assert_eq!(world.upstream.count(), 1, "what was written stays");
    }
}

#[tokio::test]
async fn a_longer_hold_waits_for_what_follows_the_opening() {
    let world = World::with_models("  m: { to: up/first, else: [up/second], hold: 10s }\n").await;
    let gate = Gate::new();
    let mut reply = Reply::sse_head().then(Step::Data(role().into())).then(Step::Wait(gate.clone()));
    reply.steps.extend([Step::Data(overloaded().into()), Step::End]);
    let release = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        gate.open(1);
    };
    let (body, ()) = tokio::join!(answer(&world, (CHAT, "m"), reply), release);
    assert!(body.contains("from the second") && !body.contains("overloaded"), "{body}");
    assert_eq!(world.upstream.count(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_is_no_failure_of_an_earlier_target() {
    let world = world().await;
    let stream = Reply::sse_head().then(Step::Data(content("begun").into())).then(Step::Hang);
    world.upstream.script([Reply::error(503), stream]);
    let mut client = world.gateway.connect().await;
    client.send(&Request::post(CHAT, chat_stream("m")).wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    client.read_until(&mut reading, "begun").await;
    drop(client);
    let line = world.gateway.access_line("attempts=2").await;
    assert!(line.contains("aborted=true") && !line.contains("error="), "{line}");
}
