//! When another target is tried, when not, and what the client reads in the end.

use std::time::{Duration, Instant};

use crate::support::client::{Request, Response};
use crate::support::gateway::{Gateway, PROVIDER_KEY, Setup, routes};
use crate::support::upstream::{Accept, Blackhole, Refusing, Reply, Step, Upstream};
use crate::world::{CHAT, MESSAGES, chat, chat_stream, provider};

/// A first target that is to fail and a second that answers; model `m` tries both, `one` the first only.
struct Two {
    first: Upstream,
    second: Upstream,
    gateway: Gateway,
}

const TIMEOUTS: &str = "timeouts: { connect: 1s, first_byte: 1s, idle: 1s, total: 20s }";

impl Two {
    async fn start() -> Self {
        Self::with("").await
    }

    /// With these further settings of model `m`.
    async fn with(settings: &str) -> Self {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        let text = format!(
            "providers:\n{}{}{}models:\n  m: {{ to: first/x, else: second/y, {TIMEOUTS}{settings} }}\n  \
             one: {{ to: first/x, {TIMEOUTS} }}\n  claude: {{ to: claude/x, {TIMEOUTS} }}\n",
            provider("first", "openai", first.port()),
            provider("second", "openai", second.port()),
            provider("claude", "anthropic", first.port()),
        );
        Self { gateway: Gateway::start(&routes(&text)).await, first, second }
    }
}

/// More than a megabyte of head.
fn huge_head() -> Reply {
    Reply::ok().header("x-huge", &"h".repeat(1_100_000))
}

/// What a first target may do that sends a request on to the next.
fn failures() -> Vec<(&'static str, Reply)> {
    let mut failures = vec![
        ("resets before the body", Reply::reset()),
        ("resets after the body", Reply::steps([Step::ReadBody, Step::Reset])),
        ("closes without an answer", Reply::steps([Step::ReadBody, Step::Close])),
        ("says garbage", Reply::raw("garbage \x01\r\n\r\n")),
        ("says half a head", Reply::raw("HTTP/1.1 200 OK\r\ncontent-le")),
        ("says a bad length", Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nabc")),
        ("sends a huge head", huge_head()),
        ("says nothing", Reply::hang()),
        ("says nothing and reads nothing", Reply::steps([Step::Hang])),
    ];
    for status in [408, 429, 500, 501, 502, 503, 504, 520, 529, 599, 401, 402, 403] {
        failures.push(("says a status", Reply::error(status)));
        failures.push(("says it before the body", Reply::error(status).before_body()));
    }
    failures
}

/// Every failure at a provider of its own: one that has failed too often is not asked.
#[tokio::test]
async fn the_next_target_answers_when_the_first_fails() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let failures = failures();
    let numbers = 0..failures.len();
    let providers: String =
        numbers.clone().map(|number| provider(&format!("first{number}"), "openai", first.port())).collect();
    let models: String =
        numbers.map(|number| format!("  m{number}: {{ to: first{number}/x, else: second/y, {TIMEOUTS} }}\n")).collect();
    let text = format!("providers:\n{providers}{}models:\n{models}", provider("second", "openai", second.port()));
    // Where usage is recorded, streams are asked for it, and the bodies differ.
    let setup = Setup { routes: routes(&text), conf: "store: none\n".into(), ..Setup::default() };
    let gateway = Gateway::start_with(setup).await;
    for (number, (what, reply)) in failures.into_iter().enumerate() {
        let model = format!("m{number}");
        // A kept connection that fails is tried once more on a fresh one, so the failure comes twice.
        first.otherwise(reply.clone());
        for (turn, body) in [chat(&model), chat_stream(&model)].into_iter().enumerate() {
            let answer = gateway.post(CHAT, &body).await;
            assert_eq!(answer.status, 200, "{what} {:?}: {}", reply.steps, answer.text());
            assert_eq!(second.only().text(), body.replace(&format!("\"{model}\""), "\"y\""), "{what}");
            // A refused key is not tried again.
            assert!(first.count() >= 1 || (turn == 1 && refuses_our_key(&reply)), "{what}: the first was asked");
            first.forget();
            second.forget();
        }
    }
}

fn refuses_our_key(reply: &Reply) -> bool {
    reply.steps.iter().any(|step| matches!(step, Step::Head(401..=403, _, _)))
}

#[tokio::test]
async fn the_next_target_answers_when_the_first_cannot_be_reached() {
    let (refusing, blackhole) = (Refusing::new(), Blackhole::new().await);
    let (resetting, second) = (Upstream::start().await, Upstream::start().await);
    resetting.on_accept([Accept::Reset; 20]);
    let text = format!(
        "providers:\n{}{}{}{}models:\n  refused: {{ to: a/x, else: d/y }}\n  \
         silent: {{ to: b/x, else: d/y, {TIMEOUTS} }}\n  reset: {{ to: c/x, else: d/y }}\n",
        provider("a", "openai", refusing.addr.port()),
        provider("b", "openai", blackhole.addr.port()),
        provider("c", "openai", resetting.port()),
        provider("d", "openai", second.port()),
    );
    let gateway = Gateway::start(&routes(&text)).await;
    for model in ["refused", "silent", "reset"] {
        let start = Instant::now();
        gateway.post(CHAT, chat(model)).await.expect(200);
        assert!(start.elapsed() < Duration::from_secs(3), "{model} took {:?}", start.elapsed());
    }
    assert_eq!(second.count(), 3);
}

