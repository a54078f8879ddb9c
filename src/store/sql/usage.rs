//! Records of usage, and their sums by hour, kept in the same transaction.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};

use super::row;
use crate::store::page::{Page, PageRequest};
use crate::store::usage::{Attempt, GroupBy, Period, Units, UsageFilter, UsageQuery, UsageRecord, UsageRow};
use crate::store::{Result, StoreError};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Records in one statement, of 30 values each. SQLite looks a `$1` up among all that stand before it, so the time of
/// a statement grows with their square: with 100 records it was half of what a request cost.
const CHUNK: usize = 4;
/// The most rows of sums.
const ROWS_MAX: u32 = 100_000;

/// The columns of a record, besides its units.
const RECORD_COLUMNS: [&str; 17] = [
    "id",
    "request_id",
    "at_unix_ms",
    "attempt",
    "status",
    "key_id",
    "tier",
    "owner_id",
    "team_id",
    "organisation_id",
    "model",
    "provider",
    "upstream_model",
    "endpoint",
    "estimated",
    "price_version",
    "cost_microusd",
];

/// What a sum by hour is of, besides the hour: the columns of [`GroupBy::ALL`].
type Group = [String; 8];

/// What is summed, besides units.
const COUNTS: [&str; 4] = ["requests", "replaced_attempts", "estimated", "cost_microusd"];

#[derive(Default)]
struct Sum {
    counts: [u64; 4],
    units: Units,
}

type AnyQuery<'q> = Query<'q, Any, AnyArguments>;

/// Records what is new, and adds it to its hours.
pub async fn record(db: &mut AnyConnection, records: &[UsageRecord]) -> Result<u64> {
    let mut sums: BTreeMap<(i64, Group), Sum> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut new = 0;
    for chunk in records.chunks(CHUNK) {
        let inserted = insert(db, chunk).await?;
        // An id that stands twice in one batch is inserted once, and counts once.
        for record in chunk.iter().filter(|record| inserted.contains(&record.id) && seen.insert(&record.id)) {
            new += 1;
            let hour = record.at_unix_ms - record.at_unix_ms.rem_euclid(HOUR_MS);
            add(sums.entry((hour, group(record))).or_default(), record);
        }
    }
    // In the order of the map, which is one everywhere: two nodes never wait for each other.
    for ((hour, group), sum) in &sums {
        upsert(db, (*hour, group), sum).await?;
    }
    Ok(new)
}

fn group(record: &UsageRecord) -> Group {
    GroupBy::ALL.map(|by| {
        let value = match by {
            GroupBy::Key => Some(&record.key),
            GroupBy::Tier => Some(&record.tier),
            GroupBy::Owner => record.owner.as_ref(),
            GroupBy::Team => record.team.as_ref(),
            GroupBy::Organisation => record.organisation.as_ref(),
            GroupBy::Model => Some(&record.model),
            GroupBy::Provider => Some(&record.provider),
            GroupBy::Endpoint => Some(&record.endpoint),
        };
        value.cloned().unwrap_or_default()
    })
}

fn add(sum: &mut Sum, record: &UsageRecord) {
    let (request, replaced) = match record.attempt {
        Attempt::Answer => (1, 0),
        Attempt::Replaced => (0, 1),
    };
    let counts = [request, replaced, u64::from(record.estimated), record.cost_microusd];
    sum.counts.iter_mut().zip(counts).for_each(|(sum, more)| *sum = sum.saturating_add(more));
    sum.units = sum.units.plus(&record.units);
}

/// Inserts the records that are new; their ids.
async fn insert(db: &mut AnyConnection, records: &[UsageRecord]) -> Result<HashSet<String>> {
    let columns = [RECORD_COLUMNS.as_slice(), Units::NAMES.as_slice()].concat();
    let rows = placeholders(records.len(), columns.len());
    let sql = format!(
        "INSERT INTO usage_records ({}) VALUES {rows} ON CONFLICT (id) DO NOTHING RETURNING id",
        columns.join(", ")
    );
    let query = records.iter().fold(sqlx::query(AssertSqlSafe(sql)).persistent(false), bind_record);
    let inserted = query.fetch_all(db).await?;
    inserted.iter().map(|found| row::text(found, "id")).collect()
}

