//! TLS from the client's side: a handshake to look at, and a tunnel that puts any plain client behind TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// The name that the servers of these tests have.
pub const SERVER_NAME: &str = "forge.test";

/// Connects and shakes hands.
pub async fn connect(addr: SocketAddr, config: &ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    TlsConnector::from(Arc::new(config.clone())).connect(name, stream).await
}

/// Takes plain connections and carries each over TLS to a server. Dropping it closes all.
pub struct Tunnel {
    /// Where plain clients connect.
    pub addr: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Tunnel {
    /// Carries connections to `server`.
    pub async fn start(server: SocketAddr, config: ClientConfig) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((plain, _)) = listener.accept().await {
                let config = config.clone();
                carried.spawn(carry(plain, server, config));
            }
        });
        Self { addr, _accepting: accepting }
    }
}

/// A handshake that fails closes the plain side.
async fn carry(mut plain: TcpStream, server: SocketAddr, config: ClientConfig) {
    plain.set_nodelay(true).unwrap();
    if let Ok(mut secure) = connect(server, &config).await {
        // Either side may leave as it likes; the other is told by the end of its stream.
        let _ = copy_bidirectional(&mut plain, &mut secure).await;
    }
}
