//! What is done and by whom: acts, the audit log, those who may, and what nodes are told of changes.

use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::records::NewSecret;
pub use crate::config::Role;

/// Who does something, through what, and when. Every change notes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The name of an admin credential, a key's id, an operating system's user, …
    pub actor: String,
    /// `admin-api`, `cli`, `self-service`, `public`.
    pub via: String,
    /// When.
    pub at_unix_ms: i64,
    /// For creations: what makes asking twice the same as asking once.
    pub idempotency: Option<Idempotency>,
}

impl Act {
    /// Something `actor` does now through `via`.
    pub fn now(actor: impl Into<String>, via: impl Into<String>) -> Self {
        Self { actor: actor.into(), via: via.into(), at_unix_ms: now_unix_ms(), idempotency: None }
    }
}

/// The wall clock, in milliseconds since 1970.
pub fn now_unix_ms() -> i64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A client's `Idempotency-Key` and a hash of what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Chosen by the client, unique per actor for a day.
    pub name: String,
    /// Differs when the request does.
    pub fingerprint: String,
}

/// What a creation came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Created<T> {
    /// It was created.
    New(T),
    /// The same was created before, under the same idempotency key. A key's secret is not shown again.
    Before(T),
}

impl<T> Created<T> {
    /// What there is now.
    pub fn object(&self) -> &T {
        match self {
            Self::New(object) | Self::Before(object) => object,
        }
    }
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// `aud_…`.
    pub id: String,
    /// When.
    pub at_unix_ms: i64,
    /// Who.
    pub actor: String,
    /// Through what.
    pub via: String,
    /// What was done, e.g. `key.revoke`.
    pub action: String,
    /// The id of what it was done to.
    pub object: String,
    /// What was changed: JSON, without secrets.
    pub detail: serde_json::Value,
}

/// Something done that is no change of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in AuditEntry")]
pub struct NewAuditEntry {
    pub action: String,
    pub object: String,
    pub detail: serde_json::Value,
}

/// Which lines of the audit log are listed; `None` does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "as in AuditEntry")]
pub struct AuditFilter {
    pub actor: Option<String>,
    pub object: Option<String>,
    pub action: Option<String>,
}

/// A credential of the admin API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "as in KeyRecord")]
pub struct AdminToken {
    pub id: String,
    pub name: String,
    pub prefix: String,
    pub role: Role,
    pub created_unix_ms: i64,
    pub expires_unix_ms: Option<i64>,
    pub revoked_unix_ms: Option<i64>,
}

/// A credential of the admin API to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in KeyRecord")]
pub struct NewAdminToken {
    pub secret: NewSecret,
    pub name: String,
    pub role: Role,
    pub expires_unix_ms: Option<i64>,
}

/// What changed of keys and holders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The number of the newest change; what to ask from next time.
    pub last: i64,
    /// What changed.
    pub what: Changed,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Objects of these ids, keys and holders; may be none.
    Objects(Vec<String>),
    /// Too much, or too long ago to say: all that was known is to be forgotten.
    Everything,
}

/// For how long the store keeps what nobody deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Single usage records; sums by hour are kept for ever.
    pub usage_records_ms: i64,
    /// Idempotency keys.
    pub idempotency_ms: i64,
    /// Numbered changes; a node that was away for longer forgets everything.
    pub changes_ms: i64,
    /// Counters of limits, from the beginning of their window.
    pub counters_ms: i64,
}

impl Default for Retention {
    /// Records for 92 days, idempotency keys for a day, changes for an hour, counters for 62 days.
    fn default() -> Self {
        const HOUR: i64 = 3_600_000;
        Self {
            usage_records_ms: 92 * 24 * HOUR,
            idempotency_ms: 24 * HOUR,
            changes_ms: HOUR,
            counters_ms: 62 * 24 * HOUR,
        }
    }
}
