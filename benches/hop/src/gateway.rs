//! The gateways compared: how each is configured and started. One process each, one data-plane thread each.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::case::{Case, MODEL, MODEL_UPSTREAM};
use crate::link::{Certificate, Link, NAME};
use crate::upstream::Mode;

/// Who stands between client and upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Gateway {
    /// Forge with a key of routes.yaml: key check, inspection, model rewrite both ways, metrics, access log to a file.
    Forge,
    /// The same with a key of its SQLite store, six limits, a price, and usage that goes through the journal.
    ForgeMetered,
    /// A Pingora proxy that only passes: the yardstick.
    Bare,
    /// The same with Forge's allocator.
    BareMimalloc,
    /// nginx, `proxy_pass` with keep-alive, one worker.
    Nginx,
}

/// The client's key; `KEY_HASH` is what routes.yaml holds of it.
pub const KEY: &str = "sk-bench-0123456789abcdef0123456789abcdef";
/// The SHA-256 of `KEY`.
pub const KEY_HASH: &str = "2b4144f5b595b3da66fe4bd987b404df624f7d9f1887207637052d56aae31244";

impl Gateway {
    /// Every one, in the order they take turns.
    pub const ALL: [Self; 5] = [Self::Forge, Self::ForgeMetered, Self::Bare, Self::BareMimalloc, Self::Nginx];

    /// As in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forge => "Forge",
            Self::ForgeMetered => "Forge, metered",
            Self::Bare => "bare Pingora",
            Self::BareMimalloc => "bare Pingora, mimalloc",
            Self::Nginx => "nginx",
        }
    }

    /// The model it asks the upstream for.
    pub fn model_upstream(self) -> &'static str {
        match self {
            Self::Forge | Self::ForgeMetered => MODEL_UPSTREAM,
            Self::Bare | Self::BareMimalloc | Self::Nginx => MODEL,
        }
    }

    /// The model its client reads in an answer.
    pub fn model_answered(self) -> &'static str {
        match self {
            Self::Forge | Self::ForgeMetered => MODEL,
            Self::Bare | Self::BareMimalloc | Self::Nginx => MODEL_UPSTREAM,
        }
    }

    /// Whether its program is there.
    pub fn is_installed(self, places: &Places) -> bool {
        match self {
            Self::Forge | Self::ForgeMetered | Self::Bare | Self::BareMimalloc => self.program(places).exists(),
            Self::Nginx => Command::new(nginx_program()).arg("-v").stderr(Stdio::null()).status().is_ok(),
        }
    }

    /// Whether it takes part in `case`.
    pub fn takes_part(self, case: &Case) -> bool {
        match self {
            Self::Forge | Self::Bare | Self::BareMimalloc => true,
            // What metering adds is the same everywhere: the cases that tell most will do.
            Self::ForgeMetered => case.quick && matches!(case.mode, Mode::Reply),
            // HTTP/2 to an upstream came with nginx 1.29.
            Self::Nginx => case.link != Link::Http2,
        }
    }

    /// Starts it in front of `upstream` and waits until it listens.
    pub fn start(self, places: &Places, spoken: (Link, &Certificate), upstream: SocketAddr) -> Result<Running> {
        let setting = Setting::new(places, spoken, upstream)?;
        let arguments = self.arguments(&setting)?;
        let key = match self {
            Self::ForgeMetered => stored_key(&setting)?,
            Self::Forge | Self::Bare | Self::BareMimalloc | Self::Nginx => KEY.to_owned(),
        };
        let mut running = Running::spawn(self, &setting, &arguments)?;
        running.key = key;
        Ok(running)
    }

    fn program(self, places: &Places) -> PathBuf {
        match self {
            Self::Forge | Self::ForgeMetered => places.bin.join("forge"),
            Self::Bare => places.bin.join("bare"),
            Self::BareMimalloc => places.bin.join("bare_mimalloc"),
            Self::Nginx => nginx_program(),
        }
    }

    fn arguments(self, setting: &Setting<'_>) -> Result<Vec<String>> {
        Ok(match self {
            Self::Forge => forge_arguments(setting, free_addr()?, (&forge_routes(setting, FREE), "store: none\n"))?,
            Self::ForgeMetered => {
                let store = format!("store: \"sqlite:{}/forge.db\"\n", setting.places.work.display());
                forge_arguments(setting, free_addr()?, (&forge_routes(setting, METERED), &store))?
            }
            Self::Bare | Self::BareMimalloc => bare_arguments(setting),
            Self::Nginx => vec!["-c".into(), setting.file("nginx.conf", &nginx_conf(setting))?],
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
    /// What clients authenticate with.
    pub key: String,
}

/// A key that is made in the store of the `forge.yaml` written last.
fn stored_key(setting: &Setting<'_>) -> Result<String> {
    let conf = setting.places.work.join("forge.yaml");
    let made = Command::new(setting.places.bin.join("forge"))
        .args(["key", "create", "--name", "bench", "--tier", "bench", "--json", "--conf"])
        .arg(conf)
        .output()?;
    let shown: serde_json::Value = serde_json::from_slice(&made.stdout)
        .with_context(|| format!("forge key create: {}", String::from_utf8_lossy(&made.stderr)))?;
    Ok(shown["secret"].as_str().context("forge key create shows no secret")?.to_owned())
}

/// Forge with routes of its own, and lines of its own in its forge.yaml; and where its admin pages are.
pub fn start_forge(setting: &Setting<'_>, routes: &str, conf: &str) -> Result<(Running, SocketAddr)> {
    let admin = free_addr()?;
    let arguments = forge_arguments(setting, admin, (routes, conf))?;
    Ok((Running::spawn(Gateway::Forge, setting, &arguments)?, admin))
}

impl Running {
    fn spawn(gateway: Gateway, setting: &Setting<'_>, arguments: &[String]) -> Result<Self> {
        let log = File::create(setting.places.work.join(format!("{gateway:?}.log")))?;
        let mut command = Command::new(gateway.program(setting.places));
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut running = Running { child: command.spawn()?, addr: setting.listen, key: KEY.to_owned() };
        running.wait_until_it_listens().with_context(|| format!("starting {}", gateway.name()))?;
        Ok(running)
    }

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

/// Between whom a gateway stands, and what is spoken there.
pub struct Setting<'a> {
    places: &'a Places,
    listen: SocketAddr,
    upstream: SocketAddr,
    link: Link,
    certificate: &'a Certificate,
}

impl<'a> Setting<'a> {
    /// In front of `upstream`, on a free port.
    pub fn new(places: &'a Places, spoken: (Link, &'a Certificate), upstream: SocketAddr) -> Result<Self> {
        Ok(Self { places, listen: free_addr()?, upstream, link: spoken.0, certificate: spoken.1 })
    }

    /// Writes a file of this name; returns its path.
    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.places.work.join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }
}

