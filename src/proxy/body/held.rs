//! The prefix of a body that is kept, so that it can be sent (again): in memory first, then on disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::budget::{Budget, Lease};

/// Small chunks are gathered into blocks of this size, so that a body dripped byte by byte costs no
/// more memory than its bytes.
const BLOCK_BYTES: usize = 16 << 10;

/// What spilled bytes are read back in.
const READ_BYTES: u64 = 64 << 10;

/// Bounds of one body and the budgets it shares with all others.
#[derive(Debug)]
pub struct HeldLimits {
    /// Of this body in memory; the rest goes to disk.
    pub memory_bytes_max: u64,
    /// Memory of all bodies together.
    pub memory: Arc<Budget>,
    /// Disk of all bodies together.
    pub disk: Arc<Budget>,
    /// Where spilled bytes go, in files that have no name.
    pub spill_dir: PathBuf,
}

/// Why bytes could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// A process-wide budget is used up.
    #[error("the budget for buffered bodies is used up")]
    Budget,
    /// The disk refused.
    #[error("spilling a body: {0}")]
    Disk(#[from] io::Error),
}

/// The kept prefix: bytes `0..len()` of the body.
#[derive(Debug)]
pub struct Held {
    blocks: Vec<Bytes>,
    tail: BytesMut,
    memory_len: u64,
    memory: Lease,
    file: Option<Arc<File>>,
    disk_len: u64,
    disk: Lease,
}

/// Where the next bytes of the prefix are.
#[derive(Debug)]
pub enum Piece {
    /// In memory; as they are.
    Memory(Bytes),
    /// On disk: read `len` bytes at `at` of the file.
    Disk { file: Arc<File>, at: u64, len: usize },
}

/// A spilled chunk on its way to disk; [`Held::spilled`] takes note when it is there.
#[derive(Debug, Clone)]
pub struct Spill {
    file: Option<Arc<File>>,
    dir: PathBuf,
    at: u64,
    bytes: Bytes,
}

impl Held {
    /// Holds nothing yet.
    pub fn new(limits: &HeldLimits) -> Self {
        Self {
            blocks: Vec::new(),
            tail: BytesMut::new(),
            memory_len: 0,
            memory: limits.memory.lease(),
            file: None,
            disk_len: 0,
            disk: limits.disk.lease(),
        }
    }

    /// Bytes kept.
    pub fn len(&self) -> u64 {
        self.memory_len + self.disk_len
    }

    /// Keeps `chunk` in memory, or says how to spill it.
    ///
    /// # Errors
    /// [`HoldError::Budget`] when the shared memory or disk budget does not have the bytes.
    pub fn push(&mut self, chunk: &Bytes, limits: &HeldLimits) -> Result<Option<Spill>, HoldError> {
        let more = chunk.len() as u64;
        if self.file.is_none() && self.memory_len + more <= limits.memory_bytes_max {
            if !self.memory.grow(more) {
                return Err(HoldError::Budget);
            }
            self.keep(chunk);
            return Ok(None);
        }
        if !self.disk.grow(more) {
            return Err(HoldError::Budget);
        }
        Ok(Some(Spill {
            file: self.file.clone(),
            dir: limits.spill_dir.clone(),
            at: self.disk_len,
            bytes: chunk.clone(),
        }))
    }

    /// The first bytes of what is in memory, at most `bytes_max`.
    pub fn head(&self, bytes_max: usize) -> Vec<u8> {
        let pieces = self.blocks.iter().map(AsRef::as_ref).chain([self.tail.as_ref()]);
        let mut head = Vec::with_capacity(bytes_max);
        for piece in pieces {
            head.extend_from_slice(&piece[..piece.len().min(bytes_max - head.len())]);
        }
        head
    }

