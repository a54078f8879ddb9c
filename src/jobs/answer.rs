//! Errors as answers of the service, in the API's shape.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::endpoint::Dialect;
use crate::error::ApiError;

/// A request that is refused. Boxed, so that what is not is small.
#[derive(Debug)]
pub(super) struct Refused(Box<ApiError>);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(Box::new(error))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let error = self.0;
        let mut response = error.body(Dialect::OpenAi, "").into_response();
        *response.status_mut() = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = error.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}
