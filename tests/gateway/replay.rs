//! The replay matrix: whatever size and framing a body has and whatever became of the first attempt, the
//! provider that answers gets all of it, with the model spliced, and not a byte else.

use std::net::SocketAddr;

use crate::support::client::{Request, Response, Sending};
use crate::support::client_h2::exchange_h2c;
use crate::support::gateway::{Gateway, routes};
use crate::support::upstream::{Received, Refusing, Reply, Upstream};
use crate::world::{CHAT, ModelPlace, provider, sized_body};

const SIZES: [usize; 6] = [400, 60_000, 70_000, 1 << 20, 5 << 20, 21 << 20];

/// What becomes of the first attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Answers,
    Refuses,
    Says503,
    Says429BeforeTheBody,
    Resets,
}

const FIRSTS: [First; 5] = [First::Answers, First::Refuses, First::Says503, First::Says429BeforeTheBody, First::Resets];

/// How the client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Length,
    Chunked,
    H2c,
}

/// One cell of the matrix.
#[derive(Debug, Clone, Copy)]
struct Case {
    bytes: usize,
    client: Client,
    model: ModelPlace,
    first: First,
}

struct Matrix {
    first: Upstream,
    second: Upstream,
    gateway: Gateway,
    _refusing: Refusing,
}

impl Matrix {
    async fn start() -> Self {
        let (first, second, refusing) = (Upstream::start().await, Upstream::start().await, Refusing::new());
        let text = format!(
            "providers:\n{}{}{}models:\n  m: {{ to: first/one, else: second/two }}\n  \
             refused: {{ to: refusing/one, else: second/two }}\n",
            provider("first", "openai", first.port()),
            provider("second", "openai", second.port()),
            provider("refusing", "openai", refusing.addr.port()),
        );
        Self { gateway: Gateway::start(&routes(&text)).await, first, second, _refusing: refusing }
    }

    async fn run(&self, case: Case) {
        let first = case.first;
        let model = if first == First::Refuses { "refused" } else { "m" };
        let body = sized_body(case.bytes, model, case.model);
        self.first.otherwise(match first {
            First::Answers | First::Refuses => Reply::ok(),
            First::Says503 => Reply::error(503),
            First::Says429BeforeTheBody => Reply::error(429).before_body(),
            First::Resets => Reply::reset(),
        });
        let answer = send(self.gateway.addr, case.client, &Request::post(CHAT, &body)).await;
        assert_eq!(answer.status, 200, "{case:?}: {}", answer.text());
        assert!(answer.faults.is_empty(), "{case:?}: {:?}", answer.faults);
        let (upstream, name) = if first == First::Answers { (&self.first, "one") } else { (&self.second, "two") };
        let received = upstream.last();
        assert!(received.complete && received.faults.is_empty(), "{case:?}: {:?}", received.faults);
        let expected = body.replacen(&format!("\"model\":\"{model}\""), &format!("\"model\":\"{name}\""), 1);
        check(&received, &expected, &format!("{case:?}"));
        self.forget();
    }

    fn forget(&self) {
        self.first.forget();
        self.second.forget();
    }
}

/// Compares without printing megabytes.
fn check(received: &Received, expected: &str, case: &str) {
    assert_eq!(received.body.len(), expected.len(), "{case}: length at the upstream");
    let differs = received.body.iter().zip(expected.as_bytes()).position(|(a, b)| a != b);
    assert!(received.body == expected.as_bytes(), "{case}: first different byte at {differs:?}");
}

async fn send(addr: SocketAddr, client: Client, request: &Request) -> Response {
    match client {
        Client::Length => crate::support::client::Client::connect(addr).await.exchange(request).await,
        Client::Chunked => {
            let request = request.clone().sending(Sending::Chunked(60_000));
            crate::support::client::Client::connect(addr).await.exchange(&request).await
        }
        Client::H2c => exchange_h2c(addr, request).await,
    }
}

async fn run(client: Client) {
    let matrix = Matrix::start().await;
    for bytes in SIZES {
        for model in [ModelPlace::First, ModelPlace::Last] {
            for first in FIRSTS {
                matrix.run(Case { bytes, client, model, first }).await;
            }
        }
    }
}

#[tokio::test]
async fn bodies_with_a_length_arrive_whole() {
    run(Client::Length).await;
}

#[tokio::test]
async fn chunked_bodies_arrive_whole() {
    run(Client::Chunked).await;
}

#[tokio::test]
async fn bodies_over_h2c_arrive_whole() {
    run(Client::H2c).await;
}

#[tokio::test]
async fn a_body_over_the_replay_bound_is_sent_once_only() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let text = format!(
        "providers:\n{}{}models:\n  m: {{ to: first/one, else: second/two }}\n",
        provider("first", "openai", first.port()),
        provider("second", "openai", second.port()),
    );
    let setup = crate::support::gateway::Setup {
        routes: routes(&text),
        conf: "bounds: { replay_bytes_max: 200000 }\n".into(),
        ..Default::default()
    };
    let gateway = Gateway::start_with(setup).await;
    first.script([Reply::error(503), Reply::error(503)]);
    gateway.post(CHAT, sized_body(100_000, "m", ModelPlace::First)).await.expect(200);
    assert_eq!((first.count(), second.count()), (1, 1));
    let answer = gateway.post(CHAT, sized_body(1_000_000, "m", ModelPlace::First)).await.expect(500);
    assert_eq!(answer.code(), "upstream_error");
    assert_eq!((first.count(), second.count()), (2, 1), "not sent a second time");
}
