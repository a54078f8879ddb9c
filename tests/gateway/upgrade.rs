//! New programs at noon: listeners handed over under load, a crash and a restart, and what must not happen by slip.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::client::{Client, Reading, Request};
use crate::support::client_h2::H2Connection;
use crate::support::gateway::Gateway;
use crate::support::upstream::{Gate, Reply, Step};
use crate::support::{PATIENCE, eventually};
use crate::world::{CHAT, World, chat, chat_stream};

const UPGRADES: usize = 10;
const STREAMS: usize = 200;

/// Clients that ask without a pause, each in its own way.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(addr: SocketAddr) -> Self {
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = Vec::new();
        for _ in 0..3 {
            tasks.push(tokio::spawn(keep_asking(addr, stop.clone(), asked.clone())));
        }
        tasks.push(tokio::spawn(ask_anew(addr, stop.clone(), asked.clone())));
        tasks.push(tokio::spawn(ask_by_h2(addr, stop.clone(), asked.clone())));
        Self { stop, asked, tasks }
    }

    /// Ends it; panics if a request failed. How many there were.
    async fn end(self) -> usize {
        self.stop.store(true, Relaxed);
        for task in self.tasks {
            task.await.expect("no request fails");
        }
        self.asked.load(Relaxed)
    }
}

