//! `POST /v1/files`: a form on its way to the blob store.
//!
//! The record is made before the first byte, and ready after the last one is durable. What ends in between, by a
//! fault, a client that leaves or a crash, is doomed and removed: at once, or by the sweeper.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::Value;

use super::form::Form;
use super::part_head::PartHead;
use super::{Answer, Jobs, caller, now_unix_ms, shape, unavailable};
use crate::blob::{BlobError, Upload};
use crate::config::{FileLimits, ShareFiles};
use crate::credential::{hex, random_hex};
use crate::error::ApiError;
use crate::internal::Caller;
use crate::metrics::{self, Uploaded};
use crate::store::{FileBounds, FileDone, FileRecord, Held, Kept, NewFile};

/// Of a field that is no file.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// Of a file's name.
const NAME_BYTES_MAX: usize = 512;
/// <https://platform.openai.com/docs/api-reference/files/create#files_create-expires_after>
const EXPIRY_SECONDS: std::ops::RangeInclusive<i64> = 3_600..=2_592_000;
/// What a batch reads is removed after 30 days if nothing else was said, as in the reference.
const BATCH_EXPIRY_SECONDS: i64 = 2_592_000;
const DEFAULT_TYPE: &str = "application/octet-stream";

pub(super) async fn create(State(jobs): State<Arc<Jobs>>, headers: HeaderMap, body: Body) -> Answer<Json<Value>> {
    let caller = caller(&headers)?;
    let form = Form::new(&headers, body)?;
    // A task of its own: when the client leaves, the handler is dropped, and this still ends what it began.
    let receiving = tokio::spawn(async move { jobs.receive(&caller, form).await });
    let file = receiving.await.map_err(|_| ApiError::internal())??;
    Ok(Json(shape::file(&file)))
}

impl Jobs {
    async fn receive(&self, caller: &Caller, form: Form) -> Result<FileRecord, ApiError> {
        let limits = self.limits(caller);
        let id = format!("file-{}", random_hex::<16>().map_err(|_| ApiError::internal())?);
        let shared_team = caller.team.clone().filter(|_| limits.share == ShareFiles::Team);
        let new = NewFile {
            id: id.clone(),
            key_id: caller.key.clone(),
            tier: caller.tier.clone(),
            shared_team,
            created_unix_ms: now_unix_ms(),
        };
        let bounds = bounds(&limits);
        // Alive before it is there, so that no sweeper finds it dead.
        let alive = Alive::new(self, &id);
        kept(self.store.begin_file(&new, &bounds).await.map_err(unavailable)?)?;
        let received = self.receive_into(&new, form, &limits).await;
        drop(alive);
        match &received {
            Ok(file) => metrics::upload(Uploaded::Kept(file.bytes)),
            Err(_) => {
                metrics::upload(Uploaded::Failed);
                self.give_up(&id).await;
            }
        }
        received
    }

    /// Reads the form; the bytes of its file go to the blob `new.id`.
    async fn receive_into(&self, new: &NewFile, form: Form, limits: &FileLimits) -> Result<FileRecord, ApiError> {
        let fields =
            self.read(&new.id, form, self.file_bytes_max.min(limits.file_bytes_max.unwrap_or(u64::MAX))).await?;
        let wanted = Wanted::of(fields)?;
        let stored = wanted.upload.finish().await.map_err(refused)?;
        let done = FileDone {
            expires_unix_ms: wanted.expires_after_seconds.map(|seconds| new.created_unix_ms + seconds * 1000),
            purpose: wanted.purpose,
            filename: wanted.filename,
            content_type: wanted.content_type,
            bytes: stored.bytes,
            sha256: hex(&stored.sha256),
        };
        kept(self.store.finish_file(&new.id, &done, &bounds(limits)).await.map_err(unavailable)?)?;
        Ok(record(new, done))
    }

    async fn read(&self, id: &str, mut form: Form, bytes_max: u64) -> Result<Fields, ApiError> {
        let mut fields = Fields::default();
        while let Some(head) = form.next_part().await? {
            match head.name.as_str() {
                "file" if fields.file.is_none() => {
                    let name = filename(&head)?;
                    let upload = self.take_file(id, &mut form, bytes_max).await?;
                    let content_type = head.content_type.unwrap_or_else(|| DEFAULT_TYPE.to_owned());
                    fields.file = Some((upload, name, content_type));
                }
                "purpose" => set(&mut fields.purpose, "purpose", form.text(TEXT_BYTES_MAX).await?)?,
                "expires_after[anchor]" => set(&mut fields.anchor, "expires_after", form.text(TEXT_BYTES_MAX).await?)?,
                "expires_after[seconds]" => {
                    set(&mut fields.seconds, "expires_after", form.text(TEXT_BYTES_MAX).await?)?
                }
                "file" => return Err(ApiError::bad_field("file", "The form holds more than one 'file'.")),
                _ => return Err(ApiError::bad_request("The form holds a field that is not known here.")),
            }
        }
        Ok(fields)
    }

    async fn take_file(&self, id: &str, form: &mut Form, bytes_max: u64) -> Result<Upload, ApiError> {
        let mut upload = self.blobs.begin(id).await.map_err(refused)?;
        while let Some(piece) = form.piece().await? {
            if upload.bytes() + piece.len() as u64 > bytes_max {
                return Err(ApiError::file_too_large(bytes_max));
            }
            if let Some(ticket) = upload.write(&piece).await.map_err(refused)? {
                self.store.note_ticket(id, &ticket.0).await.map_err(unavailable)?;
            }
        }
        Ok(upload)
    }

