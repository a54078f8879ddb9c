//! The routing decision: pure. Snapshot, request, what is known of lanes, and seed in; a list of attempts out.
//!
//! What the decision depends on is in its arguments, so `forge explain` prints exactly what a request
//! would get. Order: the first rule that matches replaces the model; then `to`, ordered by `pick`; then
//! `else`. A target that does not serve the endpoint is passed over, and so is a lane that is kept out; if
//! that leaves none, the one free soonest is tried all the same, unless its provider said when to come back.
//! Every target is tried on another lane (origin and key) each time; `retry.attempts` bounds the whole,
//! and when it bites, each target keeps its first lane before an earlier one gets a second.

use std::sync::Arc;
use std::time::Duration;

use super::lanes::{Id, Lane, Lanes, Out, Seen};
use super::pick::{self, Candidate, Chance};
use crate::config::{Facts, Model, Pick, Provider, Snapshot, Target};
use crate::endpoint::Endpoint;
use crate::error::ApiError;
use crate::metrics::Ejection;

/// What is known of lanes at this moment. Asked only for what the decision needs.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Whether and why a lane is kept out.
    pub out: &'a dyn Fn(Lane) -> Option<Out>,
    /// How busy a place is.
    pub load: &'a dyn Fn(Id) -> Seen,
}

impl View<'_> {
    /// Nothing is kept out, and nothing is busy.
    pub const AT_REST: View<'static> = View { out: &|_| None, load: &|_| Seen { in_flight: 0, latency: None } };
}

/// What is to be routed.
pub struct Request<'a> {
    /// The name the client sent.
    pub requested: &'a str,
    /// The endpoint called.
    pub endpoint: Endpoint,
    /// What rules may read; `None` when the snapshot has no rules.
    pub facts: Option<&'a Facts<'a>>,
    /// What is known of lanes.
    pub view: View<'a>,
    /// Chooses among equals; any value.
    pub seed: u64,
    /// The time in seconds since 1970; asked only for `pick: cheapest`.
    pub now_unix: &'a dyn Fn() -> i64,
    /// The same for the requests of one conversation; `None`: it has no mark. Asked only for `pick: prefix`.
    pub conversation: &'a dyn Fn() -> Option<u64>,
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
    /// What its outcome is held against.
    pub lane: Lane,
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
    /// Tried in the place of attempts whose lanes are kept out by the time it is their turn.
    pub reserve: Vec<Attempt>,
    /// Targets that were passed over, for `forge explain`.
    pub passed_over: Vec<PassedOver>,
}

impl Plan {
    /// The attempt at `position` of those planned and, after them, the reserve.
    pub fn attempt(&self, position: usize) -> Option<Attempt> {
        let reserve = || self.reserve.get(position - self.attempts.len());
        self.attempts.get(position).or_else(reserve).copied()
    }

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
    /// All its lanes are kept out; this one is free soonest.
    KeptOut(Out),
    /// `retry.attempts` ends before it.
    BeyondAttempts,
}

/// Decides.
///
/// # Errors
/// 404 for an unknown model, or one that no target serves on this endpoint; 429 or 500 with `Retry-After`
/// when every target that does is kept out by its provider's own word.
pub fn plan(snapshot: &Snapshot, request: &Request<'_>) -> Result<Plan, ApiError> {
    let matched = request.facts.and_then(|facts| snapshot.rules.first_match(facts));
    let (rule, model) = match matched {
        Some((index, rule)) => (Some(index), &rule.model),
        None => {
            (None, snapshot.models.find(request.requested).ok_or_else(|| ApiError::unknown_model(request.requested))?)
        }
    };
    let (Attempts { first, reserve }, passed_over) = Choice::new(model, request).attempts()?;
    Ok(Plan { model: Arc::clone(model), rule, attempts: first, reserve, passed_over })
}

/// The free lanes of a target, in the order they are tried, and what is known of it as a whole.
struct Ways {
    slot: usize,
    candidate: Candidate,
    attempts: Vec<Attempt>,
}

/// The lanes to be tried, and those that may take their place.
struct Attempts {
    first: Vec<Attempt>,
    reserve: Vec<Attempt>,
}

/// No lane of a target is free.
struct Barred {
    why: Why,
    /// The lane free soonest among those that may be tried all the same, and how long that takes.
    anyway: Option<(Duration, Attempt)>,
}

/// The choice among the ways of one model.
struct Choice<'a> {
    model: &'a Model,
    request: &'a Request<'a>,
    chance: Chance,
}

