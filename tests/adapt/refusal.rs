//! What a client reads of a provider's refusal.

use bytes::Bytes;
use forge::adapt::refusal::{BODY_BYTES_MAX, MESSAGE_BYTES_MAX, Refused, Told, tell};
use forge::config::Auth;
use forge::endpoint::Dialect;

use crate::provider;

fn told(dialect: Dialect, body: &str) -> Told {
    let provider = provider(Auth::Bearer);
    tell(&Refused {
        status: 400,
        body: &Bytes::copy_from_slice(body.as_bytes()),
        dialect,
        request_id: "req_ours",
        provider: &provider,
    })
}

/// The body the client gets, which must be the provider's own.
fn passed(dialect: Dialect, body: &str) -> String {
    match told(dialect, body) {
        Told::Body(body) => String::from_utf8(body.to_vec()).unwrap(),
        Told::Error(error) => panic!("replaced by {error:?}: {body}"),
    }
}

/// The message of the error of our own that the client gets.
fn message(dialect: Dialect, body: &str) -> String {
    match told(dialect, body) {
        Told::Error(error) => {
            assert_eq!((error.status, error.code), (400, "upstream_refusal"));
            error.message.into_owned()
        }
        Told::Body(body) => panic!("passed: {body:?}"),
    }
}

#[test]
fn the_clients_own_shape_passes_byte_for_byte() {
    let openai = [
        r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        "{\n  \"error\": {\n    \"message\": \"No tool output found for call call_Abc12345678.\",\n    \"n\": 1.10,\n \"param\": null}}\n",
        r#"{"error":{"message":"sk-learn is org-wide, see pa-rt, AI মানে","type":"BadRequestError","code":400}}"#,
    ];
    for body in openai {
        assert_eq!(passed(Dialect::OpenAi, body), body);
    }
    let anthropic = r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"},"request_id":"req_011"}"#;
    // But for the request id, which is ours everywhere else.
    assert_eq!(passed(Dialect::Anthropic, anthropic), anthropic.replace("req_011", "req_ours"));
}

#[test]
fn what_is_not_the_clients_business_is_replaced_in_place() {
    let cases = [
        (
            r#"{"error":{"message":"See https://platform.upstream.example/docs. Thanks","code":"content_filter","n":12345678901234567890}}"#,
            r#"{"error":{"message":"See [removed]. Thanks","code":"content_filter","n":12345678901234567890}}"#,
        ),
        (
            r#"{"error":{"message":"upstream.example said \"no\" to provider-secret\n(http://10.0.0.7:8000/v1)"}}"#,
            r#"{"error":{"message":"[removed] said \"no\" to [removed]\n([removed])"}}"#,
        ),
        (
            r#"{"error":{"message":"key sk-proj-Ab12****************wxyz of org-AbCdEf123456, eyJhbGciOiJIUzI1NiJ9.e30.x1"}}"#,
            r#"{"error":{"message":"key [removed] of [removed], [removed]"}}"#,
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(passed(Dialect::OpenAi, body), expected);
    }
}

#[test]
fn escapes_hide_nothing() {
    for hidden in [
        r"https:\/\/upstream.example\/x",
        r"ht\u0074ps://a.example",
        r"\u0073k-proj-Ab12Cd34Ef56",
        r"upstream\u002eexample",
    ] {
        let body = format!(r#"{{"error":{{"message":"see {hidden} ok"}}}}"#);
        assert_eq!(message(Dialect::OpenAi, &body), "see [removed] ok", "{body}");
        let body = format!(r#"{{"error":{{"message":"fine","{hidden}":[{{"a":"{hidden}"}}]}}}}"#);
        assert_eq!(message(Dialect::OpenAi, &body), "fine", "{body}");
    }
}

#[test]
fn the_message_is_taken_from_other_shapes() {
    let cases = [
        r#"{"type":"error","error":{"message":"why"}}"#,
        r#"{"error":{"message":"why","type":"invalid_request_error"}}"#,
        r#"[{"error":{"code":400,"message":"why","status":"INVALID_ARGUMENT"}}]"#,
        r#"{"error":"why"}"#,
        r#"{"object":"error","message":"why","type":"BadRequestError","param":null,"code":400}"#,
        r#"{"message":"why"}"#,
        r#"{"object":"error","message":{"detail":[{"type":"missing","loc":["body"],"msg":"why"}]}}"#,
        r#"{"detail":"why"}"#,
        r#"{"detail":[{"type":"missing","loc":["body","input"],"msg":"why"}]}"#,
        r#"{"errors":[{"message":"why"}]}"#,
    ];
    for body in cases {
        assert_eq!(message(Dialect::Anthropic, body), "why", "{body}");
    }
    assert_eq!(message(Dialect::OpenAi, r#"{"detail":"ask http://ray-head:8000, please"}"#), "ask [removed], please");
}

#[test]
fn what_says_nothing_gets_our_own_text() {
    let deep = "[".repeat(200);
    let large = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(BODY_BYTES_MAX));
    for body in [
        "",
        "<html>nginx</html>",
        "null",
        "{}",
        "[]",
        r#"{"error":{}}"#,
        r#"{"message":""}"#,
        "\"text\"",
        &deep,
        &large,
    ] {
        assert_eq!(message(Dialect::OpenAi, body), "The upstream provider refused the request.", "{body:.60}");
    }
}

#[test]
fn messages_are_bounded_and_plain() {
    let body = serde_json::json!({"detail": format!("a\u{0}\u{1b}[31m{}", "হ".repeat(5000))}).to_string();
    let text = message(Dialect::OpenAi, &body);
    assert!(text.len() <= MESSAGE_BYTES_MAX && text.starts_with("a[31mহ"), "{text:.40}");
}
