//! The cache against a store of the test's own: what is asked how often, what is kept, what is forgotten.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use tokio::task::JoinSet;

use super::*;
use crate::config::{FileLimits, LimitSet, Pattern, Tier};
use crate::store::{FoundHolder, KeyRecord};

/// A store that answers the cache's questions.
struct Fake {
    keys: Arc<StoredKeys>,
    found: Arc<Mutex<HashMap<[u8; 32], FoundKey>>>,
    asked: Arc<AtomicUsize>,
    uses: mpsc::Receiver<LastUse>,
}

impl Fake {
    fn start() -> Self {
        let (keys, requests) = StoredKeys::new();
        keys.synced(now_unix_ms());
        let (found, asked) = (Arc::new(Mutex::new(HashMap::new())), Arc::new(AtomicUsize::new(0)));
        let (mut asks, uses) = (requests.asks, requests.uses);
        let (answers, counted) = (Arc::clone(&found), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Some(Ask { sha256, answer }) = asks.recv().await {
                counted.fetch_add(1, Ordering::SeqCst);
                // What is asked at the same time waits for the same answer.
                tokio::task::yield_now().await;
                let found: Option<FoundKey> = answers.lock().unwrap().get(&sha256).cloned();
                let _ = answer.send(found);
            }
        });
        Self { keys, found, asked, uses }
    }

    fn put(&self, secret: u8, found: FoundKey) {
        self.found.lock().unwrap().insert([secret; 32], found);
    }

    async fn find(&self, secret: u8, snapshot: &Snapshot) -> Result<Arc<Key>, ApiError> {
        self.keys.find(Presented { sha256: &[secret; 32], from: None, snapshot }).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn found(id: &str) -> FoundKey {
    let key = KeyRecord {
        id: id.into(),
        name: "k".into(),
        prefix: "sk-01234567".into(),
        tier: "pro".into(),
        owner: None,
        team: None,
        organisation: None,
        models: vec!["m-*".into()],
        endpoints: vec!["chat_completions".into()],
        networks: vec!["10.0.0.0/8".into()],
        metadata: [("a".to_owned(), "b".to_owned())].into(),
        limits: LimitSet::default(),
        created_unix_ms: 0,
        expires_unix_ms: None,
        revoked_unix_ms: None,
        rotated_unix_ms: None,
        last_used_unix_ms: None,
    };
    FoundKey { key, secret_ends_unix_ms: None, owner: None, team: None, organisation: None }
}

fn snapshot(generation: u64, tiers: &[&str]) -> Snapshot {
    let tier = |name: &&str| {
        let (limits, shared) = (LimitSet::default(), LimitSet::default());
        let models = vec![Pattern::parse(&format!("m-{generation}")).unwrap()];
        (
            (*name).to_owned(),
            Arc::new(Tier { name: (*name).to_owned(), models, limits, shared, files: FileLimits::default() }),
        )
    };
    Snapshot { generation, tiers: tiers.iter().map(tier).collect(), ..Snapshot::default() }
}

fn status(result: Result<Arc<Key>, ApiError>) -> u16 {
    result.map_or_else(|error| error.status, |_| 200)
}

#[tokio::test]
async fn a_key_is_asked_for_once() {
    let fake = Arc::new(Fake::start());
    fake.put(1, found("key_a"));
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let fake = Arc::clone(&fake);
        tasks.spawn(async move { status(fake.find(1, &snapshot(1, &["pro"])).await) });
    }
    assert_eq!(tasks.join_all().await, [200; 50]);
    assert_eq!(fake.asked(), 1);
    let key = fake.find(1, &snapshot(1, &["pro"])).await.unwrap();
    assert_eq!((key.id.as_ref(), key.metadata["a"].as_str(), key.networks.len()), ("key_a", "b", 1));
    assert!(key.may_call("m-1") && key.may_use(crate::endpoint::Endpoint::ChatCompletions));
    assert!(!key.may_use(crate::endpoint::Endpoint::Embeddings));
}

#[tokio::test]
async fn a_secret_that_is_none_is_remembered_for_a_while() {
    let fake = Arc::new(Fake::start());
    for _ in 0..20 {
        assert_eq!(status(fake.find(9, &snapshot(1, &["pro"])).await), 401);
    }
    assert_eq!(fake.asked(), 1);
    // What changed makes it worth another question.
    fake.put(9, found("key_a"));
    fake.keys.forget(&HashSet::from(["key_a"]));
    assert_eq!(status(fake.find(9, &snapshot(1, &["pro"])).await), 200);
}

