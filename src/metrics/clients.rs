//! Clients' connections.

use prometheus::{IntCounter, IntGauge};

use super::maker::Maker;
use super::{Held, METRICS};

/// Counts a client's connection as open.
pub fn hold_connection() -> Held {
    Held::by(&METRICS.clients.connections)
}

/// Counts a connection refused because a bound was reached.
pub fn connection_refused() {
    METRICS.clients.connections_refused.inc();
}

/// Counts an HTTP/2 connection closed because its client cancelled too many streams.
pub fn http2_resets_exceeded() {
    METRICS.clients.http2_resets_exceeded.inc();
}

/// Client connections open now.
pub fn client_connections() -> u64 {
    u64::try_from(METRICS.clients.connections.get()).unwrap_or(0)
}

pub(super) struct ClientMetrics {
    connections: IntGauge,
    connections_refused: IntCounter,
    http2_resets_exceeded: IntCounter,
}

impl ClientMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            connections: make.gauge("forge_client_connections", "Client connections that are open."),
            connections_refused: make
                .counter("forge_client_connections_refused_total", "Client connections refused at a bound."),
            http2_resets_exceeded: make.counter(
                "forge_http2_resets_exceeded_total",
                "HTTP/2 connections closed because their client cancelled too many streams.",
            ),
        }
    }
}
