//! The gateways compared: how each is configured and started. One process each, one data-plane thread each.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::case::{MODEL, MODEL_UPSTREAM};

/// Who stands between client and upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Gateway {
    /// Forge as shipped: key check, inspection, model rewrite both ways, metrics, access log to a file.
    Forge,
    /// A Pingora proxy that only passes: the yardstick.
    Bare,
    /// The same with Forge's allocator.
    BareMimalloc,
    /// nginx, `proxy_pass` with keep-alive, one worker.
    Nginx,
}

/// The client's key; `KEY_HASH` is what routes.yaml holds of it.
pub const KEY: &str = "sk-bench-0123456789abcdef0123456789abcdef";
const KEY_HASH: &str = "2b4144f5b595b3da66fe4bd987b404df624f7d9f1887207637052d56aae31244";

impl Gateway {
    /// Every one, in the order they take turns.
    pub const ALL: [Self; 4] = [Self::Forge, Self::Bare, Self::BareMimalloc, Self::Nginx];

    /// As in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forge => "Forge",
            Self::Bare => "bare Pingora",
            Self::BareMimalloc => "bare Pingora, mimalloc",
            Self::Nginx => "nginx",
        }
    }

    /// The model it asks the upstream for.
    pub fn model_upstream(self) -> &'static str {
        match self {
            Self::Forge => MODEL_UPSTREAM,
            Self::Bare | Self::BareMimalloc | Self::Nginx => MODEL,
        }
    }

    /// The model its client reads in an answer.
    pub fn model_answered(self) -> &'static str {
        match self {
            Self::Forge => MODEL,
            Self::Bare | Self::BareMimalloc | Self::Nginx => MODEL_UPSTREAM,
        }
    }

    /// Whether its program is there.
    pub fn is_installed(self, places: &Places) -> bool {
        match self {
            Self::Forge | Self::Bare | Self::BareMimalloc => self.program(places).exists(),
            Self::Nginx => Command::new(nginx_program()).arg("-v").stderr(Stdio::null()).status().is_ok(),
        }
    }

    /// Starts it in front of `upstream` and waits until it listens.
    pub fn start(self, places: &Places, upstream: SocketAddr) -> Result<Running> {
        let listen = free_addr()?;
        let log = File::create(places.work.join(format!("{self:?}.log")))?;
        let mut command = Command::new(self.program(places));
        command.args(self.arguments(places, listen, upstream)?);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut running = Running { child, addr: listen };
        running.wait_until_it_listens().with_context(|| format!("starting {}", self.name()))?;
        Ok(running)
    }

    fn program(self, places: &Places) -> PathBuf {
        match self {
            Self::Forge => places.bin.join("forge"),
            Self::Bare => places.bin.join("bare"),
            Self::BareMimalloc => places.bin.join("bare_mimalloc"),
            Self::Nginx => nginx_program(),
        }
    }

    fn arguments(self, places: &Places, listen: SocketAddr, upstream: SocketAddr) -> Result<Vec<String>> {
        let file = |name: &str, text: String| -> Result<String> {
            let path = places.work.join(name);
            fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        Ok(match self {
            Self::Forge => {
                let conf = file("forge.yaml", forge_conf(&places.work, listen)?)?;
                let routes = file("routes.yaml", forge_routes(upstream))?;
                vec!["run".into(), "--conf".into(), conf, "--routes".into(), routes]
            }
            Self::Bare | Self::BareMimalloc => vec![listen.to_string(), upstream.to_string()],
            Self::Nginx => vec!["-c".into(), file("nginx.conf", nginx_conf(&places.work, listen, upstream))?],
        })
    }
}

/// Where things are.
pub struct Places {
    /// The built programs.
    pub bin: PathBuf,
    /// Configurations, logs and reports.
    pub work: PathBuf,
}

/// A started gateway; dropping it ends the process.
pub struct Running {
    child: Child,
    /// Where clients connect.
    pub addr: SocketAddr,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.addr).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}; its log says why");
            }
            if Instant::now() > deadline {
                bail!("it does not listen on {}", self.addr);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Free at this moment; nobody else is expected to take it before the gateway does.
fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Debian installs nginx outside of an ordinary user's PATH.
fn nginx_program() -> PathBuf {
    let installed = Path::new("/usr/sbin/nginx");
    if installed.exists() { installed.into() } else { "nginx".into() }
}

fn forge_conf(work: &Path, listen: SocketAddr) -> Result<String> {
    let admin = free_addr()?;
    let work = work.display();
    Ok(format!(
        "listen: [{listen}]\n\
         admin: {{ listen: {admin} }}\n\
         threads: 1\n\
         log: {{ access: {work}/access.log }}\n\
         upgrade_sock: {work}/forge.sock\n\
         pid_file: {work}/forge.pid\n"
    ))
}

fn forge_routes(upstream: SocketAddr) -> String {
    format!(
        "version: 1\n\
         providers:\n  \
           upstream: {{ dialect: openai, url: \"http://{upstream}/v1\", key: \"plain:sk-upstream\" }}\n\
         models:\n  \
           {MODEL}: upstream/{MODEL_UPSTREAM}\n\
         tiers:\n  \
           bench: {{ models: [\"*\"] }}\n\
         keys:\n  \
           - {{ name: bench, hash: \"sha256:{KEY_HASH}\", tier: bench }}\n"
    )
}

/// Bodies and streams pass unbuffered, as an LLM gateway has to pass them; connections are never retired.
fn nginx_conf(work: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    let work = work.display();
    format!(
        "daemon off; master_process off; pid {work}/nginx.pid; error_log {work}/nginx-error.log;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n  \
           access_log off; client_max_body_size 0; keepalive_requests 1000000000;\n  \
           client_body_temp_path {work}/nginx-body; proxy_temp_path {work}/nginx-proxy;\n  \
           upstream bench {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}\n  \
           server {{\n    \
             listen {listen} backlog=4096;\n    \
             location / {{\n      \
               proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection \"\";\n      \
               proxy_request_buffering off; proxy_buffering off;\n    \
             }}\n  \
           }}\n\
         }}\n"
    )
}
