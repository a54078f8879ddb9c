//! What recording usage costs the data plane, for each answer and for each event of a stream.
//!
//! `cargo bench --bench usage` prints a table. The best of the rounds counts, since all that can disturb a round makes
//! it longer. The journal is written to the folder for temporary files: to its page cache, as it is in service.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]
#![allow(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forge::adapt::usage::Reader;
use forge::adapt::usage::said::Said;
use forge::adapt::usage::sent::Sent;
use forge::adapt::usage::strip::Strip;
use forge::endpoint::Endpoint::ChatCompletions;
use forge::usage::{Attempt, Entry, Journal, Units};

const ROUNDS: usize = 200;
const TIMES: u32 = 200;

const USAGE: &str = r#""usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;

fn main() {
    println!("{:<52}{:>10}", "", "ns each");
    let text = "All human beings are born free and equal in dignity and rights. ".repeat(16);
    let request = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}],"stream":true}}"#);
    row("a request of 1 KiB, counted", || {
        let mut sent = Sent::new(ChatCompletions);
        sent.feed(request.as_bytes());
        sent.tokens()
    });
    let answer = Bytes::from(format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],{USAGE}}}"#
    ));
    row("a plain answer of 1 KiB, read", || {
        let (mut reader, mut said) = (Reader::json(ChatCompletions), Said::in_body(ChatCompletions));
        reader.feed(&answer);
        said.feed(&answer);
        reader.reported().map_or(0, |usage| usage.output_tokens)
    });
    for (name, null) in [("an event of a stream", ""), ("an event with \"usage\":null", r#","usage":null"#)] {
        let event = Bytes::from(format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word\"}},\"finish_reason\":null}}]{null}}}\n\n"
        ));
        let (mut reader, mut said) = (Reader::sse(ChatCompletions), Said::in_events(ChatCompletions));
        let mut strip = Strip::default();
        row(name, || {
            reader.feed(&event);
            said.feed(&event);
            strip.feed(event.clone()).len() as u64
        });
    }
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(dir.path(), 1 << 40).expect("a journal");
    row("a record, appended to the journal", || {
        journal.append(&entry());
        0
    });
}

fn row(name: &str, mut run: impl FnMut() -> u64) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..TIMES {
            black_box(run());
        }
        best = best.min(begin.elapsed());
    }
    println!("{name:<52}{:>10}", best.as_nanos() / u128::from(TIMES));
}

fn entry() -> Entry<'static> {
    static UNITS: Units = Units::of([19, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0]);
    Entry {
        id: "019a0000000000000123456789ab",
        request_id: "req_0123456789abcdef01234567",
        at_unix_ms: 1_793_491_200_123,
        attempt: Attempt::Answer,
        status: 200,
        key: "key_0123456789abcdef01234567",
        tier: "pro",
        owner: Some("own_0123456789abcdef01234567"),
        team: None,
        organisation: Some("org_0123456789abcdef01234567"),
        model: "gpt-5",
        provider: "openai",
        upstream_model: "gpt-5",
        endpoint: "chat_completions",
        units: &UNITS,
        estimated: false,
        price_version: "2026-11-01/0123456789ab",
        cost_microusd: 124,
    }
}
