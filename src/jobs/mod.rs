//! Files: `/v1/files`, kept by Forge itself.
//!
//! An HTTP service on a private socket, behind the data plane, which authenticates and passes requests on
//! (`proxy::service`, `internal`). It runs on the control runtime, so nothing here can delay a request to a provider.
//! Owns: what the API says about files, who sees which, and that bytes and records agree. The bytes are `blob`'s, the
//! records `store`'s.

mod answer;
mod content;
mod form;
mod listing;
mod part_head;
mod shape;
mod sweep;
mod upload;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::HeaderMap;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use crate::blob::Blobs;
use crate::config::{FileLimits, Live, ShareFiles};
use crate::error::ApiError;
use crate::internal::Caller;
use crate::store::{FileRecord, FileStore, StoreError, Viewer};
use answer::Refused;

/// What answers `/v1/files`.
pub struct Jobs {
    live: Arc<Live>,
    store: Arc<dyn FileStore>,
    blobs: Blobs,
    file_bytes_max: u64,
    /// The ids of uploads under way in this process.
    uploads: Mutex<HashSet<String>>,
}

/// What an answer may be.
type Answer<T> = Result<T, Refused>;

impl Jobs {
    /// Keeps records in `store` and bytes in `blobs`; a file has `file_bytes_max` bytes at most.
    pub fn new(live: Arc<Live>, store: Arc<dyn FileStore>, (blobs, file_bytes_max): (Blobs, u64)) -> Arc<Self> {
        Arc::new(Self { live, store, blobs, file_bytes_max, uploads: Mutex::default() })
    }

    /// Answers on `listener`, and removes what is not needed any more, until the future is dropped.
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(self: Arc<Self>, listener: UnixListener) -> io::Result<()> {
        let routes = Router::new()
            .route("/v1/files", get(listing::files).post(upload::create))
            .route("/v1/files/{id}", get(retrieve).delete(delete))
            .route("/v1/files/{id}/content", get(content::download))
            .fallback(async || Refused::from(ApiError::unknown_path()))
            // The data plane bounds bodies, and the upload's own reader what it holds of one.
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&self));
        tokio::select! {
            served = axum::serve(listener, routes) => served,
            () = self.renew() => Ok(()),
            () = self.sweep() => Ok(()),
        }
    }

    fn limits(&self, caller: &Caller) -> FileLimits {
        self.live.load().tiers.get(&caller.tier).map(|tier| tier.files).unwrap_or_default()
    }

    /// Whose eyes a caller looks with.
    fn viewer<'a>(&self, caller: &'a Caller) -> Viewer<'a> {
        let team = match self.limits(caller).share {
            ShareFiles::None => None,
            ShareFiles::Team => caller.team.as_deref(),
        };
        Viewer { key_id: &caller.key, team }
    }

    /// The file of this id, if the caller sees it.
    async fn find(&self, caller: &Caller, id: &str) -> Answer<FileRecord> {
        let found = self.store.file(id, self.viewer(caller), now_unix_ms()).await.map_err(unavailable)?;
        Ok(found.ok_or_else(|| ApiError::no_such_object("No such file. It may have been deleted, or have expired."))?)
    }
}

async fn retrieve(State(jobs): State<Arc<Jobs>>, headers: HeaderMap, Path(id): Path<String>) -> Answer<Json<Value>> {
    let file = jobs.find(&caller(&headers)?, &id).await?;
    Ok(Json(shape::file(&file)))
}

async fn delete(State(jobs): State<Arc<Jobs>>, headers: HeaderMap, Path(id): Path<String>) -> Answer<Json<Value>> {
    let caller = caller(&headers)?;
    let file = jobs.find(&caller, &id).await?;
    if file.key_id != caller.key {
        return Err(ApiError::not_the_owner().into());
    }
    jobs.store.doom_file(&file.id).await.map_err(unavailable)?;
    jobs.remove_soon(file.id.clone());
    Ok(Json(json!({"id": file.id, "object": "file", "deleted": true})))
}

/// Who calls. The data plane always says.
fn caller(headers: &HeaderMap) -> Answer<Caller> {
    Ok(Caller::of(headers).ok_or_else(ApiError::internal)?)
}

/// The store failed: the log says how, the client that it may try again.
fn unavailable(error: StoreError) -> ApiError {
    log::error!("files: {error}");
    ApiError::storage_unavailable()
}

fn now_unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
