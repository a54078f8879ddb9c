//! The keys of the store, as the data plane knows them: a bounded cache, filled before a body byte is read.
//!
//! Owns what is remembered of keys and for how long. It never touches the database: a miss is asked over a channel,
//! with a deadline, and [`Requests`] is answered on the control runtime (`server/keys.rs`), which also tells what
//! changed. Keys of routes.yaml never come here.
//!
//! While the store does not answer, keys that are known go on working for [`OUTAGE_MAX`]; others get a 503, since
//! nobody can say whether they are good.

mod flood;
mod known;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use quick_cache::sync::Cache;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Key, Snapshot};
use crate::error::ApiError;
use crate::metrics::{self, KeyLookup};
use crate::store::{FoundKey, LastUse};
use flood::Flood;
use known::{Known, Refusal};

/// Keys that are remembered, each in about 0.6 KiB, or twice that with lists and metadata. Shards fill unevenly, so
/// 100,000 need some room.
pub const KNOWN_MAX: usize = 120_000;
/// Secrets that are remembered to be no key, apart from the others, so that guesses push no key out.
const REFUSED_MAX: usize = 10_000;
/// For how long.
const REFUSED_MS: i64 = 1_000;
/// How long known keys go on working while the store does not answer.
pub const OUTAGE_MAX: Duration = Duration::from_secs(3600);
/// How long a request waits to learn whether its key is good.
const LOOK_UP_MAX: Duration = Duration::from_secs(2);
/// When a client may ask again that could not be answered.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Questions that wait for the control runtime.
const ASKS_MAX: usize = 1024;
/// Notes of use that wait for the control runtime; what does not fit is noted a minute later.
const USES_MAX: usize = 8192;

/// The cache.
pub struct StoredKeys {
    known: Cache<[u8; 32], Arc<Known>>,
    refused: Cache<[u8; 32], Refused>,
    flood: Flood,
    asks: mpsc::Sender<Ask>,
    uses: mpsc::Sender<LastUse>,
    /// Counts what was forgotten, so that an answer from before is not kept after.
    epoch: AtomicU64,
    /// When it was last certain that nothing known has changed.
    synced_unix_ms: AtomicI64,
    /// Whether the store answered last time.
    answers: AtomicBool,
}

/// What the data plane wants of the control runtime.
pub struct Requests {
    /// Questions, each to be answered.
    pub asks: mpsc::Receiver<Ask>,
    /// Which keys were used, each at most once a minute.
    pub uses: mpsc::Receiver<LastUse>,
}

/// A secret whose key is wanted.
pub struct Ask {
    /// The secret's SHA-256.
    pub sha256: [u8; 32],
    /// Takes the key, or that there is none; dropped when the store did not say.
    pub answer: oneshot::Sender<Option<FoundKey>>,
}

/// What a request brings.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// The SHA-256 of its secret.
    pub sha256: &'a [u8; 32],
    /// Where it came from.
    pub from: Option<IpAddr>,
    /// The routes it is judged by.
    pub snapshot: &'a Snapshot,
}

#[derive(Clone, Copy)]
struct Refused {
    why: Refusal,
    until_unix_ms: i64,
    /// Another generation may have the tier.
    generation: u64,
}

impl StoredKeys {
    /// An empty cache, and what it will ask.
    pub fn new() -> (Arc<Self>, Requests) {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (uses, used) = mpsc::channel(USES_MAX);
        let keys = Self {
            known: Cache::new(KNOWN_MAX),
            refused: Cache::new(REFUSED_MAX),
            flood: Flood::default(),
            asks,
            uses,
            epoch: AtomicU64::new(0),
            synced_unix_ms: AtomicI64::new(0),
            answers: AtomicBool::new(true),
        };
        (Arc::new(keys), Requests { asks: asked, uses: used })
    }

    /// The key of a secret.
    ///
    /// # Errors
    /// 401 when there is none, or it was revoked or has expired; 403 when its tier is not served; 503 when that
    /// cannot be found out in time. Dropping the future leaves nothing behind.
    pub async fn find(&self, presented: Presented<'_>) -> Result<Arc<Key>, ApiError> {
        let now_unix_ms = now_unix_ms();
        if let Some(known) = self.known.get(presented.sha256) {
            metrics::key_lookup(KeyLookup::Hit);
            return self.vouch(&known, presented.snapshot, now_unix_ms);
        }
        // Rare, and large: boxed, so that other requests do not carry its state.
        match pingora_timeout::timeout(LOOK_UP_MAX, Box::pin(self.look_up(presented, now_unix_ms))).await {
            Ok(found) => found,
            Err(_) => Err(unavailable()),
        }
    }

