//! The holders that were active lately, found by kind and id: sharded, bounded, swept.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::bucket::Bucket;
use super::gcra::Now;
use crate::config::{HolderKind, LimitKind, LimitSet};

const SHARDS: usize = 32;
/// Holders of one kind in one shard; two million of each kind in all.
const HOLDERS_MAX: usize = 65_536;

/// A holder and its buckets.
#[derive(Debug)]
pub(super) struct HolderState {
    pub kind: HolderKind,
    pub id: Arc<str>,
    pub buckets: Mutex<Buckets>,
}

/// The buckets of a holder, in the order of their kinds.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    list: Vec<Bucket>,
    /// It waits to be told to the fleet.
    pub queued: bool,
}

impl Buckets {
    /// The bucket of a kind, made on first use.
    pub fn of(&mut self, kind: LimitKind) -> &mut Bucket {
        let place = match self.list.binary_search_by_key(&kind, |bucket| bucket.kind) {
            Ok(place) => place,
            Err(place) => {
                self.list.insert(place, Bucket::new(kind));
                place
            }
        };
        &mut self.list[place]
    }

    /// Every bucket there is.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Bucket> {
        self.list.iter_mut()
    }
}

/// A holder's state, and the limits a request came under.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub state: Arc<HolderState>,
    pub limits: LimitSet,
}

/// A holder's buckets, while nobody else may touch them.
pub(super) type Locked<'a> = MutexGuard<'a, Buckets>;

/// Locks all holders of a request. Every request takes them in the order of kinds and ids, each once, so that no two
/// wait for each other.
pub(super) fn lock(holds: &[Hold]) -> Vec<Locked<'_>> {
    holds.iter().map(|hold| hold.state.buckets.lock()).collect()
}

/// Too many holders are active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

type Shard = RwLock<HashMap<Arc<str>, Arc<HolderState>>>;

/// Every active holder.
#[derive(Debug)]
pub(super) struct Table {
    hasher: RandomState,
    kinds: Vec<Vec<Shard>>,
}

impl Table {
    pub fn new() -> Self {
        let shards = |_| (0..SHARDS).map(|_| Shard::default()).collect();
        Self { hasher: RandomState::new(), kinds: HolderKind::ALL.iter().map(shards).collect() }
    }

    /// The state of a holder, made on first use.
    pub fn find(&self, kind: HolderKind, id: &str) -> Result<Arc<HolderState>, Full> {
        let shard = self.shard(kind, id);
        if let Some(state) = shard.read().get(id) {
            return Ok(Arc::clone(state));
        }
        let mut shard = shard.write();
        if let Some(state) = shard.get(id) {
            return Ok(Arc::clone(state));
        }
        if shard.len() >= HOLDERS_MAX {
            return Err(Full);
        }
        let id: Arc<str> = id.into();
        let state = Arc::new(HolderState { kind, id: Arc::clone(&id), buckets: Mutex::default() });
        shard.insert(id, Arc::clone(&state));
        Ok(state)
    }

    /// The state of a holder, if it is active.
    pub fn peek(&self, kind: HolderKind, id: &str) -> Option<Arc<HolderState>> {
        self.shard(kind, id).read().get(id).cloned()
    }

    fn shard(&self, kind: HolderKind, id: &str) -> &Shard {
        let hash = self.hasher.hash_one(id) as usize;
        &self.kinds[kind as usize][hash % SHARDS]
    }

    /// Every active holder.
    pub fn all(&self) -> Vec<Arc<HolderState>> {
        let shards = self.kinds.iter().flatten();
        shards.flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Forgets who has nothing left to count. Nobody can be using what is forgotten: a use holds the state, and is
    /// begun under the shard's lock.
    pub fn sweep(&self, now: Now) {
        for shard in self.kinds.iter().flatten() {
            shard.write().retain(|_, state| {
                // A fresh look-up would have to take this lock first.
                Arc::strong_count(state) > 1 || !idle(state, now)
            });
        }
    }
}

fn idle(state: &HolderState, now: Now) -> bool {
    let mut buckets = state.buckets.lock();
    !buckets.queued && buckets.iter_mut().all(|bucket| bucket.idle(now))
}
