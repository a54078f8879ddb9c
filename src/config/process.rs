//! `conf/forge.yaml`: the process. Read once at start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::admin::{AdminConf, ApplyConf};
use super::amount;
use super::clients::ClientConf;
use super::finding::Faults;
use super::limits::LimitsConf;
use super::load::text_of;
use super::place::{Place, Report};
use super::secret::{Secrets, read_regular};
use super::shape::PROCESS;
use super::storage::FilesConf;
use super::store::StoreConf;
use super::tls::TlsConf;
use super::{Surroundings, tree};

/// Everything that needs a restart to change. Every field has a default, so the file may be absent.
#[derive(Debug, Clone)]
pub struct ProcessConf {
    /// `listen`: where clients connect (HTTP/1.1 and h2c). Default `[0.0.0.0:8080]`; may be empty beside `tls`.
    pub listen: Vec<SocketAddr>,
    /// `tls.*`: listeners with TLS. Default none.
    pub tls: Option<TlsConf>,
    /// `admin.*`: the operator's listener.
    pub admin: AdminConf,
    /// `apply.*`: applications for keys. Default: none are taken.
    pub apply: Option<ApplyConf>,
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
    /// `bounds.*`: bounds on what is held.
    pub bounds: Bounds,
    /// `bounds.*`: bounds on clients.
    pub clients: ClientConf,
    /// `upstream.*`: the connection pool.
    pub upstream: UpstreamConf,
    /// `store`: the database. Default `sqlite:data/forge.db`.
    pub store: StoreConf,
    /// `limits`: who counts what limits limit. Default `memory`.
    pub limits: LimitsConf,
    /// `usage.*`: usage on its way to the store.
    pub usage: UsageConf,
    /// `files.*`: where uploaded files are kept.
    pub files: FilesConf,
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

/// Usage on its way to the store.
#[derive(Debug, Clone)]
pub struct UsageConf {
    /// `usage.journal`: the folder of the journal. Default `data/usage`.
    pub journal: PathBuf,
    /// `usage.journal_bytes_max`: its largest size; what comes then is lost, counted and logged. Default 1 GiB,
    /// which is some five million requests.
    pub journal_bytes_max: u64,
}

impl Default for UsageConf {
    fn default() -> Self {
        Self { journal: PathBuf::from("data/usage"), journal_bytes_max: 1 << 30 }
    }
}

impl ProcessConf {
    /// Reads the file at `path`; every fault of it at once.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let name = path.display().to_string();
        Self::parse(&text_of(read_regular(path), &name)?, &name)
    }

    /// Reads the text of a conf/forge.yaml; `name` is what messages call it.
    pub fn parse(text: &str, name: &str) -> Result<Self, Faults> {
        let faults = |list| Faults { file: name.to_owned(), list };
        let root = tree::parse(text).map_err(faults)?;
        let report = Report::default();
        let place = Place::root(&root, &report);
        PROCESS.check(&place);
        let around = Surroundings::offline();
        let conf = Self::read(&place, &Secrets::new(&around));
        let (list, _) = report.finish();
        if list.is_empty() { Ok(conf) } else { Err(faults(list)) }
    }

    fn read(root: &Place<'_>, secrets: &Secrets<'_>) -> Self {
        let default = Self::default();
        let tls = root.get("tls");
        let listen = root.get("listen").inspect(|place| {
            if place.items().is_empty() && tls.is_none() {
                place.fault("an empty list: nobody could connect");
            }
        });
        let threads = root.read("threads", amount::count).and_then(|threads| usize::try_from(threads).ok());
        let log = root.get("log");
        Self {
            listen: listen.map_or(default.listen, |place| addresses(&place)),
            tls: tls.and_then(|tls| TlsConf::read(&tls)),
            admin: root.get("admin").map_or(default.admin, |admin| AdminConf::read(&admin)),
            apply: root.get("apply").and_then(|apply| {
                if root.read("store", |store| (store == "none").then_some(())).is_some() {
                    apply.fault("applications are kept in the store, and 'store' is none");
                }
                ApplyConf::read(&apply)
            }),
            threads: threads.unwrap_or(default.threads),
            routes: root.read("routes", path).unwrap_or(default.routes),
            grace: root.read("grace", amount::duration).unwrap_or(default.grace),
            upgrade_sock: root.read("upgrade_sock", path).unwrap_or(default.upgrade_sock),
            pid_file: root.read("pid_file", path).unwrap_or(default.pid_file),
            log_format: log.as_ref().and_then(|log| log.read("format", log_format)).unwrap_or(default.log_format),
            access_log: log.as_ref().and_then(|log| log.read("access", path)),
            bounds: root.get("bounds").map_or(default.bounds, |bounds| Bounds::read(&bounds)),
            clients: root.get("bounds").map_or(default.clients, |bounds| ClientConf::read(&bounds)),
            upstream: root.get("upstream").map_or(default.upstream, |upstream| UpstreamConf::read(&upstream)),
            store: root.get("store").and_then(|store| StoreConf::read(&store, secrets)).unwrap_or(default.store),
            limits: root.get("limits").and_then(|limits| LimitsConf::read(&limits, secrets)).unwrap_or_default(),
            usage: root.get("usage").map_or(default.usage, |usage| UsageConf::read(&usage)),
            files: root.get("files").map_or(default.files, |files| FilesConf::read(&files, secrets)),
        }
    }
}

