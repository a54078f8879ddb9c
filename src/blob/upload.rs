//! A blob on its way in: bytes are gathered into parts, hashed, and written part by part.

use bytes::{Bytes, BytesMut};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};

use super::{BlobError, Blobs};

/// A part on disk; only so large that a system call is worth its while.
const DISK_PART_BYTES: usize = 1 << 20;
/// A part of a bucket's multipart upload: 5 MiB at least and 10 000 parts at most, so 78 GiB.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const BUCKET_PART_BYTES: usize = 8 << 20;

/// What a bucket calls an upload that it has parts of. Without it they can be removed by nobody but the bucket's own
/// rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket(pub String);

/// A finished blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its size.
    pub bytes: u64,
    /// Of its bytes.
    pub sha256: [u8; 32],
}

/// A blob that is being written. Drop leaves it to [`Blobs::remove`].
pub struct Upload {
    target: Target,
    part: BytesMut,
    part_bytes: usize,
    bytes: u64,
    hash: Sha256,
}

enum Target {
    Disk(Box<dyn MultipartUpload>),
    Bucket { blobs: Blobs, path: Path, begun: Option<Ticket>, parts: Vec<PartId> },
}

impl Upload {
    pub(super) fn to_disk(upload: Box<dyn MultipartUpload>) -> Self {
        Self::to(Target::Disk(upload), DISK_PART_BYTES)
    }

    pub(super) fn to_bucket(blobs: Blobs, path: Path) -> Self {
        Self::to(Target::Bucket { blobs, path, begun: None, parts: Vec::new() }, BUCKET_PART_BYTES)
    }

    fn to(target: Target, part_bytes: usize) -> Self {
        Self { target, part: BytesMut::new(), part_bytes, bytes: 0, hash: Sha256::new() }
    }

    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next bytes. `Some`: the bucket will hold parts from the next call on; note the ticket before it.
    ///
    /// # Errors
    /// The place refuses; the upload is of no use any more.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<Option<Ticket>, BlobError> {
        while self.part.len() >= self.part_bytes {
            self.put_part().await?;
        }
        self.bytes += bytes.len() as u64;
        self.part.extend_from_slice(bytes);
        if self.part.len() >= self.part_bytes { self.target.begin().await } else { Ok(None) }
    }

    /// Makes the blob durable, and there.
    ///
    /// # Errors
    /// The place refuses; nothing is to be seen of the blob.
    pub async fn finish(mut self) -> Result<Stored, BlobError> {
        if let Target::Bucket { blobs, path, begun: None, .. } = &self.target {
            // All of it is one part: no multipart upload is needed.
            let (blobs, path, part) = (blobs.clone(), path.clone(), self.hash_part().await?);
            blobs.bucket()?.put(&path, PutPayload::from_bytes(part)).await?;
            return Ok(self.stored());
        }
        while !self.part.is_empty() {
            self.put_part().await?;
        }
        match &mut self.target {
            Target::Disk(upload) => drop(upload.complete().await?),
            Target::Bucket { blobs, path, begun, parts } => {
                let Some(ticket) = begun else { return Err(BlobError::internal("parts without an upload")) };
                blobs.bucket()?.complete_multipart(path, &ticket.0, std::mem::take(parts)).await?;
            }
        }
        Ok(self.stored())
    }

    fn stored(self) -> Stored {
        Stored { bytes: self.bytes, sha256: self.hash.finalize().into() }
    }

    async fn put_part(&mut self) -> Result<(), BlobError> {
        let part = self.hash_part().await?;
        self.target.put(PutPayload::from_bytes(part)).await
    }

    /// Takes the next part of what was gathered, hashed. A large part takes milliseconds, which a runtime's thread must not.
    async fn hash_part(&mut self) -> Result<Bytes, BlobError> {
        let part = self.part.split_to(self.part.len().min(self.part_bytes)).freeze();
        let (mut hash, hashed) = (std::mem::take(&mut self.hash), part.clone());
        let update = move || {
            hash.update(&hashed);
            hash
        };
        self.hash = tokio::task::spawn_blocking(update).await.map_err(std::io::Error::other)?;
        Ok(part)
    }
}

impl Target {
    async fn begin(&mut self) -> Result<Option<Ticket>, BlobError> {
        match self {
            Self::Bucket { blobs, path, begun: begun @ None, .. } => {
                let ticket = Ticket(blobs.bucket()?.create_multipart(path).await?);
                *begun = Some(ticket.clone());
                Ok(Some(ticket))
            }
            Self::Bucket { .. } | Self::Disk(_) => Ok(None),
        }
    }

    async fn put(&mut self, part: PutPayload) -> Result<(), BlobError> {
        match self {
            Self::Disk(upload) => Ok(upload.put_part(part).await?),
            Self::Bucket { blobs, path, begun, parts } => {
                let Some(ticket) = begun else { return Err(BlobError::internal("a part without an upload")) };
                let put = blobs.bucket()?.put_part(path, &ticket.0, parts.len(), part).await?;
                parts.push(put);
                Ok(())
            }
        }
    }
}