/// On a connection that is kept until the gateway says that it closes it.
async fn keep_asking(addr: SocketAddr, stop: Arc<AtomicBool>, asked: Arc<AtomicUsize>) {
    let mut client = Client::connect(addr).await;
    while !stop.load(Relaxed) {
        let answer = client.exchange(&Request::post(CHAT, chat("m"))).await.expect(200);
        asked.fetch_add(1, Relaxed);
        if answer.header("connection") == Some("close") {
            client = Client::connect(addr).await;
        }
        // Idle for a moment, as clients are: that is when a connection is closed under them.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// On a connection of its own each time.
async fn ask_anew(addr: SocketAddr, stop: Arc<AtomicBool>, asked: Arc<AtomicUsize>) {
    while !stop.load(Relaxed) {
        Client::connect(addr).await.exchange(&Request::post(CHAT, chat("m"))).await.expect(200);
        asked.fetch_add(1, Relaxed);
    }
}

/// On an HTTP/2 connection that is kept until the gateway goes away; what GOAWAY leaves out was not begun.
async fn ask_by_h2(addr: SocketAddr, stop: Arc<AtomicBool>, asked: Arc<AtomicUsize>) {
    let mut connection = H2Connection::open(addr).await.unwrap();
    while !stop.load(Relaxed) {
        match connection.exchange(&Request::post(CHAT, chat("m"))).await {
            Ok(answer) => {
                answer.expect(200);
                asked.fetch_add(1, Relaxed);
            }
            Err(error) => {
                assert!(error.is_go_away(), "{error}");
                connection = H2Connection::open(addr).await.unwrap();
            }
        }
    }
}

/// Streams that send an event for each gate that opens, then end.
struct Streams {
    gates: Vec<Gate>,
    open: Vec<(Client, Reading)>,
}

impl Streams {
    async fn open(world: &World) -> Self {
        let gates: Vec<Gate> = (0..=UPGRADES).map(|_| Gate::new()).collect();
        let mut reply = Reply::sse_head().then(Step::Data("data: begin\n\n".into()));
        for (round, gate) in gates.iter().enumerate() {
            reply.steps.extend([Step::Wait(gate.clone()), Step::Data(format!("data: <{round}>\n\n").into())]);
        }
        reply.steps.push(Step::End);
        world.upstream.script(std::iter::repeat_n(reply, STREAMS));
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let mut client = world.gateway.connect().await;
            client.send(&Request::post(CHAT, chat_stream("m")).wire()).await.unwrap();
            let mut reading = client.read_head().await.unwrap();
            client.read_until(&mut reading, "data: begin").await;
            open.push((client, reading));
        }
        Self { gates, open }
    }

    /// Every stream sends the event of this round, and every client gets it.
    async fn round(&mut self, round: usize) {
        self.gates[round].open(STREAMS);
        for (client, reading) in &mut self.open {
            client.read_until(reading, &format!("data: <{round}>\n\n")).await;
        }
    }

    async fn end(mut self) {
        for (client, reading) in &mut self.open {
            let (rest, end) = client.rest(reading).await;
            assert!(rest.is_empty() && end.is_ok(), "{end:?}");
        }
    }
}

async fn ready(gateway: &Gateway) {
    let start = Instant::now();
    while gateway.probe("/readyz").await != Some(200) {
        assert!(start.elapsed() < PATIENCE, "not ready:\n{}", gateway.output());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn pid_file(gateway: &Gateway) -> u32 {
    let text = std::fs::read_to_string(gateway.dir.path().join("forge.pid")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[tokio::test]
async fn ten_upgrades_in_a_row_lose_no_request_and_no_event() {
    let mut world = World::with_conf("grace: 120s\n").await;
    let mut streams = Streams::open(&world).await;
    let load = Load::start(world.gateway.addr);
    let mut old = Vec::new();
    for round in 0..UPGRADES {
        old.push(world.gateway.upgrade().await);
        let pid = world.gateway.pid();
        eventually("the successor's pid file", || pid_file(&world.gateway) == pid).await;
        ready(&world.gateway).await;
        streams.round(round).await;
    }
    streams.round(UPGRADES).await;
    streams.end().await;
    let asked = load.end().await;
    assert!(asked > 500, "only {asked} requests ran");
    assert_eq!(world.gateway.metric("forge_took_over", &[]).await, 1.0);
    for (number, process) in old.iter_mut().enumerate() {
        eventually(&format!("process {number} leaves"), || process.try_wait().unwrap().is_some()).await;
        assert!(process.try_wait().unwrap().unwrap().success());
    }
    assert!(!world.gateway.output().contains("panicked"), "{}", world.gateway.output());
    world.gateway.post(CHAT, chat("m")).await.expect(200);
}

/// Ends the process that a test did not start itself.
struct Successor(u32);

impl Successor {
    fn signal(&self, name: &str) -> bool {
        Command::new("kill").args([&format!("-{name}"), &self.0.to_string()]).status().unwrap().success()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

#[tokio::test]
async fn usr2_starts_a_successor_that_takes_over() {
    let mut world = World::with_conf("grace: 20s\n").await;
    let load = Load::start(world.gateway.addr);
    let old = world.gateway.pid();
    assert_eq!(pid_file(&world.gateway), old);
    world.gateway.signal("USR2");
    eventually("another pid", || ![0, old].contains(&pid_file(&world.gateway))).await;
    let successor = Successor(pid_file(&world.gateway));
    ready(&world.gateway).await;
    world.gateway.exited_within(Duration::from_secs(20)).await;
    assert!(load.end().await > 50);
    assert_eq!(world.gateway.metric("forge_took_over", &[]).await, 1.0);
    assert_eq!(pid_file(&world.gateway), successor.0, "the one that left did not remove it");
    assert!(successor.signal("TERM"));
    eventually("it leaves", || pid_file(&world.gateway) == 0).await;
}

#[tokio::test]
async fn a_successor_that_cannot_start_changes_nothing() {
    let mut world = World::start().await;
    let path = world.gateway.dir.path().join("forge.yaml");
    let sound = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, "listne: 1\n").unwrap();
    world.gateway.signal("USR2");
    eventually("it says so", || world.gateway.output().contains("goes on serving: the successor ended")).await;
    std::fs::write(&path, sound).unwrap();
    // And nobody there at all. Asked twice, since it must not be taken for a first step.
    world.gateway.signal("QUIT");
    world.gateway.signal("QUIT");
    eventually("it says so", || world.gateway.output().contains("goes on serving: no process started")).await;
    assert!(world.gateway.running());
    assert_eq!(world.gateway.probe("/readyz").await, Some(200));
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    let mut old = world.gateway.upgrade().await;
    ready(&world.gateway).await;
    eventually("the old process leaves", || old.try_wait().unwrap().is_some()).await;
    world.gateway.post(CHAT, chat("m")).await.expect(200);
}

#[tokio::test]
async fn after_kill_9_a_restart_serves_within_a_second() {
    let mut world = World::start().await;
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    world.gateway.signal("KILL");
    world.gateway.exited_within(Duration::from_secs(5)).await;
    let start = Instant::now();
    world.gateway.restart();
    ready(&world.gateway).await;
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(pid_file(&world.gateway), world.gateway.pid());
}
