//! Keys, holders, applications, the audit log, changes, counters.

use std::collections::HashSet;
use std::time::Duration;

use forge::config::{HolderKind, LimitKind, LimitSet};
use forge::credential::Credential;
use forge::store::*;
use tokio::task::JoinSet;

use super::AnyStore;

pub fn act_at(at_unix_ms: i64) -> Act {
    Act { at_unix_ms, ..Act::now("root", "test") }
}

fn secret() -> Credential {
    Credential::random().unwrap()
}

pub fn new_key(name: &str, credential: &Credential) -> NewKey {
    NewKey { name: name.into(), tier: "pro".into(), ..NewKey::new(credential) }
}

fn limits(json: &str) -> LimitSet {
    serde_json::from_str(json).unwrap()
}

async fn create(store: &AnyStore, name: &str, at: i64) -> (KeyRecord, Credential) {
    let credential = secret();
    let created = store.create_key(&new_key(name, &credential), &act_at(at)).await.unwrap();
    (created.object().clone(), credential)
}

async fn find(store: &AnyStore, credential: &Credential) -> Option<FoundKey> {
    store.find_key(&credential.sha256()).await.unwrap()
}

pub async fn keys_are_created_found_and_listed(store: AnyStore) {
    let credential = secret();
    let new = NewKey {
        models: vec!["gpt-*".into()],
        endpoints: vec!["chat_completions".into()],
        networks: vec!["10.0.0.0/8".into(), "2001:db8::1".into()],
        metadata: [("team".to_owned(), "x'; DROP TABLE keys; --".to_owned())].into(),
        limits: limits(r#"{"rpm": 20, "budget": "5 USD/day"}"#),
        expires_unix_ms: Some(9_000),
        ..new_key("alice «é»", &credential)
    };
    let Created::New(created) = store.create_key(&new, &act_at(1_000)).await.unwrap() else { panic!("created before") };
    assert!(created.id.starts_with("key_") && created.id.len() == 28, "{}", created.id);
    assert!(credential.reveal().starts_with(&created.prefix) && created.prefix.len() == 11);
    assert_eq!((created.created_unix_ms, created.expires_unix_ms), (1_000, Some(9_000)));
    let found = find(&store, &credential).await.unwrap();
    assert_eq!((&found.key, &found.owner, found.secret_ends_unix_ms), (&created, &None, None));
    assert_eq!(found.key.limits.get(LimitKind::SpendDay), Some(5_000_000));
    assert_eq!(store.key(&created.id).await.unwrap(), Some(created.clone()));
    assert_eq!(find(&store, &secret()).await, None);

    let (other, _) = create(&store, "bob", 2_000).await;
    let all = store.keys(&KeyFilter::default(), &PageRequest::default()).await.unwrap();
    assert_eq!(all.items, [other.clone(), created.clone()], "the newest first");
    store.revoke_key(&other.id, &act_at(3_000)).await.unwrap();
    for (state, expected) in [(KeyState::InForce, &created.id), (KeyState::Revoked, &other.id)] {
        let filter = KeyFilter { state: Some(state), tier: Some("pro".into()), ..KeyFilter::default() };
        let keys = store.keys(&filter, &PageRequest::default()).await.unwrap().items;
        assert_eq!(keys.iter().map(|key| &key.id).collect::<Vec<_>>(), [expected]);
    }
}

pub async fn keys_change(store: AnyStore) {
    let (key, credential) = create(&store, "alice", 1_000).await;
    let change = KeyChange {
        name: Some("alicia".into()),
        tier: Some("free".into()),
        limits: Some(limits(r#"{"rpd": 5}"#)),
        expires_unix_ms: Some(Some(7_000)),
        ..KeyChange::default()
    };
    let changed = store.update_key(&key.id, &change, &act_at(2_000)).await.unwrap();
    assert_eq!(
        (changed.name.as_str(), changed.tier.as_str(), changed.expires_unix_ms),
        ("alicia", "free", Some(7_000))
    );
    assert_eq!((changed.prefix.as_str(), changed.created_unix_ms), (key.prefix.as_str(), 1_000), "the rest stays");
    assert_eq!(find(&store, &credential).await.unwrap().key, changed);
    let change = KeyChange { expires_unix_ms: Some(None), ..KeyChange::default() };
    assert_eq!(store.update_key(&key.id, &change, &act_at(2_500)).await.unwrap().expires_unix_ms, None);

    let used = |at_unix_ms| LastUse { key: key.id.clone(), at_unix_ms };
    store.touch_keys(&[used(5_000), used(4_000)]).await.unwrap();
    assert_eq!(store.key(&key.id).await.unwrap().unwrap().last_used_unix_ms, Some(5_000));

    let revoked = store.revoke_key(&key.id, &act_at(6_000)).await.unwrap();
    assert_eq!(revoked.revoked_unix_ms, Some(6_000));
    let again = store.revoke_key(&key.id, &act_at(8_000)).await.unwrap();
    assert_eq!(again.revoked_unix_ms, Some(6_000), "once revoked, always revoked then");
    let refused = store.update_key(&key.id, &change, &act_at(9_000)).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    let refused = store.rotate_key(&key.id, &NewSecret::of(&secret()), 0, &act_at(9_000)).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    let missing = store.revoke_key("key_none", &act_at(1)).await;
    assert!(matches!(missing, Err(StoreError::NotFound("key"))), "{missing:?}");
}

pub async fn rotation_has_a_grace(store: AnyStore) {
    let (key, first) = create(&store, "alice", 1_000).await;
    let (second, third) = (secret(), secret());
    let rotated = store.rotate_key(&key.id, &NewSecret::of(&second), 500, &act_at(2_000)).await.unwrap();
    assert_eq!((&rotated.id, rotated.rotated_unix_ms), (&key.id, Some(2_000)));
    assert!(second.reveal().starts_with(&rotated.prefix));
    assert_eq!(find(&store, &first).await.unwrap().secret_ends_unix_ms, Some(2_500));
    assert_eq!(find(&store, &second).await.unwrap().secret_ends_unix_ms, None);
    // A second rotation gives the one in force its grace, and ends what was in grace.
    store.rotate_key(&key.id, &NewSecret::of(&third), 10_000, &act_at(2_200)).await.unwrap();
    assert_eq!(find(&store, &first).await.unwrap().secret_ends_unix_ms, Some(2_200));
    assert_eq!(find(&store, &second).await.unwrap().secret_ends_unix_ms, Some(12_200));
    assert_eq!(find(&store, &third).await.unwrap().key.id, key.id);
    let taken = store.rotate_key(&key.id, &NewSecret::of(&second), 0, &act_at(2_300)).await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))), "{taken:?}");
    assert_eq!(find(&store, &third).await.unwrap().secret_ends_unix_ms, None, "a refused rotation changes nothing");
}

