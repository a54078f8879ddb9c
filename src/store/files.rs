//! Records of uploaded files. Their bytes are elsewhere (`blob`), under the record's id.
//!
//! A record is there before the first byte is, and until after the last byte is gone, so that bytes without a record
//! never exist: `uploading` (nobody sees it; renewed while its upload lives) -> `ready` -> `doomed` (nobody sees it
//! any more; its bytes are to be removed, then the record).

use async_trait::async_trait;

use super::Result;

/// A file that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// `file-…`: also the name of its bytes.
    pub id: String,
    /// The key that owns it.
    pub key_id: String,
    /// Its owner's tier when it was uploaded.
    pub tier: String,
    /// The team that sees it; `None`: its key alone.
    pub shared_team: Option<String>,
    /// What it is for, a word of the reference.
    pub purpose: String,
    /// As the client named it. Data only.
    pub filename: String,
    /// `type/subtype`, as the client said.
    pub content_type: String,
    /// Its size.
    pub bytes: u64,
    /// Of its bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// When its upload began.
    pub created_unix_ms: i64,
    /// When it is removed.
    pub expires_unix_ms: Option<i64>,
}

/// A file whose upload begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// `file-…`.
    pub id: String,
    /// The key that owns it.
    pub key_id: String,
    /// The key's tier.
    pub tier: String,
    /// The team that is to see it.
    pub shared_team: Option<String>,
    /// Now.
    pub created_unix_ms: i64,
}

/// What is known of a file once its bytes are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDone {
    /// See [`FileRecord`].
    pub purpose: String,
    /// See [`FileRecord`].
    pub filename: String,
    /// See [`FileRecord`].
    pub content_type: String,
    /// See [`FileRecord`].
    pub bytes: u64,
    /// See [`FileRecord`].
    pub sha256: String,
    /// See [`FileRecord`].
    pub expires_unix_ms: Option<i64>,
}

/// How much a key and a tier may keep; see `config::FileLimits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileBounds {
    /// Of one key.
    pub key: Held,
    /// Of all keys of its tier.
    pub tier: Held,
}

/// A number of files and of their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// How many.
    pub files: u64,
    /// Together.
    pub bytes: u64,
}

/// What became of a wish to keep a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Yes,
    /// The key would hold too much.
    OverKey,
    /// The tier's keys would hold too much.
    OverTier,
    /// Its upload was given up for dead meanwhile.
    Gone,
}

/// Who looks at files: a key sees its own and those shared with its team.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewer<'a> {
    /// The key.
    pub key_id: &'a str,
    /// Its team, if its tier shares.
    pub team: Option<&'a str>,
}

/// Which files are wanted, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileQuery<'a> {
    /// Who looks.
    pub viewer: Viewer<'a>,
    /// Of this purpose only.
    pub purpose: Option<&'a str>,
    /// By time of creation.
    pub order: Order,
    /// Behind this record.
    pub after: Option<(i64, &'a str)>,
    /// At most so many.
    pub limit: u32,
    /// Now: what has expired is not there.
    pub now_unix_ms: i64,
}

/// The order of a list by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The oldest first.
    Ascending,
    /// The newest first.
    #[default]
    Descending,
}

/// A file whose bytes are to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoomedFile {
    /// Its id.
    pub id: String,
    /// What the bucket calls its unfinished upload.
    pub ticket: Option<String>,
}

/// The store of files' records.
#[async_trait]
pub trait FileStore: Send + Sync {
    /// Takes note of an upload, if the key and its tier may keep one more file.
    async fn begin_file(&self, new: &NewFile, bounds: &FileBounds) -> Result<Kept>;
    /// Notes what the bucket calls the upload.
    async fn note_ticket(&self, id: &str, ticket: &str) -> Result<()>;
    /// Says that these uploads live.
    async fn renew_uploads(&self, ids: &[String], now_unix_ms: i64) -> Result<()>;
    /// Makes the file ready, if the key and its tier may keep its bytes. Otherwise it stays as it was.
    async fn finish_file(&self, id: &str, done: &FileDone, bounds: &FileBounds) -> Result<Kept>;
    /// The ready file of this id, if the viewer sees it.
    async fn file(&self, id: &str, viewer: Viewer<'_>, now_unix_ms: i64) -> Result<Option<FileRecord>>;
    /// Ready files.
    async fn files(&self, query: &FileQuery<'_>) -> Result<Vec<FileRecord>>;
    /// Dooms a file, whatever its state.
    async fn doom_file(&self, id: &str) -> Result<()>;
    /// Dooms what has expired and uploads that were not renewed since `stale_unix_ms`; then names doomed files, at
    /// most `limit`.
    async fn doomed_files(&self, now_unix_ms: i64, stale_unix_ms: i64, limit: u32) -> Result<Vec<DoomedFile>>;
    /// The doomed file of this id.
    async fn doomed_file(&self, id: &str) -> Result<Option<DoomedFile>>;
    /// Forgets a doomed file, once its bytes are gone.
    async fn forget_file(&self, id: &str) -> Result<()>;
    /// All ready files together.
    async fn held(&self) -> Result<Held>;
}
