//! Records of files.

use forge::store::{FileBounds, FileDone, FileQuery, Held, Kept, NewFile, Order, Viewer};

use crate::AnyStore;

const HOUR_MS: i64 = 3_600_000;
const NONE: FileBounds =
    FileBounds { key: Held { files: u64::MAX, bytes: u64::MAX }, tier: Held { files: u64::MAX, bytes: u64::MAX } };

fn new(id: &str, key: &str, at: i64) -> NewFile {
    let team = key.contains("team").then(|| "blue".to_owned());
    NewFile { id: id.into(), key_id: key.into(), tier: format!("tier-{key}"), shared_team: team, created_unix_ms: at }
}

fn done(bytes: u64) -> FileDone {
    FileDone {
        purpose: "batch".into(),
        filename: "a \u{1f980} ' \".jsonl".into(),
        content_type: "application/jsonl".into(),
        bytes,
        sha256: "ab".repeat(32),
        expires_unix_ms: None,
    }
}

fn viewer(key_id: &str) -> Viewer<'_> {
    Viewer { key_id, team: None }
}

async fn put(store: &AnyStore, new: &NewFile, done: &FileDone) {
    assert_eq!(store.begin_file(new, &NONE).await.unwrap(), Kept::Yes);
    assert_eq!(store.finish_file(&new.id, done, &NONE).await.unwrap(), Kept::Yes);
}

/// The ids of the doomed files that this test made: the database may be shared.
async fn doomed(store: &AnyStore, (now, stale): (i64, i64), prefix: &str) -> Vec<String> {
    let found = store.doomed_files(now, stale, 1000).await.unwrap();
    let mut ids: Vec<String> = found.into_iter().map(|file| file.id).filter(|id| id.starts_with(prefix)).collect();
    ids.sort();
    ids
}

pub async fn a_file_is_seen_once_it_is_ready(store: AnyStore) {
    let file = new("file-ready", "key-ready", 5);
    assert_eq!(store.begin_file(&file, &NONE).await.unwrap(), Kept::Yes);
    assert_eq!(store.file(&file.id, viewer("key-ready"), 10).await.unwrap(), None);
    store.note_ticket(&file.id, "ticket").await.unwrap();
    assert_eq!(store.finish_file(&file.id, &done(7), &NONE).await.unwrap(), Kept::Yes);
    let found = store.file(&file.id, viewer("key-ready"), 10).await.unwrap().unwrap();
    assert_eq!((found.filename.as_str(), found.bytes, found.created_unix_ms), ("a \u{1f980} ' \".jsonl", 7, 5));
    assert_eq!(store.finish_file(&file.id, &done(7), &NONE).await.unwrap(), Kept::Gone, "it was finished already");
    assert_eq!(store.file(&file.id, viewer("key-other"), 10).await.unwrap(), None);
    store.doom_file(&file.id).await.unwrap();
    assert_eq!(store.file(&file.id, viewer("key-ready"), 10).await.unwrap(), None);
    assert_eq!(doomed(&store, (0, 0), "file-ready").await, ["file-ready"]);
    store.forget_file(&file.id).await.unwrap();
    assert_eq!(store.doomed_file(&file.id).await.unwrap(), None);
}

