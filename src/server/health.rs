//! The health of every way to a provider, as the admin API shows it.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::admin::api::View;
use crate::config::{Live, Model, Origin, Snapshot, Target};
use crate::proxy::lanes::{Known, Lanes};

/// Rows at most: more lanes than any configuration has.
const LANES_MAX: usize = 10_000;

/// Shows what `known` says of the lanes of the routes in force.
pub(super) fn view(live: Arc<Live>, known: Known) -> View {
    Arc::new(move || {
        let (snapshot, now) = (live.load(), Instant::now());
        let targets = models(&snapshot).flat_map(|model| {
            let targets = model.to.iter().chain(&model.fallback);
            targets.map(move |target| (model, target))
        });
        targets.flat_map(|(model, target)| lanes(&known, (model, target), now)).take(LANES_MAX).collect()
    })
}

fn models(snapshot: &Snapshot) -> impl Iterator<Item = &Model> {
    let wild = snapshot.models.wild.iter().map(|(_, model)| model.as_ref());
    snapshot.models.exact.iter().map(AsRef::as_ref).chain(wild)
}

fn lanes(known: &Known, (model, target): (&Model, &Target), now: Instant) -> Vec<Value> {
    // A wildcard's target is called as the client names it; what it shares with other models is its key.
    let (provider, upstream_model) = (&target.provider, target.model.as_deref().unwrap_or("*"));
    let lanes = Lanes::new(provider, upstream_model);
    let keys = provider.keys.len().max(1);
    let places =
        provider.origins.iter().enumerate().flat_map(|(index, origin)| (0..keys).map(move |key| (index, origin, key)));
    places
        .map(|(index, origin, key)| {
            let out = known.health.out(lanes.lane(index, key), now);
            json!({
                "model": model.name,
                "provider": provider.name,
                "upstream_model": upstream_model,
                "origin": url(origin),
                "key": key,
                "healthy": out.is_none(),
                "reason": out.map(|out| out.reason.name()),
                "left_ms": out.map(|out| u64::try_from(out.left.as_millis()).unwrap_or(u64::MAX)),
            })
        })
        .collect()
}

fn url(origin: &Origin) -> String {
    let scheme = if origin.tls { "https" } else { "http" };
    format!("{scheme}://{}", origin.authority.to_str().unwrap_or(&origin.host))
}
