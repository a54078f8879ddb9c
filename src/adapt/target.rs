//! Path and query of the request to a provider.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::request::{Credentials, Outgoing};
use super::rules::{self, Verdict};
use crate::config::Flavor;
use crate::endpoint::{Endpoint, ModelIn};

/// All but RFC 3986's unreserved characters, which mean the same in a path segment and in a query value.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The request target: the provider's path for the endpoint, and the client's query as far as it passes.
pub(super) fn target(outgoing: &Outgoing<'_>, credentials: &Credentials<'_>) -> String {
    let mut target = String::with_capacity(128);
    push_path(&mut target, outgoing);
    let mut query = Query { target, pairs: 0 };
    query.push_client(outgoing.query.unwrap_or_default(), credentials);
    if outgoing.endpoint.row().model_in == ModelIn::Query {
        query.push(model_parameter(outgoing.provider.flavor), outgoing.model);
    }
    match outgoing.provider.flavor {
        Flavor::Plain => {}
        Flavor::AzureDeployments => {
            if let Some(version) = &outgoing.provider.api_version {
                query.push("api-version", version);
            }
        }
    }
    query.target
}

fn push_path(target: &mut String, outgoing: &Outgoing<'_>) {
    if let Some(path) = outgoing.provider.paths.get(&outgoing.endpoint) {
        target.push_str(path);
        return;
    }
    let base = &outgoing.origin.base_path;
    target.push_str(base);
    let row = outgoing.endpoint.row();
    let path = row.path.strip_prefix("/v1").unwrap_or(row.path);
    match outgoing.provider.flavor {
        Flavor::Plain => {}
        Flavor::AzureDeployments => {
            if !base.ends_with("/openai") {
                target.push_str("/openai");
            }
            if has_deployment(outgoing.endpoint) {
                target.push_str("/deployments/");
                target.extend(utf8_percent_encode(outgoing.model, RESERVED));
            }
        }
    }
    target.push_str(path);
}

/// Azure names the deployment in the path, but for the endpoints that read it from the body or the query.
/// <https://learn.microsoft.com/azure/ai-services/openai/reference>
fn has_deployment(endpoint: Endpoint) -> bool {
    !matches!(endpoint, Endpoint::Responses | Endpoint::Realtime)
}

/// The query parameter that names realtime's model.
fn model_parameter(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Plain => "model",
        Flavor::AzureDeployments => "deployment",
    }
}

/// A target whose query grows.
struct Query {
    target: String,
    pairs: usize,
}

impl Query {
    /// The client's parameters that [`rules::query_parameter`] lets pass, byte for byte and in order.
    fn push_client(&mut self, query: &str, credentials: &Credentials<'_>) {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if passes(pair) && !credentials.are_in(pair.as_bytes()) {
                self.separate();
                self.target.push_str(pair);
            }
        }
    }

    fn push(&mut self, name: &str, value: &str) {
        self.separate();
        self.target.push_str(name);
        self.target.push('=');
        self.target.extend(utf8_percent_encode(value, RESERVED));
    }

    fn separate(&mut self) {
        self.target.push(if self.pairs == 0 { '?' } else { '&' });
        self.pairs += 1;
    }
}

/// Whether every parameter of a pair may pass; some servers separate parameters by `;` too.
fn passes(pair: &str) -> bool {
    pair.split(';').all(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        let decoded = percent_decode_str(name).decode_utf8_lossy();
        // PHP and its kin read `model[]` and `model[x]` as `model`.
        let bare = decoded.split('[').next().unwrap_or_default().trim();
        rules::query_parameter(bare) == Verdict::Pass
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_read_as_a_server_would() {
        for pair in ["beta=true", "beta", "timeout=5", "x=key"] {
            assert!(passes(pair), "{pair}");
        }
        for pair in
            ["key=a", "%6bey=a", "KEY=a", "beta=1;key=a", "api%5Fkey=a", "model[]=b", "model%5B%5D=b", "%20key=a"]
        {
            assert!(!passes(pair), "{pair}");
        }
    }
}
