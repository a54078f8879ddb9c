//! The endpoints Forge speaks: one row each, and nothing about an endpoint is decided elsewhere.
//!
//! Owns: paths, methods, where the model is found, the dialect, the default model, the body limit.
//! Uses nothing of ours, so every room may use it.

use std::fmt;

/// The wire family a request is written in; decides the shape of errors and of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's HTTP API. <https://platform.openai.com/docs/api-reference>
    OpenAi,
    /// Anthropic's Messages API. <https://docs.anthropic.com/en/api/messages>
    Anthropic,
}

/// Where an endpoint's request names its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelIn {
    /// Top-level `model` of a JSON object.
    Json,
    /// The `model` part of `multipart/form-data`.
    Multipart,
    /// Either, told apart by `Content-Type` (image edits).
    JsonOrMultipart,
    /// `?model=` of the request target (realtime).
    Query,
    /// Forge answers by itself; there is no model.
    Nowhere,
}

/// Who answers an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedBy {
    /// A provider that the routes lead to.
    Provider,
    /// The data plane itself, from the routes.
    DataPlane,
    /// The service behind the data plane, which keeps files.
    Jobs,
}

/// Every endpoint of the public reference that Forge serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "each variant is described by its row in ENDPOINTS")]
pub enum Endpoint {
    ChatCompletions,
    Completions,
    Embeddings,
    Moderations,
    AudioSpeech,
    AudioTranscriptions,
    AudioTranslations,
    ImagesGenerations,
    ImagesEdits,
    ImagesVariations,
    Messages,
    MessagesCountTokens,
    Responses,
    Rerank,
    Realtime,
    Models,
    Model,
    Usage,
    Limits,
    RotateKey,
    Files,
    FileContent,
    File,
}

/// One endpoint, whole.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which endpoint this row describes.
    pub endpoint: Endpoint,
    /// The name used in routes.yaml (`serves`, rules), metrics and logs.
    pub name: &'static str,
    /// The methods the endpoint takes, as `Allow` lists them; one only where a provider serves it.
    pub method: &'static str,
    /// The path a client calls, matched exactly on the undecoded target. A trailing `/*` takes the rest; a `*` before
    /// more of the path takes one segment.
    pub path: &'static str,
    /// Where the request names its model.
    pub model_in: ModelIn,
    /// The dialect of requests, answers and errors.
    pub dialect: Dialect,
    /// The model used when the reference lets the client leave it out.
    pub default_model: Option<&'static str>,
    /// Largest body, in bytes, before the process-wide setting narrows it.
    pub body_bytes_max: u64,
    /// A multipart endpoint that takes exactly one `file` part.
    pub one_file: bool,
    /// Who answers.
    pub served_by: ServedBy,
}

const MIB: u64 = 1 << 20;
const JSON_MAX: u64 = 32 * MIB;
const UPLOAD_MAX: u64 = 200 * MIB;

const fn post(endpoint: Endpoint, name: &'static str, path: &'static str) -> Row {
    Row {
        endpoint,
        name,
        method: "POST",
        path,
        model_in: ModelIn::Json,
        dialect: Dialect::OpenAi,
        default_model: None,
        body_bytes_max: JSON_MAX,
        one_file: false,
        served_by: ServedBy::Provider,
    }
}

const fn get(endpoint: Endpoint, name: &'static str, path: &'static str, model_in: ModelIn) -> Row {
    let served_by = if matches!(model_in, ModelIn::Nowhere) { ServedBy::DataPlane } else { ServedBy::Provider };
    Row { method: "GET", model_in, body_bytes_max: 0, served_by, ..post(endpoint, name, path) }
}

/// An endpoint of the service that keeps files; its bodies are bounded by settings of its own.
const fn jobs(mut row: Row, method: &'static str) -> Row {
    row.method = method;
    row.model_in = ModelIn::Nowhere;
    row.served_by = ServedBy::Jobs;
    row
}

