//! Bodies in JSON: what is read of them, what is refused, and that a provider never holds a request whole
//! that was not the one authorised.

use std::time::Duration;

use crate::support::client::{Request, Sending};
use crate::support::client_h2::exchange_h2c;
use crate::support::within;
use crate::world::{CHAT, MESSAGES, ModelPlace, World, chat, sized_body};

fn nested(depth: usize) -> String {
    // The object itself is one level.
    format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
}

/// Bodies that are refused, and a word of the reason.
fn refused_bodies() -> Vec<(Vec<u8>, &'static str)> {
    let text = [
        (r#"{"model":"m","model":"m"}"#, "model"),
        (r#"{"model":"m","messages":[],"mod\u0065l":"free-m"}"#, "model"),
        (r#"{"\u006dodel":"m","model":"m"}"#, "model"),
        (r#"{"model":"m","Model":"free-m"}"#, "model"),
        (r#"{"MODEL":"m"}"#, "model"),
        (r#"{"model":"m","stream":true,"stream":true}"#, "stream"),
        (r#"{"model":"m","stream":true,"stre\u0061m":false}"#, "stream"),
        (r#"{"model":5}"#, "model"),
        (r#"{"model":null}"#, "model"),
        (r#"{"model":["m"]}"#, "model"),
        (r#"{"model":{"model":"m"}}"#, "model"),
        (r#"{"messages":[]}"#, "model"),
        (r#"{"nested":{"model":"m"}}"#, "model"),
        ("{}", "model"),
        ("", ""),
        ("   ", ""),
        (r#"["model","m"]"#, ""),
        (r#""m""#, ""),
        ("null", ""),
        (r#"{"model":"m",}"#, ""),
        (r#"{"model":"m" "x":1}"#, ""),
        (r#"{model:"m"}"#, ""),
        (r#"{'model':'m'}"#, ""),
        (r#"{"model":"m"} x"#, ""),
        (r#"{"model":"m"}{"model":"free-m"}"#, ""),
        (r#"{"model":"m","x":NaN}"#, ""),
        (r#"{"model":"m","x":01}"#, ""),
        (r#"{"model":"m","x":1.}"#, ""),
        (r#"{"model":"m","x":+1}"#, ""),
        (r#"{"model":"m","x":tru}"#, ""),
        (r#"{"model":"m","x":"\x"}"#, ""),
        (r#"{"model":"m","x":"\u12g4"}"#, ""),
        ("{\"model\":\"m\",\"x\":\"a\nb\"}", ""),
        (r#"{"model":"m","x":[1}"#, ""),
        (r#"{"model":"m","x":"#, ""),
        (r#"{"model":"m""#, ""),
        (r#"{"model":"m"#, ""),
        ("\u{feff}{\"model\":\"m\"}", ""),
        ("// c\n{\"model\":\"m\"}", ""),
    ];
    let mut bodies: Vec<(Vec<u8>, &str)> = text.iter().map(|(text, word)| (text.as_bytes().to_vec(), *word)).collect();
    bodies.push((b"{\"model\":\"m\",\"x\":\"\xff\"}".to_vec(), "UTF-8"));
    bodies.push((b"{\"model\":\"m\",\"x\":\"\xed\xa0\x80\"}".to_vec(), "UTF-8"));
    bodies.push((nested(129).into_bytes(), "128"));
    bodies.push((chat(&"m".repeat(257)).into_bytes(), "256"));
    bodies
}

#[tokio::test]
async fn what_is_not_one_clean_object_is_refused_and_says_why() {
    let world = World::start().await;
    for (body, word) in refused_bodies() {
        let shown = String::from_utf8_lossy(&body).into_owned();
        for sending in [Sending::Length, Sending::Chunked(3)] {
            let request = Request::post(CHAT, &body).sending(sending);
            let answer = world.gateway.send(&request).await;
            assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
            assert!(answer.faults.is_empty(), "{:?}", answer.faults);
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(word), "{shown}: {message:?} without {word:?}");
        }
        let answer = world.gateway.send(&Request::post(MESSAGES, &body)).await.expect(400).json();
        assert_eq!((&answer["type"], &answer["error"]["type"]), (&"error".into(), &"invalid_request_error".into()));
        assert!(world.upstream.received().iter().all(|received| !received.complete), "{shown}");
    }
}

#[tokio::test]
async fn a_message_about_grammar_says_where() {
    let world = World::start().await;
    let answer = world.gateway.post(CHAT, r#"{"model":"m","x":tru}"#).await.expect(400);
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("20"), "the fault is at byte 20: {message}");
}

#[tokio::test]
async fn what_json_allows_passes_untouched() {
    let world = World::start().await;
    let bodies = [
        r#" { "messages" : [ ] , "model" : "m" } "#.to_owned(),
        "\r\n\t{\"model\"\n:\r\"m\"}\r\n".to_owned(),
        r#"{"model":"m","n":1.10,"big":9007199254740993,"e":-0.0E+5,"s":"\u00e9\ud800 \/ \\"}"#.to_owned(),
        r#"{"model":"m","x":{"model":"a","model":"b","stream":1,"stream":2}}"#.to_owned(),
        r#"{"":1,"":2,"model":"m","dup":1,"dup":2}"#.to_owned(),
        r#"{"model":"m","models":["x"],"modelx":1,"streams":false}"#.to_owned(),
        nested(128),
    ];
    for body in bodies {
        world.gateway.post(CHAT, &body).await.expect(200);
        let expected = body.replacen("\"m\"", "\"upstream-name\"", 1);
        assert_eq!(world.upstream.last().text(), expected);
    }
    world.gateway.post(CHAT, r#"{"\u006d\u006fdel":"\u006d"}"#).await.expect(200);
    assert_eq!(world.upstream.last().text(), r#"{"\u006d\u006fdel":"upstream-name"}"#);
    let longest = format!("wild-{}", "x".repeat(251));
    world.gateway.post(CHAT, chat(&longest)).await.expect(200);
    assert_eq!(world.upstream.last().text(), chat(&longest));
}

/// Violations behind a model and 300 KB of clean text.
fn late_violations() -> Vec<Vec<u8>> {
    let clean = sized_body(300_000, "m", ModelPlace::First);
    let open = clean.strip_suffix('}').unwrap();
    let with = |tail: &[u8]| [open.as_bytes(), tail].concat();
    vec![
        with(br#","model":"free-m"}"#),
        with(br#","mod\u0065l":"free-m"}"#),
        with(br#","stream":true,"stream":false}"#),
        with(b",\"x\":\"\xff\"}"),
        with(br#","x":}"#),
        with(b"} x"),
        with(br#"}{"model":"free-m"}"#),
        with(b""),
        with(format!(",\"x\":{}{}}}", "[".repeat(128), "]".repeat(128)).as_bytes()),
    ]
}

#[tokio::test]
async fn a_late_violation_ends_the_request_before_the_provider_has_it_whole() {
    let world = World::start().await;
    for (index, body) in late_violations().into_iter().enumerate() {
        for sending in [Sending::Length, Sending::Chunked(10_000)] {
            let request = Request::post(CHAT, &body).sending(sending);
            world.gateway.send(&request).await.expect(400);
            exchange_h2c(world.gateway.addr, &request).await.expect(400);
        }
        let received = world.upstream.received();
        assert!(received.iter().all(|received| !received.complete), "violation {index}");
    }
    let ended = || world.upstream.received().iter().all(|received| received.abandoned.is_some());
    within(Duration::from_secs(3), "the gateway leaves the upstreams", ended).await;
    world.gateway.post(CHAT, chat("m")).await.expect(200);
}

#[tokio::test]
async fn the_rest_of_a_body_streams_once_the_model_is_known() {
    let world = World::start().await;
    let body = sized_body(2_000_000, "m", ModelPlace::First);
    let request = Request::post(CHAT, &body);
    let mut client = world.gateway.connect().await;
    client.send(&request.head_bytes()).await.unwrap();
    let (first, rest) = body.as_bytes().split_at(1_000_000);
    client.send(first).await.unwrap();
    let arrived = || world.upstream.peek(|received| received.body.len()).unwrap_or(0) > 900_000;
    within(Duration::from_secs(5), "half of the body at the upstream", arrived).await;
    client.send(rest).await.unwrap();
    client.read().await.unwrap().expect(200);
    assert!(world.upstream.only().text() == body.replacen("\"m\"", "\"upstream-name\"", 1));
}

#[tokio::test]
async fn a_client_that_breaks_its_framing_gets_400() {
    let world = World::start().await;
    let head = Request::post(CHAT, "").sending(Sending::Chunked(1)).head_bytes();
    let late = sized_body(300_000, "m", ModelPlace::First);
    let late = format!("{:x}\r\n{late}\r\n", late.len());
    for bad in ["zz\r\n", "4\r\n{\"mod\r\n", "-1\r\n", &format!("{late}zz\r\n")] {
        let mut client = world.gateway.connect().await;
        client.send(&[&head, bad.as_bytes()].concat()).await.unwrap();
        let answer = client.read().await.unwrap();
        assert_eq!(answer.status, 400, "{:?}: {}", &bad[bad.len() - 4..], answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "{:?}", &bad[bad.len() - 4..]);
        assert!(client.closed_within(Duration::from_secs(2)).await);
    }
    assert!(world.upstream.received().iter().all(|received| !received.complete));
}

#[tokio::test]
async fn a_body_cut_short_is_the_clients_fault() {
    let world = World::start().await;
    for sending in [Sending::Length, Sending::Chunked(1000)] {
        for (bytes, place) in [(3000, ModelPlace::Last), (300_000, ModelPlace::First)] {
            let wire = Request::post(CHAT, sized_body(bytes, "m", place)).sending(sending).wire();
            let mut client = world.gateway.connect().await;
            client.send(&wire[..wire.len() - 100]).await.unwrap();
            client.close_sending().await;
            let answer = client.read().await.unwrap().expect(400);
            assert_eq!(answer.code(), "invalid_request", "{sending:?} {bytes}: {}", answer.text());
        }
    }
    assert!(world.upstream.received().iter().all(|received| !received.complete));
}

#[tokio::test]
async fn a_coded_body_is_not_read() {
    let world = World::start().await;
    for coding in ["gzip", "br", "deflate", "zstd", "identity, gzip"] {
        world.gateway.send(&Request::post(CHAT, chat("m")).header("content-encoding", coding)).await.expect(415);
    }
    assert_eq!(world.upstream.count(), 0);
    world.gateway.send(&Request::post(CHAT, chat("m")).header("content-encoding", "identity")).await.expect(200);
    assert_eq!(world.upstream.only().header("content-encoding"), None);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_by_its_head() {
    let world = World::start().await;
    for target in [CHAT, MESSAGES] {
        let request = Request::post(target, "").without("content-length").header("content-length", "33554433");
        let mut client = world.gateway.connect().await;
        let head = String::from_utf8(request.head_bytes()).unwrap().replace("content-length: 0\r\n", "");
        client.send(head.as_bytes()).await.unwrap();
        assert_eq!(client.read_head().await.unwrap().status, 413, "from the head alone");
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test]
async fn a_body_that_grows_over_the_limit_never_arrives_whole() {
    let world = World::with_conf("bounds: { body_bytes_max: 100000 }\n").await;
    let fits = sized_body(100_000, "m", ModelPlace::First);
    world.gateway.send(&Request::post(CHAT, fits).sending(Sending::Chunked(9000))).await.expect(200);
    world.upstream.forget();
    for place in [ModelPlace::First, ModelPlace::Last] {
        let request = Request::post(CHAT, sized_body(100_001, "m", place));
        world.gateway.send(&request).await.expect(413);
        world.gateway.send(&request.clone().sending(Sending::Chunked(9000))).await.expect(413);
        exchange_h2c(world.gateway.addr, &request.clone().sending(Sending::Chunked(1))).await.expect(413);
        let written = world.gateway.connect().await.send_then_read(&request).await;
        assert_eq!(written.status, 413, "also when the client sends all of it first");
    }
    assert!(world.upstream.received().iter().all(|received| !received.complete));
}

#[tokio::test]
async fn a_client_that_leaves_inside_its_body_takes_the_upstream_along() {
    let world = World::start().await;
    let request = Request::post(CHAT, sized_body(500_000, "m", ModelPlace::First));
    for leave in ["close", "reset"] {
        let mut client = world.gateway.connect().await;
        client.send(&request.wire()[..400_000]).await.unwrap();
        let begun =
            || world.upstream.peek(|received| received.body.len() > 100_000 && !received.complete).unwrap_or(false);
        within(Duration::from_secs(5), "the body at the upstream", begun).await;
        if leave == "reset" {
            client.reset()
        } else {
            drop(client)
        }
        let ended = || world.upstream.last().abandoned.is_some();
        within(Duration::from_secs(3), "the upstream is left too", ended).await;
        assert!(!world.upstream.last().complete);
        world.upstream.forget();
    }
}
