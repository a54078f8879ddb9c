//! SQLite: a file beside the process, for one machine.

use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::Executor;
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use tokio::sync::watch;

use super::{Backend, SqlStore};
use crate::store::{Result, StoreError};

/// A transaction that will write takes the write lock at once: one that read first could only fail.
#[derive(Debug)]
pub struct Sqlite(());

impl Backend for Sqlite {
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const NOTIFY: Option<&'static str> = None;
}

/// Each connection has a thread and a page cache. One writes while others read.
const CONNECTIONS_MAX: u32 = 3;
/// Besides those: for keys and changes.
const QUICK_MAX: u32 = 1;
/// Of two processes that make the file at the same time, one may find it half made, and tries again.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// How long a connection is waited for.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);
/// Idle connections are closed, but for those that the poll of changes keeps busy.
const IDLE_MAX: Duration = Duration::from_secs(60);

impl SqlStore<Sqlite> {
    /// Opens the file, or makes it with its folder, and brings its schema up to date.
    ///
    /// # Errors
    /// The folder or the file cannot be made or written, or is no store of this version.
    pub async fn open(path: &Path) -> Result<Self> {
        let unusable = |error: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("{} cannot be opened for writing: {error}", path.display()))
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            make_private(folder).map_err(|error| unusable(&error))?;
        }
        install_default_drivers();
        let pool = |connections_max| {
            AnyPoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(ACQUIRE_MAX)
                .idle_timeout(IDLE_MAX)
                .after_connect(|connection, _| Box::pin(async move { connection.execute(PRAGMAS).await.map(drop) }))
                .connect_lazy(&url(path))
        };
        let pools = (pool(CONNECTIONS_MAX)?, pool(QUICK_MAX)?);
        let store = Self::new(pools, watch::Sender::new(0), Sqlite(()));
        for _ in 1..TRIES {
            if store.ready().await.is_ok() {
                return Ok(store);
            }
            tokio::time::sleep(PAUSE).await;
        }
        store.ready().await.map_err(|error| match error {
            StoreError::Unavailable(error) => unusable(&error),
            other => other,
        })?;
        Ok(store)
    }
}

/// WAL, so that readers and the writer never wait for each other. `synchronous = NORMAL` is safe against a crash of
/// the process; a power failure may lose the last transactions, never the file.
/// <https://sqlite.org/pragma.html#pragma_synchronous>. A statement waits 5 s for another process's write; the page
/// cache of a connection has 1 MiB.
const PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
     PRAGMA cache_size = -1024; PRAGMA temp_store = MEMORY";

fn url(path: &Path) -> String {
    let path = path.to_string_lossy();
    format!("sqlite://{}?mode=rwc", utf8_percent_encode(&path, NON_ALPHANUMERIC))
}

/// Makes a folder that only its owner may enter, if there is none: the file in it says who uses what.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