impl Bounds {
    fn read(bounds: &Place<'_>) -> Self {
        let default = Self::default();
        let bytes = |name: &str, default: u64| bounds.read(name, amount::bytes).unwrap_or(default);
        Self {
            body_bytes_max: bytes("body_bytes_max", default.body_bytes_max),
            body_memory_bytes_max: bytes("body_memory_bytes_max", default.body_memory_bytes_max),
            replay_bytes_max: bytes("replay_bytes_max", default.replay_bytes_max),
            buffered_bytes_max: bytes("buffered_bytes_max", default.buffered_bytes_max),
            spilled_bytes_max: bytes("spilled_bytes_max", default.spilled_bytes_max),
            spill_dir: bounds.read("spill_dir", path).unwrap_or(default.spill_dir),
            body_stall: bounds.read("body_stall", amount::duration).unwrap_or(default.body_stall),
        }
    }
}

impl UsageConf {
    fn read(usage: &Place<'_>) -> Self {
        let default = Self::default();
        Self {
            journal: usage.read("journal", path).unwrap_or(default.journal),
            journal_bytes_max: usage.read("journal_bytes_max", amount::bytes).unwrap_or(default.journal_bytes_max),
        }
    }
}

impl UpstreamConf {
    fn read(upstream: &Place<'_>) -> Self {
        let default = Self::default();
        let keepalive = upstream.read("keepalive", amount::count).and_then(|count| usize::try_from(count).ok());
        Self {
            keepalive: keepalive.unwrap_or(default.keepalive),
            idle: upstream.read("idle", amount::duration).unwrap_or(default.idle),
            dns_ttl_max: upstream.read("dns_ttl_max", amount::duration).unwrap_or(default.dns_ttl_max),
        }
    }
}

fn addresses(place: &Place<'_>) -> Vec<SocketAddr> {
    place.items().iter().filter_map(|item| item.text()?.parse().ok()).collect()
}

fn path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text))
}

