//! Tests of the whole gateway over real sockets against a scripted upstream: one module for each part
//! of the path. One binary, because linking is what costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod harness;
