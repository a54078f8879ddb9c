//! The edge's grammar: what the fuzz target checks, on its seeds and on bytes made of what matters to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod properties;

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What heads and chunks are made of, sound and not.
const PARTS: &[&[u8]] = &[
    b"POST /v1/x HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: Chunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Connection: close\r\n",
    b"X: y\r\n",
    b"X : y\r\n",
    b" folded\r\n",
    b"\r\n",
    b"5\r\nhello\r\n",
    b"00005;a=\"b;c\"\r\nhello\r\n",
    b"0\r\n",
    b"0\r\n\r\n",
    b"x: y\r\n",
    b"ffffffffffffffff5\r\n",
    b"\n",
    b"\r",
    b"\0",
    b";",
    b"5",
];

/// What they begin with, so that sound heads and chunked bodies are reached often.
const BEGINNINGS: &[&[u8]] = &[
    b"",
    b"POST /v1/x HTTP/1.1\r\nHost: a\r\n",
    b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
];

fn cut(bytes: &[u8], mut at: Vec<usize>) -> Vec<&[u8]> {
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_bytes_are_read_the_same_at_every_cut_and_as_the_rfc_says(
        begin in select(BEGINNINGS),
        parts in prop::collection::vec(select(PARTS), 0..14),
        noise in prop::option::of((any::<Index>(), any::<u8>())),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let mut bytes = [begin, &parts.concat()].concat();
        if let (Some((at, byte)), false) = (noise, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let at = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        properties::check(&bytes, [cut(&bytes, at)]);
    }
}

#[test]
fn the_seeds_are_read_the_same_at_every_cut() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/edge");
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        let bytes = std::fs::read(seed.unwrap().path()).unwrap();
        properties::check(&bytes, (0..=bytes.len()).map(|at| cut(&bytes, vec![at])));
        properties::check(&bytes, [bytes.chunks(1).collect()]);
        count += 1;
    }
    assert!(count >= 5, "{count} seeds");
}