async fn holder(store: &AnyStore, new: NewHolder) -> HolderRecord {
    store.create_holder(&new, &act_at(1_000)).await.unwrap().object().clone()
}

pub async fn holders_nest(store: AnyStore) {
    let organisation = holder(&store, NewHolder::new(HolderKind::Organisation, "acme")).await;
    let organisation_id = Some(organisation.id.clone());
    let team = NewHolder { organisation: organisation_id.clone(), ..NewHolder::new(HolderKind::Team, "red") };
    let team = holder(&store, team).await;
    let owner = NewHolder {
        team: Some(team.id.clone()),
        email: Some("a@example.org".into()),
        limits: limits(r#"{"rpm": 3}"#),
        ..NewHolder::new(HolderKind::Owner, "alice")
    };
    let owner = holder(&store, owner).await;
    let credential = secret();
    let new = NewKey { owner: Some(owner.id.clone()), ..new_key("k", &credential) };
    let key = store.create_key(&new, &act_at(1_000)).await.unwrap().object().clone();

    let found = find(&store, &credential).await.unwrap();
    let id = |found: &Option<FoundHolder>| found.as_ref().map(|found| found.id.clone());
    assert_eq!(id(&found.owner), Some(owner.id.clone()));
    assert_eq!(found.owner.unwrap().limits.get(LimitKind::Rpm), Some(3));
    assert_eq!((id(&found.team), id(&found.organisation)), (Some(team.id.clone()), organisation_id.clone()));

    let by_team = KeyFilter { team: Some(team.id.clone()), ..KeyFilter::default() };
    let by_organisation = KeyFilter { organisation: organisation_id, ..KeyFilter::default() };
    for filter in [by_team, by_organisation] {
        let keys = store.keys(&filter, &PageRequest::default()).await.unwrap();
        assert_eq!(keys.items.len(), 1, "{filter:?}");
    }
    let members = HolderFilter { organisation: Some(organisation.id.clone()), ..HolderFilter::default() };
    let members = store.holders(&members, &PageRequest::default()).await.unwrap().items;
    let members: HashSet<String> = members.into_iter().map(|member| member.id).collect();
    assert_eq!(members, HashSet::from([team.id.clone(), owner.id.clone()]));

    let change = HolderChange { limits: Some(limits(r#"{"tpd": 9}"#)), ..HolderChange::default() };
    assert_eq!(store.update_holder(&team.id, &change, &act_at(2_000)).await.unwrap().name, "red");
    let found = find(&store, &credential).await.unwrap();
    assert_eq!(found.team.unwrap().limits.get(LimitKind::Tpd), Some(9));

    let in_use = store.delete_holder(&owner.id, &act_at(3_000)).await;
    assert!(matches!(in_use, Err(StoreError::Conflict(_))), "{in_use:?}");
    let change = KeyChange { owner: Some(None), ..KeyChange::default() };
    store.update_key(&key.id, &change, &act_at(3_000)).await.unwrap();
    store.delete_holder(&owner.id, &act_at(3_000)).await.unwrap();
    assert_eq!(store.holder(&owner.id).await.unwrap(), None);
}

pub async fn what_cannot_be_is_refused(store: AnyStore) {
    let team = holder(&store, NewHolder::new(HolderKind::Team, "red")).await;
    let credential = secret();
    let good = || new_key("k", &credential);
    let bad = [
        NewKey { name: String::new(), ..good() },
        NewKey { name: "a\nb".into(), ..good() },
        NewKey { tier: String::new(), ..good() },
        NewKey { models: vec!["a*b*c".into()], ..good() },
        NewKey { endpoints: vec!["chat".into()], ..good() },
        NewKey { networks: vec!["10.0.0.0/40".into()], ..good() },
        NewKey { owner: Some("own_none".into()), ..good() },
        NewKey { owner: Some(team.id.clone()), ..good() },
        NewKey { metadata: [(String::new(), "x".to_owned())].into(), ..good() },
    ];
    for bad in bad {
        let refused = store.create_key(&bad, &act_at(1_000)).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{bad:?}: {refused:?}");
    }
    store.create_key(&good(), &act_at(1_000)).await.unwrap();
    let twice = store.create_key(&good(), &act_at(1_000)).await;
    assert!(matches!(twice, Err(StoreError::Conflict(_))), "{twice:?}");

    let same_name = store.create_holder(&NewHolder::new(HolderKind::Team, "red"), &act_at(1)).await;
    assert!(matches!(same_name, Err(StoreError::Conflict(_))), "{same_name:?}");
    store.create_holder(&NewHolder::new(HolderKind::Owner, "red"), &act_at(1)).await.unwrap();
    for kind in [HolderKind::Tier, HolderKind::Key] {
        let refused = store.create_holder(&NewHolder::new(kind, "x"), &act_at(1)).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    let nested = NewHolder { team: Some(team.id.clone()), ..NewHolder::new(HolderKind::Team, "blue") };
    let refused = store.create_holder(&nested, &act_at(1)).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
}

pub async fn asking_twice_creates_once(store: AnyStore) {
    let act = |actor: &str, name: &str, fingerprint: &str| Act {
        actor: actor.into(),
        idempotency: Some(Idempotency { name: name.into(), fingerprint: fingerprint.into() }),
        ..act_at(1_000)
    };
    let first = store.create_key(&new_key("k", &secret()), &act("root", "once", "f")).await.unwrap();
    let again = store.create_key(&new_key("k", &secret()), &act("root", "once", "f")).await.unwrap();
    assert_eq!(again, Created::Before(first.object().clone()));
    let differs = store.create_key(&new_key("other", &secret()), &act("root", "once", "g")).await;
    assert!(matches!(differs, Err(StoreError::Conflict(_))), "{differs:?}");
    let other_actor = store.create_key(&new_key("k", &secret()), &act("eve", "once", "f")).await.unwrap();
    assert!(matches!(other_actor, Created::New(_)));
    // Pruned after a day.
    store.prune(1_000 + 86_400_001, &Retention::default()).await.unwrap();
    let later = store.create_key(&new_key("k", &secret()), &act("root", "once", "f")).await.unwrap();
    assert!(matches!(later, Created::New(_)));
}

pub async fn applications_are_decided_once(store: AnyStore) {
    let new = NewApplication {
        name: "Alice".into(),
        email: "alice@example.org".into(),
        purpose: "a thesis".into(),
        address: "203.0.113.7".into(),
    };
    let first = store.apply(&new, &act_at(1_000)).await.unwrap();
    let second = store.apply(&new, &act_at(2_000)).await.unwrap();
    assert_eq!((first.status, first.key.as_ref()), (ApplicationStatus::Pending, None));
    let credential = secret();
    let (approved, key) =
        store.approve_application(&first.id, &new_key("alice", &credential), &act_at(3_000)).await.unwrap();
    assert_eq!((approved.status, approved.key.as_ref()), (ApplicationStatus::Approved, Some(&key.id)));
    assert_eq!((approved.decided_unix_ms, approved.decided_by.as_deref()), (Some(3_000), Some("root")));
    assert!(find(&store, &credential).await.is_some());

    let unused = secret();
    let twice = store.approve_application(&first.id, &new_key("alice", &unused), &act_at(4_000)).await;
    assert!(matches!(twice, Err(StoreError::Conflict(_))), "{twice:?}");
    assert!(find(&store, &unused).await.is_none(), "no key of a refused approval");
    let rejected = store.reject_application(&second.id, Some("no thesis"), &act_at(5_000)).await.unwrap();
    assert_eq!((rejected.status, rejected.reason.as_deref()), (ApplicationStatus::Rejected, Some("no thesis")));
    let pending = store.applications(Some(ApplicationStatus::Pending), &PageRequest::default()).await.unwrap();
    assert_eq!(pending.items, []);
    let all = store.applications(None, &PageRequest::default()).await.unwrap();
    assert_eq!(all.items, [rejected, approved]);
    assert_eq!(store.application("app_none").await.unwrap(), None);
}

pub async fn every_change_is_in_the_audit_log(store: AnyStore) {
    let (key, credential) = create(&store, "alice", 1_000).await;
    let change = KeyChange { name: Some("bob".into()), ..KeyChange::default() };
    store.update_key(&key.id, &change, &act_at(2_000)).await.unwrap();
    store.rotate_key(&key.id, &NewSecret::of(&secret()), 60_000, &act_at(3_000)).await.unwrap();
    store.revoke_key(&key.id, &act_at(4_000)).await.unwrap();
    let reload = NewAuditEntry { action: "routes.reload".into(), object: "routes".into(), detail: "ok".into() };
    store.audit(&reload, &act_at(5_000)).await.unwrap();
    let log = store.audit_log(&AuditFilter::default(), &PageRequest::default()).await.unwrap().items;
    let actions: Vec<&str> = log.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["routes.reload", "key.revoke", "key.rotate", "key.update", "key.create"]);
    assert_eq!(log[3].detail, serde_json::json!({"name": "bob"}));
    assert!(log[1..].iter().all(|entry| entry.object == key.id && entry.actor == "root" && entry.via == "test"));
    let hash: String = credential.hash();
    for entry in &log {
        let text = entry.detail.to_string();
        assert!(!text.contains(credential.reveal()) && !text.contains(&hash[7..]), "{text}");
    }
    let filter = AuditFilter { action: Some("key.revoke".into()), ..AuditFilter::default() };
    assert_eq!(store.audit_log(&filter, &PageRequest::default()).await.unwrap().items.len(), 1);
}

pub async fn admin_tokens(store: AnyStore) {
    let credential = secret();
    let new = NewAdminToken {
        secret: NewSecret::of(&credential),
        name: "ci".into(),
        role: Role::Operate,
        expires_unix_ms: Some(9_000),
    };
    let token = store.create_admin_token(&new, &act_at(1_000)).await.unwrap().object().clone();
    assert_eq!((token.role, token.name.as_str()), (Role::Operate, "ci"));
    let found = store.find_admin_token(&credential.sha256()).await.unwrap();
    assert_eq!(found.as_ref(), Some(&token));
    let revoked = store.revoke_admin_token(&token.id, &act_at(2_000)).await.unwrap();
    assert_eq!(revoked.revoked_unix_ms, Some(2_000));
    assert_eq!(store.admin_tokens(&PageRequest::default()).await.unwrap().items, [revoked]);
    assert_eq!(store.find_admin_token(&[0; 32]).await.unwrap(), None);
    let missing = store.revoke_admin_token("adm_none", &act_at(1)).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))), "{missing:?}");
}

