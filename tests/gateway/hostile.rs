//! Hostile input over HTTP/1.1: each test names the rule it proves. What counts is what reaches the provider:
//! exactly one well-formed request, or none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::{Client, Request};
use crate::support::gateway::{Gateway, KEY, PROVIDER_KEY, Setup, routes};
use crate::support::upstream::{Reply, Step, Upstream};
use crate::support::wire::Framing;
use crate::support::{PATIENCE, within};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"m"}"#;

/// A gateway with one provider, and these lines of forge.yaml.
pub async fn world(conf: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let port = upstream.port();
    let text = format!(
        "providers:\n  up: {{ dialect: openai, url: \"http://127.0.0.1:{port}/v1\", key: \"plain:{PROVIDER_KEY}\" }}\n\
         models:\n  m: up/upstream-name\n"
    );
    let setup = Setup { routes: routes(&text), conf: conf.to_owned(), ..Setup::default() };
    (upstream, Gateway::start_with(setup).await)
}

/// Everything the gateway says to these bytes until it closes; `None` when it does not close.
async fn said(gateway: &Gateway, bytes: &[u8]) -> Option<String> {
    said_at(gateway.addr, bytes).await
}

/// As [`said`], of whoever listens there.
pub async fn said_at(addr: SocketAddr, bytes: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // A gateway that has heard enough may close while this is being sent.
    let _ = stream.write_all(bytes).await;
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> Option<String> {
    let mut all = Vec::new();
    let read = timeout(Duration::from_secs(8), async {
        let mut space = [0; 4096];
        loop {
            match stream.read(&mut space).await {
                Ok(0) => return true,
                Ok(length) => all.extend_from_slice(&space[..length]),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&all)),
            }
        }
    });
    read.await.is_ok().then(|| String::from_utf8_lossy(&all).into_owned())
}

/// The status lines in what was said.
fn statuses(said: &str) -> Vec<u16> {
    said.match_indices("HTTP/1.1 ").filter_map(|(at, _)| said.get(at + 9..at + 12)?.parse().ok()).collect()
}

/// A POST whose field lines and body these are, the credentials apart.
fn post(fields: &str, body: &str) -> String {
    format!(
        "POST {CHAT} HTTP/1.1\r\nHost: forge.test\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\n{fields}\r\n\r\n{body}"
    )
}

fn sized(body: &str) -> String {
    post(&format!("Content-Length: {}", body.len()), body)
}

/// A sound request whose request line this is.
fn line(line: &str) -> String {
    sized(BODY).replace(&format!("POST {CHAT} HTTP/1.1"), line)
}

