//! TLS towards clients: a root, an intermediate authority, a leaf; and the guard over TLS as over plain TCP.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion};

use crate::support::client::{Client, Request, Response};
use crate::support::client_h2::exchange_h2c;
use crate::support::gateway::{Gateway, Setup};
use crate::support::pki::{Authority, Leaf, Versions};
use crate::support::tls::{SERVER_NAME, Tunnel, connect};
use crate::support::upstream::{Reply, Upstream, sse_event};
use crate::support::{eventually, within};
use crate::world::{CHAT, chat, chat_stream, usual_routes};
use crate::{hostile, hostile_h2};

/// A gateway with a plain and a TLS listener, and the authority its certificate comes from.
struct Secured {
    upstream: Upstream,
    gateway: Gateway,
    addr: SocketAddr,
    root: Authority,
    files: TempDir,
}

impl Secured {
    async fn start() -> Self {
        Self::with("", "").await
    }

    /// With these keys of `tls:` and these lines of forge.yaml.
    async fn with(tls: &str, conf: &str) -> Self {
        let (root, files) = (Authority::new(), tempfile::tempdir().unwrap());
        root.intermediate().leaf(SERVER_NAME).write_pem(files.path(), "server");
        Self::with_files((root, files), tls, conf).await
    }

    async fn with_files((root, files): (Authority, TempDir), tls: &str, conf: &str) -> Self {
        let upstream = Upstream::start().await;
        let path = |name: &str| files.path().join(name).display().to_string();
        let conf = format!(
            "tls: {{ listen: 127.0.0.1:0, certificate: {}, key: {}{tls} }}\n{conf}",
            path("server.crt"),
            path("server.key")
        );
        let setup = Setup { routes: usual_routes(upstream.port()), conf, ..Setup::default() };
        let gateway = Gateway::start_with(setup).await;
        eventually("the address is announced", || announced(&gateway.output()).is_some()).await;
        let addr = announced(&gateway.output()).unwrap();
        let secured = Self { upstream, gateway, addr, root, files };
        // The gateway's own look whether it accepts.
        secured.failed("refused", 1.0).await;
        secured
    }

    fn client(&self, versions: Versions, alpn: &[&str]) -> ClientConfig {
        self.root.client(None, versions, alpn)
    }

    async fn tunnel(&self, alpn: &[&str]) -> Tunnel {
        Tunnel::start(self.addr, self.client(Versions::All, alpn)).await
    }

    /// The certificate that a new connection is shown.
    async fn shown(&self) -> Vec<u8> {
        let stream = connect(self.addr, &self.client(Versions::All, &["http/1.1"])).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    async fn failures(&self, reason: &str) -> f64 {
        self.gateway.metric("forge_tls_handshake_failures_total", &[reason]).await
    }

    /// A handshake is counted a moment after its connection closed.
    async fn failed(&self, reason: &str, times: f64) {
        let start = Instant::now();
        while self.failures(reason).await < times && start.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.failures(reason).await, times, "{reason}");
    }

    async fn loads(&self, result: &str) -> f64 {
        self.gateway.metric("forge_tls_certificate_loads_total", &[result]).await
    }

