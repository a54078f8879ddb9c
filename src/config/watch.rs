//! Hot reload of routes.yaml: it or a file it refers to changed, so it is loaded and put in force.
//!
//! A file with faults changes nothing: the snapshot before it stays in force, and the status says why.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::files::FileWatch;
use super::finding::{Faults, Finding};
use super::load::{Surroundings, load_with_files};
use super::secret::FilesRead;
use super::{Live, Loaded};

/// The last try to load, and what is in force since.
#[derive(Debug, Clone)]
pub struct ReloadStatus {
    /// The snapshot in force.
    pub generation: u64,
    /// When the last try was made, in seconds since 1970.
    pub tried_unix: i64,
    /// What is doubtful in the file in force, or why the last one was not taken.
    pub outcome: Result<Vec<Finding>, Faults>,
    /// Tries that were taken, the first load included.
    pub taken: u64,
    /// Tries that were not.
    pub refused: u64,
}

/// A running watch; dropping it stops and joins its thread.
pub struct Watch {
    files: FileWatch,
    status: Arc<ArcSwap<ReloadStatus>>,
}

impl Watch {
    /// Watches `path`. `first` was loaded from it, or is what serves until there is such a file. `on_try` is called on
    /// the watch's thread after every try.
    pub fn start(
        path: PathBuf,
        around: Surroundings,
        mut first: First,
        on_try: impl Fn(&ReloadStatus) + Send + 'static,
    ) -> io::Result<Self> {
        first.files.entry(path.clone()).or_insert(None);
        let status = Arc::new(ArcSwap::from_pointee(ReloadStatus {
            generation: first.live.load().generation,
            tried_unix: now_unix(),
            outcome: Ok(first.warnings),
            taken: 1,
            refused: 0,
        }));
        let trying = Trying { path, around, live: first.live, status: Arc::clone(&status), on_try: Box::new(on_try) };
        let files = FileWatch::start("routes", first.files, move || trying.try_load())?;
        Ok(Self { files, status })
    }

    /// Asks for a load now, changed or not (SIGHUP). Returns at once; the status tells the outcome.
    pub fn reload(&self) {
        self.files.reload();
    }

    /// The last try.
    pub fn status(&self) -> Arc<ReloadStatus> {
        self.status.load_full()
    }

    /// The status, for a reader that outlives no watch (the admin listener).
    pub fn status_reader(&self) -> impl Fn() -> Arc<ReloadStatus> + Clone + Send + Sync + 'static {
        let status = Arc::clone(&self.status);
        move || status.load_full()
    }
}

/// What the first load left behind.
pub struct First {
    /// Where snapshots are put in force.
    pub live: Arc<Live>,
    /// [`Loaded::warnings`].
    pub warnings: Vec<Finding>,
    /// [`Loaded::files`].
    pub files: FilesRead,
}

impl First {
    /// Puts the first snapshot in force.
    pub fn new(loaded: Loaded) -> Self {
        Self { live: Arc::new(Live::new(loaded.snapshot)), warnings: loaded.warnings, files: loaded.files }
    }
}

/// All that a try to load needs.
struct Trying {
    path: PathBuf,
    around: Surroundings,
    live: Arc<Live>,
    status: Arc<ArcSwap<ReloadStatus>>,
    on_try: Box<dyn Fn(&ReloadStatus) + Send>,
}

impl Trying {
    /// Loads, tells, and returns what was read.
    fn try_load(&self) -> FilesRead {
        let before = self.status.load_full();
        let generation = before.generation + 1;
        let around = Surroundings { generation, now_unix: now_unix(), ..self.around.clone() };
        let (result, files) = load_with_files(&self.path, &around);
        let tried = ReloadStatus { tried_unix: around.now_unix, ..(*before).clone() };
        let status = Arc::new(match result {
            Ok(loaded) => {
                self.live.store(loaded.snapshot);
                ReloadStatus { generation, outcome: Ok(loaded.warnings), taken: before.taken + 1, ..tried }
            }
            Err(faults) => ReloadStatus { outcome: Err(faults), refused: before.refused + 1, ..tried },
        });
        self.status.store(Arc::clone(&status));
        (self.on_try)(&status);
        files
    }
}

fn now_unix() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