const fn upload(mut row: Row, model_in: ModelIn) -> Row {
    row.model_in = model_in;
    row.body_bytes_max = UPLOAD_MAX;
    row
}

const fn one_file(mut row: Row) -> Row {
    row.one_file = true;
    row
}

const fn anthropic(mut row: Row) -> Row {
    row.dialect = Dialect::Anthropic;
    row
}

const fn default_model(mut row: Row, model: &'static str) -> Row {
    row.default_model = Some(model);
    row
}

/// The table. The order is that of [`Endpoint`], which indexes it.
pub static ENDPOINTS: [Row; 23] = [
    post(Endpoint::ChatCompletions, "chat_completions", "/v1/chat/completions"),
    post(Endpoint::Completions, "completions", "/v1/completions"),
    post(Endpoint::Embeddings, "embeddings", "/v1/embeddings"),
    default_model(post(Endpoint::Moderations, "moderations", "/v1/moderations"), "omni-moderation-latest"),
    post(Endpoint::AudioSpeech, "audio_speech", "/v1/audio/speech"),
    one_file(upload(
        post(Endpoint::AudioTranscriptions, "audio_transcriptions", "/v1/audio/transcriptions"),
        ModelIn::Multipart,
    )),
    one_file(upload(
        post(Endpoint::AudioTranslations, "audio_translations", "/v1/audio/translations"),
        ModelIn::Multipart,
    )),
    default_model(post(Endpoint::ImagesGenerations, "images_generations", "/v1/images/generations"), "gpt-image-1"),
    default_model(
        upload(post(Endpoint::ImagesEdits, "images_edits", "/v1/images/edits"), ModelIn::JsonOrMultipart),
        "gpt-image-1",
    ),
    default_model(
        upload(post(Endpoint::ImagesVariations, "images_variations", "/v1/images/variations"), ModelIn::Multipart),
        "dall-e-2",
    ),
    anthropic(post(Endpoint::Messages, "messages", "/v1/messages")),
    anthropic(post(Endpoint::MessagesCountTokens, "messages_count_tokens", "/v1/messages/count_tokens")),
    post(Endpoint::Responses, "responses", "/v1/responses"),
    post(Endpoint::Rerank, "rerank", "/v1/rerank"),
    get(Endpoint::Realtime, "realtime", "/v1/realtime", ModelIn::Query),
    get(Endpoint::Models, "models", "/v1/models", ModelIn::Nowhere),
    get(Endpoint::Model, "model", "/v1/models/*", ModelIn::Nowhere),
    get(Endpoint::Usage, "usage", "/v1/usage", ModelIn::Nowhere),
    get(Endpoint::Limits, "limits", "/v1/limits", ModelIn::Nowhere),
    Row {
        model_in: ModelIn::Nowhere,
        served_by: ServedBy::DataPlane,
        body_bytes_max: 8 << 10,
        ..post(Endpoint::RotateKey, "rotate_key", "/v1/keys/rotate")
    },
    jobs(post(Endpoint::Files, "files", "/v1/files"), "GET, POST"),
    jobs(post(Endpoint::FileContent, "file_content", "/v1/files/*/content"), "GET"),
    jobs(post(Endpoint::File, "file", "/v1/files/*"), "GET, DELETE"),
];

impl Row {
    /// Whether the endpoint takes this method.
    pub fn takes(&self, method: &str) -> bool {
        self.method.split(", ").any(|taken| taken == method)
    }

    /// Whether an undecoded path (no query) is this endpoint's.
    fn has_path(&self, path: &str) -> bool {
        let Some((prefix, suffix)) = self.path.split_once('*') else { return self.path == path };
        let taken = path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)).unwrap_or_default();
        !taken.is_empty() && (suffix.is_empty() || !taken.contains('/'))
    }
}

