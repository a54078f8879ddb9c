//! What routes.yaml says once it is checked: values that cannot be wrong, read by the data plane.
//!
//! A request takes one `Arc<Snapshot>` and keeps it to its end; a reload swaps in another.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use subtle::ConstantTimeEq;

use super::key::Key;
use super::limits::LimitSet;
use super::price::Prices;
use super::probe::Probe;
use super::rule::Rules;
use super::storage::FileLimits;
use crate::endpoint::EndpointSet;

/// One loaded routes.yaml. The default is empty: it knows no key and no model.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts loads in this process, from 1.
    pub generation: u64,
    /// When this file was loaded, in seconds since 1970; `created` of every model.
    pub loaded_unix: i64,
    /// In file order.
    pub providers: Vec<Arc<Provider>>,
    /// What a client may name.
    pub models: Models,
    /// Programmable routing; empty costs nothing.
    pub rules: Rules,
    /// Of the whole gateway.
    pub limits: LimitSet,
    /// By name.
    pub tiers: HashMap<String, Arc<Tier>>,
    /// Static keys by the SHA-256 of the key's bytes.
    pub keys: HashMap<[u8; 32], Arc<Key>>,
    /// Name of the static key with `hash: generated`: the one whose key the process makes and prints.
    pub generated_key: Option<String>,
}

impl Snapshot {
    /// The static key whose SHA-256 is `hash`.
    ///
    /// The map finds a bucket by a keyed hash of the hash; what decides is compared in constant time.
    pub fn find_key(&self, hash: &[u8; 32]) -> Option<&Arc<Key>> {
        let (known, key) = self.keys.get_key_value(hash)?;
        bool::from(known.ct_eq(hash)).then_some(key)
    }
}

/// An upstream service: where it is, how it is spoken to, with which credentials.
#[derive(Debug)]
pub struct Provider {
    /// The name in routes.yaml; a metric label.
    pub name: String,
    /// How paths and bodies differ from the plain form.
    pub flavor: Flavor,
    /// Where it is reached; at least one.
    pub origins: Vec<Origin>,
    /// Its credentials; empty for a provider that wants none.
    pub keys: Vec<ProviderKey>,
    /// How a credential is presented.
    pub auth: Auth,
    /// Sent with every request, after everything a client sent is sorted out.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The endpoints it serves.
    pub serves: EndpointSet,
    /// Paths that differ from the origin's base path plus the endpoint's, e.g. `/v2/rerank`:
    /// absolute on the origin, without query.
    pub paths: HashMap<crate::endpoint::Endpoint, String>,
    /// `api-version` of Azure's deployment paths.
    pub api_version: Option<String>,
    /// How TLS to it differs from the default.
    pub tls: ProviderTls,
    /// Which HTTP versions to offer.
    pub http: HttpVersions,
    /// Whether it is asked what a stream used.
    pub stream_usage: StreamUsage,
    /// How its origins are asked whether they are well; `None`: they are not.
    pub probe: Option<Probe>,
}

/// The ways of speaking to a provider that are code, not data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// The endpoint's own path and body: OpenAI, Anthropic and everything compatible with either.
    Plain,
    /// Azure OpenAI: `/openai/deployments/{model}/…?api-version=…`.
    AzureDeployments,
}

/// Whether a provider is asked to report what a stream used, where the client does not ask by itself:
/// `stream_options.include_usage` of chat and text completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamUsage {
    /// It is, and the chunk that only Forge asked for does not reach the client.
    #[default]
    Ask,
    /// It is not: it reports by itself, or refuses fields that it does not know.
    Leave,
}

/// How a provider's credential is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `x-api-key: KEY` (Anthropic).
    XApiKey,
    /// `api-key: KEY` (Azure).
    ApiKey,
    /// No credential.
    None,
}

/// One URL of a provider, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// https or http.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Explicit or the scheme's.
    pub port: u16,
    /// Without a trailing slash, e.g. `/v1`; may be empty.
    pub base_path: String,
    /// What `Host` says: host, and port unless it is the scheme's.
    pub authority: HeaderValue,
}

