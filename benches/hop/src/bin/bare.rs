//! The yardstick: a Pingora proxy that does nothing but pass, on one data-plane thread.
//!
//! `bare LISTEN UPSTREAM`, e.g. `bare 127.0.0.1:8080 127.0.0.1:9000`.

use std::net::SocketAddr;

use anyhow::Context;
use async_trait::async_trait;
use pingora::prelude::{HttpPeer, ProxyHttp, Result, Server, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

/// Passes every request to one address.
struct PassThrough(SocketAddr);

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

/// Runs the proxy until the process is ended.
pub fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().context("first argument: the address to listen on")?;
    let upstream = args.next().context("second argument: the upstream's address")?.parse()?;

    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, PassThrough(upstream));
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
