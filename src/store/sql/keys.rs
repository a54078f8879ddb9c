//! Keys and their secrets.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::{admin, changes, holders, row};
use crate::config::{HolderKind, LimitSet};
use crate::store::acts::*;
use crate::store::check;
use crate::store::page::{Page, PageRequest};
use crate::store::records::*;
use crate::store::{Result, StoreError, id};

/// One secret's key, with its holders: the key's own first, then what its owner or team belongs to.
const FIND: &str = "SELECT k.*, s.ends_unix_ms AS secret_ends_unix_ms, \
     o.id AS o_id, o.name AS o_name, o.limits AS o_limits, \
     t.id AS t_id, t.name AS t_name, t.limits AS t_limits, \
     g.id AS g_id, g.name AS g_name, g.limits AS g_limits \
     FROM key_secrets s JOIN keys k ON k.id = s.key_id \
     LEFT JOIN holders o ON o.id = k.owner_id \
     LEFT JOIN holders t ON t.id = COALESCE(k.team_id, o.team_id) \
     LEFT JOIN holders g ON g.id = COALESCE(k.organisation_id, t.organisation_id, o.organisation_id) \
     WHERE s.sha256 = $1";

const LIST: &str = "SELECT k.* FROM keys k LEFT JOIN holders o ON o.id = k.owner_id \
     LEFT JOIN holders t ON t.id = COALESCE(k.team_id, o.team_id) \
     WHERE (k.created_unix_ms < $1 OR (k.created_unix_ms = $1 AND k.id < $2)) \
     AND ($3 IS NULL OR k.owner_id = $3) AND ($4 IS NULL OR t.id = $4) \
     AND ($5 IS NULL OR COALESCE(k.organisation_id, t.organisation_id, o.organisation_id) = $5) \
     AND ($6 IS NULL OR k.tier = $6) \
     AND ($7 = 0 OR ($7 = 1 AND k.revoked_unix_ms IS NULL) OR ($7 = 2 AND k.revoked_unix_ms IS NOT NULL)) \
     ORDER BY k.created_unix_ms DESC, k.id DESC LIMIT $8";

const INSERT: &str = "INSERT INTO keys (id, name, prefix, tier, owner_id, team_id, organisation_id, models, \
     endpoints, networks, metadata, limits, created_unix_ms, expires_unix_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

const UPDATE: &str = "UPDATE keys SET name = $2, prefix = $3, tier = $4, owner_id = $5, team_id = $6, \
     organisation_id = $7, models = $8, endpoints = $9, networks = $10, metadata = $11, limits = $12, \
     expires_unix_ms = $13, revoked_unix_ms = $14, rotated_unix_ms = $15 WHERE id = $1";

pub async fn find(db: &mut AnyConnection, sha256: &[u8; 32]) -> Result<Option<FoundKey>> {
    let found = sqlx::query(FIND).bind(row::hex(sha256)).fetch_optional(db).await?;
    let Some(found) = found else { return Ok(None) };
    Ok(Some(FoundKey {
        key: read(&found)?,
        secret_ends_unix_ms: row::maybe_number(&found, "secret_ends_unix_ms")?,
        owner: found_holder(&found, ["o_id", "o_name", "o_limits"])?,
        team: found_holder(&found, ["t_id", "t_name", "t_limits"])?,
        organisation: found_holder(&found, ["g_id", "g_name", "g_limits"])?,
    }))
}

fn found_holder(found: &AnyRow, [id, name, limits]: [&str; 3]) -> Result<Option<FoundHolder>> {
    let Some(id) = row::maybe_text(found, id)? else { return Ok(None) };
    let limits: LimitSet = row::json(found, limits)?;
    Ok(Some(FoundHolder { id, name: row::text(found, name)?, limits }))
}

