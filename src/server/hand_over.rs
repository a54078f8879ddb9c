//! Handing the listeners to a successor, so that a new program serves without a connection refused.
//!
//! The engine passes the listeners on over a socket that the successor makes once it is ready to take them. A
//! process that began to hand over and finds nobody there would stop serving all the same; so it begins only
//! when the socket is there, and goes on serving if none comes.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::lifecycle::{Exit, Lifecycle};

/// How long SIGQUIT waits for a successor that somebody else started.
const WAITING_MAX: Duration = Duration::from_secs(10);
/// How long a successor that was started here may take to load its files.
const STARTED_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// Between making the socket and listening on it lie two system calls.
const SETTLE: Duration = Duration::from_millis(50);
/// What makes a process a successor.
const UPGRADE: &str = "--upgrade";

/// Hands over to one successor at a time.
#[derive(Debug, Clone)]
pub(super) struct HandOver {
    socket: PathBuf,
    lifecycle: Lifecycle,
    exit: Exit,
    under_way: Arc<AtomicBool>,
}

/// Why nothing was handed over.
#[derive(Debug, thiserror::Error)]
enum HandOverError {
    #[error("no process started with --upgrade waits at {}", .0.display())]
    NobodyWaits(PathBuf),
    #[error("as process 1 of a container, leaving would end the successor, too")]
    FirstProcess,
    #[error("the successor could not be started: {0}")]
    Start(#[from] io::Error),
    #[error("the successor ended: {0}")]
    Ended(std::process::ExitStatus),
}

impl HandOver {
    pub(super) fn new(socket: PathBuf, lifecycle: Lifecycle, exit: Exit) -> Self {
        Self { socket, lifecycle, exit, under_way: Arc::default() }
    }

    /// SIGQUIT: to a process that was started with `--upgrade`, or is about to be.
    pub(super) async fn wait_and_hand_over(self) {
        self.once(async || match self.appears(WAITING_MAX, || Ok(())).await? {
            true => Ok(()),
            false => Err(HandOverError::NobodyWaits(self.socket.clone())),
        })
        .await;
    }

    /// SIGUSR2: to a process that is started for it, from the program's path and with our arguments.
    pub(super) async fn start_and_hand_over(self) {
        self.once(async || self.start().await).await;
    }

    async fn once(&self, successor: impl AsyncFnOnce() -> Result<(), HandOverError>) {
        if self.under_way.swap(true, Ordering::AcqRel) {
            return log::warn!("a hand-over is under way already");
        }
        match successor().await {
            Ok(()) => {
                sleep(SETTLE).await;
                log::info!("handing the listeners over");
                self.exit.release_pid_file();
                self.lifecycle.hand_over();
            }
            Err(error) => {
                log::error!("nothing is handed over, this process goes on serving: {error}");
                self.under_way.store(false, Ordering::Release);
            }
        }
    }

    async fn start(&self) -> Result<(), HandOverError> {
        if std::process::id() == 1 {
            return Err(HandOverError::FirstProcess);
        }
        // One that was left behind would be taken for the successor's.
        match std::fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let mut child = spawn_successor()?;
        log::info!("the successor is process {}", child.id());
        let appeared = self.appears(STARTED_MAX, || alive(&mut child)).await;
        if !matches!(appeared, Ok(true)) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if appeared? { Ok(()) } else { Err(HandOverError::NobodyWaits(self.socket.clone())) }
    }

    /// Whether the socket is there within `limit`, asking `alive` meanwhile.
    async fn appears(
        &self,
        limit: Duration,
        mut alive: impl FnMut() -> Result<(), HandOverError>,
    ) -> Result<bool, HandOverError> {
        let deadline = Instant::now() + limit;
        while !self.socket.exists() {
            alive()?;
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(POLL).await;
        }
        Ok(true)
    }
}

/// Starts this program again. By the name it was called by: behind it is the new version, if there is one.
fn spawn_successor() -> io::Result<Child> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().ok_or_else(|| io::Error::other("the program's name is not known"))?;
    let mut arguments: Vec<OsString> = arguments.collect();
    if !arguments.iter().any(|argument| argument == UPGRADE) {
        arguments.push(UPGRADE.into());
    }
    Command::new(program).args(arguments).spawn()
}

fn alive(child: &mut Child) -> Result<(), HandOverError> {
    match child.try_wait()? {
        None => Ok(()),
        Some(status) => Err(HandOverError::Ended(status)),
    }
}
