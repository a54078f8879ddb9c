//! Files that are read again when they change.
//!
//! Owns one thread a watch. A change is noticed by the directories of all files and of every symbolic link on the way
//! to them (Kubernetes swaps a `..data` link), by [`FileWatch::reload`], and at the latest by a slow poll. Compared is
//! content, so a touch reloads nothing; and a file counts as written once it rests.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::secret::{FilesRead, read_regular, sha256};

/// How often files are compared when no event says they changed.
const POLL: Duration = Duration::from_secs(10);
/// A file counts as written when its content is the same after this long.
const QUIET: Duration = Duration::from_millis(60);
/// A file that never rests is read all the same after this many rounds.
const QUIET_ROUNDS_MAX: u32 = 30;
/// Symbolic links followed on the way to one file.
const LINKS_MAX: usize = 16;

enum Signal {
    Changed,
    Reload,
    Stop,
}

/// A running watch; dropping it stops and joins its thread.
pub struct FileWatch {
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl FileWatch {
    /// Calls `load` on a thread of this `name` whenever one of `files` changed. What `load` returns is what it read,
    /// and what is watched from then on.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn start(name: &str, files: FilesRead, load: impl FnMut() -> FilesRead + Send + 'static) -> io::Result<Self> {
        let (signals, received) = mpsc::channel();
        let mut watching = Watching { directories: Directories::new(signals.clone()), files, load: Box::new(load) };
        watching.follow_files();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || watching.run(&received))?;
        Ok(Self { signals, thread: Some(thread) })
    }

    /// Asks for a load now, changed or not (SIGHUP). Returns at once.
    pub fn reload(&self) {
        // The thread is gone only after a stop.
        let _ = self.signals.send(Signal::Reload);
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already written to stderr.
            let _ = thread.join();
        }
    }
}

struct Watching {
    directories: Directories,
    /// What the last try read.
    files: FilesRead,
    load: Box<dyn FnMut() -> FilesRead + Send>,
}

impl Watching {
    fn run(mut self, received: &Receiver<Signal>) {
        loop {
            // A file may have changed after it was read and before it was watched.
            let wait = if self.changed() { Duration::ZERO } else { POLL };
            let mut forced = match received.recv_timeout(wait) {
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Signal::Reload) => true,
                Ok(Signal::Changed) | Err(RecvTimeoutError::Timeout) => false,
            };
            if self.changed() {
                match self.settle(received) {
                    Some(asked) => forced |= asked,
                    None => return,
                }
            }
            if forced || self.changed() {
                self.files = (self.load)();
            }
            self.follow_files();
        }
    }

    /// Waits until the files rest. Whether a load was asked for meanwhile; `None`: stop.
    fn settle(&self, received: &Receiver<Signal>) -> Option<bool> {
        let mut forced = false;
        let mut before = self.files_now();
        for _ in 0..QUIET_ROUNDS_MAX {
            std::thread::sleep(QUIET);
            for signal in received.try_iter() {
                match signal {
                    Signal::Stop => return None,
                    Signal::Reload => forced = true,
                    Signal::Changed => (),
                }
            }
            let now = self.files_now();
            if now == before {
                break;
            }
            before = now;
        }
        Some(forced)
    }

    fn changed(&self) -> bool {
        self.files_now() != self.files
    }

    fn files_now(&self) -> FilesRead {
        let sha256_of = |path: &PathBuf| read_regular(path).ok().map(|bytes| sha256(&bytes));
        self.files.keys().map(|path| (path.clone(), sha256_of(path))).collect()
    }

    fn follow_files(&mut self) {
        let mut hops = HashSet::new();
        self.files.keys().for_each(|path| add_hops(path, LINKS_MAX, &mut hops));
        self.directories.follow(&hops);
    }
}

/// Adds `path` and every symbolic link that leads to it: a change of any of them may change the content.
fn add_hops(path: &Path, links_max: usize, hops: &mut HashSet<PathBuf>) {
    let Ok(path) = std::path::absolute(path) else { return };
    for part in path.ancestors() {
        if let (Ok(target), Some(parent)) = (std::fs::read_link(part), part.parent())
            && links_max > 0
            && hops.insert(part.to_path_buf())
        {
            add_hops(&parent.join(target), links_max - 1, hops);
        }
    }
    hops.insert(path);
}

/// The directories that hold the hops, watched by the operating system.
struct Directories {
    /// `None`: it cannot watch; the poll alone sees changes.
    watcher: Option<RecommendedWatcher>,
    /// The names that matter in them: a busy neighbour wakes nobody.
    names: Arc<ArcSwap<HashSet<OsString>>>,
    watched: HashSet<PathBuf>,
}

impl Directories {
    fn new(signals: Sender<Signal>) -> Self {
        let names = Arc::new(ArcSwap::from_pointee(HashSet::new()));
        let names_seen = Arc::clone(&names);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| matters(&event, &names_seen.load())) {
                // The receiver is gone only after a stop.
                let _ = signals.send(Signal::Changed);
            }
        });
        let watcher = watcher.inspect_err(|error| log::warn!("no file events, polling only: {error}")).ok();
        Self { watcher, names, watched: HashSet::new() }
    }

    fn follow(&mut self, hops: &HashSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        self.names.store(Arc::new(hops.iter().filter_map(|hop| hop.file_name()).map(OsString::from).collect()));
        let wanted: HashSet<_> = hops.iter().filter_map(|hop| hop.parent()).map(Path::to_path_buf).collect();
        for gone in self.watched.difference(&wanted) {
            // Fails where the directory itself is gone, which is as good.
            let _ = watcher.unwatch(gone);
        }
        // A directory that is not there yet is tried again after the next signal.
        let is_watched = |directory: &PathBuf| {
            self.watched.contains(directory) || watcher.watch(directory, RecursiveMode::NonRecursive).is_ok()
        };
        self.watched = wanted.into_iter().filter(is_watched).collect();
    }
}

/// Reading a file is an event too, and must not lead to reading it again.
fn matters(event: &Event, names: &HashSet<OsString>) -> bool {
    let read_only = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => false,
    };
    let named = event.paths.iter().filter_map(|path| path.file_name()).any(|name| names.contains(name));
    !read_only && (named || event.need_rescan())
}
