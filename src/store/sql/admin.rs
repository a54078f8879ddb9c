//! What the admin API needs besides its objects: the audit log, idempotency keys, its own credentials.

use serde::Serialize;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::row;
use crate::store::acts::*;
use crate::store::page::{Page, PageRequest};
use crate::store::{Result, StoreError, check, id};

const AUDIT_LOG: &str = "SELECT * FROM audit_log WHERE (at_unix_ms < $1 OR (at_unix_ms = $1 AND id < $2)) \
     AND ($3 IS NULL OR actor = $3) AND ($4 IS NULL OR object = $4) AND ($5 IS NULL OR action = $5) \
     ORDER BY at_unix_ms DESC, id DESC LIMIT $6";

const TOKENS: &str = "SELECT * FROM admin_tokens WHERE (created_unix_ms < $1 OR (created_unix_ms = $1 AND id < $2)) \
     ORDER BY created_unix_ms DESC, id DESC LIMIT $3";

const INSERT_TOKEN: &str = "INSERT INTO admin_tokens (id, sha256, prefix, name, role, created_unix_ms, \
     expires_unix_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// Notes in the audit log what is done to `object` in this transaction.
pub async fn note(
    db: &mut AnyConnection,
    (action, object): (&str, &str),
    detail: &impl Serialize,
    act: &Act,
) -> Result<()> {
    let insert = "INSERT INTO audit_log (id, at_unix_ms, actor, via, action, object, detail) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let query = sqlx::query(insert).bind(id::new(id::AUDIT)?).bind(act.at_unix_ms).bind(&act.actor).bind(&act.via);
    query.bind(action).bind(object).bind(row::to_json(detail)?).execute(db).await?;
    Ok(())
}

pub async fn append(db: &mut AnyConnection, entry: &NewAuditEntry, act: &Act) -> Result<()> {
    note(db, (&entry.action, &entry.object), &entry.detail, act).await
}

pub async fn audit_log(db: &mut AnyConnection, filter: &AuditFilter, page: &PageRequest) -> Result<Page<AuditEntry>> {
    let (unix_ms, id) = page.below();
    let query = sqlx::query(AUDIT_LOG).bind(unix_ms).bind(id).bind(&filter.actor).bind(&filter.object);
    let rows = query.bind(&filter.action).bind(page.rows() + 1).fetch_all(db).await?;
    let entries = rows.iter().map(read_entry).collect::<Result<_>>()?;
    Ok(Page::of(entries, page, |entry: &AuditEntry| (entry.at_unix_ms, &entry.id)))
}

fn read_entry(found: &AnyRow) -> Result<AuditEntry> {
    Ok(AuditEntry {
        id: row::text(found, "id")?,
        at_unix_ms: row::number(found, "at_unix_ms")?,
        actor: row::text(found, "actor")?,
        via: row::text(found, "via")?,
        action: row::text(found, "action")?,
        object: row::text(found, "object")?,
        detail: row::json(found, "detail")?,
    })
}

/// The id of what was created under this act's idempotency key before.
///
/// # Errors
/// The key stands for another request.
pub async fn created_before(db: &mut AnyConnection, act: &Act) -> Result<Option<String>> {
    let Some(idempotency) = &act.idempotency else { return Ok(None) };
    let select = "SELECT fingerprint, object FROM idempotency_keys WHERE actor = $1 AND name = $2";
    let found = sqlx::query(select).bind(&act.actor).bind(&idempotency.name).fetch_optional(db).await?;
    let Some(found) = found else { return Ok(None) };
    if row::text(&found, "fingerprint")? != idempotency.fingerprint {
        return Err(StoreError::Conflict("the idempotency key was used for another request".into()));
    }
    row::text(&found, "object").map(Some)
}

/// Remembers what was created. Of two at the same time, the second fails here, and finds the first when it asks again.
pub async fn remember_created(db: &mut AnyConnection, object: &str, act: &Act) -> Result<()> {
    let Some(idempotency) = &act.idempotency else { return Ok(()) };
    let insert = "INSERT INTO idempotency_keys (actor, name, fingerprint, object, created_unix_ms) \
                  VALUES ($1, $2, $3, $4, $5)";
    let query = sqlx::query(insert).bind(&act.actor).bind(&idempotency.name).bind(&idempotency.fingerprint);
    query.bind(object).bind(act.at_unix_ms).execute(db).await?;
    Ok(())
}

pub async fn create_token(db: &mut AnyConnection, new: &NewAdminToken, act: &Act) -> Result<AdminToken> {
    check::name(&new.name)?;
    let id = id::new(id::ADMIN_TOKEN)?;
    let query = sqlx::query(INSERT_TOKEN).bind(&id).bind(row::hex(&new.secret.sha256)).bind(&new.secret.prefix);
    let query = query.bind(&new.name).bind(new.role.name()).bind(act.at_unix_ms).bind(new.expires_unix_ms);
    query.execute(&mut *db).await?;
    let detail = json!({"name": new.name, "role": new.role.name()});
    note(db, ("admin_token.create", &id), &detail, act).await?;
    get_token(db, &id).await
}

pub async fn find_token(db: &mut AnyConnection, sha256: &[u8; 32]) -> Result<Option<AdminToken>> {
    let select = "SELECT * FROM admin_tokens WHERE sha256 = $1";
    let found = sqlx::query(select).bind(row::hex(sha256)).fetch_optional(db).await?;
    found.as_ref().map(read_token).transpose()
}

pub async fn get_token(db: &mut AnyConnection, id: &str) -> Result<AdminToken> {
    let found = sqlx::query("SELECT * FROM admin_tokens WHERE id = $1").bind(id).fetch_optional(db).await?;
    read_token(&found.ok_or(StoreError::NotFound("admin token"))?)
}

pub async fn tokens(db: &mut AnyConnection, page: &PageRequest) -> Result<Page<AdminToken>> {
    let (unix_ms, id) = page.below();
    let rows = sqlx::query(TOKENS).bind(unix_ms).bind(id).bind(page.rows() + 1).fetch_all(db).await?;
    let tokens = rows.iter().map(read_token).collect::<Result<_>>()?;
    Ok(Page::of(tokens, page, |token: &AdminToken| (token.created_unix_ms, &token.id)))
}

pub async fn revoke_token(db: &mut AnyConnection, id: &str, act: &Act) -> Result<AdminToken> {
    let update = "UPDATE admin_tokens SET revoked_unix_ms = $2 WHERE id = $1 AND revoked_unix_ms IS NULL";
    let revoked = sqlx::query(update).bind(id).bind(act.at_unix_ms).execute(&mut *db).await?;
    if revoked.rows_affected() > 0 {
        note(db, ("admin_token.revoke", id), &json!({}), act).await?;
    }
    get_token(db, id).await
}

fn read_token(found: &AnyRow) -> Result<AdminToken> {
    Ok(AdminToken {
        id: row::text(found, "id")?,
        name: row::text(found, "name")?,
        prefix: row::text(found, "prefix")?,
        role: row::word(found, "role", Role::by_name)?,
        created_unix_ms: row::number(found, "created_unix_ms")?,
        expires_unix_ms: row::maybe_number(found, "expires_unix_ms")?,
        revoked_unix_ms: row::maybe_number(found, "revoked_unix_ms")?,
    })
}