/// A request with another value in place of its Host line.
fn host(lines: &str) -> String {
    sized(BODY).replace("Host: forge.test\r\n", lines)
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

/// What must be refused before anyone but the edge looks at it: rule, status, bytes.
fn refused() -> Vec<(u8, u16, String)> {
    [refused_framing(), refused_lines(), refused_fields()].concat()
}

fn refused_framing() -> Vec<(u8, u16, String)> {
    let te = "Transfer-Encoding: chunked";
    let body = format!("d\r\n{BODY}\r\n0\r\n\r\n");
    let both = |fields: &str| post(fields, &body);
    let cl = |value: &str| post(&format!("Content-Length:{value}"), BODY);
    vec![
        (1, 400, both(&format!("Content-Length: 13\r\n{te}"))),
        (1, 400, both(&format!("{te}\r\nContent-Length: 13"))),
        (1, 400, both(&format!("Content-Length: 0\r\n{te}"))),
        (1, 400, cl(" 13\r\nContent-Length: 13")),
        (1, 400, cl(" 13\r\nContent-Length: 0")),
        (1, 400, cl(" 0\r\ncontent-length: 13")),
        (1, 400, cl(" 13, 13")),
        (1, 400, cl(" 13,0")),
        (1, 400, cl(" +13")),
        (1, 400, cl(" -13")),
        (1, 400, cl(" 0x0d")),
        (1, 400, cl(" 13a")),
        (1, 400, cl(" 1 3")),
        (1, 400, cl(" 13.0")),
        (1, 400, cl(" \"13\"")),
        (1, 400, cl("")),
        (1, 400, cl(" 0000000000000000013")),
        (1, 400, cl(" 18446744073709551629")),
        (1, 400, both("Transfer-Encoding: chunked, chunked")),
        (1, 400, both(&format!("{te}\r\n{te}"))),
        (1, 400, both(&format!("{te}\r\nTransfer-Encoding: identity"))),
        (1, 400, both("Transfer-Encoding: identity, chunked")),
        (1, 400, both("Transfer-Encoding: gzip, chunked")),
        (1, 400, both("Transfer-Encoding: chunked, gzip")),
        (1, 400, both("Transfer-Encoding: xchunked")),
        (1, 400, both("Transfer-Encoding: chunkedx")),
        (1, 400, both("Transfer-Encoding: 'chunked'")),
        (1, 400, both("Transfer-Encoding: chunked;a=b")),
        (1, 400, both("Transfer-Encoding:\u{b}chunked")),
        (1, 400, both("Transfer-Encoding:")),
        (1, 400, both(te).replace("HTTP/1.1", "HTTP/1.0")),
        (5, 400, both("Transfer-Encoding : chunked")),
        (5, 400, both("Transfer-Encoding:\r\n chunked")),
        (5, 400, both("Transfer_Encoding: chunked")),
        (5, 400, both("X: y\nTransfer-Encoding: chunked")),
        (5, 400, both("X: y\rTransfer-Encoding: chunked")),
    ]
}

fn refused_lines() -> Vec<(u8, u16, String)> {
    vec![
        (3, 400, line(&format!("POST {CHAT}#x HTTP/1.1"))),
        (3, 400, line("POST /v1\\chat\\completions HTTP/1.1")),
        (3, 400, line(&format!("POST {CHAT}%00 HTTP/1.1"))),
        (3, 400, line(&format!("POST http://forge.test{CHAT} HTTP/1.1"))),
        (3, 400, line("POST * HTTP/1.1")),
        (3, 400, line(&format!("POST {CHAT}\u{e9} HTTP/1.1"))),
        (3, 400, line(&format!("POST {CHAT}\t HTTP/1.1"))),
        (3, 400, line(&format!("POST  {CHAT} HTTP/1.1"))),
        (3, 400, line(&format!("POST {CHAT} HTTP/1.1 "))),
        (3, 400, line(&format!("POST {CHAT} HTTP/1.2"))),
        (3, 400, line(&format!("POST {CHAT} HTTP/3.0"))),
        (3, 400, line(&format!("POST {CHAT}"))),
        (3, 400, line(&format!("{} {CHAT} HTTP/1.1", "A".repeat(33)))),
        (3, 400, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_owned()),
        (3, 414, line(&format!("POST {CHAT}?{} HTTP/1.1", "a".repeat(8 << 10)))),
        (3, 405, line(&format!("TRACE {CHAT} HTTP/1.1"))),
        (3, 405, line("CONNECT forge.test:443 HTTP/1.1")),
    ]
}

fn refused_fields() -> Vec<(u8, u16, String)> {
    let field = |field: &str| post(&format!("{field}\r\nContent-Length: 13"), BODY);
    let long = |bytes: usize| "a".repeat(bytes);
    vec![
        (4, 400, host("")),
        (4, 400, host("Host: forge.test\r\nHost: forge.test\r\n")),
        (4, 400, host("Host: forge.test\r\nhost: evil.test\r\n")),
        (4, 400, host("Host:\r\n")),
        (4, 400, host("Host: a@forge.test\r\n")),
        (4, 400, host("Host: forge.test, evil.test\r\n")),
        (4, 400, host("Host: forge.test:80a\r\n")),
        (4, 400, host("Host: forge.test/v1\r\n")),
        (5, 400, field("x_y: z")),
        (5, 400, field("x: y\u{0}z")),
        (5, 400, field("x: y\u{7f}z")),
        (5, 400, field("x\u{0}: y")),
        (5, 400, field("x y: z")),
        (5, 400, field(": y")),
        (5, 400, field("no colon")),
        (5, 400, field("x: y\r\n z")),
        (5, 431, field(&format!("x: {}", long(33 << 10)))),
        (5, 431, field(&["a: b"; 100].join("\r\n"))),
        (
            5,
            431,
            field(
                &[format!("a: {}", long(30 << 10)), format!("b: {}", long(30 << 10)), format!("c: {}", long(8 << 10))]
                    .join("\r\n"),
            ),
        ),
    ]
}

#[tokio::test]
async fn rules_1_3_4_5_refused_heads_reach_nobody_and_nothing_after_them_does() {
    let (upstream, gateway) = world("").await;
    refused_heads_reach_nobody(&upstream, gateway.addr).await;
    gateway.post(CHAT, BODY).await.expect(200);
    assert_eq!(upstream.only().faults, Vec::<String>::new());
}

/// Sends every head that must be refused, each with a sound request behind it.
pub async fn refused_heads_reach_nobody(upstream: &Upstream, addr: SocketAddr) {
    for (rule, status, bytes) in refused() {
        let smuggled = sized(BODY);
        let shown: String = bytes.chars().take(300).collect();
        let said = said_at(addr, format!("{bytes}{smuggled}").as_bytes()).await;
        let said = said.unwrap_or_else(|| panic!("rule {rule}: not closed after {shown:?}"));
        assert_eq!(statuses(&said), [status], "rule {rule}: {shown:?}\n{said}");
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        for wanted in ["connection: close", "x-request-id: req_", "request-id: req_", "content-type: application/json"]
        {
            assert!(head.contains(wanted), "rule {rule}: {wanted} in {head}");
        }
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["type"], "invalid_request_error", "{body}");
        assert_eq!(upstream.count(), 0, "rule {rule}: {shown:?} reached the provider");
    }
}

