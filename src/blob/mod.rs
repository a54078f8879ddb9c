//! The bytes of files: written once, under a name of ours, and read in ranges; on a disk or in a bucket.
//!
//! Owns: durability (a finished upload survives a crash), constant memory, size and SHA-256 on the way. Knows
//! nothing of keys, purposes or records: who begins an upload keeps note of its name, and of its [`Ticket`] as soon
//! as there is one, and calls [`Blobs::remove`] for what was not finished.
//!
//! Names are made by Forge and are plain (letters, digits, `-`, `_`), so that they mean the same everywhere.

mod error;
mod s3;
mod upload;

use std::fs::DirBuilder;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, try_unfold};
use object_store::aws::AmazonS3;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt};

pub use error::{BlobError, Cause};
pub use upload::{Stored, Ticket, Upload};

use crate::config::{FilesAt, FilesConf};

/// A file on disk is read in pieces of this size.
const READ_BYTES: usize = 256 << 10;

/// Where the bytes are.
#[derive(Debug, Clone)]
pub struct Blobs {
    place: Arc<Place>,
}

#[derive(Debug)]
enum Place {
    Disk { root: PathBuf },
    Bucket { store: AmazonS3, prefix: Path },
}

/// The bytes of a blob, in order.
pub type Pieces = BoxStream<'static, Result<Bytes, BlobError>>;

impl Blobs {
    /// The place `conf` names. Touches neither disk nor network.
    ///
    /// # Errors
    /// Settings that S3's client refuses, e.g. an endpoint that is no URL.
    pub fn open(conf: &FilesConf) -> Result<Self, BlobError> {
        let place = match &conf.at {
            FilesAt::Disk(root) => Place::Disk { root: root.clone() },
            FilesAt::S3(conf) => Place::Bucket { store: s3::client(conf)?, prefix: Path::from(conf.prefix.as_str()) },
        };
        Ok(Self { place: Arc::new(place) })
    }

    /// Starts a new blob. Nothing is to be seen of it until [`Upload::finish`].
    ///
    /// # Errors
    /// A disk that refuses; a bucket is not asked yet.
    pub async fn begin(&self, name: &str) -> Result<Upload, BlobError> {
        match &*self.place {
            Place::Disk { .. } => {
                let upload = self.disk()?.put_multipart(&Path::from(name)).await?;
                Ok(Upload::to_disk(upload))
            }
            Place::Bucket { prefix, .. } => Ok(Upload::to_bucket(self.clone(), prefix.clone().join(name))),
        }
    }

    /// The bytes `range` of a finished blob. Dropping the stream ends the reading.
    ///
    /// # Errors
    /// There is no such blob, or its place refuses; the stream may fail later, too.
    pub async fn read(&self, name: &str, range: Range<u64>) -> Result<Pieces, BlobError> {
        let range = range.start..range.end.max(range.start);
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let found = match &*self.place {
            Place::Disk { .. } => self.disk()?.get_opts(&Path::from(name), options).await?,
            Place::Bucket { store, prefix } => store.get_opts(&prefix.clone().join(name), options).await?,
        };
        Ok(match found.payload {
            GetResultPayload::File(file, _) => file_pieces(Arc::new(file), range),
            GetResultPayload::Stream(stream) => stream.map(|piece| piece.map_err(BlobError::from)).boxed(),
        })
    }

    /// Removes a blob, finished or not; `ticket` is that of an upload that was not finished. What is gone is gone.
    ///
    /// # Errors
    /// The place refuses; the blob may be there still.
    pub async fn remove(&self, name: &str, ticket: Option<&Ticket>) -> Result<(), BlobError> {
        match &*self.place {
            Place::Disk { root } => {
                let root = root.clone();
                let name = name.to_owned();
                let removed = tokio::task::spawn_blocking(move || remove_from_disk(&root, &name)).await;
                removed.map_err(io::Error::other).flatten().map_err(BlobError::from)
            }
            Place::Bucket { store, prefix } => {
                let path = prefix.clone().join(name);
                if let Some(ticket) = ticket {
                    absent_is_fine(store.abort_multipart(&path, &ticket.0).await)?;
                }
                absent_is_fine(store.delete(&path).await)
            }
        }
    }

    /// The directory, made if it is not there, for our user only. A file and its name are synced to the disk before
    /// it counts as written.
    fn disk(&self) -> Result<LocalFileSystem, BlobError> {
        let Place::Disk { root } = &*self.place else { return Err(BlobError::internal("no directory")) };
        if !root.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        }
        Ok(LocalFileSystem::new_with_prefix(root)?.with_fsync(true))
    }

    fn bucket(&self) -> Result<&AmazonS3, BlobError> {
        match &*self.place {
            Place::Bucket { store, .. } => Ok(store),
            Place::Disk { .. } => Err(BlobError::internal("no bucket")),
        }
    }
}

fn absent_is_fine(result: object_store::Result<()>) -> Result<(), BlobError> {
    match result.map_err(BlobError::from) {
        Err(error) if error.cause != Cause::Absent => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a file, and what `object_store` calls its staged upload: `NAME#1`. Names are never used twice, so there
/// is no other.
fn remove_from_disk(root: &std::path::Path, name: &str) -> io::Result<()> {
    for name in [format!("{name}#1"), name.to_owned()] {
        match std::fs::remove_file(root.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn file_pieces(file: Arc<std::fs::File>, range: Range<u64>) -> Pieces {
    let pieces = try_unfold(range, move |left: Range<u64>| {
        let file = Arc::clone(&file);
        async move {
            let length = (left.end - left.start).min(READ_BYTES as u64) as usize;
            if length == 0 {
                return Ok(None);
            }
            let read = move || {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, left.start)?;
                Ok::<_, io::Error>(Bytes::from(bytes))
            };
            let bytes = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
            Ok(Some((bytes, left.start + length as u64..left.end)))
        }
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests;
