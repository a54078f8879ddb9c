//! `forge explain`: where one request would go, and why. Asks the same pure function that serves requests.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{Failure, check};
use crate::config::{Facts, Key, Pick, Snapshot, Target, Tier};
use crate::endpoint::{Endpoint, ModelIn};
use crate::error::ApiError;
use crate::proxy::route::{self, Attempt, PassedOver, Plan, View, Why};

#[derive(Debug, Args)]
#[command(after_help = "Nothing is sent and nothing is started. What a running process knows, such as a provider \
    that asked for time, is not taken into account.\n\n\
    EXAMPLES\n  forge explain --model gpt-5 --key demo\n  \
    forge explain --model claude-sonnet-4-6 --endpoint messages --stream --tier pro\n  \
    forge explain --model priyo-smart --header x-region=bd --body-bytes 90000 --seed 7 --json\n\n\
    EXIT CODES\n  0  the request would be sent to a provider\n  1  it would be refused; the output says how")]
pub(super) struct ExplainArgs {
    /// The model that the client names
    #[arg(long)]
    model: String,
    /// The endpoint, by name or by path, e.g. embeddings or /v1/embeddings
    #[arg(long, default_value = "chat_completions", value_parser = endpoint)]
    endpoint: Endpoint,
    /// The key, by its name in routes.yaml
    #[arg(long, conflicts_with = "tier")]
    key: Option<String>,
    /// A key of this tier, without a name and without metadata
    #[arg(long)]
    tier: Option<String>,
    /// A request header that rules may read; repeat for more
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Bytes of the body
    #[arg(long, default_value_t = 1000)]
    body_bytes: u64,
    /// The client asks for a stream
    #[arg(long)]
    stream: bool,
    /// The client's address
    #[arg(long, default_value = "127.0.0.1")]
    client_ip: IpAddr,
    /// Chooses among equal targets; each request has a random one
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The routing file [default: routes.yaml, or the built-in one if there is none]
    #[arg(long, value_name = "FILE")]
    routes: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let found = Endpoint::by_name(text).or_else(|| Endpoint::by_path(text));
    found.filter(|endpoint| endpoint.row().model_in != ModelIn::Nowhere).ok_or_else(|| {
        let names: Vec<&str> = Endpoint::proxied().map(Endpoint::name).collect();
        format!("one of {}", names.join(", "))
    })
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected")?;
    Ok((name.parse().map_err(|_| "no header name")?, value.parse().map_err(|_| "no header value")?))
}

pub(super) fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let offline = check::load(args.routes.as_deref())?;
    check::warn(&offline)?;
    let snapshot = &offline.loaded.snapshot;
    let caller = Caller::of(args, snapshot)?;
    let decision = decide(args, snapshot, &caller);
    let text = if args.json {
        format!("{:#}\n", as_json(args, snapshot, &decision))
    } else {
        as_text(args, snapshot, &caller, &decision)
    };
    io::stdout().write_all(text.as_bytes())?;
    match decision {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Fault(format!("the request would be refused with {}", error.status))),
    }
}

/// Who asks.
enum Caller {
    Key(Arc<Key>),
    Tier(Arc<Tier>),
    /// Neither was named: nothing is forbidden, and rules see empty names.
    Anyone,
}

impl Caller {
    fn of(args: &ExplainArgs, snapshot: &Snapshot) -> Result<Self, Failure> {
        if let Some(name) = &args.key {
            let key = snapshot.keys.values().find(|key| key.name == *name);
            return key.cloned().map(Self::Key).ok_or_else(|| Failure::Usage(format!("no key is called '{name}'")));
        }
        let Some(name) = &args.tier else { return Ok(Self::Anyone) };
        let tier = snapshot.tiers.get(name);
        tier.cloned().map(Self::Tier).ok_or_else(|| Failure::Usage(format!("no tier is called '{name}'")))
    }

