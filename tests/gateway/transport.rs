//! The connection to a provider: HTTP versions, TLS, names, reuse.

use std::path::Path;

use tempfile::TempDir;

use crate::support::client::Request;
use crate::support::client_h2::exchange_h2c;
use crate::support::eventually;
use crate::support::gateway::{Gateway, PROVIDER_KEY, routes};
use crate::support::pki::{Authority, Clients};
use crate::support::upstream::{Gate, Reply, Security, Step, Upstream};
use crate::world::{CHAT, ModelPlace, World, chat, sized_body};

/// Routes with one provider at this URL and these further settings.
fn routes_to(url: &str, settings: &str) -> String {
    routes(&format!(
        "providers:\n  up: {{ dialect: openai, url: \"{url}\", key: \"plain:{PROVIDER_KEY}\"{settings} }}\n\
         models:\n  m: up/x\n"
    ))
}

fn tls_settings(parts: &[(&str, &Path)]) -> String {
    let parts: Vec<String> = parts.iter().map(|(name, path)| format!("{name}: \"{}\"", path.display())).collect();
    format!(", tls: {{ {} }}", parts.join(", "))
}

/// A certificate authority with its files.
struct Pki {
    authority: Authority,
    dir: TempDir,
}

impl Pki {
    fn new() -> Self {
        Self { authority: Authority::new(), dir: tempfile::tempdir().unwrap() }
    }

    async fn serve(&self, name: &str, clients: Clients<'_>, alpn: &[&str]) -> Upstream {
        Upstream::start_with(Security::Tls(self.authority.leaf(name).acceptor(clients, alpn))).await
    }

    fn ca(&self) -> std::path::PathBuf {
        self.authority.write_pem(self.dir.path(), "ca.pem")
    }
}

async fn answers(gateway: &Gateway, upstream: &Upstream, version: &str) {
    for body in [chat("m"), sized_body(300_000, "m", ModelPlace::First)] {
        gateway.post(CHAT, &body).await.expect(200);
        let received = upstream.last();
        assert!(received.complete && received.faults.is_empty(), "{:?}", received.faults);
        assert_eq!((received.version, received.body.len()), (version, body.len()));
    }
}

async fn fails(gateway: &Gateway, upstream: &Upstream) {
    let answer = gateway.post(CHAT, chat("m")).await.expect(500);
    assert_eq!(answer.code(), "upstream_error");
    assert_eq!(upstream.count(), 0, "nothing was sent");
}

#[tokio::test]
async fn plain_http_is_spoken_in_both_versions() {
    let upstream = Upstream::start().await;
    let url = format!("http://127.0.0.1:{}/v1", upstream.port());
    for (settings, version) in [("", "1.1"), (", http: auto", "1.1"), (", http: \"1\"", "1.1"), (", http: \"2\"", "2")]
    {
        let gateway = Gateway::start(&routes_to(&url, settings)).await;
        answers(&gateway, &upstream, version).await;
        let head = upstream.last().head;
        assert_eq!(head.all("host"), [upstream.addr.to_string().as_str()], "{settings}");
    }
}

#[tokio::test]
async fn tls_offers_http2_and_trusts_the_given_authority() {
    let pki = Pki::new();
    let ca = pki.ca();
    for (alpn, version) in [(&["h2", "http/1.1"][..], "2"), (&["http/1.1"], "1.1"), (&[], "1.1")] {
        let upstream = pki.serve("localhost", Clients::Any, alpn).await;
        let url = format!("https://localhost:{}/v1", upstream.port());
        let gateway = Gateway::start(&routes_to(&url, &tls_settings(&[("ca", &ca)]))).await;
        answers(&gateway, &upstream, version).await;
    }
    let upstream = pki.serve("localhost", Clients::Any, &["h2", "http/1.1"]).await;
    let url = format!("https://localhost:{}/v1", upstream.port());
    let gateway = Gateway::start(&routes_to(&url, &format!("{}, http: \"1\"", tls_settings(&[("ca", &ca)])))).await;
    answers(&gateway, &upstream, "1.1").await;
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    let upstream = pki.serve("localhost", Clients::Any, &[]).await;
    let url = format!("https://localhost:{}/v1", upstream.port());
    let wrong_ca = tls_settings(&[("ca", &other.ca())]);
    for settings in ["", wrong_ca.as_str()] {
        let gateway = Gateway::start(&routes_to(&url, settings)).await;
        fails(&gateway, &upstream).await;
        let line = gateway.access_line("upstream_error").await;
        assert!(line.contains("attempts=1"), "{line}");
    }
}

#[tokio::test]
async fn the_name_is_verified() {
    let pki = Pki::new();
    let upstream = pki.serve("provider.test", Clients::Any, &[]).await;
    let url = format!("https://localhost:{}/v1", upstream.port());
    let ca = tls_settings(&[("ca", &pki.ca())]);
    fails(&Gateway::start(&routes_to(&url, &ca)).await, &upstream).await;
    let named = ca.replace(" }", ", server_name: provider.test }");
    answers(&Gateway::start(&routes_to(&url, &named)).await, &upstream, "1.1").await;
}

