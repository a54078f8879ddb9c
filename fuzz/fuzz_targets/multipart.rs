//! The form scanner, with the boundary `b`: the same at every cut, and no reader sees another model.
#![no_main]

mod cuts;
#[path = "../../tests/inspect/lenient_reader.rs"]
mod lenient_reader;
#[path = "../../tests/inspect/reading.rs"]
mod reading;

use forge::proxy::inspect::{FileParts, Inspector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let read = |chunks: &[&[u8]]| reading::read(Inspector::multipart("b", FileParts::Any).expect("a boundary"), chunks);
    let expected = read(&[data]);
    for chunks in cuts::cuts(data) {
        assert_eq!(read(&chunks), expected);
    }
    if let Ok(reading) = expected {
        lenient_reader::every_reader_agrees("b", data, &reading);
    }
});
