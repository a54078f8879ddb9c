//! The routing decision: pure. Snapshot, request and seed in, an ordered list of attempts out.
//!
//! What the decision depends on is in its arguments, so `forge explain` prints exactly what a request
//! would get. Order: the first rule that matches replaces the model; then `to`, ordered by `pick`; then
//! `else`. A target that does not serve the endpoint is passed over, and so is a lane that is kept out.
//! Every target is tried on another lane (origin and key) each time; `retry.attempts` bounds the whole,
//! and when it bites, each target keeps its first lane before an earlier one gets a second.

use std::sync::Arc;
use std::time::Duration;

use super::lanes::{LaneId, Reason};
use crate::config::{Facts, Model, Pick, Price, Provider, Snapshot, Target};
use crate::endpoint::Endpoint;
use crate::error::ApiError;

/// Whether a lane is kept out: how much longer, and why.
pub type KeptOut<'a> = &'a dyn Fn(LaneId) -> Option<(Duration, Reason)>;

/// What is to be routed.
pub struct Request<'a> {
    /// The name the client sent.
    pub requested: &'a str,
    /// The endpoint called.
    pub endpoint: Endpoint,
    /// What rules may read; `None` when the snapshot has no rules.
    pub facts: Option<&'a Facts<'a>>,
    /// The lanes kept out now.
    pub kept_out: KeptOut<'a>,
    /// Chooses among equals; any value.
    pub seed: u64,
}

/// One attempt: a target by way of one origin and one key.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Which of the model's targets: an index into `to` and, after those, `fallback`.
    pub slot: usize,
    /// Index into the provider's origins.
    pub origin: usize,
    /// Index into the provider's keys; meaningless when it has none.
    pub key: usize,
    /// What `Retry-After` keeps out.
    pub lane: LaneId,
}

/// The decision.
#[derive(Debug)]
pub struct Plan {
    /// The model that answers: the one named, or the one a rule put in its place.
    pub model: Arc<Model>,
    /// The rule that matched, by position from 0.
    pub rule: Option<usize>,
    /// At least one, in the order they are tried.
    pub attempts: Vec<Attempt>,
    /// Targets that were passed over, for `forge explain`.
    pub passed_over: Vec<PassedOver>,
}

impl Plan {
    /// The target in `slot` of an attempt or a passed-over entry.
    pub fn target(&self, slot: usize) -> &Target {
        target(&self.model, slot)
    }
}

fn target(model: &Model, slot: usize) -> &Target {
    model.to.get(slot).unwrap_or_else(|| &model.fallback[slot - model.to.len()])
}

/// A target that is not in the plan, and why.
#[derive(Debug, Clone, Copy)]
pub struct PassedOver {
    /// Which of the model's targets.
    pub slot: usize,
    /// The reason.
    pub why: Why,
}

/// Why a target is not in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its provider does not serve the endpoint.
    EndpointNotServed,
    /// All its lanes are kept out for this long.
    KeptOut(Duration, Reason),
    /// `retry.attempts` ends before it.
    BeyondAttempts,
}

/// Decides.
///
/// # Errors
/// 404 for an unknown model, or one that no target serves on this endpoint; 429 or 500 with `Retry-After`
/// when every target that does is kept out.
pub fn plan(snapshot: &Snapshot, request: &Request<'_>) -> Result<Plan, ApiError> {
    let matched = request.facts.and_then(|facts| snapshot.rules.first_match(facts));
    let (rule, model) = match matched {
        Some((index, rule)) => (Some(index), &rule.model),
        None => {
            (None, snapshot.models.find(request.requested).ok_or_else(|| ApiError::unknown_model(request.requested))?)
        }
    };
    let mut passed_over = Vec::new();
    let mut lanes: Vec<Vec<Attempt>> = Vec::with_capacity(model.to.len() + model.fallback.len());
    let first = model.to.len();
    for slot in ordered(model, request.seed).into_iter().chain(first..first + model.fallback.len()) {
        match lanes_of(target(model, slot), slot, request) {
            Ok(attempts) => lanes.push(attempts),
            Err(why) => passed_over.push(PassedOver { slot, why }),
        }
    }
    if lanes.is_empty() {
        return Err(nothing_left(&passed_over, request));
    }
    let attempts = within(lanes, model.retry.attempts as usize, &mut passed_over);
    Ok(Plan { model: Arc::clone(model), rule, attempts, passed_over })
}

/// The slots of `to` in the order `pick` gives.
fn ordered(model: &Model, seed: u64) -> Vec<usize> {
    let mut slots: Vec<usize> = (0..model.to.len()).collect();
    if slots.len() > 1 {
        shuffle_by_weight(&mut slots, &model.to, seed);
    }
    if model.pick == Pick::Cheapest {
        // Stable: equals keep the order their weights gave them.
        let cost = |price: Price| price.input_microusd + price.output_microusd;
        slots.sort_by_key(|slot| model.to[*slot].price.map_or(u64::MAX, cost));
    }
    slots
}

