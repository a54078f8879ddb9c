//! Event streams and the splice of the model's name: pieces add up to the stream, and the answer is the
//! same at every cut.
#![no_main]

mod cuts;

use bytes::Bytes;
use forge::adapt::echo::Echo;
use forge::adapt::sse::Splitter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let expected = (echoed(Echo::sse("mine"), &[data]), echoed(Echo::json("mine"), &[data]));
    assert_eq!(split(&[data]), data);
    for chunks in cuts::cuts(data) {
        assert_eq!(split(&chunks), data);
        assert_eq!(echoed(Echo::sse("mine"), &chunks), expected.0);
        assert_eq!(echoed(Echo::json("mine"), &chunks), expected.1);
    }
});

fn split(chunks: &[&[u8]]) -> Vec<u8> {
    let mut splitter = Splitter::default();
    let mut out = Vec::new();
    for chunk in chunks {
        let mut rest = *chunk;
        while let Some(piece) = splitter.next(&mut rest) {
            assert!(!piece.bytes().is_empty());
            out.extend_from_slice(piece.bytes());
        }
    }
    out
}

fn echoed(mut echo: Echo, chunks: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&echo.feed(Bytes::copy_from_slice(chunk)));
    }
    out.extend_from_slice(&echo.finish());
    out
}
