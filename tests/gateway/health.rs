//! What is kept out and when it comes back, what retries may add, and conversations that stay where they are.

use std::time::{Duration, Instant};

use crate::support::client::{Request, Sending};
use crate::support::gateway::{Gateway, PROVIDER_KEY, routes};
use crate::support::upstream::{Gate, Reply, Step, Upstream};
use crate::support::wire::Framing;
use crate::world::{CHAT, chat, provider};

async fn two(settings: &str) -> (Upstream, Upstream, Gateway) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let text = format!(
        "providers:\n{}{}models:\n  m: {{ to: first/x, else: second/y{settings} }}\n  one: first/x\n",
        provider("first", "openai", first.port()),
        provider("second", "openai", second.port()),
    );
    let gateway = Gateway::start(&routes(&text)).await;
    (first, second, gateway)
}

#[tokio::test]
async fn a_refused_key_is_left_out_for_every_model() {
    for status in [401, 402] {
        let upstream = Upstream::start().await;
        let keys = provider("up", "openai", upstream.port())
            .replace(&format!("\"plain:{PROVIDER_KEY}\""), "[\"plain:key-a\", \"plain:key-b\"]");
        let gateway = Gateway::start(&routes(&format!("providers:\n{keys}models:\n  m: up\n  other: up/z\n"))).await;
        upstream.script([Reply::error(status)]);
        for model in ["m", "other", "m", "other", "m", "other", "m", "other"] {
            gateway.post(CHAT, chat(model)).await.expect(200);
        }
        let received = upstream.received();
        let refused = received[0].header("authorization");
        assert_eq!(received.len(), 9);
        assert!(received[1..].iter().all(|received| received.header("authorization") != refused), "{status}");
        let reason = ["provider=\"up\"", "reason=\"credential_refused\""];
        assert_eq!(gateway.metric("forge_upstream_ejections_total", &reason).await, 1.0);
    }
}