pub async fn create(db: &mut AnyConnection, new: &NewKey, act: &Act) -> Result<KeyRecord> {
    let key = KeyRecord {
        id: id::new(id::KEY)?,
        name: new.name.clone(),
        prefix: new.secret.prefix.clone(),
        tier: new.tier.clone(),
        owner: new.owner.clone(),
        team: new.team.clone(),
        organisation: new.organisation.clone(),
        models: new.models.clone(),
        endpoints: new.endpoints.clone(),
        networks: new.networks.clone(),
        metadata: new.metadata.clone(),
        limits: new.limits.clone(),
        created_unix_ms: act.at_unix_ms,
        expires_unix_ms: new.expires_unix_ms,
        revoked_unix_ms: None,
        rotated_unix_ms: None,
        last_used_unix_ms: None,
    };
    check_all(db, &key).await?;
    let query = sqlx::query(INSERT).bind(&key.id).bind(&key.name).bind(&key.prefix).bind(&key.tier);
    let query = query.bind(&key.owner).bind(&key.team).bind(&key.organisation);
    let query = query.bind(row::to_json(&key.models)?).bind(row::to_json(&key.endpoints)?);
    let query = query.bind(row::to_json(&key.networks)?).bind(row::to_json(&key.metadata)?);
    let query = query.bind(row::to_json(&key.limits)?).bind(key.created_unix_ms).bind(key.expires_unix_ms);
    query.execute(&mut *db).await?;
    add_secret(db, &key.id, &new.secret, act).await?;
    admin::note(db, ("key.create", &key.id), &key, act).await?;
    Ok(key)
}

/// What the data plane will rely on, and that everyone it names is there.
async fn check_all(db: &mut AnyConnection, key: &KeyRecord) -> Result<()> {
    check::key(key)?;
    let named =
        [(HolderKind::Owner, &key.owner), (HolderKind::Team, &key.team), (HolderKind::Organisation, &key.organisation)];
    for (kind, id) in named {
        holders::expect(db, kind, id.as_deref()).await?;
    }
    Ok(())
}

async fn add_secret(db: &mut AnyConnection, key: &str, secret: &NewSecret, act: &Act) -> Result<()> {
    let insert = "INSERT INTO key_secrets (sha256, key_id, created_unix_ms) VALUES ($1, $2, $3)";
    sqlx::query(insert).bind(row::hex(&secret.sha256)).bind(key).bind(act.at_unix_ms).execute(db).await?;
    Ok(())
}

pub async fn by_id(db: &mut AnyConnection, id: &str) -> Result<Option<KeyRecord>> {
    let found = sqlx::query("SELECT * FROM keys WHERE id = $1").bind(id).fetch_optional(db).await?;
    found.as_ref().map(read).transpose()
}

pub async fn get(db: &mut AnyConnection, id: &str) -> Result<KeyRecord> {
    by_id(db, id).await?.ok_or(StoreError::NotFound("key"))
}

pub async fn list(db: &mut AnyConnection, filter: &KeyFilter, page: &PageRequest) -> Result<Page<KeyRecord>> {
    let (unix_ms, id) = page.below();
    let state = match filter.state {
        None => 0_i64,
        Some(KeyState::InForce) => 1,
        Some(KeyState::Revoked) => 2,
    };
    let query = sqlx::query(LIST).bind(unix_ms).bind(id).bind(&filter.owner).bind(&filter.team);
    let query = query.bind(&filter.organisation).bind(&filter.tier).bind(state).bind(page.rows() + 1);
    let rows = query.fetch_all(db).await?;
    let keys = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(Page::of(keys, page, |key: &KeyRecord| (key.created_unix_ms, &key.id)))
}

pub async fn update(db: &mut AnyConnection, id: &str, change: &KeyChange, act: &Act) -> Result<KeyRecord> {
    changes::number(db, id, act.at_unix_ms).await?;
    let mut key = in_force(db, id).await?;
    apply(&mut key, change.clone());
    check_all(db, &key).await?;
    write(db, &key).await?;
    admin::note(db, ("key.update", id), change, act).await?;
    Ok(key)
}

fn apply(key: &mut KeyRecord, change: KeyChange) {
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    set(&mut key.name, change.name);
    set(&mut key.tier, change.tier);
    set(&mut key.owner, change.owner);
    set(&mut key.team, change.team);
    set(&mut key.organisation, change.organisation);
    set(&mut key.models, change.models);
    set(&mut key.endpoints, change.endpoints);
    set(&mut key.networks, change.networks);
    set(&mut key.metadata, change.metadata);
    set(&mut key.limits, change.limits);
    set(&mut key.expires_unix_ms, change.expires_unix_ms);
}

/// A key that is to be changed.
async fn in_force(db: &mut AnyConnection, id: &str) -> Result<KeyRecord> {
    let key = get(db, id).await?;
    match key.revoked_unix_ms {
        None => Ok(key),
        Some(_) => Err(StoreError::Conflict("the key is revoked".into())),
    }
}

