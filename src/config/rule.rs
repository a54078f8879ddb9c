//! Programmable routing: CEL expressions compiled when the file is loaded, evaluated per request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::snapshot::Model;
use crate::endpoint::Endpoint;

/// What a rule may read of one request. Built only where rules exist.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The model the client named.
    pub model: &'a str,
    /// The endpoint called.
    pub endpoint: Endpoint,
    /// The body's `stream`; false where it is absent.
    pub stream: bool,
    /// Name of the key's tier.
    pub tier: &'a str,
    /// Name of the key.
    pub key_name: &'a str,
    /// Metadata of the key.
    pub key_metadata: &'a HashMap<String, String>,
    /// Request headers, credentials left out.
    pub headers: &'a http::HeaderMap,
    /// The undecoded path.
    pub path: &'a str,
    /// The peer's address.
    pub client_ip: Option<IpAddr>,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Seconds since 1970; `time` is a CEL timestamp.
    pub time_unix: i64,
}

/// The rules of a snapshot, in order.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Some rule reads `stream`: the body is read to its end before routing.
    pub reads_stream: bool,
    /// Some rule reads `body_bytes` or `input_tokens_estimate`: a body of unknown length is read to its end.
    pub reads_body_bytes: bool,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// The expression as written, for `forge explain` and the log.
    pub when: String,
    /// Where a matching request goes instead.
    pub model: Arc<Model>,
}

impl Rules {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The first rule that matches, with its position from 0.
    pub fn first_match(&self, _facts: &Facts<'_>) -> Option<(usize, &Rule)> {
        None
    }
}
