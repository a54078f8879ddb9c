//! The pass rules: which headers and query parameters cross Forge. These tables are their documentation.
//!
//! **To the provider: everything but what is listed in [`REQUEST`].** Agents send headers that appear with
//! each of their releases, and a provider acts on those it knows, so an unknown end-to-end header arrives.
//! What is listed is dropped: credentials, what speaks for an account, hop-by-hop, forwarding, destinations,
//! and what would no longer be true of the request Forge sends. The list works by whole names and by parts
//! of names, so that a credential under a name nobody has thought of is caught too. Names are compared with
//! `_` read as `-`, since many servers treat the two alike.
//!
//! **To the client: nothing but what is listed in [`RESPONSE`].** What a provider may reveal itself with
//! has no end, and clients read a small known set.

use std::cell::RefCell;
use std::collections::HashMap;

use http::HeaderName;

/// What becomes of a header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Reaches the provider as it came.
    Pass,
    /// Does not reach the provider.
    Drop,
}

/// Which names a rule is about; all in lower case.
#[derive(Debug, Clone, Copy)]
pub enum Names {
    /// One of these.
    Are(&'static [&'static str]),
    /// Beginning with one of these.
    Start(&'static [&'static str]),
    /// Ending with one of these.
    End(&'static [&'static str]),
    /// With one of these anywhere.
    Hold(&'static [&'static str]),
}

/// One row of a table: what happens to these names, and why.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// What happens.
    pub verdict: Verdict,
    /// To which names.
    pub names: Names,
    /// The reason.
    pub why: &'static str,
}

const fn pass(names: Names, why: &'static str) -> Rule {
    Rule { verdict: Verdict::Pass, names, why }
}

const fn drop(names: Names, why: &'static str) -> Rule {
    Rule { verdict: Verdict::Drop, names, why }
}

