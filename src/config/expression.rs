//! One CEL expression over the facts of a request: compiled and tried out when it is loaded, evaluated per request.
//! <https://github.com/google/cel-spec/blob/master/doc/langdef.md>

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::ast::{CallExpr, Expr, IdedExpr};
use cel::common::traits::{Container, Indexer};
use cel::common::types::{CelBool, CelInt, CelString, CelTimestamp, DYN_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Program, Value};
use chrono::{DateTime, Utc};
use once_cell::sync::Lazy;

use super::finding::nearest;
use super::place::Place;
use super::rule::Facts;
use crate::endpoint::Endpoint;

/// The longest expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 4096;
/// Headers a rule never sees: credentials.
const HIDDEN_HEADERS: &[&str] = &["authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"];
/// Everything a rule may read, by its full name.
const FACTS: &[&str] = &[
    "model",
    "endpoint",
    "stream",
    "tier",
    "key.name",
    "key.metadata",
    "request.headers",
    "request.path",
    "client.ip",
    "body_bytes",
    "input_tokens_estimate",
    "time",
];

/// CEL's functions that rules use most; only to guess what was meant.
const FUNCTIONS: &[&str] = &[
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "size",
    "has",
    "exists",
    "all",
    "int",
    "double",
    "string",
    "timestamp",
    "duration",
    "getFullYear",
    "getMonth",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
];

static ENV: Lazy<Arc<Env>> = Lazy::new(|| Arc::new(Env::stdlib()));

/// What expressions are evaluated in.
pub(super) fn context<'v>(variables: &'v Variables<'v>) -> Context<'v, 'v> {
    let mut context = Context::with_env(Arc::clone(&ENV));
    context.set_variable_resolver(variables);
    context
}

/// Whether a condition is true; one that cannot be evaluated is not.
pub(super) fn holds(program: &Program, context: &Context<'_, '_>) -> bool {
    match Value::resolve_val(program.expression(), context) {
        Ok(value) => value.downcast_ref::<CelBool>().is_some_and(|value| *value.inner()),
        Err(_) => false,
    }
}

// === Values a rule reads ===

/// Facts as CEL variables, made one by one when an expression asks.
pub(super) struct Variables<'a> {
    facts: &'a Facts<'a>,
    maps: Maps,
}

/// Whether maps hold what the request has, or, to try an expression out, every name.
#[derive(Clone, Copy)]
enum Maps {
    Real,
    EveryName,
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let facts = self.facts;
        let text = |text: &'b str| CowVal::owned(CelString::from(text));
        let int = |value: u64| CowVal::owned(CelInt::from(i64::try_from(value).unwrap_or(i64::MAX)));
        Some(match name {
            "model" => text(facts.model),
            "endpoint" => text(facts.endpoint.name()),
            "stream" => CowVal::owned(CelBool::from(facts.stream)),
            "tier" => text(facts.tier),
            "key.name" => text(facts.key_name),
            "key.metadata" => CowVal::owned(self.map(TextMap::Metadata(facts.key_metadata))),
            "request.headers" => CowVal::owned(self.map(TextMap::Headers(facts.headers))),
            "request.path" => text(facts.path),
            "client.ip" => CowVal::owned(CelString::from(facts.client_ip.map(|ip| ip.to_string()).unwrap_or_default())),
            "body_bytes" => int(facts.body_bytes),
            "input_tokens_estimate" => int(facts.body_bytes / 4),
            "time" => CowVal::owned(CelTimestamp::from(timestamp(facts.time_unix).fixed_offset())),
            _ => return None,
        })
    }
}

impl<'a> Variables<'a> {
    /// The facts of a request.
    pub fn of(facts: &'a Facts<'a>) -> Self {
        Self { facts, maps: Maps::Real }
    }

    fn map<'b>(&self, real: TextMap<'b>) -> TextMap<'b> {
        match self.maps {
            Maps::Real => real,
            Maps::EveryName => TextMap::EveryName,
        }
    }
}

fn timestamp(unix: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(unix, 0).unwrap_or_default()
}

/// A map of text to text that is looked into, never copied.
#[derive(Debug, Clone, Copy)]
enum TextMap<'a> {
    Headers(&'a http::HeaderMap),
    Metadata(&'a HashMap<String, String>),
    EveryName,
}

impl<'a> TextMap<'a> {
    fn find(&self, name: &str) -> Option<&'a str> {
        match self {
            TextMap::Headers(_) if HIDDEN_HEADERS.iter().any(|hidden| hidden.eq_ignore_ascii_case(name)) => None,
            TextMap::Headers(headers) => headers.get(name)?.to_str().ok(),
            TextMap::Metadata(metadata) => metadata.get(name).map(String::as_str),
            TextMap::EveryName => Some(""),
        }
    }
}