#[tokio::test]
async fn a_refusal_by_the_edge_is_logged_counted_and_in_the_dialect_of_its_path() {
    let (_upstream, gateway) = world("").await;
    let bytes = "POST /v1/messages?x=y HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n";
    let said = said(&gateway, bytes.as_bytes()).await.unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["type"], "invalid_request_error");
    let id = body["request_id"].as_str().unwrap();
    assert!(head.contains(&format!("request-id: {id}")), "{head} {id}");
    let line = gateway.access_line(id).await;
    assert!(line.contains("status=400") && line.contains("endpoint=messages"), "{line}");
    assert_eq!(gateway.metric("forge_errors_total", &["messages", "invalid_request"]).await, 1.0);
}

/// Sound forms that a careless gateway refuses or forwards wrongly.
#[tokio::test]
async fn rule_2_sound_requests_arrive_as_one_well_formed_request() {
    let (upstream, gateway) = world("").await;
    let body = format!("d\r\n{BODY}\r\n0\r\n\r\n");
    for bytes in [
        sized(BODY),
        "\r\n".to_owned() + &sized(BODY),
        post("Content-Length: 000000000000000013", BODY),
        post("content-length:13", BODY),
        post("Transfer-Encoding: Chunked", &body),
        chunked(&format!("00d;ext=\"a;b\"\r\n{BODY}\r\n000\r\nX-Trailer: y\r\nContent-Length: 99\r\n\r\n")),
        chunked(
            &BODY.chars().map(|byte| format!("1\r\n{byte}\r\n")).chain(["0\r\n\r\n".to_owned()]).collect::<String>(),
        ),
        sized(BODY).replace("Host", "hOST"),
        post("Content-Length: 13\r\nX: \u{e4}\t y", BODY),
        post("Content-Length: 13\r\nsession_id: 1\r\nConversation_ID: 2", BODY),
        post(&format!("Content-Length: 13\r\nX: {}", "a".repeat(30 << 10)), BODY),
        post("Connection: close, x-secret\r\nX-Secret: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nContent-Length: 13", BODY),
    ] {
        upstream.forget();
        let mut client = gateway.connect().await;
        client.send(bytes.as_bytes()).await.unwrap();
        client.read().await.unwrap().expect(200);
        let received = upstream.only();
        assert!(received.complete && received.faults.is_empty(), "{bytes:?}: {:?}", received.faults);
        assert_eq!(received.text(), BODY.replace("\"m\"", "\"upstream-name\""), "{bytes:?}");
        let framed = received.head.all("content-length").len() + received.head.all("transfer-encoding").len();
        assert_eq!(framed, 1, "{:?}", received.head.fields);
        for hop in ["connection", "te", "keep-alive", "x-secret", "x-trailer", "trailer"] {
            assert_eq!(received.header(hop), None, "rule 6: {hop}");
        }
    }
}

