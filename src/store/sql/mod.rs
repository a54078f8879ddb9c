//! The two implementations of the store. They share every statement: SQLite takes Postgres' `$1`, both know
//! `ON CONFLICT` and `RETURNING`, and the schema keeps to types that both have.

mod admin;
mod applications;
mod changes;
mod counters;
mod error;
mod files;
mod holders;
mod keys;
mod postgres;
mod row;
mod sqlite;
mod usage;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Transaction};
use tokio::sync::{OnceCell, watch};

pub use postgres::Postgres;
pub use sqlite::Sqlite;

use super::acts::*;
use super::page::{Page, PageRequest};
use super::records::*;
use super::usage::{UsageFilter, UsageQuery, UsageRecord, UsageRow};
use super::{Result, Store, schema};

/// The store in one SQLite file.
pub type SqliteStore = SqlStore<Sqlite>;
/// The store in a Postgres database.
pub type PostgresStore = SqlStore<Postgres>;

/// What differs between the databases.
pub trait Backend: Send + Sync + 'static {
    /// Begins a transaction that will write.
    const BEGIN: &'static str;
    /// Tells other nodes, once the transaction is committed, that something changed; none where there are no others.
    const NOTIFY: Option<&'static str>;
}

/// A store in a database.
pub struct SqlStore<B: Backend> {
    pool: AnyPool,
    /// For what a request or another node waits for: never behind a report.
    quick: AnyPool,
    /// Set once the schema is up to date.
    schema: OnceCell<()>,
    hints: watch::Sender<u64>,
    /// What else the backend needs for as long as the store lives.
    _backend: B,
}

impl<B: Backend> SqlStore<B> {
    fn new((pool, quick): (AnyPool, AnyPool), hints: watch::Sender<u64>, backend: B) -> Self {
        Self { pool, quick, schema: OnceCell::new(), hints, _backend: backend }
    }

    /// Brings the schema up to date, before anything else is done.
    async fn ready(&self) -> Result<()> {
        self.schema.get_or_try_init(async || Ok(schema::migrator().run(&self.pool).await?)).await.copied()
    }

    async fn begin(&self) -> Result<Transaction<'static, Any>> {
        self.ready().await?;
        Ok(self.pool.begin_with(B::BEGIN).await?)
    }

    /// Commits a change of what nodes remember, and announces it.
    async fn announce(&self, mut tx: Transaction<'static, Any>) -> Result<()> {
        if let Some(notify) = B::NOTIFY {
            sqlx::query(notify).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        self.hints.send_modify(|hint| *hint += 1);
        Ok(())
    }

    async fn connection(&self) -> Result<PoolConnection<Any>> {
        self.ready().await?;
        Ok(self.pool.acquire().await?)
    }

    async fn quick(&self) -> Result<PoolConnection<Any>> {
        self.ready().await?;
        Ok(self.quick.acquire().await?)
    }

    /// Closes every connection; for tests and tools, which leave no file or session behind.
    pub async fn close(&self) {
        self.quick.close().await;
        self.pool.close().await;
    }
}

#[async_trait]
impl<B: Backend> Store for SqlStore<B> {
    async fn find_key(&self, sha256: &[u8; 32]) -> Result<Option<FoundKey>> {
        keys::find(&mut *self.quick().await?, sha256).await
    }

    async fn create_key(&self, new: &NewKey, act: &Act) -> Result<Created<KeyRecord>> {
        let mut tx = self.begin().await?;
        if let Some(id) = admin::created_before(&mut tx, act).await? {
            return keys::get(&mut tx, &id).await.map(Created::Before);
        }
        let key = keys::create(&mut tx, new, act).await?;
        admin::remember_created(&mut tx, &key.id, act).await?;
        tx.commit().await?;
        Ok(Created::New(key))
    }

    async fn key(&self, id: &str) -> Result<Option<KeyRecord>> {
        keys::by_id(&mut *self.connection().await?, id).await
    }