pub async fn changes_are_numbered_and_hinted(store: AnyStore) {
    let start = store.last_change().await.unwrap();
    let (key, _) = create(&store, "alice", 1_000).await;
    assert_eq!(store.last_change().await.unwrap(), start, "nobody can know a new key");
    let mut hints = store.hints();
    hints.mark_unchanged();
    store.revoke_key(&key.id, &act_at(2_000)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), hints.changed()).await.expect("a hint in time").unwrap();
    let changes = store.changes_since(start).await.unwrap();
    assert_eq!(changes, Changes { last: start + 1, what: Changed::Objects(vec![key.id.clone()]) });
    assert_eq!(store.changes_since(changes.last).await.unwrap().what, Changed::Objects(vec![]));
    // What was pruned cannot be told any more; and what never was neither.
    store.prune(2_000 + 3_600_001, &Retention::default()).await.unwrap();
    assert_eq!(store.changes_since(start).await.unwrap().what, Changed::Everything);
    assert_eq!(store.changes_since(start + 100).await.unwrap().what, Changed::Everything);
}

pub async fn changes_at_once_are_all_seen(store: AnyStore) {
    let (mut ids, mut tasks) = (HashSet::new(), JoinSet::new());
    for index in 0..20 {
        ids.insert(create(&store, &format!("k{index}"), 1_000).await.0.id);
    }
    for id in ids.clone() {
        let store = store.clone();
        tasks.spawn(async move { store.revoke_key(&id, &act_at(2_000)).await.unwrap() });
    }
    // Somebody who reads while they are made sees each exactly once, in order.
    let (mut since, mut seen) = (0, Vec::new());
    while seen.len() < ids.len() {
        let changes = store.changes_since(since).await.unwrap();
        let Changed::Objects(objects) = changes.what else { panic!("everything") };
        assert_eq!(changes.last - since, objects.len() as i64);
        seen.extend(objects);
        since = changes.last;
        tokio::task::yield_now().await;
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), ids);
}

