//! How much may be asked for: [`LimitSet`], the limits of one holder, under the same names in routes.yaml, in the
//! store and in the admin API.
//!
//! ```
//! # use forge::config::{LimitKind, LimitSet};
//! let limits: LimitSet = serde_json::from_str(r#"{"rpm": 20, "tpm": "40k", "budget": "50 USD/month"}"#).unwrap();
//! assert_eq!(limits.get(LimitKind::Tpm), Some(40_000));
//! assert_eq!(limits.get(LimitKind::SpendMonth), Some(50_000_000));
//! ```

use std::fmt;
use std::sync::Arc;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::amount;
use super::finding::nearest;
use super::place::Place;
use super::secret::Secrets;
use super::store::ConnectionUrl;

/// The largest amount of a limit: what a minute's bucket can count exactly, also in Redis' numbers.
pub(super) const AMOUNT_MAX: u64 = 100_000_000_000;
/// The largest budget: a billion US dollars in micro-dollars, or as many tokens.
const BUDGET_MAX: u64 = 1_000_000_000_000_000;
/// The key of everything that is said with a period.
pub(super) const BUDGET: &str = "budget";

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitKind {
    /// Requests per minute.
    Rpm,
    /// Requests per day.
    Rpd,
    /// Tokens per minute, input and output together.
    Tpm,
    /// Input tokens per minute.
    Itpm,
    /// Output tokens per minute.
    Otpm,
    /// Tokens per day, input and output together.
    Tpd,
    /// Input tokens per day.
    Itpd,
    /// Output tokens per day.
    Otpd,
    /// Tokens per month, input and output together.
    TokensMonth,
    /// Micro-dollars per day.
    SpendDay,
    /// Micro-dollars per month.
    SpendMonth,
    /// Requests at once.
    Concurrent,
}

impl LimitKind {
    /// Every kind.
    pub const ALL: [LimitKind; 12] = [
        LimitKind::Rpm,
        LimitKind::Rpd,
        LimitKind::Tpm,
        LimitKind::Itpm,
        LimitKind::Otpm,
        LimitKind::Tpd,
        LimitKind::Itpd,
        LimitKind::Otpd,
        LimitKind::TokensMonth,
        LimitKind::SpendDay,
        LimitKind::SpendMonth,
        LimitKind::Concurrent,
    ];

    /// The key of routes.yaml where it has one of its own, else the name in metrics, answers and the store.
    pub const fn name(self) -> &'static str {
        match self {
            LimitKind::Rpm => "rpm",
            LimitKind::Rpd => "rpd",
            LimitKind::Tpm => "tpm",
            LimitKind::Itpm => "itpm",
            LimitKind::Otpm => "otpm",
            LimitKind::Tpd => "tpd",
            LimitKind::Itpd => "itpd",
            LimitKind::Otpd => "otpd",
            LimitKind::TokensMonth => "tokens_month",
            LimitKind::SpendDay => "spend_day",
            LimitKind::SpendMonth => "spend_month",
            LimitKind::Concurrent => "concurrent",
        }
    }

    /// What follows the amount under `budget`; `None` for kinds with a key of their own.
    const fn budget_unit(self) -> Option<&'static str> {
        match self {
            LimitKind::TokensMonth => Some("tokens/month"),
            LimitKind::SpendDay => Some("USD/day"),
            LimitKind::SpendMonth => Some("USD/month"),
            LimitKind::Rpm
            | LimitKind::Rpd
            | LimitKind::Tpm
            | LimitKind::Itpm
            | LimitKind::Otpm
            | LimitKind::Tpd
            | LimitKind::Itpd
            | LimitKind::Otpd
            | LimitKind::Concurrent => None,
        }
    }

    /// Whether it is said under `budget`, with its period.
    pub const fn is_budget(self) -> bool {
        self.budget_unit().is_some()
    }

    /// Kinds with a key of their own.
    fn keyed() -> impl Iterator<Item = LimitKind> {
        Self::ALL.into_iter().filter(|kind| kind.budget_unit().is_none())
    }

    /// The kind called `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One limit of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub kind: LimitKind,
    /// Requests, tokens or micro-dollars; above zero.
    pub amount: u64,
}

/// The limits of one holder; none by default. Cheap to copy.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct LimitSet {
    /// In the order of the kinds, each once; `None` for none at all.
    limits: Option<Arc<[Limit]>>,
}

impl LimitSet {
    /// Of limits, the tightest of each kind; an amount of 0 is taken for 1.
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Self {
        let mut sorted: Vec<Limit> = limits.into_iter().collect();
        sorted.iter_mut().for_each(|limit| limit.amount = limit.amount.max(1));
        sorted.sort_by_key(|limit| (limit.kind, limit.amount));
        sorted.dedup_by_key(|limit| limit.kind);
        Self { limits: (!sorted.is_empty()).then(|| sorted.into()) }
    }