    async fn keys(&self, filter: &KeyFilter, page: &PageRequest) -> Result<Page<KeyRecord>> {
        keys::list(&mut *self.connection().await?, filter, page).await
    }

    async fn update_key(&self, id: &str, change: &KeyChange, act: &Act) -> Result<KeyRecord> {
        let mut tx = self.begin().await?;
        let key = keys::update(&mut tx, id, change, act).await?;
        self.announce(tx).await?;
        Ok(key)
    }

    async fn revoke_key(&self, id: &str, act: &Act) -> Result<KeyRecord> {
        let mut tx = self.begin().await?;
        let key = keys::revoke(&mut tx, id, act).await?;
        self.announce(tx).await?;
        Ok(key)
    }

    async fn rotate_key(&self, id: &str, secret: &NewSecret, grace_ms: u64, act: &Act) -> Result<KeyRecord> {
        let mut tx = self.begin().await?;
        let key = keys::rotate(&mut tx, id, (secret, grace_ms), act).await?;
        self.announce(tx).await?;
        Ok(key)
    }

    async fn touch_keys(&self, used: &[LastUse]) -> Result<()> {
        let mut tx = self.begin().await?;
        keys::touch(&mut tx, used).await?;
        Ok(tx.commit().await?)
    }

    async fn create_holder(&self, new: &NewHolder, act: &Act) -> Result<Created<HolderRecord>> {
        let mut tx = self.begin().await?;
        if let Some(id) = admin::created_before(&mut tx, act).await? {
            return holders::get(&mut tx, &id).await.map(Created::Before);
        }
        let holder = holders::create(&mut tx, new, act).await?;
        admin::remember_created(&mut tx, &holder.id, act).await?;
        tx.commit().await?;
        Ok(Created::New(holder))
    }

    async fn holder(&self, id: &str) -> Result<Option<HolderRecord>> {
        holders::by_id(&mut *self.connection().await?, id).await
    }

    async fn holders(&self, filter: &HolderFilter, page: &PageRequest) -> Result<Page<HolderRecord>> {
        holders::list(&mut *self.connection().await?, filter, page).await
    }

    async fn update_holder(&self, id: &str, change: &HolderChange, act: &Act) -> Result<HolderRecord> {
        let mut tx = self.begin().await?;
        let holder = holders::update(&mut tx, id, change, act).await?;
        self.announce(tx).await?;
        Ok(holder)
    }

    async fn delete_holder(&self, id: &str, act: &Act) -> Result<()> {
        let mut tx = self.begin().await?;
        holders::delete(&mut tx, id, act).await?;
        self.announce(tx).await
    }

    async fn apply(&self, new: &NewApplication, act: &Act) -> Result<Application> {
        let mut tx = self.begin().await?;
        let application = applications::create(&mut tx, new, act).await?;
        tx.commit().await?;
        Ok(application)
    }

    async fn application(&self, id: &str) -> Result<Option<Application>> {
        applications::by_id(&mut *self.connection().await?, id).await
    }

    async fn applications(&self, status: Option<ApplicationStatus>, page: &PageRequest) -> Result<Page<Application>> {
        applications::list(&mut *self.connection().await?, status, page).await
    }

    async fn approve_application(&self, id: &str, key: &NewKey, act: &Act) -> Result<(Application, KeyRecord)> {
        let mut tx = self.begin().await?;
        let key = keys::create(&mut tx, key, act).await?;
        let decision = applications::Decision::Approved { key: &key.id };
        let application = applications::decide(&mut tx, id, decision, act).await?;
        tx.commit().await?;
        Ok((application, key))
    }

    async fn reject_application(&self, id: &str, reason: Option<&str>, act: &Act) -> Result<Application> {
        let mut tx = self.begin().await?;
        let application = applications::decide(&mut tx, id, applications::Decision::Rejected { reason }, act).await?;
        tx.commit().await?;
        Ok(application)
    }

