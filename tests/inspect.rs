//! The body scanners against other readers of the same bytes, at every split.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "inspect/json.rs"]
mod json;
#[path = "inspect/lenient_reader.rs"]
mod lenient_reader;
#[path = "inspect/multipart.rs"]
mod multipart;
#[path = "inspect/reading.rs"]
mod reading;
#[path = "inspect/request.rs"]
mod request;
#[path = "inspect/serde_reader.rs"]
mod serde_reader;
