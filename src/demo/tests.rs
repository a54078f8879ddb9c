//! The demo provider over real sockets.

use std::net::SocketAddr;

use axum::http::header::CONTENT_TYPE;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Response};
use serde_json::{Value, json};

async fn start() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(super::serve(listener).unwrap());
    format!("http://{address}")
}

/// Speaks plain HTTP, but cannot be made without a TLS provider.
fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
}

async fn post(path: &str, body: Value) -> Response {
    let url = format!("{}{path}", start().await);
    client().post(url).json(&body).send().await.unwrap()
}

async fn ask(path: &str, body: Value) -> Value {
    let response = post(path, body).await;
    let status = response.status();
    let answer = response.json().await.unwrap();
    assert!(status.is_success(), "{status} {answer}");
    answer
}

async fn upload(path: &str, form: Form) -> Response {
    client().post(format!("{}{path}", start().await)).multipart(form).send().await.unwrap()
}

/// The events of a stream: names and data. `[DONE]` is left as text.
async fn events(path: &str, body: Value) -> Vec<(String, Value)> {
    let response = post(path, body).await;
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    let text = response.text().await.unwrap();
    let frames = text.split("\n\n").filter(|frame| !frame.is_empty());
    frames
        .map(|frame| {
            let line = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let data = line("data: ");
            (line("event: ").to_owned(), serde_json::from_str(data).unwrap_or_else(|_| data.into()))
        })
        .collect()
}

fn weather_tool() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!({"name": "get_weather", "parameters": schema, "input_schema": schema})
}

#[tokio::test]
async fn chat_echoes_counts_and_numbers_its_choices() {
    let answer = ask(
        "/v1/chat/completions",
        json!({"model": "m-1", "n": 2, "messages": [{"role": "user", "content": "ঢাকা 🌦 calling"}]}),
    )
    .await;
    assert_eq!(answer["model"], "m-1");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("ঢাকা 🌦 calling") && text.contains("demo model") && text.contains("routes.yaml"));
    assert_eq!(answer["choices"][1]["index"], 1);
    assert_eq!(answer["choices"][1]["finish_reason"], "stop");
    let usage = &answer["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
}

#[tokio::test]
async fn chat_is_cut_by_tokens_and_by_stop_sequences() {
    let ask = |extra: &str, value: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body[extra] = value;
        ask("/v1/chat/completions", body)
    };
    let cut = ask("max_completion_tokens", json!(3)).await;
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert_eq!(cut["usage"]["completion_tokens"], 3);
    let stopped = ask("stop", json!(["demo model"])).await;
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert_eq!(stopped["choices"][0]["message"]["content"], "Hello from Forge's built-in ");
}