fn log_format(text: &str) -> Option<LogFormat> {
    match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

impl Default for ProcessConf {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 8080))],
            tls: None,
            admin: AdminConf::default(),
            apply: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            routes: PathBuf::from("routes.yaml"),
            grace: Duration::from_secs(300),
            upgrade_sock: PathBuf::from("/tmp/forge_upgrade.sock"),
            pid_file: PathBuf::from("/tmp/forge.pid"),
            log_format: LogFormat::Text,
            access_log: None,
            bounds: Bounds::default(),
            clients: ClientConf::default(),
            upstream: UpstreamConf::default(),
            store: StoreConf::default(),
            limits: LimitsConf::default(),
            usage: UsageConf::default(),
            files: FilesConf::default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../conf/forge.yaml");

    /// The shipped file with its commented keys switched on.
    fn switched_on() -> String {
        let is_key = |rest: &&str| !rest.starts_with(' ') || rest.starts_with("  ");
        let on = |line: &str| line.strip_prefix('#').filter(is_key).unwrap_or(line).to_owned();
        let on = SHIPPED.lines().map(on).collect::<Vec<_>>().join("\n");
        // A bucket's keys need a bucket, and what a reference leads to is not here.
        let on = on.replace("at: data/files", "at: s3://bucket/prefix");
        on.replace(": env:", ": plain:").replace(": file:", ": plain:")
    }

    #[test]
    fn the_shipped_file_shows_every_key_with_its_default() {
        let mut default = ProcessConf::default();
        let shipped = ProcessConf::parse(SHIPPED, "forge.yaml").unwrap();
        assert_eq!(format!("{shipped:?}"), format!("{default:?}"));
        let all = ProcessConf::parse(&switched_on(), "forge.yaml").unwrap();
        // These have no fixed default; the file shows examples.
        default.admin.hosts = all.admin.hosts.clone();
        default.admin.tokens = all.admin.tokens.clone();
        default.apply = all.apply.clone();
        default.tls = all.tls.clone();
        default.threads = all.threads;
        default.access_log = all.access_log.clone();
        default.bounds.spill_dir = all.bounds.spill_dir.clone();
        default.clients.connections_max = all.clients.connections_max;
        default.clients.connections_per_address_max = all.clients.connections_per_address_max;
        default.files.at = all.files.at.clone();
        assert_eq!(format!("{all:?}"), format!("{default:?}"));
        let (root, report) = (tree::parse(&switched_on()).unwrap(), Report::default());
        assert_eq!(PROCESS.absent(&Place::root(&root, &report)), Vec::<String>::new());
    }

    #[test]
    fn tls_has_its_own_listeners_and_says_what_is_missing() {
        let text = "listen: []\ntls: { listen: 0.0.0.0:8443, certificate: a.pem, key: b.pem }\n";
        let conf = ProcessConf::parse(text, "forge.yaml").unwrap();
        let tls = conf.tls.unwrap();
        assert!(conf.listen.is_empty() && tls.listen.len() == 1, "{tls:?}");
        let text = "tls:\n  listen: []\n  certificate: a.pem\n  client_certificates: optional\n  version_min: 1.1\n";
        let faults = ProcessConf::parse(text, "forge.yaml").unwrap_err().to_string();
        let expected = "\
forge.yaml:1: tls: 'key' is missing: PEM file: the certificate's key; read when it changes.
forge.yaml:2: tls.listen: an empty list: leave 'tls' out instead
forge.yaml:4: tls.client_certificates: without 'client_ca' no client is asked for a certificate
forge.yaml:5: tls.version_min: '1.1' is not one of 1.2, 1.3; did you mean '1.2'?";
        assert_eq!(faults, expected);
    }

    #[test]
    fn an_admin_listener_for_everyone_wants_an_explicit_word() {
        let faults = |text: &str| ProcessConf::parse(text, "forge.yaml").unwrap_err().to_string();
        for open in ["0.0.0.0:9090", "10.0.0.1:9090", "[::]:9090"] {
            let text = format!("admin: {{ listen: \"{open}\" }}");
            assert!(faults(&text).contains("say 'insecure: true'"), "{open}");
            let text = format!("admin: {{ listen: \"{open}\", insecure: true }}");
            assert_eq!(ProcessConf::parse(&text, "forge.yaml").unwrap().admin.listen.to_string(), open);
        }
        let text = "admin: { listen: \"[::1]:9090\" }";
        assert!(ProcessConf::parse(text, "forge.yaml").unwrap().admin.listen.ip().is_loopback());
        let token = "{ name: a, hash: 'sha256:12', role: reed }";
        let faults = faults(&format!("admin:\n  tokens:\n    - {token}\n    - {token}\n"));
        for part in ["64 hex digits", "did you mean 'read'?", "another token is called 'a'"] {
            assert!(faults.contains(part), "{part} in {faults}");
        }
    }

    #[test]
    fn faults_are_named_with_line_and_hint() {
        let text = "listne: 0.0.0.0:80\nthreads: 0\nbounds:\n  body_stall: 10\n  body_bytes_max: many\nlog: {format: jsno}\nlisten: []\n";
        let faults = ProcessConf::parse(text, "forge.yaml").unwrap_err().to_string();
        let expected = "\
forge.yaml:1: listne: unknown key; did you mean 'listen'?
forge.yaml:2: threads: '0' is not a whole number from 1 to 1024
forge.yaml:4: bounds.body_stall: '10' is not a duration above zero and at most a day, e.g. 500ms, 2s, 10m
forge.yaml:5: bounds.body_bytes_max: 'many' is not a number of bytes, e.g. 64MiB
forge.yaml:6: log.format: 'jsno' is not one of text, json; did you mean 'json'?
forge.yaml:7: listen: an empty list: nobody could connect";
        assert_eq!(faults, expected);
    }
}