pub async fn revoke(db: &mut AnyConnection, id: &str, act: &Act) -> Result<KeyRecord> {
    changes::number(db, id, act.at_unix_ms).await?;
    let mut key = get(db, id).await?;
    if key.revoked_unix_ms.is_none() {
        key.revoked_unix_ms = Some(act.at_unix_ms);
        write(db, &key).await?;
        admin::note(db, ("key.revoke", id), &json!({}), act).await?;
    }
    Ok(key)
}

pub async fn rotate(
    db: &mut AnyConnection,
    id: &str,
    (secret, grace_ms): (&NewSecret, u64),
    act: &Act,
) -> Result<KeyRecord> {
    changes::number(db, id, act.at_unix_ms).await?;
    let mut key = in_force(db, id).await?;
    let end_old = "UPDATE key_secrets SET ends_unix_ms = $2 WHERE key_id = $1 AND ends_unix_ms > $2";
    sqlx::query(end_old).bind(id).bind(act.at_unix_ms).execute(&mut *db).await?;
    let ends_unix_ms = act.at_unix_ms.saturating_add(row::signed(grace_ms));
    let end_this = "UPDATE key_secrets SET ends_unix_ms = $2 WHERE key_id = $1 AND ends_unix_ms IS NULL";
    sqlx::query(end_this).bind(id).bind(ends_unix_ms).execute(&mut *db).await?;
    add_secret(db, id, secret, act).await?;
    key.prefix = secret.prefix.clone();
    key.rotated_unix_ms = Some(act.at_unix_ms);
    write(db, &key).await?;
    let detail = json!({"prefix": key.prefix, "old_secret_ends_unix_ms": ends_unix_ms});
    admin::note(db, ("key.rotate", id), &detail, act).await?;
    Ok(key)
}

async fn write(db: &mut AnyConnection, key: &KeyRecord) -> Result<()> {
    let query = sqlx::query(UPDATE).bind(&key.id).bind(&key.name).bind(&key.prefix).bind(&key.tier);
    let query = query.bind(&key.owner).bind(&key.team).bind(&key.organisation);
    let query = query.bind(row::to_json(&key.models)?).bind(row::to_json(&key.endpoints)?);
    let query = query.bind(row::to_json(&key.networks)?).bind(row::to_json(&key.metadata)?);
    let query = query.bind(row::to_json(&key.limits)?).bind(key.expires_unix_ms);
    query.bind(key.revoked_unix_ms).bind(key.rotated_unix_ms).execute(db).await?;
    Ok(())
}

pub async fn touch(db: &mut AnyConnection, used: &[LastUse]) -> Result<()> {
    let update = "UPDATE keys SET last_used_unix_ms = $2 \
                  WHERE id = $1 AND (last_used_unix_ms IS NULL OR last_used_unix_ms < $2)";
    // In one order everywhere, so that two nodes never wait for each other.
    let sorted: BTreeSet<(&str, i64)> = used.iter().map(|use_| (use_.key.as_str(), use_.at_unix_ms)).collect();
    for (key, at_unix_ms) in sorted {
        sqlx::query(update).bind(key).bind(at_unix_ms).execute(&mut *db).await?;
    }
    Ok(())
}

fn read(found: &AnyRow) -> Result<KeyRecord> {
    Ok(KeyRecord {
        id: row::text(found, "id")?,
        name: row::text(found, "name")?,
        prefix: row::text(found, "prefix")?,
        tier: row::text(found, "tier")?,
        owner: row::maybe_text(found, "owner_id")?,
        team: row::maybe_text(found, "team_id")?,
        organisation: row::maybe_text(found, "organisation_id")?,
        models: row::json(found, "models")?,
        endpoints: row::json(found, "endpoints")?,
        networks: row::json(found, "networks")?,
        metadata: row::json(found, "metadata")?,
        limits: row::json(found, "limits")?,
        created_unix_ms: row::number(found, "created_unix_ms")?,
        expires_unix_ms: row::maybe_number(found, "expires_unix_ms")?,
        revoked_unix_ms: row::maybe_number(found, "revoked_unix_ms")?,
        rotated_unix_ms: row::maybe_number(found, "rotated_unix_ms")?,
        last_used_unix_ms: row::maybe_number(found, "last_used_unix_ms")?,
    })
}
