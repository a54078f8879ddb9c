//! Fixtures of every dialect, each read whole, cut at every byte, and byte by byte.

use super::*;
use Endpoint::{
    AudioTranscriptions, ChatCompletions, Completions, Embeddings, ImagesGenerations, Messages, Moderations, Rerank,
    Responses,
};

fn read(reader: fn(Endpoint) -> Reader, endpoint: Endpoint, text: &str) -> Option<Usage> {
    let read = |cuts: &[usize]| {
        let (mut reader, mut from) = (reader(endpoint), 0);
        for cut in cuts.iter().copied().chain([text.len()]) {
            reader.feed(&text.as_bytes()[from..cut]);
            from = cut;
        }
        reader.reported()
    };
    let whole = read(&[]);
    for cut in 0..=text.len() {
        assert_eq!(read(&[cut]), whole, "{text} cut at {cut}");
    }
    assert_eq!(read(&(0..text.len()).collect::<Vec<_>>()), whole, "{text} byte by byte");
    whole
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage { input_tokens: input, output_tokens: output, ..Usage::default() }
}

/// Reads each body, at every cut.
fn assert_bodies(cases: &[(Endpoint, &str, Option<Usage>)]) {
    for (endpoint, body, expected) in cases {
        assert_eq!(read(Reader::json, *endpoint, body), *expected, "{body}");
    }
}

