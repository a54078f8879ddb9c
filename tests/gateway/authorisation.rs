//! What an admitted key may call, and what there is to call.

use crate::support::client::{Request, Response};
use crate::support::gateway::FREE_KEY;
use crate::support::upstream::Upstream;
use crate::world::{CHAT, MESSAGES, World, chat};

async fn refused(world: &World, request: &Request, status: u16) -> Response {
    let answer = world.gateway.send(request).await.expect(status);
    assert_eq!(world.upstream.count(), 0, "{} {}", request.method, request.target);
    answer
}

#[tokio::test]
async fn models_are_granted_by_tier() {
    let world = World::start().await;
    let free = |model: &str| Request::post(CHAT, chat(model)).without("authorization").bearer(FREE_KEY);
    let answer = refused(&world, &free("m"), 403).await;
    assert_eq!(answer.code(), "model_not_allowed");
    assert!(answer.text().contains("'m'"), "{}", answer.text());
    world.gateway.send(&free("free-m")).await.expect(200);
    assert!(world.upstream.only().text().contains("free-upstream"));
}

#[tokio::test]
async fn models_are_matched_byte_for_byte() {
    let world = World::start().await;
    for model in ["unknown", "M", "m ", " m", "m\u{301}", "up/upstream-name", "upstream-name", "*", "wild*"] {
        let answer = refused(&world, &Request::post(CHAT, chat(model)), 404).await;
        assert_eq!(answer.code(), "model_not_found", "{model:?}");
        let free = Request::post(CHAT, chat(model)).without("authorization").bearer(FREE_KEY);
        refused(&world, &free, 404).await;
    }
}

#[tokio::test]
async fn paths_are_matched_exactly() {
    let world = World::start().await;
    let paths = [
        "/",
        "/v1",
        "/v1/",
        "/v1/chat",
        "/v1/chat/completions/",
        "/v1/chat%2Fcompletions",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/V1/chat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/chat/completions;x",
        "/chat/completions",
        "/v1/batches",
        "/metrics",
        "/healthz",
        "/readyz",
    ];
    for path in paths {
        let answer = refused(&world, &Request::post(path, chat("m")), 404).await;
        assert_eq!(answer.code(), "unknown_url", "{path}");
        refused(&world, &Request::new("POST", path).body(chat("m")), 401).await;
    }
    let answer = refused(&world, &Request::post("/v1/messages/batches", "{}"), 404).await;
    assert_eq!(answer.json()["error"]["type"], "not_found_error");
}

#[tokio::test]
async fn an_endpoint_takes_its_own_method_only() {
    let world = World::start().await;
    let cases = [
        ("GET", CHAT, "POST"),
        ("PUT", CHAT, "POST"),
        ("DELETE", CHAT, "POST"),
        ("PATCH", MESSAGES, "POST"),
        ("HEAD", CHAT, "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/m", "GET"),
        ("POST", "/v1/realtime?model=m", "GET"),
        ("TRACE", CHAT, "POST"),
        ("get", "/v1/models", "GET"),
    ];
    for (method, target, allow) in cases {
        let request = Request { method: method.into(), ..Request::get(target) };
        let mut client = world.gateway.connect().await;
        client.send(&request.head_bytes()).await.unwrap();
        let answer = client.read_head().await.unwrap();
        assert_eq!((answer.status, answer.head.get("allow")), (405, Some(allow)), "{method} {target}");
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test]
async fn a_client_names_no_destination() {
    let world = World::start().await;
    let elsewhere = Upstream::start().await;
    let url = format!("http://127.0.0.1:{}/v1", elsewhere.port());
    let body = format!(r#"{{"model":"m","api_base":"{url}","base_url":"{url}","url":"{url}","messages":[]}}"#);
    let request = Request::post(&format!("{CHAT}?api_base={url}"), body)
        .header("x-forwarded-host", &elsewhere.addr.to_string())
        .header("x-upstream-host", &elsewhere.addr.to_string())
        .header("x-base-url", &url);
    world.gateway.send(&request).await.expect(200);
    assert_eq!((world.upstream.count(), elsewhere.connections().accepted), (1, 0));
}