pub async fn counters_add_up(store: AnyStore) {
    let counter = |name: &str, window_unix_ms, used| Counter {
        holder: "key:key_a".into(),
        name: name.into(),
        window_unix_ms,
        used,
    };
    store.add_counters(&[counter("rpd", 1_000, 5), counter("tpd", 1_000, 7)]).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let (store, changes) = (store.clone(), [counter("tpd", 1_000, 1), counter("rpd", 1_000, 2)]);
        tasks.spawn(async move { store.add_counters(&changes).await.unwrap() });
    }
    tasks.join_all().await;
    store.add_counters(&[counter("rpd", 2_000, 1), counter("tpd", 1_000, -3)]).await.unwrap();
    let mut all = store.counters(1_000).await.unwrap();
    all.sort_by_key(|counter| (counter.name.clone(), counter.window_unix_ms));
    assert_eq!(all, [counter("rpd", 1_000, 25), counter("rpd", 2_000, 1), counter("tpd", 1_000, 14)]);
    assert_eq!(store.counters(1_001).await.unwrap(), [counter("rpd", 2_000, 1)]);
}

pub async fn pages_are_whole(store: AnyStore) {
    let mut created = HashSet::new();
    for index in 0..25 {
        // Many at the same time: the cursor must tell them apart.
        created.insert(create(&store, "k", 1_000 + index / 10).await.0.id);
    }
    let (mut request, mut seen) = (PageRequest::first(4), Vec::new());
    loop {
        let page = store.keys(&KeyFilter::default(), &request).await.unwrap();
        assert!(page.items.len() <= 4 && !page.items.is_empty());
        seen.extend(page.items.into_iter().map(|key| key.id));
        create(&store, "later", 5_000).await;
        let Some(next) = page.next else { break };
        request.after = Cursor::parse(&next.to_string());
    }
    assert_eq!(seen.len(), created.len());
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), created);
}
