//! Keys of the store: found, bounded, changed while the gateway runs, and what happens when the store is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forge::config::HolderKind;
use forge::credential::Credential;
use forge::store::*;

use crate::support::client::{Client, Request, Response};
use crate::support::gateway::{Gateway, KEY, Setup};
use crate::support::postgres::{Server, shared_database};
use crate::support::upstream::Upstream;
use crate::world::{CHAT, World, chat, usual_routes};

/// How soon a change is in force on every node, besides what a test itself takes.
const EVERYWHERE: Duration = Duration::from_secs(2);

fn act() -> Act {
    Act::now("root", "test")
}

/// The store of a gateway with default settings, as another process sees it.
async fn store_of(gateway: &Gateway) -> SqliteStore {
    SqliteStore::open(&gateway.dir.path().join("forge.db")).await.unwrap()
}

/// A new key of the tier `all`, changed before it is created.
async fn create(store: &dyn Store, change: impl FnOnce(&mut NewKey)) -> (String, Credential) {
    let credential = Credential::random().unwrap();
    let mut new = NewKey { name: "stored".into(), tier: "all".into(), ..NewKey::new(&credential) };
    change(&mut new);
    (store.create_key(&new, &act()).await.unwrap().object().id.clone(), credential)
}

fn request(key: &Credential) -> Request {
    Request::post(CHAT, chat("m")).without("authorization").bearer(key.reveal())
}

async fn status(gateway: &Gateway, key: &Credential) -> u16 {
    gateway.send(&request(key)).await.status
}