/// Bodies whose chunks are malformed; `{}` stands where the sound part is.
const BAD_CHUNKS: [&str; 20] = [
    "{}\r\nhello\r\n0\r\n\r\n",
    "{};a=b\r\nhello\r\n0\r\n\r\n",
    "{}5;a\nb\r\nhello\r\n0\r\n\r\n",
    "{}5\nhello\r\n0\r\n\r\n",
    "{}5\rhello\r\n0\r\n\r\n",
    "{}5\r\nhell\r\n0\r\n\r\n",
    "{}5\r\nhelloo\r\n0\r\n\r\n",
    "{}5\r\nhello\r\n\r\n0\r\n\r\n",
    "{}\r\n0\r\n\r\n",
    "{}0x5\r\nhello\r\n0\r\n\r\n",
    "{}-5\r\nhello\r\n0\r\n\r\n",
    "{}+5\r\nhello\r\n0\r\n\r\n",
    "{} 5\r\nhello\r\n0\r\n\r\n",
    "{}5 \r\nhello\r\n0\r\n\r\n",
    "{}g\r\nhello\r\n0\r\n\r\n",
    "{}ffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
    "{}0\r\n\n",
    "{}0\r\nx\r\n\r\n",
    "{}0\r\nx : y\r\n\r\n",
    "{}0\r\nx: \0\r\n\r\n",
];

#[tokio::test]
async fn rules_1_8_a_malformed_body_is_the_clients_400_wherever_it_is_found() {
    let (upstream, gateway) = world("").await;
    malformed_bodies_are_the_clients_400(&upstream, gateway.addr).await;
}

/// Sends every malformed body, each with a sound request behind it.
pub async fn malformed_bodies_are_the_clients_400(upstream: &Upstream, addr: SocketAddr) {
    let padding = format!("{{\"model\":\"m\",\"x\":\"{}", "y".repeat(200_000));
    let sound = [
        String::new(),
        "5\r\n{\"mod\r\n".to_owned(),
        format!("{:x}\r\n{padding}\r\n", padding.len()),
        format!("d\r\n{BODY}\r\n"),
    ];
    for (bad, sound) in BAD_CHUNKS.iter().flat_map(|bad| sound.iter().map(move |sound| (bad, sound))) {
        let bytes = chunked(&bad.replace("{}", sound)) + &sized(BODY);
        let said = said_at(addr, bytes.as_bytes()).await;
        let said = said.unwrap_or_else(|| panic!("not closed after {bad:?}"));
        assert_eq!(statuses(&said), [400], "{bad:?} after {} bytes\n{said}", sound.len());
        assert!(said.contains("invalid_request") || said.contains("invalid_json"), "{said}");
        // Where the JSON is at fault first, the answer is on its way before the framing is seen to be.
        let told = said.to_ascii_lowercase().contains("connection: close");
        assert!(told || said.contains("invalid_json"), "{bad:?}: {said}");
    }
    assert!(upstream.received().iter().all(|received| !received.complete), "a provider holds a whole request");
}

#[tokio::test]
async fn rule_1_a_body_cut_short_is_a_400_and_never_whole_at_the_provider() {
    let (upstream, gateway) = world("").await;
    for bytes in
        [post("Content-Length: 99", BODY), chunked("d\r\n{\"model\":\"m\"}\r\n"), chunked("ff\r\n{\"model\":\"m\"")]
    {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let said = read_to_end(&mut stream).await.expect("closed");
        assert!(matches!(statuses(&said)[..], [] | [400]), "{bytes:?}: {said}");
    }
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX: ").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut stream).await.unwrap()), [400]);
    assert!(upstream.received().iter().all(|received| !received.complete));
}