#[tokio::test]
async fn guesses_ask_little_and_push_nothing_out() {
    let fake = Arc::new(Fake::start());
    fake.put(1, found("key_a"));
    let routes = snapshot(1, &["pro"]);
    assert_eq!(status(fake.find(1, &routes).await), 200);
    let mut answers = HashMap::new();
    for guess in 0..20_000_u32 {
        let mut sha256 = [7; 32];
        sha256[..4].copy_from_slice(&guess.to_be_bytes());
        let presented = Presented { sha256: &sha256, from: "10.0.0.1".parse().ok(), snapshot: &routes };
        *answers.entry(status(fake.keys.find(presented).await)).or_insert(0) += 1;
    }
    assert!(answers[&401] >= 250 && answers[&401] + answers[&503] == 20_000, "{answers:?}");
    assert!(fake.asked() < 2_000, "{} questions", fake.asked());
    let before = fake.asked();
    assert_eq!(status(fake.find(1, &routes).await), 200);
    assert_eq!(fake.asked(), before, "the good key is still known");
}

#[tokio::test]
async fn revoked_expired_and_rotated_away() {
    let fake = Fake::start();
    let routes = snapshot(1, &["pro"]);
    let now = now_unix_ms();
    let with = |change: &dyn Fn(&mut FoundKey)| {
        let mut key = found("key_a");
        change(&mut key);
        key
    };
    fake.put(1, with(&|key| key.key.revoked_unix_ms = Some(now)));
    fake.put(2, with(&|key| key.key.expires_unix_ms = Some(now - 1)));
    fake.put(3, with(&|key| key.secret_ends_unix_ms = Some(now - 1)));
    fake.put(4, with(&|key| key.secret_ends_unix_ms = Some(now + 60_000)));
    fake.put(5, with(&|key| key.key.tier = "gone".into()));
    let mut said = Vec::new();
    for secret in 1..=5 {
        said.push(fake.find(secret, &routes).await.map_or_else(|error| error.message.into_owned(), |_| "ok".into()));
    }
    assert!(said[0].contains("revoked") && said[1].contains("expired") && said[2].contains("expired"), "{said:?}");
    assert!(said[3] == "ok" && said[4].contains("tier"), "{said:?}");
}

