//! The providers Forge knows by name: one row each. A key and nothing else makes a row usable.
//!
//! A row says what a provider's own reference says, no more: routes.yaml can widen `serves`, add `paths`, or
//! change the URL. Looked up 2026-11-22: Cohere, Together, xAI, vLLM, llama.cpp, Perplexity, and in part Ollama,
//! SGLang, Groq, Mistral, OpenRouter and Gemini; the others stand as they are commonly known.

use super::snapshot::{Auth, Flavor, StreamUsage};
use crate::endpoint::{Endpoint, EndpointSet};

/// What a provider needs that routes.yaml does not say.
#[derive(Debug)]
pub(super) struct Row {
    pub name: &'static str,
    /// The base URL, version path included; `None`: routes.yaml must name it.
    pub url: Option<&'static str>,
    pub auth: Auth,
    pub key: KeyNeed,
    pub flavor: Flavor,
    pub serves: EndpointSet,
    /// Paths that are not the base URL's plus the endpoint's; from the root of the host.
    pub paths: &'static [(Endpoint, &'static str)],
    pub api_version: Option<&'static str>,
    pub stream_usage: StreamUsage,
}

/// Whether a provider can be called without a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyNeed {
    /// At its own URL it answers nobody without one.
    Required,
    /// Self-hosted: as its operator set it up.
    Optional,
}

/// The row of the built-in demo provider.
pub(super) const DEMO: &str = "demo";

use Endpoint::*;

const CHAT: &[Endpoint] = &[ChatCompletions];
const OPENAI_API: &[Endpoint] = &[
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
    Responses,
    Realtime,
];
const ANTHROPIC_API: &[Endpoint] = &[Messages, MessagesCountTokens];

/// A hosted service with OpenAI's paths and a bearer key.
const fn hosted(name: &'static str, url: &'static str, serves: &[Endpoint]) -> Row {
    Row {
        name,
        url: Some(url),
        auth: Auth::Bearer,
        key: KeyNeed::Required,
        flavor: Flavor::Plain,
        serves: EndpointSet::of(serves),
        paths: &[],
        api_version: None,
        stream_usage: StreamUsage::Ask,
    }
}

/// A service that says in every stream what it used.
const fn reports_by_itself(mut row: Row) -> Row {
    row.stream_usage = StreamUsage::Leave;
    row
}

/// A server people run themselves, at an address of their own, with or without a key.
const fn self_hosted(name: &'static str, url: Option<&'static str>, serves: &[Endpoint]) -> Row {
    Row { url, key: KeyNeed::Optional, ..hosted(name, "", serves) }
}