    fn may_call(&self, model: &str) -> bool {
        match self {
            Self::Key(key) => key.may_call(model),
            Self::Tier(tier) => tier.models.iter().any(|pattern| pattern.matches(model)),
            Self::Anyone => true,
        }
    }

    fn tier(&self) -> &str {
        match self {
            Self::Key(key) => &key.tier.name,
            Self::Tier(tier) => &tier.name,
            Self::Anyone => "",
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Key(key) => format!("{} (tier {})", key.name, key.tier.name),
            Self::Tier(tier) => format!("any of tier {}", tier.name),
            Self::Anyone => "not given, so nothing is forbidden".into(),
        }
    }
}

fn decide(args: &ExplainArgs, snapshot: &Snapshot, caller: &Caller) -> Result<Plan, ApiError> {
    // As on the request path: an unknown model is unknown to everybody.
    if snapshot.models.find(&args.model).is_some() && !caller.may_call(&args.model) {
        return Err(ApiError::model_not_allowed(&args.model));
    }
    let (key_name, metadata) = match caller {
        Caller::Key(key) => (key.name.as_str(), key.metadata.clone()),
        Caller::Tier(_) | Caller::Anyone => ("", Default::default()),
    };
    let headers: HeaderMap = args.headers.iter().cloned().collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let facts = Facts {
        model: &args.model,
        endpoint: args.endpoint,
        stream: args.stream,
        tier: caller.tier(),
        key_name,
        key_metadata: &metadata,
        headers: &headers,
        path: args.endpoint.row().path,
        client_ip: Some(args.client_ip),
        body_bytes: args.body_bytes,
        time_unix: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
    };
    route::plan(
        snapshot,
        &route::Request {
            requested: &args.model,
            endpoint: args.endpoint,
            facts: (!snapshot.rules.is_empty()).then_some(&facts),
            view: View::AT_REST,
            seed: args.seed,
            now_unix: &now_unix,
            conversation: &|| None,
        },
    )
}

fn as_text(args: &ExplainArgs, snapshot: &Snapshot, caller: &Caller, decision: &Result<Plan, ApiError>) -> String {
    let mut text = String::new();
    let streamed = if args.stream { "streamed" } else { "not streamed" };
    let (endpoint, bytes) = (args.endpoint.name(), args.body_bytes);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "request   {endpoint}, model '{}', {bytes} bytes, {streamed}", args.model);
    let _ = writeln!(text, "key       {}", caller.shown());
    match decision {
        Ok(plan) => plan_as_text(&mut text, args, snapshot, plan),
        Err(error) => {
            let _ = writeln!(text, "refused   {} {}: {}", error.status, error.code, error.message);
        }
    }
    text
}

fn plan_as_text(text: &mut String, args: &ExplainArgs, snapshot: &Snapshot, plan: &Plan) {
    let rule = match plan.rule.and_then(|index| Some((index, snapshot.rules.iter().nth(index)?))) {
        Some((index, rule)) => format!("rules[{index}] matched: {}", rule.when),
        None if snapshot.rules.is_empty() => "there are none".into(),
        None => format!("none of {} matched", snapshot.rules.iter().count()),
    };
    let (model, retry) = (&plan.model, &plan.model.retry);
    let _ = writeln!(text, "rule      {rule}");
    let _ = writeln!(text, "model     {}, pick: {}, attempts: {}", model.name, model.pick.name(), retry.attempts);
    for (index, attempt) in plan.attempts.iter().enumerate() {
        let number = format!("{}.", index + 1);
        let (target, why) = (shown(args, plan.target(attempt.slot)), why_here(plan, index));
        let _ = writeln!(text, "  {number:<3} {target}  {}  ({why})", by_way_of(plan, attempt));
    }
    for passed in &plan.passed_over {
        let _ =
            writeln!(text, "  -   {}  passed over: {}", shown(args, plan.target(passed.slot)), why_not(args, passed));
    }
}