impl Endpoint {
    /// This endpoint's row.
    pub fn row(self) -> &'static Row {
        &ENDPOINTS[self as usize]
    }

    /// The name used in routes.yaml, metrics and logs, e.g. `chat_completions`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The endpoint of that name, if there is one.
    pub fn by_name(name: &str) -> Option<Endpoint> {
        ENDPOINTS.iter().find(|row| row.name == name).map(|row| row.endpoint)
    }

    /// The endpoint of an undecoded request path (no query), if there is one.
    pub fn by_path(path: &str) -> Option<Endpoint> {
        ENDPOINTS.iter().find(|row| row.has_path(path)).map(|row| row.endpoint)
    }

    /// Every endpoint that a provider can serve (all but those Forge answers by itself).
    pub fn proxied() -> impl Iterator<Item = Endpoint> {
        ENDPOINTS.iter().filter(|row| row.served_by == ServedBy::Provider).map(|row| row.endpoint)
    }
}

/// The dialect errors are written in for a path, also one that no endpoint has.
pub fn dialect_of_path(path: &str) -> Dialect {
    if path == "/v1/messages" || path.starts_with("/v1/messages/") { Dialect::Anthropic } else { Dialect::OpenAi }
}

/// A set of endpoints, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointSet(u32);

impl EndpointSet {
    /// Every endpoint.
    pub const ALL: Self = Self((1 << ENDPOINTS.len()) - 1);

    /// The set of these endpoints.
    pub const fn of(endpoints: &[Endpoint]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < endpoints.len() {
            bits |= 1 << endpoints[i] as u32;
            i += 1;
        }
        Self(bits)
    }

    /// Whether `endpoint` is in the set.
    pub const fn contains(self, endpoint: Endpoint) -> bool {
        self.0 & (1 << endpoint as u32) != 0
    }

    /// Both sets together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members, in table order.
    pub fn iter(self) -> impl Iterator<Item = Endpoint> {
        ENDPOINTS.iter().map(|row| row.endpoint).filter(move |endpoint| self.contains(*endpoint))
    }
}

impl fmt::Debug for EndpointSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Endpoint::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, row) in ENDPOINTS.iter().enumerate() {
            assert_eq!(row.endpoint as usize, index, "{}", row.name);
            assert_eq!(Endpoint::by_name(row.name), Some(row.endpoint));
        }
    }

    #[test]
    fn methods_are_those_of_allow() {
        let files = Endpoint::Files.row();
        assert!(files.takes("GET") && files.takes("POST") && !files.takes("PUT") && !files.takes("GET, POST"));
        for endpoint in Endpoint::proxied() {
            assert!(!endpoint.row().method.contains(','), "{}: a provider is sent one method", endpoint.name());
        }
    }

    #[test]
    fn paths_match_exactly() {
        assert_eq!(Endpoint::by_path("/v1/messages"), Some(Endpoint::Messages));
        assert_eq!(Endpoint::by_path("/v1/messages/count_tokens"), Some(Endpoint::MessagesCountTokens));
        assert_eq!(Endpoint::by_path("/v1/models"), Some(Endpoint::Models));
        assert_eq!(Endpoint::by_path("/v1/models/a/b"), Some(Endpoint::Model));
        assert_eq!(Endpoint::by_path("/v1/files"), Some(Endpoint::Files));
        assert_eq!(Endpoint::by_path("/v1/files/file-1"), Some(Endpoint::File));
        assert_eq!(Endpoint::by_path("/v1/files/file-1/content"), Some(Endpoint::FileContent));
        // A file that would be called so has no such id; the service answers 404.
        assert_eq!(Endpoint::by_path("/v1/files//content"), Some(Endpoint::File));
        assert_eq!(Endpoint::by_path("/v1/files/a/b/content"), Some(Endpoint::File));
        for other in ["/v1/models/", "/v1/messages/", "/v1//messages", "/V1/messages", "/v1/chat%2Fcompletions", "/"] {
            assert_eq!(Endpoint::by_path(other), None, "{other}");
        }
    }
}
