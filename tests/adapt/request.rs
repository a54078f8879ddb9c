//! Heads of requests to providers.

use forge::adapt::request::{Framing, Outgoing, Upgrade, head};
use forge::config::{Auth, Flavor, Provider};
use forge::endpoint::Endpoint;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use proptest::prelude::*;

use crate::{data, parse_head, provider, show_head};

const CLIENT_KEY: &str = "sk-forge-client-secret";
static REQUEST_ID: HeaderValue = HeaderValue::from_static("req_ours");

/// A POST with 42 bytes of body.
fn outgoing<'a>(provider: &'a Provider, endpoint: Endpoint, headers: &'a HeaderMap) -> Outgoing<'a> {
    Outgoing {
        endpoint,
        query: None,
        headers,
        provider,
        origin: &provider.origins[0],
        key: provider.keys.first(),
        model: "llama",
        request_id: &REQUEST_ID,
        framing: Framing::Length(42),
        upgrade: Upgrade::None,
        version: Version::HTTP_11,
    }
}

/// What a provider gets of the request in the file `name`.in.
fn upstream_head(name: &str, provider: &Provider, model: &str) -> String {
    let (first, fields) = parse_head(&data(&format!("request/{name}.in")));
    let target = first.split(' ').nth(1).unwrap().to_owned();
    let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
    let headers: HeaderMap = {
        let mut map = HeaderMap::new();
        fields.into_iter().for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    };
    let upgrade = if headers.contains_key("upgrade") { Upgrade::WebSocket } else { Upgrade::None };
    let framing = if upgrade == Upgrade::WebSocket { Framing::None } else { Framing::Length(42) };
    let endpoint = Endpoint::by_path(path).unwrap();
    let head = head(&Outgoing { query, model, framing, upgrade, ..outgoing(provider, endpoint, &headers) }).unwrap();
    show_head(&format!("{} {}", head.method, String::from_utf8_lossy(head.raw_path())), &head.headers)
}

fn azure() -> Provider {
    let mut provider =
        Provider { flavor: Flavor::AzureDeployments, api_version: Some("2024-10-21".into()), ..provider(Auth::ApiKey) };
    provider.origins[0].base_path = String::new();
    provider
}

#[test]
fn heads_of_real_clients() {
    let cases = [
        ("claude_code", provider(Auth::XApiKey), "llama"),
        ("codex", provider(Auth::Bearer), "llama"),
        ("openai_python", azure(), "llama/3.3 &হ"),
        ("realtime_browser", provider(Auth::Bearer), "gpt-realtime+1"),
    ];
    for (name, provider, model) in cases {
        let expected = String::from_utf8(data(&format!("request/{name}.out"))).unwrap();
        assert_eq!(upstream_head(name, &provider, model), expected, "{name}");
    }
}

/// Path and query for an endpoint of a provider.
fn target(provider: &Provider, endpoint: Endpoint, query: Option<&str>) -> String {
    let headers = HeaderMap::new();
    let head = head(&Outgoing { query, ..outgoing(provider, endpoint, &headers) }).unwrap();
    String::from_utf8(head.raw_path().to_vec()).unwrap()
}

#[test]
fn targets() {
    let plain = provider(Auth::Bearer);
    let azure = azure();
    let azure_v1 = {
        let mut provider = provider(Auth::ApiKey);
        provider.origins[0].base_path = "/openai/v1".into();
        provider
    };
    let cohere = {
        let mut provider = provider(Auth::Bearer);
        provider.paths.insert(Endpoint::Rerank, "/v2/rerank".into());
        provider
    };
    let cases: &[(&Provider, Endpoint, Option<&str>, &str)] = &[
        (&plain, Endpoint::ChatCompletions, None, "/v1/chat/completions"),
        (&plain, Endpoint::ChatCompletions, Some(""), "/v1/chat/completions"),
        (&plain, Endpoint::Messages, Some("beta=true"), "/v1/messages?beta=true"),
        (&plain, Endpoint::Messages, Some("&a=1&&b=%20&"), "/v1/messages?a=1&b=%20"),
        (&plain, Endpoint::Messages, Some("key=x&beta=true&API_KEY=y&access%5ftoken=z"), "/v1/messages?beta=true"),
        (&plain, Endpoint::Messages, Some("model=other&api_base=http://x&beta=1"), "/v1/messages?beta=1"),
        (&plain, Endpoint::Realtime, Some("model=mine&model=x&a=1"), "/v1/realtime?a=1&model=llama"),
        (&cohere, Endpoint::Rerank, None, "/v2/rerank"),
        (&cohere, Endpoint::Embeddings, None, "/v1/embeddings"),
        (&azure_v1, Endpoint::Responses, None, "/openai/v1/responses"),
        (&azure, Endpoint::Embeddings, None, "/openai/deployments/llama/embeddings?api-version=2024-10-21"),
        (&azure, Endpoint::Completions, None, "/openai/deployments/llama/completions?api-version=2024-10-21"),
        (&azure, Endpoint::AudioSpeech, None, "/openai/deployments/llama/audio/speech?api-version=2024-10-21"),
        (
            &azure,
            Endpoint::ImagesEdits,
            Some("api-version=1&a=b"),
            "/openai/deployments/llama/images/edits?a=b&api-version=2024-10-21",
        ),
        (&azure, Endpoint::Responses, None, "/openai/responses?api-version=2024-10-21"),
        (&azure, Endpoint::Realtime, Some("model=mine"), "/openai/realtime?deployment=llama&api-version=2024-10-21"),
    ];
    for (provider, endpoint, query, expected) in cases {
        assert_eq!(target(provider, *endpoint, *query), *expected);
    }
}

