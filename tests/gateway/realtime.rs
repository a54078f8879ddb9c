//! /v1/realtime: a WebSocket passes through, its model taken from the query.

use std::time::Duration;

use crate::support::client::Request;
use crate::support::gateway::{FREE_KEY, KEY, PROVIDER_KEY};
use crate::support::upstream::{Reply, Step};
use crate::support::within;
use crate::world::World;

/// RFC 6455 section 1.3.
const NONCE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn upgrade(target: &str) -> Request {
    Request::get(target)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", NONCE)
        .header("sec-websocket-protocol", "realtime")
}

/// Accepts the upgrade and sends back what comes.
fn echo() -> Reply {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {ACCEPT}\r\nsec-websocket-protocol: realtime\r\nset-cookie: a=b\r\n\r\n"
    );
    Reply::steps([Step::Raw(head.into()), Step::EchoBytes])
}

#[tokio::test]
async fn frames_pass_both_ways_and_the_model_is_rewritten() {
    let world = World::start().await;
    world.upstream.script([echo()]);
    let mut client = world.gateway.connect().await;
    client.send(&upgrade("/v1/realtime?model=m&x=1").wire()).await.unwrap();
    let answer = client.read_head().await.unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.head.get("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(answer.head.get("sec-websocket-protocol"), Some("realtime"));
    assert_eq!(answer.head.get("set-cookie"), None);

    let received = world.upstream.only();
    let (path, query) = received.target.split_once('?').unwrap();
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.sort_unstable();
    assert_eq!((received.method.as_str(), path), ("GET", "/v1/realtime"));
    assert_eq!(pairs, ["model=upstream-name", "x=1"]);
    assert_eq!(received.header("sec-websocket-key"), Some(NONCE));
    assert_eq!(received.header("upgrade"), Some("websocket"));
    assert_eq!(received.head.all("authorization"), [format!("Bearer {PROVIDER_KEY}").as_str()]);

    for length in [1, 7, 125, 70_000, 1 << 20] {
        let bytes: Vec<u8> = (0..length as u32).map(|n| (n % 251) as u8).collect();
        for piece in bytes.chunks(30_000) {
            client.send(piece).await.unwrap();
            assert!(client.read_exactly(piece.len()).await == piece, "{length} bytes came back changed");
        }
    }
    drop(client);
    within(Duration::from_secs(3), "the upstream is left", || world.upstream.last().abandoned.is_some()).await;
    let line = world.gateway.access_line("endpoint=realtime").await;
    assert!(line.contains("status=101"), "{line}");
}

#[tokio::test]
async fn a_key_offered_as_a_protocol_stays_here() {
    let world = World::start().await;
    world.upstream.script([echo()]);
    let request = upgrade("/v1/realtime?model=m")
        .without("sec-websocket-protocol")
        .header("sec-websocket-protocol", &format!("realtime, openai-insecure-api-key.{KEY}, openai-beta.realtime-v1"));
    let mut client = world.gateway.connect().await;
    client.send(&request.wire()).await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 101);
    let received = world.upstream.only();
    assert!(received.header("sec-websocket-protocol").unwrap().contains("realtime"));
    assert!(!String::from_utf8_lossy(&received.head.raw).contains(KEY), "{:?}", received.head.fields);
}

#[tokio::test]
async fn the_upstream_may_end_it() {
    let world = World::start().await;
    let head = format!(
        "HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {ACCEPT}\r\n\r\nhello"
    );
    world.upstream.script([Reply::steps([Step::Raw(head.into()), Step::Close])]);
    let mut client = world.gateway.connect().await;
    client.send(&upgrade("/v1/realtime?model=m").wire()).await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 101);
    assert_eq!(client.read_exactly(5).await, b"hello");
    assert!(client.closed_within(Duration::from_secs(3)).await);
}

#[tokio::test]
async fn what_is_no_realtime_request_is_refused() {
    let world = World::start().await;
    let plain = Request::get("/v1/realtime?model=m");
    let cases = [
        (plain.clone(), 426),
        (plain.header("connection", "upgrade").header("upgrade", "h2c"), 426),
        (upgrade("/v1/realtime?model=unknown"), 404),
        (upgrade("/v1/realtime"), 400),
        (upgrade("/v1/realtime?model=m&model=free-m"), 400),
        (upgrade("/v1/realtime?model=m").without("authorization"), 401),
        (upgrade("/v1/realtime?model=m").without("authorization").bearer(FREE_KEY), 403),
    ];
    for (request, status) in cases {
        let mut client = world.gateway.connect().await;
        client.send(&request.wire()).await.unwrap();
        let answer = client.read().await.unwrap();
        assert_eq!(answer.status, status, "{}: {}", request.target, answer.text());
        assert!(answer.json()["error"]["message"].is_string());
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test]
async fn an_upgrade_elsewhere_is_an_ordinary_request() {
    let world = World::start().await;
    let request = Request { method: "POST".into(), ..upgrade("/v1/chat/completions") };
    let answer =
        world.gateway.send(&request.body(crate::world::chat("m")).header("content-type", "application/json")).await;
    let received = world.upstream.only();
    assert_eq!((received.header("upgrade"), received.header("sec-websocket-key")), (None, None));
    assert_eq!(answer.expect(200).json()["model"], "m");
}

#[tokio::test]
async fn a_provider_that_will_not_upgrade_is_an_error() {
    let world = World::start().await;
    for (reply, status) in
        [(Reply::error(401), 500), (Reply::error(503), 500), (Reply::error(400), 400), (Reply::ok(), 500)]
    {
        world.upstream.script([reply]);
        let mut client = world.gateway.connect().await;
        client.send(&upgrade("/v1/realtime?model=m").wire()).await.unwrap();
        let answer = client.read().await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}
