//! The file behind the access log: a bounded queue, and a thread that writes what is in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines wait at most this long before they are written.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// The writer is woken early at this fill.
const WAKE_BYTES: usize = 64 << 10;
/// A disk that cannot keep up loses lines past this fill; they are counted.
const QUEUE_BYTES_MAX: usize = 8 << 20;

/// Lines on their way to a file.
pub(super) struct FileSink {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Locked before `queue`, and for the whole of a write, so that lines keep their order.
    file: Mutex<File>,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    lines_dropped: u64,
}

impl FileSink {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            file: Mutex::new(open_append(path)?),
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(Self { shared })
    }

    pub(super) fn push(&self, line: &str) {
        let mut queue = lock(&self.shared.queue);
        if queue.bytes.len() + line.len() >= QUEUE_BYTES_MAX {
            queue.lines_dropped += 1;
            return;
        }
        let fill_before = queue.bytes.len();
        queue.bytes.extend_from_slice(line.as_bytes());
        queue.bytes.push(b'\n');
        if fill_before < WAKE_BYTES && queue.bytes.len() >= WAKE_BYTES {
            self.shared.wake.notify_one();
        }
    }

    pub(super) fn reopen(&self) -> io::Result<()> {
        let fresh = open_append(&self.shared.path)?;
        self.flush();
        *lock(&self.shared.file) = fresh;
        Ok(())
    }

    pub(super) fn flush(&self) {
        self.shared.write_queued(&mut Vec::new());
    }
}

impl Shared {
    fn run(&self) {
        let mut taken = Vec::new();
        loop {
            let queue = lock(&self.queue);
            if queue.bytes.len() < WAKE_BYTES {
                drop(self.wake.wait_timeout(queue, FLUSH_INTERVAL));
            } else {
                drop(queue);
            }
            self.write_queued(&mut taken);
        }
    }

    /// Writes all that is queued; `taken` is room to swap in, kept by the caller.
    fn write_queued(&self, taken: &mut Vec<u8>) {
        let mut file = lock(&self.file);
        taken.clear();
        let lines_dropped = {
            let mut queue = lock(&self.queue);
            std::mem::swap(&mut queue.bytes, taken);
            std::mem::take(&mut queue.lines_dropped)
        };
        if lines_dropped > 0 {
            crate::metrics::access_lines_dropped(lines_dropped);
            log::warn!("access log: {} is too slow, {lines_dropped} lines lost", self.path.display());
        }
        if let Err(error) = file.write_all(taken) {
            crate::metrics::access_lines_dropped(taken.iter().filter(|byte| **byte == b'\n').count() as u64);
            log::error!("access log: cannot write {}: {error}", self.path.display());
        }
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// A thread that panicked while holding a lock leaves whole lines behind, so its queue is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_the_file_in_order_and_follow_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let sink = FileSink::open(&path).unwrap();
        for n in 0..10_000 {
            sink.push(&format!("line {n}"));
        }
        let moved = folder.path().join("access.log.1");
        std::fs::rename(&path, &moved).unwrap();
        sink.reopen().unwrap();
        sink.push("after");
        sink.flush();
        let expected: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(std::fs::read_to_string(moved).unwrap(), expected);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "after\n");
    }

    #[test]
    fn a_full_queue_drops_lines_and_counts_them() {
        let folder = tempfile::tempdir().unwrap();
        let sink = FileSink::open(&folder.path().join("access.log")).unwrap();
        let stalled_disk = lock(&sink.shared.file);
        let line = "x".repeat(1 << 20);
        for _ in 0..20 {
            sink.push(&line);
        }
        let queue = lock(&sink.shared.queue);
        assert!(queue.bytes.len() <= QUEUE_BYTES_MAX);
        assert_eq!(queue.lines_dropped, 13);
        drop(stalled_disk);
    }
}