#[test]
fn framing_is_said_once() {
    let provider = provider(Auth::None);
    let mut headers = HeaderMap::new();
    headers.insert("content-length", HeaderValue::from_static("7"));
    headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
    let cases = [
        (Framing::Length(0), Version::HTTP_11, Some("0"), None),
        (Framing::Length(42), Version::HTTP_2, Some("42"), None),
        (Framing::Chunked, Version::HTTP_11, None, Some("chunked")),
        (Framing::Chunked, Version::HTTP_2, None, None),
        (Framing::None, Version::HTTP_11, None, None),
    ];
    for (framing, version, length, coding) in cases {
        let outgoing = Outgoing { framing, version, ..outgoing(&provider, Endpoint::Embeddings, &headers) };
        let head = head(&outgoing).unwrap();
        let values = |name: &str| head.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(values("content-length"), Vec::from_iter(length));
        assert_eq!(values("transfer-encoding"), Vec::from_iter(coding));
        assert_eq!(head.version, version);
    }
}

#[test]
fn nothing_stands_in_for_what_forge_says() {
    let mut provider = provider(Auth::Bearer);
    for (name, value) in [("host", "evil"), ("content-length", "1"), ("x-team", "forge"), ("user-agent", "ours")] {
        provider.headers.push((HeaderName::from_static(name), HeaderValue::from_static(value)));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "gateway.example"),
        ("connection", "X-Named, Accept"),
        ("x-named", "1"),
        ("accept", "*/*"),
        ("x-team", "client"),
        ("user-agent", "theirs"),
        ("content-type", "application/json"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("openai-organization", "org-client"),
        ("x-api-base", "http://169.254.169.254"),
        ("x-portkey-custom-host", "http://evil"),
        ("authorization", "Bearer sk-forge-client-secret"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let head = head(&outgoing(&provider, Endpoint::ChatCompletions, &headers)).unwrap();
    let expected = "\nauthorization: Bearer provider-secret\ncontent-length: 42\ncontent-type: application/json\n\
                    host: upstream.example\nuser-agent: ours\nx-request-id: req_ours\nx-team: forge\n";
    assert_eq!(show_head("", &head.headers), expected);
}

#[test]
fn no_credential_of_a_client_survives_in_any_spelling() {
    let names = [
        "authorization",
        "Authorization",
        "AUTHORIZATION",
        "proxy-authorization",
        "x-authorization",
        "authorization_",
        "x-api-key",
        "X_API_KEY",
        "api-key",
        "Api-Key",
        "api_key",
        "apikey",
        "x-apikey",
        "x-goog-api-key",
        "openai-api-key",
        "anthropic-api-key",
        "x-auth-token",
        "x-auth-key",
        "x-access-token",
        "x-amz-security-token",
        "x-litellm-api-key",
        "x-portkey-api-key",
        "helicone-auth",
        "cf-aig-authorization",
        "ocp-apim-subscription-key",
        "x-functions-key",
        "x-virtual-key",
        "x-bf-vk-key",
        "cookie",
        "cookie2",
        "set-cookie",
        "x-jwt-assertion",
        "x-ms-client-principal",
        "x-csrf-token",
        "x-client-secret",
        "x-password",
        "sec-websocket-protocol",
        "cf-access-jwt-assertion",
        "cf-access-client-secret",
    ];
    let provider = provider(Auth::XApiKey);
    for name in names {
        for value in ["harmless-looking", CLIENT_KEY, "Bearer sk-forge-client-secret"] {
            let mut headers = HeaderMap::new();
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            for endpoint in Endpoint::proxied() {
                let head = head(&outgoing(&provider, endpoint, &headers)).unwrap();
                let shown = show_head("", &head.headers);
                assert!(!shown.contains(value), "{name}: {shown}");
                assert_eq!(head.headers["x-api-key"], "provider-secret");
            }
        }
    }
}

proptest! {
    /// Whatever a header or parameter is called, it does not carry the client's key to the provider.
    #[test]
    fn the_clients_key_stays_here(name in "[a-z][a-z0-9_-]{0,24}", before in "[ -~]{0,8}", after in "[ -~]{0,8}") {
        let provider = provider(Auth::Bearer);
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer sk-forge-client-secret"));
        let name: HeaderName = name.parse().unwrap();
        let key = HeaderValue::from_str(&format!("{before}{CLIENT_KEY}{after}")).unwrap();
        headers.append(&name, key);
        let query = format!("beta=true&{name}={CLIENT_KEY}");
        for upgrade in [Upgrade::None, Upgrade::WebSocket] {
            let call = outgoing(&provider, Endpoint::ChatCompletions, &headers);
            let head = head(&Outgoing { upgrade, query: Some(&query), ..call }).unwrap();
            let shown = show_head(&String::from_utf8_lossy(head.raw_path()), &head.headers);
            prop_assert!(!shown.contains(CLIENT_KEY), "{}", shown);
            prop_assert_eq!(&head.headers["host"], "upstream.example");
            prop_assert_eq!(head.headers.get_all("content-length").iter().count(), 1);
            prop_assert_eq!(&head.headers["authorization"], "Bearer provider-secret");
        }
    }
}