/// A provider's credential. `Debug` never shows it.
#[derive(Clone)]
pub struct ProviderKey {
    /// The header value that carries it, marked sensitive (`Bearer …` or the bare key).
    pub header: HeaderValue,
    /// Stable across reloads for the same secret and meaningless without it: keys the health of a credential.
    pub fingerprint: u64,
}

impl fmt::Debug for ProviderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProviderKey(…)")
    }
}

/// TLS towards a provider. Verification is always on.
#[derive(Debug, Default)]
pub struct ProviderTls {
    /// Trust these certificates (DER) instead of the system's.
    pub ca: Option<Vec<Vec<u8>>>,
    /// Client certificate chain (DER) and key (DER, PKCS#8, PKCS#1 or SEC1).
    pub client: Option<ClientCertificate>,
    /// Name to verify and send as SNI when it is not the host.
    pub server_name: Option<String>,
}

/// A client certificate with its key, DER. `Debug` never shows the key.
pub struct ClientCertificate {
    /// Leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({} certificates)", self.chain.len())
    }
}

/// Which HTTP versions an upstream is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersions {
    /// HTTP/1.1 only: the default for `http://`.
    Http1,
    /// HTTP/2 if the upstream takes it (ALPN), else HTTP/1.1: the default for `https://`.
    #[default]
    Auto,
    /// HTTP/2 only; without TLS, with prior knowledge (h2c).
    Http2,
}

/// What a client may name: exact names first, then wildcards, the longest pattern first.
#[derive(Debug, Default)]
pub struct Models {
    /// Exact names, in file order (the order of GET /v1/models).
    pub exact: Vec<Arc<Model>>,
    /// Index into `exact` by name.
    pub by_name: HashMap<String, usize>,
    /// Models whose name holds a `*`, most specific first.
    pub wild: Vec<(Pattern, Arc<Model>)>,
    /// Whether any of them has limits of its own.
    pub limited: bool,
}

impl Models {
    /// The model a client's name means.
    pub fn find(&self, name: &str) -> Option<&Arc<Model>> {
        match self.by_name.get(name) {
            Some(index) => self.exact.get(*index),
            None => self.wild.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, model)| model),
        }
    }
}

/// A name that a client may call, and what it leads to.
#[derive(Debug)]
pub struct Model {
    /// The name in routes.yaml; may hold one `*`. A metric label.
    pub name: String,
    /// Tried first, in the order `pick` gives.
    pub to: Vec<Target>,
    /// `else`: tried in order when all of `to` failed.
    pub fallback: Vec<Target>,
    /// How `to` is ordered for a request.
    pub pick: Pick,
    /// Time limits of an attempt and of the whole.
    pub timeouts: Timeouts,
    /// When another target is tried.
    pub retry: Retry,
    /// How long the opening of a stream is held while another target could take its place. Default 250 ms.
    pub hold: Duration,
    /// Whose name the response carries.
    pub echo_model: EchoModel,
    /// `owned_by` in GET /v1/models.
    pub owned_by: String,
    /// Of all who call it together.
    pub limits: LimitSet,
}

/// The default of [`Model::hold`].
pub const DEFAULT_HOLD: Duration = Duration::from_millis(250);

/// A provider and the name it knows the model by.
#[derive(Debug, Clone)]
pub struct Target {
    /// Who serves it.
    pub provider: Arc<Provider>,
    /// The upstream's name for the model; `None`: the name the client sent.
    pub model: Option<String>,
    /// Share among its siblings, at least 1.
    pub weight: u32,
    /// What it costs; for `pick: cheapest` and for usage records.
    pub price: Option<Arc<Prices>>,
}

/// How the targets of `to` are ordered for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pick {
    /// At random by weight; the rest follow in the same way.
    #[default]
    Weighted,
    /// By price, cheapest first; equals by weight.
    Cheapest,
    /// Fewest requests in flight per weight first; equals by weight.
    LeastBusy,
    /// Of two at random by weight, the one with the smaller (requests in flight + 1) x latency; the rest follow
    /// by that measure. "Power of two choices": Mitzenmacher 2001.
    P2c,
    /// The same target for the same conversation, unless it has more than 1.25x its share of what is in flight.
    /// Consistent hashing with bounded loads: <https://arxiv.org/abs/1608.01350>.
    Prefix,
}

