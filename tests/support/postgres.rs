//! A Postgres server of a test's own: in a temporary folder, on loopback, gone with the test.
//!
//! A machine without Postgres fails the test and is told what to install: both stores pass one suite, or none does.

#![allow(dead_code, reason = "a test binary uses what it needs")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where Debian keeps the programs, besides `PATH`.
const FOLDERS: &str = "/usr/lib/postgresql";
/// Who runs the server when the test is run by root, whom it refuses.
const ACCOUNT: &str = "postgres";
/// Runs a program until standard input ends, which it does with this process, however that ends.
const UNTIL_INPUT_ENDS: &str = r#"exec 3<&0; "$@" & pid=$!; read -r line <&3; kill -INT $pid; wait $pid"#;

/// A server.
pub struct Server {
    folder: TempDir,
    port: u16,
    running: Option<Child>,
}

impl Server {
    /// Starts one; panics where there is no Postgres.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        if is_root() {
            run(Command::new("chown").arg(ACCOUNT).arg(folder.path()));
        }
        run(as_account(&program("initdb"))
            .args(["--auth=trust", "--username=forge", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .current_dir(folder.path()));
        let mut server = Self { folder, port: free_port(), running: None };
        server.resume().await;
        server
    }

    /// Starts it again on its port, with what it held.
    pub async fn resume(&mut self) {
        let mut server = as_account(&program("postgres"));
        server.arg("-D").arg(self.folder.path().join("data"));
        server.arg("-k").arg(self.folder.path()).args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        for setting in ["fsync=off", "shared_buffers=16MB", "max_connections=200"] {
            server.args(["-c", setting]);
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", UNTIL_INPUT_ENDS, "sh"]).arg(server.get_program()).args(server.get_args());
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        shell.current_dir(self.folder.path()).stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        self.running = Some(shell.spawn().unwrap());
        let start = Instant::now();
        while PgConnection::connect(&self.url("postgres")).await.is_err() {
            assert!(start.elapsed() < PATIENCE, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it; what it held stays.
    pub fn stop(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        drop(child.stdin.take());
        let _ = child.wait();
    }

    /// A new, empty database: its URL.
    pub async fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(create).await.unwrap();
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://forge@127.0.0.1:{}/{database}", self.port)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A new database on the server that the tests of this process share; it ends with the process.
pub async fn shared_database() -> String {
    static SHARED: OnceCell<Server> = OnceCell::const_new();
    SHARED.get_or_init(Server::start).await.database().await
}

fn as_account(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups"]).arg(program);
    command
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir(FOLDERS).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin").join(name)).collect();
    found.retain(|path| path.is_file());
    found.sort();
    found.pop().or_else(|| on_path(name)).unwrap_or_else(|| {
        panic!("no '{name}': the stores' tests need Postgres; `scripts/setup.sh databases` installs it")
    })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let output = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", name]).output().unwrap();
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
