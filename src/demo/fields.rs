//! The fields of a request, each read with the type the reference gives it.

use std::ops::RangeInclusive;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// A JSON object that came as a request body. A field that is `null` counts as absent.
#[derive(Debug, Default)]
pub(super) struct Fields(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| unreadable(rejection.into_response().status()))?;
        Self::parse(&body)
    }
}

/// The refusal of a body that could not be read, by the status the extractor gave.
pub(super) fn unreadable(status: StatusCode) -> Refusal {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
        _ => Refusal::Body("The request body could not be read.".to_owned()),
    }
}

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, Refusal> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Refusal::Body("The request body must be a JSON object.".to_owned())),
            Err(error) => Err(Refusal::Body(format!("We could not parse the JSON body of your request: {error}"))),
        }
    }

    /// The field, unless absent or `null`.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The field, or a refusal that it is missing.
    pub(super) fn required(&self, name: &str) -> Result<&Value, Refusal> {
        self.value(name).ok_or_else(|| Refusal::missing(name))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        self.typed(name, "a string", Value::as_str)
    }

    pub(super) fn required_text(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name)?.ok_or_else(|| Refusal::missing(name))
    }

    /// What a word out of a closed list means.
    pub(super) fn choice<T: Copy>(&self, name: &str, known: &[(&str, T)]) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match known.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
                Err(Refusal::value(name, format!("supported values are: {}.", words.join(", "))))
            }
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        self.typed(name, "a boolean", Value::as_bool)
    }

    /// An integer within `range`.
    pub(super) fn count(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.value(name) else { return Ok(None) };
        if !value.is_i64() && !value.is_u64() {
            return Err(Refusal::wrong_type(name, "an integer"));
        }
        match value.as_u64() {
            Some(count) if range.contains(&count) => Ok(Some(count)),
            Some(_) | None if *range.end() == u64::MAX => {
                Err(Refusal::value(name, format!("must be at least {}.", range.start())))
            }
            Some(_) | None => {
                Err(Refusal::value(name, format!("must be between {} and {}.", range.start(), range.end())))
            }
        }
    }

    pub(super) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, Refusal> {
        match self.typed(name, "a number", Value::as_f64)? {
            Some(number) if !range.contains(&number) => {
                Err(Refusal::value(name, format!("must be between {} and {}.", range.start(), range.end())))
            }
            number => Ok(number),
        }
    }

    pub(super) fn list(&self, name: &str) -> Result<Option<&Vec<Value>>, Refusal> {
        self.typed(name, "an array", Value::as_array)
    }

    /// An array that must be there and hold at least one element.
    pub(super) fn required_list(&self, name: &str) -> Result<&Vec<Value>, Refusal> {
        let list = self.list(name)?.ok_or_else(|| Refusal::missing(name))?;
        if list.is_empty() {
            return Err(Refusal::value(name, "the array must not be empty."));
        }
        Ok(list)
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, Refusal> {
        self.typed(name, "an object", Value::as_object)
    }

    /// A string or an array of strings (`stop`); none when absent.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        match self.value(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(list)) => list
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| Refusal::wrong_type(name, "an array of strings")),
            Some(_) => Err(Refusal::wrong_type(name, "a string or an array of strings")),
        }
    }

    fn typed<'a, T: 'a>(
        &'a self,
        name: &str,
        want: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| Refusal::wrong_type(name, want)),
        }
    }
}
