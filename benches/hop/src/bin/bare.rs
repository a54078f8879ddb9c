//! The yardstick: a Pingora proxy that does nothing but pass, on one data-plane thread.
//!
//! `bare LISTEN UPSTREAM http1|http2`, or `bare LISTEN UPSTREAM tls CERTIFICATE KEY`, the same on both sides,
//! e.g. `bare 127.0.0.1:8080 127.0.0.1:9000 http1`.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::prelude::{HttpPeer, ProxyHttp, Result, Server, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

/// Passes every request to one address.
struct PassThrough {
    upstream: SocketAddr,
    spoken: Spoken,
}

/// What both sides speak.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    Tls,
}

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.upstream, self.spoken == Spoken::Tls, "localhost".to_owned());
        match self.spoken {
            Spoken::Http1 => {}
            Spoken::Http2 => peer.options.set_http_version(2, 2),
            // Costs a handshake only; the measured connections are kept alive.
            Spoken::Tls => peer.options.verify_cert = false,
        }
        Ok(Box::new(peer))
    }
}

/// Runs the proxy until the process is ended.
pub fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().context("first argument: the address to listen on")?;
    let upstream = args.next().context("second argument: the upstream's address")?.parse()?;
    let spoken = match args.next().as_deref() {
        Some("http1") => Spoken::Http1,
        Some("http2") => Spoken::Http2,
        Some("tls") => Spoken::Tls,
        _ => bail!("third argument: http1, http2 or tls"),
    };

    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, PassThrough { upstream, spoken });
    match spoken {
        Spoken::Http1 => service.add_tcp(&listen),
        Spoken::Http2 => {
            let mut options = HttpServerOptions::default();
            options.h2c = true;
            service.app_logic_mut().context("the service has no application")?.server_options = Some(options);
            service.add_tcp(&listen);
        }
        Spoken::Tls => {
            let (chain, key) = args.next().zip(args.next()).context("tls: certificate and key")?;
            service.add_tls(&listen, &chain, &key)?;
        }
    }
    server.add_service(service);
    server.run_forever();
}