#[tokio::test]
async fn a_client_certificate_is_presented_where_one_is_set() {
    let (pki, other) = (Pki::new(), Pki::new());
    let upstream = pki.serve("localhost", Clients::Certified(&pki.authority), &[]).await;
    let url = format!("https://localhost:{}/v1", upstream.port());
    let ca = pki.ca();
    let (cert, key) = pki.authority.leaf("gateway").write_pem(pki.dir.path(), "mine");
    let (foreign_cert, foreign_key) = other.authority.leaf("gateway").write_pem(other.dir.path(), "foreign");
    let good = tls_settings(&[("ca", &ca), ("cert", &cert), ("key", &key)]);
    answers(&Gateway::start(&routes_to(&url, &good)).await, &upstream, "1.1").await;
    let before = upstream.count();
    for bad in
        [tls_settings(&[("ca", &ca)]), tls_settings(&[("ca", &ca), ("cert", &foreign_cert), ("key", &foreign_key)])]
    {
        let gateway = Gateway::start(&routes_to(&url, &bad)).await;
        assert_eq!(gateway.post(CHAT, chat("m")).await.expect(500).code(), "upstream_error");
    }
    assert_eq!(upstream.count(), before);
}

#[tokio::test]
async fn providers_with_other_trust_share_no_connection() {
    let (pki, other) = (Pki::new(), Pki::new());
    let upstream = pki.serve("localhost", Clients::Any, &[]).await;
    let provider = |name: &str, ca: &Path| {
        let url = format!("https://localhost:{}/v1", upstream.port());
        format!("  {name}: {{ dialect: openai, url: \"{url}\", key: \"plain:k\"{} }}\n", tls_settings(&[("ca", ca)]))
    };
    let text = format!(
        "providers:\n{}{}models:\n  good: good/x\n  bad: bad/x\n",
        provider("good", &pki.ca()),
        provider("bad", &other.ca())
    );
    let gateway = Gateway::start(&routes(&text)).await;
    gateway.post(CHAT, chat("good")).await.expect(200);
    gateway.post(CHAT, chat("bad")).await.expect(500);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_name_is_resolved_and_an_unknown_one_is_the_providers_fault() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&routes_to(&format!("http://localhost:{}/v1", upstream.port()), "")).await;
    answers(&gateway, &upstream, "1.1").await;
    assert_eq!(upstream.last().header("host"), Some(format!("localhost:{}", upstream.port()).as_str()));
    let gateway = Gateway::start(&routes_to("http://no-such-host.invalid/v1", "")).await;
    let answer = gateway.post(CHAT, chat("m")).await.expect(500);
    assert!(answer.code().starts_with("upstream_") && !answer.text().contains("invalid/"), "{}", answer.text());
    assert!(!answer.text().contains("no-such-host"), "{}", answer.text());
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    for version in ["1", "2"] {
        let upstream = Upstream::start().await;
        let url = format!("http://127.0.0.1:{}/v1", upstream.port());
        let gateway = Gateway::start(&routes_to(&url, &format!(", http: \"{version}\""))).await;
        let mut client = gateway.connect().await;
        for _ in 0..20 {
            client.exchange(&Request::post(CHAT, sized_body(100_000, "m", ModelPlace::Last))).await.expect(200);
        }
        exchange_h2c(gateway.addr, &Request::post(CHAT, chat("m"))).await.expect(200);
        let connections = upstream.connections().accepted;
        assert!(connections <= 2, "HTTP/{version}: {connections} connections for 21 requests in a row");
    }
}

#[tokio::test]
async fn many_requests_share_an_http2_connection() {
    let upstream = Upstream::start().await;
    let url = format!("http://127.0.0.1:{}/v1", upstream.port());
    let gateway = Gateway::start(&routes_to(&url, ", http: \"2\"")).await;
    gateway.post(CHAT, chat("m")).await.expect(200);
    let gate = Gate::new();
    upstream.otherwise(Reply::steps([Step::ReadBody, Step::Wait(gate.clone()), Step::EchoBody]));
    let gateway = std::sync::Arc::new(gateway);
    let mut requests = tokio::task::JoinSet::new();
    for count in 2..=21 {
        let gateway = gateway.clone();
        requests.spawn(async move { gateway.post(CHAT, chat("m")).await.expect(200) });
        // One after the other: those that begin together may each find the connection taken.
        eventually("the request at the upstream", || upstream.count() == count).await;
    }
    gate.open(20);
    requests.join_all().await;
    let connections = upstream.connections().accepted;
    assert!(connections <= 2, "{connections} connections for 20 requests at once");
}

#[tokio::test]
async fn a_provider_that_takes_few_streams_gets_more_connections() {
    let upstream = Upstream::start().await;
    upstream.streams_max(2);
    let url = format!("http://127.0.0.1:{}/v1", upstream.port());
    let gateway = Gateway::start(&routes_to(&url, ", http: \"2\"")).await;
    for _ in 0..3 {
        let requests = (0..12).map(|_| gateway.post(CHAT, chat("m")));
        for answer in futures::future::join_all(requests).await {
            answer.expect(200);
        }
    }
    assert_eq!(upstream.count(), 36);
}

#[tokio::test]
async fn a_kept_connection_that_dies_costs_no_request() {
    for last_words in [Reply::reset(), Reply::steps([Step::ReadBody, Step::Close])] {
        let world = World::start().await;
        world.upstream.script([Reply::ok(), last_words]);
        // The next request of a client finds the connection that the one before gave back.
        let mut client = world.gateway.connect().await;
        client.exchange(&Request::post(CHAT, chat("m"))).await.expect(200);
        client.exchange(&Request::post(CHAT, chat("m"))).await.expect(200);
        let connections: Vec<usize> = world.upstream.received().iter().map(|received| received.connection).collect();
        assert_eq!(connections, [0, 0, 1], "once more, on a fresh connection");
    }
}
