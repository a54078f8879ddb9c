//! The store: keys and who holds them, applications, usage, counters, the audit log.
//!
//! One trait, [`Store`], with two implementations that share their SQL: [`SqliteStore`], a file beside the process,
//! and [`PostgresStore`], which a fleet shares. It is used on the control runtime only: the data plane reaches it over
//! channels with a deadline (`proxy/keys`), and never waits for a database.
//!
//! Every change is one transaction with its audit entry. Changes of keys and holders are numbered and announced, so
//! that every node can forget what it knew: [`Store::hints`] says that something may have changed,
//! [`Store::changes_since`] says what.
//!
//! ```no_run
//! # use forge::store::{Act, NewKey, SqliteStore, Store, Created};
//! # async fn example() -> Result<(), forge::store::StoreError> {
//! let store = SqliteStore::open("data/forge.db".as_ref()).await?;
//! let key = forge::credential::Credential::random().expect("randomness");
//! let new = NewKey { name: "alice".into(), tier: "pro".into(), ..NewKey::new(&key) };
//! let created = store.create_key(&new, &Act::now("admin", "cli")).await?;
//! println!("{} is {}", created.object().id, key.reveal());
//! # Ok(())
//! # }
//! ```

mod acts;
mod check;
mod files;
mod id;
mod page;
mod records;
mod schema;
mod sql;
mod usage;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

pub use acts::*;
pub use files::*;
pub use page::{Cursor, Page, PageRequest};
pub use records::*;
pub use sql::{PostgresStore, SqliteStore};
pub use usage::{Attempt, GroupBy, Period, Units, UsageFilter, UsageQuery, UsageRecord, UsageRow};

