//! `models:` -> [`Models`]: what a client may name, and the targets it leads to.
//!
//! `use:` is read in this order: `provider/upstream-name` (split at the first slash) where a provider has that name;
//! the name of a provider; the name of a model, which stands for that model's targets. So a provider's name wins over
//! a model's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::amount;
use super::limits::LimitSet;
use super::place::Place;
use super::price::{Prices, prices};
use super::snapshot::*;

/// The longest model name a client can send (hardening: `model` is at most 256 bytes).
const NAME_BYTES_MAX: usize = 256;
/// The longest chain of models that refer to models.
const REFERENCES_MAX: usize = 16;
/// Targets of one model, those of the models it refers to included: references to references multiply.
const TARGETS_MAX: usize = 256;

/// Resolves `use:` texts; shared by models and rules.
pub(super) struct Resolver<'a> {
    providers: &'a [Arc<Provider>],
    /// In file order.
    places: Vec<(&'a str, Place<'a>)>,
    done: RefCell<HashMap<&'a str, Option<Arc<Model>>>>,
    /// Names on the way from the first model to the one being read.
    trail: RefCell<Vec<&'a str>>,
}

/// What a `use:` text means.
enum Use<'a> {
    Target(Target),
    Model(&'a str),
}

impl<'a> Resolver<'a> {
    pub fn new(section: &Place<'a>, providers: &'a [Arc<Provider>]) -> Self {
        let places = section.entries().collect();
        Self { providers, places, done: RefCell::default(), trail: RefCell::default() }
    }

