//! What the demo provider says no to, and how each dialect writes it.
//!
//! Shapes: <https://platform.openai.com/docs/guides/error-codes>, <https://docs.anthropic.com/en/api/errors>.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::endpoint::Dialect;

/// A request the demo provider does not answer. `param` is the path of the field at fault.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    /// A required field is absent.
    Missing(String),
    /// A field has another JSON type than the reference says.
    Type { param: String, want: &'static str },
    /// A field has a value that is out of range or unknown.
    Value { param: String, message: String },
    /// The body as a whole cannot be read.
    Body(String),
    /// The body is over the endpoint's limit.
    TooLarge,
    /// No such model.
    UnknownModel(String),
    /// No such path.
    UnknownPath,
    /// Not this method.
    Method,
    /// A realtime request without a WebSocket handshake.
    NoUpgrade,
}

impl Refusal {
    pub(super) fn missing(param: &str) -> Self {
        Self::Missing(param.to_owned())
    }

    pub(super) fn wrong_type(param: &str, want: &'static str) -> Self {
        Self::Type { param: param.to_owned(), want }
    }

    pub(super) fn value(param: &str, message: impl Into<String>) -> Self {
        Self::Value { param: param.to_owned(), message: message.into() }
    }

    /// The answer in `dialect`'s shape.
    pub(super) fn render(&self, dialect: Dialect, request_id: &str) -> Response {
        let body = match dialect {
            Dialect::OpenAi => json!({"error": {
                "message": self.openai_message(),
                "type": "invalid_request_error",
                "param": self.param(),
                "code": self.code(),
            }}),
            Dialect::Anthropic => json!({
                "type": "error",
                "error": {"type": self.anthropic_kind(), "message": self.anthropic_message()},
                "request_id": request_id,
            }),
        };
        (self.status(), Json(body)).into_response()
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Missing(_) | Self::Type { .. } | Self::Value { .. } | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnknownModel(_) | Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoUpgrade => StatusCode::UPGRADE_REQUIRED,
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::Missing(param) | Self::Type { param, .. } | Self::Value { param, .. } => Some(param),
            Self::UnknownModel(_) => Some("model"),
            Self::Body(_) | Self::TooLarge | Self::UnknownPath | Self::Method | Self::NoUpgrade => None,
        }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Missing(_) => Some("missing_required_parameter"),
            Self::Type { .. } => Some("invalid_type"),
            Self::Value { .. } => Some("invalid_value"),
            Self::UnknownModel(_) => Some("model_not_found"),
            Self::UnknownPath => Some("unknown_url"),
            Self::Method => Some("method_not_supported"),
            Self::Body(_) | Self::TooLarge | Self::NoUpgrade => None,
        }
    }

    fn openai_message(&self) -> String {
        match self {
            Self::Missing(param) => format!("Missing required parameter: '{param}'."),
            Self::Type { param, want } => format!("Invalid type for '{param}': expected {want}."),
            Self::Value { param, message } => format!("Invalid value for '{param}': {message}"),
            Self::UnknownModel(model) => format!("The model '{model}' does not exist."),
            Self::Body(message) => message.clone(),
            Self::TooLarge => "The request body is too large.".to_owned(),
            Self::UnknownPath => "Invalid URL: the demo provider has no such path.".to_owned(),
            Self::Method => "Not allowed to use this method on this path.".to_owned(),
            Self::NoUpgrade => "This path speaks WebSocket; send an upgrade request.".to_owned(),
        }
    }

    fn anthropic_message(&self) -> String {
        match self {
            Self::Missing(param) => format!("{param}: Field required"),
            Self::Type { param, want } => format!("{param}: Input should be {want}"),
            Self::Value { param, message } => format!("{param}: {message}"),
            Self::UnknownModel(model) => format!("model: {model}"),
            Self::Body(_) | Self::TooLarge | Self::UnknownPath | Self::Method | Self::NoUpgrade => {
                self.openai_message()
            }
        }
    }

    fn anthropic_kind(&self) -> &'static str {
        match self {
            Self::TooLarge => "request_too_large",
            Self::UnknownModel(_) | Self::UnknownPath => "not_found_error",
            Self::Missing(_)
            | Self::Type { .. }
            | Self::Value { .. }
            | Self::Body(_)
            | Self::Method
            | Self::NoUpgrade => "invalid_request_error",
        }
    }
}

/// Carried in the response's extensions; the outermost layer knows the dialect and renders it.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
