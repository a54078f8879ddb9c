//! Forge: an LLM gateway on Pingora. ARCHITECTURE.md is the map.

pub mod access;
pub mod adapt;
pub mod admin;
pub mod allowance;
pub mod blob;
pub mod cli;
pub mod config;
pub mod credential;
pub mod demo;
pub mod edge;
pub mod endpoint;
pub mod error;
pub mod internal;
pub mod jobs;
pub mod limits;
pub mod metrics;
pub mod proxy;
pub mod server;
pub mod store;
pub mod usage;