#[tokio::test]
async fn rule_8_pipelined_requests_are_answered_in_order_however_many() {
    let (upstream, gateway) = world("").await;
    pipelined_requests_are_answered_in_order(&upstream, gateway.addr).await;
}

/// Sends forty requests at once, and in pieces.
pub async fn pipelined_requests_are_answered_in_order(upstream: &Upstream, addr: SocketAddr) {
    let padding = "x".repeat(700);
    let bodies: Vec<String> = (0..40).map(|n| format!("{{\"model\":\"m\",\"n\":{n},\"x\":\"{padding}\"}}")).collect();
    let bytes: String = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| match n % 3 {
            0 => sized(body),
            1 => chunked(&format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())),
            _ => format!("GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n\r\n"),
        })
        .collect();
    for piece_bytes in [bytes.len(), 5000, 97] {
        upstream.forget();
        let mut client = Client::connect(addr).await;
        for piece in bytes.as_bytes().chunks(piece_bytes) {
            client.send(piece).await.unwrap();
        }
        for n in 0..bodies.len() {
            let response = client.read().await.unwrap().expect(200);
            assert_eq!(response.text().contains("\"object\":\"list\""), n % 3 == 2, "answer {n}");
        }
        let received = upstream.received();
        let wanted = bodies.iter().enumerate().filter(|(n, _)| n % 3 != 2).map(|(_, body)| body);
        assert!(received.iter().map(|r| r.text()).eq(wanted.map(|body| body.replace("\"m\"", "\"upstream-name\""))));
        assert!(received.iter().all(|r| r.faults.is_empty()));
    }
}

#[tokio::test]
async fn rules_7_8_a_bad_request_behind_a_good_one_ends_the_connection_after_it() {
    let (upstream, gateway) = world("").await;
    let bytes = [
        sized(BODY),
        sized(BODY).replace("Content-Length: 13", "Content-Length: 13\r\nContent-Length: 0"),
        sized(BODY),
    ];
    let said = said(&gateway, bytes.concat().as_bytes()).await.expect("closed");
    assert_eq!(statuses(&said), [200, 400]);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn rule_7_nothing_is_processed_after_connection_close() {
    let (upstream, gateway) = world("").await;
    for fields in ["Connection: close", "Connection: x\r\nConnection: close", "Connection: keep-alive, close"] {
        upstream.forget();
        let last = post(&format!("{fields}\r\nContent-Length: 13"), BODY);
        let said = said(&gateway, (last + &sized(BODY)).as_bytes()).await.expect("closed");
        assert_eq!(statuses(&said), [200], "{fields}");
        assert_eq!(upstream.count(), 1, "{fields}");
    }
}

#[tokio::test]
async fn rule_7_continue_comes_at_once_and_never_to_http_1_0() {
    let (upstream, gateway) = world("").await;
    let head = post("Expect: 100-continue\r\nContent-Length: 13", "");
    let mut client = gateway.connect().await;
    client.send(head.as_bytes()).await.unwrap();
    let asked = Instant::now();
    assert_eq!(client.read_head().await.unwrap().status, 100);
    assert!(asked.elapsed() < Duration::from_secs(3));
    client.send(BODY.as_bytes()).await.unwrap();
    client.read().await.unwrap().expect(200);
    assert_eq!(upstream.only().header("expect"), None);

    let old = head.replace("HTTP/1.1", "HTTP/1.0");
    let said = said(&gateway, (old + BODY).as_bytes()).await.expect("closed");
    assert_eq!(statuses(&said), [200], "{said}");
}

/// Switches protocols whether asked or not, and sends back what comes.
fn switching() -> Reply {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    Reply::steps([Step::Raw(head.into()), Step::EchoBytes])
}

#[tokio::test]
async fn rule_6_only_a_websocket_route_switches_protocols() {
    let (upstream, gateway) = world("").await;
    upstream.otherwise(switching());
    let asks = post("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 13", BODY);
    let mut client = gateway.connect().await;
    client.send((asks + &sized(BODY)).as_bytes()).await.unwrap();
    let answer = client.read_head().await.unwrap();
    assert_eq!(answer.status, 500, "{:?}", answer.head);
    assert_eq!(upstream.count(), 1, "what follows was taken for bytes of a tunnel");
}

#[tokio::test]
async fn rule_6_a_websocket_passes_both_ways_also_what_was_sent_early() {
    let (upstream, gateway) = world("").await;
    upstream.otherwise(switching());
    let mut client = gateway.connect().await;
    let head = format!(
        "GET /v1/realtime?model=m HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly"
    );
    client.send(head.as_bytes()).await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 101);
    assert_eq!(client.read_exactly(5).await, b"early");
    for _ in 0..3 {
        client.send(b"GET / HTTP/1.1\n\0").await.unwrap();
        assert_eq!(client.read_exactly(16).await, b"GET / HTTP/1.1\n\0");
    }
}

