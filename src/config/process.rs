//! `conf/forge.yaml`: the process. Read once at start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that needs a restart to change. Every field has a default, so the file may be absent.
#[derive(Debug, Clone)]
pub struct ProcessConf {
    /// `listen`: where clients connect (HTTP/1.1 and h2c). Default `[0.0.0.0:8080]`.
    pub listen: Vec<SocketAddr>,
    /// `admin.listen`: metrics and health. Default `127.0.0.1:9090`.
    pub admin_listen: SocketAddr,
    /// `threads`: workers of the data plane. Default: one per core.
    pub threads: usize,
    /// `routes`: the routing file. Default `routes.yaml`.
    pub routes: PathBuf,
    /// `grace`: how long open streams may go on after SIGTERM. Default 5 min.
    pub grace: Duration,
    /// `upgrade_sock`: the socket that hands listeners to a new process. Default `/tmp/forge_upgrade.sock`.
    pub upgrade_sock: PathBuf,
    /// `pid_file`. Default `/tmp/forge.pid`.
    pub pid_file: PathBuf,
    /// `log.format`: text or JSON. Default text.
    pub log_format: LogFormat,
    /// `log.access`: a file for the access log; default stderr, with everything else.
    pub access_log: Option<PathBuf>,
    /// `limits.*`: bounds on what is held.
    pub bounds: Bounds,
    /// `upstream.*`: the connection pool.
    pub upstream: UpstreamConf,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `key=value` pairs.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Bounds on what is held; every one has an answer when it is reached.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// `body_bytes_max`: narrows every endpoint's own limit. Default 200 MiB. Answer: 413.
    pub body_bytes_max: u64,
    /// `body_memory_bytes_max`: of one body held in memory; the rest is spilled. Default 1 MiB.
    pub body_memory_bytes_max: u64,
    /// `replay_bytes_max`: a body larger than this is sent once only. Default 64 MiB.
    pub replay_bytes_max: u64,
    /// `buffered_bytes_max`: of all bodies in memory together. Default 256 MiB. Answer: 503.
    pub buffered_bytes_max: u64,
    /// `spilled_bytes_max`: of all bodies on disk together. Default 4 GiB. Answer: 503.
    pub spilled_bytes_max: u64,
    /// `spill_dir`: where bodies are spilled. Default the system's temporary directory.
    pub spill_dir: PathBuf,
    /// `body_stall`: longest wait for the next bytes of a body. Default 15 s. Answer: 408.
    pub body_stall: Duration,
}

/// The upstream connection pool.
#[derive(Debug, Clone)]
pub struct UpstreamConf {
    /// `upstream.keepalive`: idle connections kept per thread. Default 128.
    pub keepalive: usize,
    /// `upstream.idle`: how long an idle connection is kept. Default 60 s.
    pub idle: Duration,
    /// `upstream.dns_ttl_max`: the longest an answer is believed. Default 60 s.
    pub dns_ttl_max: Duration,
}

impl Default for ProcessConf {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 8080))],
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            routes: PathBuf::from("routes.yaml"),
            grace: Duration::from_secs(300),
            upgrade_sock: PathBuf::from("/tmp/forge_upgrade.sock"),
            pid_file: PathBuf::from("/tmp/forge.pid"),
            log_format: LogFormat::Text,
            access_log: None,
            bounds: Bounds::default(),
            upstream: UpstreamConf::default(),
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            body_bytes_max: 200 << 20,
            body_memory_bytes_max: 1 << 20,
            replay_bytes_max: 64 << 20,
            buffered_bytes_max: 256 << 20,
            spilled_bytes_max: 4 << 30,
            spill_dir: std::env::temp_dir(),
            body_stall: Duration::from_secs(15),
        }
    }
}

impl Default for UpstreamConf {
    fn default() -> Self {
        Self { keepalive: 128, idle: Duration::from_secs(60), dns_ttl_max: Duration::from_secs(60) }
    }
}
