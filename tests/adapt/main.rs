//! The adapt room against tables and the files of tests/data/adapt, and under every way of cutting a stream.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod echo;
mod refusal;
mod request;
mod response;
mod stream_error;

use forge::config::{Auth, Flavor, HttpVersions, Origin, Provider, ProviderKey, ProviderTls, StreamUsage};
use forge::endpoint::{Endpoint, EndpointSet};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A file of tests/data/adapt.
fn data(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/adapt/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The first line of a head, and its fields in order.
fn parse_head(bytes: &[u8]) -> (String, Vec<(HeaderName, HeaderValue)>) {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let mut lines = text.lines();
    let first = lines.next().unwrap().to_owned();
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse().unwrap(), value.parse().unwrap())
    };
    (first, lines.map(field).collect())
}

/// A head as the files have it: first line, then fields by name.
fn show_head(first: &str, headers: &HeaderMap) -> String {
    let mut fields: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    fields.sort();
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{first}\n{fields}")
}

fn origin() -> Origin {
    Origin {
        tls: true,
        host: "upstream.example".into(),
        port: 443,
        base_path: "/v1".into(),
        authority: HeaderValue::from_static("upstream.example"),
    }
}

fn provider(auth: Auth) -> Provider {
    let header = match auth {
        Auth::Bearer => HeaderValue::from_static("Bearer provider-secret"),
        Auth::XApiKey | Auth::ApiKey | Auth::None => HeaderValue::from_static("provider-secret"),
    };
    Provider {
        name: "upstream".into(),
        flavor: Flavor::Plain,
        origins: vec![origin()],
        keys: vec![ProviderKey { header, fingerprint: 1 }],
        auth,
        headers: vec![],
        serves: EndpointSet::of(&Endpoint::proxied().collect::<Vec<_>>()),
        paths: Default::default(),
        api_version: None,
        tls: ProviderTls::default(),
        http: HttpVersions::Auto,
        stream_usage: StreamUsage::Ask,
        probe: None,
    }
}