impl<'a> Choice<'a> {
    fn new(model: &'a Model, request: &'a Request<'a>) -> Self {
        let conversation = if model.pick == Pick::Prefix { (request.conversation)() } else { None };
        let chance = Chance { seed: request.seed, conversation: conversation.unwrap_or(request.seed) };
        Self { model, request, chance }
    }

    /// At least one attempt, and the targets that are not among them.
    fn attempts(&self) -> Result<(Attempts, Vec<PassedOver>), ApiError> {
        let slots = 0..self.model.to.len() + self.model.fallback.len();
        let (mut ways, mut passed_over, mut anyway) = (Vec::with_capacity(slots.len()), Vec::new(), Vec::new());
        for slot in slots {
            match self.ways_to(slot) {
                Ok(way) => ways.push(way),
                Err(barred) => {
                    passed_over.push(PassedOver { slot, why: barred.why });
                    anyway.extend(barred.anyway);
                }
            }
        }
        if !ways.is_empty() {
            let attempts = within(self.in_order(ways), self.model.retry.attempts as usize, &mut passed_over);
            return Ok((attempts, passed_over));
        }
        let soonest = anyway.into_iter().min_by_key(|(left, _)| *left);
        let (_, attempt) = soonest.ok_or_else(|| nothing_left(&passed_over, self.request))?;
        passed_over.retain(|passed| passed.slot != attempt.slot);
        Ok((Attempts { first: vec![attempt], reserve: Vec::new() }, passed_over))
    }

    /// Targets of `to` as `pick` orders them, then those of `else`.
    fn in_order(&self, ways: Vec<Ways>) -> Vec<Vec<Attempt>> {
        let to = &self.model.to;
        let (mut first, fallback): (Vec<Ways>, Vec<Ways>) = ways.into_iter().partition(|way| way.slot < to.len());
        let candidates: Vec<Candidate> = first.iter().map(|way| way.candidate).collect();
        let mut order = pick::order(self.model.pick, &candidates, self.chance);
        if self.model.pick == Pick::Cheapest {
            // Stable: equals keep the order their weights gave them.
            let now_unix = (self.request.now_unix)();
            let cost = |slot: usize| {
                let price = to[slot].price.as_ref().and_then(|prices| prices.at(now_unix));
                price.map_or(u64::MAX, |price| price.input_microusd.saturating_add(price.output_microusd))
            };
            order.sort_by_cached_key(|position| cost(first[*position].slot));
        }
        let mut lanes: Vec<_> = order.iter().map(|position| std::mem::take(&mut first[*position].attempts)).collect();
        lanes.extend(fallback.into_iter().map(|way| way.attempts));
        lanes
    }

    /// The ways to try a target: each of its origins and keys once, in the order that `pick` asks for.
    fn ways_to(&self, slot: usize) -> Result<Ways, Barred> {
        let target = target(self.model, slot);
        let provider: &Provider = &target.provider;
        if !provider.serves.contains(self.request.endpoint) {
            return Err(Barred { why: Why::EndpointNotServed, anyway: None });
        }
        let lanes = Lanes::new(provider, target.model.as_deref().unwrap_or(self.request.requested));
        let (origins, keys) = self.turns(&lanes, provider);
        let candidate = Candidate { id: lanes.id, weight: target.weight, seen: self.seen(&lanes, &origins) };
        let mut attempts = Vec::with_capacity(origins.len().max(keys.len()));
        let (mut soonest, mut anyway): (Option<Out>, Option<(Duration, Attempt)>) = (None, None);
        for step in 0..origins.len().max(keys.len()) {
            let (origin, key) = (origins[step % origins.len()], keys[step % keys.len()]);
            let attempt = Attempt { slot, origin, key, lane: lanes.lane(origin, key) };
            let Some(out) = (self.request.view.out)(attempt.lane) else {
                attempts.push(attempt);
                continue;
            };
            if soonest.is_none_or(|known| out.left < known.left) {
                soonest = Some(out);
            }
            if !out.is_the_providers_word() && anyway.is_none_or(|(left, _)| out.left < left) {
                anyway = Some((out.left, attempt));
            }
        }
        match soonest {
            Some(out) if attempts.is_empty() => Err(Barred { why: Why::KeptOut(out), anyway }),
            _ => Ok(Ways { slot, candidate, attempts }),
        }
    }