/// Request headers, first match wins; a name that no rule is about passes.
pub static REQUEST: &[Rule] = &[
    pass(
        Names::Are(&[
            "accept",
            "accept-language",
            "anthropic-beta",
            "anthropic-version",
            "content-type",
            "openai-beta",
            "user-agent",
            "idempotency-key",
            "x-idempotency-key",
        ]),
        "what the API reads; listed first because nearly every request has them",
    ),
    pass(Names::Start(&["x-stainless-"]), "the official SDKs' description of themselves"),
    pass(
        Names::Are(&["session_id", "conversation_id"]),
        "Codex sends these two with an underscore; every other name with one is dropped",
    ),
    drop(
        Names::Are(&["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"]),
        "hop-by-hop: RFC 9110 section 7.6.1, RFC 9113 section 8.2.2",
    ),
    drop(Names::Start(&["proxy-"]), "hop-by-hop, proxy credentials: RFC 9110 section 11.7"),
    drop(
        Names::Are(&["host", "content-length", "content-encoding", "expect", "max-forwards"]),
        "describes the message Forge received, not the one it sends",
    ),
    drop(
        Names::Are(&["accept-encoding"]),
        "answers must come plain: the model's name is spliced in them, and a client must not get a coding it \
         did not ask for; Forge adds none of its own either",
    ),
    drop(
        Names::Are(&["content-md5", "digest", "content-digest", "repr-digest", "signature", "signature-input"]),
        "no longer true once the model's name is spliced: RFC 9530, RFC 9421",
    ),
    drop(
        Names::Are(&["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]),
        "makes an answer (206, 304, 412) that would be held against the provider",
    ),
    drop(Names::Start(&["sec-"]), "a browser's own; WebSocket's are passed by the upgrade itself"),
    drop(
        Names::Are(&["origin", "referer", "dnt"]),
        "a browser's own; Anthropic answers 401 to an Origin, which would count against our key",
    ),
    drop(
        Names::Hold(&[
            "auth",
            "api-key",
            "apikey",
            "token",
            "secret",
            "passw",
            "credential",
            "cookie",
            "jwt",
            "bearer",
            "private-key",
            "access-key",
            "subscription-key",
            "assertion",
            "principal",
        ]),
        "credentials, under whatever name",
    ),
    drop(Names::End(&["-key"]), "credentials: x-functions-key, x-virtual-key, …"),
    drop(
        Names::Are(&[
            "openai-organization",
            "openai-project",
            "anthropic-organization-id",
            "anthropic-workspace-id",
            "x-goog-user-project",
            "chatgpt-account-id",
        ]),
        "names an account at the provider, and the account is the operator's: a client's would be billed or, \
         not belonging to our key, be answered 401; `headers` of routes.yaml sets them",
    ),
    drop(
        Names::Start(&[
            "x-forwarded",
            "x-original-",
            "x-envoy-",
            "x-amz-",
            "x-amzn-",
            "x-azure-",
            "x-arr-",
            "x-appengine-",
            "x-appgw-",
            "x-vercel-",
            "x-accel-",
            "x-rewrite-",
            "cf-",
            "cdn-",
            "fastly-",
            "akamai-",
            "fly-",
            "true-client-",
        ]),
        "forwarding, load balancers and CDNs in front of Forge",
    ),
    drop(
        Names::Are(&[
            "forwarded",
            "via",
            "x-real-ip",
            "x-client-ip",
            "client-ip",
            "x-cluster-client-ip",
            "x-remote-addr",
            "x-remote-ip",
            "remote-addr",
            "x-proxyuser-ip",
            "x-scheme",
            "front-end-https",
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "x-cloud-trace-context",
            "request-id",
            "x-request-id",
        ]),
        "forwarding, overrides of the method, and the request id, which Forge sets",
    ),
    drop(
        Names::End(&["-host", "-base", "-url", "-uri", "-endpoint", "-upstream", "-proxy", "-origin", "-server"]),
        "destinations: where a request goes is routes.yaml's to say",
    ),
    drop(Names::Are(&["x-host", "x-upstream", "x-target", "x-provider"]), "destinations"),
    drop(Names::Hold(&["_"]), "read as `-` by many servers, so that it would pass for another header"),
];

/// Query parameters of a request that never reach a provider, beside those whose name [`REQUEST`] drops.
/// The model decided on is the body's; another in the query would be a second opinion.
pub static QUERY_DROPPED: &[&str] =
    &["key", "sig", "signature", "model", "deployment", "api-version", "api-base", "base-url", "host", "url"];

/// Response headers that reach the client, each with the reader it has; every other is dropped.
pub static RESPONSE: &[(&str, &str)] = &[
    ("content-type", "every client"),
    ("content-length", "unless the body is rewritten"),
    ("content-disposition", "file names of audio and images"),
    ("content-language", "content negotiation"),
    ("content-encoding", "an upstream that compresses although it was not asked"),
    ("cache-control", "caches between Forge and the client"),
    ("pragma", "caches between Forge and the client"),
    ("expires", "caches between Forge and the client"),
    ("vary", "caches between Forge and the client"),
    ("date", "RFC 9110 section 6.6.1"),
    ("x-accel-buffering", "proxies between Forge and the client, which must not buffer a stream"),
    ("openai-processing-ms", "tools that chart it"),
    ("openai-version", "tools that chart it"),
    ("openai-model", "Codex, which shows it"),
    ("x-should-retry", "the official SDKs"),
    ("x-codex-turn-state", "Codex, which sends it back within a turn"),
    ("x-models-etag", "Codex"),
    ("x-reasoning-included", "Codex"),
];

/// Response headers that reach the client of a WebSocket besides those of [`RESPONSE`]. RFC 6455 section 4.2.2.
pub static RESPONSE_WEBSOCKET: &[&str] =
    &["sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions", "sec-websocket-version"];

/// What becomes of a request header of this name, given in lower case.
pub fn request_header(name: &str) -> Verdict {
    let plain = name.contains('_').then(|| name.replace('_', "-"));
    let plain = plain.as_deref().unwrap_or(name);
    let rule = REQUEST.iter().find(|rule| rule.names.hold(name) || rule.names.hold(plain));
    rule.map_or(Verdict::Pass, |rule| rule.verdict)
}

/// As [`request_header`], remembered: clients send the same few names again and again, and judging a name that no
/// rule is about takes every rule. Names beyond the bound are judged anew each time.
pub fn known_request_header(name: &HeaderName) -> Verdict {
    const NAMES_MAX: usize = 256;
    thread_local! {
        static KNOWN: RefCell<HashMap<HeaderName, Verdict>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(verdict) = known.get(name) {
            return *verdict;
        }
        let verdict = request_header(name.as_str());
        if known.len() < NAMES_MAX {
            known.insert(name.clone(), verdict);
        }
        verdict
    })
}

/// What becomes of a query parameter of this name, given decoded, in any case.
pub fn query_parameter(name: &str) -> Verdict {
    let plain = name.to_ascii_lowercase().replace('_', "-");
    if QUERY_DROPPED.contains(&plain.as_str()) { Verdict::Drop } else { request_header(&plain) }
}

/// Whether a response header of this name, in lower case, reaches the client.
pub fn response_header(name: &str) -> Verdict {
    let listed = RESPONSE.iter().any(|(header, _)| *header == name);
    if listed { Verdict::Pass } else { Verdict::Drop }
}

impl Names {
    fn hold(&self, name: &str) -> bool {
        match self {
            Names::Are(list) => list.contains(&name),
            Names::Start(list) => list.iter().any(|part| name.starts_with(part)),
            Names::End(list) => list.iter().any(|part| name.ends_with(part)),
            Names::Hold(list) => list.iter().any(|part| name.contains(part)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_send_passes() {
        for name in [
            "accept",
            "content-type",
            "anthropic-version",
            "anthropic-beta",
            "anthropic-dangerous-direct-browser-access",
            "openai-beta",
            "x-app",
            "x-stainless-retry-count",
            "x-stainless-helper-method",
            "x-client-request-id",
            "x-claude-code-session-id",
            "originator",
            "version",
            "session_id",
            "session-id",
            "conversation_id",
            "x-codex-beta-features",
            "x-codex-turn-metadata",
            "x-codex-turn-state",
            "idempotency-key",
            "traceparent",
            "tracestate",
            "x-title",
            "http-referer",
            "x-anything-new",
        ] {
            assert_eq!(request_header(name), Verdict::Pass, "{name}");
        }
    }

    #[test]
    fn every_listed_name_meets_its_own_verdict() {
        for rule in REQUEST {
            let names: Vec<String> = match rule.names {
                Names::Are(list) => list.iter().map(|name| (*name).to_owned()).collect(),
                Names::Start(list) => list.iter().map(|part| format!("{part}rest")).collect(),
                Names::End(list) => list.iter().map(|part| format!("some{part}")).collect(),
                Names::Hold(list) => list.iter().map(|part| format!("x-{part}-y")).collect(),
            };
            for name in names {
                assert_eq!(request_header(&name), rule.verdict, "{name}: {}", rule.why);
            }
        }
    }

    #[test]
    fn an_underscore_hides_nothing() {
        for name in ["x_api_key", "x_forwarded_for", "anthropic_beta_", "content_length", "x_anything"] {
            assert_eq!(request_header(name), Verdict::Drop, "{name}");
        }
    }

    #[test]
    fn query_parameters() {
        for name in ["beta", "timeout", "limit"] {
            assert_eq!(query_parameter(name), Verdict::Pass, "{name}");
        }
        for name in
            ["key", "KEY", "api_key", "api-key", "apikey", "access_token", "token", "model", "api_base", "code_secret"]
        {
            assert_eq!(query_parameter(name), Verdict::Drop, "{name}");
        }
    }
}
