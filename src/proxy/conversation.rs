//! Which requests belong together, for `pick: prefix`: a session header, else how the body begins.
//!
//! Providers and model servers cache what they computed for the beginning of a prompt, from some thousand
//! bytes on. A conversation grows at its end, so its requests begin alike, and so do those of an agent with
//! a long system prompt, which profit from the same cache. A body that differs early (in a chat's first short
//! turns, or by a field before the messages that changes) has little in the cache; whoever knows better says
//! so in a header.

use http::HeaderMap;

use super::body::Body;
use super::lanes::Id;
use crate::config::{Model, Pick, Snapshot};

/// Headers that name a conversation; the first one sent counts. `session_id` is what Codex sends.
const SESSION_HEADERS: [&str; 2] = ["x-session-id", "session_id"];
/// How much of a body is looked at.
pub const HEAD_BYTES: u64 = 1024;

/// The mark of the conversation that a request belongs to, the same in every process. `None`: no header, no body.
pub fn mark(headers: &HeaderMap, body: Option<&Body>) -> Option<u64> {
    let named = session(headers).map(Id::of);
    let id = named.or_else(|| body.map(|body| body.head(HEAD_BYTES, |head| Id::of(head))))?;
    Some(id.bits())
}

/// Whether the body's head decides where a request for `model` goes, so that it has to be read first.
pub fn needs_head(snapshot: &Snapshot, model: &str, headers: &HeaderMap) -> bool {
    let by_prefix = |model: &Model| model.pick == Pick::Prefix;
    let named = snapshot.models.find(model).is_some_and(|model| by_prefix(model));
    (named || snapshot.rules.iter().any(|rule| by_prefix(&rule.model))) && session(headers).is_none()
}

fn session(headers: &HeaderMap) -> Option<&[u8]> {
    SESSION_HEADERS.iter().find_map(|name| headers.get(*name)).map(|value| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_header_marks_a_conversation() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            mark(&headers, None)
        };
        assert_eq!(of("x-session-id", "a"), of("session_id", "a"));
        assert!(of("x-session-id", "a").is_some() && of("x-session-id", "a") != of("x-session-id", "b"));
        assert_eq!(of("x-other", "a"), None);
    }
}
