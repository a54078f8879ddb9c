//! What the data plane tells the service behind it, in heads that it builds anew, so that no client can say it.
//!
//! `/v1/files` and `/v1/batches` are served by an HTTP service of the same process on a private socket. It trusts
//! these headers, and nothing else reaches it.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// The header that carries a [`Caller`], as JSON.
pub const CALLER: HeaderName = HeaderName::from_static("forge-caller");

/// Who calls, as the data plane has recognised them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The key's id; `static:NAME` for a key of routes.yaml. It owns what it uploads.
    pub key: String,
    /// The key's tier.
    pub tier: String,
    /// The key's team, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

impl Caller {
    /// The value of [`CALLER`]. `None` does not happen: JSON text makes a header.
    pub fn header(&self) -> Option<HeaderValue> {
        // JSON escapes every control character but DEL.
        let json = serde_json::to_string(self).ok()?.replace('\u{7f}', "\\u007f");
        HeaderValue::from_bytes(json.as_bytes()).ok()
    }

    /// The caller a request names.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        serde_json::from_slice(headers.get(CALLER)?.as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_survives_the_header() {
        for key in ["static:demo", "static:naïve \"quoted\"", "static:line\nfeed\u{7f}"] {
            let caller = Caller { key: key.into(), tier: "pro".into(), team: Some("ж".into()) };
            let Some(header) = caller.header() else { panic!("{key:?} makes no header") };
            let headers = HeaderMap::from_iter([(CALLER, header)]);
            assert_eq!(Caller::of(&headers), Some(caller));
        }
        assert_eq!(Caller::of(&HeaderMap::new()), None);
    }
}