#[tokio::test]
async fn a_reload_gives_the_key_its_tier_anew() {
    let fake = Fake::start();
    fake.put(1, found("key_a"));
    assert!(fake.find(1, &snapshot(1, &["pro"])).await.unwrap().may_call("m-1"));
    assert!(fake.find(1, &snapshot(2, &["pro"])).await.unwrap().may_call("m-2"));
    assert_eq!(status(fake.find(1, &snapshot(3, &["other"])).await), 403);
    let back = fake.find(1, &snapshot(4, &["pro"])).await.unwrap();
    assert!(back.may_call("m-4"));
    assert!(Arc::ptr_eq(&back, &fake.find(1, &snapshot(4, &["pro"])).await.unwrap()), "made once a generation");
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn changes_of_a_key_and_of_its_holders_are_noticed() {
    let fake = Fake::start();
    let routes = snapshot(1, &["pro"]);
    let team = FoundHolder { id: "team_x".into(), name: "x".into(), limits: LimitSet::default() };
    fake.put(1, FoundKey { team: Some(team), ..found("key_a") });
    fake.put(2, found("key_b"));
    for secret in [1, 2, 1, 2] {
        assert_eq!(status(fake.find(secret, &routes).await), 200);
    }
    assert_eq!(fake.asked(), 2);
    for (changed, asked) in [("key_b", 3), ("team_x", 4), ("key_none", 4)] {
        fake.keys.forget(&HashSet::from([changed]));
        for secret in [1, 2] {
            assert_eq!(status(fake.find(secret, &routes).await), 200);
        }
        assert_eq!(fake.asked(), asked, "{changed}");
    }
    fake.keys.forget_all();
    assert_eq!(status(fake.find(1, &routes).await), 200);
    assert_eq!(fake.asked(), 5);
}

#[tokio::test]
async fn an_answer_from_before_a_change_is_not_kept() {
    let (keys, mut requests) = StoredKeys::new();
    keys.synced(now_unix_ms());
    let asking = tokio::spawn({
        let keys = Arc::clone(&keys);
        async move {
            let routes = snapshot(1, &["pro"]);
            status(keys.find(Presented { sha256: &[1; 32], from: None, snapshot: &routes }).await)
        }
    });
    let Ask { answer, .. } = requests.asks.recv().await.unwrap();
    keys.forget(&HashSet::from(["key_a"]));
    assert!(answer.send(Some(found("key_a"))).is_ok());
    assert_eq!(asking.await.unwrap(), 200, "it was good when it was asked for");
    assert_eq!(keys.known.len(), 0);
}

#[tokio::test]
async fn an_outage_leaves_what_is_known_for_a_while() {
    let fake = Fake::start();
    let routes = snapshot(1, &["pro"]);
    fake.put(1, found("key_a"));
    assert_eq!(status(fake.find(1, &routes).await), 200);
    fake.keys.lost();
    assert_eq!(status(fake.find(1, &routes).await), 200);
    let unknown = fake.find(2, &routes).await.unwrap_err();
    assert_eq!((unknown.status, unknown.retry_after), (503, Some(RETRY_AFTER)));
    fake.keys.synced(now_unix_ms() - OUTAGE_MAX.as_millis() as i64);
    fake.keys.lost();
    assert_eq!(status(fake.find(1, &routes).await), 503);
    fake.keys.synced(now_unix_ms());
    assert_eq!(status(fake.find(1, &routes).await), 200);
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn a_store_that_does_not_say_is_not_waited_for() {
    let (keys, requests) = StoredKeys::new();
    let routes = snapshot(1, &["pro"]);
    let find = || keys.find(Presented { sha256: &[1; 32], from: None, snapshot: &routes });
    // Nobody takes the question.
    let start = std::time::Instant::now();
    assert_eq!(status(find().await), 503);
    assert!(start.elapsed() < 2 * LOOK_UP_MAX);
    // Nobody is left to take it.
    drop(requests);
    assert_eq!(status(find().await), 503);
}

#[tokio::test]
async fn use_is_noted_once_a_minute() {
    let mut fake = Fake::start();
    fake.put(1, found("key_a"));
    for _ in 0..10 {
        assert_eq!(status(fake.find(1, &snapshot(1, &["pro"])).await), 200);
    }
    assert_eq!(fake.uses.try_recv().unwrap().key, "key_a");
    assert!(fake.uses.try_recv().is_err());
}

/// Run with `--ignored --nocapture`: what 100,000 keys take, and what finding one costs.
#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn cost_of_many_keys() {
    let resident_kib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let (keys, requests) = StoredKeys::new();
    // What is not known is refused at once.
    drop(requests);
    keys.synced(now_unix_ms());
    let routes = snapshot(1, &["pro"]);
    let secret = |index: u32| {
        let mut sha256 = [7; 32];
        sha256[..4].copy_from_slice(&index.to_be_bytes());
        sha256
    };
    let holder = |id: String| Some(FoundHolder { name: id.clone(), id, limits: LimitSet::default() });
    let mut before_kib = resident_kib();
    for (from, until) in [(0, 1_000), (1_000, 100_000)] {
        for index in from..until {
            let id = format!("key_{index:024x}");
            let owner = holder(format!("own_{index:024x}"));
            let team = holder("team_0123456789abcdef01234567".into());
            let mut plain = FoundKey { owner, team, ..found(&id) };
            plain.key = KeyRecord { models: vec![], networks: vec![], metadata: [].into(), ..plain.key };
            let known = Known::of(Some(plain), &routes).unwrap();
            keys.known.insert(secret(index), Arc::new(known));
        }
        let start = std::time::Instant::now();
        let (mut found, rounds) = (0, 200_000);
        for round in 0..rounds {
            let sha256 = secret(round % until);
            let presented = Presented { sha256: &sha256, from: None, snapshot: &routes };
            found += usize::from(keys.find(presented).await.is_ok());
        }
        let each = start.elapsed() / rounds;
        let after_kib = resident_kib();
        println!("{until} keys: {} KiB more, {each:?} a look-up, {found} of {rounds} found", after_kib - before_kib);
        before_kib = after_kib;
    }
}
