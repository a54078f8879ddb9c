//! The shape of every error, and that none of them, no log line and no metric says what it must not.

use serde_json::Value;

use crate::support::client::{Request, Response, Sending};
use crate::support::gateway::{FREE_KEY, Gateway, KEY, PROVIDER_KEY, Setup, routes};
use crate::support::upstream::{Refusing, Reply, Step, Upstream};
use crate::world::{CHAT, MESSAGES, chat, provider};

/// A word of every prompt here; it must show up nowhere but at the provider.
const PROMPT: &str = "prompt-canary-3a9f";
/// A word of every provider's own failure texts.
const INTERNAL: &str = "internal-canary-77b1";

struct Case {
    status: u16,
    /// OpenAI's `code`.
    code: &'static str,
    /// Anthropic's `error.type`.
    kind: &'static str,
    request: fn(&str, &str) -> Request,
    reply: Option<fn() -> Reply>,
}

fn body(model: &str) -> String {
    chat(model).replace("\"hi\"", &format!("\"{PROMPT}\""))
}

fn plain(target: &str, model: &str) -> Request {
    Request::post(target, body(model))
}

fn failure(status: u16) -> Reply {
    Reply::json(status, &format!(r#"{{"error":{{"message":"{INTERNAL} {PROVIDER_KEY} at 10.1.2.3","type":"x"}}}}"#))
        .header("x-internal", INTERNAL)
}

/// One row for every error a client can meet, in both dialects.
const CASES: [Case; 15] = [
    Case {
        status: 400,
        code: "invalid_json",
        kind: "invalid_request_error",
        request: |target, _| Request::post(target, format!("{{\"x\":\"{PROMPT}\",}}")),
        reply: None,
    },
    Case {
        status: 400,
        code: "invalid_value",
        kind: "invalid_request_error",
        request: |target, _| Request::post(target, format!(r#"{{"model":7,"x":"{PROMPT}"}}"#)),
        reply: None,
    },
    Case {
        status: 401,
        code: "invalid_api_key",
        kind: "authentication_error",
        request: |target, model| plain(target, model).without("authorization"),
        reply: None,
    },
    Case {
        status: 401,
        code: "invalid_api_key",
        kind: "authentication_error",
        request: |target, model| plain(target, model).without("authorization").bearer("sk-wrong-key"),
        reply: None,
    },
    Case {
        status: 403,
        code: "model_not_allowed",
        kind: "permission_error",
        request: |target, model| plain(target, model).without("authorization").bearer(FREE_KEY),
        reply: None,
    },
    Case {
        status: 404,
        code: "model_not_found",
        kind: "not_found_error",
        request: |target, _| plain(target, "no-such-model"),
        reply: None,
    },
    Case {
        status: 404,
        code: "endpoint_not_supported",
        kind: "not_found_error",
        request: |target, _| plain(target, if target == CHAT { "claude-m" } else { "m" }),
        reply: None,
    },
    Case {
        status: 405,
        code: "method_not_allowed",
        kind: "invalid_request_error",
        request: |target, model| Request { method: "PUT".into(), ..plain(target, model) },
        reply: None,
    },
    Case {
        status: 413,
        code: "request_too_large",
        kind: "request_too_large",
        request: |target, model| plain(target, model).body(vec![b' '; 300_001]),
        reply: None,
    },
    Case {
        status: 415,
        code: "unsupported_media_type",
        kind: "invalid_request_error",
        request: |target, model| plain(target, model).header("content-encoding", "gzip"),
        reply: None,
    },
    Case {
        status: 400,
        code: "upstream_refusal",
        kind: "invalid_request_error",
        request: plain,
        reply: Some(|| Reply::body(400, "text/html", "<h1>no</h1>")),
    },
    Case {
        status: 429,
        code: "rate_limit_exceeded",
        kind: "rate_limit_error",
        request: plain,
        reply: Some(|| failure(429)),
    },
    Case { status: 500, code: "upstream_error", kind: "api_error", request: plain, reply: Some(|| failure(500)) },
    Case { status: 500, code: "upstream_error", kind: "api_error", request: plain, reply: Some(|| failure(401)) },
    Case { status: 500, code: "upstream_timeout", kind: "api_error", request: plain, reply: Some(Reply::hang) },
];

struct Leaky {
    upstream: Upstream,
    refusing: Refusing,
    gateway: Gateway,
}

impl Leaky {
    async fn start() -> Self {
        let (upstream, refusing) = (Upstream::start().await, Refusing::new());
        let timeouts = "timeouts: { first_byte: 1s }";
        let text = routes(&format!(
            "providers:\n{}{}{}models:\n  m: {{ to: up/x, {timeouts} }}\n  claude-m: {{ to: claude/x, {timeouts} }}\n  \
             refused: dead/x\n",
            provider("up", "openai", upstream.port()),
            provider("claude", "anthropic", upstream.port()),
            provider("dead", "openai", refusing.addr.port()),
        ));
        let conf = "bounds: { body_bytes_max: 300000 }\n".to_owned();
        let gateway = Gateway::start_with(Setup { routes: text, conf, ..Setup::default() }).await;
        Self { upstream, refusing, gateway }
    }

    /// What must not be read anywhere.
    fn secrets(&self) -> Vec<String> {
        let port = |addr: std::net::SocketAddr| format!(":{}", addr.port());
        let mut secrets = vec![
            PROVIDER_KEY.into(),
            KEY.into(),
            FREE_KEY.into(),
            "sk-wrong-key".into(),
            PROMPT.into(),
            INTERNAL.into(),
        ];
        secrets.extend([port(self.upstream.addr), port(self.refusing.addr), "10.1.2.3".into()]);
        secrets
    }

    /// Panics when `text` holds a secret but those `allowed`.
    #[track_caller]
    fn clean(&self, what: &str, text: &str) {
        for secret in self.secrets() {
            assert!(!text.contains(&secret), "{what} holds {secret:?}: {text}");
        }
    }

    #[track_caller]
    fn clean_answer(&self, answer: &Response) {
        self.clean("the answer", &format!("{:?} {}", answer.head.fields, answer.text()));
    }
}

fn check_openai(case: &Case, error: &Value) {
    let error = &error["error"];
    assert_eq!(error["code"], case.code, "{error}");
    assert!(error["message"].as_str().is_some_and(|text| text.len() > 1), "{error}");
    assert!(error["type"].is_string() && error.get("param").is_some(), "{error}");
}

fn check_anthropic(case: &Case, error: &Value) {
    assert_eq!((&error["type"], &error["error"]["type"]), (&"error".into(), &case.kind.into()), "{error}");
    assert!(error["error"]["message"].is_string() && error["request_id"].is_string(), "{error}");
    assert_eq!(error["error"].as_object().unwrap().len(), 2, "{error}");
}

#[tokio::test]
async fn every_error_has_its_dialects_shape_and_tells_no_secret() {
    let world = Leaky::start().await;
    for case in &CASES {
        for (target, model) in [(CHAT, "m"), (MESSAGES, "claude-m")] {
            for sending in [Sending::Length, Sending::Chunked(16)] {
                world.upstream.otherwise(case.reply.map_or_else(Reply::ok, |reply| reply()));
                let answer =
                    world.gateway.send(&(case.request)(target, model).sending(sending)).await.expect(case.status);
                assert_eq!(answer.header("content-type"), Some("application/json"), "{}", case.code);
                assert!(answer.header("x-request-id").is_some() && answer.header("request-id").is_some());
                world.clean_answer(&answer);
                if target == CHAT { check_openai(case, &answer.json()) } else { check_anthropic(case, &answer.json()) }
            }
        }
    }
    let answer = world.gateway.post(CHAT, body("refused")).await.expect(500);
    assert_eq!(answer.code(), "upstream_error");
    world.clean_answer(&answer);
    world.upstream.script([Reply::sse_head()
        .then(Step::Data(format!("data: {{\"id\":\"{}\"}}\n\n", 1).into()))
        .then(Step::Reset)]);
    world.clean_answer(&world.gateway.post(CHAT, body("m").replace('{', "{\"stream\":true,")).await);

    world.gateway.access_line("model=refused").await;
    let metrics = world.gateway.metrics().await;
    world.clean("the metrics page", &metrics);
    world.clean("the access log", &world.gateway.access_log());
    let routes_view = world.gateway.admin_get("/routes").await.expect(200).text();
    for secret in [PROVIDER_KEY, KEY, FREE_KEY] {
        assert!(!routes_view.contains(secret), "/routes holds {secret}");
        assert!(!world.gateway.output().contains(secret), "the log holds {secret}");
    }
    assert!(!world.gateway.output().contains(PROMPT), "the log holds a prompt:\n{}", world.gateway.output());
    for code in CASES.iter().map(|case| case.code) {
        assert!(metrics.contains(&format!("code=\"{code}\"")), "no metric counts {code}");
    }
}

#[tokio::test]
async fn a_provider_key_quoted_in_a_refusal_stays_here() {
    let world = Leaky::start().await;
    let quoting = format!(r#"{{"error":{{"message":"key {PROVIDER_KEY} may not do this","type":"x"}}}}"#);
    world.upstream.script([Reply::json(400, &quoting), Reply::json(404, &quoting)]);
    for status in [400, 404] {
        let answer = world.gateway.post(CHAT, body("m")).await.expect(status);
        assert!(!answer.text().contains(PROVIDER_KEY), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_connection_serves_on_after_an_error() {
    let world = Leaky::start().await;
    let mut client = world.gateway.connect().await;
    for (request, status) in [
        (plain(CHAT, "unknown"), 404),
        (plain("/v1/unknown", "m"), 404),
        (Request::post(CHAT, "{\"model\":5}"), 400),
        (plain(CHAT, "m").without("authorization"), 401),
    ] {
        let answer = client.exchange(&request).await.expect(status);
        let closing = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if closing {
            client = world.gateway.connect().await;
        }
        client.exchange(&plain(CHAT, "m")).await.expect(200);
    }
    world.upstream.otherwise(failure(500));
    for _ in 0..3 {
        let answer = client.exchange(&plain(CHAT, "m")).await.expect(500);
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            client = world.gateway.connect().await;
        }
    }
}