/// A prompt can be refused so, too: one of these must not keep a key from everybody.
#[tokio::test]
async fn a_forbidden_answer_counts_like_a_failure_of_the_key() {
    let (first, second, gateway) = two("").await;
    first.script([Reply::error(403)]);
    for _ in 0..3 {
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
    assert_eq!((first.count(), second.count()), (3, 1), "one is no reason");
    first.otherwise(Reply::error(403));
    for _ in 0..8 {
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
    assert_eq!((first.count(), second.count()), (8, 9), "five in a row are");
    let reason = ["provider=\"first\"", "reason=\"credential_refused\""];
    assert_eq!(gateway.metric("forge_upstream_ejections_total", &reason).await, 1.0);
}

#[tokio::test]
async fn an_error_event_that_no_other_target_replaces_counts() {
    let (first, _second, gateway) = two("").await;
    let error = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    first.otherwise(Reply::sse([error]));
    let stream = r#"{"model":"one","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    for _ in 0..5 {
        let answer = gateway.post(CHAT, stream).await.expect(200);
        assert!(answer.text().contains("overloaded"), "{}", answer.text());
    }
    let outcome = ["provider=\"first\"", "outcome=\"invalid_response\""];
    assert_eq!(gateway.metric("forge_upstream_attempts_total", &outcome).await, 5.0);
    assert_eq!(gateway.metric("forge_upstream_lanes_out", &[]).await, 1.0);
}

#[tokio::test]
async fn rule_20_a_head_over_64_kib_is_a_failure_at_once() {
    let (first, second, gateway) = two("").await;
    let large = |bytes: usize| vec![("x-large".to_owned(), "y".repeat(bytes / 4)); 4];
    first.script([Reply::steps([
        Step::ReadBody,
        Step::Head(200, large(80 << 10), Framing::Length(2)),
        Step::Data("{}".into()),
        Step::End,
    ])]);
    let began = Instant::now();
    let answer = gateway.post(CHAT, chat("m")).await.expect(200);
    assert!(answer.header("x-large").is_none() && began.elapsed() < Duration::from_secs(1));
    assert_eq!((first.count(), second.count()), (1, 1));
    let mut reply = Reply::sse(["data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"]);
    if let Some(Step::Head(_, fields, _)) = reply.steps.iter_mut().find(|step| matches!(step, Step::Head(..))) {
        fields.extend(large(40 << 10));
    }
    first.script([reply]);
    gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!((first.count(), second.count()), (2, 1));
}

#[tokio::test]
async fn a_failing_target_is_left_alone_and_let_in_by_one_success() {
    let (first, second, gateway) = two("").await;
    first.otherwise(Reply::error(500));
    let began = Instant::now();
    for _ in 0..12 {
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "too slow to tell");
    assert_eq!((first.count(), second.count()), (5, 12), "five in a row");
    assert_eq!(gateway.metric("forge_upstream_lanes_out", &[]).await, 1.0);
    first.otherwise(Reply::ok());
    while first.count() == 5 {
        assert!(began.elapsed() < Duration::from_secs(10), "never tried again");
        gateway.post(CHAT, chat("m")).await.expect(200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(950), "tried after {:?}", began.elapsed());
    first.forget();
    for _ in 0..10 {
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
    assert_eq!(first.count(), 10, "in again");
    assert_eq!(gateway.metric("forge_upstream_lanes_out", &[]).await, 0.0);
}

#[tokio::test]
async fn a_model_whose_targets_are_all_out_is_served_all_the_same() {
    let (first, _second, gateway) = two("").await;
    first.otherwise(Reply::error(500));
    for asked in 1..=20 {
        gateway.post(CHAT, chat("one")).await.expect(500);
        assert_eq!(first.count(), asked, "nobody else could answer");
    }
    first.otherwise(Reply::ok());
    gateway.post(CHAT, chat("one")).await.expect(200);
    first.otherwise(Reply::error(401));
    for _ in 0..3 {
        assert_eq!(gateway.post(CHAT, chat("one")).await.expect(500).code(), "upstream_error");
    }
}

#[tokio::test]
async fn retries_end_with_their_budget() {
    const AT_ONCE: usize = 130;
    let (first, second, gateway) = two(", retry: { budget: 0% }").await;
    let gate = Gate::new();
    let failure = Step::Head(500, Vec::new(), Framing::Length(0));
    first.otherwise(Reply::steps([Step::ReadBody, Step::Wait(gate.clone()), failure, Step::End]));
    let requests = futures::future::join_all((0..AT_ONCE).map(|_| gateway.post(CHAT, chat("m"))));
    let release = async {
        crate::support::eventually("all at the first", || first.count() == AT_ONCE).await;
        gate.open(AT_ONCE);
    };
    let (answers, ()) = tokio::join!(requests, release);
    let refused = answers.iter().filter(|answer| answer.status == 500).count();
    assert_eq!(second.count(), AT_ONCE - refused);
    // A hundred are free at any time, and ten more each second that this takes.
    assert!((5..=AT_ONCE - 100).contains(&refused), "{refused} refused");
    assert_eq!(gateway.metric("forge_retries_refused_total", &[]).await, refused as f64);
}

/// A conversation with a long beginning, after so many turns.
fn conversation(number: usize, turns: usize) -> String {
    let system = format!("You are agent {number}. ").repeat(100);
    let turns: String = (0..turns).map(|turn| format!(r#",{{"role":"user","content":"turn {turn}"}}"#)).collect();
    format!(r#"{{"model":"m","messages":[{{"role":"system","content":"{system}"}}{turns}]}}"#)
}

#[tokio::test]
async fn a_conversation_stays_where_it_is() {
    let upstreams = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    let names = ["a", "b", "c"];
    let providers: String =
        names.iter().zip(&upstreams).map(|(name, up)| provider(name, "openai", up.port())).collect();
    let text = format!("providers:\n{providers}models:\n  m: {{ to: [a/x, b/x, c/x], pick: prefix }}\n");
    let gateway = Gateway::start(&routes(&text)).await;
    let used = |counts: [usize; 3]| counts.iter().filter(|count| **count > 0).count();
    let mut all = [0; 3];
    for number in 0..16 {
        upstreams.iter().for_each(Upstream::forget);
        for turns in 1..4 {
            gateway.post(CHAT, conversation(number, turns)).await.expect(200);
            let chunked = Request::post(CHAT, conversation(number, turns)).sending(Sending::Chunked(100));
            gateway.send(&chunked).await.expect(200);
        }
        let counts = [0, 1, 2].map(|index: usize| upstreams[index].count());
        assert_eq!(used(counts), 1, "conversation {number}: {counts:?}");
        (0..3).for_each(|index| all[index] += counts[index]);
    }
    assert_eq!(used(all), 3, "conversations are spread: {all:?}");
    for header in ["x-session-id", "session_id"] {
        upstreams.iter().for_each(Upstream::forget);
        for number in 0..6 {
            let request = Request::post(CHAT, conversation(number, 1)).header(header, "the same for all");
            gateway.send(&request).await.expect(200);
        }
        assert_eq!(used([0, 1, 2].map(|index: usize| upstreams[index].count())), 1, "{header}");
    }
}
