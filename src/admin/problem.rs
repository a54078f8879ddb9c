//! What the admin API answers when it says no: RFC 9457, `application/problem+json`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::store::StoreError;

/// The media type of a problem. RFC 9457 section 3.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What kind of problem it is; decides status, type and title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is described by its row in PROBLEMS")]
pub enum Kind {
    InvalidRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    BodyTooLarge,
    UnsupportedMediaType,
    TooManyFailures,
    Internal,
    NoStore,
    NotRunning,
    StoreUnavailable,
}

/// Kind, status, the last part of its type, title.
const PROBLEMS: [(Kind, u16, &str, &str); 13] = [
    (Kind::InvalidRequest, 400, "invalid_request", "The request is not valid"),
    (Kind::Unauthorized, 401, "unauthorized", "A credential is needed"),
    (Kind::Forbidden, 403, "forbidden", "The credential's role does not allow this"),
    (Kind::NotFound, 404, "not_found", "There is no such thing"),
    (Kind::MethodNotAllowed, 405, "method_not_allowed", "This path does not take the method"),
    (Kind::Conflict, 409, "conflict", "The state of things forbids it"),
    (Kind::BodyTooLarge, 413, "body_too_large", "The body is too large"),
    (Kind::UnsupportedMediaType, 415, "unsupported_media_type", "The body's media type is not read here"),
    (Kind::TooManyFailures, 429, "too_many_failures", "Too many wrong credentials"),
    (Kind::Internal, 500, "internal", "The gateway failed"),
    (Kind::NoStore, 501, "no_store", "There is no store"),
    (Kind::NotRunning, 501, "not_running", "This needs a running gateway"),
    (Kind::StoreUnavailable, 503, "store_unavailable", "The store does not answer"),
];

impl Kind {
    fn row(self) -> (u16, &'static str, &'static str) {
        let row = PROBLEMS.iter().find(|(kind, ..)| *kind == self);
        row.map_or((500, "internal", ""), |(_, status, name, title)| (*status, name, title))
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.row().0
    }

    /// Every status that a problem can have.
    pub fn statuses() -> impl Iterator<Item = (u16, &'static str)> {
        PROBLEMS.iter().map(|(_, status, _, title)| (*status, *title))
    }
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// A JSON pointer into the body (RFC 6901), or `?name` for a query parameter.
    pub field: String,
    /// What was found and what is expected.
    pub message: String,
    /// What was meant, perhaps.
    pub meant: Option<String>,
}

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem it is.
    pub kind: Kind,
    /// What a person reads: never a secret, never SQL.
    pub detail: String,
    /// The fields at fault, where there are any.
    pub faults: Vec<FieldFault>,
    /// Sent as `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Sent as `Allow`.
    pub allow: Option<String>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), faults: Vec::new(), retry_after: None, allow: None }
    }

    /// 400, with these fields at fault.
    pub fn fields(faults: Vec<FieldFault>) -> Self {
        let detail = faults.iter().map(sentence).collect::<Vec<_>>().join("; ");
        Self { faults, ..Self::new(Kind::InvalidRequest, detail) }
    }

    /// 400, with one field at fault.
    pub fn field(field: &str, message: impl Into<String>, meant: Option<String>) -> Self {
        Self::fields(vec![FieldFault { field: field.to_owned(), message: message.into(), meant }])
    }

    /// 404 for an id.
    pub fn no_such(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("There is no {what} of that id."))
    }

    /// The body; `instance` names this occurrence, as the log does.
    pub fn body(&self, instance: &str) -> Value {
        let (status, name, title) = self.kind.row();
        let mut body = json!({
            "type": format!("urn:forge:problem:{name}"),
            "title": title,
            "status": status,
            "detail": self.detail,
            "instance": instance,
        });
        if !self.faults.is_empty() {
            let fault = |fault: &FieldFault| match &fault.meant {
                Some(meant) => json!({"field": fault.field, "message": fault.message, "did_you_mean": meant}),
                None => json!({"field": fault.field, "message": fault.message}),
            };
            body["errors"] = self.faults.iter().map(fault).collect();
        }
        body
    }
}

fn sentence(fault: &FieldFault) -> String {
    let meant = fault.meant.as_ref().map(|meant| format!("; did you mean '{meant}'?")).unwrap_or_default();
    format!("{}: {}{meant}", fault.field, fault.message)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Self::no_such(what),
            StoreError::Conflict(detail) => Self::new(Kind::Conflict, detail),
            StoreError::Invalid(detail) => Self::new(Kind::InvalidRequest, detail),
            StoreError::Unavailable(text) => {
                log::error!("admin: the store does not answer: {text}");
                Self::new(Kind::StoreUnavailable, "The database cannot be reached; the same request may succeed later.")
            }
            StoreError::Unreadable(text) => {
                log::error!("admin: the store holds something unreadable: {text}");
                Self::new(Kind::Internal, "The store holds something that this version cannot read.")
            }
            StoreError::NoRandomness(error) => {
                log::error!("admin: {error}");
                Self::new(Kind::Internal, "The system gives no random numbers.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_row() {
        for (index, (kind, status, ..)) in PROBLEMS.iter().enumerate() {
            assert_eq!((*kind as usize, kind.status()), (index, *status));
        }
    }

    #[test]
    fn a_body_has_the_members_of_rfc_9457() {
        let problem = Problem::field("/nmae", "unknown field", Some("name".into()));
        let body = problem.body("urn:forge:request:1");
        assert_eq!(body["type"], "urn:forge:problem:invalid_request");
        assert_eq!((&body["status"], &body["instance"]), (&400.into(), &"urn:forge:request:1".into()));
        assert_eq!(body["detail"], "/nmae: unknown field; did you mean 'name'?");
        assert_eq!(body["errors"][0]["did_you_mean"], "name");
    }
}