fn forge_arguments(setting: &Setting<'_>, admin: SocketAddr, files: (&str, &str)) -> Result<Vec<String>> {
    let (routes, more_conf) = files;
    let conf = setting.file("forge.yaml", &(forge_conf(setting, admin) + more_conf))?;
    let routes = setting.file("routes.yaml", routes)?;
    Ok(vec!["run".into(), "--conf".into(), conf, "--routes".into(), routes])
}

fn bare_arguments(setting: &Setting<'_>) -> Vec<String> {
    let Certificate { chain, key } = setting.certificate;
    let ends = [setting.listen.to_string(), setting.upstream.to_string()];
    let spoken = match setting.link {
        Link::Http1 => vec!["http1".to_owned()],
        Link::Http2 => vec!["http2".to_owned()],
        Link::Tls => vec!["tls".to_owned(), chain.display().to_string(), key.display().to_string()],
    };
    [ends.to_vec(), spoken].concat()
}

fn forge_conf(setting: &Setting<'_>, admin: SocketAddr) -> String {
    let (listen, work) = (setting.listen, setting.places.work.display());
    let Certificate { chain, key } = setting.certificate;
    let listen = match setting.link {
        Link::Http1 | Link::Http2 => format!("listen: [{listen}]\n"),
        Link::Tls => format!(
            "listen: []\ntls: {{ listen: [{listen}], certificate: {}, key: {} }}\n",
            chain.display(),
            key.display()
        ),
    };
    format!(
        "{listen}\
         admin: {{ listen: {admin} }}\n\
         threads: 1\n\
         routes: {work}/routes.yaml\n\
         log: {{ access: {work}/access.log }}\n\
         upgrade_sock: {work}/forge.sock\n\
         pid_file: {work}/forge.pid\n"
    )
}

/// What is asked of a model and a tier: nothing, or six limits that are never reached, and a price.
type Terms = (&'static str, &'static str);
const FREE: Terms = ("", "");
const METERED: Terms = (
    ", price: { input: 3.00, output: 15.00 }",
    ", rpm: 100M, rpd: 100M, tpm: 10000M, tpd: 10000M, concurrent: 100k, budget: 900000 USD/month",
);

fn forge_routes(setting: &Setting<'_>, (price, limits): Terms) -> String {
    let port = setting.upstream.port();
    let provider = match setting.link {
        Link::Http1 => format!("url: \"http://127.0.0.1:{port}/v1\""),
        Link::Http2 => format!("url: \"http://127.0.0.1:{port}/v1\", http: 2"),
        Link::Tls => format!(
            "url: \"https://127.0.0.1:{port}/v1\", http: 1, tls: {{ ca: {}, server_name: {NAME} }}",
            setting.certificate.chain.display()
        ),
    };
    format!(
        "version: 1\n\
         providers:\n  \
           upstream: {{ dialect: openai, {provider}, key: \"plain:sk-upstream\" }}\n\
         models:\n  \
           {MODEL}: {{ to: upstream/{MODEL_UPSTREAM}{price} }}\n\
         tiers:\n  \
           bench: {{ models: [\"*\"]{limits} }}\n\
         keys:\n  \
           - {{ name: bench, hash: \"sha256:{KEY_HASH}\", tier: bench }}\n"
    )
}

/// Bodies and streams pass unbuffered, as an LLM gateway has to pass them; connections are never retired.
fn nginx_conf(setting: &Setting<'_>) -> String {
    let Setting { listen, upstream, .. } = setting;
    let work = setting.places.work.display();
    let Certificate { chain, key } = setting.certificate;
    let (spoken, files, scheme) = match setting.link {
        Link::Http1 | Link::Http2 => ("", String::new(), "http"),
        Link::Tls => {
            (" ssl", format!("ssl_certificate {}; ssl_certificate_key {};", chain.display(), key.display()), "https")
        }
    };
    format!(
        "daemon off; master_process off; pid {work}/nginx.pid; error_log {work}/nginx-error.log;\n\
         worker_rlimit_nofile 16384; events {{ worker_connections 16384; }}\n\
         http {{\n  \
           access_log off; client_max_body_size 0; keepalive_requests 1000000000;\n  \
           client_body_temp_path {work}/nginx-body; proxy_temp_path {work}/nginx-proxy;\n  \
           upstream bench {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}\n  \
           server {{\n    \
             listen {listen}{spoken} backlog=8192; {files}\n    \
             location / {{\n      \
               proxy_pass {scheme}://bench; proxy_http_version 1.1; proxy_set_header Connection \"\";\n      \
               proxy_request_buffering off; proxy_buffering off;\n    \
             }}\n  \
           }}\n\
         }}\n"
    )
}
