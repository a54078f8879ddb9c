//! Self service and applications, on the control runtime: what clients ask of the store through the data plane.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use crate::admin::api;
use crate::config::Key;
use crate::credential::Credential;
use crate::error::ApiError;
use crate::metrics::{self, ApplicationResult};
use crate::proxy::self_service::{Ask, Wish};
use crate::store::{
    Act, GroupBy, NewApplication, NewSecret, Period, Store, StoreError, UsageFilter, UsageQuery, now_unix_ms,
};

/// Questions put to the store at once.
const ASKS_AT_ONCE: usize = 4;
/// Rows of usage at most.
const ROWS_MAX: u32 = 10_000;
/// How far back usage goes when the client does not say.
const USAGE_MS: i64 = 30 * 24 * 3_600_000;
/// When a client may ask again that the store could not answer.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Answers what is asked, for as long as the process lives.
pub(super) fn serve(runtime: &Handle, store: Option<Arc<dyn Store>>, mut asks: mpsc::Receiver<Ask>) {
    runtime.spawn(async move {
        let places = Arc::new(Semaphore::new(ASKS_AT_ONCE));
        while let Some(ask) = asks.recv().await {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let store = store.clone();
            tokio::spawn(async move {
                let _place = place;
                // Whoever asked may have gone while this waited.
                if ask.answer.is_closed() {
                    return;
                }
                let answer = grant(store.as_deref(), ask.what).await;
                // An error says that nobody waits any more.
                let _ = ask.answer.send(answer);
            });
        }
    });
}

async fn grant(store: Option<&dyn Store>, wish: Wish) -> Result<Value, ApiError> {
    let store = store.ok_or_else(|| ApiError::bad_request("This gateway keeps no usage and no keys of its own."))?;
    match wish {
        Wish::Usage { key, query } => usage(store, &key, &query).await,
        Wish::Rotate { key, body } => rotate(store, &key, &body).await,
        Wish::Apply { body, from } => apply(store, (&body, from)).await,
    }
}

async fn usage(store: &dyn Store, key: &Key, query: &str) -> Result<Value, ApiError> {
    let query = usage_query(key, query)?;
    let mut rows = store.usage(&query).await.map_err(|error| failed(&error))?;
    let truncated = rows.len() > ROWS_MAX as usize;
    rows.truncate(ROWS_MAX as usize);
    let row = |row| api::usage_row(row, &query.by).map_err(|_| ApiError::internal());
    let data: Vec<Value> = rows.iter().map(row).collect::<Result<_, _>>()?;
    let cost: u64 = rows.iter().fold(0, |sum, row| sum.saturating_add(row.cost_microusd));
    Ok(json!({
        "object": "list",
        "key": {"id": key.id.as_ref(), "name": key.name},
        "from_unix_ms": query.filter.from_unix_ms,
        "until_unix_ms": query.filter.until_unix_ms,
        "data": data,
        "cost_microusd": cost,
        "has_more": truncated,
    }))
}

/// `from`, `until`, `period`, `by`: what a key's holder may ask. Only what its own key used is told.
fn usage_query(key: &Key, query: &str) -> Result<UsageQuery, ApiError> {
    let mut given = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| ApiError::bad_request("The query is not UTF-8."))?;
        given.insert(name.to_owned(), Value::from(value.into_owned()));
    }
    let time = |name: &'static str| match given.get(name).and_then(Value::as_str) {
        Some(text) => api::time_unix_ms(text)
            .map(Some)
            .ok_or_else(|| ApiError::bad_field(name, format!("'{name}' is a time, e.g. 2026-11-01T12:00:00Z."))),
        None => Ok(None),
    };
    let period = match given.get("period").and_then(Value::as_str) {
        None | Some("day") => Period::Day,
        Some("hour") => Period::Hour,
        Some("all") => Period::All,
        Some(_) => return Err(ApiError::bad_field("period", "'period' is hour, day or all.")),
    };
    let by = match given.get("by").and_then(Value::as_str) {
        None | Some("model") => vec![GroupBy::Model],
        Some("endpoint") => vec![GroupBy::Endpoint],
        Some("model,endpoint") => vec![GroupBy::Model, GroupBy::Endpoint],
        Some(_) => return Err(ApiError::bad_field("by", "'by' is model, endpoint or model,endpoint.")),
    };
    if given.keys().any(|name| !["from", "until", "period", "by"].contains(&name.as_str())) {
        return Err(ApiError::bad_request("The query takes from, until, period and by."));
    }
    let from_unix_ms = Some(time("from")?.unwrap_or_else(|| now_unix_ms() - USAGE_MS));
    let only = vec![(GroupBy::Key, key.id.as_ref().to_owned())];
    let filter = UsageFilter { from_unix_ms, until_unix_ms: time("until")?, only };
    Ok(UsageQuery { filter, by, period, rows_max: ROWS_MAX + 1 })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    #[serde(default = "grace_default_ms")]
    grace_ms: u64,
}

fn grace_default_ms() -> u64 {
    api::GRACE_MS
}

async fn rotate(store: &dyn Store, key: &Key, body: &[u8]) -> Result<Value, ApiError> {
    if key.id.starts_with("static:") {
        return Err(ApiError::bad_request(
            "This key is part of the gateway's configuration and cannot be rotated here; ask the gateway's operator.",
        ));
    }
    let Rotation { grace_ms } = read(if body.is_empty() { b"{}" } else { body })?;
    if grace_ms > api::GRACE_MS_MAX {
        return Err(ApiError::bad_field("grace_ms", format!("'grace_ms' is at most {}.", api::GRACE_MS_MAX)));
    }
    let secret = Credential::random().map_err(|error| failed(&error.into()))?;
    let act = Act::now(key.id.as_ref(), "self-service");
    let rotated = store.rotate_key(&key.id, &NewSecret::of(&secret), grace_ms, &act).await;
    let rotated = rotated.map_err(|error| failed(&error))?;
    Ok(json!({
        "object": "key",
        "id": rotated.id,
        "name": rotated.name,
        "key": secret.reveal(),
        "prefix": rotated.prefix,
        "previous_key_ends_unix_ms": act.at_unix_ms.saturating_add(i64::try_from(grace_ms).unwrap_or(i64::MAX)),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Applying {
    name: String,
    email: String,
    purpose: String,
}

async fn apply(store: &dyn Store, (body, from): (&[u8], IpAddr)) -> Result<Value, ApiError> {
    let Applying { name, email, purpose } = read(body)?;
    // Whether mail arrives there is for the administrator to find out.
    let looks_like_one = email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    if !looks_like_one || email.contains(char::is_whitespace) {
        return Err(ApiError::bad_field("email", "'email' is no e-mail address."));
    }
    let new = NewApplication { name, email, purpose, address: from.to_string() };
    store.apply(&new, &Act::now("applicant", "public")).await.map_err(|error| failed(&error))?;
    metrics::application(ApplicationResult::Received);
    Ok(json!({"object": "application", "status": "received"}))
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::invalid_json(format!("The body cannot be read: {error}.")))
}

fn failed(error: &StoreError) -> ApiError {
    match error {
        StoreError::Invalid(text) | StoreError::Conflict(text) => ApiError::bad_request(format!("Refused: {text}.")),
        StoreError::NotFound(_)
        | StoreError::Unavailable(_)
        | StoreError::Unreadable(_)
        | StoreError::NoRandomness(_) => {
            log::error!("self service: {error}");
            ApiError::store_unavailable(RETRY_AFTER)
        }
    }
}
