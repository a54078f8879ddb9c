//! One key of the store: made once from what the store said, and again for each generation of the routes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::config::{Holder, HolderKind, Key, LimitSet, Pattern, Snapshot, parse_network};
use crate::endpoint::{Endpoint, EndpointSet};
use crate::error::ApiError;
use crate::store::{FoundHolder, FoundKey};

/// A key's use is noted once in this time.
const NOTE_EVERY_MS: i64 = 60_000;

/// A key that was found in the store and not revoked.
pub struct Known {
    key: ArcSwap<Key>,
    /// The generation of the routes whose tier the key has.
    generation: AtomicU64,
    /// When the key, or this secret of it, ends; `i64::MAX`: never.
    ends_unix_ms: i64,
    noted_unix_ms: AtomicI64,
}

/// Why a secret opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No key has it.
    Unknown,
    /// Its key was revoked.
    Revoked,
    /// Its key's tier is not in the routes.
    TierNotServed,
}

impl Refusal {
    /// What the client reads.
    pub fn answer(self) -> ApiError {
        match self {
            Self::Unknown => ApiError::invalid_key(),
            Self::Revoked => ApiError::revoked_key(),
            Self::TierNotServed => ApiError::tier_not_served(),
        }
    }
}

impl Known {
    /// Of what the store said.
    ///
    /// # Errors
    /// There is no key, or none that may be used.
    pub fn of(found: Option<FoundKey>, snapshot: &Snapshot) -> Result<Self, Refusal> {
        let found = found.ok_or(Refusal::Unknown)?;
        if found.key.revoked_unix_ms.is_some() {
            return Err(Refusal::Revoked);
        }
        let never = i64::MAX;
        let ends_unix_ms = found.key.expires_unix_ms.unwrap_or(never).min(found.secret_ends_unix_ms.unwrap_or(never));
        let key = key(found, snapshot)?;
        Ok(Self {
            key: ArcSwap::from_pointee(key),
            generation: AtomicU64::new(snapshot.generation),
            ends_unix_ms,
            noted_unix_ms: AtomicI64::new(0),
        })
    }

    /// Whether it has ended.
    pub fn ended(&self, now_unix_ms: i64) -> bool {
        now_unix_ms >= self.ends_unix_ms
    }

    /// The key with its tier as this snapshot has it. An older snapshot gets the newer tier.
    ///
    /// # Errors
    /// The snapshot has no such tier.
    pub fn under(&self, snapshot: &Snapshot) -> Result<Arc<Key>, Refusal> {
        if self.generation.load(Ordering::Acquire) >= snapshot.generation {
            return Ok(self.key.load_full());
        }
        let before = self.key.load_full();
        let tier = snapshot.tiers.get(&before.tier.name).ok_or(Refusal::TierNotServed)?;
        let key = Arc::new(Key { tier: Arc::clone(tier), ..Key::clone(&before) });
        self.key.store(Arc::clone(&key));
        self.generation.fetch_max(snapshot.generation, Ordering::AcqRel);
        Ok(key)
    }

    /// Whether this use is one to be noted: the first in a while.
    pub fn is_use_to_be_noted(&self, now_unix_ms: i64) -> bool {
        let noted = self.noted_unix_ms.load(Ordering::Relaxed);
        now_unix_ms - noted >= NOTE_EVERY_MS
            && self.noted_unix_ms.compare_exchange(noted, now_unix_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether one of these ids is the key's, or of one of its holders.
    pub fn concerns(&self, ids: &HashSet<&str>) -> bool {
        let key = self.key.load();
        let holders = [&key.owner, &key.team, &key.organisation];
        ids.contains(key.id.as_ref()) || holders.into_iter().flatten().any(|id| ids.contains(id.as_ref()))
    }
}

fn key(found: FoundKey, snapshot: &Snapshot) -> Result<Key, Refusal> {
    let tier = snapshot.tiers.get(&found.key.tier).ok_or(Refusal::TierNotServed)?;
    let id = |holder: &Option<FoundHolder>| holder.as_ref().map(|holder| Arc::from(holder.id.as_str()));
    let (owner, team, organisation) = (id(&found.owner), id(&found.team), id(&found.organisation));
    let holders = [
        holder(HolderKind::Organisation, found.organisation),
        holder(HolderKind::Team, found.team),
        holder(HolderKind::Owner, found.owner),
    ];
    // What the store took, it has checked: nothing is left out here.
    let endpoints: Vec<Endpoint> = found.key.endpoints.iter().filter_map(|name| Endpoint::by_name(name)).collect();
    Ok(Key {
        id: found.key.id.into(),
        name: found.key.name,
        tier: Arc::clone(tier),
        models: found.key.models.iter().filter_map(|pattern| Pattern::parse(pattern)).collect(),
        metadata: found.key.metadata.into_iter().collect::<HashMap<_, _>>(),
        endpoints: if found.key.endpoints.is_empty() { EndpointSet::ALL } else { EndpointSet::of(&endpoints) },
        networks: found.key.networks.iter().filter_map(|network| parse_network(network)).collect(),
        expires_unix: found.key.expires_unix_ms.map(|unix_ms| unix_ms / 1000),
        limits: found.key.limits,
        owner,
        team,
        organisation,
        holders: holders.into_iter().flatten().collect(),
    })
}

fn holder(kind: HolderKind, found: Option<FoundHolder>) -> Option<(Holder, LimitSet)> {
    let found = found.filter(|found| !found.limits.is_empty())?;
    Some((Holder { kind, id: found.id.into(), name: found.name.into() }, found.limits))
}