fn name_of(key: &dyn Val) -> Result<&str, ExecutionError> {
    let wrong = || ExecutionError::UnexpectedType { got: key.get_type().name().to_owned(), want: "string".to_owned() };
    key.downcast_ref::<CelString<'_>>().map(CelString::inner).ok_or_else(wrong)
}

impl Val for TextMap<'_> {
    fn get_type(&self) -> &Type {
        &DYN_TYPE
    }

    fn cel_type() -> &'static Type {
        &DYN_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Container for TextMap<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.find(name_of(key)?).is_some())
    }
}

impl Indexer for TextMap<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = name_of(key)?;
        match self.find(name) {
            Some(text) => Ok(CowVal::owned(CelString::from(text.to_owned()))),
            None => Err(ExecutionError::NoSuchKey(Arc::new(name.to_owned()))),
        }
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

// === Trying an expression out when it is loaded ===

/// Compiles an expression and tries each part of it on sample facts: what has no name or the wrong type fails there.
pub(super) fn compile(place: &Place<'_>) -> Option<Program> {
    let text = place.text()?;
    if text.len() > EXPRESSION_BYTES_MAX {
        place.fault(format!("an expression of more than {EXPRESSION_BYTES_MAX} bytes"));
        return None;
    }
    let program = match ENV.compile(text) {
        Ok(program) => program,
        Err(errors) => {
            let first = errors.to_string().lines().next().unwrap_or_default().to_owned();
            place.fault(format!("not a CEL expression: {first}"));
            return None;
        }
    };
    match on_sample(|context| try_out(program.expression(), context)) {
        Ok(()) => Some(program),
        Err(Misfit { message, name }) => {
            place.fault_meant(message, name.and_then(|name| nearest(&name, FACTS.iter().chain(FUNCTIONS).copied())));
            None
        }
    }
}

/// Why an expression cannot work.
struct Misfit {
    message: String,
    /// The name nobody knows, if that is why.
    name: Option<String>,
}

fn on_sample<T>(run: impl FnOnce(&Context<'_, '_>) -> T) -> T {
    let (headers, metadata) = (http::HeaderMap::new(), HashMap::new());
    let facts = Facts {
        model: "",
        endpoint: Endpoint::ChatCompletions,
        stream: false,
        tier: "",
        key_name: "",
        key_metadata: &metadata,
        headers: &headers,
        path: "/",
        client_ip: None,
        body_bytes: 0,
        time_unix: 0,
    };
    let variables = Variables { facts: &facts, maps: Maps::EveryName };
    run(&context(&variables))
}

fn try_out(root: &IdedExpr, context: &Context<'_, '_>) -> Result<(), Misfit> {
    try_parts(root, context)?;
    match Value::resolve_val(root, context) {
        Ok(value) if value.downcast_ref::<CelBool>().is_some() => Ok(()),
        Ok(value) => {
            let message = format!("a condition is true or false; this is of type {}", value.get_type().name());
            Err(Misfit { message, name: None })
        }
        // Depends on the request: `int(request.headers["x"])`.
        Err(_) => Ok(()),
    }
}

/// Evaluates every part by itself, innermost first, so that `&&`, `||` and `?:` hide nothing.
fn try_parts(part: &IdedExpr, context: &Context<'_, '_>) -> Result<(), Misfit> {
    if dotted(part).is_none() {
        for inner in parts(part, context) {
            try_parts(inner, context)?;
        }
    }
    match Value::resolve_val(part, context) {
        Ok(_) => Ok(()),
        Err(error) => misfit(part, &error),
    }
}

/// The parts that can be evaluated by themselves: not the body of a comprehension, which has variables of its own.
fn parts<'e>(part: &'e IdedExpr, context: &Context<'_, '_>) -> Vec<&'e IdedExpr> {
    match &part.expr {
        Expr::Call(call) => call_parts(part, call, context),
        Expr::Comprehension(comprehension) => vec![&comprehension.iter_range],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) => Vec::new(),
    }
}