    /// Of each kind the smaller amount of two sets.
    pub fn tightest(one: &Self, other: &Self) -> Self {
        match (one.is_empty(), other.is_empty()) {
            (_, true) => one.clone(),
            (true, false) => other.clone(),
            (false, false) => Self::new(one.iter().chain(other.iter())),
        }
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.limits.is_none()
    }

    /// Every limit, in the order of the kinds.
    pub fn iter(&self) -> impl Iterator<Item = Limit> + '_ {
        self.limits.iter().flat_map(|limits| limits.iter().copied())
    }

    /// The amount of one kind.
    pub fn get(&self, kind: LimitKind) -> Option<u64> {
        self.iter().find(|limit| limit.kind == kind).map(|limit| limit.amount)
    }

    /// Reads the limits that stand among the keys of `place`; what cannot be read has been reported by the shape.
    pub(super) fn read(place: &Place<'_>) -> Self {
        let keyed =
            LimitKind::keyed().filter_map(|kind| Some(Limit { kind, amount: place.read(kind.name(), amount::count)? }));
        let mut limits: Vec<Limit> = keyed.collect();
        for item in place.get(BUDGET).iter().flat_map(Place::items) {
            let Some(limit) = item.text().and_then(budget) else { continue };
            if limits.iter().any(|other| other.kind == limit.kind) {
                item.fault("another budget of the same kind");
            }
            limits.push(limit);
        }
        Self::new(limits)
    }
}

impl fmt::Debug for LimitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|limit| (limit.kind, limit.amount))).finish()
    }
}

/// `50 USD/month`, `5 USD/day`, `10M tokens/month`: above zero.
pub(super) fn budget(text: &str) -> Option<Limit> {
    let (number, unit) = text.trim().split_once(' ')?;
    let kind = LimitKind::ALL.into_iter().find(|kind| kind.budget_unit() == Some(unit.trim_start()))?;
    let amount = if kind == LimitKind::TokensMonth { amount::count(number) } else { amount::microusd(number) };
    amount.filter(|amount| (1..=BUDGET_MAX).contains(amount)).map(|amount| Limit { kind, amount })
}

/// The way [`budget`] reads it.
fn budget_text(limit: Limit) -> Option<String> {
    let unit = limit.kind.budget_unit()?;
    if limit.kind == LimitKind::TokensMonth {
        return Some(format!("{} {unit}", limit.amount));
    }
    let (whole, decimals) = (limit.amount / 1_000_000, limit.amount % 1_000_000);
    let decimals = format!("{decimals:06}");
    let decimals = decimals.trim_end_matches('0');
    let point = if decimals.is_empty() { "" } else { "." };
    Some(format!("{whole}{point}{decimals} {unit}"))
}

impl Serialize for LimitSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let budgets: Vec<String> = self.iter().filter_map(budget_text).collect();
        let mut map = serializer.serialize_map(None)?;
        for limit in self.iter().filter(|limit| limit.kind.budget_unit().is_none()) {
            map.serialize_entry(limit.kind.name(), &limit.amount)?;
        }
        if !budgets.is_empty() {
            map.serialize_entry(BUDGET, &budgets)?;
        }
        map.end()
    }
}

/// An amount in JSON: a number, or text as routes.yaml has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Text(String),
}

/// Budgets in JSON: one or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Budgets {
    One(String),
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for LimitSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LimitsVisitor)
    }
}

struct LimitsVisitor;

impl<'de> Visitor<'de> for LimitsVisitor {
    type Value = LimitSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("limits such as {\"rpm\": 20, \"budget\": \"50 USD/month\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LimitSet, A::Error> {
        let mut limits: Vec<Limit> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let read = if name == BUDGET {
                budgets(map.next_value()?)
            } else {
                keyed(&name, map.next_value()?).map(|limit| vec![limit])
            };
            for limit in read.map_err(de::Error::custom)? {
                if limits.iter().any(|other| other.kind == limit.kind) {
                    return Err(de::Error::custom(format!("'{name}' is given twice")));
                }
                limits.push(limit);
            }
        }
        Ok(LimitSet::new(limits))
    }
}

fn keyed(name: &str, amount: Amount) -> Result<Limit, String> {
    let Some(kind) = LimitKind::keyed().find(|kind| kind.name() == name) else {
        let names = LimitKind::keyed().map(LimitKind::name).chain([BUDGET]);
        let meant = nearest(name, names).map(|meant| format!("; did you mean '{meant}'?"));
        return Err(format!("unknown limit '{name}'{}", meant.unwrap_or_default()));
    };
    let amount = match amount {
        Amount::Number(number) => Some(number),
        Amount::Text(text) => amount::count(&text),
    };
    let amount = amount.filter(|amount| (1..=AMOUNT_MAX).contains(amount));
    let amount = amount.ok_or_else(|| format!("{name}: not a whole number from 1 to {AMOUNT_MAX}"))?;
    Ok(Limit { kind, amount })
}

