//! The life of the process: starting, serving, draining, gone; and the signals that move it on.
//!
//! The engine stops accepting on its own, but then sleeps for its whole grace period whatever happens.
//! So its grace period is longer than ours, and [`leave_when_drained`] ends the process: as soon as the
//! last request is done, or when our own grace period is over. Idle connections hold nothing up, but after a
//! hand-over: a client on such a connection may just be sending. Its next answer tells it to close, and its next
//! connection is the successor's; so these connections are waited for, for some seconds.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::{ExecutionPhase, ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, watch};

use super::hand_over::HandOver;
use super::pid_file::PidFile;
use super::supervisor::{self, State};
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
    /// Whether a draining process waits for idle connections.
    patient: Arc<watch::Sender<bool>>,
}

impl Lifecycle {
    pub(super) fn new() -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Starting)),
            stop: Arc::new(watch::Sender::new(Stop::Not)),
            release_admin: Arc::new(watch::Sender::new(false)),
            patient: Arc::new(watch::Sender::new(false)),
        }
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn admin_released(&self) -> watch::Receiver<bool> {
        self.release_admin.subscribe()
    }

    pub(super) fn patient(&self) -> watch::Receiver<bool> {
        self.patient.subscribe()
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
        self.patient.send_replace(false);
        self.phase.send_replace(Phase::Draining);
        let first = self.stop.send_if_modified(|stop| std::mem::replace(stop, Stop::Drain) == Stop::Not);
        if first {
            supervisor::tell(State::Stopping);
        }
    }

    /// The admin address is given up, then the listeners.
    pub(super) fn hand_over(&self) {
        if self.is_stopping() {
            return;
        }
        self.patient.send_replace(true);
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
    user_2: Signal,
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
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Acts on signals for as long as the process lives.
    pub(super) async fn obey(mut self, (lifecycle, exit): (Lifecycle, Exit), hand_over: HandOver, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => reload(),
                _ = self.terminate.recv() => lifecycle.drain(),
                _ = self.quit.recv() => drop(tokio::spawn(hand_over.clone().wait_and_hand_over())),
                _ = self.user_2.recv() => drop(tokio::spawn(hand_over.clone().start_and_hand_over())),
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
    pid_file: Arc<PidFile>,
}

impl Exit {
    pub(super) fn new(pid_file: PidFile) -> Self {
        Self { pid_file: Arc::new(pid_file) }
    }

    /// Leaves the pid file to a successor.
    pub(super) fn release_pid_file(&self) {
        self.pid_file.release();
    }

    /// Writes what is queued for the logs, removes our pid file, and ends the process.
    pub(super) fn leave(&self, code: i32) -> ! {
        self.pid_file.remove();
        access::flush();
        std::process::exit(code)
    }
}

/// How long a process drains.
pub(super) struct Drain {
    /// At most.
    pub(super) grace: Duration,
    /// While this is true, idle connections are waited for,
    pub(super) patient: watch::Receiver<bool>,
    /// at most for so long.
    pub(super) patience: Duration,
}

/// Starts the thread that ends the process once it drains and nothing is in flight, or the grace period is over.
///
/// # Errors
/// The system starts no thread.
pub(super) fn leave_when_drained(
    mut engine: broadcast::Receiver<ExecutionPhase>,
    drain: Drain,
    exit: Exit,
) -> io::Result<()> {
    let wait = move || {
        while !matches!(engine.blocking_recv(), Ok(ExecutionPhase::ShutdownGracePeriod)) {
            if engine.is_closed() {
                return;
            }
        }
        log::info!(
            "draining: {} requests open, {} at most",
            metrics::in_flight(),
            humantime::format_duration(drain.grace)
        );
        match drain.wait_until_idle() {
            0 => log::info!("drained: every request is done"),
            open => log::warn!("the grace period is over: leaving with {open} requests open"),
        }
        exit.leave(0)
    };
    std::thread::Builder::new().name("drain".into()).spawn(wait).map(drop)
}

impl Drain {
    /// Waits until nothing was in flight for a while, at most for the grace period; the requests still open.
    fn wait_until_idle(&self) -> u64 {
        let start = Instant::now();
        let mut busy_at = start;
        loop {
            let now = Instant::now();
            let open = metrics::in_flight();
            let waited_for = *self.patient.borrow() && now - start < self.patience;
            if open > 0 || (waited_for && metrics::client_connections() > 0) {
                busy_at = now;
            }
            if now - busy_at >= SETTLE || now - start >= self.grace {
                return open;
            }
            std::thread::sleep(POLL);
        }
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
        assert!(*lifecycle.admin_released().borrow() && *lifecycle.patient().borrow());
        lifecycle.drain();
        assert!(!*lifecycle.patient().borrow(), "SIGTERM ends the wait for idle connections");
    }
}