    async fn loaded(&self, result: &str, times: f64) {
        let start = Instant::now();
        while self.loads(result).await < times {
            assert!(start.elapsed() < Duration::from_secs(20), "{result} {times} times:\n{}", self.gateway.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn announced(output: &str) -> Option<SocketAddr> {
    output.split("https://").nth(1)?.split_whitespace().next()?.parse().ok()
}

/// One request over TLS; a failed handshake, also one that the client learns of late, is an error.
async fn ask(addr: SocketAddr, config: &ClientConfig) -> std::io::Result<String> {
    let mut stream = connect(addr, config).await?;
    stream.write_all(&Request::post(CHAT, chat("m")).header("connection", "close").wire()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn post(client: &mut Client) -> Response {
    client.exchange(&Request::post(CHAT, chat("m"))).await
}

fn write(dir: &Path, leaf: &Leaf) {
    leaf.write_pem(dir, "fresh");
    for end in ["crt", "key"] {
        std::fs::rename(dir.join("fresh").with_extension(end), dir.join("server").with_extension(end)).unwrap();
    }
}

#[tokio::test]
async fn both_versions_and_both_protocols_are_spoken_beside_plain_http() {
    let world = Secured::start().await;
    for (versions, spoken) in
        [(Versions::Only12, ProtocolVersion::TLSv1_2), (Versions::Only13, ProtocolVersion::TLSv1_3)]
    {
        for (offered, agreed) in
            [(vec!["h2", "http/1.1"], Some("h2")), (vec!["http/1.1"], Some("http/1.1")), (vec![], None)]
        {
            let config = world.client(versions, &offered);
            let stream = connect(world.addr, &config).await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.protocol_version(), Some(spoken));
            assert_eq!(session.alpn_protocol(), agreed.map(str::as_bytes));
            let tunnel = Tunnel::start(world.addr, config).await;
            let request = Request::post(CHAT, chat("m"));
            match agreed {
                Some("h2") => exchange_h2c(tunnel.addr, &request).await.expect(200),
                _ => Client::connect(tunnel.addr).await.exchange(&request).await.expect(200),
            };
        }
    }
    world.upstream.script([Reply::sse([sse_event("1"), sse_event("2")])]);
    let tunnel = world.tunnel(&["h2"]).await;
    let answer = exchange_h2c(tunnel.addr, &Request::post(CHAT, chat_stream("m"))).await.expect(200);
    assert_eq!(answer.text(), "data: 1\n\ndata: 2\n\n");
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    let not_after = world.gateway.metric("forge_tls_certificate_not_after_timestamp_seconds", &[]).await;
    assert!(not_after > 1.9e9, "{not_after}");
    connect(world.addr, &world.client(Versions::All, &["gopher"])).await.expect_err("nothing in common");
    connect(world.addr, &Authority::new().client(None, Versions::All, &[])).await.expect_err("a stranger's root");
}

#[tokio::test]
async fn an_older_version_than_the_oldest_is_refused() {
    let world = Secured::with(", version_min: 1.3", "").await;
    let before = world.failures("refused").await;
    connect(world.addr, &world.client(Versions::Only12, &["h2"])).await.expect_err("TLS 1.2");
    ask(world.addr, &world.client(Versions::All, &["http/1.1"])).await.unwrap();
    world.failed("refused", before + 1.0).await;
}

#[tokio::test]
async fn clients_certificates_are_required_or_optional_and_always_checked() {
    for (mode, without_one) in [("required", false), ("optional", true)] {
        let (root, files) = (Authority::new(), tempfile::tempdir().unwrap());
        root.intermediate().leaf(SERVER_NAME).write_pem(files.path(), "server");
        let clients = Authority::new();
        let ca = clients.write_pem(files.path(), "clients.crt");
        let tls = format!(", client_ca: {}, client_certificates: {mode}", ca.display());
        let world = Secured::with_files((root, files), &tls, "").await;
        let (known, foreign) = (clients.intermediate().leaf("a client"), Authority::new().leaf("a stranger"));
        for versions in [Versions::Only12, Versions::Only13] {
            let before = world.failures("refused").await;
            let config = |leaf| world.root.client(leaf, versions, &["http/1.1"]);
            let answer = ask(world.addr, &config(Some(&known))).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{mode} {versions:?}: {answer}");
            ask(world.addr, &config(Some(&foreign))).await.expect_err("a foreign certificate");
            assert_eq!(ask(world.addr, &config(None)).await.is_ok(), without_one, "{mode} {versions:?}");
            let refused = if without_one { 1.0 } else { 2.0 };
            world.failed("refused", before + refused).await;
        }
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_while_connections_are_open() {
    let world = Secured::start().await;
    let first = world.shown().await;
    let tunnel = world.tunnel(&["http/1.1"]).await;
    let mut open = Client::connect(tunnel.addr).await;
    post(&mut open).await.expect(200);

    let leaf = world.root.intermediate().leaf(SERVER_NAME);
    write(world.files.path(), &leaf);
    world.loaded("loaded", 2.0).await;
    assert_eq!(world.shown().await, leaf.der());
    assert_ne!(world.shown().await, first);
    post(&mut open).await.expect(200);

    // Each file is sound, but they are no pair.
    let (rejected, other) = (world.loads("rejected").await, world.root.leaf(SERVER_NAME));
    other.write_pem(world.files.path(), "other");
    std::fs::rename(world.files.path().join("other.key"), world.files.path().join("server.key")).unwrap();
    world.loaded("rejected", rejected + 1.0).await;
    assert!(world.gateway.output().contains("the certificate before stays in force"), "{}", world.gateway.output());
    for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no PEM"] {
        let rejected = world.loads("rejected").await;
        std::fs::write(world.files.path().join("server.crt"), broken).unwrap();
        world.loaded("rejected", rejected + 1.0).await;
        assert_eq!(world.shown().await, leaf.der(), "{broken:?}");
    }
    post(&mut open).await.expect(200);
    std::fs::rename(world.files.path().join("other.crt"), world.files.path().join("server.crt")).unwrap();
    world.loaded("loaded", 3.0).await;
    assert_eq!(world.shown().await, other.der());
    world.gateway.signal("HUP");
    world.loaded("loaded", 4.0).await;
    post(&mut open).await.expect(200);
}

#[tokio::test]
async fn a_gateway_does_not_start_without_a_sound_pair() {
    let files = tempfile::tempdir().unwrap();
    Authority::new().leaf(SERVER_NAME).write_pem(files.path(), "server");
    Authority::new().leaf(SERVER_NAME).write_pem(files.path(), "other");
    let path = |name: &str| files.path().join(name).display().to_string();
    for (certificate, key, why) in [
        ("server.crt", "other.key", "keys may not be consistent"),
        ("server.crt", "server.crt", "holds no private key"),
        ("server.key", "server.key", "holds no certificate"),
        ("missing.crt", "server.key", "cannot be read"),
    ] {
        let conf = format!(
            "listen: []\ntls: {{ listen: 127.0.0.1:0, certificate: {}, key: {} }}\n",
            path(certificate),
            path(key)
        );
        std::fs::write(files.path().join("forge.yaml"), conf).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_forge"))
            .args(["run", "--conf"])
            .arg(files.path().join("forge.yaml"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{certificate} {key}: {said}");
    }
}

#[tokio::test]
async fn a_slow_handshake_has_a_limit_and_holds_a_place() {
    let world = Secured::with(", handshake_timeout: 500ms", "bounds: { connections_max: 2 }\n").await;
    let (mut first, mut second) =
        (TcpStream::connect(world.addr).await.unwrap(), TcpStream::connect(world.addr).await.unwrap());
    // A sound beginning of a handshake is not the end of it.
    first.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();
    let began = Instant::now();
    let start = Instant::now();
    while world.gateway.metric("forge_client_connections", &[]).await < 2.0 {
        assert!(start.elapsed() < Duration::from_millis(400), "both hold a place");
    }
    let mut third = TcpStream::connect(world.addr).await.unwrap();
    let mut space = [0; 64];
    assert!(!matches!(third.read(&mut space).await, Ok(1..)), "a third finds no place");
    assert!(began.elapsed() < Duration::from_millis(450));
    for stream in [&mut first, &mut second] {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut space)).await.expect("closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    world.failed("timeout", 2.0).await;
    assert_eq!(world.gateway.metric("forge_client_connections_refused_total", &[]).await, 1.0);
    ask(world.addr, &world.client(Versions::All, &["http/1.1"])).await.unwrap();
}

#[tokio::test]
async fn what_is_no_tls_is_never_served_on_a_tls_port() {
    let world = Secured::start().await;
    let plain = Request::post(CHAT, chat("m")).wire();
    let mut cases = vec![plain, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), vec![0; 70_000], b"\r\n\r\n".to_vec()];
    cases.push([vec![0x16, 0x03, 0x01, 0xff, 0xff], vec![1; 70_000]].concat());
    let before = world.failures("refused").await;
    for bytes in &cases {
        let mut stream = TcpStream::connect(world.addr).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "not closed after {:?}", &bytes[..4]);
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    }
    within(Duration::from_secs(5), "nothing was sent on", || world.upstream.count() == 0).await;
    world.failed("refused", before + cases.len() as f64).await;
    // ALPN said HTTP/2; what follows is something else.
    let mut stream = connect(world.addr, &world.client(Versions::All, &["h2"])).await.unwrap();
    stream.write_all(&Request::post(CHAT, chat("m")).wire()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
    ask(world.addr, &world.client(Versions::All, &["http/1.1"])).await.unwrap();
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test]
async fn rules_1_to_5_and_8_hold_over_tls() {
    let world = Secured::start().await;
    let tunnel = world.tunnel(&["http/1.1"]).await;
    hostile::refused_heads_reach_nobody(&world.upstream, tunnel.addr).await;
    hostile::pipelined_requests_are_answered_in_order(&world.upstream, tunnel.addr).await;
    world.upstream.forget();
    hostile::malformed_bodies_are_the_clients_400(&world.upstream, tunnel.addr).await;
}

#[tokio::test]
async fn rule_26_holds_over_tls_with_http2() {
    let world = Secured::start().await;
    let tunnel = world.tunnel(&["h2"]).await;
    hostile_h2::heads_are_held_to_the_rules(&world.upstream, tunnel.addr).await;
    hostile_h2::what_http2_forbids_is_reset(&world.upstream, tunnel.addr).await;
}

#[tokio::test]
async fn rule_19_a_head_must_be_whole_in_time_over_tls() {
    let world = Secured::with("", "bounds: { header_timeout: 500ms, keepalive: 1s }\n").await;
    let tunnel = world.tunnel(&["http/1.1"]).await;
    let began = Instant::now();
    let said = hostile::said_at(tunnel.addr, b"POST / HTTP/1.1\r\nHost: a\r\nX: ").await.expect("closed");
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    for alpn in ["http/1.1", "h2"] {
        let mut silent = connect(world.addr, &world.client(Versions::All, &[alpn])).await.unwrap();
        let mut space = [0; 64];
        let read = tokio::time::timeout(Duration::from_secs(4), silent.read(&mut space)).await.expect("closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{alpn}: {read:?}");
    }
}