/// `($1, $2), ($3, $4)`
fn placeholders(rows: usize, columns: usize) -> String {
    let mut text = String::new();
    for row in 0..rows {
        for column in 0..columns {
            let before = match (row, column) {
                (0, 0) => "(",
                (_, 0) => "), (",
                _ => ", ",
            };
            // Writing to a String never fails.
            let _ = write!(text, "{before}${}", row * columns + column + 1);
        }
    }
    text + ")"
}

fn bind_record<'q>(query: AnyQuery<'q>, record: &'q UsageRecord) -> AnyQuery<'q> {
    let text = |value: &'q Option<String>| value.as_deref().unwrap_or_default();
    let query = query.bind(&record.id).bind(&record.request_id).bind(record.at_unix_ms);
    let query = query.bind(record.attempt.name()).bind(i64::from(record.status)).bind(&record.key).bind(&record.tier);
    let query = query.bind(text(&record.owner)).bind(text(&record.team)).bind(text(&record.organisation));
    let query = query.bind(&record.model).bind(&record.provider).bind(&record.upstream_model).bind(&record.endpoint);
    let query = query.bind(i64::from(record.estimated)).bind(&record.price_version);
    let query = query.bind(row::signed(record.cost_microusd));
    record.units.amounts().into_iter().fold(query, |query, amount| query.bind(row::signed(amount)))
}

async fn upsert(db: &mut AnyConnection, (hour, group): (i64, &Group), sum: &Sum) -> Result<()> {
    let by = GroupBy::ALL.map(GroupBy::column).join(", ");
    let summed = [COUNTS.as_slice(), Units::NAMES.as_slice()].concat();
    let rows = placeholders(1, 1 + GroupBy::ALL.len() + summed.len());
    let added: Vec<String> =
        summed.iter().map(|name| format!("{name} = usage_hours.{name} + excluded.{name}")).collect();
    let sql = format!(
        "INSERT INTO usage_hours (hour_unix_ms, {by}, {}) VALUES {rows} ON CONFLICT (hour_unix_ms, {by}) \
         DO UPDATE SET {}",
        summed.join(", "),
        added.join(", ")
    );
    let query = group.iter().fold(sqlx::query(AssertSqlSafe(sql)).bind(hour), |query, value| query.bind(value));
    let amounts = sum.counts.into_iter().chain(sum.units.amounts());
    amounts.fold(query, |query, amount| query.bind(row::signed(amount))).execute(db).await?;
    Ok(())
}

/// The condition of a filter on a table, from `$1` on, and its values.
fn condition(filter: &UsageFilter, time: &str) -> (String, Vec<String>) {
    let mut text = format!("{time} >= $1 AND {time} < $2");
    for (index, (by, _)) in filter.only.iter().enumerate() {
        // Names of columns are ours; values are bound.
        let _ = write!(text, " AND {} = ${}", by.column(), index + 3);
    }
    (text, filter.only.iter().map(|(_, value)| value.clone()).collect())
}

fn bounds(filter: &UsageFilter) -> (i64, i64) {
    (filter.from_unix_ms.unwrap_or(0), filter.until_unix_ms.unwrap_or(i64::MAX))
}

pub async fn sums(db: &mut AnyConnection, query: &UsageQuery) -> Result<Vec<UsageRow>> {
    if query.by.iter().enumerate().any(|(index, by)| query.by[..index].contains(by)) {
        return Err(StoreError::Invalid("usage is grouped by the same thing twice".into()));
    }
    let (from, until) = bounds(&query.filter);
    let from = from - from.rem_euclid(HOUR_MS);
    let until = until.saturating_add(HOUR_MS - 1) / HOUR_MS * HOUR_MS;
    let (condition, values) = condition(&query.filter, "hour_unix_ms");
    let sql = format!("{} WHERE {condition} {}", select_sums(query), order_of_sums(query, values.len() + 3));
    let bound = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(from).bind(until);
    let bound = values.iter().fold(bound, |bound, value| bound.bind(value));
    let rows = bound.bind(i64::from(query.rows_max.clamp(1, ROWS_MAX))).fetch_all(db).await?;
    rows.iter().map(|found| read_sum(found, query)).collect()
}

