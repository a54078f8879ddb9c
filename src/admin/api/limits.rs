//! How limits stand: of the gateway, models and tiers; and of one key with everyone who holds it.

use serde_json::{Value, json};

use super::keys::ID;
use super::shape::{Field, Shape, field, required};
use super::table::Operation;
use super::{Answer, Ask};
use crate::admin::problem::Problem;
use crate::config::{HolderKind, Key, LimitSet, Snapshot};
use crate::limits::{Claim, Claimed, Cost};
use crate::store::{HolderRecord, KeyRecord, Store};

const AMOUNT: Shape = Shape::Count { min: 0, max: u64::MAX };

const STATE: &[Field] = &[
    required("holder", Shape::Any, "global, model, tier, organisation, team, owner or key."),
    required("name", Shape::Any, "What the holder is called."),
    required("limit", Shape::Any, "Which limit, e.g. rpm."),
    required("amount", AMOUNT, "How much there is: requests, tokens, micro-dollars."),
    required("remaining", AMOUNT, "How much of it is left."),
    required("reset_ms", AMOUNT, "In how many milliseconds all of it is there again."),
];

pub static OPERATIONS: [Operation; 1] = [Operation::get(
    "listLimits",
    "/admin/v1/limits",
    Shape::Object(&[required("data", Shape::List(&Shape::Object(STATE)), "By holder and limit.")]),
    |ask| Box::pin(list(ask)),
)
.about("Shows how limits stand on this node: the gateway's, models' and tiers', or all that one key comes under.")
.query(&[field("key", ID, "The id of a key; of a static key, `static:NAME`.")])];

async fn list(ask: Ask) -> Result<Answer, Problem> {
    let (snapshot, counts) = (ask.api.snapshot()?, &ask.api.running()?.limits);
    let current = match ask.query("key") {
        None => counts.current(&of_routes(&snapshot)),
        Some(id) if id.starts_with("static:") => {
            let key = snapshot.keys.values().find(|key| key.id.as_ref() == id);
            let key: &Key = key.ok_or_else(|| Problem::no_such("key"))?;
            counts.current(&Claim::of_key(&snapshot, key))
        }
        Some(id) => {
            let key = Held::find(ask.api.store()?, id).await?;
            counts.current(&key.claim(&snapshot))
        }
    };
    let view = current.into_iter().map(|current| {
        json!({
            "holder": current.holder.name(),
            "name": current.name,
            "limit": current.limit.kind.name(),
            "amount": current.gauge.limit,
            "remaining": current.gauge.remaining,
            "reset_ms": current.gauge.reset_ms,
        })
    });
    Ok(Answer::ok(json!({"data": view.collect::<Vec<Value>>()})))
}

/// Everyone of routes.yaml who has limits.
fn of_routes(snapshot: &Snapshot) -> Claim<'_> {
    let wild = snapshot.models.wild.iter().map(|(_, model)| model);
    let models = snapshot.models.exact.iter().chain(wild);
    let models = models.map(|model| claimed((HolderKind::Model, &model.name, &model.name), &model.limits));
    let tiers = snapshot.tiers.values().map(|tier| claimed((HolderKind::Tier, &tier.name, &tier.name), &tier.shared));
    let gateway = claimed((HolderKind::Global, "", "gateway"), &snapshot.limits);
    Claim::new([gateway].into_iter().chain(models).chain(tiers), Cost::default())
}

fn claimed<'a>((kind, id, name): (HolderKind, &'a str, &'a str), limits: &LimitSet) -> Claimed<'a> {
    Claimed { kind, id, name, limits: limits.clone() }
}

/// A key of the store with everyone who holds it.
struct Held {
    key: KeyRecord,
    holders: Vec<HolderRecord>,
}

impl Held {
    async fn find(store: &dyn Store, id: &str) -> Result<Self, Problem> {
        let key = store.key(id).await?.ok_or_else(|| Problem::no_such("key"))?;
        let mut holders: Vec<HolderRecord> = Vec::new();
        // What the key names counts before what its owner or team belongs to.
        for kind in [HolderKind::Owner, HolderKind::Team, HolderKind::Organisation] {
            let named = match kind {
                HolderKind::Owner => key.owner.clone(),
                HolderKind::Team => key.team.clone().or_else(|| holders.iter().find_map(|holder| holder.team.clone())),
                _ => key
                    .organisation
                    .clone()
                    .or_else(|| holders.iter().rev().find_map(|holder| holder.organisation.clone())),
            };
            if let Some(id) = named {
                holders.extend(store.holder(&id).await?);
            }
        }
        Ok(Self { key, holders })
    }

    fn claim<'a>(&'a self, snapshot: &'a Snapshot) -> Claim<'a> {
        let key = |limits: &LimitSet| claimed((HolderKind::Key, &self.key.id, &self.key.name), limits);
        let tier = snapshot.tiers.get(&self.key.tier);
        let granted = tier.iter().flat_map(|tier| {
            let shared = claimed((HolderKind::Tier, &self.key.tier, &self.key.tier), &tier.shared);
            [shared, key(&tier.limits)]
        });
        let granted: Vec<Claimed<'a>> = granted.collect();
        let holders =
            self.holders.iter().map(|holder| claimed((holder.kind, &holder.id, &holder.name), &holder.limits));
        let gateway = claimed((HolderKind::Global, "", "gateway"), &snapshot.limits);
        let all = [gateway, key(&self.key.limits)].into_iter().chain(granted).chain(holders);
        Claim::new(all, Cost::default())
    }
}
