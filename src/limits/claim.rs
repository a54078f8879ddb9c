//! Who asks for what: the holders whose limits a request comes under, and what it is expected to cost.

use super::bucket::Cost;
use crate::config::{HolderKind, Key, LimitSet, Model, Snapshot};

/// A request before the limits.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    holders: Vec<Claimed<'a>>,
    /// What it is expected to cost.
    pub cost: Cost,
}

/// One holder that a request comes under.
#[derive(Debug, Clone)]
pub struct Claimed<'a> {
    /// What it is.
    pub kind: HolderKind,
    /// What is counted is counted under it.
    pub id: &'a str,
    /// What answers call it.
    pub name: &'a str,
    /// Its limits.
    pub limits: LimitSet,
}

impl<'a> Claim<'a> {
    /// Under the limits of these holders, each at most once; those without limits are left out.
    pub fn new(holders: impl IntoIterator<Item = Claimed<'a>>, cost: Cost) -> Self {
        let mut holders: Vec<_> = holders.into_iter().filter(|claimed| !claimed.limits.is_empty()).collect();
        // The order in which holders are locked.
        holders.sort_unstable_by_key(|claimed| (claimed.kind, claimed.id));
        holders.dedup_by(|second, first| {
            let same = (first.kind, first.id) == (second.kind, second.id);
            if same {
                first.limits = LimitSet::tightest(&first.limits, &second.limits);
            }
            same
        });
        Self { holders, cost }
    }

    /// What `key` comes under when it calls `model`. Its cost is still to be said.
    pub fn of(snapshot: &'a Snapshot, key: &'a Key, model: &'a Model) -> Self {
        Self::under(snapshot, key, Some(model))
    }

    /// What `key` comes under whatever it calls.
    pub fn of_key(snapshot: &'a Snapshot, key: &'a Key) -> Self {
        Self::under(snapshot, key, None)
    }

    fn under(snapshot: &'a Snapshot, key: &'a Key, model: Option<&'a Model>) -> Self {
        let claimed = |kind, (id, name): (&'a str, &'a str), limits: &LimitSet| {
            let limits = limits.clone();
            (!limits.is_empty()).then_some(Claimed { kind, id, name, limits })
        };
        let routed = [
            claimed(HolderKind::Global, ("", "gateway"), &snapshot.limits),
            model.and_then(|model| claimed(HolderKind::Model, (&model.name, &model.name), &model.limits)),
            claimed(HolderKind::Tier, (&key.tier.name, &key.tier.name), &key.tier.shared),
            // What the tier grants to each key and the key's own: the tighter of each kind counts.
            claimed(HolderKind::Key, (&key.id, &key.name), &key.tier.limits),
            claimed(HolderKind::Key, (&key.id, &key.name), &key.limits),
        ];
        let stored =
            key.holders.iter().map(|(holder, limits)| claimed(holder.kind, (&holder.id, &holder.name), limits));
        Self::new(routed.into_iter().chain(stored).flatten(), Cost::default())
    }

    /// The same, expected to cost `cost`.
    pub fn costing(self, cost: Cost) -> Self {
        Self { cost, ..self }
    }

    /// Whether nothing limits it.
    pub fn is_free(&self) -> bool {
        self.holders.is_empty()
    }

    /// The holders, the widest first.
    pub fn holders(&self) -> &[Claimed<'a>] {
        &self.holders
    }
}