/// A random order in which each place goes to a target by its share of the weight that is left.
fn shuffle_by_weight(slots: &mut [usize], targets: &[Target], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let weight = |slot: usize| u64::from(targets[slot].weight);
    for place in 0..slots.len() {
        let total: u64 = slots[place..].iter().map(|slot| weight(*slot)).sum();
        let mut at = random.u64(0..total.max(1));
        let mut chosen = place;
        while at >= weight(slots[chosen]) && chosen + 1 < slots.len() {
            at -= weight(slots[chosen]);
            chosen += 1;
        }
        slots.swap(place, chosen);
    }
}

/// The ways to try a target: each of its origins and keys once, starting somewhere by the seed.
fn lanes_of(target: &Target, slot: usize, request: &Request<'_>) -> Result<Vec<Attempt>, Why> {
    let provider: &Provider = &target.provider;
    if !provider.serves.contains(request.endpoint) {
        return Err(Why::EndpointNotServed);
    }
    let upstream_model = target.model.as_deref().unwrap_or(request.requested);
    let (origins, keys) = (provider.origins.len().max(1), provider.keys.len().max(1));
    let turn = (request.seed >> 32) as usize;
    let mut free = Vec::with_capacity(origins.max(keys));
    let mut soonest: Option<(Duration, Reason)> = None;
    for step in 0..origins.max(keys) {
        // Two turns in one number, so that every key is used at every origin.
        let (origin, key) = ((turn + step) % origins, (turn / origins + step) % keys);
        let lane = LaneId::new(provider, origin, key, upstream_model);
        match (request.kept_out)(lane) {
            None => free.push(Attempt { slot, origin, key, lane }),
            Some(out) => soonest = Some(soonest.map_or(out, |known| if out.0 < known.0 { out } else { known })),
        }
    }
    match soonest {
        Some((left, reason)) if free.is_empty() => Err(Why::KeptOut(left, reason)),
        _ => Ok(free),
    }
}

/// At most `attempts_max` of them, in order; first lanes before second ones.
fn within(lanes: Vec<Vec<Attempt>>, attempts_max: usize, passed_over: &mut Vec<PassedOver>) -> Vec<Attempt> {
    let attempts_max = attempts_max.max(1);
    let mut spare = attempts_max.saturating_sub(lanes.len());
    let mut attempts = Vec::with_capacity(attempts_max);
    for of_target in lanes {
        if attempts.len() == attempts_max {
            let beyond = of_target.first().map(|attempt| PassedOver { slot: attempt.slot, why: Why::BeyondAttempts });
            passed_over.extend(beyond);
            continue;
        }
        let more = (of_target.len() - 1).min(spare);
        spare -= more;
        attempts.extend(of_target.into_iter().take(1 + more));
    }
    attempts
}

