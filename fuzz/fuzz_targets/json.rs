//! The JSON scanner: the same at every cut, and what `serde_json` reads.
#![no_main]

mod cuts;
#[path = "../../tests/inspect/reading.rs"]
mod reading;
#[path = "../../tests/inspect/serde_reader.rs"]
mod serde_reader;

use forge::proxy::inspect::Inspector;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let expected = reading::read(Inspector::json(), &[data]);
    for chunks in cuts::cuts(data) {
        assert_eq!(reading::read(Inspector::json(), &chunks), expected);
    }
    serde_reader::agrees_with_serde_json(data);
});
