//! `probe:` of a provider: how it is asked whether it is well, between requests.

use std::time::Duration;

use super::amount;
use super::place::Place;

/// How each origin of a provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Absolute on the origin, without query: `/health`.
    pub path: String,
    /// From one answer to the next question. Default 10 s.
    pub interval: Duration,
    /// For connection and answer together. Default 3 s.
    pub timeout: Duration,
    /// The status that means well. Default: any 2xx.
    pub status: Option<u16>,
}

impl Probe {
    pub(super) fn read(place: &Place<'_>, path: impl Fn(&Place<'_>) -> Option<String>) -> Option<Self> {
        Some(Self {
            path: path(&place.get_or_short("path")?)?,
            interval: place.read("interval", amount::duration).unwrap_or(Duration::from_secs(10)),
            timeout: place.read("timeout", amount::duration).unwrap_or(Duration::from_secs(3)),
            status: place.read("status", amount::count).and_then(|status| u16::try_from(status).ok()),
        })
    }

    /// Whether an answer with this status says that the provider is well.
    pub fn accepts(&self, status: u16) -> bool {
        self.status.map_or((200..300).contains(&status), |wanted| wanted == status)
    }
}
