//! `bounds.*` of conf/forge.yaml that bound what a client may send, and how slowly.

use std::time::Duration;

use super::amount;
use super::place::Place;

/// Bounds on a client's connections and on the heads and the pace of its requests.
#[derive(Debug, Clone)]
pub struct ClientConf {
    /// `connections_max`: open at once, in all. Default: half of what the file-descriptor limit leaves, since
    /// a request needs a connection to a provider too. Answer: 503.
    pub connections_max: Option<u64>,
    /// `connections_per_address_max`: open at once from one IPv4 address or IPv6 /64. Default: three quarters
    /// of `connections_max`. Answer: 503.
    pub connections_per_address_max: Option<u64>,
    /// `h2_streams_max`: open at once on one HTTP/2 connection. Default 100. Answer: the stream is refused.
    pub h2_streams_max: u64,
    /// `h2_resets_max`: streams that a client may cancel on one HTTP/2 connection in 10 s. Default 200. The
    /// connection is closed.
    pub h2_resets_max: u64,
    /// `target_bytes_max`: of a request target (path and query). Default 8 KiB. Answer: 414.
    pub target_bytes_max: u64,
    /// `header_fields_max`: fields of one head. Default 100. Answer: 431.
    pub header_fields_max: u64,
    /// `header_field_bytes_max`: of one field line. Default 32 KiB. Answer: 431.
    pub header_field_bytes_max: u64,
    /// `header_bytes_max`: of all field lines together. Default 64 KiB. Answer: 431.
    pub header_bytes_max: u64,
    /// `header_timeout`: from a head's first byte to its last. Default 15 s. Answer: 408.
    pub header_timeout: Duration,
    /// `body_rate_min`: bytes per second that a body must reach on average after `body_grace`. Default 1 KiB.
    /// Answer: 408.
    pub body_rate_min: u64,
    /// `body_grace`: how long a body may be waited for, all waits together, before `body_rate_min` counts.
    /// Default 60 s.
    pub body_grace: Duration,
    /// `keepalive`: how long an idle connection is kept. Default 60 s.
    pub keepalive: Duration,
    /// `write_stall`: the longest wait for a client to take more of its answer. Default 30 s. The connection
    /// is closed.
    pub write_stall: Duration,
}

impl ClientConf {
    pub(super) fn read(bounds: &Place<'_>) -> Self {
        let default = Self::default();
        let bytes = |name: &str, default: u64| bounds.read(name, amount::bytes).unwrap_or(default);
        let count = |name: &str| bounds.read(name, amount::count);
        let duration = |name: &str, default: Duration| bounds.read(name, amount::duration).unwrap_or(default);
        Self {
            connections_max: count("connections_max"),
            connections_per_address_max: count("connections_per_address_max"),
            h2_streams_max: count("h2_streams_max").unwrap_or(default.h2_streams_max),
            h2_resets_max: count("h2_resets_max").unwrap_or(default.h2_resets_max),
            target_bytes_max: bytes("target_bytes_max", default.target_bytes_max),
            header_fields_max: count("header_fields_max").unwrap_or(default.header_fields_max),
            header_field_bytes_max: bytes("header_field_bytes_max", default.header_field_bytes_max),
            header_bytes_max: bytes("header_bytes_max", default.header_bytes_max),
            header_timeout: duration("header_timeout", default.header_timeout),
            body_rate_min: bytes("body_rate_min", default.body_rate_min),
            body_grace: duration("body_grace", default.body_grace),
            keepalive: duration("keepalive", default.keepalive),
            write_stall: duration("write_stall", default.write_stall),
        }
    }
}

impl Default for ClientConf {
    fn default() -> Self {
        Self {
            connections_max: None,
            connections_per_address_max: None,
            h2_streams_max: 100,
            h2_resets_max: 200,
            target_bytes_max: 8 << 10,
            header_fields_max: 100,
            header_field_bytes_max: 32 << 10,
            header_bytes_max: 64 << 10,
            header_timeout: Duration::from_secs(15),
            body_rate_min: 1 << 10,
            body_grace: Duration::from_secs(60),
            keepalive: Duration::from_secs(60),
            write_stall: Duration::from_secs(30),
        }
    }
}
