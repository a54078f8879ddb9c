use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::{self, Surroundings};

struct Running {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    _stop: watch::Sender<bool>,
}

async fn running() -> Running {
    running_where(true).await
}

async fn running_where(pages_are_open: bool) -> Running {
    let routes = "version: 1\n\
        providers:\n  up: { dialect: openai, url: 'http://10.0.0.7:8000/v1', key: 'plain:SECRET-KEY', headers: { x-team: SECRET-HEADER } }\n\
        models:\n  m: up/upstream-m\n  'gpt-*': up\n\
        rules:\n  - { when: 'stream', use: m }\n\
        tiers:\n  all: ['*']\n\
        keys:\n  - { name: k, hash: 'sha256:0000000000000000000000000000000000000000000000000000000000000000', tier: all }\n";
    let loaded = config::check(routes, "routes.yaml", &Surroundings::offline()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (phase, stop) = (watch::Sender::new(Phase::Starting), watch::Sender::new(false));
    let outcome = Err(config::check("version: 2", "routes.yaml", &Surroundings::offline()).unwrap_err());
    let status = Arc::new(ReloadStatus { generation: 1, tried_unix: 7, outcome, taken: 1, refused: 1 });
    let admin = Admin {
        live: Arc::new(config::Live::new(loaded.snapshot)),
        phase: phase.subscribe(),
        reload: Arc::new(move || Arc::clone(&status)),
        hosts: Arc::new(Hosts::new(&["forge.internal".into()])),
        api: Arc::default(),
        credentials: Arc::new(Credentials::new(Vec::new(), None)),
        pages_are_open,
    };
    tokio::spawn(serve(listener, admin, stop.subscribe()));
    Running { address, phase, _stop: stop }
}

/// The status and the whole answer to a raw request.
async fn ask(address: SocketAddr, start: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{start} HTTP/1.1\r\n{headers}connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

#[tokio::test]
async fn readiness_follows_the_phase_and_health_does_not() {
    let running = running().await;
    let host = "host: 127.0.0.1\r\n";
    for (phase, status) in [(Phase::Starting, 503), (Phase::Serving, 200), (Phase::Draining, 503)] {
        running.phase.send_replace(phase);
        assert_eq!(ask(running.address, "GET /readyz", host).await.0, status, "{phase:?}");
        assert_eq!(ask(running.address, "GET /healthz", host).await.0, 200, "{phase:?}");
    }
}

#[tokio::test]
async fn routes_are_shown_without_secrets() {
    let running = running().await;
    let (status, answer) = ask(running.address, "GET /routes", "host: localhost\r\n").await;
    assert_eq!(status, 200);
    assert!(!answer.contains("SECRET"), "{answer}");
    let view: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(view["providers"][0]["urls"][0], "http://10.0.0.7:8000/v1");
    assert_eq!(view["providers"][0]["keys"], 1);
    assert_eq!(view["providers"][0]["header_names"][0], "x-team");
    assert_eq!(view["models"][0]["to"][0]["model"], "upstream-m");
    assert_eq!(view["models"][1]["name"], "gpt-*");
    assert_eq!(view["rules"][0]["use"], "m");
    assert_eq!(view["tiers"][0]["models"][0], "*");
    assert_eq!((&view["keys"], &view["last_reload"]["ok"]), (&1.into(), &false.into()));
    assert!(view["last_reload"]["faults"][0].as_str().unwrap().contains("version"), "{view}");
}

#[tokio::test]
async fn beyond_loopback_only_health_is_open() {
    let running = running_where(false).await;
    for (path, status) in [("/metrics", 401), ("/routes", 401), ("/healthz", 200), ("/readyz", 503), ("/none", 404)] {
        assert_eq!(ask(running.address, &format!("GET {path}"), "host: localhost\r\n").await.0, status, "{path}");
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let running = running().await;
    let (status, answer) = ask(running.address, "GET /metrics", "host: [::1]:9090\r\n").await;
    assert_eq!(status, 200);
    assert!(answer.contains("content-type: text/plain; version=0.0.4") && answer.contains("\nforge_build_info{"));
}

#[tokio::test]
async fn foreign_hosts_origins_and_methods_are_refused() {
    let running = running().await;
    let cases = [
        ("GET /healthz", "host: forge.internal:9090\r\n", 200),
        ("GET /healthz", "host: evil.example\r\n", 421),
        ("GET /healthz", "", 421),
        ("GET /healthz", "host: localhost\r\nhost: localhost\r\n", 421),
        ("GET http://evil.example/healthz", "host: localhost\r\n", 421),
        ("GET /healthz", "host: localhost:1\r\norigin: http://localhost:1\r\n", 200),
        ("GET /healthz", "host: localhost:1\r\norigin: http://localhost:2\r\n", 403),
        ("GET /healthz", "host: localhost\r\norigin: null\r\n", 403),
        ("HEAD /metrics", "host: localhost\r\n", 200),
        ("POST /routes", "host: localhost\r\ncontent-length: 0\r\n", 405),
        ("DELETE /nothing", "host: localhost\r\n", 405),
        ("GET /nothing", "host: localhost\r\n", 404),
    ];
    for (start, headers, expected) in cases {
        let (status, answer) = ask(running.address, start, headers).await;
        assert_eq!(status, expected, "{start} {headers:?}\n{answer}");
        if !answer.contains("400 Bad Request") {
            assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
            assert!(answer.contains("cache-control: no-store"), "{answer}");
        }
    }
}