/// Waits until requests with this key are answered like this; how long it took.
async fn becomes(gateway: &Gateway, key: &Credential, expected: u16) -> Duration {
    let start = Instant::now();
    while status(gateway, key).await != expected {
        assert!(start.elapsed() < Duration::from_secs(20), "not answered with {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

#[tokio::test]
async fn a_stored_key_works_and_its_changes_are_noticed() {
    let world = World::start().await;
    let gateway = &world.gateway;
    let store = store_of(gateway).await;
    let (id, key) = create(&store, |_| {}).await;
    gateway.send(&request(&key)).await.expect(200);
    let line = gateway.access_line("stored").await;
    assert!(!line.contains(key.reveal()), "{line}");

    let change = KeyChange { tier: Some("free".into()), ..KeyChange::default() };
    store.update_key(&id, &change, &act()).await.unwrap();
    assert!(becomes(gateway, &key, 403).await < EVERYWHERE);
    let change = KeyChange { tier: Some("all".into()), ..KeyChange::default() };
    store.update_key(&id, &change, &act()).await.unwrap();
    assert!(becomes(gateway, &key, 200).await < EVERYWHERE);

    store.revoke_key(&id, &act()).await.unwrap();
    assert!(becomes(gateway, &key, 401).await < EVERYWHERE);
    let refused = gateway.send(&request(&key)).await.expect(401);
    assert!(refused.text().contains("revoked") && refused.code() == "invalid_api_key", "{}", refused.text());
    assert!(gateway.metric("forge_key_lookups_total", &["hit"]).await > 0.0);
    assert_eq!(gateway.metric("forge_store_up", &[]).await, 1.0);
}

#[tokio::test]
async fn a_key_is_bounded_by_endpoint_network_model_and_time() {
    let world = World::start().await;
    let store = store_of(&world.gateway).await;
    let said = async |key: &Credential| {
        let answer: Response = world.gateway.send(&request(key)).await;
        (answer.status, answer.code())
    };
    let (_, key) = create(&store, |new| new.endpoints = vec!["embeddings".into()]).await;
    assert_eq!(said(&key).await, (403, "endpoint_not_allowed".into()));
    let (_, key) = create(&store, |new| new.networks = vec!["192.0.2.0/24".into()]).await;
    assert_eq!(said(&key).await, (403, "network_not_allowed".into()));
    let (_, key) = create(&store, |new| new.networks = vec!["127.0.0.0/8".into()]).await;
    assert_eq!(said(&key).await.0, 200);
    let (_, key) = create(&store, |new| new.models = vec!["free-*".into()]).await;
    assert_eq!(said(&key).await, (403, "model_not_allowed".into()));
    let models = Request::get("/v1/models").without("authorization").bearer(key.reveal());
    let listed = world.gateway.send(&models).await.expect(200).json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    let (_, key) = create(&store, |new| new.tier = "no-such-tier".into()).await;
    assert_eq!(said(&key).await, (403, "tier_not_served".into()));
    let (_, key) = create(&store, |new| new.expires_unix_ms = Some(now_unix_ms() - 1)).await;
    assert_eq!(said(&key).await, (401, "invalid_api_key".into()));
    let (_, key) = create(&store, |new| new.expires_unix_ms = Some(now_unix_ms() + 1500)).await;
    assert_eq!(said(&key).await.0, 200);
    assert!(becomes(&world.gateway, &key, 401).await < EVERYWHERE, "an end is noticed without a change");
}

#[tokio::test]
async fn a_rotated_key_has_its_grace() {
    let world = World::start().await;
    let store = store_of(&world.gateway).await;
    let (id, old) = create(&store, |_| {}).await;
    assert_eq!(status(&world.gateway, &old).await, 200);
    let new = Credential::random().unwrap();
    store.rotate_key(&id, &NewSecret::of(&new), 2_000, &act()).await.unwrap();
    let rotated = Instant::now();
    assert_eq!(status(&world.gateway, &new).await, 200, "at once");
    while rotated.elapsed() < Duration::from_millis(1500) {
        assert_eq!(status(&world.gateway, &old).await, 200, "in its grace");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    becomes(&world.gateway, &old, 401).await;
    assert!(rotated.elapsed() < Duration::from_millis(2_000) + EVERYWHERE);
    assert_eq!(status(&world.gateway, &new).await, 200);
}

#[tokio::test]
async fn limits_of_keys_and_holders_bind_together() {
    let world = World::start().await;
    let store = store_of(&world.gateway).await;
    let limits = |json: &str| serde_json::from_str(json).unwrap();
    let owner = NewHolder { limits: limits(r#"{"rpm": 3}"#), ..NewHolder::new(HolderKind::Owner, "alice") };
    let owner = store.create_holder(&owner, &act()).await.unwrap().object().id.clone();
    let (_, tight) = create(&store, |new| {
        new.owner = Some(owner.clone());
        new.limits = limits(r#"{"rpm": 1}"#);
    })
    .await;
    let (_, loose) = create(&store, |new| new.owner = Some(owner.clone())).await;
    assert_eq!(status(&world.gateway, &tight).await, 200);
    let refused = world.gateway.send(&request(&tight)).await.expect(429);
    assert!(refused.text().contains("key 'stored'"), "{}", refused.text());
    assert_eq!(status(&world.gateway, &loose).await, 200);
    assert_eq!(status(&world.gateway, &loose).await, 200);
    let refused = world.gateway.send(&request(&loose)).await.expect(429);
    assert!(refused.text().contains("owner 'alice'"), "{}", refused.text());
}

#[tokio::test]
async fn last_use_is_written_down() {
    let world = World::start().await;
    let store = store_of(&world.gateway).await;
    let (id, key) = create(&store, |_| {}).await;
    assert_eq!(status(&world.gateway, &key).await, 200);
    let start = Instant::now();
    while store.key(&id).await.unwrap().unwrap().last_used_unix_ms.is_none() {
        assert!(start.elapsed() < Duration::from_secs(20), "not written down");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn guesses_do_not_disturb_who_has_a_key() {
    let world = World::start().await;
    let store = store_of(&world.gateway).await;
    let (_, key) = create(&store, |_| {}).await;
    assert_eq!(status(&world.gateway, &key).await, 200);
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..8 {
        clients.push(world.gateway.connect().await);
    }
    let guessing = clients.into_iter().map(|mut client| async move {
        for _ in 0..250 {
            let guess = Credential::random().unwrap();
            let answer = client.exchange(&request(&guess)).await;
            assert!(matches!(answer.status, 401 | 503), "{}", answer.text());
            assert!(answer.status == 401 || answer.header("retry-after").is_some());
        }
    });
    let good = async {
        let mut client = world.gateway.connect().await;
        for _ in 0..250 {
            client.exchange(&request(&key)).await.expect(200);
        }
    };
    let start = Instant::now();
    futures::future::join(futures::future::join_all(guessing), good).await;
    let asked = world.gateway.metric("forge_key_lookups_total", &["miss"]).await;
    assert!(asked <= 250.0 + 250.0 * start.elapsed().as_secs_f64() + 10.0, "{asked} in {:?}", start.elapsed());
    assert_eq!(status(&world.gateway, &key).await, 200);
}

async fn gateway_on(upstream: &Upstream, url: &str) -> Gateway {
    let conf = format!("store: \"{url}\"\n");
    Gateway::start_with(Setup { routes: usual_routes(upstream.port()), conf, ..Setup::default() }).await
}

#[tokio::test]
async fn a_fleet_shares_its_keys() {
    let upstream = Upstream::start().await;
    let url = shared_database().await;
    let (one, two) = (gateway_on(&upstream, &url).await, gateway_on(&upstream, &url).await);
    let store: Arc<dyn Store> = Arc::new(PostgresStore::open(&url).await.unwrap());
    let (id, key) = create(store.as_ref(), |_| {}).await;
    for gateway in [&one, &two] {
        assert_eq!(status(gateway, &key).await, 200);
    }
    let revoked = Instant::now();
    store.revoke_key(&id, &act()).await.unwrap();
    for gateway in [&one, &two] {
        becomes(gateway, &key, 401).await;
    }
    assert!(revoked.elapsed() < EVERYWHERE, "{:?}", revoked.elapsed());
}

#[tokio::test]
async fn a_store_that_goes_away_takes_no_known_key_with_it() {
    let upstream = Upstream::start().await;
    let mut server = Server::start().await;
    let url = server.database().await;
    let gateway = gateway_on(&upstream, &url).await;
    let store = PostgresStore::open(&url).await.unwrap();
    let (_, known) = create(&store, |_| {}).await;
    let (id, unknown) = create(&store, |_| {}).await;
    assert_eq!(status(&gateway, &known).await, 200);
    store.close().await;

    server.stop();
    assert_eq!(status(&gateway, &known).await, 200);
    gateway.post(CHAT, chat("m")).await.expect(200);
    let start = Instant::now();
    let refused = gateway.send(&request(&unknown)).await.expect(503);
    assert_eq!(refused.code(), "keys_unavailable");
    assert!(refused.header("retry-after").is_some() && start.elapsed() < Duration::from_secs(4));
    becomes(&gateway, &unknown, 503).await;
    let start = Instant::now();
    while gateway.metric("forge_store_up", &[]).await != 0.0 {
        assert!(start.elapsed() < Duration::from_secs(10), "the outage is not seen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(gateway.probe("/readyz").await, Some(200));
    assert_eq!(status(&gateway, &known).await, 200);

    server.resume().await;
    becomes(&gateway, &unknown, 200).await;
    // And changes are noticed again, at once.
    let store = PostgresStore::open(&url).await.unwrap();
    store.revoke_key(&id, &act()).await.unwrap();
    assert!(becomes(&gateway, &unknown, 401).await < EVERYWHERE);
}

#[tokio::test]
async fn a_gateway_starts_without_its_database() {
    let upstream = Upstream::start().await;
    let mut server = Server::start().await;
    let url = server.database().await;
    let (_, key) = create(&PostgresStore::open(&url).await.unwrap(), |_| {}).await;
    server.stop();
    let gateway = gateway_on(&upstream, &url).await;
    gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!(status(&gateway, &key).await, 503);
    server.resume().await;
    becomes(&gateway, &key, 200).await;
}

#[tokio::test]
async fn without_a_store_the_routes_keys_are_all() {
    let world = World::with_conf("store: none\n").await;
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!(status(&world.gateway, &Credential::random().unwrap()).await, 401);
    assert!(!world.gateway.dir.path().join("forge.db").exists());
}

#[tokio::test]
async fn a_key_of_the_routes_asks_no_store() {
    let world = World::start().await;
    for _ in 0..5 {
        world.gateway.post(CHAT, chat("m")).await.expect(200);
    }
    assert_eq!(world.gateway.metric("forge_key_lookups_total", &[]).await, 0.0);
    assert!(Credential::parse(KEY).is_some());
}
