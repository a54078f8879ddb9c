//! The usual set-up of a test: one scripted upstream behind one gateway, and the usual requests.

use crate::support::gateway::{Gateway, PROVIDER_KEY, Setup, routes};
use crate::support::upstream::Upstream;

/// The path most tests call.
pub const CHAT: &str = "/v1/chat/completions";
/// Its counterpart in Anthropic's dialect.
pub const MESSAGES: &str = "/v1/messages";

/// One upstream, one gateway.
pub struct World {
    pub upstream: Upstream,
    pub gateway: Gateway,
}

impl World {
    /// The usual routes.
    pub async fn start() -> Self {
        Self::with_conf("").await
    }

    /// The usual routes, and these lines of forge.yaml.
    pub async fn with_conf(conf: &str) -> Self {
        let upstream = Upstream::start().await;
        let setup = Setup { routes: usual_routes(upstream.port()), conf: conf.to_owned(), ..Setup::default() };
        Self { upstream, gateway: Gateway::start_with(setup).await }
    }

    /// Providers `up` and `claude` at the upstream, and these lines under `models:`.
    pub async fn with_models(models: &str) -> Self {
        let upstream = Upstream::start().await;
        let text = routes(&format!("{}models:\n{models}", providers(upstream.port())));
        Self { gateway: Gateway::start(&text).await, upstream }
    }
}

/// Provider `up` (OpenAI's dialect) and provider `claude` (Anthropic's), both on this port.
pub fn providers(port: u16) -> String {
    format!("providers:\n{}{}", provider("up", "openai", port), provider("claude", "anthropic", port))
}

/// One provider as a line of routes.yaml.
pub fn provider(name: &str, dialect: &str, port: u16) -> String {
    format!("  {name}: {{ dialect: {dialect}, url: \"http://127.0.0.1:{port}/v1\", key: \"plain:{PROVIDER_KEY}\" }}\n")
}

/// The routes of [`World::start`].
pub fn usual_routes(port: u16) -> String {
    let models = "models:
  m: up/upstream-name
  free-m: up/free-upstream
  claude-m: claude/claude-upstream
  omni-moderation-latest: up
  gpt-image-1: up
  dall-e-2: up
  wild-*: up
";
    routes(&format!("{}{models}", providers(port)))
}

/// A small chat request.
pub fn chat(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#)
}

/// A small chat request that asks for a stream.
pub fn chat_stream(model: &str) -> String {
    format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#)
}

/// A valid JSON body of exactly `length` bytes that names `model` first or last.
pub fn sized_body(length: usize, model: &str, place: ModelPlace) -> String {
    let (head, tail) = match place {
        ModelPlace::First => (format!(r#"{{"model":"{model}","pad":""#), r#""}"#.to_owned()),
        ModelPlace::Last => (r#"{"nested":{"model":"decoy"},"pad":""#.to_owned(), format!(r#"","model":"{model}"}}"#)),
    };
    let pad = length.checked_sub(head.len() + tail.len()).expect("room for the padding");
    let mut text = String::with_capacity(length);
    text.push_str(&head);
    text.extend((0..pad).map(|n| char::from(b'a' + (n * 7 % 26) as u8)));
    text.push_str(&tail);
    text
}

/// Where a body names its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelPlace {
    First,
    Last,
}