#[tokio::test]
async fn rule_19_a_head_must_be_whole_in_time_from_its_first_byte() {
    let (upstream, gateway) = world("bounds:\n  header_timeout: 600ms\n  keepalive: 2s\n").await;
    let bytes = sized(BODY);
    for sent_first in [&b"P"[..], b"POST /v1/chat", &sized(BODY).into_bytes()] {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        let mut expected = vec![408];
        if sent_first.len() > 100 {
            stream.write_all(sent_first).await.unwrap();
            expected.insert(0, 200);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let began = Instant::now();
        let drip = async {
            for byte in bytes.as_bytes() {
                if stream.write_all(&[*byte]).await.is_err() || began.elapsed() > Duration::from_secs(1) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        drip.await;
        let said = read_to_end(&mut stream).await.expect("closed");
        assert_eq!(statuses(&said), expected, "{said}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn rule_19_an_idle_connection_is_closed() {
    let (_upstream, gateway) = world("bounds: { keepalive: 1s }\n").await;
    let mut silent = gateway.connect().await;
    let mut used = gateway.connect().await;
    used.exchange(&Request::post(CHAT, BODY)).await.expect(200);
    assert!(silent.closed_within(Duration::from_secs(3)).await);
    assert!(used.closed_within(Duration::from_secs(3)).await);
}

#[tokio::test]
async fn rule_19_a_body_must_not_stall_nor_drip() {
    let (upstream, gateway) = world("bounds: { body_stall: 500ms, body_grace: 1s, body_rate_min: 1KiB }\n").await;
    for step in [Duration::from_secs(60), Duration::from_millis(200)] {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(post("Content-Length: 5000", "{").as_bytes()).await.unwrap();
        let began = Instant::now();
        let (mut reader, mut writer) = stream.split();
        let drip = async {
            loop {
                tokio::time::sleep(step).await;
                let _ = writer.write_all(b" ").await;
            }
        };
        let mut space = [0; 4096];
        let read = tokio::select! {
            read = reader.read(&mut space) => read.unwrap(),
            () = drip => unreachable!(),
        };
        assert_eq!(statuses(&String::from_utf8_lossy(&space[..read])), [408], "a byte each {step:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn rule_19_a_client_that_takes_nothing_is_given_up() {
    let (upstream, gateway) = world("bounds: { write_stall: 500ms }\n").await;
    let piece = Step::Data(vec![b'x'; 1 << 20].into());
    let endless = (0..64)
        .fold(Reply::steps([Step::ReadBody, Step::Head(200, Vec::new(), Framing::Chunked)]), |reply, _| {
            reply.then(piece.clone())
        });
    upstream.otherwise(endless.then(Step::Hang));
    let mut client = gateway.connect().await;
    client.send(sized(BODY).as_bytes()).await.unwrap();
    within(Duration::from_secs(10), "the provider is let go", || {
        upstream.count() == 1 && upstream.last().abandoned.is_some()
    })
    .await;
}

#[tokio::test]
async fn rule_21_connections_are_bounded_and_the_others_stay_unharmed() {
    for conf in [
        "bounds: { connections_max: 10, connections_per_address_max: 10 }\n",
        "bounds: { connections_max: 100, connections_per_address_max: 10 }\n",
    ] {
        let (_upstream, gateway) = world(conf).await;
        // Whoever looked whether the gateway is ready has left once this is answered.
        gateway.post(CHAT, BODY).await.expect(200);
        open_connections(&gateway, 0.0).await;
        let mut held = Vec::new();
        for _ in 0..10 {
            let mut client = gateway.connect().await;
            client.exchange(&Request::post(CHAT, BODY)).await.expect(200);
            held.push(client);
        }
        for _ in 0..5 {
            let mut client = gateway.connect().await;
            let refused = client.exchange(&Request::post(CHAT, BODY)).await.expect(503);
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert_eq!(refused.code(), "overloaded");
        }
        for client in &mut held {
            client.exchange(&Request::post(CHAT, BODY)).await.expect(200);
        }
        assert_eq!(gateway.metric("forge_client_connections_refused_total", &[]).await, 5.0);
        assert_eq!(gateway.metric("forge_client_connections", &[]).await, 10.0);
        held.pop();
        open_connections(&gateway, 9.0).await;
        gateway.post(CHAT, BODY).await.expect(200);
    }
}

/// Waits until so many client connections are open.
async fn open_connections(gateway: &Gateway, count: f64) {
    let began = Instant::now();
    while gateway.metric("forge_client_connections", &[]).await != count {
        assert!(began.elapsed() < PATIENCE, "never {count} connections");
    }
}

#[tokio::test]
async fn rule_21_running_out_of_descriptors_is_survived() {
    let (_upstream, gateway) = world("").await;
    gateway.post(CHAT, BODY).await.expect(200);
    let pid = i32::try_from(gateway.pid()).unwrap();
    // Files and sockets of its own, and a few for clients.
    let in_use = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let few = rlimit::getrlimit(rlimit::Resource::NOFILE).map(|(_, hard)| (in_use + 40, hard)).unwrap();
    rlimit::prlimit(pid, rlimit::Resource::NOFILE, Some(few), None).unwrap();
    let mut hoard = Vec::new();
    for _ in 0..200 {
        hoard.push(TcpStream::connect(gateway.addr).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(hoard);
    let freed = Instant::now();
    let request = Request::post(CHAT, BODY);
    let answered = timeout(Duration::from_secs(5), async { while gateway.send(&request).await.status != 200 {} });
    answered.await.unwrap_or_else(|_| panic!("not recovered after {:?}", freed.elapsed()));
}

#[tokio::test]
async fn rule_21_five_thousand_idle_connections_hold_nobody_up() {
    const IDLE: usize = 5_000;
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let (_upstream, gateway) = world("").await;
    let mut idle = Vec::with_capacity(IDLE);
    for n in 0..IDLE {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        if n % 2 == 0 {
            // Half of them have begun a request.
            stream.write_all(b"POST /v1/chat/completions HT").await.unwrap();
        }
        idle.push(stream);
    }
    let asked = Instant::now();
    gateway.post(CHAT, BODY).await.expect(200);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let each = gateway.resident_bytes() / IDLE as u64;
    assert!(each < 64 << 10, "{each} bytes a connection");
}

#[tokio::test]
async fn garbage_is_answered_or_dropped_and_never_hangs() {
    let (upstream, gateway) = world("bounds: { header_timeout: 500ms, keepalive: 1s }\n").await;
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for bytes in [
        &b"\0\0\0\0"[..],
        tls_hello,
        b"\r\n\r\n\r\n",
        b"GET",
        b"PRI * HTTP/2.0\r\n\r\nS",
        b"\xff\xfe",
        b"GET / HTTP/1.0\r\n\r\n",
    ] {
        assert!(said(&gateway, bytes).await.is_some(), "{bytes:?}");
    }
    assert_eq!(upstream.count(), 0);
    open_connections(&gateway, 0.0).await;
    gateway.post(CHAT, BODY).await.expect(200);
}
