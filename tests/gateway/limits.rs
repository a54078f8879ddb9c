//! Limits as clients meet them: refusals, headers, waits, slots.

use std::time::{Duration, Instant};

use crate::support::client::{Request, Response};
use crate::support::gateway::{Gateway, PROVIDER_KEY, routes};
use crate::support::upstream::{Gate, Reply, Step, Upstream};
use crate::world::{CHAT, MESSAGES, chat, providers};

/// A tier `free` with these limits for the usual key, and models `m`, `claude-m` and `limited` (`rpm: 2`).
async fn limited(limits: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let models = "models:\n  m: up\n  claude-m: claude/x\n  limited: { to: up, limits: { rpm: 2 } }\n";
    let text = routes(&format!("{}{models}", providers(upstream.port())));
    let text = text.replace("all: { models: [\"*\"] }", &format!("all: {{ models: [\"*\"], {limits} }}"));
    assert!(text.contains(limits), "{text}");
    let gateway = Gateway::start(&text).await;
    (upstream, gateway)
}

/// Asks until it is served.
async fn served_again(gateway: &Gateway) {
    let began = Instant::now();
    while gateway.post(CHAT, chat("m")).await.status != 200 {
        assert!(began.elapsed() < Duration::from_secs(5), "never served again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn number(response: &Response, name: &str) -> u64 {
    response.header(name).unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[tokio::test]
async fn without_limits_there_are_no_headers() {
    let (upstream, gateway) = limited("").await;
    upstream.script([Reply::ok()
        .header("x-ratelimit-limit-requests", "5")
        .header("anthropic-ratelimit-tokens-limit", "6")]);
    let response = gateway.post(CHAT, chat("m")).await.expect(200);
    let told: Vec<_> = response.head.fields.iter().filter(|(name, _)| name.contains("ratelimit")).collect();
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test]
async fn a_refusal_says_which_limit_and_when_and_a_client_that_waits_is_served() {
    let (upstream, gateway) = limited("rpm: 100, shared: { rpm: 60k }").await;
    for asked in 1..=100 {
        let response = gateway.post(CHAT, chat("m")).await.expect(200);
        assert_eq!(number(&response, "x-ratelimit-limit-requests"), 100);
        assert!(number(&response, "x-ratelimit-remaining-requests") <= 100 - asked + 3);
        assert!(response.header("x-ratelimit-reset-requests").is_some());
        assert_eq!(response.header("x-ratelimit-limit-tokens"), None, "no limit, no header");
    }
    let began = Instant::now();
    let refused = loop {
        let response = gateway.post(CHAT, chat("m")).await;
        if response.status == 429 {
            break response;
        }
        assert!(began.elapsed() < Duration::from_secs(5));
    };
    assert_eq!(refused.code(), "rate_limit_exceeded");
    assert_eq!(refused.json()["error"]["type"], "requests");
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("Limit reached for key 'tester': 100 requests per minute (rpm). Please try"),
        "{message}"
    );
    assert_eq!(number(&refused, "x-ratelimit-remaining-requests"), 0);
    let (wait_ms, seconds) = (number(&refused, "retry-after-ms"), number(&refused, "retry-after"));
    assert!((1..=600).contains(&wait_ms) && seconds == 1, "{wait_ms} ms, {seconds} s");
    let before = upstream.count();
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!(upstream.count(), before + 1);
    let labels = ["limit=\"rpm\"", "holder=\"key\""];
    assert!(gateway.metric("forge_limited_total", &labels).await >= 1.0);
}

#[tokio::test]
async fn anthropic_clients_are_told_in_their_words() {
    let (upstream, gateway) = limited("rpm: 1, tpm: 10k").await;
    upstream.otherwise(Reply::ok().header("anthropic-ratelimit-requests-limit", "4711"));
    let message = r#"{"model":"claude-m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
    let response = gateway.post(MESSAGES, message).await.expect(200);
    for (name, value) in [("requests-limit", 1), ("requests-remaining", 0), ("tokens-limit", 10_000)] {
        assert_eq!(number(&response, &format!("anthropic-ratelimit-{name}")), value, "{name}");
    }
    let remaining = number(&response, "anthropic-ratelimit-tokens-remaining");
    assert!((9_000..10_000).contains(&remaining), "{remaining}");
    assert_eq!(number(&response, "x-ratelimit-remaining-tokens"), remaining);
    let reset = response.header("anthropic-ratelimit-requests-reset").unwrap().to_owned();
    assert!(reset.len() == 20 && reset.ends_with('Z'), "{reset}");
    let refused = gateway.post(MESSAGES, message).await.expect(429);
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert!(number(&refused, "retry-after") >= 59);
}

#[tokio::test]
async fn what_fails_costs_no_tokens() {
    let (upstream, gateway) = limited("tpm: 1000").await;
    upstream.script((0..3).map(|_| Reply::error(400)));
    for _ in 0..3 {
        let refused = gateway.post(CHAT, chat("m")).await.expect(400);
        assert!(number(&refused, "x-ratelimit-remaining-tokens") < 800);
    }
    // A request ends a moment after its client has the answer.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let first = gateway.post(CHAT, chat("m")).await.expect(200);
    assert!(number(&first, "x-ratelimit-remaining-tokens") > 600, "three requests were given back");
}

#[tokio::test]
async fn a_slot_is_free_when_its_request_has_ended() {
    let (upstream, gateway) = limited("concurrent: 1").await;
    let gate = Gate::new();
    let data = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    upstream.script([Reply::sse_head().then(Step::Data(data.into())).then(Step::Wait(gate.clone())).then(Step::End)]);
    let mut client = gateway.connect().await;
    client.send(&Request::post(CHAT, chat("m")).wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    client.read_until(&mut reading, "content").await;
    let refused = gateway.post(CHAT, chat("m")).await.expect(429);
    assert!(refused.text().contains("1 requests at once (concurrent)"), "{}", refused.text());
    gate.open(1);
    let _ = client.rest(&mut reading).await;
    served_again(&gateway).await;
}

#[tokio::test]
async fn a_model_and_the_gateway_have_limits_of_their_own() {
    let (_upstream, gateway) = limited("rpm: 1000").await;
    for _ in 0..2 {
        let response = gateway.post(CHAT, chat("limited")).await.expect(200);
        assert_eq!(number(&response, "x-ratelimit-limit-requests"), 2, "the tightest is told");
    }
    let refused = gateway.post(CHAT, chat("limited")).await.expect(429);
    assert!(refused.text().contains("model 'limited': 2 requests per minute"), "{}", refused.text());
    gateway.post(CHAT, chat("m")).await.expect(200);
    gateway.get("/v1/models").await.expect(200);
}

#[tokio::test]
async fn a_budget_is_a_quota() {
    let upstream = Upstream::start().await;
    let up = format!(
        "  up: {{ dialect: openai, url: \"http://127.0.0.1:{}/v1\", key: \"plain:{PROVIDER_KEY}\" }}\n",
        upstream.port()
    );
    let text = format!(
        "providers:\n{up}models:\n  m: {{ to: up, price: {{ input: 0, output: 1000.00 }} }}\nlimits: {{ budget: 0.30 USD/day }}\n"
    );
    upstream.otherwise(Reply::json(200, r#"{"usage":{"prompt_tokens":5,"completion_tokens":300}}"#));
    let gateway = Gateway::start(&routes(&text)).await;
    gateway.post(CHAT, chat("m")).await.expect(200);
    let refused = gateway.send(&Request::post(CHAT, chat("m"))).await.expect(429);
    assert_eq!(refused.code(), "insufficient_quota");
    assert!(refused.text().contains("the gateway: 0.30 US dollars per day"), "{}", refused.text());
    assert!(number(&refused, "retry-after") <= 86_400);
}

#[tokio::test]
async fn a_reload_changes_limits_and_forgets_no_count() {
    let (_upstream, gateway) = limited("rpm: 3").await;
    for _ in 0..3 {
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
    gateway.post(CHAT, chat("m")).await.expect(429);
    let path = gateway.routes_path();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("rpm: 3", "rpm: 5")).unwrap();
    gateway.signal("HUP");
    served_again(&gateway).await;
    gateway.post(CHAT, chat("m")).await.expect(200);
    let refused = gateway.post(CHAT, chat("m")).await.expect(429);
    assert_eq!(number(&refused, "x-ratelimit-limit-requests"), 5);
}

#[tokio::test]
async fn a_days_count_survives_a_restart() {
    let upstream = Upstream::start().await;
    let text = routes(&format!("{}models:\n  m: up\nlimits: {{ rpd: 3 }}\n", providers(upstream.port())));
    let dir = tempfile::tempdir().unwrap();
    let conf = format!("store: \"sqlite:{}\"\n", dir.path().join("forge.db").display());
    let setup = || crate::support::gateway::Setup { routes: text.clone(), conf: conf.clone(), ..Default::default() };
    let mut gateway = Gateway::start_with(setup()).await;
    for _ in 0..2 {
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
    // Saved every second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    gateway.signal("KILL");
    gateway.exited_within(Duration::from_secs(5)).await;
    let gateway = Gateway::start_with(setup()).await;
    gateway.post(CHAT, chat("m")).await.expect(200);
    gateway.post(CHAT, chat("m")).await.expect(429);
}