    async fn look_up(&self, presented: Presented<'_>, now_unix_ms: i64) -> Result<Arc<Key>, ApiError> {
        self.remembered_refusal(&presented, now_unix_ms)?;
        if !self.answers.load(Ordering::Relaxed) {
            return Err(unavailable());
        }
        // One question for each secret, however many requests bring it.
        let place = match self.known.get_value_or_guard_async(presented.sha256).await {
            Ok(known) => return self.vouch(&known, presented.snapshot, now_unix_ms),
            Err(place) => place,
        };
        self.remembered_refusal(&presented, now_unix_ms)?;
        if !self.flood.admits(presented.from) {
            metrics::key_lookup(KeyLookup::Throttled);
            return Err(unavailable());
        }
        metrics::key_lookup(KeyLookup::Miss);
        let epoch = self.epoch.load(Ordering::Acquire);
        let found = self.ask(presented.sha256).await?;
        match Known::of(found, presented.snapshot) {
            Ok(known) => {
                let known = Arc::new(known);
                // An error says that it was forgotten meanwhile, which is as good.
                let _ = place.insert(Arc::clone(&known));
                if self.epoch.load(Ordering::Acquire) != epoch {
                    self.known.remove(presented.sha256);
                }
                self.vouch(&known, presented.snapshot, now_unix_ms)
            }
            Err(why) => {
                let generation = presented.snapshot.generation;
                let refused = Refused { why, until_unix_ms: now_unix_ms + REFUSED_MS, generation };
                self.refused.insert(*presented.sha256, refused);
                Err(why.answer())
            }
        }
    }

    fn remembered_refusal(&self, presented: &Presented<'_>, now_unix_ms: i64) -> Result<(), ApiError> {
        let Some(refused) = self.refused.get(presented.sha256) else { return Ok(()) };
        if refused.until_unix_ms <= now_unix_ms || refused.generation != presented.snapshot.generation {
            return Ok(());
        }
        metrics::key_lookup(KeyLookup::Refused);
        Err(refused.why.answer())
    }

    async fn ask(&self, sha256: &[u8; 32]) -> Result<Option<FoundKey>, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(Ask { sha256: *sha256, answer }).map_err(|_| unavailable())?;
        answered.await.map_err(|_| unavailable())
    }

    /// The key as it is to be judged by this snapshot, if it is good now.
    fn vouch(&self, known: &Known, snapshot: &Snapshot, now_unix_ms: i64) -> Result<Arc<Key>, ApiError> {
        if !self.is_synced(now_unix_ms) {
            return Err(unavailable());
        }
        if known.ended(now_unix_ms) {
            return Err(ApiError::expired_key());
        }
        let key = known.under(snapshot).map_err(Refusal::answer)?;
        if known.is_use_to_be_noted(now_unix_ms) {
            // A full queue is no loss: the key's next use is noted instead.
            let _ = self.uses.try_send(LastUse { key: key.id.as_ref().to_owned(), at_unix_ms: now_unix_ms });
        }
        Ok(key)
    }

    /// Whether known keys may be used: what changed was learned not too long ago.
    pub fn is_synced(&self, now_unix_ms: i64) -> bool {
        let outage_max_ms = OUTAGE_MAX.as_millis() as i64;
        now_unix_ms - self.synced_unix_ms.load(Ordering::Relaxed) < outage_max_ms
    }

    /// The store answered: everything known is as it says, but for what [`forget`](Self::forget) is told.
    pub fn synced(&self, at_unix_ms: i64) {
        self.synced_unix_ms.store(at_unix_ms, Ordering::Relaxed);
        self.answers.store(true, Ordering::Relaxed);
        metrics::keys_known(self.known.len());
    }

    /// The store did not answer.
    pub fn lost(&self) {
        self.answers.store(false, Ordering::Relaxed);
    }

    /// Forgets the keys of these ids, and those that these hold.
    pub fn forget(&self, ids: &HashSet<&str>) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.known.retain(|_, known| !known.concerns(ids));
        self.refused.clear();
    }

    /// Forgets every key.
    pub fn forget_all(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.known.clear();
        self.refused.clear();
    }
}

fn unavailable() -> ApiError {
    ApiError::keys_unavailable(RETRY_AFTER)
}

fn now_unix_ms() -> i64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
