//! Counters of limits over days and months.

use sqlx::AnyConnection;

use super::row;
use crate::store::{Counter, Result};

/// Adds to each; one that is not there begins at 0. In one order everywhere, so that two nodes never wait for each
/// other.
pub async fn add(db: &mut AnyConnection, changes: &[Counter]) -> Result<()> {
    let mut changes: Vec<&Counter> = changes.iter().collect();
    changes.sort_by_key(|change| (&change.holder, &change.name, change.window_unix_ms));
    let upsert = "INSERT INTO limit_counters (holder, name, window_unix_ms, used) VALUES ($1, $2, $3, $4) \
                  ON CONFLICT (holder, name, window_unix_ms) DO UPDATE SET used = limit_counters.used + excluded.used";
    for change in changes {
        let query = sqlx::query(upsert).bind(&change.holder).bind(&change.name);
        query.bind(change.window_unix_ms).bind(change.used).execute(&mut *db).await?;
    }
    Ok(())
}

/// Those whose window begins then or later.
pub async fn list(db: &mut AnyConnection, windows_from_unix_ms: i64) -> Result<Vec<Counter>> {
    let select = "SELECT holder, name, window_unix_ms, used FROM limit_counters WHERE window_unix_ms >= $1";
    let rows = sqlx::query(select).bind(windows_from_unix_ms).fetch_all(db).await?;
    let read = |found: &_| {
        Ok(Counter {
            holder: row::text(found, "holder")?,
            name: row::text(found, "name")?,
            window_unix_ms: row::number(found, "window_unix_ms")?,
            used: row::number(found, "used")?,
        })
    };
    rows.iter().map(read).collect()
}