fn select_sums(query: &UsageQuery) -> String {
    let period = match query.period {
        Period::Hour => "hour_unix_ms".to_owned(),
        Period::Day => format!("hour_unix_ms - hour_unix_ms % {DAY_MS}"),
        Period::All => "CAST(0 AS BIGINT)".to_owned(),
    };
    let mut text = format!("SELECT {period} AS period_unix_ms");
    for by in &query.by {
        let _ = write!(text, ", {}", by.column());
    }
    for name in COUNTS.iter().chain(&Units::NAMES) {
        // Postgres' sums of BIGINT are NUMERIC.
        let _ = write!(text, ", CAST(SUM({name}) AS BIGINT) AS sum_{name}");
    }
    text + " FROM usage_hours"
}

fn order_of_sums(query: &UsageQuery, limit: usize) -> String {
    let mut by = "1".to_owned();
    for index in 0..query.by.len() {
        let _ = write!(by, ", {}", index + 2);
    }
    // A sum over nothing is no row.
    format!("GROUP BY {by} HAVING COUNT(*) > 0 ORDER BY period_unix_ms, sum_cost_microusd DESC LIMIT ${limit}")
}

fn read_sum(found: &AnyRow, query: &UsageQuery) -> Result<UsageRow> {
    let period = row::number(found, "period_unix_ms")?;
    Ok(UsageRow {
        period_unix_ms: (query.period != Period::All).then_some(period),
        by: query.by.iter().map(|by| row::text(found, by.column())).collect::<Result<_>>()?,
        requests: row::amount(found, "sum_requests")?,
        replaced_attempts: row::amount(found, "sum_replaced_attempts")?,
        estimated: row::amount(found, "sum_estimated")?,
        units: read_units(found, "sum_")?,
        cost_microusd: row::amount(found, "sum_cost_microusd")?,
    })
}

fn read_units(found: &AnyRow, prefix: &str) -> Result<Units> {
    let mut amounts = [0; Units::NAMES.len()];
    for (amount, name) in amounts.iter_mut().zip(Units::NAMES) {
        *amount = row::amount(found, &format!("{prefix}{name}"))?;
    }
    Ok(Units::of(amounts))
}

pub async fn list(db: &mut AnyConnection, filter: &UsageFilter, page: &PageRequest) -> Result<Page<UsageRecord>> {
    let bounds = bounds(filter);
    let (condition, values) = condition(filter, "at_unix_ms");
    let next = values.len() + 3;
    let sql = format!(
        "SELECT * FROM usage_records WHERE {condition} \
         AND (at_unix_ms < ${next} OR (at_unix_ms = ${next} AND id < ${})) \
         ORDER BY at_unix_ms DESC, id DESC LIMIT ${}",
        next + 1,
        next + 2
    );
    let (below_unix_ms, below_id) = page.below();
    let query = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(bounds.0).bind(bounds.1);
    let query = values.iter().fold(query, |query, value| query.bind(value));
    let query = query.bind(below_unix_ms).bind(below_id).bind(page.rows() + 1);
    let rows = query.fetch_all(db).await?;
    let records = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(Page::of(records, page, |record: &UsageRecord| (record.at_unix_ms, &record.id)))
}

fn read(found: &AnyRow) -> Result<UsageRecord> {
    let maybe = |column: &str| Ok::<_, StoreError>(Some(row::text(found, column)?).filter(|text| !text.is_empty()));
    Ok(UsageRecord {
        id: row::text(found, "id")?,
        request_id: row::text(found, "request_id")?,
        at_unix_ms: row::number(found, "at_unix_ms")?,
        attempt: row::word(found, "attempt", Attempt::by_name)?,
        status: u16::try_from(row::number(found, "status")?).unwrap_or(0),
        key: row::text(found, "key_id")?,
        tier: row::text(found, "tier")?,
        owner: maybe("owner_id")?,
        team: maybe("team_id")?,
        organisation: maybe("organisation_id")?,
        model: row::text(found, "model")?,
        provider: row::text(found, "provider")?,
        upstream_model: row::text(found, "upstream_model")?,
        endpoint: row::text(found, "endpoint")?,
        estimated: row::number(found, "estimated")? != 0,
        price_version: row::text(found, "price_version")?,
        cost_microusd: row::amount(found, "cost_microusd")?,
        units: read_units(found, "")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_up() {
        assert_eq!(placeholders(2, 3), "($1, $2, $3), ($4, $5, $6)");
    }
}
