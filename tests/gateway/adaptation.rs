//! What a provider gets of a request, and what a client gets of an answer.

use crate::support::client::{Request, Sending};
use crate::support::gateway::{Gateway, KEY, PROVIDER_KEY, routes};
use crate::support::upstream::{Reply, Upstream, sse_event};
use crate::support::wire::Framing;
use crate::world::{CHAT, MESSAGES, World, chat, chat_stream};

const ODD_BODY: &str = "{ \"messages\" :[ {\"content\":\"\\u00e9\\/\\ud83d\\ude00 \u{0986}\",\"role\":\
    \"user\"}],\r\n\t\"n\":1.10,\"big\": 9007199254740993 , \"exp\":-0.0E+5,\"model\"\t:\r\n\"m\" ,\
    \"unknown_field\":{\"model\":\"m\"},\"dup\":1,\"dup\":2 }";

#[tokio::test]
async fn the_model_is_spliced_and_every_other_byte_stays() {
    let world = World::start().await;
    for sending in [Sending::Length, Sending::Chunked(1), Sending::Chunked(13)] {
        world.gateway.send(&Request::post(CHAT, ODD_BODY).sending(sending)).await.expect(200);
        let received = world.upstream.last();
        assert_eq!(received.text(), ODD_BODY.replacen("\r\n\"m\" ", "\r\n\"upstream-name\" ", 1));
        assert!(received.faults.is_empty(), "{:?}", received.faults);
        if sending == Sending::Length {
            assert_eq!(received.framing, Framing::Length(received.body.len() as u64), "its own length");
        }
    }
}

