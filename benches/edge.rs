//! What the edge's checks cost: nanoseconds per head, and bodies as a ratio to a plain copy.
//!
//! `cargo bench --bench edge` prints a table. The best of the rounds counts, since all that can disturb a round
//! makes it longer.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]
#![allow(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use forge::edge::chunked::Chunked;
use forge::edge::head::{HeadLimits, Scan};

const ROUNDS: usize = 50;
const HEADS: u32 = 10_000;
const BODY_BYTES: usize = 16 << 20;
/// The largest a read of the engine yields.
const READ_BYTES: usize = 64 << 10;

fn main() {
    let limits = HeadLimits::default();
    for fields in [3, 12, 40] {
        let head = head(fields);
        let scan = || Scan::default().advance(black_box(&head), &limits).expect("a sound head").is_some();
        let best = best(|| (0..HEADS).all(|_| scan()));
        let each = best.as_secs_f64() * 1e9 / f64::from(HEADS);
        println!("head, {:>2} fields, {:>4} bytes {each:>24.0} ns", fields + 4, head.len());
    }
    for chunk_bytes in [256, 4 << 10, 64 << 10] {
        let body = chunked(chunk_bytes);
        let mut space = Vec::with_capacity(READ_BYTES);
        let copy = best(|| {
            body.chunks(READ_BYTES).for_each(|read| {
                space.clear();
                space.extend_from_slice(black_box(read));
            });
        });
        let scan = best(|| {
            let mut chunked = Chunked::default();
            body.chunks(READ_BYTES).for_each(|read| assert_eq!(chunked.advance(black_box(read)), read.len()));
            assert!(chunked.done());
        });
        let ratio = scan.as_secs_f64() / copy.as_secs_f64();
        println!("body in chunks of {chunk_bytes:>6} bytes, scan : copy {ratio:>9.2}x");
    }
}

fn best<T>(mut run: impl FnMut() -> T) -> Duration {
    (0..ROUNDS).map(|_| time(&mut run)).min().unwrap_or_default()
}

fn time<T>(run: &mut impl FnMut() -> T) -> Duration {
    let begin = Instant::now();
    black_box(run());
    begin.elapsed()
}

/// A head as official SDKs send it, with so many fields of their own.
fn head(fields: usize) -> Vec<u8> {
    let mut head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: api.example.com\r\n".to_vec();
    head.extend_from_slice(b"Authorization: Bearer sk-forge-0123456789abcdef0123456789abcdef\r\n");
    head.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: 1234\r\n");
    for n in 0..fields {
        head.extend_from_slice(format!("X-Stainless-Field-{n}: a usual value {n}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn chunked(chunk_bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(BODY_BYTES + BODY_BYTES / chunk_bytes * 10);
    for _ in 0..BODY_BYTES / chunk_bytes {
        body.extend_from_slice(format!("{chunk_bytes:x}\r\n").as_bytes());
        body.resize(body.len() + chunk_bytes, b'x');
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}
