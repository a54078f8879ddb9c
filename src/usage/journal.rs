//! The journal: records that the store does not have yet, in files that only grow.
//!
//! A record is one write to the page cache, made by the request it is of before the client has the answer's last
//! byte; a process that is killed loses none. (A machine that loses power may lose what it had not written out.)
//!
//! Each process appends to a segment of its own, which it holds a lock on, so that one that takes over from another
//! leaves the other's alone until that is gone.

use std::cell::RefCell;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::frame::{self, Entry, Read};
use crate::metrics;
use crate::store::UsageRecord;

/// A segment is closed at this size, so that it can be deleted when it was shipped.
const SEGMENT_BYTES_MAX: u64 = 8 << 20;
const EXTENSION: &str = "usage";

/// The journal of one process.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    bytes_max: u64,
    active: Mutex<Segment>,
    /// Of all segments but the active one.
    closed_bytes: AtomicU64,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    bytes: u64,
}

/// What was read of a segment.
pub(super) struct Chunk {
    /// In the order they were written.
    pub records: Vec<UsageRecord>,
    /// The place behind them.
    pub end: u64,
    /// Bytes behind that which are no record: what a crash left.
    pub damaged: u64,
}

thread_local! {
    static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Journal {
    /// Opens the journal in `dir`, made if absent; it takes `bytes_max` bytes, those of earlier processes included.
    ///
    /// # Errors
    /// The folder cannot be made or read, or no file made in it.
    pub fn open(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let active = Segment::create(dir)?;
        let journal =
            Self { dir: dir.to_owned(), bytes_max, active: Mutex::new(active), closed_bytes: AtomicU64::new(0) };
        journal.segments()?;
        Ok(journal)
    }

    /// Appends a record. One that the bound or the disk does not let in is counted and lost.
    pub fn append(&self, entry: &Entry<'_>) {
        FRAME.with_borrow_mut(|frame| {
            frame.clear();
            frame::write(entry, frame);
            match self.write(frame) {
                Ok(()) => metrics::usage_journalled(frame.len() as u64),
                Err(error) => {
                    metrics::usage_dropped();
                    log::error!("a usage record of request {} is lost: {error}", entry.request_id);
                }
            }
        });
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        let length = frame.len() as u64;
        let mut active = self.active.lock();
        if self.closed_bytes.load(Relaxed) + active.bytes + length > self.bytes_max {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the usage journal is full"));
        }
        if active.bytes + length > SEGMENT_BYTES_MAX {
            let next = Segment::create(&self.dir)?;
            let closed = std::mem::replace(&mut *active, next);
            self.closed_bytes.fetch_add(closed.bytes, Relaxed);
        }
        active.append(frame)
    }

    /// Every segment, the oldest first, with its length; brings the size of the journal up to date.
    pub(super) fn segments(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let active = self.active.lock();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION)
                && let Ok(about) = std::fs::metadata(&path)
            {
                found.push((path, about.len()));
            }
        }
        found.sort();
        let closed = found.iter().filter(|(path, _)| *path != active.path).map(|(_, bytes)| bytes).sum::<u64>();
        self.closed_bytes.store(closed, Relaxed);
        metrics::usage_journal_bytes(closed + active.bytes);
        Ok(found)
    }

    /// Whether `path` is the segment that this process appends to.
    pub(super) fn is_active(&self, path: &Path) -> bool {
        self.active.lock().path == path
    }

    /// Removes what was shipped: up to `end` of the segment at `path`. One that is appended to meanwhile stays.
    pub(super) fn shipped(&self, path: &Path, end: u64) -> io::Result<Removed> {
        let mut active = self.active.lock();
        if active.path != path {
            drop(active);
            std::fs::remove_file(path)?;
            return Ok(Removed::Yes);
        }
        if active.bytes != end {
            return Ok(Removed::No);
        }
        active.file.set_len(0)?;
        active.bytes = 0;
        Ok(Removed::Yes)
    }
}

/// Whether a segment's records are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    Yes,
    No,
}

