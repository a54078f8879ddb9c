//! Records of files. Each transaction locks one file, then its key's sum, then its tier's, in this order, so that two
//! of them never wait for each other.

use async_trait::async_trait;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::{Backend, SqlStore, row};
use crate::store::Result;
use crate::store::files::*;

const BEGIN: &str = "INSERT INTO files (id, state, key_id, tier, shared_team, purpose, filename, content_type, bytes, \
     sha256, created_unix_ms, renewed_unix_ms) VALUES ($1, 'uploading', $2, $3, $4, '', '', '', 0, '', $5, $5)";

const FINISH: &str = "UPDATE files SET state = 'ready', purpose = $2, filename = $3, content_type = $4, bytes = $5, \
     sha256 = $6, expires_unix_ms = $7, ticket = NULL WHERE id = $1 AND state = 'uploading' RETURNING key_id, tier";

const DOOM: &str =
    "UPDATE files SET state = 'doomed' WHERE id = $1 AND state <> 'doomed' RETURNING key_id, tier, bytes";

/// One more file; no row where that is over the bound.
const ADD_FILE: &str = "INSERT INTO files_held (holder, files, bytes) VALUES ($1, 1, 0) \
     ON CONFLICT (holder) DO UPDATE SET files = files_held.files + 1 WHERE files_held.files < $2";

/// More bytes; no row where that is over the bound.
const ADD_BYTES: &str = "UPDATE files_held SET bytes = bytes + $2 WHERE holder = $1 AND bytes + $2 <= $3";

const TAKE: &str = "UPDATE files_held SET files = files - 1, bytes = bytes - $2 WHERE holder = $1";

const GET: &str = "SELECT * FROM files WHERE id = $1 AND state = 'ready' AND (key_id = $2 OR shared_team = $3) \
     AND (expires_unix_ms IS NULL OR expires_unix_ms > $4)";

const NEWEST_FIRST: &str = "SELECT * FROM files WHERE state = 'ready' AND (key_id = $1 OR shared_team = $2) \
     AND (expires_unix_ms IS NULL OR expires_unix_ms > $3) AND ($4 IS NULL OR purpose = $4) \
     AND (created_unix_ms < $5 OR (created_unix_ms = $5 AND id < $6)) ORDER BY created_unix_ms DESC, id DESC LIMIT $7";

const OLDEST_FIRST: &str = "SELECT * FROM files WHERE state = 'ready' AND (key_id = $1 OR shared_team = $2) \
     AND (expires_unix_ms IS NULL OR expires_unix_ms > $3) AND ($4 IS NULL OR purpose = $4) \
     AND (created_unix_ms > $5 OR (created_unix_ms = $5 AND id > $6)) ORDER BY created_unix_ms, id LIMIT $7";

/// What is to be doomed: past its time, or without a sign of life.
const PAST: &str = "SELECT id FROM files WHERE (state = 'ready' AND expires_unix_ms <= $1) \
     OR (state = 'uploading' AND renewed_unix_ms < $2) LIMIT $3";

#[async_trait]
impl<B: Backend> FileStore for SqlStore<B> {
    async fn begin_file(&self, new: &NewFile, bounds: &FileBounds) -> Result<Kept> {
        let mut tx = self.begin().await?;
        let query = sqlx::query(BEGIN).bind(&new.id).bind(&new.key_id).bind(&new.tier);
        query.bind(&new.shared_team).bind(new.created_unix_ms).execute(&mut *tx).await?;
        let [key, tier] = holders(&new.key_id, &new.tier);
        for (holder, max, over) in [(key, bounds.key, Kept::OverKey), (tier, bounds.tier, Kept::OverTier)] {
            let added = sqlx::query(ADD_FILE).bind(holder).bind(row::signed(max.files)).execute(&mut *tx).await?;
            if added.rows_affected() == 0 {
                return Ok(over);
            }
        }
        tx.commit().await?;
        Ok(Kept::Yes)
    }

    async fn note_ticket(&self, id: &str, ticket: &str) -> Result<()> {
        let query = sqlx::query("UPDATE files SET ticket = $2 WHERE id = $1").bind(id).bind(ticket);
        query.execute(&mut *self.connection().await?).await?;
        Ok(())
    }

    async fn renew_uploads(&self, ids: &[String], now_unix_ms: i64) -> Result<()> {
        let mut connection = self.connection().await?;
        for id in ids {
            let query = sqlx::query("UPDATE files SET renewed_unix_ms = $2 WHERE id = $1 AND state = 'uploading'");
            query.bind(id).bind(now_unix_ms).execute(&mut *connection).await?;
        }
        Ok(())
    }

