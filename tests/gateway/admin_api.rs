//! The admin API: keys, holders, usage, routes, credentials; its errors, pages and audit log.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::admin_contract::Operator;
use crate::support::client::{Request, Response};
use crate::support::gateway::ADMIN_TOKEN;
use crate::world::World;

const KEYS: &str = "/admin/v1/keys";

/// The secret of an answer.
fn secret(response: &Response) -> String {
    response.json()["secret"].as_str().unwrap().to_owned()
}

fn id(response: &Response) -> String {
    response.json()["id"].as_str().unwrap().to_owned()
}

/// The fields at fault of a problem.
fn faults(response: &Response) -> Vec<String> {
    let errors = response.json()["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| format!("{} {}", error["field"].as_str().unwrap(), error["did_you_mean"])).collect()
}

/// Everything on the admin listener that tells of changes, and the log.
async fn everything_told(admin: &Operator<'_>) -> String {
    let mut told = admin.gateway.output() + &admin.gateway.access_log() + &admin.gateway.metrics().await;
    for path in ["audit?limit=1000", "keys?limit=1000", "tokens", "applications", "routes"] {
        told += &admin.get(&format!("/admin/v1/{path}")).await.expect(200).text();
    }
    told
}

#[tokio::test]
async fn a_key_lives_through_create_show_update_rotate_revoke() {
    let world = World::start().await;
    let admin = Operator::of(&world.gateway).await;
    let created = admin
        .post(
            KEYS,
            json!({"name": "alice", "tier": "all", "limits": {"rpm": 20, "budget": "5 USD/day"},
            "models": ["m"], "networks": ["127.0.0.0/8"], "metadata": {"team": "x"}}),
        )
        .await
        .expect(201);
    let (id, first) = (id(&created), secret(&created));
    assert!(
        first.starts_with("sk-") && first.len() == 51 && first.starts_with(created.json()["prefix"].as_str().unwrap())
    );
    let shown = admin.get(&format!("{KEYS}/{id}")).await.expect(200).json();
    assert_eq!(
        (&shown["name"], &shown["limits"]["rpm"], &shown["secret"]),
        (&"alice".into(), &20.into(), &Value::Null)
    );

    let changed = admin.send("PATCH", &format!("{KEYS}/{id}"), json!({"name": "bob", "limits": {}})).await.expect(200);
    assert_eq!((&changed.json()["name"], &changed.json()["limits"]), (&"bob".into(), &json!({})));
    assert_eq!(changed.json()["models"], json!(["m"]), "what is not named stays");

    let rotated = admin.post(&format!("{KEYS}/{id}/rotate"), json!({"grace_ms": 60_000})).await.expect(200);
    let second = secret(&rotated);
    assert_ne!(first, second);
    assert_eq!(rotated.json()["id"].as_str().unwrap(), id);

    let revoked = admin.post(&format!("{KEYS}/{id}/revoke"), json!({})).await.expect(200).json();
    assert!(revoked["revoked_unix_ms"].is_i64());
    admin.post(&format!("{KEYS}/{id}/rotate"), json!({})).await.expect(409);
    let active = admin.get(&format!("{KEYS}?state=active")).await.expect(200).json();
    assert_eq!(active["data"], json!([]));

    let log = admin.get(&format!("/admin/v1/audit?object={id}")).await.expect(200).json();
    let actions: Vec<&str> = log["data"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["key.revoke", "key.rotate", "key.update", "key.create"]);
    assert_eq!((&log["data"][0]["actor"], &log["data"][0]["via"]), (&"config:tests".into(), &"admin-api".into()));
    let told = everything_told(&admin).await;
    for secret in [&first, &second, &ADMIN_TOKEN.to_owned()] {
        assert!(!told.contains(secret.as_str()), "{secret} is in {told}");
    }
}

#[tokio::test]
async fn faults_are_problems_that_name_every_field() {
    let world = World::start().await;
    let admin = Operator::of(&world.gateway).await;
    let problem = admin
        .post(KEYS, json!({"nmae": "x", "tier": 7, "limits": {"rpn": 1}, "endpoints": ["chat_completion"]}))
        .await
        .expect(400);
    let body = problem.json();
    assert_eq!(body["type"], "urn:forge:problem:invalid_request");
    assert!(body["instance"].as_str().unwrap().ends_with(problem.header("x-request-id").unwrap()));
    assert_eq!(
        faults(&problem),
        ["/nmae \"name\"", "/tier null", "/limits null", "/endpoints/0 \"chat_completions\"", "/name null"]
    );
    let problem = admin.post(KEYS, json!({"name": "x", "tier": "al"})).await.expect(400);
    assert_eq!(faults(&problem), ["/tier \"all\""]);
    let problem = admin.get(&format!("{KEYS}?ower=x&limit=0&state=actve&cursor=x&cursor=y")).await.expect(400);
    assert_eq!(faults(&problem), ["?ower \"owner\"", "?limit null", "?state \"active\"", "?cursor null"]);
    assert_eq!(faults(&admin.get(&format!("{KEYS}?cursor=x")).await.expect(400)), ["?cursor null"]);

    let raw = |body: &str, media: &str| Request::new("POST", KEYS).header("content-type", media).body(body);
    admin.ask(raw("{", "application/json")).await.expect(400);
    admin.ask(raw("[]", "application/json")).await.expect(400);
    admin.ask(raw("{}", "text/plain")).await.expect(415);
    admin.ask(raw(&format!("{{\"name\": \"{}\"}}", "x".repeat(70_000)), "application/json")).await.expect(413);
    admin.ask(raw(&"x".repeat(2 << 20), "application/json")).await.expect(413);
    admin.get(&format!("{KEYS}/key_none")).await.expect(404);
    admin.get("/admin/v1/nothing").await.expect(404);
    admin.get("/admin/v1/keys/a/b/c").await.expect(404);
    let refused = admin.send("DELETE", KEYS, json!({})).await.expect(405);
    assert_eq!(refused.header("allow"), Some("POST, GET"));
    let problem = admin.post(KEYS, json!({"name": "x", "tier": "all", "owner": "own_none"})).await;
    assert!(matches!(problem.status, 400 | 404), "{}", problem.text());
    assert_eq!(admin.get(KEYS).await.expect(200).json()["data"], json!([]), "nothing was created");
}

#[tokio::test]
async fn a_creation_sent_again_creates_nothing() {
    let world = World::start().await;
    let admin = Operator::of(&world.gateway).await;
    let create = |name: &str, idempotency: &str| {
        let body = json!({"name": name, "tier": "all"}).to_string();
        let request = Request::new("POST", KEYS).header("content-type", "application/json").body(body);
        admin.ask(request.header("idempotency-key", idempotency))
    };
    let first = create("alice", "once").await.expect(201);
    let again = create("alice", "once").await.expect(200);
    assert_eq!((id(&first), &again.json()["secret"]), (id(&again), &Value::Null));
    create("bob", "once").await.expect(409);
    create("alice", "twice").await.expect(201);
    assert_eq!(faults(&create("alice", "not ok").await.expect(400)), ["Idempotency-Key null"]);
    let racing = futures::future::join_all((0..8).map(|_| create("racer", "race"))).await;
    let ids: BTreeSet<String> = racing.iter().map(id).collect();
    assert_eq!((ids.len(), racing.iter().filter(|answer| answer.status == 201).count()), (1, 1));
}

#[tokio::test]
async fn lists_are_paged_by_cursor_and_stay_stable() {
    let world = World::start().await;
    let admin = Operator::of(&world.gateway).await;
    for n in 0..7 {
        admin.post(KEYS, json!({"name": format!("k{n}"), "tier": "all"})).await.expect(201);
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = admin.get(&format!("{KEYS}?limit=3{cursor}")).await.expect(200).json();
        seen.extend(page["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()));
        pages += 1;
        // What is created while one reads does not shift the pages.
        admin.post(KEYS, json!({"name": "late", "tier": "all"})).await.expect(201);
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.sort();
    assert_eq!((seen.join(" ").as_str(), pages), ("k0 k1 k2 k3 k4 k5 k6", 3));
}

#[tokio::test]
async fn holders_hold_each_other_and_keys() {
    let world = World::start().await;
    let admin = Operator::of(&world.gateway).await;
    let organisation = id(&admin.post("/admin/v1/organisations", json!({"name": "acme"})).await.expect(201));
    let team = json!({"name": "research", "organisation": organisation, "limits": {"budget": "50 USD/month"}});
    let team = id(&admin.post("/admin/v1/teams", team).await.expect(201));
    let owner = json!({"name": "ada", "email": "ada@acme.example", "team": team});
    let owner = id(&admin.post("/admin/v1/owners", owner).await.expect(201));
    admin.post("/admin/v1/owners", json!({"name": "ada"})).await.expect(409);
    let key = id(&admin.post(KEYS, json!({"name": "k", "tier": "all", "owner": owner})).await.expect(201));
    for filter in [format!("owner={owner}"), format!("team={team}"), format!("organisation={organisation}")] {
        let found = admin.get(&format!("{KEYS}?{filter}")).await.expect(200).json();
        assert_eq!(found["data"][0]["id"].as_str(), Some(key.as_str()), "{filter}");
    }
    admin.send("DELETE", &format!("/admin/v1/teams/{team}"), json!({})).await.expect(409);
    admin.get(&format!("/admin/v1/teams/{owner}")).await.expect(404);
    let moved = admin.send("PATCH", &format!("/admin/v1/owners/{owner}"), json!({"team": null})).await.expect(200);
    assert_eq!(moved.json()["team"], Value::Null);
    admin.send("DELETE", &format!("/admin/v1/teams/{team}"), json!({})).await.expect(204);
    assert_eq!(admin.get("/admin/v1/teams").await.expect(200).json()["data"], json!([]));
    let problem = admin.post("/admin/v1/organisations", json!({"name": "x", "team": "team_1"})).await.expect(400);
    assert!(problem.text().contains("unknown field"), "{}", problem.text());
}

#[tokio::test]
async fn roles_are_kept_apart_and_tokens_end_when_revoked() {
    let world = World::start().await;
    let owner = Operator::of(&world.gateway).await;
    let token = |name: &str, role: &str| {
        let body = json!({"name": name, "role": role});
        let owner = &owner;
        async move { owner.post("/admin/v1/tokens", body).await.expect(201) }
    };
    let (reader, operator) = (token("reader", "read").await, token("operator", "operate").await);
    assert!(secret(&reader).starts_with("adm-"));
    let read = owner.with_token(&secret(&reader));
    let operate = owner.with_token(&secret(&operator));
    let key = json!({"name": "k", "tier": "all"});
    read.get(KEYS).await.expect(200);
    read.post(KEYS, key.clone()).await.expect(403);
    read.post("/admin/v1/routes/reload", json!({})).await.expect(403);
    read.get("/admin/v1/tokens").await.expect(403);
    operate.post(KEYS, key.clone()).await.expect(201);
    operate.post("/admin/v1/tokens", json!({"name": "x", "role": "own"})).await.expect(403);
    let log = owner.get("/admin/v1/audit?actor=operator").await.expect(200).json();
    assert_eq!(log["data"].as_array().unwrap().len(), 1);

    owner.post(&format!("/admin/v1/tokens/{}/revoke", id(&operator)), json!({})).await.expect(200);
    operate.get(KEYS).await.expect(401);
    let ended = json!({"name": "ended", "role": "read", "expires_unix_ms": 1});
    let ended = owner.post("/admin/v1/tokens", ended).await.expect(201);
    owner.with_token(&secret(&ended)).get(KEYS).await.expect(401);
    let told = everything_told(&owner).await;
    assert!(!told.contains(&secret(&reader)) && !told.contains(&secret(&operator)));
}

#[tokio::test]
async fn without_a_credential_there_is_nothing_and_guessing_ends() {
    let world = World::start().await;
    let ask = |path: &'static str, token: Option<&str>| {
        let request = Request::new("GET", path);
        world.gateway.admin_send(match token {
            Some(token) => request.bearer(token),
            None => request,
        })
    };
    for path in [KEYS, "/admin/v1/openapi.json", "/admin/v1/nothing"] {
        let refused = ask(path, None).await.expect(401);
        assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer"));
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    }
    for page in ["/metrics", "/routes", "/healthz"] {
        ask(page, None).await.expect(200);
    }
    let twice = Request::new("GET", KEYS).bearer(ADMIN_TOKEN).bearer(ADMIN_TOKEN);
    world.gateway.admin_send(twice).await.expect(401);
    let foreign = Request::new("POST", KEYS).bearer(ADMIN_TOKEN).header("origin", "http://evil.example");
    world.gateway.admin_send(foreign).await.expect(403);
    for _ in 0..9 {
        ask(KEYS, Some("adm-wrong-token")).await.expect(401);
    }
    let refused = ask(KEYS, Some(ADMIN_TOKEN)).await.expect(429);
    assert!((1..=60).contains(&refused.header("retry-after").unwrap().parse::<u32>().unwrap()));
    assert!(!world.gateway.output().contains("adm-wrong-token"));
    assert_eq!(world.gateway.metric("forge_admin_refusals_total", &["reason=\"wrong_token\""]).await, 10.0);
}

#[tokio::test]
async fn routes_are_checked_and_reloaded_with_an_outcome() {
    let world = World::start().await;
    let admin = Operator::of(&world.gateway).await;
    let check = |text: &str| {
        let request = Request::new("POST", "/admin/v1/routes/check").header("content-type", "application/yaml");
        admin.ask(request.body(text))
    };
    let faulty = check("version: 1\nmodls: {}\n").await.expect(200).json();
    assert_eq!(faulty["valid"], false);
    let fault = faulty["faults"].as_array().unwrap().iter().find(|fault| fault["path"] == "modls").unwrap();
    assert_eq!((&fault["line"], &fault["did_you_mean"]), (&2.into(), &"models".into()));
    let good = std::fs::read_to_string(world.gateway.routes_path()).unwrap();
    assert_eq!(check(&good).await.expect(200).json()["valid"], true);
    check(&"#".repeat((1 << 20) + 1)).await.expect(413);

    let reloaded = admin.post("/admin/v1/routes/reload", json!({})).await.expect(200).json();
    assert_eq!(reloaded["valid"], true);
    std::fs::write(world.gateway.routes_path(), "version: 2\n").unwrap();
    let refused = admin.post("/admin/v1/routes/reload", json!({})).await.expect(200).json();
    assert_eq!((&refused["valid"], &refused["generation"]), (&false.into(), &reloaded["generation"]));
    let log = admin.get("/admin/v1/audit?action=routes.reload").await.expect(200).json();
    assert_eq!(log["data"].as_array().unwrap().len(), 2);
    let tiers = admin.get("/admin/v1/tiers").await.expect(200).json();
    assert_eq!((&tiers["data"][0]["name"], &tiers["data"][1]["models"]), (&"all".into(), &json!(["free-*"])));
    let health = admin.get("/admin/v1/health").await.expect(200).json();
    assert!(health["data"].as_array().unwrap().iter().all(|lane| lane["healthy"] == true), "{health}");
    let routes = admin.get("/admin/v1/routes").await.expect(200).json();
    assert_eq!(routes["last_reload"]["ok"], false);
}

#[tokio::test]
async fn the_document_is_valid_and_describes_every_operation() {
    let world = World::start().await;
    let admin = Operator::of(&world.gateway).await;
    let document = admin.document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{name}");
            let parameters = operation["parameters"].as_array().unwrap();
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(in_path, path.matches('{').count(), "{name}");
            // Each is served: with nothing in the body it is anything but unknown.
            let target = path.replace("{id}", "x");
            let answer = admin.send(&method.to_uppercase(), &target, json!({})).await;
            let problem = answer.json()["type"].as_str().unwrap_or_default().to_owned();
            assert!(
                answer.status != 405 && !answer.text().contains("No such path"),
                "{name}: {} {problem}",
                answer.status
            );
        }
    }
    assert!(names.len() >= 30, "{names:?}");
    let mut texts = vec![document.clone()];
    while let Some(value) = texts.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
        }
        match value {
            Value::Object(object) => texts.extend(object.into_iter().map(|(_, value)| value)),
            Value::Array(items) => texts.extend(items),
            _ => {}
        }
    }
}

#[tokio::test]
async fn without_a_store_what_needs_one_says_so() {
    let world = World::with_conf("store: none\n").await;
    let admin = Operator::of(&world.gateway).await;
    let problem = admin.get(KEYS).await.expect(501).json();
    assert_eq!(problem["type"], "urn:forge:problem:no_store");
    admin.get("/admin/v1/tiers").await.expect(200);
    admin.post("/admin/v1/routes/reload", json!({})).await.expect(200);
}
