//! Where a request goes: aliases, weights, fallbacks, wildcards, rules, prices, what a provider serves.

use crate::support::client::Request;
use crate::support::gateway::{FREE_KEY, Gateway, PROVIDER_KEY, routes};
use crate::support::upstream::{Reply, Upstream};
use crate::world::{CHAT, MESSAGES, ModelPlace, World, chat, chat_stream, provider, sized_body};

/// Two upstreams as providers `a` and `b` behind one gateway.
struct Pair {
    a: Upstream,
    b: Upstream,
    gateway: Gateway,
}

impl Pair {
    async fn start(models_and_rules: &str) -> Self {
        let (a, b) = (Upstream::start().await, Upstream::start().await);
        let text = format!(
            "providers:\n{}{}{models_and_rules}",
            provider("a", "openai", a.port()),
            provider("b", "openai", b.port())
        );
        Self { gateway: Gateway::start(&routes(&text)).await, a, b }
    }

    fn counts(&self) -> (usize, usize) {
        (self.a.count(), self.b.count())
    }

    /// Sends the request and says which upstream had it.
    async fn serve(&self, request: &Request) -> &'static str {
        let before = self.counts();
        self.gateway.send(request).await.expect(200);
        let (a, b) = self.counts();
        match (a - before.0, b - before.1) {
            (1, 0) => "a",
            (0, 1) => "b",
            both => panic!("{both:?} requests at the upstreams"),
        }
    }
}

#[tokio::test]
async fn an_alias_leads_to_its_upstream_name() {
    let models = "models:\n  alias: a/some/deep:name\n  same: b\n  other: alias\n";
    let pair = Pair::start(models).await;
    pair.gateway.post(CHAT, chat("alias")).await.expect(200);
    assert_eq!(pair.a.last().text(), chat("some/deep:name"));
    pair.gateway.post(CHAT, chat("same")).await.expect(200);
    assert_eq!(pair.b.last().text(), chat("same"));
    pair.gateway.post(CHAT, chat("other")).await.expect(200);
    assert_eq!(pair.a.last().text(), chat("some/deep:name"));
}

#[tokio::test]
async fn weights_share_out_the_requests() {
    let models = "models:\n  m: { to: [ { use: a/x, weight: 8 }, { use: b/y, weight: 2 } ] }\n";
    let pair = Pair::start(models).await;
    let mut client = pair.gateway.connect().await;
    for _ in 0..300 {
        client.exchange(&Request::post(CHAT, chat("m"))).await.expect(200);
    }
    let (a, b) = pair.counts();
    // 240 are expected of 300, with a deviation of 7.
    assert_eq!(a + b, 300);
    assert!((200..=280).contains(&a), "{a} of 300 for a weight of 8 in 10");
}

#[tokio::test]
async fn fallbacks_follow_in_their_order() {
    let c = Upstream::start().await;
    let extra = provider("c", "openai", c.port());
    let models = format!("{extra}models:\n  m: {{ to: a/x, else: [ b/y, c/z ], retry: {{ attempts: 3 }} }}\n");
    let pair = Pair::start(&models).await;
    for upstream in [&pair.a, &pair.b] {
        upstream.script([Reply::error(500)]);
    }
    pair.gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!(pair.a.only().text(), chat("x"));
    assert_eq!(pair.b.only().text(), chat("y"));
    assert_eq!(c.only().text(), chat("z"));
}

#[tokio::test]
async fn keys_and_urls_of_a_provider_share_its_requests() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let text = routes(&format!(
        "providers:\n  up: {{ dialect: openai, url: [\"http://127.0.0.1:{}/v1\", \"http://127.0.0.1:{}/v1\"], \
         key: [\"plain:{PROVIDER_KEY}-1\", \"plain:{PROVIDER_KEY}-2\"] }}\nmodels:\n  m: up\n",
        a.port(),
        b.port()
    ));
    let gateway = Gateway::start(&text).await;
    let mut client = gateway.connect().await;
    for _ in 0..80 {
        client.exchange(&Request::post(CHAT, chat("m"))).await.expect(200);
    }
    for upstream in [&a, &b] {
        let received = upstream.received();
        assert!(received.len() >= 15, "{} of 80 at one of two URLs", received.len());
        for key in ["1", "2"] {
            let value = format!("Bearer {PROVIDER_KEY}-{key}");
            let uses = received.iter().filter(|received| received.header("authorization") == Some(&value)).count();
            assert!(uses >= 5, "key {key} was used {uses} times of {}", received.len());
        }
    }
}

#[tokio::test]
async fn a_wildcard_keeps_the_name_and_yields_to_what_is_more_specific() {
    let models = "models:\n  \"*\": a\n  gpt-*: b\n  gpt-4: a/exact\n";
    let pair = Pair::start(models).await;
    for (model, upstream, name) in
        [("anything", "a", "anything"), ("gpt-5", "b", "gpt-5"), ("gpt-", "b", "gpt-"), ("gpt-4", "a", "exact")]
    {
        assert_eq!(pair.serve(&Request::post(CHAT, chat(model))).await, upstream, "{model}");
        let last = if upstream == "a" { pair.a.last() } else { pair.b.last() };
        assert_eq!(last.text(), chat(name));
    }
}

