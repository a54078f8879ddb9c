use futures::TryStreamExt;
use sha2::{Digest, Sha256};

use super::*;

fn on_disk() -> (tempfile::TempDir, Blobs) {
    let folder = tempfile::tempdir().unwrap();
    let at = FilesAt::Disk(folder.path().join("deep/files"));
    (folder, Blobs::open(&FilesConf { at, ..FilesConf::default() }).unwrap())
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder.path().join("deep/files")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn read(blobs: &Blobs, name: &str, range: Range<u64>) -> Vec<u8> {
    let pieces = blobs.read(name, range).await.unwrap();
    pieces.try_collect::<Vec<_>>().await.unwrap().concat()
}

#[tokio::test]
async fn bytes_come_back_in_ranges_with_size_and_hash() {
    let (folder, blobs) = on_disk();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut upload = blobs.begin("file-a").await.unwrap();
    for piece in bytes.chunks(70_001) {
        assert_eq!(upload.write(piece).await.unwrap(), None);
    }
    assert_eq!(names(&folder), ["file-a#1"]);
    let stored = upload.finish().await.unwrap();
    assert_eq!(stored, Stored { bytes: 3_000_000, sha256: Sha256::digest(&bytes).into() });
    assert_eq!(names(&folder), ["file-a"]);
    for range in [0..3_000_000, 0..1, 2_999_999..3_000_000, 262_143..262_146, 5..5] {
        assert!(read(&blobs, "file-a", range.clone()).await == bytes[range.start as usize..range.end as usize]);
    }
    blobs.remove("file-a", None).await.unwrap();
    blobs.remove("file-a", None).await.unwrap();
    assert_eq!(names(&folder), Vec::<String>::new());
    assert_eq!(blobs.read("file-a", 0..1).await.err().map(|error| error.cause), Some(Cause::Absent));
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let (folder, blobs) = on_disk();
    let stored = blobs.begin("file-e").await.unwrap().finish().await.unwrap();
    assert_eq!(stored, Stored { bytes: 0, sha256: Sha256::digest(b"").into() });
    assert_eq!((names(&folder), read(&blobs, "file-e", 0..0).await), (vec!["file-e".to_owned()], Vec::new()));
}

#[tokio::test]
async fn an_upload_that_is_not_finished_can_be_removed() {
    let (folder, blobs) = on_disk();
    let mut upload = blobs.begin("file-b").await.unwrap();
    upload.write(&[7; 2 << 20]).await.unwrap();
    blobs.remove("file-b", None).await.unwrap();
    assert_eq!(names(&folder), Vec::<String>::new());
    assert!(upload.finish().await.is_err(), "what was swept away does not come back");
    assert_eq!(names(&folder), Vec::<String>::new());
}

#[cfg(unix)]
#[tokio::test]
async fn only_our_user_may_look_into_the_directory() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, blobs) = on_disk();
    drop(blobs.begin("file-c").await.unwrap());
    let mode = std::fs::metadata(folder.path().join("deep/files")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn causes_are_found_below_the_library_s_errors() {
    for (kind, cause, status) in [
        (io::ErrorKind::StorageFull, Cause::Full, 507),
        (io::ErrorKind::QuotaExceeded, Cause::Full, 507),
        (io::ErrorKind::ReadOnlyFilesystem, Cause::ReadOnly, 503),
        (io::ErrorKind::ConnectionRefused, Cause::Unavailable, 503),
    ] {
        let error = object_store::Error::Generic { store: "disk", source: Box::new(io::Error::from(kind)) };
        let error = BlobError::from(error);
        assert_eq!((error.cause, error.answer().status), (cause, status), "{error}");
    }
}
