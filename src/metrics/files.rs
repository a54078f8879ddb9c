//! Files that are kept: uploads by what became of them, and what is there.

use prometheus::{IntCounter, IntGauge};

use super::maker::Maker;
use super::{METRICS, signed};

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    /// It is kept, with so many bytes.
    Kept(u64),
    /// It was refused, or broke.
    Failed,
}

/// Counts an upload that ended.
pub fn upload(uploaded: Uploaded) {
    let files = &METRICS.files;
    match uploaded {
        Uploaded::Kept(bytes) => {
            files.kept.inc();
            files.uploaded_bytes.inc_by(bytes);
        }
        Uploaded::Failed => files.failed.inc(),
    }
}

/// Says what is kept now, by all processes that share the store.
pub fn files_held(files: u64, bytes: u64) {
    METRICS.files.held.set(signed(files));
    METRICS.files.held_bytes.set(signed(bytes));
}

pub(super) struct FileMetrics {
    kept: IntCounter,
    failed: IntCounter,
    uploaded_bytes: IntCounter,
    held: IntGauge,
    held_bytes: IntGauge,
}

impl FileMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        let uploads = make.counters("forge_file_uploads_total", "Uploads to /v1/files that ended.", &["result"]);
        Self {
            kept: uploads.with_label_values(&["kept"]),
            failed: uploads.with_label_values(&["failed"]),
            uploaded_bytes: make.counter("forge_file_upload_bytes_total", "Bytes of the uploads that are kept."),
            held: make.gauge("forge_files", "Files that are kept, by all processes that share the store."),
            held_bytes: make.gauge("forge_file_bytes", "Bytes of the files that are kept."),
        }
    }
}