    async fn finish_file(&self, id: &str, done: &FileDone, bounds: &FileBounds) -> Result<Kept> {
        let mut tx = self.begin().await?;
        let bytes = row::signed(done.bytes);
        let query = sqlx::query(FINISH).bind(id).bind(&done.purpose).bind(&done.filename).bind(&done.content_type);
        let query = query.bind(bytes).bind(&done.sha256).bind(done.expires_unix_ms);
        let Some(file) = query.fetch_optional(&mut *tx).await? else { return Ok(Kept::Gone) };
        let [key, tier] = holders(&row::text(&file, "key_id")?, &row::text(&file, "tier")?);
        for (holder, max, over) in [(key, bounds.key, Kept::OverKey), (tier, bounds.tier, Kept::OverTier)] {
            let query = sqlx::query(ADD_BYTES).bind(holder).bind(bytes).bind(row::signed(max.bytes));
            if query.execute(&mut *tx).await?.rows_affected() == 0 {
                return Ok(over);
            }
        }
        tx.commit().await?;
        Ok(Kept::Yes)
    }

    async fn file(&self, id: &str, viewer: Viewer<'_>, now_unix_ms: i64) -> Result<Option<FileRecord>> {
        let query = sqlx::query(GET).bind(id).bind(viewer.key_id).bind(viewer.team).bind(now_unix_ms);
        let found = query.fetch_optional(&mut *self.connection().await?).await?;
        found.as_ref().map(read).transpose()
    }

    async fn files(&self, asked: &FileQuery<'_>) -> Result<Vec<FileRecord>> {
        let (sql, from) = match asked.order {
            Order::Descending => (NEWEST_FIRST, i64::MAX),
            Order::Ascending => (OLDEST_FIRST, i64::MIN),
        };
        let (unix_ms, id) = asked.after.unwrap_or((from, ""));
        let query = sqlx::query(sql).bind(asked.viewer.key_id).bind(asked.viewer.team).bind(asked.now_unix_ms);
        let query = query.bind(asked.purpose).bind(unix_ms).bind(id).bind(i64::from(asked.limit));
        let rows = query.fetch_all(&mut *self.connection().await?).await?;
        rows.iter().map(read).collect()
    }

    async fn doom_file(&self, id: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        doom(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }

    async fn doomed_files(&self, now_unix_ms: i64, stale_unix_ms: i64, limit: u32) -> Result<Vec<DoomedFile>> {
        let query = sqlx::query(PAST).bind(now_unix_ms).bind(stale_unix_ms).bind(i64::from(limit));
        let past = query.fetch_all(&mut *self.connection().await?).await?;
        for file in &past {
            self.doom_file(&row::text(file, "id")?).await?;
        }
        let query = sqlx::query("SELECT id, ticket FROM files WHERE state = 'doomed' LIMIT $1").bind(i64::from(limit));
        let doomed = query.fetch_all(&mut *self.connection().await?).await?;
        doomed.iter().map(read_doomed).collect()
    }

    async fn doomed_file(&self, id: &str) -> Result<Option<DoomedFile>> {
        let query = sqlx::query("SELECT id, ticket FROM files WHERE id = $1 AND state = 'doomed'").bind(id);
        let found = query.fetch_optional(&mut *self.connection().await?).await?;
        found.as_ref().map(read_doomed).transpose()
    }

    async fn forget_file(&self, id: &str) -> Result<()> {
        let query = sqlx::query("DELETE FROM files WHERE id = $1 AND state = 'doomed'").bind(id);
        query.execute(&mut *self.connection().await?).await?;
        Ok(())
    }

    async fn held(&self) -> Result<Held> {
        // Postgres' sums of BIGINT are NUMERIC.
        let sql = "SELECT CAST(COALESCE(SUM(files), 0) AS BIGINT) AS files, \
                   CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM files_held WHERE holder LIKE 'key:%'";
        let sums = sqlx::query(sql).fetch_one(&mut *self.connection().await?).await?;
        Ok(Held { files: row::amount(&sums, "files")?, bytes: row::amount(&sums, "bytes")? })
    }
}

async fn doom(db: &mut AnyConnection, id: &str) -> Result<()> {
    let Some(file) = sqlx::query(DOOM).bind(id).fetch_optional(&mut *db).await? else { return Ok(()) };
    let bytes = row::number(&file, "bytes")?;
    for holder in holders(&row::text(&file, "key_id")?, &row::text(&file, "tier")?) {
        sqlx::query(TAKE).bind(holder).bind(bytes).execute(&mut *db).await?;
    }
    Ok(())
}

/// Whose sums a file counts in, in the order they are locked.
fn holders(key_id: &str, tier: &str) -> [String; 2] {
    [format!("key:{key_id}"), format!("tier:{tier}")]
}

fn read(found: &AnyRow) -> Result<FileRecord> {
    Ok(FileRecord {
        id: row::text(found, "id")?,
        key_id: row::text(found, "key_id")?,
        tier: row::text(found, "tier")?,
        shared_team: row::maybe_text(found, "shared_team")?,
        purpose: row::text(found, "purpose")?,
        filename: row::text(found, "filename")?,
        content_type: row::text(found, "content_type")?,
        bytes: row::amount(found, "bytes")?,
        sha256: row::text(found, "sha256")?,
        created_unix_ms: row::number(found, "created_unix_ms")?,
        expires_unix_ms: row::maybe_number(found, "expires_unix_ms")?,
    })
}

fn read_doomed(found: &AnyRow) -> Result<DoomedFile> {
    Ok(DoomedFile { id: row::text(found, "id")?, ticket: row::maybe_text(found, "ticket")? })
}