    /// What `pick` is to know of a target; what it does not ask for is not looked up.
    fn seen(&self, lanes: &Lanes<'_>, origins: &[usize]) -> Seen {
        let seen = |origin: &usize| (self.request.view.load)(lanes.place(*origin));
        match self.model.pick {
            Pick::Weighted | Pick::Cheapest => Seen::default(),
            Pick::LeastBusy | Pick::Prefix => {
                Seen { in_flight: origins.iter().map(|origin| seen(origin).in_flight).sum(), latency: None }
            }
            // Where the request would go: the first is the best of them.
            Pick::P2c => origins.first().map(seen).unwrap_or_default(),
        }
    }

    /// The positions of a target's origins and of its keys, best first; at least one of each.
    fn turns(&self, lanes: &Lanes<'_>, provider: &Provider) -> (Vec<usize>, Vec<usize>) {
        let (origins, keys) = (provider.origins.len().max(1), provider.keys.len().max(1));
        // Two turns in one number, so that every key is used at every origin.
        let turn = (self.request.seed >> 32) as usize;
        let turned = |turn: usize, count: usize| (0..count).map(|step| (turn + step) % count).collect();
        match self.model.pick {
            Pick::Weighted | Pick::Cheapest => (turned(turn, origins), turned(turn / origins, keys)),
            Pick::LeastBusy | Pick::P2c => (self.ordered(origins, |origin| lanes.place(origin)), turned(turn, keys)),
            // Providers keep their caches by account, so the key stays the same too.
            Pick::Prefix => {
                (self.ordered(origins, |origin| lanes.place(origin)), self.ordered(keys, |key| lanes.key(key)))
            }
        }
    }

    fn ordered(&self, count: usize, id: impl Fn(usize) -> Id) -> Vec<usize> {
        if count == 1 {
            return vec![0];
        }
        let seen = |id| (self.request.view.load)(id);
        let candidate = |position| Candidate { id: id(position), weight: 1, seen: seen(id(position)) };
        let candidates: Vec<Candidate> = (0..count).map(candidate).collect();
        pick::order(self.model.pick, &candidates, self.chance)
    }
}

/// At most `attempts_max` of them, in order, first lanes before second ones; and the rest.
fn within(lanes: Vec<Vec<Attempt>>, attempts_max: usize, passed_over: &mut Vec<PassedOver>) -> Attempts {
    let attempts_max = attempts_max.max(1);
    let mut spare = attempts_max.saturating_sub(lanes.len());
    let (mut first, mut reserve) = (Vec::with_capacity(attempts_max), Vec::new());
    for of_target in lanes {
        let room = if first.len() < attempts_max { 1 + spare } else { 0 };
        if room == 0 {
            let beyond = of_target.first().map(|attempt| PassedOver { slot: attempt.slot, why: Why::BeyondAttempts });
            passed_over.extend(beyond);
        }
        let taken = room.min(of_target.len());
        spare -= taken.saturating_sub(1);
        first.extend_from_slice(&of_target[..taken]);
        reserve.extend_from_slice(&of_target[taken..]);
    }
    // A target that would not be tried at all before one that was.
    reserve.sort_by_key(|attempt| first.iter().any(|tried| tried.slot == attempt.slot));
    Attempts { first, reserve }
}

