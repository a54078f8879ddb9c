//! The built-in provider: a real HTTP server that answers every endpoint of [`crate::endpoint`] in OpenAI's
//! and Anthropic's form, so that a fresh installation answers without any account.
//!
//! It reads the request as a provider does (limits, tools, formats, streaming) and refuses what a provider
//! refuses. It keeps nothing between requests, checks no key, and is meant for loopback only.
//! It must not be reached from the data plane but by HTTP: Forge talks to it as to any other provider.
//!
//! ```no_run
//! # async fn start() -> std::io::Result<()> {
//! let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! tokio::spawn(forge::demo::serve(listener)?);
//! # Ok(())
//! # }
//! ```

mod audio;
mod chat;
mod completions;
mod embeddings;
mod fields;
mod images;
mod input;
mod messages;
mod models;
mod moderations;
mod picture;
mod realtime;
mod refusal;
mod rerank;
mod responses;
mod sample;
mod sound;
mod stream;
mod tools;
mod turn;
mod upload;
mod writing;

use std::io;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get, post};
use axum::serve::ListenerExt;

use crate::endpoint::{Dialect, ENDPOINTS, Endpoint, ServedBy, dialect_of_path};
use refusal::Refusal;

/// Serves on `listener` until the returned future is dropped. Call it inside a Tokio runtime.
///
/// # Errors
/// When the listener cannot be made non-blocking or registered with the runtime.
pub fn serve(listener: std::net::TcpListener) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    listener.set_nonblocking(true)?;
    // Without it, events of a stream wait for the acknowledgement of those before.
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            log::debug!("the demo provider keeps Nagle's algorithm: {error}");
        }
    });
    Ok(async move {
        if let Err(error) = axum::serve(listener, router()).await {
            log::error!("the demo provider stopped: {error}");
        }
    })
}

fn router() -> Router {
    let mut router = Router::new();
    for row in ENDPOINTS.iter().filter(|row| row.served_by != ServedBy::Jobs) {
        let limit = DefaultBodyLimit::max(usize::try_from(row.body_bytes_max).unwrap_or(usize::MAX));
        let handler = handler(row.endpoint).fallback(async || Refusal::Method).layer(limit);
        router = router.route(&row.path.replace('*', "{*id}"), handler);
    }
    router.fallback(async || Refusal::UnknownPath).layer(middleware::from_fn(finish))
}

/// The handler of every endpoint; a new row does not compile until it has one.
fn handler(endpoint: Endpoint) -> MethodRouter {
    match endpoint {
        Endpoint::ChatCompletions => post(chat::create),
        Endpoint::Completions => post(completions::create),
        Endpoint::Embeddings => post(embeddings::create),
        Endpoint::Moderations => post(moderations::create),
        Endpoint::AudioSpeech => post(audio::speak),
        Endpoint::AudioTranscriptions => post(audio::transcribe),
        Endpoint::AudioTranslations => post(audio::translate),
        Endpoint::ImagesGenerations => post(images::generate),
        Endpoint::ImagesEdits => post(images::edit),
        Endpoint::ImagesVariations => post(images::vary),
        Endpoint::Messages => post(messages::create),
        Endpoint::MessagesCountTokens => post(messages::count_tokens),
        Endpoint::Responses => post(responses::create),
        Endpoint::Rerank => post(rerank::create),
        Endpoint::Realtime => get(realtime::connect),
        Endpoint::Models => get(models::list),
        Endpoint::Model => get(models::retrieve),
        // A gateway keeps keys, a provider of this kind does not.
        Endpoint::Usage | Endpoint::Limits | Endpoint::RotateKey => any(async || Refusal::UnknownPath),
        // A gateway keeps files itself, so nobody asks its providers.
        Endpoint::Files | Endpoint::FileContent | Endpoint::File => MethodRouter::new(),
    }
}

/// Gives every answer its request id, and every refusal the shape of the path's dialect.
async fn finish(request: Request, next: Next) -> Response {
    let dialect = dialect_of_path(request.uri().path());
    let id = writing::id("req_");
    let mut response = next.run(request).await;
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        response = refusal.render(dialect, &id);
    }
    let name = match dialect {
        Dialect::OpenAi => HeaderName::from_static("x-request-id"),
        Dialect::Anthropic => HeaderName::from_static("request-id"),
    };
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests;
