//! The edge's grammar of heads and chunks: the same at every cut, and what a plain reading by the RFC's words says.
#![no_main]

mod cuts;
#[path = "../../tests/edge/properties.rs"]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| properties::check(data, cuts::cuts(data)));
