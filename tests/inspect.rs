//! The body scanners against other readers of the same bytes, at every split.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "inspect/json.rs"]
mod json;
#[path = "inspect/multipart.rs"]
mod multipart;
#[path = "inspect/request.rs"]
mod request;
