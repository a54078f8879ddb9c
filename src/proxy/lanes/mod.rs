//! What this process knows about the ways to providers: which are kept out, and how busy each is.
//!
//! A lane is one origin of one provider, with one credential, for one upstream model. What happens on it is
//! held against the part of it that is at fault: the key (refused), its quota (429), or the place (failures
//! and silence). The state is found by hashes of a lane's parts, so it survives reloads; it is bounded; and
//! as long as nothing is wrong, asking for it costs one atomic load. Owns no clock: time is passed in.

mod breaker;
mod health;
mod load;
mod underway;

pub use breaker::Out;
pub use health::{Fault, Health};
pub use load::{Load, Loads, Seen};
pub use underway::Underway;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use crate::config::Provider;

/// One part of a lane: a hash that means the same in every generation of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(u64);

impl Id {
    /// The hash of `parts`.
    pub fn of(parts: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        parts.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// The hash of both: cheaper than hashing what they were made of.
    pub fn and(self, other: Self) -> Self {
        Self(mixed(self.0.rotate_left(32) ^ other.0))
    }

    /// As a number whose bits are all as good as random.
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// One way to a provider, by the parts that can be at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// Origin and model: what fails, and what is busy.
    pub place: Id,
    /// The credential, wherever and for whatever it is used.
    pub key: Id,
    /// What a rate limit speaks about: the credential at this place.
    pub quota: Id,
    /// The origin, whatever the model: what a probe asks.
    pub site: Id,
}

/// What the lanes to one model of one provider have in common.
#[derive(Debug, Clone, Copy)]
pub struct Lanes<'a> {
    provider: &'a Provider,
    provider_id: Id,
    /// Of the provider and the model.
    pub id: Id,
}

impl<'a> Lanes<'a> {
    /// The lanes to `upstream_model` of `provider`.
    pub fn new(provider: &'a Provider, upstream_model: &str) -> Self {
        let provider_id = Id::of(&provider.name);
        Self { provider, provider_id, id: provider_id.and(Id::of(upstream_model)) }
    }

    /// The model at the origin at this position.
    pub fn place(&self, origin: usize) -> Id {
        self.id.and(self.origin(origin))
    }

    /// The origin at this position, whatever the model.
    pub fn site(&self, origin: usize) -> Id {
        self.provider_id.and(self.origin(origin))
    }

    fn origin(&self, origin: usize) -> Id {
        Id::of(self.provider.origins.get(origin).map(|origin| (&origin.authority, &origin.base_path)))
    }

    /// The key at this position; a provider without keys has one that stands for none.
    pub fn key(&self, key: usize) -> Id {
        self.provider_id.and(Id(self.provider.keys.get(key).map_or(0, |key| key.fingerprint)))
    }

    /// The lane of the origin and the key at these positions.
    pub fn lane(&self, origin: usize, key: usize) -> Lane {
        let (origin, key) = (self.origin(origin), self.key(key));
        let place = self.id.and(origin);
        Lane { place, key, quota: place.and(key), site: self.provider_id.and(origin) }
    }
}

/// All of it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What is kept out.
    pub health: Arc<Health>,
    /// How busy places are.
    pub loads: Arc<Loads>,
}

impl Known {
    /// Begins an attempt on `lane`; `None` while it is kept out.
    pub fn begin(&self, lane: Lane, now: Instant) -> Option<Underway> {
        let pass = self.health.admit(lane, now)?;
        Some(Underway::new(self, (lane, pass), now))
    }

    /// Begins an attempt on `lane` although it may be kept out: there is no other.
    pub fn begin_anyway(&self, lane: Lane, now: Instant) -> Underway {
        let pass = self.health.admit(lane, now).unwrap_or_default();
        Underway::new(self, (lane, pass), now)
    }
}