#[tokio::test]
async fn rules_read_the_request_and_the_first_match_wins() {
    let models = r#"models:
  free-m: a/plain
  ruled: b/ruled
rules:
  - { when: 'request.headers["x-region"] == "bd"', use: ruled }
  - { when: 'body_bytes > 1000', use: ruled }
  - { when: 'tier == "free"', use: ruled }
  - { when: 'stream', use: ruled }
  - { when: 'endpoint == "completions" || request.path == "/v1/embeddings"', use: ruled }
  - { when: 'key.name == "nobody" || model.startsWith("x")', use: ruled }
"#;
    let pair = Pair::start(models).await;
    let plain = Request::post(CHAT, chat("free-m"));
    let ruled = [
        plain.clone().header("x-region", "bd"),
        Request::post(CHAT, sized_body(1001, "free-m", ModelPlace::First)),
        Request::post(CHAT, sized_body(1001, "free-m", ModelPlace::First))
            .sending(crate::support::client::Sending::Chunked(100)),
        plain.clone().without("authorization").bearer(FREE_KEY),
        Request::post(CHAT, chat_stream("free-m")),
        Request::post(CHAT, r#"{"model":"free-m","messages":[],"stream":true}"#),
        Request::post("/v1/completions", chat("free-m")),
        Request::post("/v1/embeddings", chat("free-m")),
    ];
    let unruled = [
        plain.clone(),
        plain.clone().header("x-region", "in"),
        Request::post(CHAT, sized_body(1000, "free-m", ModelPlace::Last)),
        Request::post(CHAT, r#"{"model":"free-m","stream":false,"messages":[{"stream":true}]}"#),
    ];
    for request in &ruled {
        assert_eq!(pair.serve(request).await, "b", "{:?} {:?}", request.headers, request.target);
        assert!(pair.b.last().text().contains(r#""ruled""#));
    }
    for request in &unruled {
        assert_eq!(pair.serve(request).await, "a", "{:?}", request.headers);
    }
}

#[tokio::test]
async fn the_cheapest_target_goes_first() {
    let models = "models:
  m:
    pick: cheapest
    to:
      - { use: a/dear, price: { input: 3.00, output: 15.00 } }
      - { use: b/cheap, price: { input: 0.25, output: 1.25 } }
";
    let pair = Pair::start(models).await;
    for _ in 0..10 {
        assert_eq!(pair.serve(&Request::post(CHAT, chat("m"))).await, "b");
    }
    pair.b.script([Reply::error(503)]);
    pair.gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!(pair.a.count(), 1);
}

#[tokio::test]
async fn a_target_that_does_not_serve_the_endpoint_is_passed_over() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let text = format!(
        "providers:\n{}{}{}models:\n  m: {{ to: a/x, else: b/y }}\n  claude: c\n",
        provider("a", "openai", a.port()).replace(" }", ", serves: [chat_completions] }"),
        provider("b", "openai", b.port()),
        provider("c", "anthropic", b.port()),
    );
    let gateway = Gateway::start(&routes(&text)).await;
    gateway.post(CHAT, chat("m")).await.expect(200);
    gateway.post("/v1/embeddings", chat("m")).await.expect(200);
    assert_eq!((a.count(), b.count()), (1, 1));
    let answer = gateway.post(CHAT, chat("claude")).await.expect(404);
    assert_eq!(answer.code(), "endpoint_not_supported");
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("claude") && message.contains(CHAT), "{message}");
    let answer = gateway.post(MESSAGES, chat("m")).await.expect(404);
    assert_eq!(answer.json()["error"]["type"], "not_found_error");
    gateway.post(MESSAGES, chat("claude")).await.expect(200);
    assert_eq!((a.count(), b.count()), (1, 2));
}

/// Every endpoint that passes through, with the provider that serves it.
const PROXIED: [(&str, &str); 14] = [
    ("/v1/chat/completions", "m"),
    ("/v1/completions", "m"),
    ("/v1/embeddings", "m"),
    ("/v1/moderations", "m"),
    ("/v1/audio/speech", "m"),
    ("/v1/audio/transcriptions", "m"),
    ("/v1/audio/translations", "m"),
    ("/v1/images/generations", "m"),
    ("/v1/images/edits", "m"),
    ("/v1/images/variations", "m"),
    ("/v1/messages", "claude-m"),
    ("/v1/messages/count_tokens", "claude-m"),
    ("/v1/responses", "m"),
    ("/v1/rerank", "m"),
];

#[tokio::test]
async fn every_endpoint_arrives_at_its_path() {
    let world = World::start().await;
    for (path, model) in PROXIED {
        let form = path.contains("/audio/tr") || path.contains("/variations");
        let request = if form {
            let body = format!(
                "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b\r\n\
                 Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nabc\r\n--b--\r\n"
            );
            Request::post(path, body).without("content-type").header("content-type", "multipart/form-data; boundary=b")
        } else {
            Request::post(path, chat(model))
        };
        let answer = world.gateway.send(&request).await.expect(200);
        assert_eq!(answer.json()["ok"], true, "{path}");
        let received = world.upstream.last();
        assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", path));
        assert!(received.complete && received.faults.is_empty(), "{path}: {:?}", received.faults);
    }
}
