//! Wires the rooms into one process: settings, routes, engine, admin pages, demo provider, signals.
//!
//! The engine runs on its own runtimes. Everything else runs on the control runtime, which is owned by the
//! main thread and outlives the engine's: whatever happens there can delay no request.

mod announce;
mod certificates;
mod counters;
mod demo;
mod desk;
mod engine;
mod files;
mod hand_over;
mod health;
mod keys;
mod lifecycle;
mod logging;
mod pid_file;
mod reload;
mod source;
mod supervisor;
mod usage;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora_core::server::RunArgs;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub use source::Source;

use crate::admin::api::{Api, Running, View};
use crate::admin::{Admin, Credentials, Hosts};
use crate::blob::BlobError;
use crate::config::{Faults, LimitsConf, ProcessConf, Surroundings};
use crate::credential::NoRandomness;
use crate::edge::{self, TlsError};
use crate::limits::Limits;
use crate::proxy::Gateway;
use crate::proxy::keys::StoredKeys;
use crate::proxy::self_service::Desk;
use crate::store::{self, Store, StoreError};
use crate::{access, admin, metrics};
use announce::Announcement;
use certificates::Certificates;
use engine::{Addresses, Doors};
use hand_over::HandOver;
use lifecycle::{Drain, Exit, Lifecycle, Signals};
use pid_file::PidFile;
use reload::Routes;
use supervisor::State;

/// Threads of the control runtime: admin pages, demo provider, file watch, DNS.
const CONTROL_THREADS: usize = 2;
/// Read when `--conf` is not given, if it exists.
const DEFAULT_CONF: &str = "conf/forge.yaml";

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    /// `--conf`.
    pub conf: Option<PathBuf>,
    /// `--routes`.
    pub routes: Option<PathBuf>,
    /// `--upgrade`.
    pub listeners: Listeners,
}

/// Where the listening sockets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listeners {
    /// This process binds them.
    Bind,
    /// A running process hands them over.
    TakeOver,
}

