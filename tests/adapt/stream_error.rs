//! The event that ends a broken stream, behind every way a stream can break.

use bytes::Bytes;
use forge::adapt::sse::{Piece, Splitter};
use forge::adapt::stream_error::{EVENT_BYTES_MAX, Ending, Tail};
use forge::endpoint::{Dialect, Endpoint};
use forge::error::ApiError;
use serde_json::Value;

use crate::data;

fn end(tail: &Tail, endpoint: Endpoint) -> String {
    String::from_utf8(end_bytes(tail, endpoint)).unwrap()
}

fn end_bytes(tail: &Tail, endpoint: Endpoint) -> Vec<u8> {
    let error = ApiError::upstream_error();
    tail.end(&Ending { endpoint, error: &error, request_id: "req_ours" }).to_vec()
}

fn tail(chunks: &[&[u8]]) -> Tail {
    let mut tail = Tail::default();
    chunks.iter().for_each(|chunk| tail.push(&Bytes::copy_from_slice(chunk)));
    tail
}

/// The error as an event of chat completions.
fn openai_event() -> String {
    format!("data: {}\n\n", ApiError::upstream_error().body(Dialect::OpenAi, ""))
}

#[test]
fn between_events() {
    for chunks in
        [&[][..], &[&b"data: {}\n\n"[..]], &[b"data: {}\n", b"\n"], &[b"data: {}\r\n\r", b"\n"], &[b"data: {}\r\r"]]
    {
        assert_eq!(end(&tail(chunks), Endpoint::ChatCompletions), openai_event());
    }
    let anthropic = end(&tail(&[]), Endpoint::Messages);
    let body = anthropic.strip_prefix("event: error\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["type"], &body["error"]["type"]), (&"error".into(), &"api_error".into()));
    let responses = end(&tail(&[b"data: {\"sequence_number\":41}\n\n"]), Endpoint::Responses);
    let body = responses.strip_prefix("event: error\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["type"], &body["sequence_number"]), (&"error".into(), &42.into()));
    assert_eq!((&body["code"], &body["error"]["code"]), (&"upstream_error".into(), &"upstream_error".into()));
}

#[test]
fn inside_an_event() {
    let cases: &[(&[u8], &str)] = &[
        (b"data: {\"a\":\"b", "\",\"error\":{"),
        (b"data: {\"a\":\"b\"}\n", "\ndata: {\"error\""),
        (b"data: {\"a\":\"b\"}", "\n\ndata: {\"error\""),
        (b"data: ", "\ndata: {\"error\""),
        (b"dat", "\ndata: {\"error\""),
        (b": comment", "\ndata: {\"error\""),
        (b"data: {]", "\n\ndata: {\"error\""),
    ];
    for (half, start) in cases {
        let end = end(&tail(&[b"data: {}\n\n", half]), Endpoint::ChatCompletions);
        assert!(end.starts_with(start) && end.ends_with("}\n\n"), "{}: {end}", String::from_utf8_lossy(half));
    }
    assert!(end(&tail(&[b"event: content_block"]), Endpoint::Messages).starts_with("\nevent: ping\n\nevent: error\n"));
    assert!(end(&tail(&[b"event: x\ndata: {}\n"]), Endpoint::Messages).starts_with("event: ping\n\nevent: error\n"));
}

#[test]
fn an_event_too_long_to_keep_is_ended() {
    let chunk = vec![b'x'; EVENT_BYTES_MAX / 2 + 1];
    let long = tail(&[b"data: {\"a\":\"", &chunk, &chunk, b"x"]);
    assert_eq!(end(&long, Endpoint::ChatCompletions), format!("\n\n{}", openai_event()));
    let over = tail(&[b"data: {\"a\":\"", &chunk, &chunk, b"x\"}\n\n"]);
    assert_eq!(end(&over, Endpoint::ChatCompletions), openai_event());
}

/// What a client makes of a stream, as the official SDKs read it: lines decoded as UTF-8, the last event name
/// counts, data of an event parsed as JSON, `ping` skipped unread; stops at the first error.
fn first_error(stream: &[u8], names_matter: bool) -> Result<Value, String> {
    let (mut splitter, mut rest) = (Splitter::default(), stream);
    let (mut data, mut line, mut name) = (Vec::new(), Vec::new(), String::new());
    while let Some(piece) = splitter.next(&mut rest) {
        match piece {
            Piece::Data(bytes) => {
                data.extend_from_slice(bytes);
                line.extend_from_slice(bytes);
            }
            Piece::Other(bytes) => line.extend_from_slice(bytes),
            Piece::LineEnd(_) => {
                let text = String::from_utf8(std::mem::take(&mut line)).map_err(|error| error.to_string())?;
                if let Some(value) = text.strip_prefix("event: ") {
                    name = value.to_owned();
                }
                if text.starts_with("data:") {
                    data.push(b'\n');
                }
            }
            Piece::EventEnd(_) => {
                let (data, name) = (std::mem::take(&mut data), std::mem::take(&mut name));
                if name == "ping" || (data.is_empty() && name.is_empty()) {
                    continue;
                }
                let value: Value = serde_json::from_slice(&data).map_err(|error| format!("{error}: {data:?}"))?;
                let is_error = if names_matter { name == "error" } else { !value["error"].is_null() };
                if is_error {
                    return Ok(value["error"].clone());
                }
            }
        }
    }
    Err("ended without an error".into())
}

#[test]
fn a_client_reads_the_error_wherever_the_stream_broke() {
    let cases = [
        ("echo/openai_chat.in.sse", Endpoint::ChatCompletions, false),
        ("echo/openai_responses.in.sse", Endpoint::Responses, false),
        ("echo/crlf_comments.in.sse", Endpoint::ChatCompletions, false),
        ("echo/anthropic_messages.in.sse", Endpoint::Messages, true),
    ];
    for (file, endpoint, names_matter) in cases {
        let stream = data(file);
        let whole = stream.windows(7).rposition(|window| window == b"data: [").unwrap_or(stream.len());
        for cut in 0..=whole {
            let mut bytes = stream[..cut].to_vec();
            bytes.extend(end_bytes(&tail(&[&stream[..cut]]), endpoint));
            let error = first_error(&bytes, names_matter);
            let message = error.map(|error| error["message"].as_str().unwrap_or_default().to_owned());
            assert_eq!(message.as_deref(), Ok("The upstream provider failed to answer. Please retry."), "{file} {cut}");
        }
    }
}
