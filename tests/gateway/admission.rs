//! Who is let in, judged by headers alone.

use std::time::Duration;

use crate::support::client::{Request, Sending};
use crate::support::client_h2::exchange_h2c;
use crate::support::gateway::{FREE_KEY, KEY, hash};
use crate::world::{CHAT, MESSAGES, World, chat};

/// Headers and query of a request, and whether they admit it.
struct Case {
    headers: Vec<(&'static str, String)>,
    query: String,
    admitted: bool,
}

fn case(headers: &[(&'static str, &str)], admitted: bool) -> Case {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Case { headers, query: String::new(), admitted }
}

fn cases() -> Vec<Case> {
    const AUTH: &str = "Authorization";
    let bearer = |key: &str| format!("Bearer {key}");
    let mine = bearer(KEY);
    let longer = format!("{KEY}x");
    let hashed = hash(KEY);
    let mut cases = vec![
        case(&[(AUTH, &mine)], true),
        case(&[("authorization", &format!("bearer {KEY}"))], true),
        case(&[("AUTHORIZATION", &format!("BEARER {KEY}"))], true),
        case(&[("x-api-key", KEY)], true),
        case(&[("X-Api-Key", KEY)], true),
        case(&[(AUTH, &mine), ("x-api-key", KEY)], true),
        case(&[], false),
        case(&[(AUTH, &mine), ("x-api-key", FREE_KEY)], false),
        case(&[(AUTH, &mine), ("x-api-key", "")], false),
        case(&[(AUTH, &mine), (AUTH, &mine)], false),
        case(&[(AUTH, &mine), (AUTH, &bearer(FREE_KEY))], false),
        case(&[("x-api-key", KEY), ("x-api-key", KEY)], false),
        case(&[("x-api-key", &format!("{KEY}, {KEY}"))], false),
        case(&[(AUTH, &format!("Basic {KEY}")), ("x-api-key", KEY)], false),
        case(&[(AUTH, &bearer(&longer))], false),
        case(&[(AUTH, &bearer(&KEY[..KEY.len() - 1]))], false),
        case(&[(AUTH, &bearer(&KEY.to_uppercase()))], false),
        case(&[(AUTH, &bearer(&hashed))], false),
        case(&[(AUTH, &bearer(&hashed["sha256:".len()..]))], false),
        case(&[("cookie", &format!("api_key={KEY}; authorization={KEY}"))], false),
        case(&[("api-key", KEY)], false),
        case(&[("proxy-authorization", &mine)], false),
    ];
    let malformed =
        ["", "Bearer", "Bearer ", KEY, &format!("Bearer{KEY}"), &format!("Bearer {KEY} x"), &format!("Bearer {KEY},")]
            .map(|value| case(&[(AUTH, value)], false));
    cases.extend(malformed);
    cases.extend(["Basic", "Token", "Digest", "Key"].map(|scheme| case(&[(AUTH, &format!("{scheme} {KEY}"))], false)));
    cases.extend(
        ["key", "api_key", "api-key", "access_token"]
            .map(|name| Case { query: format!("?{name}={KEY}"), ..case(&[], false) }),
    );
    cases
}

#[tokio::test]
async fn one_credential_in_one_of_two_headers_admits() {
    let world = World::start().await;
    for (index, case) in cases().into_iter().enumerate() {
        let mut request = Request::new("POST", &format!("{CHAT}{}", case.query))
            .header("content-type", "application/json")
            .body(chat("m"));
        for (name, value) in &case.headers {
            request = request.header(name, value);
        }
        let answers = [world.gateway.send(&request).await, exchange_h2c(world.gateway.addr, &request).await];
        for answer in answers {
            if case.admitted {
                assert_eq!(answer.status, 200, "case {index}: {:?} {}", case.headers, answer.text());
                continue;
            }
            assert_eq!(answer.status, 401, "case {index}: {:?}{} {}", case.headers, case.query, answer.text());
            assert_eq!(answer.code(), "invalid_api_key", "case {index}");
        }
        let expected = if case.admitted { 2 } else { 0 };
        assert_eq!(world.upstream.count(), expected, "case {index}: requests at the upstream");
        world.upstream.forget();
    }
}

#[tokio::test]
async fn a_refused_client_that_sends_a_megabyte_reads_its_answer() {
    let world = World::start().await;
    let body = vec![b' '; 1 << 20];
    for sending in [Sending::Length, Sending::Chunked(8192)] {
        for target in [CHAT, MESSAGES] {
            let request = Request::new("POST", target).bearer("sk-wrong").body(&body).sending(sending);
            let mut client = world.gateway.connect().await;
            let answer = client.send_then_read(&request).await.expect(401);
            if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                assert!(client.closed_within(Duration::from_secs(6)).await, "announced and did not close");
            } else {
                client.send_then_read(&Request::post(CHAT, chat("m"))).await.expect(200);
            }
        }
        let request = Request::new("POST", CHAT).bearer("sk-wrong").body(&body).sending(sending);
        exchange_h2c(world.gateway.addr, &request).await.expect(401);
    }
}

#[tokio::test]
async fn a_refusal_waits_for_no_body() {
    let world = World::start().await;
    let request = Request::new("POST", CHAT).bearer("sk-wrong").body(vec![b' '; 1 << 20]);
    let expecting = request.clone().header("expect", "100-continue");
    for request in [request, expecting] {
        let mut client = world.gateway.connect().await;
        client.send(&request.head_bytes()).await.unwrap();
        let first = client.read_head().await.unwrap();
        assert_eq!(first.status, 401, "not before the body, and no 100 before it");
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test]
async fn an_admitted_client_is_told_to_continue() {
    let world = World::start().await;
    let request = Request::post(CHAT, chat("m")).header("expect", "100-continue");
    let mut client = world.gateway.connect().await;
    client.send(&request.head_bytes()).await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 100);
    client.send(&request.body).await.unwrap();
    client.read().await.unwrap().expect(200);
    assert_eq!(world.upstream.only().header("expect"), None);
    client.exchange(&Request::post(CHAT, chat("m"))).await.expect(200);
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let world = World::start().await;
    let body = r#"{"model":"\u006d","messages":[{"role":"user","content":"\ud83d\ude00 é"}],"n":1.10}"#;
    let request = Request::post(CHAT, body);
    for request in [request.clone(), request.sending(Sending::Chunked(1))] {
        let mut client = world.gateway.connect().await;
        client.drip(&request.wire()).await.unwrap();
        client.read().await.unwrap().expect(200);
        assert_eq!(world.upstream.last().text(), body.replace(r"\u006d", "upstream-name"));
    }
}
