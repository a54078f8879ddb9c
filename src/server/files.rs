//! The service behind the data plane, started on a socket that nobody else can reach.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixListener;

use super::StartError;
use crate::blob::Blobs;
use crate::config::{Live, ProcessConf};
use crate::jobs::Jobs;
use crate::proxy::Service;
use crate::store::Store;

/// How the names of these sockets' directories begin.
const PREFIX: &str = "forge-jobs-";
const SOCKET: &str = "socket";

/// Starts the service on the runtime this is called in; where it is. `None` without a store: files need records.
///
/// # Errors
/// Settings for a bucket are refused, or the socket cannot be made.
pub(super) fn start(
    conf: &ProcessConf,
    live: Arc<Live>,
    store: Option<Arc<dyn Store>>,
) -> Result<Option<Service>, StartError> {
    let Some(store) = store else {
        log::info!("no store: /v1/files is not served");
        return Ok(None);
    };
    let file_bytes_max = conf.files.file_bytes_max;
    let jobs = Jobs::new(live, store, (Blobs::open(&conf.files)?, file_bytes_max));
    let socket = directory(beside(&conf.upgrade_sock))?.join(SOCKET);
    let listener = UnixListener::bind(&socket)?;
    tokio::spawn(async move {
        if let Err(error) = jobs.serve(listener).await {
            log::error!("the file service stopped: {error}");
        }
    });
    let socket = socket.into_os_string().into_string().map_err(|_| io::Error::other("a path that is not UTF-8"))?;
    Ok(Some(Service { socket, file_bytes_max }))
}

/// The folder a socket is in.
fn beside(socket: &Path) -> &Path {
    socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new directory below `parent` that only our user may enter. Those whose process is gone are removed.
fn directory(parent: &Path) -> io::Result<PathBuf> {
    for entry in fs::read_dir(parent)?.flatten() {
        let of_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if of_ours && is_dead(&entry.path()) {
            // What belongs to somebody else cannot be removed, and need not be.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(tempfile::Builder::new().prefix(PREFIX).permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?.keep())
}

/// Whether a socket is there and nobody listens on it. One that cannot be asked counts as alive.
fn is_dead(directory: &Path) -> bool {
    let asked = StdUnixStream::connect(directory.join(SOCKET));
    asked.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as StdUnixListener;

    use super::*;

    #[test]
    fn the_directory_is_ours_alone_and_the_dead_leave_none() {
        let parent = tempfile::tempdir().unwrap();
        let [dead, alive] = [(); 2].map(|()| directory(parent.path()).unwrap());
        drop(StdUnixListener::bind(dead.join(SOCKET)).unwrap());
        let _listener = StdUnixListener::bind(alive.join(SOCKET)).unwrap();
        let starting = directory(parent.path()).unwrap();
        directory(parent.path()).unwrap();
        assert!(!dead.exists() && alive.exists() && starting.exists());
        assert_eq!(fs::metadata(&starting).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
