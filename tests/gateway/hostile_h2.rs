//! Hostile input over HTTP/2 with prior knowledge. Rule 26, and the rules for heads where HTTP/2 can break them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::hostile::world;
use crate::support::client::Request;
use crate::support::client_h2::exchange_h2c;
use crate::support::gateway::{Gateway, KEY};
use crate::support::upstream::{Reply, Upstream};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"m"}"#;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection that frames whatever it is told to.
struct Raw(TcpStream);

/// What came back for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered,
    Reset,
    GoneAway,
    Closed,
}

impl Raw {
    async fn connect(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut raw = Self(stream);
        raw.send(&frame(SETTINGS, 0, 0, &[])).await;
        raw
    }

    /// A gateway that has gone away already is what some tests are after.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// How stream 1 ends; an answer ends the wait at its head.
    async fn outcome(&mut self) -> Outcome {
        timeout(Duration::from_secs(8), self.read_outcome()).await.expect("an outcome in time")
    }

    async fn read_outcome(&mut self) -> Outcome {
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).await.is_err() {
                return Outcome::Closed;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if self.0.read_exact(&mut payload).await.is_err() {
                return Outcome::Closed;
            }
            match head[3] {
                HEADERS => return Outcome::Answered,
                RST_STREAM => return Outcome::Reset,
                GOAWAY => return Outcome::GoneAway,
                _ => {}
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Literal fields without indexing or Huffman coding. RFC 7541 section 6.2.2.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |out: &mut Vec<u8>, text: &str| {
        let mut length = text.len();
        if length < 127 {
            out.push(length as u8);
        } else {
            out.push(127);
            length -= 127;
            while length >= 128 {
                out.push((length % 128 + 128) as u8);
                length /= 128;
            }
            out.push(length as u8);
        }
        out.extend(text.as_bytes());
    };
    for (name, value) in fields {
        out.push(0);
        text(&mut out, name);
        text(&mut out, value);
    }
    out
}

/// The fields of a sound request, and these.
fn fields<'a>(bearer: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", CHAT),
        (":authority", "forge.test"),
        ("authorization", bearer),
        ("content-type", "application/json"),
    ];
    for (name, value) in more {
        match fields.iter_mut().find(|(n, _)| name.starts_with(':') && n == name) {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
    }
    fields
}

fn bearer() -> String {
    format!("Bearer {KEY}")
}

#[tokio::test]
async fn rule_26_what_http2_forbids_is_reset_before_dispatch() {
    let (upstream, gateway) = world("").await;
    what_http2_forbids_is_reset(&upstream, gateway.addr).await;
}

/// Sends every head that HTTP/2 forbids, then a sound request.
pub async fn what_http2_forbids_is_reset(upstream: &Upstream, addr: SocketAddr) {
    let bearer = bearer();
    let with = |more: &[(&'static str, &'static str)]| block(&fields(&bearer, more));
    let mut reordered = block(&[("x", "y")]);
    reordered.extend(with(&[]));
    let twice = [with(&[]), block(&[(":path", "/v1/other")])].concat();
    for (what, head) in [
        ("CR LF in a value", with(&[("x", "y\r\nz: 1")])),
        ("LF in a value", with(&[("x", "y\nz")])),
        ("NUL in a value", with(&[("x", "y\0z")])),
        ("CR LF in a path", with(&[(":path", "/v1/x HTTP/1.1\r\nz: 1")])),
        ("a space in a path", with(&[(":path", "/v1/x y")])),
        ("CR LF in the authority", with(&[(":authority", "a\r\nz: 1")])),
        ("CR LF in the method", with(&[(":method", "GET / HTTP/1.1\r\nz: 1")])),
        ("a colon in a name", with(&[("x:y", "z")])),
        ("a space in a name", with(&[("x y", "z")])),
        ("upper case in a name", with(&[("X", "z")])),
        ("connection", with(&[("connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te", with(&[("te", "gzip")])),
        ("another host", with(&[("host", "evil.test")])),
        ("a pseudo field after others", reordered),
        ("a pseudo field twice", twice),
        ("an unknown pseudo field", with(&[(":x", "y")])),
    ] {
        let mut raw = Raw::connect(addr).await;
        raw.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
        raw.send(&frame(DATA, END_STREAM, 1, BODY.as_bytes())).await;
        let outcome = raw.outcome().await;
        // A stream that the engine answers itself is answered 400, and nothing is dispatched either.
        assert!(outcome != Outcome::Closed, "{what}");
        assert_eq!(upstream.count(), 0, "{what}: {outcome:?}");
    }
    exchange_h2c(addr, &Request::post(CHAT, BODY)).await.expect(200);
    assert!(upstream.only().faults.is_empty());
}

#[tokio::test]
async fn rule_26_a_length_that_does_not_match_never_makes_a_whole_request() {
    let (upstream, gateway) = world("").await;
    let bearer = bearer();
    for length in ["5", "14", "99999"] {
        let head = block(&fields(&bearer, &[("content-length", length)]));
        let mut raw = Raw::connect(gateway.addr).await;
        raw.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
        raw.send(&frame(DATA, END_STREAM, 1, BODY.as_bytes())).await;
        let outcome = raw.outcome().await;
        assert!(outcome != Outcome::Closed, "content-length {length}: {outcome:?}");
        assert!(upstream.received().iter().all(|received| !received.complete), "content-length {length}");
    }
}

#[tokio::test]
async fn rules_3_4_5_hold_for_heads_over_http2() {
    let (upstream, gateway) = world("").await;
    heads_are_held_to_the_rules(&upstream, gateway.addr).await;
}

/// Sends heads over HTTP/2 that break the rules for all heads.
pub async fn heads_are_held_to_the_rules(upstream: &Upstream, addr: SocketAddr) {
    let many: Vec<(String, String)> = (0..101).map(|n| (format!("x-{n}"), "y".to_owned())).collect();
    let large = "y".repeat(40 << 10);
    let plain = Request::post(CHAT, BODY);
    for (status, request) in [
        (400, plain.clone().header("x_y", "z")),
        (400, Request { target: format!("{CHAT}?%00"), ..plain.clone() }),
        (414, Request { target: format!("{CHAT}?{}", "a".repeat(8 << 10)), ..plain.clone() }),
        (405, Request { method: "TRACE".into(), body: Default::default(), ..plain.clone() }),
        (405, Request { method: "PUT".into(), ..plain.clone() }),
        (400, Request { method: "A".repeat(33), ..plain.clone() }),
        (431, Request { headers: [plain.headers.clone(), many].concat(), ..plain.clone() }),
        (431, plain.clone().header("x", &large)),
    ] {
        let answer = exchange_h2c(addr, &request).await;
        assert_eq!(answer.status, status, "{} {}", request.method, &request.target[..request.target.len().min(60)]);
        assert_eq!(upstream.count(), 0);
    }
}

#[tokio::test]
async fn rule_26_a_hundred_streams_and_no_more() {
    let (upstream, gateway) = world("bounds: { h2_streams_max: 5 }\n").await;
    upstream.otherwise(Reply::hang());
    let bearer = bearer();
    let head = block(&fields(&bearer, &[]));
    let mut raw = Raw::connect(gateway.addr).await;
    for n in 0..8 {
        raw.send(&frame(HEADERS, END_HEADERS, 1 + 2 * n, &head)).await;
        raw.send(&frame(DATA, END_STREAM, 1 + 2 * n, BODY.as_bytes())).await;
    }
    assert_eq!(raw.outcome().await, Outcome::Reset, "the sixth stream");
    crate::support::eventually("five at the provider", || upstream.count() == 5).await;
}

/// A canary on a connection of its own is answered at once.
async fn canary(gateway: &Gateway) {
    let asked = Instant::now();
    gateway.get("/v1/models").await.expect(200);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn rule_26_rapid_resets_are_survived() {
    let (_upstream, gateway) = world("").await;
    let bearer = bearer();
    let head = block(&fields(&bearer, &[]));
    gateway.get("/v1/models").await.expect(200);
    let before = gateway.resident_bytes();
    let mut raw = Raw::connect(gateway.addr).await;
    let mut sent = 0;
    for n in 0..20_000_u32 {
        let stream = 1 + 2 * n;
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &head);
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        let Ok(true) = timeout(Duration::from_secs(2), raw.send(&bytes)).await else { break };
        sent += 1;
        if n % 5_000 == 4_999 {
            canary(&gateway).await;
        }
    }
    canary(&gateway).await;
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes after {sent} streams");
}

#[tokio::test]
async fn rule_26_a_client_may_cancel_so_many_streams_and_no_more() {
    let (upstream, gateway) = world("bounds: { h2_resets_max: 50 }\n").await;
    upstream.otherwise(Reply::hang());
    let bearer = bearer();
    let head = block(&fields(&bearer, &[("content-length", "13")]));
    let mut raw = Raw::connect(gateway.addr).await;
    for n in 0..500_u32 {
        let stream = 1 + 2 * n;
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &head);
        bytes.extend(frame(DATA, END_STREAM, stream, BODY.as_bytes()));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        if !raw.send(&bytes).await {
            break;
        }
        // Slowly enough that each stream is begun before it is cancelled.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut space = [0; 4096];
    let closed =
        timeout(Duration::from_secs(5), async { while !matches!(raw.0.read(&mut space).await, Ok(0) | Err(_)) {} });
    closed.await.expect("the connection is closed");
    assert_eq!(gateway.metric("forge_http2_resets_exceeded_total", &[]).await, 1.0);
    assert!(upstream.count() <= 51, "{} reached the provider", upstream.count());
    canary(&gateway).await;
    upstream.otherwise(Reply::ok());
    exchange_h2c(gateway.addr, &Request::post(CHAT, BODY)).await.expect(200);
}

#[tokio::test]
async fn rule_26_continuation_floods_are_survived() {
    let (upstream, gateway) = world("").await;
    let bearer = bearer();
    let head = block(&fields(&bearer, &[]));
    let field = block(&[("x", &"y".repeat(8_000))]);
    gateway.get("/v1/models").await.expect(200);
    let before = gateway.resident_bytes();
    for payload in [&field[..], b""] {
        let mut raw = Raw::connect(gateway.addr).await;
        raw.send(&frame(HEADERS, 0, 1, &head)).await;
        for _ in 0..20_000 {
            let sent = timeout(Duration::from_secs(2), raw.send(&frame(CONTINUATION, 0, 1, payload))).await;
            if sent != Ok(true) {
                break;
            }
        }
        canary(&gateway).await;
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 50 << 20, "{grown} bytes");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn rule_19_a_silent_http2_connection_is_closed() {
    let (_upstream, gateway) = world("bounds: { keepalive: 1s, header_timeout: 500ms }\n").await;
    let bearer = bearer();
    let head = block(&fields(&bearer, &[]));
    for begun in [&b""[..], &frame(HEADERS, 0, 1, &head), &frame(HEADERS, 0, 1, &head)[..20]] {
        let mut raw = Raw::connect(gateway.addr).await;
        raw.send(begun).await;
        let outcome = timeout(Duration::from_secs(5), raw.read_outcome()).await.expect("closed in time");
        assert!(matches!(outcome, Outcome::Closed | Outcome::GoneAway), "{outcome:?}");
    }
}

#[tokio::test]
async fn rule_19_a_stalled_http2_body_is_a_408() {
    let (upstream, gateway) = world("bounds: { body_stall: 500ms }\n").await;
    let bearer = bearer();
    let mut raw = Raw::connect(gateway.addr).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields(&bearer, &[])))).await;
    raw.send(&frame(DATA, 0, 1, b"{")).await;
    assert_eq!(raw.outcome().await, Outcome::Answered);
    assert_eq!(upstream.count(), 0);
    let line = gateway.access_line("request_timeout").await;
    assert!(line.contains("status=408"), "{line}");
}
