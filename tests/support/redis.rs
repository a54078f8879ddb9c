//! A Redis of the tests' own: on a socket in a directory of its own, gone with its value.

#![allow(dead_code, reason = "a test binary uses what it needs")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A server; ended when this is dropped.
pub struct Redis {
    dir: TempDir,
    child: Child,
}

impl Redis {
    /// Starts Debian's server; `make test` installs it, and its absence fails the test.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = launch(&dir);
        let redis = Self { dir, child };
        redis.ready();
        redis
    }

    /// Where it is, as forge.yaml says it.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("redis.sock")
    }

    fn ready(&self) {
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "redis-server did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it in the middle of whatever it does: connections stay open, nothing answers.
    pub fn hang(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// Ends it at once and starts another, which knows nothing.
    pub fn replace(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(self.socket());
        self.child = launch(&self.dir);
        self.ready();
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }
}

fn launch(dir: &TempDir) -> Child {
    let path = |name: &str| dir.path().join(name).display().to_string();
    Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", &path("redis.sock"), "--dir", &path("."), "--logfile", &path("log")])
        .args(["--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server: scripts/setup.sh databases installs it")
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