fn budgets(budgets: Budgets) -> Result<Vec<Limit>, String> {
    let texts = match budgets {
        Budgets::One(text) => vec![text],
        Budgets::Many(texts) => texts,
    };
    let read = |text: &String| budget(text).ok_or_else(|| format!("{BUDGET}: '{text}' is not {BUDGET_EXPECTED}"));
    texts.iter().map(read).collect()
}

/// What a budget looks like, for a message.
pub(super) const BUDGET_EXPECTED: &str = "an amount and a period: 50 USD/month, 5 USD/day or 10M tokens/month";

/// `limits:` in conf/forge.yaml: who counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LimitsConf {
    /// `memory`: this process, for itself.
    #[default]
    Memory,
    /// `redis://…`, `rediss://…`: a server, for every process that uses it.
    Redis(ConnectionUrl),
}

impl LimitsConf {
    /// Reads it; says what is wrong with it.
    pub(super) fn read(place: &Place<'_>, secrets: &Secrets<'_>) -> Option<Self> {
        let text = secrets.resolve_or_text(place)?;
        if text == "memory" {
            return Some(Self::Memory);
        }
        if ["redis://", "rediss://", "redis+unix://"].iter().any(|scheme| text.starts_with(scheme)) {
            return ConnectionUrl::read(place, secrets, &text).map(Self::Redis);
        }
        place.fault("not 'memory', 'redis://[:PASSWORD@]HOST[:PORT][/DATABASE]', 'rediss://…' or 'redis+unix://PATH'");
        None
    }
}

/// Whose limits: the closed set of holders, the widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HolderKind {
    /// The whole gateway: `limits:` at the top of routes.yaml.
    Global,
    /// A model: its `limits:`, over all who call it.
    Model,
    /// A tier as a whole: its `shared:`, over all its keys.
    Tier,
    /// An organisation, over all its teams.
    Organisation,
    /// A team, over all its owners.
    Team,
    /// An owner, over all its keys.
    Owner,
    /// One key: its own limits, and what its tier grants to each key.
    Key,
}

impl HolderKind {
    /// Every kind, the widest first.
    pub const ALL: [HolderKind; 7] = [
        HolderKind::Global,
        HolderKind::Model,
        HolderKind::Tier,
        HolderKind::Organisation,
        HolderKind::Team,
        HolderKind::Owner,
        HolderKind::Key,
    ];

    /// The word in answers, metrics and the store.
    pub const fn name(self) -> &'static str {
        match self {
            HolderKind::Global => "global",
            HolderKind::Model => "model",
            HolderKind::Tier => "tier",
            HolderKind::Organisation => "organisation",
            HolderKind::Team => "team",
            HolderKind::Owner => "owner",
            HolderKind::Key => "key",
        }
    }

    /// The kind called `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Someone or something that has limits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    /// What it is.
    pub kind: HolderKind,
    /// Never used again for another of its kind: what is counted is counted under it.
    pub id: Arc<str>,
    /// What answers call it; no secret.
    pub name: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<LimitSet, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn json_says_the_same_both_ways() {
        let text =
            r#"{"rpm":20,"tpm":40000,"concurrent":2,"budget":["10000000 tokens/month","0.5 USD/day","50 USD/month"]}"#;
        let limits = read(text).unwrap();
        assert_eq!(limits.get(LimitKind::SpendDay), Some(500_000));
        assert_eq!(serde_json::to_string(&limits).unwrap(), text);
        assert_eq!(read(r#"{"tpm": "40k", "budget": "0.000001 USD/day"}"#).unwrap().get(LimitKind::SpendDay), Some(1));
        assert_eq!(read("{}").unwrap(), LimitSet::default());
        assert_eq!(serde_json::to_string(&LimitSet::default()).unwrap(), "{}");
    }

    #[test]
    fn faults_in_json_say_what_is_expected() {
        for (json, said) in [
            (r#"{"rpn": 1}"#, "did you mean 'rpm'?"),
            (r#"{"rpm": 0}"#, "rpm: not a whole number from 1"),
            (r#"{"rpm": "many"}"#, "rpm: not a whole number from 1"),
            (r#"{"rpm": 1, "rpm": 2}"#, "given twice"),
            (r#"{"budget": ["1 USD/day", "2 USD/day"]}"#, "given twice"),
            (r#"{"budget": "5 EUR/day"}"#, "50 USD/month"),
            (r#"{"budget": "0 USD/day"}"#, "50 USD/month"),
        ] {
            let fault = read(json).unwrap_err();
            assert!(fault.contains(said), "{json}: {fault}");
        }
    }

    #[test]
    fn the_tightest_of_a_kind_counts() {
        let limit = |amount| Limit { kind: LimitKind::Rpm, amount };
        assert_eq!(LimitSet::new([limit(5), limit(3), limit(9)]).get(LimitKind::Rpm), Some(3));
    }
}