static ROWS: &[Row] = &[
    // https://platform.openai.com/docs/api-reference
    hosted("openai", "https://api.openai.com/v1", OPENAI_API),
    // https://docs.anthropic.com/en/api/overview
    Row { auth: Auth::XApiKey, ..hosted("anthropic", "https://api.anthropic.com/v1", ANTHROPIC_API) },
    // https://learn.microsoft.com/azure/ai-services/openai/reference (data plane, GA 2024-10-21)
    Row {
        url: None,
        auth: Auth::ApiKey,
        flavor: Flavor::AzureDeployments,
        api_version: Some("2024-10-21"),
        ..hosted(
            "azure",
            "",
            &[ChatCompletions, Completions, Embeddings, AudioTranscriptions, AudioTranslations, ImagesGenerations],
        )
    },
    // https://ai.google.dev/gemini-api/docs/openai
    hosted(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        &[ChatCompletions, Embeddings, ImagesGenerations],
    ),
    // https://docs.cohere.com/docs/compatibility-api, https://docs.cohere.com/reference/rerank
    Row {
        paths: &[(Rerank, "/v2/rerank")],
        ..hosted("cohere", "https://api.cohere.ai/compatibility/v1", &[ChatCompletions, Embeddings, Rerank])
    },
    // https://docs.mistral.ai/api
    // Reports by itself, and answers 422 to fields it does not know.
    reports_by_itself(hosted(
        "mistral",
        "https://api.mistral.ai/v1",
        &[ChatCompletions, Embeddings, Moderations, AudioTranscriptions],
    )),
    // https://console.groq.com/docs/api-reference
    hosted(
        "groq",
        "https://api.groq.com/openai/v1",
        &[ChatCompletions, Responses, AudioSpeech, AudioTranscriptions, AudioTranslations],
    ),
    // https://api-docs.deepseek.com
    hosted("deepseek", "https://api.deepseek.com/v1", CHAT),
    // https://docs.x.ai/developers/rest-api-reference/inference
    hosted("xai", "https://api.x.ai/v1", &[ChatCompletions, Responses, ImagesGenerations]),
    // https://docs.together.ai/docs/inference/openai-compatibility
    hosted(
        "together",
        "https://api.together.ai/v1",
        &[
            ChatCompletions,
            Completions,
            Embeddings,
            ImagesGenerations,
            AudioSpeech,
            AudioTranscriptions,
            AudioTranslations,
            Rerank,
        ],
    ),
    // https://docs.fireworks.ai/api-reference
    hosted(
        "fireworks",
        "https://api.fireworks.ai/inference/v1",
        &[ChatCompletions, Completions, Embeddings, Responses, Rerank],
    ),
    // https://openrouter.ai/docs/api-reference/overview
    hosted(
        "openrouter",
        "https://openrouter.ai/api/v1",
        &[ChatCompletions, Completions, Embeddings, Responses, Messages],
    ),
    // https://docs.perplexity.ai/docs/sonar/openai-compatibility, …/docs/grounded-llm/openai-compatibility
    Row {
        paths: &[(ChatCompletions, "/chat/completions")],
        ..reports_by_itself(hosted("perplexity", "https://api.perplexity.ai/v1", &[ChatCompletions, Responses]))
    },
    // https://jina.ai/embeddings, https://jina.ai/reranker
    hosted("jina", "https://api.jina.ai/v1", &[Embeddings, Rerank]),
    // https://docs.voyageai.com/reference
    hosted("voyage", "https://api.voyageai.com/v1", &[Embeddings, Rerank]),
    // https://docs.vllm.ai/en/stable/serving/online_serving
    self_hosted(
        "vllm",
        None,
        &[
            ChatCompletions,
            Completions,
            Embeddings,
            Responses,
            AudioTranscriptions,
            AudioTranslations,
            Messages,
            MessagesCountTokens,
            Rerank,
        ],
    ),
    // https://docs.sglang.io/docs/basic_usage/openai_api, …/native_api
    self_hosted("sglang", None, &[ChatCompletions, Completions, Embeddings, Rerank]),
    // https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
    self_hosted(
        "llama.cpp",
        Some("http://127.0.0.1:8080/v1"),
        &[ChatCompletions, Completions, Embeddings, Responses, Messages, MessagesCountTokens, Rerank],
    ),
    // https://docs.ollama.com/api/openai-compatibility, …/anthropic-compatibility
    self_hosted(
        "ollama",
        Some("http://127.0.0.1:11434/v1"),
        &[ChatCompletions, Completions, Embeddings, Responses, Messages],
    ),
    // Anything that speaks OpenAI's API; `dialect: openai`. Rerank has no other home.
    self_hosted(
        "openai-compatible",
        None,
        &[
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
            Responses,
            Rerank,
            Realtime,
        ],
    ),
    // Anything that speaks Anthropic's API; `dialect: anthropic`.
    Row { auth: Auth::XApiKey, ..self_hosted("anthropic-compatible", None, ANTHROPIC_API) },
    // The built-in provider (src/demo): its address is known when it is started.
    Row {
        auth: Auth::None,
        serves: EndpointSet::of(OPENAI_API).union(EndpointSet::of(ANTHROPIC_API)).union(EndpointSet::of(&[Rerank])),
        ..self_hosted(DEMO, None, &[])
    },
];

/// The row of that name.
pub(super) fn by_name(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Every row's name, in table order.
pub(super) fn names() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::origin::origin;

    #[test]
    fn rows_are_sound() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..index].iter().all(|other| other.name != row.name), "{} twice", row.name);
            assert!(row.serves.iter().next().is_some(), "{} serves nothing", row.name);
            if let Some(url) = row.url {
                assert!(origin(url).is_ok(), "{}: {url}", row.name);
            }
            for (endpoint, path) in row.paths {
                assert!(row.serves.contains(*endpoint) && path.starts_with('/'), "{}: {path}", row.name);
            }
        }
    }
}
