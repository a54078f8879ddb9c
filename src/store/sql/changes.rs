//! Numbered changes of keys and holders.

use sqlx::AnyConnection;

use super::row;
use crate::store::{Changed, Changes, Result};

/// More than this at once, and everything is forgotten instead.
const AT_ONCE_MAX: i64 = 1000;

/// Notes that this object changes in this transaction. Comes first in each change: the row it locks lets one change
/// at a time read and write, and numbers become visible in their order.
pub async fn number(db: &mut AnyConnection, object: &str, at_unix_ms: i64) -> Result<()> {
    let next = "UPDATE change_sequence SET last = last + 1 WHERE one = 1 RETURNING last";
    let number: i64 = sqlx::query_scalar(next).fetch_one(&mut *db).await?;
    let insert = "INSERT INTO changes (number, object, at_unix_ms) VALUES ($1, $2, $3)";
    sqlx::query(insert).bind(number).bind(object).bind(at_unix_ms).execute(&mut *db).await?;
    Ok(())
}

/// The number of the newest.
pub async fn last(db: &mut AnyConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT last FROM change_sequence WHERE one = 1").fetch_one(db).await?)
}

/// What changed after number `since`.
pub async fn since(db: &mut AnyConnection, since: i64) -> Result<Changes> {
    let last = last(&mut *db).await?;
    if last == since {
        return Ok(Changes { last, what: Changed::Objects(Vec::new()) });
    }
    let select = "SELECT object FROM changes WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3";
    let rows = sqlx::query(select).bind(since).bind(last).bind(AT_ONCE_MAX).fetch_all(&mut *db).await?;
    // Fewer than there were numbers: some are pruned, or too many to tell; or this is another database.
    let whole = i64::try_from(rows.len()).is_ok_and(|found| found == last - since);
    let what = if whole {
        Changed::Objects(rows.iter().map(|found| row::text(found, "object")).collect::<Result<_>>()?)
    } else {
        Changed::Everything
    };
    Ok(Changes { last, what })
}
