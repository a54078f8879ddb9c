//! Heads of answers to clients.

use forge::adapt::response::{Body, head};
use http::HeaderValue;
use pingora::http::ResponseHeader;

use crate::{data, parse_head, show_head};

/// What a client gets of the head in this file.
fn client_head(bytes: &[u8], body: Body) -> (String, ResponseHeader) {
    let (first, fields) = parse_head(bytes);
    let (status, reason) = first.split_once(' ').unwrap_or((&first, ""));
    let mut response = ResponseHeader::build(status.parse::<u16>().unwrap(), None).unwrap();
    if !reason.is_empty() {
        response.set_reason_phrase(Some(reason)).unwrap();
    }
    for (name, value) in fields {
        response.append_header(name, value).unwrap();
    }
    head(&mut response, &HeaderValue::from_static("req_ours"), body);
    (show_head(&response.status.as_u16().to_string(), &response.headers), response)
}

#[test]
fn heads_of_real_providers() {
    for name in ["openai", "anthropic", "websocket", "limited"] {
        let expected = String::from_utf8(data(&format!("response/{name}.out"))).unwrap();
        let (shown, _) = client_head(&data(&format!("response/{name}.in")), Body::AsSent);
        assert_eq!(shown, expected, "{name}");
    }
}

#[test]
fn a_rewritten_body_has_no_length_beforehand() {
    let (_, response) = client_head(b"200\nContent-Length: 5\nContent-Type: application/json", Body::Rewritten);
    assert!(!response.headers.contains_key("content-length"));
    assert!(!response.headers.contains_key("transfer-encoding"), "framing is the engine's");
}

#[test]
fn the_reason_is_not_the_providers() {
    let (_, response) = client_head(b"200 Provider Says Hi", Body::AsSent);
    assert_eq!(response.get_reason_phrase(), Some("OK"));
}

#[test]
fn websocket_fields_pass_with_101_only() {
    let (shown, _) = client_head(b"200\nUpgrade: h2c\nConnection: Upgrade\nSec-WebSocket-Accept: x", Body::AsSent);
    assert_eq!(shown, "200\nrequest-id: req_ours\nx-request-id: req_ours\n");
}

#[test]
fn nothing_a_provider_reveals_itself_with_survives() {
    let names = [
        "set-cookie",
        "server",
        "via",
        "alt-svc",
        "strict-transport-security",
        "nel",
        "report-to",
        "location",
        "refresh",
        "link",
        "openai-organization",
        "openai-project",
        "anthropic-organization-id",
        "cf-ray",
        "cf-cache-status",
        "x-envoy-upstream-service-time",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-requests",
        "anthropic-ratelimit-tokens-reset",
        "x-powered-by",
        "x-served-by",
        "x-ms-region",
        "apim-request-id",
        "azureml-model-session",
        "x-ms-deployment-name",
        "x-groq-region",
        "x-ds-trace-id",
        "x-kong-proxy-latency",
        "x-amzn-requestid",
        "x-goog-request-id",
        "fireworks-server-processing-time",
        "x-together-traceid",
        "mistral-correlation-id",
        "x-debug-trace-id",
        "x-api-key",
        "authorization",
        "www-authenticate",
        "proxy-authenticate",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "content-security-policy",
        "x-anything-new",
        "retry-after",
    ];
    let fields: String = names.iter().map(|name| format!("\n{name}: revealing")).collect();
    let (shown, _) = client_head(format!("200{fields}").as_bytes(), Body::AsSent);
    assert_eq!(shown, "200\nrequest-id: req_ours\nx-request-id: req_ours\n");
}