impl Pick {
    /// Every way, in the order they are documented.
    pub const ALL: [Pick; 5] = [Pick::Weighted, Pick::Cheapest, Pick::LeastBusy, Pick::P2c, Pick::Prefix];

    /// The word of routes.yaml.
    pub const fn name(self) -> &'static str {
        match self {
            Pick::Weighted => "weighted",
            Pick::Cheapest => "cheapest",
            Pick::LeastBusy => "least_busy",
            Pick::P2c => "p2c",
            Pick::Prefix => "prefix",
        }
    }
}

/// Time limits; each is above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connect plus TLS handshake. Default 3 s.
    pub connect: Duration,
    /// From the request's last byte to the response's first. Default 120 s.
    pub first_byte: Duration,
    /// Between two reads of the response. Default 120 s.
    pub idle: Duration,
    /// The whole request, all attempts together. Default 15 min.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(900),
        }
    }
}

/// When another target is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, the first included; 1..=16. Default 3.
    pub attempts: u32,
    /// Which outcomes move on to the next.
    pub on: RetryOn,
    /// Attempts beyond the first, per cent of the model's recent requests; 0..=100. Default 20.
    pub budget_percent: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, on: RetryOn::default(), budget_percent: 20 }
    }
}

/// Outcomes of an attempt that move on to the next target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOn {
    /// Refused, unreachable, TLS failure, or reset before any byte of a response.
    pub connect: bool,
    /// No response byte within `timeouts.first_byte`.
    pub first_byte: bool,
    /// 408.
    pub request_timeout: bool,
    /// 429.
    pub rate_limited: bool,
    /// 500..=599, 529 included; 401 and 403 count as these: they refuse our credential, not the client.
    pub server_error: bool,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self { connect: true, first_byte: true, request_timeout: true, rate_limited: true, server_error: true }
    }
}

/// Whose model name a response carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EchoModel {
    /// The name the client sent.
    #[default]
    Requested,
    /// Whatever the provider answered, byte for byte.
    Upstream,
}

/// What a class of keys may do.
#[derive(Debug)]
pub struct Tier {
    /// The name in routes.yaml.
    pub name: String,
    /// Models its keys may call.
    pub models: Vec<Pattern>,
    /// Of each of its keys.
    pub limits: LimitSet,
    /// Of all its keys together.
    pub shared: LimitSet,
    /// How much its keys may keep in `/v1/files`.
    pub files: FileLimits,
}

/// A name with at most one `*`, which stands for any text, the empty one included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    prefix: String,
    /// `None`: no star, an exact name.
    suffix: Option<String>,
}

impl Pattern {
    /// Reads a pattern; `None` when it holds more than one `*`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '*');
        let prefix = parts.next().unwrap_or_default().to_owned();
        let suffix = parts.next().map(str::to_owned);
        parts.next().is_none().then_some(Self { prefix, suffix })
    }

    /// Whether `name` is of this pattern.
    pub fn matches(&self, name: &str) -> bool {
        match &self.suffix {
            None => name == self.prefix,
            Some(suffix) => {
                name.len() >= self.prefix.len() + suffix.len()
                    && name.starts_with(&self.prefix)
                    && name.ends_with(suffix.as_str())
            }
        }
    }

    /// Whether the pattern holds a star.
    pub fn is_wild(&self) -> bool {
        self.suffix.is_some()
    }

    /// How many characters are fixed: the more, the more specific.
    pub fn fixed_len(&self) -> usize {
        self.prefix.len() + self.suffix.as_ref().map_or(0, String::len)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.suffix {
            None => f.write_str(&self.prefix),
            Some(suffix) => write!(f, "{}*{}", self.prefix, suffix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let matches = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().matches(name);
        assert!(matches("*", "") && matches("*", "x") && matches("priyo-*", "priyo-") && matches("a*c", "abc"));
        assert!(!matches("a*a", "a") && !matches("priyo", "priyo-x") && !matches("priyo-*", "Priyo-x"));
        assert_eq!(Pattern::parse("a*b*c"), None);
    }
}
