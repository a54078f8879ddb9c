//! A real S3 server for one test: tests/s3/server.py.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// The server; it ends with this.
pub struct S3Server {
    process: Child,
    ask: ChildStdin,
    said: BufReader<ChildStdout>,
    known: Value,
}

impl S3Server {
    /// Starts with an empty bucket. Panics where moto is not installed.
    pub fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut process = Command::new(root.join("target/tools/bin/python"))
            .arg(root.join("tests/s3/server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("moto, which `scripts/setup.sh s3` installs");
        let ask = process.stdin.take().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        let mut server = Self { process, ask, said, known: Value::Null };
        server.known = server.answer();
        server
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("a line of JSON: `scripts/setup.sh s3` installs what the server needs")
    }

    /// Lines of forge.yaml that keep files here, below `prefix`; `more` keys of `files`.
    pub fn conf(&self, prefix: &str, more: &str) -> String {
        let known = |name: &str| self.known[name].as_str().unwrap();
        format!(
            "files: {{ at: \"s3://{}/{prefix}\", endpoint: \"{}\", region: us-east-1, access_key: \"plain:{}\", \
             secret_key: \"plain:{}\", {more} }}\n",
            known("bucket"),
            known("endpoint"),
            known("access_key"),
            known("secret_key")
        )
    }

    /// What the bucket holds: `objects` (name to encryption) and `uploads` (names).
    pub fn held(&mut self) -> Value {
        self.ask.write_all(b"held\n").unwrap();
        self.answer()
    }

    /// Ends it before its time.
    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