    fn keep(&mut self, chunk: &Bytes) {
        self.memory_len += chunk.len() as u64;
        if chunk.len() >= BLOCK_BYTES / 2 {
            self.seal();
            self.blocks.push(chunk.clone());
            return;
        }
        self.tail.extend_from_slice(chunk);
        if self.tail.len() >= BLOCK_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.blocks.push(self.tail.split().freeze());
        }
    }

    /// Takes note that `len` bytes were written to `file`.
    pub fn spilled(&mut self, file: Arc<File>, len: usize) {
        self.file = Some(file);
        self.disk_len += len as u64;
    }

    /// The bytes at `offset`, which must be a boundary that walking from 0 by pieces reaches.
    /// `None` at the end of what is kept.
    pub fn piece(&mut self, block: &mut usize, offset: u64) -> Option<Piece> {
        if offset < self.memory_len {
            self.seal();
            let bytes = self.blocks.get(*block)?.clone();
            *block += 1;
            return Some(Piece::Memory(bytes));
        }
        let at = offset - self.memory_len;
        let left = self.disk_len.checked_sub(at).filter(|left| *left > 0)?;
        let file = Arc::clone(self.file.as_ref()?);
        Some(Piece::Disk { file, at, len: left.min(READ_BYTES) as usize })
    }

    /// Forgets everything and gives the budgets back.
    pub fn clear(&mut self) {
        self.blocks = Vec::new();
        self.tail = BytesMut::new();
        self.file = None;
        (self.memory_len, self.disk_len) = (0, 0);
        self.memory.release();
        self.disk.release();
    }
}

impl Spill {
    /// Writes the chunk; safe to drop and do again.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub async fn write(self) -> io::Result<Arc<File>> {
        let write = move || {
            let file = match self.file {
                Some(file) => file,
                None => Arc::new(tempfile::tempfile_in(&self.dir)?),
            };
            file.write_all_at(&self.bytes, self.at)?;
            Ok(file)
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

/// Reads a spilled piece back.
///
/// # Errors
/// Whatever the disk says.
pub async fn read_spilled(file: Arc<File>, at: u64, len: usize) -> io::Result<Bytes> {
    let read = move || {
        let mut buffer = vec![0; len];
        file.read_exact_at(&mut buffer, at)?;
        Ok(Bytes::from(buffer))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::super::budget::Meter;
    use super::*;

    fn limits(memory: u64, shared: u64, disk: u64) -> HeldLimits {
        let unmetered = Meter { taken: |_| {}, returned: |_| {} };
        HeldLimits {
            memory_bytes_max: memory,
            memory: Budget::new(shared, unmetered),
            disk: Budget::new(disk, unmetered),
            spill_dir: std::env::temp_dir(),
        }
    }

    async fn hold((held, limits): (&mut Held, &HeldLimits), chunk: &[u8]) -> Result<(), HoldError> {
        let chunk = Bytes::copy_from_slice(chunk);
        if let Some(spill) = held.push(&chunk, limits)? {
            let file = spill.write().await?;
            held.spilled(file, chunk.len());
        }
        Ok(())
    }

    async fn all(held: &mut Held) -> Vec<u8> {
        let (mut out, mut block) = (Vec::new(), 0);
        while let Some(piece) = held.piece(&mut block, out.len() as u64) {
            match piece {
                Piece::Memory(bytes) => out.extend_from_slice(&bytes),
                Piece::Disk { file, at, len } => out.extend_from_slice(&read_spilled(file, at, len).await.unwrap()),
            }
        }
        out
    }

    #[tokio::test]
    async fn bytes_come_back_in_order_from_memory_and_disk_again_and_again() {
        for (chunk_len, count) in [(1, 40_000), (100, 3_000), (9_000, 40), (70_000, 5)] {
            let limits = limits(50_000, 1 << 20, 1 << 20);
            let mut held = Held::new(&limits);
            let mut expected = Vec::new();
            for index in 0..count {
                let chunk = vec![(index % 251) as u8; chunk_len];
                hold((&mut held, &limits), &chunk).await.unwrap();
                expected.extend_from_slice(&chunk);
            }
            assert_eq!(held.len(), expected.len() as u64);
            let in_memory = if chunk_len > 50_000 { 0 } else { 20_000 };
            assert_eq!(held.head(20_000), expected[..in_memory]);
            assert_eq!(all(&mut held).await, expected);
            assert_eq!(all(&mut held).await, expected);
        }
    }

    #[tokio::test]
    async fn budgets_bound_memory_and_disk_and_are_given_back() {
        let limits = limits(100, 150, 1_000);
        let mut one = Held::new(&limits);
        let mut two = Held::new(&limits);
        hold((&mut one, &limits), &[0; 100]).await.unwrap();
        assert!(matches!(hold((&mut two, &limits), &[0; 60]).await, Err(HoldError::Budget)));
        hold((&mut one, &limits), &[0; 1_000]).await.unwrap();
        assert!(matches!(hold((&mut one, &limits), &[0; 1]).await, Err(HoldError::Budget)));
        one.clear();
        assert_eq!((limits.memory.used(), limits.disk.used()), (0, 0));
        hold((&mut two, &limits), &[0; 60]).await.unwrap();
    }
}
