//! A running gateway: the real binary on free ports, with its own files, ended when dropped.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::client::{Client, Request, Response};
use super::{PATIENCE, eventually};

/// The key of tier `all`, which may call every model.
pub const KEY: &str = "sk-test-all-4fZk9bQ2";
/// The key of tier `free`, which may call `free-*` only.
pub const FREE_KEY: &str = "sk-test-free-8hTn3xW7";
/// A token of the admin API, of the role `own`.
pub const ADMIN_TOKEN: &str = "adm-test-own-5gRm8cK1";
/// The credential of every provider in these tests.
pub const PROVIDER_KEY: &str = "provider-secret-6jLp1vR5";

/// What a gateway is started with.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The whole routes.yaml.
    pub routes: String,
    /// More lines of forge.yaml, from the first column.
    pub conf: String,
    /// `text` or `json`; empty is text.
    pub log_format: String,
    /// Environment variables.
    pub env: Vec<(String, String)>,
}

/// A gateway process.
pub struct Gateway {
    /// Where clients connect.
    pub addr: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
    /// Where its files are.
    pub dir: TempDir,
    child: Child,
    output: Arc<Mutex<String>>,
}

/// A routes.yaml with these providers and models, and the tiers and keys of these tests.
pub fn routes(providers_and_models: &str) -> String {
    format!("version: 1\n{}\n{}", providers_and_models.trim_matches('\n'), keys())
}

/// The tiers and keys of these tests.
pub fn keys() -> String {
    format!(
        "tiers:\n  all: {{ models: [\"*\"] }}\n  free: {{ models: [\"free-*\"] }}\nkeys:\n  \
         - {{ name: tester, hash: \"{}\", tier: all }}\n  - {{ name: guest, hash: \"{}\", tier: free }}\n",
        hash(KEY),
        hash(FREE_KEY)
    )
}

