//! GET /v1/models and /v1/models/{id}, answered from routes.yaml.

use serde_json::Value;

use crate::support::client::Request;
use crate::support::gateway::FREE_KEY;
use crate::world::World;

const MODELS: &str = "/v1/models";

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect()
}

fn as_free(request: Request) -> Request {
    request.without("authorization").bearer(FREE_KEY)
}

fn as_anthropic(request: Request) -> Request {
    request.header("anthropic-version", "2023-06-01")
}

#[tokio::test]
async fn the_list_has_openai_shape_and_holds_what_the_key_may_call() {
    let world = World::start().await;
    let list = world.gateway.get(MODELS).await.expect(200);
    assert!(list.header("content-type").unwrap().starts_with("application/json"));
    let list = list.json();
    assert_eq!(list["object"], "list");
    assert_eq!(ids(&list), ["m", "free-m", "claude-m", "omni-moderation-latest", "gpt-image-1", "dall-e-2"]);
    for model in list["data"].as_array().unwrap() {
        assert_eq!(model["object"], "model");
        assert!(model["created"].as_i64().unwrap() > 1_600_000_000, "{model}");
        assert!(model["owned_by"].is_string(), "{model}");
    }
    let list = world.gateway.send(&as_free(Request::get(MODELS))).await.expect(200).json();
    assert_eq!(ids(&list), ["free-m"]);
    world.gateway.send(&Request::new("GET", MODELS)).await.expect(401);
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test]
async fn the_list_has_anthropic_shape_for_its_callers() {
    let world = World::start().await;
    let list = world.gateway.send(&as_anthropic(Request::get(MODELS))).await.expect(200).json();
    assert_eq!(ids(&list).first(), Some(&"m"));
    assert_eq!(
        (&list["has_more"], &list["first_id"], &list["last_id"]),
        (&false.into(), &"m".into(), &"dall-e-2".into())
    );
    for model in list["data"].as_array().unwrap() {
        assert_eq!(model["type"], "model");
        assert!(model["display_name"].is_string(), "{model}");
        humantime::parse_rfc3339(model["created_at"].as_str().unwrap()).unwrap();
    }
    let list = world.gateway.send(&as_free(as_anthropic(Request::get(MODELS)))).await.expect(200).json();
    assert_eq!(ids(&list), ["free-m"]);
}

#[tokio::test]
async fn one_model_is_described() {
    let world = World::start().await;
    for id in ["m", "free-m", "wild-card"] {
        let target = format!("{MODELS}/{id}");
        let model = world.gateway.get(&target).await.expect(200).json();
        assert_eq!((&model["id"], &model["object"]), (&id.into(), &"model".into()));
        let model = world.gateway.send(&as_anthropic(Request::get(&target))).await.expect(200).json();
        assert_eq!((&model["id"], &model["type"]), (&id.into(), &"model".into()));
    }
    let unknown = world.gateway.get(&format!("{MODELS}/unknown")).await.expect(404);
    assert_eq!(unknown.code(), "model_not_found");
    let granted = world.gateway.send(&as_free(Request::get("/v1/models/free-m"))).await.expect(200);
    assert_eq!(granted.json()["id"], "free-m");
    let hidden = world.gateway.send(&as_free(Request::get("/v1/models/m"))).await.expect(404);
    assert_eq!(hidden.code(), "model_not_found", "what a key may not call is not listed either");
}
