//! Between the store and the data plane's cache of keys, on the control runtime: answers what the cache asks, tells it
//! what changed, writes down which keys were used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::metrics::{self, StoreOperation};
use crate::proxy::keys::{Ask, Requests, StoredKeys};
use crate::store::{Changed, Changes, LastUse, Retention, Store, now_unix_ms};

/// How often it is asked what changed, whether anything was hinted at or not.
const POLL: Duration = Duration::from_millis(500);
/// The longest the store may take to say what changed, or which key has a secret.
const ANSWER_MAX: Duration = Duration::from_millis(1500);
/// The longest it may take to write down which keys were used.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// Questions put to the store at once.
const ASKS_AT_ONCE: usize = 4;
/// How often uses are written down.
const NOTE_EVERY: Duration = Duration::from_secs(5);
/// Uses written down at once; what is more waits for the next time.
const NOTES_MAX: usize = 1000;
/// How often what is past its use is removed.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Starts everything, on `runtime`.
pub(super) fn serve(runtime: &Handle, store: Arc<dyn Store>, (keys, requests): (Arc<StoredKeys>, Requests)) {
    runtime.spawn(follow(Arc::clone(&store), keys));
    runtime.spawn(answer(Arc::clone(&store), requests.asks));
    runtime.spawn(note_uses(Arc::clone(&store), requests.uses));
    runtime.spawn(prune(store));
}

/// Answers questions, a few at a time; one that the store does not answer in time is dropped.
async fn answer(store: Arc<dyn Store>, mut asks: mpsc::Receiver<Ask>) {
    let places = Arc::new(Semaphore::new(ASKS_AT_ONCE));
    while let Some(ask) = asks.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let _place = place;
            // Whoever asked may have gone while this waited.
            if ask.answer.is_closed() {
                return;
            }
            if let Some(found) = timed((StoreOperation::FindKey, ANSWER_MAX), store.find_key(&ask.sha256)).await {
                // An error says that nobody waits any more.
                let _ = ask.answer.send(found);
            }
        });
    }
}

/// Tells the cache what changed, for as long as the process lives.
async fn follow(store: Arc<dyn Store>, keys: Arc<StoredKeys>) {
    let mut hints = store.hints();
    let mut since = None;
    let mut up = true;
    loop {
        // Hints from here on are about what is not read yet.
        hints.mark_unchanged();
        let read_at_unix_ms = now_unix_ms();
        let told = match since {
            Some(since) => timed((StoreOperation::Changes, ANSWER_MAX), store.changes_since(since)).await,
            None => timed((StoreOperation::Changes, ANSWER_MAX), store.last_change())
                .await
                .map(|last| Changes { last, what: Changed::Everything }),
        };
        tell_if_new(up, told.is_some());
        up = told.is_some();
        match told {
            Some(changes) => {
                forget(&keys, &changes.what);
                since = Some(changes.last);
                keys.synced(read_at_unix_ms);
            }
            None => keys.lost(),
        }
        tokio::select! {
            // The sender lives as long as the store.
            _ = hints.changed() => {}
            () = sleep(POLL) => {}
        }
    }
}

/// Says so in the log when the store goes or comes back.
fn tell_if_new(before: bool, now: bool) {
    metrics::store_up(now);
    match (before, now) {
        (true, false) => log::error!("the store does not answer: known keys go on working, others are refused (503)"),
        (false, true) => log::info!("the store answers again"),
        (true, true) | (false, false) => {}
    }
}

fn forget(keys: &StoredKeys, what: &Changed) {
    match what {
        Changed::Objects(ids) if ids.is_empty() => {}
        Changed::Objects(ids) => keys.forget(&ids.iter().map(String::as_str).collect()),
        Changed::Everything => keys.forget_all(),
    }
}

/// Writes down which keys were used, some of them at a time.
async fn note_uses(store: Arc<dyn Store>, mut uses: mpsc::Receiver<LastUse>) {
    let mut noted = Vec::new();
    loop {
        if uses.recv_many(&mut noted, NOTES_MAX).await == 0 {
            return;
        }
        // The rest of what comes in this time goes along.
        sleep(NOTE_EVERY).await;
        while noted.len() < NOTES_MAX
            && let Ok(used) = uses.try_recv()
        {
            noted.push(used);
        }
        let mut latest: HashMap<String, i64> = HashMap::new();
        for used in noted.drain(..) {
            let at = latest.entry(used.key).or_default();
            *at = used.at_unix_ms.max(*at);
        }
        let latest: Vec<LastUse> = latest.into_iter().map(|(key, at_unix_ms)| LastUse { key, at_unix_ms }).collect();
        // When it fails, the next use says more than this one.
        timed((StoreOperation::TouchKeys, WRITE_MAX), store.touch_keys(&latest)).await;
    }
}

/// Removes what is past its use, for as long as the process lives.
async fn prune(store: Arc<dyn Store>) {
    loop {
        sleep(PRUNE_EVERY).await;
        match store.prune(now_unix_ms(), &Retention::default()).await {
            Ok(removed) => log::debug!("store: {removed} rows past their use are removed"),
            Err(error) => log::warn!("store: what is past its use could not be removed: {error}"),
        }
    }
}

/// What the store said; `None` when it failed or took too long, which is counted and logged.
async fn timed<T>(
    (operation, max): (StoreOperation, Duration),
    asked: impl Future<Output = crate::store::Result<T>>,
) -> Option<T> {
    let start = Instant::now();
    match timeout(max, asked).await {
        Ok(Ok(said)) => {
            metrics::store_done(operation, start.elapsed());
            return Some(said);
        }
        Ok(Err(error)) => log::debug!("store: {operation:?}: {error}"),
        Err(_) => log::debug!("store: {operation:?}: no answer within {max:?}"),
    }
    metrics::store_failed(operation);
    None
}