fn as_json(args: &ExplainArgs, snapshot: &Snapshot, decision: &Result<Plan, ApiError>) -> Value {
    let plan = match decision {
        Ok(plan) => plan,
        Err(error) => {
            return json!({"refused": {"status": error.status, "code": error.code, "message": error.message}});
        }
    };
    let attempts = plan.attempts.iter().enumerate().map(|(index, attempt)| {
        let target = plan.target(attempt.slot);
        json!({
            "provider": target.provider.name,
            "model": target.model.as_deref().unwrap_or(&args.model),
            "by_way_of": by_way_of(plan, attempt),
            "why": why_here(plan, index),
        })
    });
    let passed_over = plan.passed_over.iter().map(|passed| {
        let target = plan.target(passed.slot);
        json!({
            "provider": target.provider.name,
            "model": target.model.as_deref().unwrap_or(&args.model),
            "why": why_not(args, passed),
        })
    });
    let rule = plan.rule.and_then(|index| Some((index, snapshot.rules.iter().nth(index)?)));
    json!({
        "endpoint": args.endpoint.name(),
        "requested": args.model,
        "rule": rule.map(|(index, rule)| json!({"index": index, "when": rule.when})),
        "model": plan.model.name,
        "pick": plan.model.pick.name(),
        "attempts": attempts.collect::<Vec<_>>(),
        "passed_over": passed_over.collect::<Vec<_>>(),
    })
}

fn shown(args: &ExplainArgs, target: &Target) -> String {
    format!("{}/{}", target.provider.name, target.model.as_deref().unwrap_or(&args.model))
}

/// The URL and the key of an attempt; a key is told by its place in the list.
fn by_way_of(plan: &Plan, attempt: &Attempt) -> String {
    let provider = &plan.target(attempt.slot).provider;
    let url = match provider.origins.get(attempt.origin) {
        Some(origin) if origin.port == check::DEMO_PORT => "the built-in demo".into(),
        Some(origin) => {
            let scheme = if origin.tls { "https" } else { "http" };
            format!("{scheme}://{}{}", origin.authority.to_str().unwrap_or(&origin.host), origin.base_path)
        }
        None => String::new(),
    };
    match provider.keys.len() {
        0 => format!("{url}, no key"),
        1 => url,
        keys => format!("{url}, key {} of {keys}", attempt.key + 1),
    }
}

/// Why the attempt at `index` comes where it does.
fn why_here(plan: &Plan, index: usize) -> String {
    let (model, slot) = (&plan.model, plan.attempts[index].slot);
    if index > 0 && plan.attempts[index - 1].slot == slot {
        return "another URL or key of the same target".into();
    }
    let total: u64 = model.to.iter().map(|target| u64::from(target.weight)).sum();
    match (model.to.get(slot), model.pick) {
        (None, _) => "`else`: when all of `to` failed".into(),
        (Some(_), _) if model.to.len() == 1 => "the only target".into(),
        (Some(target), Pick::Weighted) => format!("drawn by weight {} of {total}", target.weight),
        (Some(_), Pick::LeastBusy) => "fewest requests in flight; with none, drawn by weight".into(),
        (Some(_), Pick::P2c) => "the quicker of two drawn by weight; with nothing known, as drawn".into(),
        (Some(_), Pick::Prefix) => "by the conversation, for which --seed stands here".into(),
        (Some(target), Pick::Cheapest) => {
            target.price.as_ref().and_then(|prices| prices.at(now_unix())).map_or("no price: last".into(), |price| {
                format!("price {} + {} microusd per million tokens", price.input_microusd, price.output_microusd)
            })
        }
    }
}

fn now_unix() -> i64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn why_not(args: &ExplainArgs, passed: &PassedOver) -> String {
    match passed.why {
        Why::EndpointNotServed => format!("does not serve {}", args.endpoint.name()),
        Why::KeptOut(out) => format!("kept out for {}", humantime::format_duration(out.left)),
        Why::BeyondAttempts => "`retry.attempts` ends before it".into(),
    }
}