/// Why the process did not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum StartError {
    #[error("{0}")]
    Conf(Faults),
    #[error("{0}")]
    Routes(Faults),
    #[error("cannot listen on {address}: {error}")]
    Bind { address: SocketAddr, error: io::Error },
    #[error("cannot write the access log {}: {error}", .path.display())]
    AccessLog { path: PathBuf, error: io::Error },
    #[error("FORGE_DEMO_KEY holds no key: 8 to 1024 visible ASCII characters are one")]
    DemoKey,
    #[error("limits: {0}")]
    Limits(String),
    #[error("files: {0}")]
    Files(#[from] BlobError),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot write the usage journal {}: {error}", .path.display())]
    Journal { path: PathBuf, error: io::Error },
    #[error("{0}\n`store:` in conf/forge.yaml names another place, or `none`")]
    Store(StoreError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves until a signal ends it, which ends the process; returns only when it could not start.
///
/// # Errors
/// See [`StartError`].
pub fn run(options: Options) -> Result<(), StartError> {
    // Two libraries bring TLS; whoever comes first decides for the process.
    // An error says that a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let conf = Arc::new(read_conf(options.conf.as_deref())?);
    logging::init(conf.log_format);
    access::init(conf.log_format, conf.access_log.as_deref())
        .map_err(|error| StartError::AccessLog { path: conf.access_log.clone().unwrap_or_default(), error })?;
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    let source = Source::choose(options.routes.as_deref(), &conf.routes);
    let routes = Arc::new(Routes::load(&source, control.handle().clone())?);
    let certificates = conf.tls.as_ref().map(Certificates::load).transpose()?.map(Arc::new);
    let store = control.block_on(store::open_patiently(&conf.store)).map_err(StartError::Store)?;
    let listen = engine::addresses(&conf, options.listeners)?;
    let (listeners, lifecycle) = (options.listeners, Lifecycle::new());
    Process { conf, control, routes, certificates, store, listen, listeners, lifecycle }.serve()
}

/// The settings of the file that was named, else of the one at the default path, else the defaults.
///
/// # Errors
/// Every fault of the file at once.
pub fn read_conf(named: Option<&Path>) -> Result<ProcessConf, StartError> {
    let path = named.unwrap_or(Path::new(DEFAULT_CONF));
    if named.is_none() && path.symlink_metadata().is_err() {
        return Ok(ProcessConf::default());
    }
    ProcessConf::load(path).map_err(StartError::Conf)
}

/// Everything that configuration can get wrong is behind it: what is left is to start.
struct Process {
    conf: Arc<ProcessConf>,
    control: Runtime,
    routes: Arc<Routes>,
    certificates: Option<Arc<Certificates>>,
    store: Option<Arc<dyn Store>>,
    listen: Addresses,
    listeners: Listeners,
    lifecycle: Lifecycle,
}

impl Process {
    fn serve(self) -> Result<(), StartError> {
        let limits = self.limits()?;
        if let Some(store) = &self.store {
            self.control.block_on(counters::restore(&limits, store.as_ref()));
            self.control.spawn(counters::save(Arc::clone(&limits), Arc::clone(store)));
        }
        self.control.spawn(sweep(Arc::clone(&limits)));
        let entered = self.control.enter();
        let signals = Signals::register()?;
        if let Some(apply) = &self.conf.apply
            && !self.routes.live().load().tiers.contains_key(&apply.tier)
        {
            log::warn!("apply.tier is '{}', which no tier of the routes is called", apply.tier);
        }
        let (desk, asks) = Desk::new(self.conf.apply.as_ref());
        desk::serve(self.control.handle(), self.store.clone(), asks);
        let start = |store| usage::start(&self.conf.usage, store, self.control.handle());
        let ledger = self.store.clone().map(start).transpose()?;
        let gateway = Gateway::new(self.routes.live(), self.start_keys(), Arc::clone(&limits), &self.conf);
        let service = files::start(&self.conf, self.routes.live(), self.store.clone())?;
        let gateway = gateway.with_desk(desk).recording(ledger).with_service(service);
        self.control.spawn(gateway.prober(&self.conf).run());
        let health = health::view(self.routes.live(), gateway.known());
        drop(entered);
        // Taking listeners over comes first: the old process gives its admin address up at the same moment.
        let tls = self.certificates.as_ref().map(|certificates| certificates.tls());
        let (addresses, patient) = (self.listen.clone(), self.lifecycle.patient());
        let doors = Doors { addresses, tls, listeners: self.listeners, patient };
        let server = engine::server(&self.conf, gateway, doors);
        let admin = self.start_admin(health, limits)?;
        let exit = Exit::new(self.pid_file());
        lifecycle::leave_when_drained(server.watch_execution_phase(), self.drain(), exit.clone())?;
        let hand_over = HandOver::new(self.conf.upgrade_sock.clone(), self.lifecycle.clone(), exit.clone());
        self.control.spawn(signals.obey((self.lifecycle.clone(), exit.clone()), hand_over, self.reload_on_signal()));
        self.control.spawn(self.announce_when_accepting(admin, exit.clone()));
        server.run(RunArgs { shutdown_signal: self.lifecycle.engine_signal() });
        // Only reached when the drain thread could not end the process.
        exit.leave(0)
    }

    fn pid_file(&self) -> PidFile {
        match self.listeners {
            Listeners::Bind => PidFile::claim(&self.conf.pid_file),
            Listeners::TakeOver => {
                metrics::took_over();
                PidFile::take_over(&self.conf.pid_file)
            }
        }
    }

    fn drain(&self) -> Drain {
        let patience = edge::idle_patience(self.conf.clients.keepalive);
        Drain { grace: self.conf.grace, patient: self.lifecycle.patient(), patience }
    }

    /// Starts what brings the store's keys to the data plane, if there is a store.
    fn start_keys(&self) -> Option<Arc<StoredKeys>> {
        let store = self.store.as_ref()?;
        let (keys, requests) = StoredKeys::new();
        keys::serve(self.control.handle(), Arc::clone(store), (Arc::clone(&keys), requests));
        Some(keys)
    }

    /// Who counts what limits limit.
    fn limits(&self) -> Result<Arc<Limits>, StartError> {
        match &self.conf.limits {
            LimitsConf::Memory => Ok(Arc::new(Limits::new())),
            LimitsConf::Redis(url) => {
                let (limits, task) = Limits::shared(url).map_err(StartError::Limits)?;
                self.control.spawn(task);
                Ok(Arc::new(limits))
            }
        }
    }

    /// Starts the admin pages; their address.
    fn start_admin(&self, health: View, limits: Arc<Limits>) -> Result<SocketAddr, StartError> {
        let address = self.conf.admin.listen;
        let listener = self.control.block_on(bind_admin(address, self.listeners))?;
        let address = listener.local_addr()?;
        let admin = Admin {
            live: self.routes.live(),
            phase: self.lifecycle.phase(),
            reload: self.routes.status(),
            hosts: Arc::new(Hosts::new(&self.conf.admin.hosts)),
            api: Arc::new(self.admin_api(health, limits)),
            credentials: Arc::new(Credentials::new(self.conf.admin.tokens.clone(), self.store.clone())),
            pages_are_open: address.ip().is_loopback(),
        };
        let released = self.lifecycle.admin_released();
        self.control.spawn(async move {
            if let Err(error) = admin::serve(listener, admin, released).await {
                log::error!("the admin pages stopped: {error}");
            }
        });
        Ok(address)
    }

    fn admin_api(&self, health: View, limits: Arc<Limits>) -> Api {
        let (status, routes) = (self.routes.status(), Arc::clone(&self.routes));
        let running = Running {
            status,
            reload: Arc::new(move || routes.reload()),
            health,
            limits,
            routes_dir: self.routes.folder(),
            env: Surroundings::offline().env,
        };
        Api {
            store: self.store.clone(),
            live: Some(self.routes.live()),
            running: Some(running),
            apply_tier: self.conf.apply.as_ref().map(|apply| apply.tier.clone()),
        }
    }

    fn reload_on_signal(&self) -> impl Fn() + use<> {
        let (routes, certificates) = (Arc::clone(&self.routes), self.certificates.clone());
        move || {
            if let Err(error) = access::reopen() {
                log::error!("the access log cannot be opened again: {error}");
            }
            routes.reload();
            if let Some(certificates) = &certificates {
                certificates.reload();
            }
        }
    }

    fn announce_when_accepting(&self, admin: SocketAddr, exit: Exit) -> impl Future<Output = ()> + use<> {
        let (routes, lifecycle) = (Arc::clone(&self.routes), self.lifecycle.clone());
        let listen = self.listen.clone();
        async move {
            for address in listen.all() {
                if let Err(error) = engine::accepting(*address).await {
                    log::error!("nothing answers on {address}: {error}");
                    exit.leave(1);
                }
            }
            lifecycle.serving();
            supervisor::tell(State::Ready);
            let announcement = Announcement { listen, admin, demo: routes.demo() };
            if let Err(error) = announcement.print() {
                log::warn!("nobody reads stdout: {error}");
            }
        }
    }
}

/// Forgets, now and then, whose limits have nothing left to count.
async fn sweep(limits: Arc<Limits>) {
    const PAUSE: Duration = Duration::from_secs(60);
    loop {
        tokio::time::sleep(PAUSE).await;
        limits.sweep();
    }
}

/// Binds the admin address. A process that hands its listeners over gives this one up only then.
async fn bind_admin(address: SocketAddr, listeners: Listeners) -> Result<TcpListener, StartError> {
    const WAIT_MAX: Duration = Duration::from_secs(60);
    const PAUSE: Duration = Duration::from_millis(100);
    let start = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(_) if listeners == Listeners::TakeOver && start.elapsed() < WAIT_MAX => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(StartError::Bind { address, error }),
        }
    }
}