#[tokio::test]
async fn chat_streams_role_first_finish_last_and_usage_when_asked() {
    let chunks = events(
        "/v1/chat/completions",
        json!({"model": "m", "stream": true, "stream_options": {"include_usage": true},
               "messages": [{"role": "user", "content": "hi"}]}),
    )
    .await;
    assert!(chunks.len() > 10);
    assert_eq!(chunks[0].1["choices"][0]["delta"]["role"], "assistant");
    let [finish, usage, done] = &chunks[chunks.len() - 3..] else { panic!() };
    assert_eq!(finish.1["choices"][0]["finish_reason"], "stop");
    assert_eq!(usage.1["choices"], json!([]));
    assert!(usage.1["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(done.1, "[DONE]");
}

#[tokio::test]
async fn chat_calls_a_forced_tool_and_then_reads_its_result() {
    let tools = json!([{"type": "function", "function": weather_tool()}]);
    let called = ask(
        "/v1/chat/completions",
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": tools,
               "tool_choice": {"type": "function", "function": {"name": "get_weather"}}}),
    )
    .await;
    let message = &called["choices"][0]["message"];
    assert_eq!(called["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], r#"{"city":"demo city"}"#);

    let answered = ask(
        "/v1/chat/completions",
        json!({"model": "m", "tools": tools, "messages": [
            {"role": "user", "content": "the weather?"}, message,
            {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"}]}),
    )
    .await;
    assert!(answered["choices"][0]["message"]["content"].as_str().unwrap().contains("sunny"));
}

#[tokio::test]
async fn structured_output_is_json_of_the_schema() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let chat = ask(
        "/v1/chat/completions",
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}],
               "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
    )
    .await;
    assert_eq!(chat["choices"][0]["message"]["content"], r#"{"n":1}"#);
    let response = ask(
        "/v1/responses",
        json!({"model": "m", "input": "hi",
               "text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}}),
    )
    .await;
    assert_eq!(response["output"][0]["content"][0]["text"], r#"{"n":1}"#);
    let message = ask(
        "/v1/messages",
        json!({"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}],
               "output_config": {"format": {"type": "json_schema", "schema": schema}}}),
    )
    .await;
    assert_eq!(message["content"][0]["text"], r#"{"n":1}"#);
}

#[tokio::test]
async fn completions_answer_every_prompt_and_stream_text() {
    let answer =
        ask("/v1/completions", json!({"model": "m", "prompt": ["a", "b"], "n": 2, "max_tokens": 5, "echo": true}))
            .await;
    assert_eq!(answer["choices"].as_array().unwrap().len(), 4);
    assert_eq!(answer["choices"][3]["text"], "bHello from Forge's b");
    assert_eq!(answer["usage"]["completion_tokens"], 20);
    let chunks = events("/v1/completions", json!({"model": "m", "prompt": [1, 2, 3], "stream": true})).await;
    assert!(chunks[..chunks.len() - 1].iter().all(|(_, chunk)| chunk["choices"][0]["text"].is_string()));
    assert_eq!(chunks[chunks.len() - 2].1["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn embeddings_are_unit_vectors_in_both_encodings() {
    use base64::Engine;
    let body =
        |format: &str| json!({"model": "m", "input": ["one", "two"], "dimensions": 8, "encoding_format": format});
    let floats = ask("/v1/embeddings", body("float")).await;
    let vector: Vec<f32> = serde_json::from_value(floats["data"][1]["embedding"].clone()).unwrap();
    assert_eq!(vector.len(), 8);
    assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    assert_ne!(floats["data"][0]["embedding"], floats["data"][1]["embedding"]);
    let coded = ask("/v1/embeddings", body("base64")).await;
    let bytes = base64::engine::general_purpose::STANDARD.decode(coded["data"][1]["embedding"].as_str().unwrap());
    assert_eq!(bytes.unwrap(), vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    assert_eq!(coded["usage"], json!({"prompt_tokens": 2, "total_tokens": 2}));
}

#[tokio::test]
async fn moderations_score_every_category_of_every_input() {
    let answer = ask("/v1/moderations", json!({"input": ["a sunny day", "I will kill you"]})).await;
    assert_eq!(answer["results"][0]["flagged"], false);
    assert_eq!(answer["results"][1]["categories"]["violence"], true);
    assert_eq!(answer["results"][1]["category_scores"].as_object().unwrap().len(), 13);
}

#[tokio::test]
async fn rerank_puts_the_best_first() {
    let documents = ["The Padma river flows", "Langra mangoes ripen", "best mango variety in Bangladesh"];
    let answer = ask(
        "/v1/rerank",
        json!({"model": "m", "query": "best mango variety in Bangladesh", "documents": documents, "top_n": 2,
               "return_documents": true}),
    )
    .await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!((&results[0]["index"], &results[0]["relevance_score"]), (&json!(2), &json!(1.0)));
    assert_eq!(results[1]["document"]["text"], "Langra mangoes ripen");
}

#[tokio::test]
async fn speech_is_a_file_of_the_format_asked_for() {
    let marks: [(&str, &str, &[u8]); 6] = [
        ("mp3", "audio/mpeg", b"\xff\xfb"),
        ("opus", "audio/ogg", b"OggS"),
        ("aac", "audio/aac", b"\xff\xf1"),
        ("flac", "audio/flac", b"fLaC"),
        ("wav", "audio/wav", b"RIFF"),
        ("pcm", "audio/pcm", b"\0\0"),
    ];
    for (format, media_type, mark) in marks {
        let body = json!({"model": "m", "input": "Hello", "voice": "alloy", "response_format": format});
        let response = post("/v1/audio/speech", body).await;
        assert_eq!(response.headers()[CONTENT_TYPE], media_type);
        assert!(response.bytes().await.unwrap().starts_with(mark), "{format}");
    }
}

fn audio_form() -> Form {
    let file = Part::bytes(vec![7; 40_000]).file_name("speech.mp3");
    Form::new().part("file", file).text("model", "whisper-1")
}

#[tokio::test]
async fn transcriptions_state_the_size_in_every_format() {
    for format in ["json", "text", "srt", "vtt", "verbose_json", "diarized_json"] {
        let response = upload("/v1/audio/transcriptions", audio_form().text("response_format", format)).await;
        let text = response.text().await.unwrap();
        assert!(text.contains("40000 bytes"), "{text}");
        assert_eq!(text.starts_with('{'), format.contains("json"));
        assert_eq!(text.contains("00:00:02,500"), format == "srt");
    }
    let streamed = upload("/v1/audio/transcriptions", audio_form().text("stream", "true")).await.text().await.unwrap();
    assert!(streamed.contains("transcript.text.delta") && streamed.contains("transcript.text.done"));
    assert_eq!(upload("/v1/audio/translations", Form::new().text("model", "m")).await.status(), 400);
    assert_eq!(upload("/v1/audio/translations", audio_form()).await.status(), 200);
}

/// Width and height of a PNG file in base64.
fn png_size(image: &str) -> (u32, u32) {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(image).unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.ends_with(b"IEND\xae\x42\x60\x82"));
    let side = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (side(16), side(20))
}

#[tokio::test]
async fn images_have_the_number_and_size_asked_for() {
    let body = json!({"model": "dall-e-2", "prompt": "Dhaka", "n": 2, "size": "256x128"});
    let answer = ask("/v1/images/generations", body).await;
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    let url = answer["data"][1]["url"].as_str().unwrap();
    assert_eq!(png_size(url.strip_prefix("data:image/png;base64,").unwrap()), (256, 128));
    assert_ne!(answer["data"][0], answer["data"][1]);
    let default = ask("/v1/images/generations", json!({"prompt": "Dhaka"})).await;
    assert_eq!(png_size(default["data"][0]["b64_json"].as_str().unwrap()), (1024, 1024));
}

#[tokio::test]
async fn images_are_edited_and_varied_from_forms() {
    let form = || Form::new().part("image[]", Part::bytes(vec![1; 99]).file_name("a.png")).text("n", "2");
    let edited = upload("/v1/images/edits", form().text("prompt", "a rickshaw")).await;
    assert_eq!(edited.json::<Value>().await.unwrap()["data"].as_array().unwrap().len(), 2);
    assert_eq!(upload("/v1/images/edits", form()).await.status(), 400);
    assert_eq!(upload("/v1/images/variations", form()).await.status(), 200);
    let json = json!({"prompt": "a rickshaw", "images": [{"file_id": "file-1"}], "stream": true, "partial_images": 1,
                      "size": "64x64"});
    let names: Vec<String> = events("/v1/images/edits", json).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["image_edit.partial_image", "image_edit.completed"]);
}

#[tokio::test]
async fn messages_answer_and_count_alike() {
    let body = json!({"model": "claude-x", "max_tokens": 1024, "system": "Be brief.",
                      "messages": [{"role": "user", "content": [{"type": "text", "text": "Salam"}]}]});
    let answer = ask("/v1/messages", body.clone()).await;
    assert_eq!(answer["stop_reason"], "end_turn");
    assert!(answer["content"][0]["text"].as_str().unwrap().contains("Salam"));
    let count = ask("/v1/messages/count_tokens", body).await;
    assert_eq!(count["input_tokens"], answer["usage"]["input_tokens"]);
}

#[tokio::test]
async fn messages_stream_every_event_in_order() {
    let body = json!({"model": "claude-x", "max_tokens": 20, "stream": true,
                      "messages": [{"role": "user", "content": "Salam"}]});
    let events = events("/v1/messages", body).await;
    let mut names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let order = [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, order);
    assert!(events.iter().all(|(name, data)| data["type"] == name.as_str()));
    let delta = &events[events.len() - 2].1;
    assert_eq!((&delta["delta"]["stop_reason"], &delta["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(20)));
}

#[tokio::test]
async fn messages_call_tools_in_parallel_unless_told_not_to() {
    let mut other = weather_tool();
    other["name"] = "get_stock".into();
    let mut body = json!({"model": "m", "max_tokens": 99, "tools": [weather_tool(), other],
                          "messages": [{"role": "user", "content": "weather and stock"}]});
    let both = ask("/v1/messages", body.clone()).await;
    assert_eq!(both["stop_reason"], "tool_use");
    assert_eq!(both["content"][1]["name"], "get_stock");
    assert_eq!(both["content"][1]["input"], json!({"city": "demo city"}));
    body["tool_choice"] = json!({"type": "any", "disable_parallel_tool_use": true});
    assert_eq!(ask("/v1/messages", body).await["content"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn responses_stream_numbered_events_to_the_same_end() {
    let body = json!({"model": "gpt-x", "input": [{"role": "user", "content": "Salam"}], "stream": true});
    let events = events("/v1/responses", body).await;
    let mut names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    for (number, (name, data)) in events.iter().enumerate() {
        assert_eq!((&data["sequence_number"], &data["type"]), (&json!(number), &json!(name)));
    }
    let text: String = events.iter().filter_map(|(_, data)| data["delta"].as_str()).collect();
    assert!(text.contains("Salam"));
    assert_eq!(events[events.len() - 1].1["response"]["output"][0]["content"][0]["text"], text);
}

#[tokio::test]
async fn responses_are_cut_and_call_functions() {
    let cut = ask("/v1/responses", json!({"model": "m", "input": "hi", "max_output_tokens": 4})).await;
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    let mut tool = weather_tool();
    tool["type"] = "function".into();
    let called =
        ask("/v1/responses", json!({"model": "m", "input": "hi", "tools": [tool], "tool_choice": "required"})).await;
    assert_eq!(called["output"][0]["type"], "function_call");
    assert_eq!(called["output"][0]["arguments"], r#"{"city":"demo city"}"#);
}

#[tokio::test]
async fn refusals_have_the_shape_of_the_dialect() {
    for (path, body, param) in [
        ("/v1/chat/completions", json!({"model": "m"}), "messages"),
        ("/v1/chat/completions", json!({"messages": []}), "model"),
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": [{"role": "user", "content": 1}]}),
            "messages[0].content",
        ),
        ("/v1/chat/completions", json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "n": "2"}), "n"),
        ("/v1/embeddings", json!({"model": "m"}), "input"),
        ("/v1/responses", json!({"model": "m"}), "input"),
        ("/v1/audio/speech", json!({"model": "m", "input": "x"}), "voice"),
        ("/v1/rerank", json!({"model": "m", "query": "x"}), "documents"),
    ] {
        let response = post(path, body).await;
        assert_eq!(response.status(), 400, "{path}");
        assert!(response.headers().contains_key("x-request-id"));
        let error = response.json::<Value>().await.unwrap();
        assert_eq!(error["error"]["param"], param, "{path}");
        assert_eq!(error["error"]["type"], "invalid_request_error");
    }
    let response = post("/v1/messages", json!({"model": "m", "messages": [{"role": "user", "content": "x"}]})).await;
    assert_eq!(response.status(), 400);
    let id = response.headers()["request-id"].to_str().unwrap().to_owned();
    let message = json!({"type": "invalid_request_error", "message": "max_tokens: Field required"});
    let expected = json!({"type": "error", "request_id": id, "error": message});
    assert_eq!(response.json::<Value>().await.unwrap(), expected);
    assert_eq!(post("/v1/nothing", json!({})).await.status(), 404);
    assert_eq!(post("/v1/models", json!({})).await.status(), 405);
}

#[tokio::test]
async fn models_are_listed_in_both_shapes() {
    let base = start().await;
    let openai: Value = reqwest::get(format!("{base}/v1/models")).await.unwrap().json().await.unwrap();
    assert_eq!(openai["data"][0]["object"], "model");
    let get = client().get(format!("{base}/v1/models/forge-demo")).header("anthropic-version", "2023-06-01");
    let anthropic: Value = get.send().await.unwrap().json().await.unwrap();
    assert_eq!(anthropic["type"], "model");
    assert_eq!(reqwest::get(format!("{base}/v1/models/other")).await.unwrap().status(), 404);
}

#[tokio::test]
async fn realtime_wants_an_upgrade() {
    let response = reqwest::get(format!("{}/v1/realtime?model=m", start().await)).await.unwrap();
    assert_eq!(response.status(), 426);
}

#[tokio::test]
async fn realtime_talks_in_events() {
    use futures::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let url = start().await.replace("http", "ws") + "/v1/realtime?model=gpt-realtime";
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let content = json!([{"type": "input_text", "text": "Salam"}]);
    for event in [
        json!({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}),
        json!({"type": "nonsense", "event_id": "mine"}),
        json!({"type": "response.create"}),
    ] {
        socket.send(Message::text(event.to_string())).await.unwrap();
    }
    let mut events: Vec<Value> = Vec::new();
    while events.last().is_none_or(|event| event["type"] != "response.done") {
        let message = socket.next().await.unwrap().unwrap();
        events.push(serde_json::from_str(message.to_text().unwrap()).unwrap());
    }
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    assert_eq!(events[0]["session"]["model"], "gpt-realtime");
    assert_eq!(of("error")[0]["error"]["event_id"], "mine");
    let text: String = of("response.output_text.delta").iter().filter_map(|event| event["delta"].as_str()).collect();
    assert!(text.contains("Salam"));
    assert_eq!(of("response.done")[0]["response"]["output"][0]["content"][0]["text"], text);
}
