//! Applications for keys.

use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::{admin, row};
use crate::store::acts::*;
use crate::store::page::{Page, PageRequest};
use crate::store::records::*;
use crate::store::{Result, StoreError, check, id};

const INSERT: &str = "INSERT INTO applications (id, name, email, purpose, address, status, created_unix_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";

const LIST: &str = "SELECT * FROM applications \
     WHERE (created_unix_ms < $1 OR (created_unix_ms = $1 AND id < $2)) AND ($3 IS NULL OR status = $3) \
     ORDER BY created_unix_ms DESC, id DESC LIMIT $4";

/// Only one of those who decide at the same time finds it pending.
const DECIDE: &str = "UPDATE applications SET status = $2, decided_unix_ms = $3, decided_by = $4, reason = $5, \
     key_id = $6 WHERE id = $1 AND status = 'pending'";

/// What is decided of an application.
#[derive(Clone, Copy)]
pub enum Decision<'a> {
    Approved { key: &'a str },
    Rejected { reason: Option<&'a str> },
}

pub async fn create(db: &mut AnyConnection, new: &NewApplication, act: &Act) -> Result<Application> {
    check::application(new)?;
    let id = id::new(id::APPLICATION)?;
    let query = sqlx::query(INSERT).bind(&id).bind(&new.name).bind(&new.email).bind(&new.purpose).bind(&new.address);
    query.bind(ApplicationStatus::Pending.name()).bind(act.at_unix_ms).execute(&mut *db).await?;
    admin::note(db, ("application.create", &id), &json!({}), act).await?;
    get(db, &id).await
}

pub async fn by_id(db: &mut AnyConnection, id: &str) -> Result<Option<Application>> {
    let found = sqlx::query("SELECT * FROM applications WHERE id = $1").bind(id).fetch_optional(db).await?;
    found.as_ref().map(read).transpose()
}

async fn get(db: &mut AnyConnection, id: &str) -> Result<Application> {
    by_id(db, id).await?.ok_or(StoreError::NotFound("application"))
}

pub async fn list(
    db: &mut AnyConnection,
    status: Option<ApplicationStatus>,
    page: &PageRequest,
) -> Result<Page<Application>> {
    let (unix_ms, id) = page.below();
    let query = sqlx::query(LIST).bind(unix_ms).bind(id).bind(status.map(ApplicationStatus::name));
    let rows = query.bind(page.rows() + 1).fetch_all(db).await?;
    let applications = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(Page::of(applications, page, |application: &Application| (application.created_unix_ms, &application.id)))
}

pub async fn decide(db: &mut AnyConnection, id: &str, decision: Decision<'_>, act: &Act) -> Result<Application> {
    let (status, reason, key, action) = match decision {
        Decision::Approved { key } => (ApplicationStatus::Approved, None, Some(key), "application.approve"),
        Decision::Rejected { reason } => (ApplicationStatus::Rejected, reason, None, "application.reject"),
    };
    let query = sqlx::query(DECIDE).bind(id).bind(status.name()).bind(act.at_unix_ms).bind(&act.actor);
    let decided = query.bind(reason).bind(key).execute(&mut *db).await?;
    let application = get(db, id).await?;
    if decided.rows_affected() == 0 {
        return Err(StoreError::Conflict(format!("the application is {} already", application.status.name())));
    }
    admin::note(db, (action, id), &json!({"reason": reason, "key": key}), act).await?;
    Ok(application)
}

fn read(found: &AnyRow) -> Result<Application> {
    Ok(Application {
        id: row::text(found, "id")?,
        name: row::text(found, "name")?,
        email: row::text(found, "email")?,
        purpose: row::text(found, "purpose")?,
        address: row::text(found, "address")?,
        status: row::word(found, "status", ApplicationStatus::by_name)?,
        created_unix_ms: row::number(found, "created_unix_ms")?,
        decided_unix_ms: row::maybe_number(found, "decided_unix_ms")?,
        decided_by: row::maybe_text(found, "decided_by")?,
        reason: row::maybe_text(found, "reason")?,
        key: row::maybe_text(found, "key_id")?,
    })
}
