//! The engine's server: built from our settings, with the gateway as its one service.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::HttpServerOptions;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::server::Server;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::services::listening::Service;
use pingora_proxy::{HttpProxy, ProcessCustomSession, ProxyServiceBuilder};
use tokio::sync::watch;

use super::lifecycle::ENGINE_GRACE_EXTRA;
use super::{Listeners, StartError};
use crate::config::ProcessConf;
use crate::edge::{self, ConnectionLimits, Edge, Tls};
use crate::proxy::Gateway;
use crate::proxy::connector::GatheringConnector;

/// The engine's own bound on attempts. A model's `retry.attempts` (16 at most) and the one extra try after
/// a pooled connection turned out dead stay below it.
const ATTEMPTS_MAX: usize = 32;

/// The engine with the gateway in it.
type DataPlane = HttpProxy<Gateway, GatheringConnector>;

/// Where clients connect; every port is known.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    pub(super) plain: Vec<SocketAddr>,
    pub(super) tls: Vec<SocketAddr>,
}

impl Addresses {
    pub(super) fn all(&self) -> impl Iterator<Item = &SocketAddr> {
        self.plain.iter().chain(&self.tls)
    }
}

/// The doors of the data plane.
pub(super) struct Doors {
    pub(super) addresses: Addresses,
    /// What is spoken on those with TLS; `None`: there are none.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) listeners: Listeners,
    /// Whether clients on idle connections are waited for.
    pub(super) patient: watch::Receiver<bool>,
}

/// The server, ready to run, that serves `gateway` behind `doors`.
pub(super) fn server(conf: &ProcessConf, gateway: Gateway, doors: Doors) -> Server {
    let Doors { addresses, tls, listeners, patient } = doors;
    let opt = Opt { upgrade: listeners == Listeners::TakeOver, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(opt, engine_conf(conf));
    let limits = ConnectionLimits::of(&conf.clients, edge::raise_descriptor_limit());
    log::info!("at most {} client connections, {} from one address", limits.max, limits.per_address_max);
    let mut edge = Edge::new(&conf.clients, limits).with_patience(patient);
    if let Some(tls) = tls {
        edge = edge.with_tls(tls, addresses.tls.clone());
    }
    let mut service = service(&server.configuration, gateway, edge);
    if let Some(engine) = service.app_logic_mut() {
        engine.h2_options = Some(edge::http2_options(&conf.clients));
        engine.server_options.get_or_insert_default().h2_idle_timeout = Some(conf.clients.keepalive);
    }
    for address in addresses.all() {
        service.add_tcp(&address.to_string());
    }
    server.add_service(service);
    server.bootstrap();
    server
}

/// The engine, which leaves every connection to the edge and is given requests by it.
fn service(conf: &Arc<ServerConf>, gateway: Gateway, edge: Edge) -> Service<DataPlane> {
    let edge = Arc::new(edge);
    let serve: ProcessCustomSession<Gateway, GatheringConnector> = Arc::new(move |engine, connection, shutdown| {
        let (edge, shutdown) = (Arc::clone(&edge), shutdown.clone());
        Box::pin(async move {
            edge.serve(&engine, connection, &shutdown).await;
            None
        })
    });
    let mut options = HttpServerOptions::default();
    options.force_custom = true;
    let connector = GatheringConnector::new(Some(ConnectorOptions::from_server_conf(conf)));
    ProxyServiceBuilder::new(conf, gateway).name("forge").custom(connector, serve).server_options(options).build()
}

fn engine_conf(conf: &ProcessConf) -> ServerConf {
    ServerConf {
        threads: conf.threads,
        work_stealing: true,
        upstream_keepalive_pool_size: conf.upstream.keepalive,
        grace_period_seconds: Some((conf.grace + ENGINE_GRACE_EXTRA).as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        upgrade_sock: conf.upgrade_sock.to_string_lossy().into_owned(),
        max_retries: ATTEMPTS_MAX,
        ..ServerConf::default()
    }
}

/// The addresses to listen on, port 0 turned into a free one. The engine panics on an address it cannot
/// bind, in a task where nobody sees it; so each is tried here first.
pub(super) fn addresses(conf: &ProcessConf, listeners: Listeners) -> Result<Addresses, StartError> {
    let tls = conf.tls.as_ref().map_or(&[][..], |tls| &tls.listen);
    match listeners {
        Listeners::TakeOver => Ok(Addresses { plain: conf.listen.clone(), tls: tls.to_vec() }),
        Listeners::Bind => {
            // All are held until all are known, so that two of port 0 differ.
            let bound = conf.listen.iter().chain(tls).map(|address| bind(*address)).collect::<Result<Vec<_>, _>>()?;
            let known = bound.iter().map(|listener| listener.local_addr().map_err(StartError::Io));
            let mut plain = known.collect::<Result<Vec<_>, _>>()?;
            let tls = plain.split_off(conf.listen.len());
            Ok(Addresses { plain, tls })
        }
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|error| StartError::Bind { address, error })
}

/// Waits until the engine accepts on `address`.
///
/// # Errors
/// It does not within ten seconds.
pub(super) async fn accepting(address: SocketAddr) -> io::Result<()> {
    const WAIT_MAX: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_millis(5);
    let connected = async {
        while tokio::net::TcpStream::connect(reachable(address)).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, connected).await.map_err(io::Error::from)
}

/// An address to connect to where `address` may say "every interface".
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_becomes_a_free_port_and_a_taken_one_is_named() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let conf = ProcessConf { listen: vec![any, any], ..ProcessConf::default() };
        let addresses = addresses(&conf, Listeners::Bind).unwrap().plain;
        assert!(addresses[0].port() != 0 && addresses[0] != addresses[1], "{addresses:?}");

        let taken = TcpListener::bind(any).unwrap().local_addr();
        let _holder = TcpListener::bind(taken.unwrap()).unwrap();
        let conf = ProcessConf { listen: vec![_holder.local_addr().unwrap()], ..ProcessConf::default() };
        let error = super::addresses(&conf, Listeners::Bind).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
    }

    #[test]
    fn an_unspecified_address_is_reached_by_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()), "127.0.0.1:80".parse().unwrap());
        assert_eq!(reachable("[::]:80".parse().unwrap()), "[::1]:80".parse().unwrap());
        assert_eq!(reachable("10.0.0.1:80".parse().unwrap()), "10.0.0.1:80".parse().unwrap());
    }
}
