//! What passes between a client and a provider, and in which shape.
//!
//! Owns: the head of a request to a provider, the head of its answer to the client, the meaning of a
//! status, the framing of event streams, the model's name in answers, refusals and the event that ends a
//! broken stream. Must not touch: sockets, clocks, files, or the engine beyond its header types. Every
//! function here is of its arguments only, so everything is tested with tables and files.
//!
//! A request head for a provider:
//!
//! ```
//! use forge::adapt::request::{self, Framing, Outgoing, Upgrade};
//! use forge::config::{Auth, Flavor, HttpVersions, Origin, Provider, ProviderKey, ProviderTls, StreamUsage};
//! use forge::endpoint::{Endpoint, EndpointSet};
//! use http::{HeaderMap, HeaderValue, Version};
//!
//! let origin = Origin {
//!     tls: true,
//!     host: "llm.example".into(),
//!     port: 443,
//!     base_path: "/v1".into(),
//!     authority: HeaderValue::from_static("llm.example"),
//! };
//! let key = ProviderKey { header: HeaderValue::from_static("Bearer provider-key"), fingerprint: 1 };
//! let provider = Provider {
//!     name: "example".into(),
//!     flavor: Flavor::Plain,
//!     origins: vec![origin.clone()],
//!     keys: vec![key.clone()],
//!     auth: Auth::Bearer,
//!     headers: vec![],
//!     serves: EndpointSet::of(&[Endpoint::ChatCompletions]),
//!     paths: Default::default(),
//!     api_version: None,
//!     tls: ProviderTls::default(),
//!     http: HttpVersions::Auto,
//!     stream_usage: StreamUsage::Ask,
//!     probe: None,
//! };
//! let mut client = HeaderMap::new();
//! client.insert("authorization", HeaderValue::from_static("Bearer sk-client"));
//! client.insert("accept", HeaderValue::from_static("application/json"));
//!
//! let head = request::head(&Outgoing {
//!     endpoint: Endpoint::ChatCompletions,
//!     query: None,
//!     headers: &client,
//!     provider: &provider,
//!     origin: &origin,
//!     key: Some(&key),
//!     model: "llama",
//!     request_id: &HeaderValue::from_static("req_1"),
//!     framing: Framing::Length(17),
//!     upgrade: Upgrade::None,
//!     version: Version::HTTP_11,
//! })?;
//! assert_eq!(head.uri.path(), "/v1/chat/completions");
//! assert_eq!(head.headers["host"], "llm.example");
//! assert_eq!(head.headers["authorization"], "Bearer provider-key");
//! assert_eq!(head.headers["accept"], "application/json");
//! # Ok::<(), forge::adapt::AdaptError>(())
//! ```

pub mod echo;
pub mod opening;
pub mod outcome;
pub mod refusal;
pub mod request;
pub mod response;
pub mod rules;
mod scrub;
pub mod sse;
pub mod stream_error;
mod target;
pub mod usage;

use thiserror::Error;

/// Why a head could not be built. Both are ours: what comes in was checked at admission and at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AdaptError {
    /// Base path, path and query together are no request target.
    #[error("the upstream's path and the query make no valid request target")]
    InvalidTarget,
    /// A value that was valid on its own is not in its new place.
    #[error("the header {0} cannot be sent upstream")]
    InvalidHeader(&'static str),
}