    /// Dooms a file that did not come whole, and removes what there is of it. A sweeper finishes what fails here.
    async fn give_up(&self, id: &str) {
        if let Err(error) = self.store.doom_file(id).await {
            log::error!("files: {id} is left to the sweeper: {error}");
            return;
        }
        self.remove(id).await;
    }
}

/// An upload of this process, renewed as long as this lives.
struct Alive<'a>(&'a Jobs, String);

impl<'a> Alive<'a> {
    fn new(jobs: &'a Jobs, id: &str) -> Self {
        jobs.uploads.lock().insert(id.to_owned());
        Self(jobs, id.to_owned())
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.uploads.lock().remove(&self.1);
    }
}

/// A form's fields as they came.
#[derive(Default)]
struct Fields {
    file: Option<(Upload, String, String)>,
    purpose: Option<String>,
    anchor: Option<String>,
    seconds: Option<String>,
}

/// What a form asks for.
struct Wanted {
    upload: Upload,
    filename: String,
    content_type: String,
    purpose: String,
    expires_after_seconds: Option<i64>,
}

impl Wanted {
    fn of(fields: Fields) -> Result<Self, ApiError> {
        let missing = |param| ApiError::bad_field(param, format!("The form has no '{param}'."));
        let (upload, filename, content_type) = fields.file.ok_or_else(|| missing("file"))?;
        let purpose = fields.purpose.ok_or_else(|| missing("purpose"))?;
        if !shape::PURPOSES.contains(&purpose.as_str()) {
            let known = shape::PURPOSES.join(", ");
            return Err(ApiError::bad_field("purpose", format!("The purpose must be one of {known}.")));
        }
        let said = expires_after((fields.anchor.as_deref(), fields.seconds.as_deref()))?;
        let expires_after_seconds = said.or((purpose == "batch").then_some(BATCH_EXPIRY_SECONDS));
        Ok(Self { upload, filename, content_type, purpose, expires_after_seconds })
    }
}

fn expires_after(said: (Option<&str>, Option<&str>)) -> Result<Option<i64>, ApiError> {
    let fault = |message: String| Err(ApiError::bad_field("expires_after", message));
    match said {
        (None, None) => Ok(None),
        (Some("created_at"), Some(seconds)) => match seconds.parse() {
            Ok(seconds) if EXPIRY_SECONDS.contains(&seconds) => Ok(Some(seconds)),
            _ => {
                let (min, max) = (EXPIRY_SECONDS.start(), EXPIRY_SECONDS.end());
                fault(format!("'expires_after[seconds]' must be a whole number from {min} to {max}."))
            }
        },
        (Some(_), Some(_)) => fault("'expires_after[anchor]' must be 'created_at'.".to_owned()),
        (Some(_), None) | (None, Some(_)) => fault("'expires_after' needs both 'anchor' and 'seconds'.".to_owned()),
    }
}

fn set(place: &mut Option<String>, param: &'static str, value: String) -> Result<(), ApiError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(ApiError::bad_field(param, format!("The form says '{param}' twice."))),
    }
}

fn filename(head: &PartHead) -> Result<String, ApiError> {
    let name = head.filename.clone().unwrap_or_default();
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits {
        return Ok(name);
    }
    let message =
        format!("'file' must be a file with a name of 1 to {NAME_BYTES_MAX} bytes, without control characters.");
    Err(ApiError::bad_field("file", message))
}

fn bounds(limits: &FileLimits) -> FileBounds {
    let or_none = |bound: Option<u64>| bound.unwrap_or(u64::MAX);
    FileBounds {
        key: Held { files: limits.key_files_max, bytes: limits.key_bytes_max },
        tier: Held { files: or_none(limits.tier_files_max), bytes: or_none(limits.tier_bytes_max) },
    }
}

fn kept(kept: Kept) -> Result<(), ApiError> {
    let quota = |whose: &str| format!("The file storage of {whose} is used up. Delete files you do not need.");
    match kept {
        Kept::Yes => Ok(()),
        Kept::OverKey => Err(ApiError::storage_quota(quota("your API key"))),
        Kept::OverTier => Err(ApiError::storage_quota(quota("your API key's tier"))),
        Kept::Gone => Err(ApiError::storage_unavailable()),
    }
}

fn refused(error: BlobError) -> ApiError {
    log::error!("files: {error}");
    error.answer()
}

fn record(new: &NewFile, done: FileDone) -> FileRecord {
    FileRecord {
        id: new.id.clone(),
        key_id: new.key_id.clone(),
        tier: new.tier.clone(),
        shared_team: new.shared_team.clone(),
        purpose: done.purpose,
        filename: done.filename,
        content_type: done.content_type,
        bytes: done.bytes,
        sha256: done.sha256,
        created_unix_ms: new.created_unix_ms,
        expires_unix_ms: done.expires_unix_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_said_whole_or_not_at_all() {
        assert_eq!(expires_after((None, None)), Ok(None));
        assert_eq!(expires_after((Some("created_at"), Some("3600"))), Ok(Some(3600)));
        for refused in [
            (Some("created_at"), None),
            (None, Some("3600")),
            (Some("now"), Some("3600")),
            (Some("created_at"), Some("3599")),
            (Some("created_at"), Some("2592001")),
            (Some("created_at"), Some("1h")),
        ] {
            assert_eq!(expires_after(refused).unwrap_err().param, Some("expires_after"), "{refused:?}");
        }
    }

    #[test]
    fn names_are_any_text_that_can_be_shown() {
        let named = |name: &str| {
            filename(&PartHead { name: "file".into(), filename: Some(name.into()), content_type: None }).is_ok()
        };
        assert!(named("../../etc/passwd") && named("দেশ.jsonl") && named(&"a".repeat(512)));
        assert!(!named("") && !named("a\nb") && !named("a\0") && !named(&"a".repeat(513)));
    }
}
