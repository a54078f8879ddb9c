//! The admin API, and what is served off the data plane for clients: self service and applications.

use prometheus::{IntCounter, IntCounterVec};

use super::{METRICS, Maker};

/// Why the admin API did not listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminRefusal {
    /// The credential is unknown, revoked or expired.
    WrongToken,
    /// Too many wrong ones came from the address.
    TooMany,
}

/// What became of an application for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplicationResult {
    /// It waits for an administrator.
    Received,
    /// Its address, or all addresses together, sent too many.
    Limited,
}

/// Counts an operation of the admin API; `operation` is from the table of operations.
pub fn admin_request(operation: &'static str, status: u16) {
    METRICS.admin.requests.with_label_values(&[operation, super::class_of(status)]).inc();
}

/// Counts a caller that the admin API did not listen to.
pub fn admin_refused(why: AdminRefusal) {
    match why {
        AdminRefusal::WrongToken => METRICS.admin.wrong_token.inc(),
        AdminRefusal::TooMany => METRICS.admin.too_many.inc(),
    }
}

/// Counts an application for a key.
pub fn application(result: ApplicationResult) {
    match result {
        ApplicationResult::Received => METRICS.admin.received.inc(),
        ApplicationResult::Limited => METRICS.admin.limited.inc(),
    }
}

pub(super) struct AdminMetrics {
    requests: IntCounterVec,
    wrong_token: IntCounter,
    too_many: IntCounter,
    received: IntCounter,
    limited: IntCounter,
}

impl AdminMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        let refusals = make.counters(
            "forge_admin_refusals_total",
            "Callers that the admin API did not listen to: wrong_token, too_many.",
            &["reason"],
        );
        let applications =
            make.counters("forge_applications_total", "Applications for keys: received, limited.", &["result"]);
        Self {
            requests: make.counters(
                "forge_admin_requests_total",
                "Operations of the admin API.",
                &["operation", "status"],
            ),
            wrong_token: refusals.with_label_values(&["wrong_token"]),
            too_many: refusals.with_label_values(&["too_many"]),
            received: applications.with_label_values(&["received"]),
            limited: applications.with_label_values(&["limited"]),
        }
    }
}
