//! The pid file: who serves, for scripts; and the lock on it, which tells a live owner from a stale number.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A process that takes over gets the file at the latest so long after the listeners.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// A file that holds our process id, or nothing if another process holds it.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    held: Mutex<Option<File>>,
}

impl PidFile {
    /// Writes our id into the file at `path`. One that is locked belongs to a process that lives: it is left
    /// alone, as is one that cannot be written; neither is a reason not to serve.
    pub(super) fn claim(path: &Path) -> Self {
        let held = hold(path).inspect_err(|error| {
            let path = path.display();
            log::warn!("the pid file {path} is left alone: {error}; `pid_file` names another");
        });
        Self { path: path.to_owned(), held: Mutex::new(held.ok()) }
    }

    /// As [`claim`](Self::claim), of a process that gives the file up about now.
    pub(super) fn take_over(path: &Path) -> Self {
        let start = Instant::now();
        while start.elapsed() < TAKE_OVER_WAIT {
            if let Ok(file) = hold(path) {
                return Self { path: path.to_owned(), held: Mutex::new(Some(file)) };
            }
            std::thread::sleep(PAUSE);
        }
        Self::claim(path)
    }

    /// Leaves the file to a successor.
    pub(super) fn release(&self) {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Removes the file if it is ours.
    pub(super) fn remove(&self) {
        let Some(file) = self.held.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // Removed while it is locked, so that nobody else's is. Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
        drop(file);
    }
}

fn hold(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "another process holds it"),
        TryLockError::Error(error) => error,
    })?;
    // The owner before may have removed it between our two steps; what we hold must be what others will open.
    if std::fs::metadata(path)?.ino() != file.metadata()?.ino() {
        return Err(io::Error::new(io::ErrorKind::WouldBlock, "it was just removed"));
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_leaves_the_file_alone_and_a_successor_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forge.pid");
        std::fs::write(&path, "a stale and longer text than a number\n").unwrap();
        let ours = format!("{}\n", std::process::id());
        let first = PidFile::claim(&path);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), ours);
        std::fs::write(&path, "of the first\n").unwrap();
        let second = PidFile::claim(&path);
        second.remove();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "of the first\n");

        first.release();
        let successor = PidFile::take_over(&path);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), ours);
        first.remove();
        assert!(path.exists(), "it is the successor's by now");
        successor.remove();
        assert!(!path.exists());
    }
}
