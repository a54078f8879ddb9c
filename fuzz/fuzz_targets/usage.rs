//! Usage in answers: the same at every cut, and a stream loses nothing but usage chunks, and those at every cut.
#![no_main]

mod cuts;

use bytes::Bytes;
use forge::adapt::usage::said::Said;
use forge::adapt::usage::sent::Sent;
use forge::adapt::usage::strip::Strip;
use forge::adapt::usage::{Reader, Usage};
use forge::endpoint::Endpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for endpoint in Endpoint::proxied() {
        let expected = (read(Reader::json(endpoint), &[data]), read(Reader::sse(endpoint), &[data]));
        for chunks in cuts::cuts(data) {
            assert_eq!(read(Reader::json(endpoint), &chunks), expected.0);
            assert_eq!(read(Reader::sse(endpoint), &chunks), expected.1);
        }
        for mut said in [Said::in_events(endpoint), Said::in_body(endpoint)] {
            said.feed(&Bytes::copy_from_slice(data));
            said.finish();
        }
    }
    let expected = stripped(&[data]);
    assert!(expected.len() <= data.len());
    let characters = sent(&[data]);
    for chunks in cuts::cuts(data) {
        assert_eq!(stripped(&chunks), expected);
        assert_eq!(sent(&chunks), characters);
    }
});

fn read(mut reader: Reader, chunks: &[&[u8]]) -> Option<Usage> {
    for chunk in chunks {
        reader.feed(chunk);
    }
    reader.reported()
}

fn stripped(chunks: &[&[u8]]) -> Vec<u8> {
    let (mut strip, mut out) = (Strip::default(), Vec::new());
    for chunk in chunks {
        out.extend_from_slice(&strip.feed(Bytes::copy_from_slice(chunk)));
    }
    out.extend_from_slice(&strip.finish());
    out
}

fn sent(chunks: &[&[u8]]) -> u64 {
    let mut sent = Sent::new(Endpoint::AudioSpeech);
    for chunk in chunks {
        sent.feed(chunk);
    }
    sent.characters()
}
