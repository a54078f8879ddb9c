//! The harness itself, without a gateway: an upstream that lies would make every other test worthless.

use std::time::Duration;

use crate::support::client::{Client, Request, Sending};
use crate::support::client_h2::exchange_h2c;
use crate::support::eventually;
use crate::support::upstream::{Accept, Blackhole, Gate, Refusing, Reply, Step, Upstream, sse_event};
use crate::support::wire::Framing;

#[tokio::test]
async fn an_upstream_records_what_arrives_in_every_framing() {
    let upstream = Upstream::start().await;
    let body: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let request = Request::post("/v1/x?y=1", &body);
    for sending in [Sending::Length, Sending::Chunked(777)] {
        Client::connect(upstream.addr).await.exchange(&request.clone().sending(sending)).await.expect(200);
        let received = upstream.last();
        assert!(received.complete && received.faults.is_empty(), "{:?}", received.faults);
        assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/v1/x?y=1"));
        assert!(received.body == body);
    }
    exchange_h2c(upstream.addr, &request).await.expect(200);
    let received = upstream.last();
    assert!(received.complete && received.body == body && received.version == "2");
    assert_eq!(upstream.connections().accepted, 3);
}

#[tokio::test]
async fn an_upstream_notices_bad_grammar() {
    let upstream = Upstream::start().await;
    let bad = [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nhost : a\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;x=y\r\n",
    ];
    for (index, bytes) in bad.iter().enumerate() {
        let mut client = Client::connect(upstream.addr).await;
        client.send(bytes.as_bytes()).await.unwrap();
        eventually("a fault", || upstream.count() > index && !upstream.last().faults.is_empty()).await;
    }
}

#[tokio::test]
async fn an_upstream_misbehaves_as_told() {
    let upstream = Upstream::start().await;
    let gate = Gate::new();
    let request = Request::post("/", "{}");
    upstream.script([
        Reply::reset(),
        Reply::sse_head().then(Step::Data("data: 1\n\n".into())).then(Step::Wait(gate.clone())).then(Step::End),
        Reply::sse([sse_event("1"), sse_event("2")]),
        Reply::hang(),
        Reply::raw("garbage\r\n\r\n"),
    ]);
    let mut client = Client::connect(upstream.addr).await;
    client.send(&request.wire()).await.unwrap();
    client.read().await.unwrap_err();

    let mut client = Client::connect(upstream.addr).await;
    client.send(&request.wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    client.read_until(&mut reading, "data: 1").await;
    gate.open(1);
    assert_eq!(client.next_piece(&mut reading).await, Ok(None));
    assert_eq!(client.exchange(&request).await.expect(200).text(), "data: 1\n\ndata: 2\n\n");

    client.send(&request.wire()).await.unwrap();
    eventually("the hanging request", || upstream.count() == 4 && upstream.last().complete).await;
    drop(client);
    eventually("the upstream notices", || upstream.last().abandoned.is_some()).await;

    let mut client = Client::connect(upstream.addr).await;
    client.send(&request.wire()).await.unwrap();
    assert_eq!(client.read_head().await.unwrap().head.start, "garbage");
}

#[tokio::test]
async fn ports_refuse_reset_and_stay_silent() {
    let refusing = Refusing::new();
    assert!(tokio::net::TcpStream::connect(refusing.addr).await.is_err());
    let blackhole = Blackhole::new().await;
    let patience = Duration::from_millis(200);
    assert!(tokio::time::timeout(patience, tokio::net::TcpStream::connect(blackhole.addr)).await.is_err());
    let upstream = Upstream::start().await;
    upstream.on_accept([Accept::Reset]);
    let mut client = Client::connect(upstream.addr).await;
    let _ = client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.read().await.unwrap_err();
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn an_answer_may_come_before_the_body() {
    let upstream = Upstream::start().await;
    let early = Reply::error(429).header("retry-after", "7").before_body();
    upstream.script([early, Reply::steps([Step::Head(204, Vec::new(), Framing::Empty)])]);
    let mut client = Client::connect(upstream.addr).await;
    let request = Request::post("/", vec![b'x'; 300_000]);
    client.send(&request.head_bytes()).await.unwrap();
    assert_eq!(client.read().await.unwrap().expect(429).header("retry-after"), Some("7"));
    client.send(&request.body).await.unwrap();
    client.exchange(&Request::get("/")).await.expect(204);
    assert!(upstream.received()[0].complete);
}