/// How routes.yaml names a key.
pub fn hash(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

impl Gateway {
    /// Starts with these routes and the default settings.
    pub async fn start(routes: &str) -> Self {
        Self::start_with(Setup { routes: routes.to_owned(), ..Setup::default() }).await
    }

    /// Starts; panics with its output when it does not get ready.
    pub async fn start_with(setup: Setup) -> Self {
        for _ in 0..3 {
            let mut gateway = Self::spawn(&setup);
            if gateway.ready().await {
                return gateway;
            }
            let output = gateway.output();
            assert!(output.contains("in use") || output.contains("InUse"), "the gateway did not start:\n{output}");
        }
        panic!("no free ports");
    }

    fn spawn(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (addr, admin) = free_addrs();
        let format = if setup.log_format.is_empty() { "text" } else { &setup.log_format };
        let path = |name: &str| dir.path().join(name).display().to_string();
        let has = |key: &str| setup.conf.lines().any(|line| line.starts_with(key));
        let store = if has("store:") { String::new() } else { format!("store: sqlite:{}\n", path("forge.db")) };
        let usage = if has("usage:") { String::new() } else { format!("usage: {{ journal: {} }}\n", path("usage")) };
        let conf = format!(
            "listen: [\"{addr}\"]\nadmin:\n  listen: \"{admin}\"\n  tokens: [{{ name: tests, hash: \"{}\", role: own }}]\n\
             {store}{usage}threads: 2\nupgrade_sock: {}\npid_file: {}\nlog: {{ format: {format}, access: {} }}\n{}\n",
            hash(ADMIN_TOKEN),
            path("upgrade.sock"),
            path("forge.pid"),
            path("access.log"),
            setup.conf
        );
        std::fs::write(dir.path().join("forge.yaml"), conf).unwrap();
        std::fs::write(dir.path().join("routes.yaml"), &setup.routes).unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let mut command = command(dir.path());
        let child = launch(command.envs(setup.env.iter().cloned()), &output);
        Self { addr, admin, dir, child, output }
    }

    /// Starts a second process that takes the listeners over; returns the first, which drains.
    pub async fn upgrade(&mut self) -> Child {
        let successor = launch(command(self.dir.path()).arg("--upgrade"), &self.output);
        let socket = self.dir.path().join("upgrade.sock");
        eventually("the successor waits", || socket.exists()).await;
        self.signal("QUIT");
        std::mem::replace(&mut self.child, successor)
    }

    /// Starts again on the same files and addresses, after the process ended.
    pub fn restart(&mut self) {
        self.child = launch(&mut command(self.dir.path()), &self.output);
    }

    /// Ends the process at once, as a crash does.
    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again after a crash, and waits until it is ready.
    pub async fn recover(&mut self) {
        self.restart();
        assert!(self.ready().await, "the gateway did not start again:\n{}", self.output());
    }

    /// Waits for /readyz; false when the process ended instead.
    async fn ready(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.child.try_wait().unwrap().is_some() {
                std::thread::sleep(Duration::from_millis(50));
                return false;
            }
            if self.probe("/readyz").await == Some(200) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not ready in {PATIENCE:?}:\n{}", self.output());
    }

    /// The status of an admin path; `None` when nobody answers.
    pub async fn probe(&self, path: &str) -> Option<u16> {
        drop(tokio::net::TcpStream::connect(self.admin).await.ok()?);
        let mut client = Client::connect(self.admin).await;
        client.send(&self.admin_request(path).wire()).await.ok()?;
        client.read().await.ok().map(|response| response.status)
    }

    fn admin_request(&self, path: &str) -> Request {
        Request { host: self.admin.to_string(), ..Request::new("GET", path) }
    }

    /// Sends a request to the admin listener as it is.
    pub async fn admin_send(&self, request: Request) -> Response {
        let request = Request { host: self.admin.to_string(), ..request };
        Client::connect(self.admin).await.exchange(&request).await
    }

    /// A connection to the data plane.
    pub async fn connect(&self) -> Client {
        Client::connect(self.addr).await
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, request: &Request) -> Response {
        self.connect().await.exchange(request).await
    }

    /// Posts JSON with the usual key.
    pub async fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Response {
        self.send(&Request::post(target, body)).await
    }

    /// Gets with the usual key.
    pub async fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target)).await
    }

    /// Gets from the admin listener.
    pub async fn admin_get(&self, path: &str) -> Response {
        Client::connect(self.admin).await.exchange(&self.admin_request(path)).await
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        self.admin_get("/metrics").await.expect(200).text()
    }

    /// The sum of the samples of `name` whose labels hold every one of `labels`, e.g. `code="401"`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum_samples(&self.metrics().await, name, labels)
    }

    /// The routing file.
    pub fn routes_path(&self) -> PathBuf {
        self.dir.path().join("routes.yaml")
    }

    /// Everything on stdout and stderr so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// The access log so far.
    pub fn access_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default()
    }

    /// Waits for an access log line that holds `text` and returns it.
    pub async fn access_line(&self, text: &str) -> String {
        let find = || self.access_log().lines().find(|line| line.contains(text)).map(str::to_owned);
        eventually(&format!("an access line with {text:?}"), || find().is_some()).await;
        find().unwrap()
    }

    /// Sends a signal, e.g. `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -{name}");
    }

    /// Waits for the process to end; panics after `limit`.
    pub async fn exited_within(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < limit, "still running after {limit:?}:\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether the process still runs.
    pub fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- output of the gateway\n{}\n--- access log\n{}", self.output(), self.access_log());
        }
    }
}

/// The sum of the samples of `name` whose labels hold every one of `labels`.
pub fn sum_samples(page: &str, name: &str, labels: &[&str]) -> f64 {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    page.lines()
        .filter(of_name)
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// The binary on the files in `dir`.
fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forge"));
    // Relative paths of the settings, such as data/, are of the test.
    command.current_dir(dir);
    command.arg("run").arg("--conf").arg(dir.join("forge.yaml")).arg("--routes").arg(dir.join("routes.yaml"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn launch(command: &mut Command, output: &Arc<Mutex<String>>) -> Child {
    let mut child = command.spawn().expect("the forge binary");
    collect(child.stdout.take().unwrap(), output.clone());
    collect(child.stderr.take().unwrap(), output.clone());
    child
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    });
}

/// Two addresses that were free a moment ago; the caller starts again if somebody was quicker.
fn free_addrs() -> (SocketAddr, SocketAddr) {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (first, second) = (bind(), bind());
    (first.local_addr().unwrap(), second.local_addr().unwrap())
}
