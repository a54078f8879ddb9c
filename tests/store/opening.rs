//! Opening: what a first start makes, what a later one finds, and what is refused with a clear word.

use std::os::unix::fs::PermissionsExt;

use forge::config::StoreConf;
use forge::credential::Credential;
use forge::store::*;

use super::contract::{act_at, new_key};

#[tokio::test]
async fn what_is_stored_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let conf = StoreConf::Sqlite(folder.path().join("data/forge.db"));
    let credential = Credential::random().unwrap();
    let store = open(&conf).await.unwrap().unwrap();
    store.create_key(&new_key("k", &credential), &act_at(1)).await.unwrap();
    drop(store);
    let mode = std::fs::metadata(folder.path().join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "usage is nobody else's business");
    let store = open(&conf).await.unwrap().unwrap();
    assert!(store.find_key(&credential.sha256()).await.unwrap().is_some());
    assert!(open(&StoreConf::None).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_starts_at_once_make_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/forge.db");
    let opening = (0..8).map(|_| SqliteStore::open(&path));
    for opened in futures::future::join_all(opening).await {
        let store = opened.unwrap();
        assert_eq!(store.last_change().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "a file").unwrap();
    let conf = StoreConf::Sqlite(folder.path().join("data/forge.db"));
    let error = open(&conf).await.err().unwrap().to_string();
    assert!(error.contains("data/forge.db cannot be opened for writing"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forge.db");
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    assert!(SqliteStore::open(&path).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap().len(), 5000, "and left as it was");
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forge.db");
    SqliteStore::open(&path).await.unwrap().close().await;
    let url = format!("sqlite://{}", path.display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'newer', 1, x'00', 0)";
    sqlx::query(newer).execute(&pool).await.unwrap();
    pool.close().await;
    let error = SqliteStore::open(&path).await.err().unwrap().to_string();
    assert!(error.contains("9999") && error.contains("newer Forge"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_an_error_in_time() {
    let url = "postgres://forge@127.0.0.1:1/forge";
    let error = PostgresStore::open(url).await.err().unwrap();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
}