/// The answer when no target is left.
fn nothing_left(passed_over: &[PassedOver], request: &Request<'_>) -> ApiError {
    let kept_out = passed_over.iter().filter_map(|passed| match passed.why {
        Why::KeptOut(out) => Some(out),
        Why::EndpointNotServed | Why::BeyondAttempts => None,
    });
    match kept_out.min_by_key(|out| out.left) {
        None => ApiError::endpoint_not_served(request.requested, request.endpoint.row().path),
        Some(Out { left, reason: Ejection::RateLimited | Ejection::Throttled }) => {
            ApiError::upstream_rate_limited(Some(left))
        }
        Some(Out {
            left,
            reason: Ejection::AskedForTime | Ejection::CredentialRefused | Ejection::Failing | Ejection::ProbeFailed,
        }) => ApiError { retry_after: Some(left), ..ApiError::upstream_error() },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::{
        Auth, DEFAULT_HOLD, EchoModel, Flavor, HttpVersions, LimitSet, Models, Origin, Price, Prices, ProviderKey,
        ProviderTls, Retry, StreamUsage, Timeouts,
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
            stream_usage: StreamUsage::Ask,
            probe: None,
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
            hold: DEFAULT_HOLD,
            retry: Retry::default(),
            echo_model: EchoModel::Requested,
            owned_by: "x".into(),
            limits: LimitSet::default(),
        });
        let models = Models { exact: vec![model], by_name: HashMap::from([("m".into(), 0)]), ..Models::default() };
        Snapshot { models, ..Snapshot::default() }
    }

    fn request(endpoint: Endpoint, seed: u64, view: View<'_>) -> Request<'_> {
        Request { requested: "m", endpoint, facts: None, view, seed, now_unix: &|| 0, conversation: &|| None }
    }

    fn names(plan: &Plan) -> Vec<String> {
        let name =
            |attempt: &Attempt| format!("{}{}{}", plan.target(attempt.slot).provider.name, attempt.origin, attempt.key);
        plan.attempts.iter().map(name).collect()
    }

    const FREE: View<'static> = View::AT_REST;

    fn out(seconds: u64, reason: Ejection) -> Option<Out> {
        Some(Out { left: Duration::from_secs(seconds), reason })
    }

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
        assert_eq!(planned.reserve[0].slot, 3, "in the place of one that is kept out meanwhile");
    }

    #[test]
    fn the_cheapest_comes_first() {
        let (a, b) = (provider("a", 1, 1), provider("b", 1, 1));
        let priced = |provider, input_microusd| Target {
            price: Some(Arc::new(Prices::from(Price { input_microusd, ..Price::default() }))),
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
        let limited = Lanes::new(&a, "m").lane(0, 0);
        let one_out = |lane: Lane| (lane == limited).then_some(out(9, Ejection::RateLimited)).flatten();
        let view = View { out: &one_out, ..FREE };
        let planned = plan(&both, &request(Endpoint::ChatCompletions, 0, view)).unwrap();
        assert_eq!(names(&planned), ["a01", "b00"]);
        for (reason, status) in [(Ejection::RateLimited, 429), (Ejection::AskedForTime, 500)] {
            let all_out = |_| out(9, reason);
            let view = View { out: &all_out, ..FREE };
            let error = plan(&both, &request(Endpoint::ChatCompletions, 0, view)).unwrap_err();
            assert_eq!((error.status, error.retry_after), (status, Some(Duration::from_secs(9))));
        }
    }

    #[test]
    fn when_all_are_out_the_one_free_soonest_is_tried_unless_its_provider_forbade_it() {
        let (a, b, c) = (provider("a", 1, 1), provider("b", 1, 2), provider("c", 1, 1));
        let all = snapshot(vec![target(&a, 1), target(&b, 1)], vec![target(&c, 1)], Pick::Weighted);
        let (limited, soon) = (Lanes::new(&a, "m").lane(0, 0), Lanes::new(&b, "m").lane(0, 1));
        let state = |lane: Lane| match lane {
            lane if lane == limited => out(1, Ejection::RateLimited),
            lane if lane == soon => out(5, Ejection::CredentialRefused),
            _ => out(30, Ejection::Failing),
        };
        for seed in 0..20 {
            let planned = plan(&all, &request(Endpoint::ChatCompletions, seed, View { out: &state, ..FREE })).unwrap();
            assert_eq!(names(&planned), ["b01"]);
            assert_eq!(planned.passed_over.len(), 2);
        }
    }

    #[test]
    fn load_orders_targets_and_their_origins() {
        let (a, b) = (provider("a", 2, 1), provider("b", 1, 1));
        let calm = Lanes::new(&a, "m").place(1);
        let load = |place: Id| Seen { in_flight: if place == calm { 1 } else { 4 }, latency: Some(0.1) };
        for (pick, first) in [(Pick::P2c, "a10"), (Pick::LeastBusy, "b00")] {
            let snapshot = snapshot(vec![target(&a, 1), target(&b, 1)], vec![], pick);
            for seed in 0..50 {
                let planned = plan(&snapshot, &request(Endpoint::ChatCompletions, seed, View { load: &load, ..FREE }));
                assert_eq!(names(&planned.unwrap())[0], first, "{pick:?}: five in flight at a, four at b");
            }
        }
    }

    #[test]
    fn a_conversation_keeps_its_target_origin_and_key() {
        let (a, b) = (provider("a", 3, 4), provider("b", 2, 1));
        let snapshot = snapshot(vec![target(&a, 1), target(&b, 1)], vec![], Pick::Prefix);
        let mut firsts = std::collections::HashSet::new();
        for conversation in 0..200 {
            let of_seed = |seed: u64| {
                let request = Request {
                    conversation: &|| Some(conversation),
                    ..request(Endpoint::ChatCompletions, seed << 32, FREE)
                };
                names(&plan(&snapshot, &request).unwrap())
            };
            assert!((1..20).all(|seed| of_seed(seed) == of_seed(0)));
            firsts.insert(of_seed(0).swap_remove(0));
        }
        assert_eq!(firsts.len(), 14, "and together they use every way: {firsts:?}");
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
