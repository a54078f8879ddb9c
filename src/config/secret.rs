//! Secrets are references: `env:NAME`, `file:PATH`, and for tests `plain:TEXT`. Nothing here shows one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Surroundings;
use super::place::Place;

/// The largest file that configuration may be in or name, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The SHA-256 of each file that was read, as it was read; `None` where it could not be. What a watch compares with.
pub type FilesRead = BTreeMap<PathBuf, Option<[u8; 32]>>;

/// Resolves references, and keeps which files they named: those are watched.
pub(super) struct Secrets<'a> {
    around: &'a Surroundings,
    files: RefCell<FilesRead>,
}

impl<'a> Secrets<'a> {
    pub fn new(around: &'a Surroundings) -> Self {
        Self { around, files: RefCell::default() }
    }

    /// Every file that was read, or was to be.
    pub fn into_files(self) -> FilesRead {
        self.files.into_inner()
    }

    /// The secret a reference stands for; a bare literal is a fault and is not repeated.
    pub fn resolve(&self, place: &Place<'_>) -> Option<String> {
        match self.reference(place) {
            Some(secret) => secret,
            None => {
                place.fault("a secret must not stand here itself: write env:NAME or file:PATH");
                None
            }
        }
    }

    /// As [`resolve`](Self::resolve), but plain text stands for itself.
    pub fn resolve_or_text(&self, place: &Place<'_>) -> Option<String> {
        self.reference(place).unwrap_or_else(|| place.text().map(str::to_owned))
    }

    /// `None`: not a reference. `Some(None)`: a reference that leads nowhere, reported.
    fn reference(&self, place: &Place<'_>) -> Option<Option<String>> {
        self.resolve_text(place, place.text()?)
    }

    /// What `text` stands for, which is part of what stands at `place`. `None`: it is no reference. `Some(None)`: a
    /// reference that leads nowhere, reported.
    pub fn resolve_text(&self, place: &Place<'_>, text: &str) -> Option<Option<String>> {
        if let Some(name) = text.strip_prefix("env:") {
            return Some(self.env(place, name));
        }
        if let Some(path) = text.strip_prefix("file:") {
            return Some(self.file(place, path));
        }
        let literal = text.strip_prefix("plain:")?;
        place.warn("a secret in plain sight; plain: is for tests, use env:NAME or file:PATH");
        Some(not_empty(place, literal))
    }

    fn env(&self, place: &Place<'_>, name: &str) -> Option<String> {
        match (self.around.env)(name) {
            Some(value) => not_empty(place, &value),
            None => {
                place.fault(format!("the environment variable '{name}' is not set"));
                None
            }
        }
    }

    fn file(&self, place: &Place<'_>, path: &str) -> Option<String> {
        let bytes = self.read(place, path)?;
        match String::from_utf8(bytes) {
            Ok(text) => not_empty(place, &text),
            Err(_) => {
                place.fault(format!("the file '{path}' is not text"));
                None
            }
        }
    }

    /// The bytes of a file named in routes.yaml; relative to its directory.
    pub fn read(&self, place: &Place<'_>, path: &str) -> Option<Vec<u8>> {
        let full = self.around.base_dir.join(path);
        let result = read_regular(&full);
        self.files.borrow_mut().insert(full, result.as_deref().ok().map(sha256));
        result.map_err(|error| place.fault(format!("the file '{path}' cannot be read: {error}"))).ok()
    }
}

/// Secret files end in a line feed more often than not; a secret never does.
fn not_empty(place: &Place<'_>, secret: &str) -> Option<String> {
    let secret = secret.trim();
    if secret.is_empty() {
        place.fault("the secret is empty");
        return None;
    }
    Some(secret.to_owned())
}

/// Reads a regular file of bounded size: a pipe would block, a device would not end.
pub(super) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