use crate::config::StoreConf;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or does not answer; the same call may succeed later. The text is for logs.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// There is no such object.
    #[error("no {0} of that id")]
    NotFound(&'static str),
    /// The state of the store forbids it; the text says what is in the way.
    #[error("{0}")]
    Conflict(String),
    /// What was asked for cannot be; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The database holds what this version cannot read. The text is for logs.
    #[error("the store holds something unreadable: {0}")]
    Unreadable(String),
    /// The system gives no random numbers.
    #[error(transparent)]
    NoRandomness(#[from] crate::credential::NoRandomness),
}

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The operations of the store. All of them are atomic; dropping a future of one leaves it done or not done.
#[async_trait]
pub trait Store: FileStore {
    /// The key of this secret with everyone who holds it; also one that is revoked or past its end.
    async fn find_key(&self, sha256: &[u8; 32]) -> Result<Option<FoundKey>>;
    /// Creates a key.
    async fn create_key(&self, new: &NewKey, act: &Act) -> Result<Created<KeyRecord>>;
    /// The key of this id.
    async fn key(&self, id: &str) -> Result<Option<KeyRecord>>;
    /// Keys, the newest first.
    async fn keys(&self, filter: &KeyFilter, page: &PageRequest) -> Result<Page<KeyRecord>>;
    /// Changes what `change` names, and nothing of a revoked key.
    async fn update_key(&self, id: &str, change: &KeyChange, act: &Act) -> Result<KeyRecord>;
    /// Revokes a key for good, every secret of it; again changes nothing.
    async fn revoke_key(&self, id: &str, act: &Act) -> Result<KeyRecord>;
    /// Gives a key a new secret. The one in force stays valid for `grace_ms` more, older ones end now. Id, limits and
    /// usage stay the key's.
    #[allow(clippy::too_many_arguments, reason = "four besides the store, no two of one type")]
    async fn rotate_key(&self, id: &str, secret: &NewSecret, grace_ms: u64, act: &Act) -> Result<KeyRecord>;
    /// Notes when keys were used last; a time before the one known changes nothing.
    async fn touch_keys(&self, used: &[LastUse]) -> Result<()>;

    /// Creates an organisation, a team or an owner.
    async fn create_holder(&self, new: &NewHolder, act: &Act) -> Result<Created<HolderRecord>>;
    /// The holder of this id.
    async fn holder(&self, id: &str) -> Result<Option<HolderRecord>>;
    /// Holders, the newest first.
    async fn holders(&self, filter: &HolderFilter, page: &PageRequest) -> Result<Page<HolderRecord>>;
    /// Changes what `change` names.
    async fn update_holder(&self, id: &str, change: &HolderChange, act: &Act) -> Result<HolderRecord>;
    /// Deletes a holder that no key, owner or team belongs to.
    async fn delete_holder(&self, id: &str, act: &Act) -> Result<()>;

    /// Files an application for a key.
    async fn apply(&self, new: &NewApplication, act: &Act) -> Result<Application>;
    /// The application of this id.
    async fn application(&self, id: &str) -> Result<Option<Application>>;
    /// Applications, the newest first; of one status, or all.
    async fn applications(&self, status: Option<ApplicationStatus>, page: &PageRequest) -> Result<Page<Application>>;
    /// Approves a pending application and creates its key.
    async fn approve_application(&self, id: &str, key: &NewKey, act: &Act) -> Result<(Application, KeyRecord)>;
    /// Rejects a pending application.
    async fn reject_application(&self, id: &str, reason: Option<&str>, act: &Act) -> Result<Application>;

    /// Records usage; a record whose id is known changes nothing. How many were new.
    async fn record_usage(&self, records: &[UsageRecord]) -> Result<u64>;
    /// Sums of usage, by hour at the finest.
    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>>;
    /// Single records, the newest first.
    async fn usage_records(&self, filter: &UsageFilter, page: &PageRequest) -> Result<Page<UsageRecord>>;

    /// Adds to counters of limits, which begin at 0.
    async fn add_counters(&self, changes: &[Counter]) -> Result<()>;
    /// The counters whose window begins at or after this time.
    async fn counters(&self, windows_from_unix_ms: i64) -> Result<Vec<Counter>>;

    /// Appends an entry for something that is no change of the store, such as a reload.
    async fn audit(&self, entry: &NewAuditEntry, act: &Act) -> Result<()>;
    /// The audit log, the newest first.
    async fn audit_log(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<AuditEntry>>;

    /// Creates a credential of the admin API.
    async fn create_admin_token(&self, new: &NewAdminToken, act: &Act) -> Result<Created<AdminToken>>;
    /// The credential of this secret; also one that is revoked or expired.
    async fn find_admin_token(&self, sha256: &[u8; 32]) -> Result<Option<AdminToken>>;
    /// Credentials of the admin API, the newest first.
    async fn admin_tokens(&self, page: &PageRequest) -> Result<Page<AdminToken>>;
    /// Revokes a credential of the admin API for good; again changes nothing.
    async fn revoke_admin_token(&self, id: &str, act: &Act) -> Result<AdminToken>;

    /// The number of the newest change.
    async fn last_change(&self) -> Result<i64>;
    /// What changed after change number `since`.
    async fn changes_since(&self, since: i64) -> Result<Changes>;
    /// Turns when a change may have been made, here or (Postgres) on another node. Not every change is hinted at:
    /// poll [`changes_since`](Self::changes_since) besides.
    fn hints(&self) -> watch::Receiver<u64>;

    /// Removes what is past its use: see [`Retention`]. How many rows.
    async fn prune(&self, now_unix_ms: i64, retention: &Retention) -> Result<u64>;
}

/// Opens the store that the settings name, and brings its schema up to date; `None` where there is to be none.
///
/// # Errors
/// The file or folder cannot be made or written, the server does not answer within 10 s, or the schema is one that
/// this version does not know.
pub async fn open(conf: &StoreConf) -> Result<Option<Arc<dyn Store>>> {
    match conf {
        StoreConf::None => Ok(None),
        StoreConf::Sqlite(path) => Ok(Some(Arc::new(SqliteStore::open(Path::new(path)).await?))),
        StoreConf::Postgres(url) => Ok(Some(Arc::new(PostgresStore::open(url.reveal()).await?))),
    }
}

/// As [`open`], but a Postgres that does not answer within 3 s is tried again whenever it is used: a gateway starts
/// without it.
///
/// # Errors
/// As [`open`], but for a Postgres that does not answer.
pub async fn open_patiently(conf: &StoreConf) -> Result<Option<Arc<dyn Store>>> {
    const WAIT_MAX: Duration = Duration::from_secs(3);
    let StoreConf::Postgres(url) = conf else { return open(conf).await };
    let said = match tokio::time::timeout(WAIT_MAX, open(conf)).await {
        Ok(Err(StoreError::Unavailable(said))) => said,
        Ok(opened) => return opened,
        Err(late) => late.to_string(),
    };
    log::error!("the store at {} does not answer and is tried again: {said}", url.shown());
    Ok(Some(Arc::new(PostgresStore::lazy(url.reveal())?)))
}
