//! Organisations, teams and owners.

use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::{admin, changes, row};
use crate::config::HolderKind;
use crate::store::acts::*;
use crate::store::page::{Page, PageRequest};
use crate::store::records::*;
use crate::store::{Result, StoreError, check, id};

const INSERT: &str = "INSERT INTO holders (id, kind, name, email, team_id, organisation_id, limits, metadata, \
     created_unix_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const UPDATE: &str = "UPDATE holders SET name = $2, email = $3, team_id = $4, organisation_id = $5, limits = $6, \
     metadata = $7 WHERE id = $1";

const LIST: &str = "SELECT h.* FROM holders h LEFT JOIN holders t ON t.id = h.team_id \
     WHERE (h.created_unix_ms < $1 OR (h.created_unix_ms = $1 AND h.id < $2)) AND ($3 IS NULL OR h.kind = $3) \
     AND ($4 IS NULL OR h.team_id = $4) AND ($5 IS NULL OR COALESCE(h.organisation_id, t.organisation_id) = $5) \
     ORDER BY h.created_unix_ms DESC, h.id DESC LIMIT $6";

/// # Errors
/// There is no holder of this kind and id.
pub async fn expect(db: &mut AnyConnection, kind: HolderKind, id: Option<&str>) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    let select = "SELECT 1 FROM holders WHERE id = $1 AND kind = $2";
    let found = sqlx::query(select).bind(id).bind(kind.name()).fetch_optional(db).await?;
    found.map(drop).ok_or_else(|| StoreError::Invalid(format!("there is no {} '{id}'", kind.name())))
}

pub async fn create(db: &mut AnyConnection, new: &NewHolder, act: &Act) -> Result<HolderRecord> {
    let prefix = holder_prefix(new.kind)
        .ok_or_else(|| StoreError::Invalid(format!("a {} is not held in the store", new.kind.name())))?;
    let holder = HolderRecord {
        id: id::new(prefix)?,
        kind: new.kind,
        name: new.name.clone(),
        email: new.email.clone(),
        team: new.team.clone(),
        organisation: new.organisation.clone(),
        limits: new.limits.clone(),
        metadata: new.metadata.clone(),
        created_unix_ms: act.at_unix_ms,
    };
    check_all(db, &holder).await?;
    let query = sqlx::query(INSERT).bind(&holder.id).bind(holder.kind.name()).bind(&holder.name).bind(&holder.email);
    let query = query.bind(&holder.team).bind(&holder.organisation).bind(row::to_json(&holder.limits)?);
    query.bind(row::to_json(&holder.metadata)?).bind(holder.created_unix_ms).execute(&mut *db).await?;
    admin::note(db, ("holder.create", &holder.id), &holder, act).await?;
    Ok(holder)
}

async fn check_all(db: &mut AnyConnection, holder: &HolderRecord) -> Result<()> {
    check::holder(holder)?;
    expect(db, HolderKind::Team, holder.team.as_deref()).await?;
    expect(db, HolderKind::Organisation, holder.organisation.as_deref()).await
}

pub async fn by_id(db: &mut AnyConnection, id: &str) -> Result<Option<HolderRecord>> {
    let found = sqlx::query("SELECT * FROM holders WHERE id = $1").bind(id).fetch_optional(db).await?;
    found.as_ref().map(read).transpose()
}

pub async fn get(db: &mut AnyConnection, id: &str) -> Result<HolderRecord> {
    by_id(db, id).await?.ok_or(StoreError::NotFound("holder"))
}

pub async fn list(db: &mut AnyConnection, filter: &HolderFilter, page: &PageRequest) -> Result<Page<HolderRecord>> {
    let (unix_ms, id) = page.below();
    let query = sqlx::query(LIST).bind(unix_ms).bind(id).bind(filter.kind.map(HolderKind::name));
    let query = query.bind(&filter.team).bind(&filter.organisation).bind(page.rows() + 1);
    let rows = query.fetch_all(db).await?;
    let holders = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(Page::of(holders, page, |holder: &HolderRecord| (holder.created_unix_ms, &holder.id)))
}

pub async fn update(db: &mut AnyConnection, id: &str, change: &HolderChange, act: &Act) -> Result<HolderRecord> {
    changes::number(db, id, act.at_unix_ms).await?;
    let mut holder = get(db, id).await?;
    apply(&mut holder, change.clone());
    check_all(db, &holder).await?;
    let query = sqlx::query(UPDATE).bind(id).bind(&holder.name).bind(&holder.email).bind(&holder.team);
    let query = query.bind(&holder.organisation).bind(row::to_json(&holder.limits)?);
    query.bind(row::to_json(&holder.metadata)?).execute(&mut *db).await?;
    admin::note(db, ("holder.update", id), change, act).await?;
    Ok(holder)
}

fn apply(holder: &mut HolderRecord, change: HolderChange) {
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    set(&mut holder.name, change.name);
    set(&mut holder.email, change.email);
    set(&mut holder.team, change.team);
    set(&mut holder.organisation, change.organisation);
    set(&mut holder.limits, change.limits);
    set(&mut holder.metadata, change.metadata);
}

pub async fn delete(db: &mut AnyConnection, id: &str, act: &Act) -> Result<()> {
    changes::number(db, id, act.at_unix_ms).await?;
    let deleted = sqlx::query("DELETE FROM holders WHERE id = $1").bind(id).execute(&mut *db).await?;
    if deleted.rows_affected() == 0 {
        return Err(StoreError::NotFound("holder"));
    }
    admin::note(db, ("holder.delete", id), &json!({}), act).await
}

fn read(found: &AnyRow) -> Result<HolderRecord> {
    Ok(HolderRecord {
        id: row::text(found, "id")?,
        kind: row::word(found, "kind", HolderKind::by_name)?,
        name: row::text(found, "name")?,
        email: row::maybe_text(found, "email")?,
        team: row::maybe_text(found, "team_id")?,
        organisation: row::maybe_text(found, "organisation_id")?,
        limits: row::json(found, "limits")?,
        metadata: row::json(found, "metadata")?,
        created_unix_ms: row::number(found, "created_unix_ms")?,
    })
}
