//! Removes bytes that nothing needs: of deleted and expired files, and of uploads whose process died.
//!
//! An upload under way is renewed every [`RENEWAL`]; one that was not for [`DEAD_AFTER`] is given up for dead, by
//! whichever process looks first. Records are doomed before their bytes are removed, so an upload that was only slow
//! finds out when it ends, and fails.

use std::sync::Arc;
use std::time::Duration;

use super::{Jobs, now_unix_ms};
use crate::blob::Ticket;
use crate::metrics;
use crate::store::DoomedFile;

/// How often uploads say that they live.
const RENEWAL: Duration = Duration::from_secs(5);
/// After how long without a word an upload counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(20);
/// How often the sweeper looks; the first time at start.
const SWEEP: Duration = Duration::from_secs(10);
/// Files of one sweep's round.
const ROUND: u32 = 100;

impl Jobs {
    /// Renews the uploads of this process, for as long as it lives.
    pub(super) async fn renew(&self) {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let ids: Vec<String> = self.uploads.lock().iter().cloned().collect();
            if !ids.is_empty()
                && let Err(error) = self.store.renew_uploads(&ids, now_unix_ms()).await
            {
                log::warn!("files: uploads could not be renewed: {error}");
            }
        }
    }

    /// Sweeps, for as long as the process lives.
    pub(super) async fn sweep(&self) {
        loop {
            self.sweep_once().await;
            match self.store.held().await {
                Ok(held) => metrics::files_held(held.files, held.bytes),
                Err(error) => log::warn!("files: what is held is not known: {error}"),
            }
            tokio::time::sleep(SWEEP).await;
        }
    }

    /// Removes all there is to remove now; what fails is left to the next time.
    pub(super) async fn sweep_once(&self) {
        loop {
            let now = now_unix_ms();
            let stale = now - DEAD_AFTER.as_millis() as i64;
            let doomed = match self.store.doomed_files(now, stale, ROUND).await {
                Ok(doomed) => doomed,
                Err(error) => return log::warn!("files: the sweeper cannot look: {error}"),
            };
            let mut removed = 0;
            for file in &doomed {
                removed += u32::from(self.remove_doomed(file).await);
            }
            if removed < ROUND {
                return;
            }
        }
    }

    /// Removes a doomed file without making its client wait.
    pub(super) fn remove_soon(self: &Arc<Self>, id: String) {
        let jobs = Arc::clone(self);
        tokio::spawn(async move { jobs.remove(&id).await });
    }

    /// Removes a doomed file's bytes, then its record.
    pub(super) async fn remove(&self, id: &str) {
        match self.store.doomed_file(id).await {
            Ok(Some(file)) => drop(self.remove_doomed(&file).await),
            Ok(None) => {}
            Err(error) => log::warn!("files: {id} is left to the sweeper: {error}"),
        }
    }

    async fn remove_doomed(&self, file: &DoomedFile) -> bool {
        let ticket = file.ticket.clone().map(Ticket);
        if let Err(error) = self.blobs.remove(&file.id, ticket.as_ref()).await {
            log::warn!("files: {} cannot be removed yet: {error}", file.id);
            return false;
        }
        match self.store.forget_file(&file.id).await {
            Ok(()) => true,
            Err(error) => {
                log::warn!("files: the record of {} cannot be removed yet: {error}", file.id);
                false
            }
        }
    }
}
