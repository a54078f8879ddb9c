//! Answers in odd but lawful forms, answers that come early, and many at once.

use bytes::Bytes;

use crate::support::client::{Request, Sending};
use crate::support::client_h2::{H2Connection, exchange_h2c, try_exchange_h2c};
use crate::support::eventually;
use crate::support::gateway::{Gateway, PROVIDER_KEY, routes};
use crate::support::upstream::{Gate, Reply, Step, Upstream, sse_event};
use crate::support::wire::Framing;
use crate::world::{CHAT, MESSAGES, ModelPlace, World, chat, chat_stream, provider, sized_body};

const PLAIN: &str = r#"{"id":"1","model":"upstream-name","ok":true}"#;
/// [`PLAIN`] in gzip.
const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\xca\x4c\x51\xb2\x52\x32\x54\xd2\x51\xca\xcd\x4f\
    \x49\xcd\x01\xb2\x4b\x0b\x8a\x4b\x8a\x52\x13\x73\x75\xf3\x12\x73\x53\x81\xe2\xf9\xd9\x4a\x56\x25\x45\xa5\xa9\xb5\
    \x00\xb7\xa7\x94\x13\x2c\x00\x00\x00";

fn head(content_type: &str, framing: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{framing}\r\n")
}

/// Bytes of an upstream that all mean [`PLAIN`].
fn odd_forms() -> Vec<(&'static str, Vec<u8>)> {
    let length = format!("content-length: {}\r\n", PLAIN.len());
    let whole = head("application/json", &length) + PLAIN;
    let chunks =
        PLAIN.as_bytes().chunks(7).map(|chunk| format!("{:X}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
    let chunked = head("application/json", "Transfer-Encoding: chunked\r\n") + &chunks.collect::<String>();
    let coded = format!("content-encoding: gzip\r\ncontent-length: {}\r\n", GZIP.len());
    vec![
        ("behind 100 Continue", ("HTTP/1.1 100 Continue\r\n\r\n".to_owned() + &whole).into_bytes()),
        ("behind 103 twice", ("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(2) + &whole).into_bytes()),
        ("to the end of the connection", (head("application/json", "connection: close\r\n") + PLAIN).into_bytes()),
        ("in chunks", (chunked.clone() + "0\r\n\r\n").into_bytes()),
        ("in chunks with trailers", (chunked.clone() + "0\r\nx-sum: 1\r\nset-cookie: a=b\r\n\r\n").into_bytes()),
        ("with a charset", whole.replace("json\r\n", "json; charset=utf-8\r\n").into_bytes()),
        (
            "in upper case",
            whole.replace("content-type: application/json", "CONTENT-TYPE: Application/JSON").into_bytes(),
        ),
        ("from HTTP/1.0", (whole.replace("HTTP/1.1", "HTTP/1.0")).into_bytes()),
        ("without a reason", whole.replace("200 OK", "200 ").into_bytes()),
        ("compressed unasked", [head("application/json", &coded).as_bytes(), GZIP].concat()),
    ]
}

#[tokio::test]
async fn every_lawful_form_of_an_answer_is_read() {
    let world = World::start().await;
    for (what, bytes) in odd_forms() {
        world.upstream.script([Reply::raw(&bytes), Reply::raw(&bytes)]);
        let request = Request::post(CHAT, chat("m"));
        for answer in [world.gateway.send(&request).await, exchange_h2c(world.gateway.addr, &request).await] {
            assert_eq!(answer.text(), PLAIN.replace("upstream-name", "m"), "{what}: {}", answer.status);
            assert!(answer.status == 200 && answer.faults.is_empty(), "{what}: {:?}", answer.faults);
            assert_eq!((answer.header("set-cookie"), answer.header("content-encoding")), (None, None), "{what}");
        }
    }
}

#[tokio::test]
async fn every_lawful_form_of_a_stream_is_read() {
    let world = World::start().await;
    let event = r#"{"model":"upstream-name","choices":[{"delta":{"content":"x"}}]}"#;
    let named = event.replace("upstream-name", "m");
    let long = format!(r#"{{"pad":"{}","model":"upstream-name"}}"#, "p".repeat(200_000));
    let forms = [
        format!("data: {event}\r\n\r\ndata: [DONE]\r\n\r\n"),
        format!("data:{event}\n\ndata:[DONE]\n\n"),
        format!(": ping\n\n: ping\n\nevent: x\nid: 7\nretry: 10\ndata: {event}\n\n\n\ndata: [DONE]\n\n"),
        format!("\u{feff}data: {event}\n\n"),
        format!("data: {event}\n\ndata: {long}\n\ndata: [DONE]\n\n"),
        format!("data: {event}\n\ndata: [DONE]"),
        "data: no json\n\ndata: [DONE]\n\n".to_owned(),
    ];
    for form in forms {
        world.upstream.script([Reply::sse([&form])]);
        let text = world.gateway.post(CHAT, chat_stream("m")).await.expect(200).text();
        let expected = form.replace(event, &named).replace(r#""model":"upstream-name"}"#, r#""model":"m"}"#);
        assert!(text == expected, "{text:.300} is not {expected:.300}");
    }
    let until_close = head("text/event-stream", "connection: close\r\n") + &sse_event(event) + "data: [DONE]\n\n";
    world.upstream.script([Reply::raw(until_close)]);
    let text = world.gateway.post(CHAT, chat_stream("m")).await.expect(200).text();
    assert_eq!(text, sse_event(&named) + "data: [DONE]\n\n");
}

/// A gateway whose model `m` has a second target.
async fn with_fallback() -> (Upstream, Upstream, Gateway) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let text = format!(
        "providers:\n{}{}{}{}models:\n  m: {{ to: first/x, else: second/x }}\n  claude: {{ to: third/x, else: fourth/x }}\n",
        provider("first", "openai", first.port()),
        provider("second", "openai", second.port()),
        provider("third", "anthropic", first.port()),
        provider("fourth", "anthropic", second.port()),
    );
    let gateway = Gateway::start(&routes(&text)).await;
    (first, second, gateway)
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_event_is_taken_over() {
    let (first, second, gateway) = with_fallback().await;
    let failures = [
        Reply::sse_head().then(Step::Close),
        Reply::sse_head().then(Step::Reset),
        Reply::sse_head().then(Step::Data(": ping\n\n".into())).then(Step::Close),
    ];
    for failure in failures {
        for (target, model) in [(CHAT, "m"), (MESSAGES, "claude")] {
            first.otherwise(failure.clone());
            let whole = "event: x\ndata: {\"type\":\"content_block_delta\",\"choices\":[]}\n\n";
            second.script([Reply::sse([whole])]);
            let answer = gateway.post(target, chat_stream(model)).await.expect(200);
            assert_eq!(answer.text(), whole, "{target} {:?}", failure.steps);
        }
    }
}

#[tokio::test]
async fn a_stream_that_has_begun_is_never_taken_over() {
    let (first, second, gateway) = with_fallback().await;
    let content = sse_event(r#"{"choices":[{"delta":{"content":"x"}}]}"#);
    first.otherwise(Reply::sse_head().then(Step::Data(content.into())).then(Step::Reset));
    let text = gateway.post(CHAT, chat_stream("m")).await.text();
    assert!(text.contains("content") && text.contains("upstream_error") && !text.contains("[DONE]"), "{text}");
    assert_eq!(second.count(), 0);
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_arrives() {
    let world = World::start().await;
    let refusal = Reply::json(400, r#"{"error":{"message":"too early","type":"invalid_request_error"}}"#).before_body();
    for place in [ModelPlace::First, ModelPlace::Last] {
        let request = Request::post(CHAT, sized_body(3 << 20, "m", place));
        world.upstream.script([refusal.clone(), refusal.clone()]);
        for answer in [world.gateway.send(&request).await, world.gateway.connect().await.send_then_read(&request).await]
        {
            assert!(answer.expect(400).text().contains("too early"));
        }
    }
    world.gateway.post(CHAT, chat("m")).await.expect(200);
}

#[tokio::test]
async fn a_provider_that_answers_and_closes_inside_the_body_is_no_hang() {
    let world = World::start().await;
    let refusal = Reply::json(413, r#"{"error":{"message":"too long","type":"invalid_request_error"}}"#);
    world.upstream.otherwise(refusal.before_body().then(Step::Close));
    for _ in 0..3 {
        // The provider's reset may overtake its answer; either way there is one for the client.
        let answer = world.gateway.post(CHAT, sized_body(3 << 20, "m", ModelPlace::First)).await;
        assert!(matches!(answer.status, 413 | 500) && answer.faults.is_empty(), "{}", answer.text());
    }
}

#[tokio::test]
async fn many_requests_at_once_get_their_own_answers() {
    for version in ["1", "2"] {
        let upstream = Upstream::start().await;
        let settings = format!("key: \"plain:{PROVIDER_KEY}\", http: \"{version}\"");
        let text = format!(
            "providers:\n  up: {{ dialect: openai, url: \"http://{}/v1\", {settings} }}\nmodels:\n  m: up/m\n",
            upstream.addr
        );
        let gateway = Gateway::start(&routes(&text)).await;
        upstream.otherwise(Reply::echo());
        let requests = (0..60_usize).map(|index| {
            let body =
                sized_body(500 + index * 3001, "m", if index % 2 == 0 { ModelPlace::First } else { ModelPlace::Last });
            let body = body.replacen('{', &format!("{{\"index\":{index},"), 1);
            let (request, addr) = (Request::post(CHAT, &body), gateway.addr);
            let gateway = &gateway;
            async move {
                let answer =
                    if index % 3 == 0 { exchange_h2c(addr, &request).await } else { gateway.send(&request).await };
                assert!(answer.expect(200).text() == body, "request {index} got another's answer");
            }
        });
        futures::future::join_all(requests).await;
        assert_eq!(gateway.metric("forge_buffered_bytes", &[]).await, 0.0);
    }
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let world = World::start().await;
    world.upstream.otherwise(Reply::echo());
    let connection = H2Connection::open(world.gateway.addr).await.unwrap();
    let requests = (0..30_usize).map(|index| {
        let place = if index % 2 == 0 { ModelPlace::First } else { ModelPlace::Last };
        let body = sized_body(100 + index * 9_001, "m", place).replacen('{', &format!("{{\"index\":{index},"), 1);
        let connection = &connection;
        async move {
            let answer = connection.exchange(&Request::post(CHAT, &body)).await.unwrap().expect(200);
            assert!(answer.text() == body, "request {index} got another's answer");
        }
    });
    futures::future::join_all(requests).await;
}

#[tokio::test]
async fn a_length_that_is_not_true_is_refused_over_http2() {
    let world = World::start().await;
    let body = sized_body(100_000, "m", ModelPlace::First);
    for told in ["99999", "100001", "10"] {
        let request = Request::post(CHAT, &body).header("content-length", told);
        if let Ok(answer) = try_exchange_h2c(world.gateway.addr, &request).await {
            assert_eq!(answer.status, 400, "{told}: {}", answer.text());
        }
        assert!(world.upstream.received().iter().all(|received| !received.complete), "{told} for 100000");
    }
    exchange_h2c(world.gateway.addr, &Request::post(CHAT, &body)).await.expect(200);
}

#[tokio::test]
async fn a_large_answer_is_not_gathered() {
    let world = World::start().await;
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    let before = world.gateway.resident_bytes();
    let numbers = "0.0123456789,".repeat(2_500_000);
    let body = format!("{{\"data\":[{numbers}0],\"model\":\"upstream-name\"}}");
    world.upstream.script([Reply::json(200, &body)]);
    let answer = world.gateway.post("/v1/embeddings", chat("m")).await.expect(200);
    assert!(answer.text() == body.replace("upstream-name", "m"), "{} bytes of {}", answer.body.len(), body.len());
    let grown = world.gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "{} MB more for an answer of {} MB", grown >> 20, body.len() >> 20);
}

#[tokio::test]
async fn a_client_may_ask_for_its_connection_to_end() {
    let world = World::start().await;
    let mut client = world.gateway.connect().await;
    let request = Request::post(CHAT, chat("m")).header("connection", "close");
    let answer = client.exchange(&request).await.expect(200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.closed_within(std::time::Duration::from_secs(2)).await);
    assert_eq!(world.upstream.only().header("connection"), None);
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let world = World::start().await;
    world.upstream.otherwise(Reply::echo());
    let models = ["m", "wild-1", "free-m", "wild-2"];
    let requests = models.map(|model| Request::post(CHAT, chat(model)));
    let mut client = world.gateway.connect().await;
    let wire: Vec<u8> = requests.iter().flat_map(Request::wire).collect();
    client.send(&wire).await.unwrap();
    client.send(b"\r\n").await.unwrap();
    for model in models {
        assert_eq!(client.read().await.unwrap().expect(200).json()["model"], model);
    }
    client.exchange(&requests[0]).await.expect(200);
}

/// What follows chunks is another request to us and may be part of the body to a proxy in front of us.
#[tokio::test]
async fn nothing_behind_doubtful_chunks_is_taken_for_a_request() {
    let world = World::start().await;
    world.upstream.otherwise(Reply::echo());
    let smuggled = String::from_utf8(Request::get("/v1/models/wild-smuggled").wire()).unwrap();
    let head = String::from_utf8(Request::post(CHAT, "").sending(Sending::Chunked(1)).head_bytes()).unwrap();
    let body = format!("{:x}\r\n{}\r\n", chat("m").len(), chat("m"));
    for bytes in [format!("{head}\r\n{smuggled}"), format!("{head}{body}\r\n0\r\n\r\n{smuggled}")] {
        let mut client = world.gateway.connect().await;
        client.send(bytes.as_bytes()).await.unwrap();
        let first = client.read().await.unwrap();
        assert!(matches!(first.status, 200 | 400), "{}", first.text());
        assert!(client.closed_within(std::time::Duration::from_secs(5)).await, "the rest is answered: {bytes:?}");
    }
}

#[tokio::test]
async fn a_request_sent_while_another_is_answered_waits_for_it() {
    let world = World::start().await;
    let gate = Gate::new();
    world.upstream.script([Reply::steps([Step::ReadBody, Step::Wait(gate.clone()), Step::EchoBody])]);
    let mut client = world.gateway.connect().await;
    client.send(&Request::post(CHAT, chat("wild-1")).wire()).await.unwrap();
    eventually("the request at the upstream", || world.upstream.count() == 1 && world.upstream.last().complete).await;
    client.send(&Request::get("/v1/models/wild-2").wire()).await.unwrap();
    gate.open(1);
    assert_eq!(client.read().await.unwrap().expect(200).json()["model"], "wild-1");
    assert_eq!(client.read().await.unwrap().expect(200).json()["id"], "wild-2");
}

#[tokio::test]
async fn an_answer_without_a_body_passes() {
    let world = World::start().await;
    world.upstream.script([Reply::steps([Step::ReadBody, Step::Head(204, Vec::new(), Framing::Empty)])]);
    let answer = world.gateway.post(CHAT, chat("m")).await.expect(204);
    assert!(answer.body.is_empty());
    world.upstream.script([Reply::body(200, "application/json", "")]);
    assert!(world.gateway.post(CHAT, chat("m")).await.expect(200).body.is_empty());
}

#[tokio::test]
async fn a_slow_answer_is_not_gathered() {
    let world = World::start().await;
    let gate = Gate::new();
    let head = Step::Head(200, vec![("content-type".into(), "audio/mpeg".into())], Framing::Chunked);
    let piece = |byte: u8| Step::Data(Bytes::from(vec![byte; 1000]));
    world.upstream.script([Reply::steps([
        Step::ReadBody,
        head,
        piece(1),
        Step::Wait(gate.clone()),
        piece(2),
        Step::End,
    ])]);
    let mut client = world.gateway.connect().await;
    client.send(&Request::post("/v1/audio/speech", chat("m")).wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    let mut first = Vec::new();
    while first.len() < 1000 {
        first
            .extend(client.next_piece(&mut reading).await.unwrap().expect("the first piece before the second is sent"));
    }
    gate.open(1);
    let (rest, end) = client.rest(&mut reading).await;
    assert_eq!((first, rest, end), (vec![1; 1000], vec![2; 1000], Ok(())));
}
