//! `GET /v1/files`: pages by `after`, `limit`, `order` and `purpose`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{Answer, Jobs, caller, now_unix_ms, shape, unavailable};
use crate::error::ApiError;
use crate::store::{FileQuery, Order};

/// The page's size if nothing is said, and the largest.
const LIMIT_MAX: u32 = 10_000;

pub(super) async fn files(
    State(jobs): State<Arc<Jobs>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer<Json<Value>> {
    let caller = caller(&headers)?;
    let asked = Asked::parse(query.as_deref().unwrap_or_default())?;
    let viewer = jobs.viewer(&caller);
    let now_unix_ms = now_unix_ms();
    let after = match &asked.after {
        None => None,
        Some(id) => {
            let found = jobs.store.file(id, viewer, now_unix_ms).await.map_err(unavailable)?;
            let found = found.ok_or_else(|| ApiError::bad_field("after", "There is no such file to go on behind."))?;
            Some((found.created_unix_ms, found.id))
        }
    };
    let query = FileQuery {
        viewer,
        purpose: asked.purpose.as_deref(),
        order: asked.order,
        after: after.as_ref().map(|(at, id)| (*at, id.as_str())),
        // One more tells whether the list goes on.
        limit: asked.limit + 1,
        now_unix_ms,
    };
    let mut found = jobs.store.files(&query).await.map_err(unavailable)?;
    let more = found.len() > asked.limit as usize;
    found.truncate(asked.limit as usize);
    Ok(Json(shape::list(found.iter().map(shape::file).collect(), more)))
}

/// What a query asks for. Parameters that are not known mean nothing.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    after: Option<String>,
    limit: u32,
    order: Order,
    purpose: Option<String>,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut asked = Self { after: None, limit: LIMIT_MAX, order: Order::Descending, purpose: None };
        for (name, value) in pairs(query) {
            match name.as_str() {
                "after" => asked.after = Some(value),
                "purpose" => asked.purpose = Some(value),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    let message = format!("'limit' must be a whole number from 1 to {LIMIT_MAX}.");
                    asked.limit = limit.ok_or_else(|| ApiError::bad_field("limit", message))?;
                }
                "order" => {
                    asked.order = match value.as_str() {
                        "asc" => Order::Ascending,
                        "desc" => Order::Descending,
                        _ => return Err(ApiError::bad_field("order", "'order' must be 'asc' or 'desc'.")),
                    }
                }
                _ => {}
            }
        }
        Ok(asked)
    }
}

/// The decoded pairs of a query; those without a value are as good as absent.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(_, value)| !value.is_empty()).map(move |(name, value)| (decode(name), decode(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let asked = Asked::parse("purpose=fine%2Dtune&limit=5&order=asc&after=file-1&x=y").unwrap();
        let (purpose, after) = (Some("fine-tune".to_owned()), Some("file-1".to_owned()));
        assert_eq!(asked, Asked { after, limit: 5, order: Order::Ascending, purpose });
        assert_eq!(Asked::parse("limit=&order").unwrap().limit, LIMIT_MAX);
        for (query, param) in
            [("limit=0", "limit"), ("limit=10001", "limit"), ("limit=-1", "limit"), ("order=up", "order")]
        {
            assert_eq!(Asked::parse(query).unwrap_err().param, Some(param), "{query}");
        }
    }
}
