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

mod adaptation;
mod admin_api;
mod admin_cli;
mod admin_contract;
mod admission;
mod answers;
mod authorisation;
mod bad_day;
mod errors;
mod failover;
mod files;
mod files_faults;
mod files_s3;
mod fleet;
mod harness;
mod health;
mod hostile;
mod hostile_h2;
mod inspection;
mod limits;
mod models;
mod multipart;
mod opening;
mod operation;
mod probe;
mod realtime;
mod reload;
mod replay;
mod routing;
mod self_service;
mod spill;
mod stored_keys;
mod streaming;
mod tls;
mod transport;
mod upgrade;
mod usage;
mod world;