#[tokio::test]
async fn the_model_says_when_and_how_often() {
    let two = Two::with(", retry: { on: [5xx] }").await;
    two.first.script([Reply::error(503)]);
    two.gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!(two.second.count(), 1);
    for (reply, status) in
        [(Reply::error(429), 429), (Reply::error(408), 500), (Reply::hang(), 500), (Reply::reset(), 500)]
    {
        two.first.otherwise(reply);
        two.gateway.post(CHAT, chat("m")).await.expect(status);
    }
    assert_eq!(two.second.count(), 1, "no other outcome moves on");

    let two = Two::with(", retry: { attempts: 1 }").await;
    two.first.script([Reply::error(503)]);
    two.gateway.post(CHAT, chat("m")).await.expect(500);
    assert_eq!((two.first.count(), two.second.count()), (1, 0));
}

#[tokio::test]
async fn when_all_fail_the_client_reads_our_own_text() {
    let two = Two::start().await;
    let cases = [
        (Reply::error(500), 500, "upstream_error"),
        (Reply::error(503), 500, "upstream_error"),
        (Reply::error(529), 500, "upstream_error"),
        (Reply::error(401), 500, "upstream_error"),
        (Reply::error(403), 500, "upstream_error"),
        (Reply::reset(), 500, "upstream_error"),
        (Reply::raw("garbage\r\n\r\n"), 500, "upstream_error"),
        (huge_head(), 500, "upstream_error"),
        (Reply::hang(), 500, "upstream_timeout"),
    ];
    for (reply, status, code) in cases {
        two.first.otherwise(reply.clone());
        let answer = two.gateway.post(CHAT, chat("one")).await.expect(status);
        assert_eq!(answer.code(), code, "{:?}", reply.steps);
        assert!(!answer.text().contains("upstream says"), "{}", answer.text());
        let answer = two.gateway.post(MESSAGES, chat("claude")).await.expect(status);
        let error = answer.json();
        assert_eq!((&error["type"], &error["error"]["type"]), (&"error".into(), &"api_error".into()));
    }
}

#[tokio::test]
async fn redirects_are_never_followed() {
    let two = Two::start().await;
    for status in [300, 301, 302, 303, 307, 308] {
        let location = format!("http://{}/v1/chat/completions", two.second.addr);
        two.first.script([Reply::json(status, "{}").header("location", &location)]);
        let answer = two.gateway.post(CHAT, chat("one")).await.expect(500);
        assert_eq!((answer.code().as_str(), answer.header("location")), ("upstream_error", None));
    }
    assert_eq!(two.second.connections().accepted, 0);
}

#[tokio::test]
async fn every_time_limit_holds() {
    let two = Two::with(", retry: { attempts: 1 }").await;
    two.first.otherwise(Reply::hang());
    let start = Instant::now();
    let answer = two.gateway.post(CHAT, chat("m")).await.expect(500);
    assert_eq!(answer.code(), "upstream_timeout");
    let took = start.elapsed();
    assert!((Duration::from_millis(950)..Duration::from_secs(5)).contains(&took), "{took:?}");

    // An answer that begins in time may go on for longer than first_byte.
    let slow = Reply::sse_head().then(Step::Pause(Duration::from_millis(700))).then(Step::Data("data: 1\n\n".into()));
    let slow =
        slow.then(Step::Pause(Duration::from_millis(700))).then(Step::Data("data: [DONE]\n\n".into())).then(Step::End);
    two.first.script([slow]);
    assert_eq!(two.gateway.post(CHAT, chat_stream("m")).await.expect(200).text(), "data: 1\n\ndata: [DONE]\n\n");

    let short = Two::with("").await;
    short.first.otherwise(Reply::hang());
    short.second.otherwise(Reply::hang());
    let answer = short.gateway.post(CHAT, chat("m")).await.expect(500);
    assert_eq!(answer.code(), "upstream_timeout");
}

