//! How fast bodies are inspected, as a ratio to a plain copy of the same chunks into a fresh `Vec`.
//!
//! `cargo bench --bench scanner` prints a table. Each body is 20 MB with `model` last, and comes in
//! chunks of 64 KiB, the largest a read of the engine yields. Scan and copy alternate; the best of
//! the rounds counts, since all that can disturb a round makes it longer.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]
#![allow(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use forge::proxy::inspect::{FileParts, Inspector};

const BODY_BYTES: usize = 20_000_000;
const CHUNK_BYTES: usize = 64 << 10;
const ROUNDS: usize = 25;

fn main() {
    println!("{:<34}{:>12}{:>12}{:>16}", "20 MB body, model last", "scan MB/s", "copy MB/s", "scan : copy");
    for (name, body) in bodies() {
        let (mut scan, mut copy) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            copy = copy.min(time(|| copied(&body).len()));
            scan = scan.min(time(|| scanned(&body)));
        }
        let rate = |time: Duration| body.len() as f64 / 1e6 / time.as_secs_f64();
        let ratio = scan.as_secs_f64() / copy.as_secs_f64();
        println!("{name:<34}{:>12.0}{:>12.0}{ratio:>15.2}x", rate(scan), rate(copy));
    }
}

fn time<T>(run: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    black_box(run());
    begin.elapsed()
}

fn copied(body: &[u8]) -> Vec<u8> {
    let mut copy = Vec::with_capacity(body.len());
    for chunk in body.chunks(CHUNK_BYTES) {
        copy.extend_from_slice(black_box(chunk));
    }
    copy
}

fn scanned(body: &[u8]) -> bool {
    let mut inspector = match body.starts_with(b"{") {
        true => Inspector::json(),
        false => Inspector::multipart("b", FileParts::One).expect("a boundary"),
    };
    for chunk in body.chunks(CHUNK_BYTES) {
        if inspector.feed(black_box(chunk)).is_err() {
            return false;
        }
    }
    assert!(inspector.finish().is_ok() && inspector.model().is_some_and(|model| model.name == "priyo-llama"));
    true
}

/// `unit` again and again inside `before` and `after`, up to the size.
fn body(before: &str, unit: &str, after: &str) -> Vec<u8> {
    let mut body = before.to_owned();
    while body.len() < BODY_BYTES {
        body.push_str(unit);
    }
    body.push_str(after);
    body.push_str(r#","model":"priyo-llama"}"#);
    body.into_bytes()
}

/// An upload whose `model` follows the file.
fn upload() -> Vec<u8> {
    let mut body = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n".to_vec();
    let mut state = 1u32;
    while body.len() < BODY_BYTES {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        body.extend_from_slice(&state.to_be_bytes());
    }
    body.extend_from_slice(
        b"\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\npriyo-llama\r\n--b--\r\n",
    );
    body
}

fn bodies() -> [(&'static str, Vec<u8>); 10] {
    let text = (r#"{"messages":[{"role":"user","content":""#, r#""}]"#);
    let list = (r#"{"input":["#, "0]");
    let message = r#"{"role":"user","content":"What is the capital of Bangladesh?","n":[1,2.5,null,true]},"#;
    let pretty = "\n    {\n      \"role\": \"user\",\n      \"content\": [\n        {\n          \"type\": \"text\",\n          \"text\": \"Hello there\"\n        }\n      ]\n    },";
    [
        ("base64, one string", body(text.0, "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ+/", text.1)),
        (
            "English, \\n every 80 bytes",
            body(
                text.0,
                &("All human beings are born free and equal in dignity and rights, all of them. ".to_owned() + r"\n"),
                text.1,
            ),
        ),
        ("code, an escape every 20 bytes", body(text.0, r#"let name = \"priyo\";\n\tprintln!(\"{name}\");\n"#, text.1)),
        ("Bangla in UTF-8", body(text.0, "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে। ", text.1)),
        (
            "Bangla in \\u escapes",
            body(text.0, r"\u09b8\u09ae\u09b8\u09cd\u09a4 \u09ae\u09be\u09a8\u09c1\u09b7 ", text.1),
        ),
        ("chat messages of 80 bytes", body(list.0, message, list.1)),
        ("pretty-printed", body(list.0, pretty, list.1)),
        ("token ids", body(list.0, "1024,77,50256,", list.1)),
        ("multipart, a file of noise", upload()),
        ("brackets", body(list.0, "[[]],{},", list.1)),
    ]
}
