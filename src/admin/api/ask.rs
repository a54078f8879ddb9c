//! A request that was found to be what its operation takes.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::shape::{Field, Shape, check_body, time_unix_ms, unknown};
use super::table::{BodyIs, Operation};
use super::{Answer, Api, BODY_BYTES_MAX, Caller, Content, ROUTES_BYTES_MAX, Request};
use crate::admin::problem::{FieldFault, Kind, Problem};
use crate::credential::hex;
use crate::store::{Act, Cursor, Idempotency, Page, PageRequest, now_unix_ms};

/// Rows of a page when the caller names no number.
const PAGE_ROWS: u32 = 100;
/// The longest `Idempotency-Key`.
const IDEMPOTENCY_CHARS_MAX: usize = 200;

/// What an operation is asked.
pub struct Ask {
    /// What it works on.
    pub api: Arc<Api>,
    /// Who asks.
    pub caller: Caller,
    /// The `{id}` of the path; empty where it has none.
    pub id: String,
    /// The checked body.
    pub body: Body,
    query: Vec<(&'static Field, String)>,
    csv: bool,
    idempotency: Option<Idempotency>,
}

/// The checked body of a request.
#[derive(Debug, Clone, Default)]
pub struct Body {
    fields: Map<String, Value>,
    /// Where the operation takes text.
    pub text: String,
}

impl Body {
    /// A field's value: `None` where it is left out; for an `Option`, null is `Some(None)`.
    ///
    /// # Errors
    /// It is not what the shape promised.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Problem> {
        let read = |value: &Value| serde_json::from_value(value.clone());
        let value = self.fields.get(name).map(read).transpose();
        value.map_err(|error| Problem::field(&format!("/{name}"), error.to_string(), None))
    }

    /// A field that has a default.
    ///
    /// # Errors
    /// See [`get`](Self::get).
    pub fn or_default<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, Problem> {
        Ok(self.get::<Option<T>>(name)?.flatten().unwrap_or_default())
    }
}

impl Ask {
    /// Checks query and body along the operation's row.
    ///
    /// # Errors
    /// Every fault of both at once.
    pub fn read(
        api: Arc<Api>,
        (caller, operation, id): (Caller, &'static Operation, String),
        request: Request,
    ) -> Result<Self, Problem> {
        let mut faults = Vec::new();
        let query = read_query(&request.query, operation.query, &mut faults);
        let idempotency = idempotency(operation, &request, &mut faults);
        let csv = wants_csv(&request, &query);
        let body = read_body(operation, request, &mut faults)?;
        if !faults.is_empty() {
            return Err(Problem::fields(faults));
        }
        Ok(Self { api, caller, id, body, query, csv, idempotency })
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(field, _)| field.name == name).map(|(_, value)| value.as_str())
    }

    /// A parameter as an owned text.
    pub fn filter(&self, name: &str) -> Option<String> {
        self.query(name).map(str::to_owned)
    }

    /// A parameter that is a time.
    pub fn time(&self, name: &str) -> Option<i64> {
        self.query(name).and_then(time_unix_ms)
    }

    /// A parameter that is a number.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.query(name).and_then(|number| number.parse().ok())
    }

    /// Whether the caller wants `text/csv`.
    pub fn wants_csv(&self) -> bool {
        self.csv
    }

    /// The page that the query asks for.
    ///
    /// # Errors
    /// The cursor is not one of ours.
    pub fn page(&self) -> Result<PageRequest, Problem> {
        let after = match self.query("cursor") {
            Some(text) => {
                let fault = || Problem::field("?cursor", "not a cursor: take `next` of the page before", None);
                Some(Cursor::parse(text).ok_or_else(fault)?)
            }
            None => None,
        };
        Ok(PageRequest { limit: self.number("limit").unwrap_or(PAGE_ROWS), after })
    }

    /// What the store notes of this change.
    pub fn act(&self) -> Act {
        Act {
            actor: self.caller.name.clone(),
            via: self.caller.via.to_owned(),
            at_unix_ms: now_unix_ms(),
            idempotency: self.idempotency.clone(),
        }
    }
}

/// A record as an answer.
///
/// # Errors
/// It cannot be written as JSON.
pub fn json_of(record: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(record).map_err(|error| {
        log::error!("admin: an answer cannot be written: {error}");
        Problem::new(Kind::Internal, "The answer could not be written.")
    })
}

