//! What can go wrong with the bytes of files, by what a client is to be told.

use std::error::Error;
use std::io;

use crate::error::ApiError;

/// Why bytes could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct BlobError {
    /// What it comes down to.
    pub cause: Cause,
    /// For the log: names the place and its own words.
    text: String,
}

/// What an error comes down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// There is no such blob.
    Absent,
    /// No space is left, or the quota is used up.
    Full,
    /// It can be read but not written.
    ReadOnly,
    /// Anything else of the place: refused, broken, not reached.
    Unavailable,
}

impl BlobError {
    pub(super) fn internal(text: &str) -> Self {
        Self { cause: Cause::Unavailable, text: text.to_owned() }
    }

    /// What the client is told; the log line is written by whoever handles the error.
    pub fn answer(&self) -> ApiError {
        match self.cause {
            Cause::Full => ApiError::storage_full(),
            Cause::Absent | Cause::ReadOnly | Cause::Unavailable => ApiError::storage_unavailable(),
        }
    }
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        Self { cause: cause_of(error.kind()), text: error.to_string() }
    }
}

impl From<object_store::Error> for BlobError {
    fn from(error: object_store::Error) -> Self {
        let cause = match &error {
            object_store::Error::NotFound { .. } => Cause::Absent,
            other => io_cause(other),
        };
        Self { cause, text: chain(&error) }
    }
}

/// The cause of the first I/O error in the chain.
fn io_cause(error: &object_store::Error) -> Cause {
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return cause_of(io.kind());
        }
        next = error.source();
    }
    Cause::Unavailable
}

fn cause_of(kind: io::ErrorKind) -> Cause {
    match kind {
        io::ErrorKind::NotFound => Cause::Absent,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::Full,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Cause::ReadOnly,
        _ => Cause::Unavailable,
    }
}

/// The error and what caused it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}
