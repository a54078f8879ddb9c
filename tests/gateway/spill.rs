//! What is held of bodies, and the bounds on it.

use std::path::Path;
use std::time::Duration;

use crate::support::client::{Client, Request, Sending};
use crate::support::gateway::Gateway;
use crate::support::within;
use crate::world::{CHAT, ModelPlace, World, chat, sized_body};

/// Little memory for each body, the rest goes to `dir`.
fn spilling_to(dir: &Path) -> String {
    format!(
        "bounds: {{ body_memory_bytes_max: 65536, spill_dir: {} }}
",
        dir.display()
    )
}

const TINY: &str = "bounds:
  body_memory_bytes_max: 1MiB
  buffered_bytes_max: 512KiB
  spilled_bytes_max: 512KiB
  replay_bytes_max: 4MiB
";

fn files_in(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

async fn gauge(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric(name, &[]).await
}

async fn held_on_disk(gateway: &Gateway) {
    for _ in 0..400 {
        if gauge(gateway, "forge_spilled_bytes").await > 1_000_000.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing on disk:\n{}", gateway.metrics().await);
}

async fn nothing_held(gateway: &Gateway) {
    for _ in 0..400 {
        if gauge(gateway, "forge_buffered_bytes").await == 0.0 && gauge(gateway, "forge_spilled_bytes").await == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("bytes still held:\n{}", gateway.metrics().await);
}

#[tokio::test]
async fn a_long_body_with_its_model_last_goes_by_way_of_the_disk() {
    let spill_dir = tempfile::tempdir().unwrap();
    let world = World::with_conf(&spilling_to(spill_dir.path())).await;
    let body = sized_body(3_000_000, "m", ModelPlace::Last);
    let request = Request::post(CHAT, &body).sending(Sending::Chunked(50_000));
    let wire = request.wire();
    let mut client = world.gateway.connect().await;
    client.send(&wire[..2_500_000]).await.unwrap();
    held_on_disk(&world.gateway).await;
    assert!(gauge(&world.gateway, "forge_buffered_bytes").await <= 200_000.0, "the rest in memory is bounded");
    client.send(&wire[2_500_000..]).await.unwrap();
    client.read().await.unwrap().expect(200);
    assert!(world.upstream.only().text() == body.replacen("\"model\":\"m\"", "\"model\":\"upstream-name\"", 1));
    nothing_held(&world.gateway).await;
    assert_eq!(files_in(spill_dir.path()), 0, "nothing is left on disk");
}

#[tokio::test]
async fn what_a_client_leaves_behind_is_removed() {
    let spill_dir = tempfile::tempdir().unwrap();
    let world = World::with_conf(&spilling_to(spill_dir.path())).await;
    let wire = Request::post(CHAT, sized_body(3_000_000, "m", ModelPlace::Last)).wire();
    for leave in ["close", "reset"] {
        let mut client = world.gateway.connect().await;
        client.send(&wire[..2_500_000]).await.unwrap();
        held_on_disk(&world.gateway).await;
        if leave == "reset" {
            client.reset()
        } else {
            drop(client)
        }
        nothing_held(&world.gateway).await;
        assert_eq!(files_in(spill_dir.path()), 0, "after a {leave}");
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test]
async fn a_disk_that_is_gone_is_503() {
    let spill_dir = tempfile::tempdir().unwrap();
    let world = World::with_conf(&spilling_to(spill_dir.path())).await;
    drop(spill_dir);
    let answer = world.gateway.post(CHAT, sized_body(3_000_000, "m", ModelPlace::Last)).await.expect(503);
    assert!(answer.header("retry-after").is_some(), "{:?}", answer.head.fields);
    nothing_held(&world.gateway).await;
    world.gateway.post(CHAT, sized_body(3_000_000, "m", ModelPlace::First)).await.expect(200);
}

/// Clients that sent part of a body whose model is still to come.
async fn hoard(world: &World, clients: usize) -> Vec<Client> {
    let request = Request::post(CHAT, sized_body(200_000, "m", ModelPlace::Last));
    let wire = request.wire();
    let mut hoarding = Vec::new();
    for _ in 0..clients {
        let mut client = world.gateway.connect().await;
        let _ = client.send(&wire[..190_000]).await;
        hoarding.push(client);
    }
    hoarding
}

#[tokio::test]
async fn the_bound_on_all_bodies_answers_503_and_recovers() {
    let world = World::with_conf(TINY).await;
    let mut hoarding = hoard(&world, 12).await;
    let mut busy = 0;
    for client in &mut hoarding {
        if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_millis(300), client.read()).await {
            let answer = answer.expect(503);
            assert_eq!(answer.code(), "overloaded");
            let wait: u64 = answer.header("retry-after").expect("Retry-After").parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
            busy += 1;
        }
    }
    assert!(busy >= 6, "only {busy} of 12 were turned away");
    let held = gauge(&world.gateway, "forge_buffered_bytes").await;
    assert!(held <= 512.0 * 1024.0, "{held} bytes in memory");
    assert_eq!(world.upstream.count(), 0);
    drop(hoarding);
    nothing_held(&world.gateway).await;
    world.gateway.post(CHAT, sized_body(200_000, "m", ModelPlace::Last)).await.expect(200);
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let world = World::with_conf("bounds: { body_stall: 500ms }\n").await;
    for place in [ModelPlace::First, ModelPlace::Last] {
        let request = Request::post(CHAT, sized_body(100_000, "m", place));
        let mut client = world.gateway.connect().await;
        client.send(&request.wire()[..50_000]).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(5), client.read()).await.expect("an answer").unwrap();
        assert_eq!(answer.expect(408).code(), "request_timeout");
    }
    let ended = || world.upstream.received().iter().all(|received| !received.complete && received.abandoned.is_some());
    within(Duration::from_secs(3), "the upstream is left too", ended).await;
    nothing_held(&world.gateway).await;
}

#[tokio::test]
async fn resident_memory_does_not_follow_the_body() {
    let world = World::start().await;
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    let before = world.gateway.resident_bytes();
    let file = vec![b'x'; 60 << 20];
    let head = b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n";
    let tail = b"\r\n--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n";
    let request = Request::post("/v1/audio/transcriptions", [&head[..], &file, &tail[..]].concat())
        .without("content-type")
        .header("content-type", "multipart/form-data; boundary=b");
    world.gateway.send(&request).await.expect(200);
    let grown = world.gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 40 << 20, "{} MB more for a body of 60 MB", grown >> 20);
}