    async fn record_usage(&self, records: &[UsageRecord]) -> Result<u64> {
        let mut tx = self.begin().await?;
        let new = usage::record(&mut tx, records).await?;
        tx.commit().await?;
        Ok(new)
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>> {
        usage::sums(&mut *self.connection().await?, query).await
    }

    async fn usage_records(&self, filter: &UsageFilter, page: &PageRequest) -> Result<Page<UsageRecord>> {
        usage::list(&mut *self.connection().await?, filter, page).await
    }

    async fn add_counters(&self, changes: &[Counter]) -> Result<()> {
        let mut tx = self.begin().await?;
        counters::add(&mut tx, changes).await?;
        Ok(tx.commit().await?)
    }

    async fn counters(&self, windows_from_unix_ms: i64) -> Result<Vec<Counter>> {
        counters::list(&mut *self.connection().await?, windows_from_unix_ms).await
    }

    async fn audit(&self, entry: &NewAuditEntry, act: &Act) -> Result<()> {
        admin::append(&mut *self.connection().await?, entry, act).await
    }

    async fn audit_log(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<AuditEntry>> {
        admin::audit_log(&mut *self.connection().await?, filter, page).await
    }

    async fn create_admin_token(&self, new: &NewAdminToken, act: &Act) -> Result<Created<AdminToken>> {
        let mut tx = self.begin().await?;
        if let Some(id) = admin::created_before(&mut tx, act).await? {
            return admin::get_token(&mut tx, &id).await.map(Created::Before);
        }
        let token = admin::create_token(&mut tx, new, act).await?;
        admin::remember_created(&mut tx, &token.id, act).await?;
        tx.commit().await?;
        Ok(Created::New(token))
    }

    async fn find_admin_token(&self, sha256: &[u8; 32]) -> Result<Option<AdminToken>> {
        admin::find_token(&mut *self.connection().await?, sha256).await
    }

    async fn admin_tokens(&self, page: &PageRequest) -> Result<Page<AdminToken>> {
        admin::tokens(&mut *self.connection().await?, page).await
    }

    async fn revoke_admin_token(&self, id: &str, act: &Act) -> Result<AdminToken> {
        let mut tx = self.begin().await?;
        let token = admin::revoke_token(&mut tx, id, act).await?;
        tx.commit().await?;
        Ok(token)
    }

    async fn last_change(&self) -> Result<i64> {
        changes::last(&mut *self.quick().await?).await
    }

    async fn changes_since(&self, since: i64) -> Result<Changes> {
        changes::since(&mut *self.quick().await?, since).await
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }

    async fn prune(&self, now_unix_ms: i64, retention: &Retention) -> Result<u64> {
        let mut tx = self.begin().await?;
        let removed = prune(&mut tx, now_unix_ms, retention).await?;
        tx.commit().await?;
        Ok(removed)
    }
}

/// Each table and its column of time, and how long what is in it is of use.
async fn prune(db: &mut AnyConnection, now_unix_ms: i64, retention: &Retention) -> Result<u64> {
    let old = [
        ("DELETE FROM usage_records WHERE at_unix_ms < $1", retention.usage_records_ms),
        ("DELETE FROM idempotency_keys WHERE created_unix_ms < $1", retention.idempotency_ms),
        ("DELETE FROM changes WHERE at_unix_ms < $1", retention.changes_ms),
        ("DELETE FROM limit_counters WHERE window_unix_ms < $1", retention.counters_ms),
        ("DELETE FROM key_secrets WHERE ends_unix_ms < $1", retention.changes_ms),
    ];
    let mut removed = 0;
    for (sql, kept_ms) in old {
        removed += sqlx::query(sql).bind(now_unix_ms - kept_ms).execute(&mut *db).await?.rows_affected();
    }
    Ok(removed)
}