pub async fn files_are_listed_in_both_orders(store: AnyStore) {
    for (index, at) in [10, 20, 20, 30].into_iter().enumerate() {
        put(&store, &new(&format!("file-list-{index}"), "key-list", at), &done(1)).await;
    }
    let list = async |order, after, limit| {
        let query =
            FileQuery { viewer: viewer("key-list"), purpose: Some("batch"), order, after, limit, now_unix_ms: 40 };
        let found = store.files(&query).await.unwrap();
        found.into_iter().map(|file| file.id.trim_start_matches("file-list-").to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list(Order::Descending, None, 10).await, "3 2 1 0");
    assert_eq!(list(Order::Ascending, None, 2).await, "0 1");
    assert_eq!(list(Order::Ascending, Some((20, "file-list-1")), 9).await, "2 3");
    assert_eq!(list(Order::Descending, Some((20, "file-list-2")), 9).await, "1 0");
    let query = FileQuery {
        viewer: viewer("key-list"),
        purpose: Some("vision"),
        order: Order::Ascending,
        after: None,
        limit: 9,
        now_unix_ms: 40,
    };
    assert!(store.files(&query).await.unwrap().is_empty());
}

pub async fn a_team_sees_what_is_shared(store: AnyStore) {
    put(&store, &new("file-shared", "key-team-1", 1), &done(1)).await;
    put(&store, &new("file-private", "key-alone", 1), &done(1)).await;
    let colleague = Viewer { key_id: "key-team-2", team: Some("blue") };
    assert!(store.file("file-shared", colleague, 2).await.unwrap().is_some());
    assert!(store.file("file-private", colleague, 2).await.unwrap().is_none());
    let stranger = Viewer { key_id: "key-team-3", team: Some("red") };
    assert!(store.file("file-shared", stranger, 2).await.unwrap().is_none());
    assert!(store.file("file-shared", viewer("key-team-2"), 2).await.unwrap().is_none());
}

pub async fn what_has_expired_or_died_is_doomed(store: AnyStore) {
    let expiring = FileDone { expires_unix_ms: Some(HOUR_MS), ..done(1) };
    put(&store, &new("file-past-1", "key-past", 1), &expiring).await;
    let (dead, alive) = (new("file-past-2", "key-past", 1), new("file-past-3", "key-past", 1));
    for file in [&dead, &alive] {
        store.begin_file(file, &NONE).await.unwrap();
    }
    store.renew_uploads(std::slice::from_ref(&alive.id), HOUR_MS).await.unwrap();
    assert!(store.file("file-past-1", viewer("key-past"), HOUR_MS - 1).await.unwrap().is_some());
    assert!(store.file("file-past-1", viewer("key-past"), HOUR_MS).await.unwrap().is_none());
    assert_eq!(doomed(&store, (HOUR_MS, HOUR_MS), "file-past").await, ["file-past-1", "file-past-2"]);
    assert_eq!(store.finish_file(&dead.id, &done(1), &NONE).await.unwrap(), Kept::Gone);
    assert_eq!(store.finish_file(&alive.id, &done(1), &NONE).await.unwrap(), Kept::Yes);
}

pub async fn bounds_hold_for_keys_and_tiers_also_at_once(store: AnyStore) {
    let of_key = |files, bytes| FileBounds { key: Held { files, bytes }, ..NONE };
    let of_tier = |files, bytes| FileBounds { tier: Held { files, bytes }, ..NONE };
    let file = |index: usize| new(&format!("file-bound-{index}"), "key-bound", 1);
    let tries = (0..8).map(|index| {
        let (store, file) = (store.clone(), file(index));
        tokio::spawn(async move { store.begin_file(&file, &of_key(5, 100)).await.unwrap() })
    });
    let results = futures::future::join_all(tries).await;
    let begun: Vec<usize> = (0..8).filter(|index| *results[*index].as_ref().unwrap() == Kept::Yes).collect();
    assert_eq!(begun.len(), 5, "{results:?}");
    let [a, b, c, ..] = begun[..] else { panic!() };
    assert_eq!(store.finish_file(&file(a).id, &done(60), &of_key(5, 100)).await.unwrap(), Kept::Yes);
    assert_eq!(store.finish_file(&file(b).id, &done(41), &of_key(5, 100)).await.unwrap(), Kept::OverKey);
    assert_eq!(store.finish_file(&file(b).id, &done(41), &of_tier(5, 100)).await.unwrap(), Kept::OverTier);
    assert_eq!(store.finish_file(&file(b).id, &done(40), &of_key(5, 100)).await.unwrap(), Kept::Yes);
    assert_eq!(store.begin_file(&file(100), &of_tier(5, 0)).await.unwrap(), Kept::OverTier);
    // What is doomed counts no more, once.
    for _ in 0..2 {
        store.doom_file(&file(a).id).await.unwrap();
    }
    assert_eq!(store.finish_file(&file(c).id, &done(61), &of_key(5, 100)).await.unwrap(), Kept::OverKey);
    assert_eq!(store.finish_file(&file(c).id, &done(60), &of_key(5, 100)).await.unwrap(), Kept::Yes);
    assert_eq!(store.begin_file(&file(101), &of_key(5, 0)).await.unwrap(), Kept::Yes);
    assert_eq!(store.begin_file(&file(102), &of_key(5, 0)).await.unwrap(), Kept::OverKey);
}