    /// Every model, each fault reported once.
    pub fn models(&self) -> Models {
        let mut models = Models::default();
        for (name, place) in &self.places {
            let Some(pattern) = check_name(name, place) else { continue };
            let Some(model) = self.model(name, place) else { continue };
            models.limited |= !model.limits.is_empty();
            if pattern.is_wild() {
                models.wild.push((pattern, model));
            } else {
                models.by_name.insert((*name).to_owned(), models.exact.len());
                models.exact.push(model);
            }
        }
        models.wild.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.fixed_len()));
        models
    }

    /// The model a rule sends requests to.
    pub fn rule_model(&self, place: &Place<'a>) -> Option<Arc<Model>> {
        let text = place.text()?;
        match self.meaning(text, place)? {
            Use::Model(name) => self.referred(name, place),
            Use::Target(target) => Some(Arc::new(Model {
                name: text.to_owned(),
                owned_by: target.provider.name.clone(),
                to: vec![target],
                fallback: Vec::new(),
                pick: Pick::default(),
                timeouts: Timeouts::default(),
                retry: Retry::default(),
                hold: DEFAULT_HOLD,
                echo_model: EchoModel::default(),
                limits: LimitSet::default(),
            })),
        }
    }

    /// A model by its exact name, read once. `None`: it has no targets, and why is reported.
    fn model(&self, name: &'a str, place: &Place<'a>) -> Option<Arc<Model>> {
        if let Some(done) = self.done.borrow().get(name) {
            return done.clone();
        }
        self.trail.borrow_mut().push(name);
        let model = self.read(name, place).map(Arc::new);
        self.trail.borrow_mut().pop();
        self.done.borrow_mut().insert(name, model.clone());
        model
    }

    fn read(&self, name: &'a str, place: &Place<'a>) -> Option<Model> {
        let price = place.get("price").and_then(|place| prices(&place));
        let mut first = self.targets(place.get_or_short("to"), price.as_ref());
        let mut fallback: Vec<_> = self
            .targets(place.get("else"), price.as_ref())
            .into_iter()
            .flat_map(|set| [set.to, set.fallback].concat())
            .collect();
        fallback.splice(0..0, first.iter_mut().flat_map(|set| std::mem::take(&mut set.fallback)));
        let mut to = shares(first, place);
        if to.len() + fallback.len() > TARGETS_MAX {
            place.fault(format!("more than {TARGETS_MAX} targets, those of the models it refers to included"));
            to.truncate(1);
            fallback.clear();
        }
        if place.get("to").is_some_and(|to| to.items().is_empty()) {
            place.fault("'to' is an empty list");
        }
        let pick = place.read("pick", pick).unwrap_or_default();
        if pick == Pick::Cheapest && to.iter().any(|target| target.price.is_none()) {
            place.fault("pick: cheapest needs a price for every target of 'to', its own or the model's");
        }
        let owned_by = place.read("owned_by", |text| Some(text.to_owned()));
        Some(Model {
            name: name.to_owned(),
            owned_by: owned_by.or_else(|| Some(to.first()?.provider.name.clone()))?,
            to: named(to, name),
            fallback: named(fallback, name),
            pick,
            timeouts: place.get("timeouts").map(|place| timeouts(&place)).unwrap_or_default(),
            retry: place.get("retry").map(|place| retry(&place)).unwrap_or_default(),
            hold: place.read("hold", amount::duration).unwrap_or(DEFAULT_HOLD),
            echo_model: place.read("echo_model", echo_model).unwrap_or_default(),
            limits: place.get("limits").map(|limits| LimitSet::read(&limits)).unwrap_or_default(),
        })
    }

    fn targets(&self, section: Option<Place<'a>>, price: Option<&Arc<Prices>>) -> Vec<Set> {
        let items = section.map(|section| section.items()).unwrap_or_default();
        items.iter().filter_map(|item| self.set(item, price)).collect()
    }

    fn set(&self, place: &Place<'a>, model_price: Option<&Arc<Prices>>) -> Option<Set> {
        let used = place.get_or_short("use")?;
        let weight = place.read("weight", amount::count).unwrap_or(1);
        let own_price = place.get("price").and_then(|place| prices(&place));
        let (mut to, mut fallback) = match self.meaning(used.text()?, &used)? {
            Use::Target(target) => (vec![target], Vec::new()),
            Use::Model(name) => {
                let model = self.referred(name, &used)?;
                (model.to.clone(), model.fallback.clone())
            }
        };
        for target in to.iter_mut().chain(&mut fallback) {
            target.price = own_price.clone().or(target.price.take()).or(model_price.cloned());
        }
        Some(Set { to, fallback, weight })
    }

    fn meaning(&self, text: &str, place: &Place<'_>) -> Option<Use<'a>> {
        if let Some((name, upstream)) = text.split_once('/')
            && let Some(provider) = self.provider(name)
        {
            if upstream.is_empty() || upstream.chars().any(char::is_control) {
                place.fault(format!("'{text}' names no model after the slash"));
                return None;
            }
            return Some(Use::Target(target(provider, Some(upstream.to_owned()))));
        }
        if let Some(provider) = self.provider(text) {
            return Some(Use::Target(target(provider, None)));
        }
        if let Some((name, _)) = self.places.iter().find(|(name, _)| *name == text) {
            return Some(Use::Model(name));
        }
        self.unknown(text, place);
        None
    }

    fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.name == name)
    }

    fn unknown(&self, text: &str, place: &Place<'_>) {
        let providers = self.providers.iter().map(|provider| provider.name.as_str());
        match text.split_once('/') {
            Some((name, upstream)) => {
                let near: Vec<_> = providers.map(|provider| format!("{provider}/{upstream}")).collect();
                let names = near.iter().map(String::as_str).chain(self.places.iter().map(|(name, _)| *name));
                place.fault_near(format!("no provider '{name}' and no model '{text}'"), text, names);
            }
            None => {
                let names = providers.chain(self.places.iter().map(|(name, _)| *name));
                place.fault_near(format!("no provider and no model '{text}'"), text, names);
            }
        }
    }

    /// A model that another model or a rule refers to.
    fn referred(&self, name: &'a str, place: &Place<'_>) -> Option<Arc<Model>> {
        let trail = self.trail.borrow().clone();
        if let Some(start) = trail.iter().position(|on_the_way| *on_the_way == name) {
            let cycle = [&trail[start..], &[name]].concat().join(" -> ");
            place.fault(format!("a cycle: {cycle}"));
            return None;
        }
        if trail.len() >= REFERENCES_MAX {
            place.fault(format!("a chain of more than {REFERENCES_MAX} models"));
            return None;
        }
        if name.contains('*') {
            place.fault(format!("'{name}' is a wildcard; say which provider and model is meant"));
            return None;
        }
        let (_, model) = self.places.iter().find(|(other, _)| *other == name)?;
        self.model(name, model)
    }
}

