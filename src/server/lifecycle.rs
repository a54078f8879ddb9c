//! The life of the process: starting, serving, draining, gone; and the signals that move it on.
//!
//! The engine stops accepting on its own, but then sleeps for its whole grace period whatever happens.
//! So its grace period is longer than ours, and [`leave_when_drained`] ends the process: as soon as the
//! last request is done, or when our own grace period is over. Idle connections hold nothing up.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::{ExecutionPhase, ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, watch};

use crate::admin::Phase;
use crate::{access, metrics};

/// How often a draining process looks whether it is done.
const POLL: Duration = Duration::from_millis(20);
/// For so long nothing may be in flight: a request that was just accepted is not counted yet.
const SETTLE: Duration = Duration::from_millis(200);
/// The engine's grace period is ours and this, so that ours decides.
pub(super) const ENGINE_GRACE_EXTRA: Duration = Duration::from_secs(30);
/// 128 + SIGINT, as shells say it.
const EXIT_INTERRUPTED: i32 = 130;

/// What the engine is told when serving ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Not,
    Drain,
    HandOver,
}

/// Moves the process from phase to phase.
#[derive(Debug, Clone)]
pub(super) struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
    stop: Arc<watch::Sender<Stop>>,
    /// True once the admin address is wanted by another process.
    release_admin: Arc<watch::Sender<bool>>,
}

impl Lifecycle {
    pub(super) fn new() -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Starting)),
            stop: Arc::new(watch::Sender::new(Stop::Not)),
            release_admin: Arc::new(watch::Sender::new(false)),
        }
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn admin_released(&self) -> watch::Receiver<bool> {
        self.release_admin.subscribe()
    }

    pub(super) fn engine_signal(&self) -> Box<dyn ShutdownSignalWatch> {
        Box::new(EngineSignal(self.stop.subscribe()))
    }

    /// Clients are answered now; a process that drains already stays so.
    pub(super) fn serving(&self) {
        self.phase.send_if_modified(|phase| {
            let starting = *phase == Phase::Starting;
            if starting {
                *phase = Phase::Serving;
            }
            starting
        });
    }

    /// Readiness fails first, then the engine stops accepting.
    fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
        self.stop.send_if_modified(|stop| std::mem::replace(stop, Stop::Drain) == Stop::Not);
    }

    fn hand_over(&self) {
        self.release_admin.send_replace(true);
        self.phase.send_replace(Phase::Draining);
        self.stop.send_if_modified(|stop| std::mem::replace(stop, Stop::HandOver) == Stop::Not);
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow() != Stop::Not
    }
}

struct EngineSignal(watch::Receiver<Stop>);

#[async_trait]
impl ShutdownSignalWatch for EngineSignal {
    async fn recv(&self) -> ShutdownSignal {
        match self.0.clone().wait_for(|stop| *stop != Stop::Not).await.map(|stop| *stop) {
            Ok(Stop::HandOver) => ShutdownSignal::GracefulUpgrade,
            Ok(Stop::Drain | Stop::Not) | Err(_) => ShutdownSignal::GracefulTerminate,
        }
    }
}

/// The signals the process listens to, from the moment this exists.
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
}

impl Signals {
    /// # Errors
    /// The system refuses a handler. Must be called inside a tokio runtime.
    pub(super) fn register() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Acts on signals for as long as the process lives.
    pub(super) async fn obey(mut self, lifecycle: Lifecycle, exit: Exit, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => reload(),
                _ = self.terminate.recv() => lifecycle.drain(),
                _ = self.quit.recv() => lifecycle.hand_over(),
                _ = self.interrupt.recv() => {
                    if lifecycle.is_stopping() {
                        log::warn!("interrupted twice: leaving with {} requests open", metrics::in_flight());
                        exit.leave(EXIT_INTERRUPTED);
                    }
                    lifecycle.drain();
                }
            }
        }
    }
}

/// The last thing a process does.
#[derive(Debug, Clone)]
pub(super) struct Exit {
    pid_file: PathBuf,
}

impl Exit {
    /// Writes the pid file; one that cannot be written is no reason not to serve.
    pub(super) fn with_pid_file(path: &Path) -> Self {
        if let Err(error) = std::fs::write(path, format!("{}\n", std::process::id())) {
            log::warn!("the pid file {} cannot be written: {error}", path.display());
        }
        Self { pid_file: path.to_owned() }
    }

    /// Writes what is queued for the logs, removes our pid file, and ends the process.
    pub(super) fn leave(&self, code: i32) -> ! {
        let ours =
            std::fs::read_to_string(&self.pid_file).is_ok_and(|pid| pid.trim() == std::process::id().to_string());
        if ours && let Err(error) = std::fs::remove_file(&self.pid_file) {
            log::warn!("the pid file {} cannot be removed: {error}", self.pid_file.display());
        }
        access::flush();
        log::logger().flush();
        std::process::exit(code)
    }
}

/// Starts the thread that ends the process once it drains and nothing is in flight, or `grace` is over.
///
/// # Errors
/// The system starts no thread.
pub(super) fn leave_when_drained(
    mut engine: broadcast::Receiver<ExecutionPhase>,
    grace: Duration,
    exit: Exit,
) -> io::Result<()> {
    let wait = move || {
        while !matches!(engine.blocking_recv(), Ok(ExecutionPhase::ShutdownGracePeriod)) {
            if engine.is_closed() {
                return;
            }
        }
        log::info!("draining: {} requests open, {} at most", metrics::in_flight(), humantime::format_duration(grace));
        match wait_until_idle(grace) {
            0 => log::info!("drained: every request is done"),
            open => log::warn!("the grace period is over: leaving with {open} requests open"),
        }
        exit.leave(0)
    };
    std::thread::Builder::new().name("drain".into()).spawn(wait).map(drop)
}

/// Waits until nothing was in flight for a while, at most for `grace`; the requests still open.
fn wait_until_idle(grace: Duration) -> u64 {
    let start = Instant::now();
    let mut busy_at = start;
    loop {
        let now = Instant::now();
        let open = metrics::in_flight();
        if open > 0 {
            busy_at = now;
        }
        if now - busy_at >= SETTLE || now - start >= grace {
            return open;
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_fails_before_the_engine_is_told() {
        let lifecycle = Lifecycle::new();
        let engine = lifecycle.engine_signal();
        lifecycle.serving();
        assert_eq!(*lifecycle.phase().borrow(), Phase::Serving);
        lifecycle.drain();
        assert!(matches!(engine.recv().await, ShutdownSignal::GracefulTerminate));
        assert_eq!(*lifecycle.phase().borrow(), Phase::Draining);
        lifecycle.serving();
        assert_eq!(*lifecycle.phase().borrow(), Phase::Draining, "draining is final");
        assert!(!*lifecycle.admin_released().borrow());
    }

    #[tokio::test]
    async fn a_hand_over_releases_the_admin_address() {
        let lifecycle = Lifecycle::new();
        lifecycle.hand_over();
        assert!(matches!(lifecycle.engine_signal().recv().await, ShutdownSignal::GracefulUpgrade));
        assert!(*lifecycle.admin_released().borrow());
    }

    #[test]
    fn a_pid_file_of_another_process_is_not_ours_to_remove() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forge.pid");
        let _exit = Exit::with_pid_file(&path);
        assert_eq!(std::fs::read_to_string(path).unwrap().trim(), std::process::id().to_string());
    }
}