#[test]
fn bodies_of_endpoints_that_write_text() {
    assert_bodies(&[
        (
            ChatCompletions,
            r#"{"choices":[{"message":{"content":"hi \"usage\":{\"prompt_tokens\":99}"}}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":1},"completion_tokens_details":{"reasoning_tokens":4,"audio_tokens":2,"accepted_prediction_tokens":0}},"service_tier":"default"}"#,
            Some(Usage {
                cached_input_tokens: 8,
                audio_input_tokens: 1,
                reasoning_tokens: 4,
                audio_output_tokens: 2,
                ..tokens(19, 10)
            }),
        ),
        // DeepSeek, and details that are null.
        (
            ChatCompletions,
            r#"{"usage":{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36,"prompt_tokens_details":null}}"#,
            Some(Usage { cached_input_tokens: 64, ..tokens(100, 5) }),
        ),
        // xAI and Gemini count what the model thought in the total only.
        (
            ChatCompletions,
            r#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,"completion_tokens_details":{"reasoning_tokens":100}}}"#,
            Some(Usage { reasoning_tokens: 100, ..tokens(10, 105) }),
        ),
        (
            Completions,
            r#"{"choices":[{"text":"a"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}"#,
            Some(tokens(5, 7)),
        ),
        (
            Embeddings,
            r#"{"data":[{"embedding":[0.1,-2e-3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            Some(tokens(8, 0)),
        ),
        (Embeddings, r#"{"object":"list","usage":{"total_tokens":8}}"#, Some(tokens(8, 0))),
        (
            Responses,
            r#"{"output":[{"usage":{"input_tokens":1}}],"tools":[{"parameters":{"properties":{"usage":{"type":"string"}}}}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":2,"cache_write_tokens":3},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":7},"total_tokens":123}}"#,
            Some(Usage { cached_input_tokens: 2, cache_write_tokens: 3, reasoning_tokens: 7, ..tokens(36, 87) }),
        ),
        (
            Messages,
            r#"{"content":[{"type":"tool_use","input":{"usage":{"input_tokens":7}}}],"usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":20,"cache_creation":{"ephemeral_5m_input_tokens":3},"output_tokens":25,"service_tier":"standard"}}"#,
            Some(Usage { cached_input_tokens: 20, cache_write_tokens: 3, ..tokens(33, 25) }),
        ),
    ]);
}

#[test]
fn bodies_of_other_endpoints() {
    assert_bodies(&[
        (Moderations, r#"{"id":"modr-1","results":[{"flagged":false}]}"#, None),
        (
            AudioTranscriptions,
            r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":10,"audio_tokens":4},"output_tokens":101,"total_tokens":115}}"#,
            Some(Usage { audio_input_tokens: 4, ..tokens(14, 101) }),
        ),
        (
            AudioTranscriptions,
            r#"{"duration":8.470000267028809,"text":"hi","usage":{"type":"duration","seconds":9}}"#,
            Some(Usage { audio_ms: 9000, ..Usage::default() }),
        ),
        (
            AudioTranscriptions,
            r#"{"task":"transcribe","duration":8.47,"text":"hi"}"#,
            Some(Usage { audio_ms: 8470, ..Usage::default() }),
        ),
        (AudioTranscriptions, r#"{"text":"hi"}"#, None),
        (
            ImagesGenerations,
            r#"{"created":1,"data":[{"b64_json":"a{}[","x":{"y":[{}]}},{"b64_json":"b"}],"usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}"#,
            Some(Usage { image_input_tokens: 40, images: 2, ..tokens(50, 50) }),
        ),
        (
            ImagesGenerations,
            r#"{"created":1,"data":[{"url":"https://x"}]}"#,
            Some(Usage { images: 1, ..Usage::default() }),
        ),
        (
            Rerank,
            r#"{"results":[{"index":0,"relevance_score":0.9},{"index":1}],"id":"x","meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1}}}"#,
            Some(Usage { searches: 1, documents: 2, ..Usage::default() }),
        ),
        (
            Rerank,
            r#"{"usage":{"total_tokens":33},"results":[{"index":0}]}"#,
            Some(Usage { documents: 1, ..tokens(33, 0) }),
        ),
    ]);
}

#[test]
fn bodies_that_say_nothing_or_nonsense() {
    assert_bodies(&[
        (ChatCompletions, r#"{"usage":null}"#, None),
        (
            ChatCompletions,
            r#"{"usage":{"prompt_tokens":-1,"completion_tokens":"7","total_tokens":[]}}"#,
            Some(tokens(0, 0)),
        ),
        (ChatCompletions, r#"{"usage":{"prompt_tokens":1e99}}"#, Some(tokens(1 << 40, 0))),
        (ChatCompletions, "not json at all \"usage\":{\"prompt_tokens\":5}", None),
        (ChatCompletions, "", None),
    ]);
}

#[test]
fn streams_of_every_endpoint() {
    let content = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n";
    let cases: &[(Endpoint, String, Option<Usage>)] = &[
        (
            ChatCompletions,
            format!("{content}{content}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}}}\n\ndata: [DONE]\n\n"),
            Some(tokens(3, 2)),
        ),
        (ChatCompletions, format!("{content}data: [DONE]\n\n"), None),
        // Groq of old.
        (
            ChatCompletions,
            format!("{content}data: {{\"choices\":[{{\"delta\":{{}}}}],\"x_groq\":{{\"id\":\"req\",\"usage\":{{\"queue_time\":0.1,\"prompt_tokens\":3,\"completion_tokens\":2}}}}}}\r\n\r\n"),
            Some(tokens(3, 2)),
        ),
        // Sums so far in every event: the last counts.
        (
            Completions,
            "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9}}\n\n".into(),
            Some(tokens(3, 9)),
        ),
        (
            Messages,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\nevent: content_block_delta\ndata: {\"delta\":{\"text\":\"usage\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n".into(),
            Some(Usage { cached_input_tokens: 5, ..tokens(30, 15) }),
        ),
        (
            Responses,
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null,\"tools\":[{\"usage\":{\"input_tokens\":1}}]}}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[],\"usage\":{\"input_tokens\":37,\"output_tokens\":11,\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":48}}}\n\n".into(),
            Some(tokens(37, 11)),
        ),
        (
            ImagesGenerations,
            "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"x\",\"usage\":{\"input_tokens\":5,\"output_tokens\":50,\"total_tokens\":55}}\n\n".into(),
            Some(Usage { images: 1, ..tokens(5, 50) }),
        ),
        (
            AudioTranscriptions,
            "data: {\"type\":\"transcript.text.done\",\"text\":\"x\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":5,\"output_tokens\":6,\"total_tokens\":11}}\n\n".into(),
            Some(tokens(5, 6)),
        ),
    ];
    for (endpoint, stream, expected) in cases {
        assert_eq!(read(Reader::sse, *endpoint, stream), *expected, "{stream}");
    }
}

#[test]
fn an_object_is_read_up_to_a_bound() {
    let pad = "x".repeat(OBJECT_BYTES_MAX);
    let body = format!(r#"{{"usage":{{"pad":"{pad}","prompt_tokens":5}}}}"#);
    let mut reader = Reader::json(ChatCompletions);
    reader.feed(body.as_bytes());
    assert_eq!(reader.reported(), None);
}