/// What one entry of `to` or `else` leads to.
struct Set {
    to: Vec<Target>,
    fallback: Vec<Target>,
    weight: u64,
}

fn target(provider: &Arc<Provider>, model: Option<String>) -> Target {
    Target { provider: Arc::clone(provider), model, weight: 1, price: None }
}

/// A model with a name of its own says that name upstream, however a request came to it; only a wildcard passes on
/// what the client sent.
fn named(mut targets: Vec<Target>, name: &str) -> Vec<Target> {
    if !name.contains('*') {
        targets.iter_mut().for_each(|target| {
            target.model.get_or_insert_with(|| name.to_owned());
        });
    }
    targets
}

/// Flattens entries to targets so that each entry keeps its share, also where it stands for several.
fn shares(sets: Vec<Set>, place: &Place<'_>) -> Vec<Target> {
    let sum = |set: &Set| set.to.iter().map(|target| u64::from(target.weight)).sum::<u64>().max(1);
    let common = sets.iter().try_fold(1u64, |common, set| (common / gcd(common, sum(set))).checked_mul(sum(set)));
    let mut targets = Vec::new();
    for set in sets {
        let scale = common.map(|common| common / sum(&set));
        for mut target in set.to {
            let weight = scale.and_then(|scale| scale.checked_mul(set.weight)?.checked_mul(u64::from(target.weight)));
            match weight.and_then(|weight| u32::try_from(weight).ok()) {
                Some(weight) => target.weight = weight,
                None => place.fault("the weights of the models it refers to do not fit together; use smaller ones"),
            }
            targets.push(target);
        }
    }
    targets
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn check_name(name: &str, place: &Place<'_>) -> Option<Pattern> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        place.fault(format!("a model's name has 1 to {NAME_BYTES_MAX} bytes and no control character"));
        return None;
    }
    let pattern = Pattern::parse(name);
    if pattern.is_none() {
        place.fault("a name holds at most one '*'");
    }
    pattern
}

fn pick(text: &str) -> Option<Pick> {
    Pick::ALL.into_iter().find(|pick| pick.name() == text)
}

fn echo_model(text: &str) -> Option<EchoModel> {
    match text {
        "requested" => Some(EchoModel::Requested),
        "upstream" => Some(EchoModel::Upstream),
        _ => None,
    }
}

fn timeouts(place: &Place<'_>) -> Timeouts {
    let or = |name: &str, default: Duration| place.read(name, amount::duration).unwrap_or(default);
    let default = Timeouts::default();
    Timeouts {
        connect: or("connect", default.connect),
        first_byte: or("first_byte", default.first_byte),
        idle: or("idle", default.idle),
        total: or("total", default.total),
    }
}

fn retry(place: &Place<'_>) -> Retry {
    let default = Retry::default();
    let attempts = place.read("attempts", amount::count).and_then(|attempts| u32::try_from(attempts).ok());
    Retry {
        attempts: attempts.unwrap_or(default.attempts),
        on: place.get("on").map_or(default.on, |on| retry_on(&on)),
        budget_percent: place.read("budget", amount::percent).unwrap_or(default.budget_percent),
    }
}

fn retry_on(place: &Place<'_>) -> RetryOn {
    let items = place.items();
    let has = |word: &str| items.iter().any(|item| item.text() == Some(word));
    RetryOn {
        connect: has("connect"),
        first_byte: has("first_byte"),
        request_timeout: has("408"),
        rate_limited: has("429"),
        server_error: has("5xx"),
    }
}