/// A page as an answer.
///
/// # Errors
/// See [`json_of`].
pub fn page_of<T: Serialize>(page: &Page<T>) -> Result<Answer, Problem> {
    let next = page.next.as_ref().map(ToString::to_string);
    Ok(Answer { status: 200, content: Content::Json(json!({"data": json_of(&page.items)?, "next": next})) })
}

fn read_query(query: &str, fields: &'static [Field], faults: &mut Vec<FieldFault>) -> Vec<(&'static Field, String)> {
    let mut read: Vec<(&'static Field, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
            faults.push(FieldFault { field: "?".into(), message: "not UTF-8".into(), meant: None });
            continue;
        };
        let place = format!("?{}", name.chars().take(64).collect::<String>());
        match fields.iter().find(|field| field.name == name) {
            None => faults.push(unknown(place, &name, fields)),
            Some(_) if read.iter().any(|(field, _)| field.name == name) => {
                faults.push(FieldFault { field: place, message: "given twice".into(), meant: None });
            }
            Some(field) if field.shape.accepts_text(&value) => read.push((field, value)),
            Some(field) => {
                let message = format!("not {}", field.shape.expected());
                let meant = match field.shape {
                    Shape::Choice(words) => crate::config::nearest(&value, words.iter().copied()),
                    _ => None,
                };
                faults.push(FieldFault { field: place, message, meant });
            }
        }
    }
    read
}

/// A part of a query: `+` is a space there. WHATWG URL, application/x-www-form-urlencoded.
fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn wants_csv(request: &Request, query: &[(&'static Field, String)]) -> bool {
    match query.iter().find(|(field, _)| field.name == "format") {
        Some((_, format)) => format == "csv",
        None => request.accept.as_deref().is_some_and(|accept| accept.trim_start().starts_with("text/csv")),
    }
}

/// What makes a creation that is sent again the same: the caller's name for it, and what it says.
fn idempotency(operation: &Operation, request: &Request, faults: &mut Vec<FieldFault>) -> Option<Idempotency> {
    let name = request.idempotency_key.as_ref().filter(|_| operation.idempotent)?;
    if name.is_empty() || name.len() > IDEMPOTENCY_CHARS_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("not 1 to {IDEMPOTENCY_CHARS_MAX} visible ASCII characters");
        faults.push(FieldFault { field: "Idempotency-Key".into(), message, meant: None });
        return None;
    }
    let said = Sha256::new().chain_update(operation.path).chain_update([0]).chain_update(&request.body);
    Some(Idempotency { name: name.clone(), fingerprint: hex(&said.finalize()) })
}

fn read_body(operation: &Operation, request: Request, faults: &mut Vec<FieldFault>) -> Result<Body, Problem> {
    let bytes_max = match operation.body {
        BodyIs::Nothing | BodyIs::Fields(_) => BODY_BYTES_MAX,
        BodyIs::Yaml => ROUTES_BYTES_MAX,
    };
    if request.body.len() > bytes_max {
        return Err(Problem::new(Kind::BodyTooLarge, format!("A body of at most {bytes_max} bytes is read here.")));
    }
    match operation.body {
        BodyIs::Nothing if request.body.is_empty() => Ok(Body::default()),
        // Clients that always send JSON say `{}`.
        BodyIs::Nothing => read_fields(&request, &[], faults),
        BodyIs::Fields(fields) => read_fields(&request, fields, faults),
        BodyIs::Yaml => {
            let text = String::from_utf8(request.body);
            let text = text.map_err(|_| Problem::new(Kind::InvalidRequest, "The body is not UTF-8."))?;
            Ok(Body { text, ..Body::default() })
        }
    }
}

fn read_fields(request: &Request, fields: &[Field], faults: &mut Vec<FieldFault>) -> Result<Body, Problem> {
    let empty = request.body.is_empty() && !fields.iter().any(|field| field.required);
    if empty {
        return Ok(Body::default());
    }
    let media = request.content_type.as_deref().unwrap_or_default().split(';').next().unwrap_or_default();
    if !media.trim().eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(Kind::UnsupportedMediaType, "Send JSON, with 'Content-Type: application/json'."));
    }
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Problem::new(Kind::InvalidRequest, format!("The body is not JSON: {error}.")))?;
    let Value::Object(body) = body else {
        return Err(Problem::new(Kind::InvalidRequest, "The body is not a JSON object."));
    };
    check_body(&body, fields, faults);
    Ok(Body { fields: body, ..Body::default() })
}