/// The answer when no target is left.
fn nothing_left(passed_over: &[PassedOver], request: &Request<'_>) -> ApiError {
    let kept_out = passed_over.iter().filter_map(|passed| match passed.why {
        Why::KeptOut(left, reason) => Some((left, reason)),
        Why::EndpointNotServed | Why::BeyondAttempts => None,
    });
    match kept_out.min_by_key(|(left, _)| *left) {
        None => ApiError::endpoint_not_served(request.requested, request.endpoint.row().path),
        Some((left, Reason::RateLimited)) => ApiError::upstream_rate_limited(Some(left)),
        Some((left, Reason::Unavailable)) => ApiError { retry_after: Some(left), ..ApiError::upstream_error() },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::{
        Auth, EchoModel, Flavor, HttpVersions, Models, Origin, ProviderKey, ProviderTls, Retry, Timeouts,
    };
    use crate::endpoint::EndpointSet;

    fn provider(name: &str, origins: usize, keys: u64) -> Arc<Provider> {
        let origin = |index: usize| Origin {
            tls: false,
            host: format!("10.0.0.{index}"),
            port: 80,
            base_path: String::new(),
            authority: http::HeaderValue::from_str(&format!("10.0.0.{index}")).unwrap(),
        };
        let key = |fingerprint| ProviderKey { header: http::HeaderValue::from_static("k"), fingerprint };
        Arc::new(Provider {
            name: name.into(),
            flavor: Flavor::Plain,
            origins: (0..origins).map(origin).collect(),
            keys: (0..keys).map(key).collect(),
            auth: Auth::Bearer,
            headers: vec![],
            serves: EndpointSet::of(&[Endpoint::ChatCompletions]),
            paths: HashMap::new(),
            api_version: None,
            tls: ProviderTls::default(),
            http: HttpVersions::Http1,
        })
    }

    fn target(provider: &Arc<Provider>, weight: u32) -> Target {
        Target { provider: Arc::clone(provider), model: None, weight, price: None }
    }

    fn snapshot(to: Vec<Target>, fallback: Vec<Target>, pick: Pick) -> Snapshot {
        let model = Arc::new(Model {
            name: "m".into(),
            to,
            fallback,
            pick,
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            echo_model: EchoModel::Requested,
            owned_by: "x".into(),
        });
        let models = Models { exact: vec![model], by_name: HashMap::from([("m".into(), 0)]), wild: vec![] };
        Snapshot { models, ..Snapshot::default() }
    }

    fn request<'a>(endpoint: Endpoint, seed: u64, kept_out: KeptOut<'a>) -> Request<'a> {
        Request { requested: "m", endpoint, facts: None, kept_out, seed }
    }

    fn names(plan: &Plan) -> Vec<String> {
        let name =
            |attempt: &Attempt| format!("{}{}{}", plan.target(attempt.slot).provider.name, attempt.origin, attempt.key);
        plan.attempts.iter().map(name).collect()
    }

    const FREE: KeptOut<'static> = &|_| None;

    #[test]
    fn weights_give_shares_and_every_target_follows() {
        let (a, b) = (provider("a", 1, 1), provider("b", 1, 1));
        let snapshot = snapshot(vec![target(&a, 8), target(&b, 2)], vec![], Pick::Weighted);
        let mut first_a = 0;
        let mut seeds = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let plan = plan(&snapshot, &request(Endpoint::ChatCompletions, seeds.u64(..), FREE)).unwrap();
            assert_eq!(plan.attempts.len(), 2);
            first_a += usize::from(names(&plan)[0] == "a00");
        }
        assert!((7_800..8_200).contains(&first_a), "{first_a}");
    }

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        let (a, b) = (provider("a", 2, 3), provider("b", 1, 1));
        let snapshot = snapshot(vec![target(&a, 1), target(&b, 1)], vec![], Pick::Weighted);
        for seed in 0..50 {
            let one = plan(&snapshot, &request(Endpoint::ChatCompletions, seed, FREE)).unwrap();
            let two = plan(&snapshot, &request(Endpoint::ChatCompletions, seed, FREE)).unwrap();
            assert_eq!(names(&one), names(&two));
        }
    }

    #[test]
    fn every_target_keeps_its_first_lane_when_attempts_are_few() {
        let (a, b, c, d) = (provider("a", 3, 1), provider("b", 1, 4), provider("c", 1, 1), provider("d", 1, 1));
        let two = snapshot(vec![target(&a, 1)], vec![target(&b, 1)], Pick::Weighted);
        let planned = plan(&two, &request(Endpoint::ChatCompletions, 0, FREE)).unwrap();
        assert_eq!(names(&planned), ["a00", "a10", "b00"]);
        let four = snapshot(vec![target(&a, 1)], vec![target(&b, 1), target(&c, 1), target(&d, 1)], Pick::Weighted);
        let planned = plan(&four, &request(Endpoint::ChatCompletions, 0, FREE)).unwrap();
        assert_eq!(names(&planned), ["a00", "b00", "c00"]);
        assert_eq!(planned.passed_over[0].why, Why::BeyondAttempts);
    }

    #[test]
    fn the_cheapest_comes_first() {
        let (a, b) = (provider("a", 1, 1), provider("b", 1, 1));
        let priced = |provider, input_microusd| Target {
            price: Some(Price { input_microusd, ..Price::default() }),
            ..target(provider, 1)
        };
        let snapshot = snapshot(vec![priced(&a, 300), priced(&b, 200)], vec![], Pick::Cheapest);
        for seed in 0..20 {
            let plan = plan(&snapshot, &request(Endpoint::ChatCompletions, seed, FREE)).unwrap();
            assert_eq!(names(&plan), ["b00", "a00"]);
        }
    }

    #[test]
    fn lanes_kept_out_are_passed_over_and_the_answer_says_how_long() {
        let (a, b) = (provider("a", 1, 2), provider("b", 1, 1));
        let both = snapshot(vec![target(&a, 1)], vec![target(&b, 1)], Pick::Weighted);
        let out = LaneId::new(&a, 0, 0, "m");
        let one_out = |lane: LaneId| (lane == out).then_some((Duration::from_secs(9), Reason::RateLimited));
        let planned = plan(&both, &request(Endpoint::ChatCompletions, 0, &one_out)).unwrap();
        assert_eq!(names(&planned), ["a01", "b00"]);
        let all_out: KeptOut<'_> = &|_| Some((Duration::from_secs(9), Reason::RateLimited));
        let error = plan(&both, &request(Endpoint::ChatCompletions, 0, all_out)).unwrap_err();
        assert_eq!((error.status, error.retry_after), (429, Some(Duration::from_secs(9))));
    }

    #[test]
    fn an_endpoint_nobody_serves_and_an_unknown_model_are_404() {
        let a = provider("a", 1, 1);
        let snapshot = snapshot(vec![target(&a, 1)], vec![], Pick::Weighted);
        let error = plan(&snapshot, &request(Endpoint::Embeddings, 0, FREE)).unwrap_err();
        assert_eq!((error.status, error.code), (404, "endpoint_not_supported"));
        let unknown = Request { requested: "nope", ..request(Endpoint::ChatCompletions, 0, FREE) };
        assert_eq!(plan(&snapshot, &unknown).unwrap_err().code, "model_not_found");
    }
}