#[tokio::test]
async fn the_limit_on_the_whole_covers_all_attempts() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let text = format!(
        "providers:\n{}{}models:\n  \
         m: {{ to: first/x, else: second/y, timeouts: {{ first_byte: 10s, total: 700ms }} }}\n",
        provider("first", "openai", first.port()),
        provider("second", "openai", second.port()),
    );
    let gateway = Gateway::start(&routes(&text)).await;
    first.otherwise(Reply::hang());
    let start = Instant::now();
    let answer = gateway.post(CHAT, chat("m")).await.expect(500);
    assert_eq!(answer.code(), "upstream_timeout");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn retry_after_keeps_a_target_out_for_its_time() {
    for status in [429, 503] {
        let two = Two::start().await;
        two.first.script([Reply::error(status).header("retry-after", "2")]);
        let told = Instant::now();
        for _ in 0..5 {
            two.gateway.post(CHAT, chat("m")).await.expect(200);
        }
        assert!(told.elapsed() < Duration::from_secs(2), "too slow to tell");
        assert_eq!((two.first.count(), two.second.count()), (1, 5), "{status}: kept out");
        while two.first.count() == 1 {
            assert!(told.elapsed() < Duration::from_secs(6), "{status}: not let in again");
            two.gateway.post(CHAT, chat("m")).await.expect(200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(told.elapsed() >= Duration::from_millis(1900), "{status}: let in after {:?}", told.elapsed());
        assert!(two.gateway.metric("forge_upstream_ejections_total", &["provider=\"first\""]).await >= 1.0);
    }
}

#[tokio::test]
async fn retry_after_keeps_a_key_out_and_no_other() {
    let upstream = Upstream::start().await;
    let text = format!(
        "providers:\n{}models:\n  m: up\n",
        provider("up", "openai", upstream.port())
            .replace(&format!("\"plain:{PROVIDER_KEY}\""), "[\"plain:key-a\", \"plain:key-b\"]")
    );
    let gateway = Gateway::start(&routes(&text)).await;
    upstream.script([Reply::error(429).header("retry-after", "30")]);
    for _ in 0..10 {
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
    let received = upstream.received();
    let limited = received[0].header("authorization").unwrap().to_owned();
    assert_eq!(received.len(), 11);
    assert!(received[1..].iter().all(|received| received.header("authorization") != Some(&limited)));
    upstream.otherwise(Reply::error(429).header("retry-after", "20"));
    gateway.post(CHAT, chat("m")).await.expect(429);
    let asked = upstream.count();
    let answer = gateway.post(CHAT, chat("m")).await.expect(429);
    assert_eq!(answer.code(), "rate_limit_exceeded");
    assert_eq!(upstream.count(), asked, "nobody is asked while all are out");
    let wait: u64 = answer.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((15..=30).contains(&wait), "{wait}");
}

fn refusals() -> Vec<(Reply, &'static str)> {
    vec![
        (
            Reply::json(
                400,
                r#"{"error":{"message":"bad temperature","type":"invalid_request_error","param":"t","code":null}}"#,
            ),
            "bad temperature",
        ),
        (
            Reply::json(404, r#"{"type":"error","error":{"type":"not_found_error","message":"no such thing"}}"#),
            "no such thing",
        ),
        (Reply::json(413, r#"{"error":"prompt too long"}"#), "prompt too long"),
        (Reply::json(422, r#"{"message":"unprocessable"}"#), "unprocessable"),
        (Reply::body(400, "text/html", "<html><body><h1>400 nginx-internal-7</h1></body></html>"), "refused"),
        (Reply::body(404, "text/plain", ""), "refused"),
        (Reply::json(400, r#"{"error":{"message":"#), "refused"),
        (Reply::json(400, &format!(r#"{{"x":"{}"}}"#, "y".repeat(300_000))), "refused"),
    ]
}

fn status_of(reply: &Reply) -> u16 {
    match &reply.steps[1] {
        Step::Head(status, _, _) => *status,
        step => panic!("{step:?}"),
    }
}

fn message(answer: &Response) -> String {
    answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_refusal_of_the_request_passes_in_the_clients_shape() {
    let two = Two::start().await;
    for (reply, words) in refusals() {
        let status = status_of(&reply);
        two.first.script([reply.clone(), reply.clone(), reply]);
        let answer = two.gateway.post(CHAT, chat("m")).await.expect(status);
        assert!(message(&answer).contains(words), "{}", answer.text());
        assert!(answer.json()["error"]["type"].is_string() && !answer.text().contains("nginx"), "{}", answer.text());
        assert_eq!(answer.header("content-type").map(|text| text.starts_with("application/json")), Some(true));
        let streaming = two.gateway.post(CHAT, chat_stream("m")).await.expect(status);
        assert!(message(&streaming).contains(words));
        let answer = two.gateway.post(MESSAGES, chat("claude")).await.expect(status).json();
        assert_eq!(answer["type"], "error");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
    }
    assert_eq!(two.second.count(), 0, "another provider would refuse it too");
}

#[tokio::test]
async fn attempts_are_counted_by_outcome() {
    let two = Two::start().await;
    two.first.script([Reply::error(503), Reply::error(429), Reply::ok(), Reply::error(401)]);
    for _ in 0..4 {
        two.gateway.send(&Request::post(CHAT, chat("m"))).await.expect(200);
    }
    let count = async |provider: &str, outcome: &str| {
        let labels = [format!("provider=\"{provider}\""), format!("outcome=\"{outcome}\"")];
        two.gateway.metric("forge_upstream_attempts_total", &[&labels[0], &labels[1]]).await
    };
    two.gateway.access_line("attempts=1").await;
    for (provider, outcome, expected) in [
        ("first", "server_error", 1.0),
        ("first", "rate_limited", 1.0),
        ("first", "credential_refused", 1.0),
        ("first", "success", 1.0),
        ("second", "success", 3.0),
    ] {
        assert_eq!(count(provider, outcome).await, expected, "{provider} {outcome}");
    }
}