impl Segment {
    /// A new one, locked for as long as it is open.
    fn create(dir: &Path) -> io::Result<Self> {
        let name = format!("{}.{EXTENSION}", super::new_id(super::now_unix_ms()));
        let path = dir.join(name);
        let file = OpenOptions::new().create_new(true).append(true).open(&path)?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Self { file, path, bytes: 0 })
    }

    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(frame) {
            // A part of it may be there, and would hide what follows.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += frame.len() as u64;
        Ok(())
    }
}

/// Whether the segment at `path` is still appended to by another process.
pub(super) fn is_held(path: &Path) -> io::Result<bool> {
    match File::open(path)?.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Up to `records_max` records of the segment at `path`, from `start`.
pub(super) fn read(path: &Path, start: u64, records_max: usize) -> io::Result<Chunk> {
    /// Enough for a thousand records of the usual length.
    const BYTES_MAX: u64 = 1 << 20;
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    let (mut records, mut at) = (Vec::new(), 0);
    while records.len() < records_max {
        match frame::read(&bytes[at..]) {
            Read::Record(record, length) => {
                records.push(*record);
                at += length;
            }
            Read::Cut | Read::Damaged => break,
        }
    }
    let damaged = if records.is_empty() { bytes.len() as u64 } else { 0 };
    Ok(Chunk { records, end: start + at as u64, damaged })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Units;
    use crate::usage::frame::tests::entry;

    fn ids(journal: &Journal) -> Vec<String> {
        let segments = journal.segments().unwrap();
        let read = |(path, _): &(PathBuf, u64)| read(path, 0, usize::MAX).unwrap().records;
        segments.iter().flat_map(read).map(|record| record.id).collect()
    }

    #[test]
    fn what_was_appended_outlives_the_process_and_goes_once_it_was_shipped() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), 1 << 20).unwrap();
        for id in ["a", "b", "c"] {
            journal.append(&entry(id, &Units::default()));
        }
        let path = journal.segments().unwrap()[0].0.clone();
        assert!(is_held(&path).unwrap() && journal.is_active(&path));
        drop(journal);
        assert!(!is_held(&path).unwrap());
        let journal = Journal::open(dir.path(), 1 << 20).unwrap();
        journal.append(&entry("d", &Units::default()));
        assert_eq!(ids(&journal), ["a", "b", "c", "d"]);
        let (old, new) = (journal.segments().unwrap()[0].clone(), journal.segments().unwrap()[1].clone());
        assert_eq!(journal.shipped(&old.0, old.1).unwrap(), Removed::Yes);
        assert_eq!(journal.shipped(&new.0, new.1 - 1).unwrap(), Removed::No);
        assert_eq!(ids(&journal), ["d"]);
        assert_eq!(journal.shipped(&new.0, new.1).unwrap(), Removed::Yes);
        journal.append(&entry("e", &Units::default()));
        assert_eq!(ids(&journal), ["e"]);
    }

    #[test]
    fn a_torn_tail_hides_nothing_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = {
            let journal = Journal::open(dir.path(), 1 << 20).unwrap();
            journal.append(&entry("a", &Units::default()));
            journal.append(&entry("b", &Units::default()));
            journal.segments().unwrap()[0].0.clone()
        };
        let whole = std::fs::metadata(&path).unwrap().len();
        for torn in 0..whole / 2 {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(whole - 1 - torn).unwrap();
            let chunk = read(&path, 0, 10).unwrap();
            assert_eq!((chunk.records.len(), chunk.end), (1, whole / 2));
            assert_eq!(read(&path, chunk.end, 10).unwrap().damaged, whole - 1 - torn - whole / 2);
        }
    }

    #[test]
    fn it_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), 1000).unwrap();
        for _ in 0..100 {
            journal.append(&entry("a", &Units::default()));
        }
        let (path, bytes) = journal.segments().unwrap()[0].clone();
        assert!((800..=1000).contains(&bytes), "{bytes}");
        assert_eq!(read(&path, 0, 1000).unwrap().damaged, 0);
        journal.shipped(&path, bytes).unwrap();
        journal.append(&entry("b", &Units::default()));
        assert_eq!(ids(&journal), ["b"]);
    }
}
