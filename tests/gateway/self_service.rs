//! What a key's holder may ask of the gateway, and how people get a key: /v1/usage, /v1/limits, /v1/keys/rotate, /apply.

use serde_json::{Value, json};

use crate::admin_contract::Operator;
use crate::support::client::{Request, Response};
use crate::world::{CHAT, World};

const BODY: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}"#;

/// Creates a key of tier `all`: its id and its secret.
async fn key(admin: &Operator<'_>, fields: Value) -> (String, String) {
    let mut body = json!({"name": "alice", "tier": "all"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let made = admin.post("/admin/v1/keys", body).await.expect(201).json();
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

async fn get(world: &World, path: &str, key: &str) -> Response {
    world.gateway.send(&Request::new("GET", path).bearer(key)).await
}

async fn post(world: &World, path: &str, key: &str, body: &str) -> Response {
    let request = Request::new("POST", path).bearer(key).header("content-type", "application/json").body(body);
    world.gateway.send(&request).await
}

#[tokio::test]
async fn a_holder_sees_its_limits_and_so_does_the_administrator() {
    let world = World::start().await;
    let admin = Operator::of(&world.gateway).await;
    let organisation = json!({"name": "acme", "limits": {"rpd": 50}});
    let organisation = admin.post("/admin/v1/organisations", organisation).await.expect(201).json()["id"].clone();
    let team = json!({"name": "research", "organisation": organisation, "limits": {"rpd": 40}});
    let team = admin.post("/admin/v1/teams", team).await.expect(201).json()["id"].clone();
    let owner =
        admin.post("/admin/v1/owners", json!({"name": "ada", "team": team})).await.expect(201).json()["id"].clone();
    let (id, secret) = key(&admin, json!({"limits": {"rpm": 20}, "owner": owner})).await;
    post(&world, CHAT, &secret, BODY).await.expect(200);
    let limits = get(&world, "/v1/limits", &secret).await.expect(200).json();
    let seen = |limits: &Value, holder: fn(&Value) -> &Value| -> Vec<(String, String, i64, i64)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rows = limits["data"].as_array().unwrap().iter();
        let row = |row: &Value| {
            let (amount, left) = (row["amount"].as_i64().unwrap(), row["remaining"].as_i64().unwrap());
            (text(holder(row)), text(&row["limit"]), amount, left)
        };
        rows.map(row).collect()
    };
    let expected = [("organisation", "rpd", 50, 49), ("team", "rpd", 40, 39), ("key", "rpm", 20, 19)];
    let expected = expected.map(|(holder, limit, amount, left)| (holder.to_owned(), limit.to_owned(), amount, left));
    assert_eq!(seen(&limits, |row| &row["holder"]["kind"]), expected);
    assert_eq!(limits["key"]["id"].as_str(), Some(id.as_str()));
    let told = admin.get(&format!("/admin/v1/limits?key={id}")).await.expect(200).json();
    assert_eq!(seen(&told, |row| &row["holder"]), expected);
    assert_eq!(admin.get("/admin/v1/limits").await.expect(200).json()["data"], json!([]));
    admin.get("/admin/v1/limits?key=static:tester").await.expect(200);
    admin.get("/admin/v1/limits?key=key_none").await.expect(404);
    get(&world, "/v1/limits?model=m", &secret).await.expect(200);
    get(&world, "/v1/limits?model=none", &secret).await.expect(404);
    get(&world, "/v1/limits", "sk-nobody-00000000").await.expect(401);
}

#[tokio::test]
async fn a_holder_sees_its_own_usage() {
    let world = World::start().await;
    let admin = Operator::of(&world.gateway).await;
    let (id, secret) = key(&admin, json!({})).await;
    let usage =
        get(&world, "/v1/usage?period=hour&by=model,endpoint&from=2026-01-01", &secret).await.expect(200).json();
    assert_eq!((&usage["object"], &usage["key"]["id"]), (&"list".into(), &id.clone().into()));
    assert!(usage["data"].is_array() && usage["has_more"] == false, "{usage}");
    post(&world, CHAT, &secret, BODY).await.expect(200);
    // Usage is written to the store in batches.
    let start = std::time::Instant::now();
    let row = loop {
        let usage = get(&world, "/v1/usage?period=all", &secret).await.expect(200).json();
        match usage["data"].get(0) {
            Some(row) => break row.clone(),
            None => assert!(start.elapsed() < crate::support::PATIENCE, "{usage}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!((&row["model"], &row["requests"]), (&"m".into(), &1.into()));
    let told = admin.get(&format!("/admin/v1/usage?by=key,model&key={id}")).await.expect(200).json();
    assert_eq!(told["data"][0]["key"].as_str(), Some(id.as_str()));
    for units in ["requests", "input_tokens", "output_tokens", "cost_microusd"] {
        assert_eq!(told["data"][0][units], row[units], "{units}");
    }
    let csv = admin.get(&format!("/admin/v1/usage?by=model&key={id}&format=csv")).await.expect(200).text();
    assert!(csv.starts_with("model,requests,") && csv.contains("\r\nm,1,"), "{csv}");
    let records = admin.get(&format!("/admin/v1/usage/records?key={id}")).await.expect(200).json();
    assert_eq!((records["data"].as_array().unwrap().len(), &records["data"][0]["attempt"]), (1, &"answer".into()));
    for query in ["period=week", "by=key", "by=provider", "from=yesterday", "key=key_other"] {
        let refused = get(&world, &format!("/v1/usage?{query}"), &secret).await.expect(400);
        assert!(refused.code().starts_with("invalid"), "{}", refused.text());
    }
    world.gateway.get("/v1/usage").await.expect(200);
}

#[tokio::test]
async fn a_holder_rotates_its_key() {
    let world = World::start().await;
    let admin = Operator::of(&world.gateway).await;
    let (id, first) = key(&admin, json!({})).await;
    let rotated = post(&world, "/v1/keys/rotate", &first, "").await.expect(200);
    assert_eq!(rotated.header("cache-control"), Some("no-store"));
    let second = rotated.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(rotated.json()["id"].as_str(), Some(id.as_str()));
    for secret in [&first, &second] {
        post(&world, CHAT, secret, BODY).await.expect(200);
    }
    let third = post(&world, "/v1/keys/rotate", &second, r#"{"grace_ms": 0}"#).await.expect(200);
    let third = third.json()["key"].as_str().unwrap().to_owned();
    post(&world, CHAT, &third, BODY).await.expect(200);
    // A node takes a change up within a second.
    let start = std::time::Instant::now();
    while post(&world, CHAT, &second, BODY).await.status != 401 {
        assert!(start.elapsed() < std::time::Duration::from_secs(2), "the old key goes on working");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for (body, status) in [("{\"grace\": 1}", 400), ("{\"grace_ms\": 99999999999}", 400), ("[", 400)] {
        post(&world, "/v1/keys/rotate", &third, body).await.expect(status);
    }
    post(&world, "/v1/keys/rotate", &third, &" ".repeat(9000)).await.expect(413);
    let refused = world.gateway.post("/v1/keys/rotate", "").await.expect(400);
    assert!(refused.text().contains("ask the gateway's operator"), "{}", refused.text());
    let log = admin.get(&format!("/admin/v1/audit?object={id}&action=key.rotate")).await.expect(200);
    assert_eq!((&log.json()["data"][0]["via"], &log.json()["data"][0]["actor"]), (&"self-service".into(), &id.into()));
    let told = world.gateway.output() + &world.gateway.access_log() + &log.text();
    assert!([&first, &second, &third].iter().all(|secret| !told.contains(secret.as_str())));
}

fn application(email: &str) -> Request {
    let body = json!({"name": "Ada", "email": email, "purpose": "a thesis"}).to_string();
    Request::new("POST", "/apply").header("content-type", "application/json").body(body)
}

#[tokio::test]
async fn applications_are_taken_decided_and_never_tell() {
    let world = World::with_conf("apply: { tier: all, per_address: 10 }\n").await;
    let admin = Operator::of(&world.gateway).await;
    let first = world.gateway.send(&application("ada@acme.example")).await.expect(202);
    let again = world.gateway.send(&application("ada@acme.example")).await.expect(202);
    assert_eq!((first.json(), &again.json()["status"]), (again.json(), &"received".into()));
    for (body, media, status) in [
        ("{}", "application/json", 400),
        (r#"{"name": "a", "email": "b", "purpose": "c"}"#, "application/json", 400),
        (r#"{"name": "a", "email": "b@c", "purpose": "c", "tier": "pro"}"#, "application/json", 400),
        ("name=a", "application/x-www-form-urlencoded", 415),
        (&"x".repeat(9000), "application/json", 413),
    ] {
        let request = Request::new("POST", "/apply").header("content-type", media).body(body);
        world.gateway.send(&request).await.expect(status);
    }
    world.gateway.send(&Request::new("GET", "/apply")).await.expect(405);

    let list = admin.get("/admin/v1/applications?status=pending").await.expect(200).json();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|a| a["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), &list["data"][0]["address"]), (2, &"127.0.0.1".into()));
    let path = |id: &str, verb: &str| format!("/admin/v1/applications/{id}/{verb}");
    let approved = admin.post(&path(ids[0], "approve"), json!({"limits": {"rpm": 5}})).await.expect(200).json();
    let secret = approved["key"]["secret"].as_str().unwrap().to_owned();
    assert_eq!((&approved["application"]["status"], &approved["key"]["name"]), (&"approved".into(), &"Ada".into()));
    post(&world, CHAT, &secret, BODY).await.expect(200);
    let rejected = admin.post(&path(ids[1], "reject"), json!({"reason": "twice"})).await.expect(200).json();
    assert_eq!((&rejected["status"], &rejected["decided_by"]), (&"rejected".into(), &"config:tests".into()));
    admin.post(&path(ids[0], "reject"), json!({})).await.expect(409);
    admin.post(&path(ids[1], "approve"), json!({"tier": "al"})).await.expect(400);
    let shown = admin.get(&format!("/admin/v1/applications/{}", ids[0])).await.expect(200);
    assert!(!(shown.text() + &world.gateway.output()).contains(&secret));

    for _ in 0..4 {
        world.gateway.send(&application("eve@acme.example")).await;
    }
    let limited = world.gateway.send(&application("eve@acme.example")).await.expect(429);
    assert!(limited.header("retry-after").unwrap().parse::<u32>().unwrap() <= 360);
    assert_eq!(limited.code(), "rate_limit_exceeded");
    assert!(world.gateway.metric("forge_applications_total", &["result=\"limited\""]).await >= 1.0);
}

#[tokio::test]
async fn applications_are_off_by_default() {
    let world = World::start().await;
    world.gateway.send(&application("ada@acme.example")).await.expect(401);
    let request = application("ada@acme.example").bearer(crate::support::gateway::KEY);
    world.gateway.send(&request).await.expect(404);
}
