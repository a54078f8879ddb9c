//! The closed set of reasons for which a part of a lane is kept out.

/// Why something is kept out: the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ejection {
    /// 429, and the provider said for how long.
    RateLimited,
    /// Another refusal with which the provider said for how long.
    AskedForTime,
    /// 429 that does not say for how long.
    Throttled,
    /// The credential was refused.
    CredentialRefused,
    /// Failures, cuts, silence.
    Failing,
    /// It fails its active probe.
    ProbeFailed,
}

impl Ejection {
    pub(super) const ALL: [Ejection; 6] = [
        Ejection::RateLimited,
        Ejection::AskedForTime,
        Ejection::Throttled,
        Ejection::CredentialRefused,
        Ejection::Failing,
        Ejection::ProbeFailed,
    ];

    /// The label value.
    pub fn name(self) -> &'static str {
        match self {
            Ejection::RateLimited => "rate_limited",
            Ejection::AskedForTime => "asked_for_time",
            Ejection::Throttled => "throttled",
            Ejection::CredentialRefused => "credential_refused",
            Ejection::Failing => "failing",
            Ejection::ProbeFailed => "probe_failed",
        }
    }
}
