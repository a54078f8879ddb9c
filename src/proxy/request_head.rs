//! What the head of a request says about its body and its model, checked.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use super::inspect;
use crate::error::ApiError;

/// No model was named.
pub(super) fn missing_model() -> ApiError {
    ApiError::bad_field("model", "You must provide a model parameter.")
}

/// The client's Content-Length, checked against the limit before a byte is read.
pub(super) fn announced_length(headers: &HeaderMap, bytes_max: u64) -> Result<Option<u64>, ApiError> {
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::unsupported_media("Request bodies must not be compressed (Content-Encoding)."));
    }
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
    match length {
        Some(length) if length > bytes_max => Err(ApiError::body_too_large(bytes_max)),
        Some(length) => Ok(Some(length)),
        None => Err(ApiError::bad_request("The Content-Length header is malformed.")),
    }
}

pub(super) fn sole_content_type(headers: &HeaderMap) -> Result<Option<&[u8]>, ApiError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (first, None) => Ok(first.map(HeaderValue::as_bytes)),
        (_, Some(_)) => Err(ApiError::bad_request("The Content-Type header is sent twice.")),
    }
}

/// The one `model` of a query.
pub(super) fn query_model(query: &str) -> Result<String, ApiError> {
    let mut named = query.split('&').filter_map(|pair| pair.strip_prefix("model="));
    let (first, second) = (named.next(), named.next());
    if second.is_some() {
        return Err(ApiError::bad_field("model", "The query names more than one model."));
    }
    let name = first.filter(|name| !name.is_empty()).ok_or_else(missing_model)?;
    let name = percent_encoding::percent_decode_str(name).decode_utf8();
    let name = name.map_err(|_| ApiError::bad_field("model", "The model in the query is not UTF-8."))?;
    if name.len() > inspect::MODEL_BYTES_MAX {
        return Err(ApiError::bad_field("model", "The model's name is too long."));
    }
    Ok(name.into_owned())
}