#[tokio::test]
async fn a_model_name_with_quotes_is_escaped() {
    let world = World::with_models("  \"wi\\\"ld-*\": up\n  quoted: 'up/a\"b\\c'\n").await;
    world.gateway.post(CHAT, r#"{"model":"quoted"}"#).await.expect(200);
    assert_eq!(world.upstream.last().text(), r#"{"model":"a\"b\\c"}"#);
    world.gateway.post(CHAT, r#"{"model":"wi\u0022ld-\u00e9"}"#).await.expect(200);
    let received: serde_json::Value = serde_json::from_str(&world.upstream.last().text()).unwrap();
    assert_eq!(received["model"], "wi\"ld-é");
}

/// Headers of a client that a provider must get, and those it must not.
const PASSED: [(&str, &str); 9] = [
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "a-2025-01-01,b-2025-02-02"),
    ("openai-beta", "realtime=v1"),
    ("idempotency-key", "k-1"),
    ("user-agent", "test/1.0"),
    ("accept", "application/json, text/event-stream"),
    ("x-stainless-lang", "python"),
    ("x-unknown-to-all", "kept"),
    ("session_id", "s-1"),
];
const STRIPPED: [(&str, &str); 23] = [
    ("cookie", "session=1"),
    ("proxy-authorization", "Basic eDp5"),
    ("proxy-connection", "keep-alive"),
    ("keep-alive", "timeout=5"),
    ("te", "trailers"),
    ("trailer", "x-sum"),
    ("connection", "x-named, keep-alive"),
    ("x-named", "1"),
    ("http2-settings", "AAMAAABkAAQAAP__"),
    ("forwarded", "for=10.0.0.1"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-forwarded-host", "evil.test"),
    ("x-forwarded-proto", "https"),
    ("x-real-ip", "10.0.0.1"),
    ("via", "1.1 proxy"),
    ("cf-connecting-ip", "10.0.0.1"),
    ("true-client-ip", "10.0.0.1"),
    ("api-key", "client-azure-key"),
    ("x-goog-api-key", "client-google-key"),
    ("openai-organization", "org-client"),
    ("openai-project", "proj-client"),
    ("accept-encoding", "gzip, br"),
    ("origin", "https://client.test"),
];

#[tokio::test]
async fn a_provider_gets_its_own_credential_and_what_may_pass() {
    let world = World::start().await;
    for (target, model, auth) in [(CHAT, "m", "authorization"), (MESSAGES, "claude-m", "x-api-key")] {
        let mut request = Request::post(target, chat(model)).header("x-api-key", KEY);
        for (name, value) in PASSED.iter().chain(&STRIPPED) {
            request = request.header(name, value);
        }
        world.gateway.send(&request).await.expect(200);
        let received = world.upstream.last();
        for (name, value) in PASSED {
            assert_eq!(received.head.all(name), [value], "{target} {name}");
        }
        for (name, _) in STRIPPED.iter().filter(|(name, _)| *name != "connection" && *name != auth) {
            assert_eq!(received.header(name), None, "{target} {name}");
        }
        let credential =
            if auth == "authorization" { format!("Bearer {PROVIDER_KEY}") } else { PROVIDER_KEY.to_owned() };
        assert_eq!(received.head.all(auth), [credential.as_str()]);
        let other = if auth == "authorization" { "x-api-key" } else { "authorization" };
        assert_eq!(received.header(other), None);
        assert_eq!(received.head.all("host"), [world.upstream.addr.to_string().as_str()]);
        assert_eq!(received.head.all("content-type"), ["application/json"]);
        assert!(!String::from_utf8_lossy(&received.head.raw).contains(KEY), "the client's key");
    }
}

#[tokio::test]
async fn repeated_and_odd_headers_arrive_as_sent() {
    let world = World::start().await;
    let request = Request::post(MESSAGES, chat("claude-m"))
        .header("anthropic-beta", "one-2025-01-01,two-2025-02-02")
        .header("anthropic-beta", "three-2025-03-03")
        .header("x-odd", "\u{e9}\u{2713} \"q\"; a=b");
    world.gateway.send(&request).await.expect(200);
    let received = world.upstream.only();
    let betas = received.head.all("anthropic-beta").join(",");
    assert_eq!(betas, "one-2025-01-01,two-2025-02-02,three-2025-03-03");
    assert_eq!(received.header("x-odd"), Some("\u{e9}\u{2713} \"q\"; a=b"));
}

#[tokio::test]
async fn the_query_passes_but_for_what_contradicts_the_route() {
    let world = World::start().await;
    let target = format!("{MESSAGES}?beta=true&x=%20y&model=other&api-version=1&base_url=http://x/");
    world.gateway.send(&Request::post(&target, chat("claude-m"))).await.expect(200);
    assert_eq!(world.upstream.only().target, "/v1/messages?beta=true&x=%20y");
}

#[tokio::test]
async fn provider_settings_shape_the_request() {
    let upstream = Upstream::start().await;
    let port = upstream.port();
    let text = routes(&format!(
        r#"providers:
  azure: {{ url: "http://127.0.0.1:{port}", key: "plain:{PROVIDER_KEY}", api_version: "2024-06-01" }}
  based: {{ dialect: openai, url: "http://127.0.0.1:{port}/deep/v9/", key: "plain:{PROVIDER_KEY}", auth: api-key,
           headers: {{ x-team: forge, openai-organization: ours }}, paths: {{ rerank: /v2/rerank }} }}
  keyless: {{ dialect: openai, url: "http://127.0.0.1:{port}/v1" }}
models:
  az: azure/my-deployment
  based: based/x
  keyless: keyless/x
"#
    ));
    let gateway = Gateway::start(&text).await;
    gateway.post(CHAT, chat("az")).await.expect(200);
    let received = upstream.last();
    assert_eq!(received.target, "/openai/deployments/my-deployment/chat/completions?api-version=2024-06-01");
    assert_eq!((received.header("api-key"), received.header("authorization")), (Some(PROVIDER_KEY), None));

    gateway.send(&Request::post(CHAT, chat("based")).header("x-team", "client")).await.expect(200);
    let received = upstream.last();
    assert_eq!(received.target, "/deep/v9/chat/completions");
    assert_eq!(received.head.all("x-team"), ["forge"]);
    assert_eq!(received.head.all("openai-organization"), ["ours"]);
    assert_eq!((received.header("api-key"), received.header("authorization")), (Some(PROVIDER_KEY), None));
    gateway.post("/v1/rerank", chat("based")).await.expect(200);
    assert_eq!(upstream.last().target, "/v2/rerank");

    gateway.post(CHAT, chat("keyless")).await.expect(200);
    let received = upstream.last();
    assert_eq!((received.header("authorization"), received.header("x-api-key")), (None, None));
}

#[tokio::test]
async fn an_answer_reveals_nothing_of_the_provider() {
    let world = World::start().await;
    let hidden = [
        ("set-cookie", "__cf_bm=1"),
        ("openai-organization", "org-secret"),
        ("openai-project", "proj-secret"),
        ("anthropic-organization-id", "org-secret"),
        ("x-api-key", "k"),
        ("authorization", "Bearer k"),
        ("server", "upstream-server"),
        ("via", "1.1 upstream"),
        ("cf-ray", "8a-DAC"),
        ("x-ratelimit-remaining-requests", "9"),
        ("location", "http://elsewhere.test/"),
        ("alt-svc", "h3=\":443\""),
        ("x-envoy-upstream-service-time", "5"),
        ("keep-alive", "timeout=9"),
    ];
    let mut reply = Reply::ok().header("openai-processing-ms", "12").header("x-request-id", "upstream-request");
    for (name, value) in hidden {
        reply = reply.header(name, value);
    }
    world.upstream.script([reply]);
    let answer = world.gateway.post(CHAT, chat("m")).await.expect(200);
    for (name, value) in hidden {
        assert!(!answer.head.all(name).contains(&value), "{name}");
    }
    assert_eq!(answer.header("openai-processing-ms"), Some("12"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(!answer.head.all("x-request-id").contains(&"upstream-request"));
}

#[tokio::test]
async fn a_request_has_one_id_on_both_sides() {
    let world = World::start().await;
    for (target, model) in [(CHAT, "m"), (MESSAGES, "claude-m")] {
        let answer = world.gateway.post(target, chat(model)).await.expect(200);
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(id.len() >= 8 && id.len() <= 128, "{id}");
        assert_eq!(answer.head.all("request-id"), [id.as_str()]);
        assert_eq!(world.upstream.last().head.all("x-request-id"), [id.as_str()]);
        let again = world.gateway.post(target, chat(model)).await.expect(200);
        assert_ne!(again.header("x-request-id"), Some(id.as_str()));

        let mine = Request::post(target, chat(model)).header("x-request-id", "client-id-1");
        let answer = world.gateway.send(&mine).await.expect(200);
        assert_eq!(answer.head.all("x-request-id"), ["client-id-1"]);
        assert_eq!(world.upstream.last().head.all("x-request-id"), ["client-id-1"]);
        world.gateway.access_line("client-id-1").await;
    }
    let long = "x".repeat(4000);
    let answer = world.gateway.send(&Request::post(CHAT, chat("m")).header("x-request-id", &long)).await;
    assert!(answer.header("x-request-id").is_none_or(|id| id.len() <= 256), "an id has a bound");
    let refused = world.gateway.post(CHAT, "{").await.expect(400);
    assert!(refused.header("x-request-id").is_some());
    let refused = world.gateway.post(MESSAGES, "{").await.expect(400);
    assert_eq!(refused.json()["request_id"].as_str(), refused.header("request-id"));
}

const ECHOES: &str = "  asked: { to: up/upstream-name }
  kept: { to: up/upstream-name, echo_model: upstream }
  claude: claude/upstream-name
";

#[tokio::test]
async fn the_answer_names_the_model_that_was_asked_for() {
    let world = World::with_models(ECHOES).await;
    let body =
        r#"{ "nested":{"model":"upstream-name"}, "n":1.10, "model" : "upstream\u002dname", "x":"\"model\":\"x\"" }"#;
    let spliced = body.replace(r"upstream\u002dname", "asked");
    for framing in [Framing::Length(body.len() as u64), Framing::Chunked] {
        let mut reply = Reply::json(200, body);
        if let crate::support::upstream::Step::Head(_, _, place) = &mut reply.steps[1] {
            *place = framing;
        }
        world.upstream.script([reply.clone(), reply]);
        assert_eq!(world.gateway.post(CHAT, chat("asked")).await.expect(200).text(), spliced);
        assert_eq!(world.gateway.post(CHAT, chat("kept")).await.expect(200).text(), body);
    }
}

#[tokio::test]
async fn a_stream_names_the_model_that_was_asked_for() {
    let world = World::with_models(ECHOES).await;
    let events: Vec<String> = ["a", "b"]
        .iter()
        .map(|text| format!(r#"{{"id":"1","model":"upstream-name","choices":[{{"text":"{text} \"model\":\"no\""}}]}}"#))
        .map(|data| sse_event(&data))
        .chain([": comment\n\n".to_owned(), sse_event("[DONE]")])
        .collect();
    let whole = events.concat();
    let named = whole.replace(r#""model":"upstream-name""#, r#""model":"asked""#);
    let bytewise: Vec<String> = whole.chars().map(String::from).collect();
    for pieces in [events.clone(), vec![whole.clone()], bytewise] {
        world.upstream.script([Reply::sse(&pieces), Reply::sse(&pieces)]);
        assert_eq!(world.gateway.post(CHAT, chat_stream("asked")).await.expect(200).text(), named);
        assert_eq!(world.gateway.post(CHAT, chat_stream("kept")).await.expect(200).text(), whole);
    }
    let start = |model: &str| {
        format!(
            "event: message_start\ndata: {{\"type\":\"message_start\",\
             \"message\":{{\"id\":\"1\",\"model\":\"{model}\",\"usage\":{{}}}}}}\n\n"
        )
    };
    world.upstream.script([Reply::sse([
        start("upstream-name"),
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".into(),
    ])]);
    let text = world.gateway.post(MESSAGES, chat_stream("claude")).await.expect(200).text();
    assert!(text.starts_with(&start("claude")), "{text}");
}

#[tokio::test]
async fn an_answer_that_is_no_json_passes_untouched() {
    let world = World::start().await;
    let audio: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    world.upstream.script([
        Reply::body(200, "audio/mpeg", &audio),
        Reply::body(200, "text/plain", "1\n00:00 --> 00:01\n\"model\":\"x\""),
    ]);
    let answer = world.gateway.post("/v1/audio/speech", chat("m")).await.expect(200);
    assert!(answer.body == audio && answer.header("content-type") == Some("audio/mpeg"));
    assert_eq!(answer.header("content-length"), Some("300000"));
    assert!(world.gateway.post("/v1/audio/speech", chat("m")).await.expect(200).text().ends_with("\"model\":\"x\""));
}