/// A target may be a namespace (`optional.of`): it is tried only where the call itself fails.
fn call_parts<'e>(part: &'e IdedExpr, call: &'e CallExpr, context: &Context<'_, '_>) -> Vec<&'e IdedExpr> {
    let target = call.target.as_deref().filter(|_| Value::resolve_val(part, context).is_err());
    target.into_iter().chain(&call.args).collect()
}

fn misfit(part: &IdedExpr, error: &ExecutionError) -> Result<(), Misfit> {
    match error {
        ExecutionError::UndeclaredReference(name) => {
            let (name, what) = match dotted(part) {
                Some(name) => (name, format!("fact; there are {}", FACTS.join(", "))),
                None => (name.to_string(), "function".to_owned()),
            };
            Err(Misfit { message: format!("'{name}' is no {what}"), name: Some(name) })
        }
        ExecutionError::FunctionError { function, message } if function == "matches" => {
            let why = message.lines().last().unwrap_or_default();
            Err(Misfit { message: format!("not a regular expression: {why}"), name: None })
        }
        // Values of a request decide these; then the rule does not match.
        ExecutionError::FunctionError { .. }
        | ExecutionError::NoSuchKey(_)
        | ExecutionError::IndexOutOfBounds(_)
        | ExecutionError::DivisionByZero(_)
        | ExecutionError::RemainderByZero(_)
        | ExecutionError::Overflow(..) => Ok(()),
        _ => Err(Misfit { message: format!("{error}"), name: None }),
    }
}

/// `a` or `a.b.c`, where that is all there is.
fn dotted(part: &IdedExpr) -> Option<String> {
    match &part.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", dotted(&select.operand)?, select.field)),
        _ => None,
    }
}

/// What an expression that reads no fact always yields; one that is never true is reported.
pub(super) fn constant(program: &Program, place: &Place<'_>) -> Option<bool> {
    let references = program.references();
    let roots = FACTS.iter().filter_map(|fact| fact.split('.').next());
    if roots.into_iter().any(|root| references.has_variable(root)) {
        return None;
    }
    let value = on_sample(|context| holds(program, context));
    if !value {
        place.fault("this condition never holds");
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn facts<'a>(headers: &'a http::HeaderMap, metadata: &'a HashMap<String, String>) -> Facts<'a> {
        Facts {
            model: "gpt-4o",
            endpoint: Endpoint::Embeddings,
            stream: true,
            tier: "free",
            key_name: "demo",
            key_metadata: metadata,
            headers,
            path: "/v1/embeddings",
            client_ip: Some(IpAddr::from([10, 0, 0, 7])),
            body_bytes: 70_000,
            time_unix: 1_767_225_600,
        }
    }

    fn matches(when: &str) -> bool {
        let mut headers = http::HeaderMap::new();
        headers.insert("x-region", "bd".parse().unwrap());
        headers.insert("authorization", "Bearer secret".parse().unwrap());
        let metadata = HashMap::from([("team".to_owned(), "core".to_owned())]);
        let facts = facts(&headers, &metadata);
        let variables = Variables::of(&facts);
        holds(&ENV.compile(when).unwrap(), &context(&variables))
    }

    #[test]
    fn every_fact_can_be_read() {
        for when in [
            r#"model == "gpt-4o" && model.startsWith("gpt-4")"#,
            r#"endpoint == "embeddings""#,
            "stream",
            r#"tier == "free" && body_bytes > 64000"#,
            r#"key.name == "demo" && key.metadata.team == "core" && key.metadata["team"] == "core""#,
            r#"request.headers["x-region"] == "bd" && "x-region" in request.headers"#,
            r#"request.path.endsWith("/embeddings")"#,
            r#"client.ip.startsWith("10.")"#,
            "input_tokens_estimate == 17500",
            r#"time > timestamp("2025-12-31T23:59:59Z") && time.getFullYear() == 2026"#,
            r#"model.matches("^gpt-[0-9]")"#,
        ] {
            assert!(matches(when), "{when}");
        }
    }

    #[test]
    fn what_is_missing_or_hidden_does_not_match() {
        for when in [
            r#"request.headers["x-none"] == "bd""#,
            r#"request.headers["x-none"] != "bd""#,
            r#"request.headers["authorization"].startsWith("Bearer")"#,
            r#"request.headers["Authorization"].startsWith("Bearer")"#,
            r#""authorization" in request.headers"#,
            r#"key.metadata.none == "x""#,
            r#"has(key.metadata.none)"#,
        ] {
            assert!(!matches(when), "{when}");
        }
        assert!(matches(r#"request.headers["x-none"] == "bd" || tier == "free""#));
    }
}
