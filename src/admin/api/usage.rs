//! Usage: sums by what one asks for, and single records; as JSON or CSV.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::ask::{json_of, page_of};
use super::keys::{CURSOR, ID, LIMIT, NAME, NEXT};
use super::shape::{Field, Shape, field, maybe, required};
use super::table::Operation;
use super::{Answer, Ask, Content};
use crate::admin::problem::Problem;
use crate::config::nearest;
use crate::store::{GroupBy, Period, Units, UsageFilter, UsageQuery, UsageRow};

/// Rows when the caller names no number.
const ROWS: u32 = 1000;
const ROWS_MAX: u64 = 50_000;
const COUNT: Shape = Shape::Count { min: 0, max: u64::MAX };
const BY: &[&str] = &["key", "tier", "owner", "team", "organisation", "model", "provider", "endpoint"];
const FORMAT: Shape = Shape::Choice(&["json", "csv"]);

const UNITS: &[Field] = &[
    required("input_tokens", COUNT, "Of the prompt, what a cache gave and took included."),
    required("cached_input_tokens", COUNT, "Of these, read from the provider's cache."),
    required("cache_write_tokens", COUNT, "Of the input tokens, written to the provider's cache."),
    required("audio_input_tokens", COUNT, "Of the input tokens, of sound."),
    required("image_input_tokens", COUNT, "Of the input tokens, of pictures."),
    required("output_tokens", COUNT, "Of the answer, what the model thought included."),
    required("reasoning_tokens", COUNT, "Of these, what the model thought."),
    required("audio_output_tokens", COUNT, "Of the output tokens, of sound."),
    required("images", COUNT, "Pictures made."),
    required("characters", COUNT, "Characters turned into speech."),
    required("audio_ms", COUNT, "Sound that was heard, in milliseconds."),
    required("searches", COUNT, "Searches."),
    required("documents", COUNT, "Documents ranked."),
];

/// What a sum is of: only what was asked for is there.
const GROUP: &[Field] = &[
    maybe_field("period_unix_ms", Shape::UnixMs, "When the hour or the day (UTC) begins."),
    maybe_field("key", NAME, "The id of the key."),
    maybe_field("tier", NAME, "The tier."),
    maybe_field("owner", NAME, "The id of the owner; null: the key had none."),
    maybe_field("team", NAME, "The id of the team; null: the key had none."),
    maybe_field("organisation", NAME, "The id of the organisation; null: the key had none."),
    maybe_field("model", NAME, "The model of routes.yaml."),
    maybe_field("provider", NAME, "Who served it."),
    maybe_field("endpoint", NAME, "The endpoint."),
];

const SUMS: &[Field] = &[
    required("requests", COUNT, "Requests that ended."),
    required("replaced_attempts", COUNT, "Attempts that were billed and replaced by another."),
    required("estimated", COUNT, "Of both, how many were estimated."),
];

const COST: &[Field] = &[required("cost_microusd", COUNT, "What it cost, in micro-dollars.")];

const SUM: Shape = Shape::Joined(&[GROUP, SUMS, UNITS, COST]);

const RECORD: Shape = Shape::Object(&[
    required("id", NAME, "Its id."),
    required("request_id", NAME, "The request's id, as the client got it."),
    required("at_unix_ms", Shape::UnixMs, "When the request ended."),
    required("attempt", Shape::Choice(&["answer", "replaced"]), "Whether this is the answer."),
    required("status", Shape::Count { min: 0, max: 999 }, "The HTTP status of the answer."),
    required("key", NAME, "The key's id; of a static key, `static:NAME`."),
    required("tier", NAME, "The key's tier."),
    maybe("owner", ID, "The key's owner then."),
    maybe("team", ID, "Its team then."),
    maybe("organisation", ID, "Its organisation then."),
    required("model", NAME, "The model of routes.yaml."),
    required("provider", NAME, "Who served it."),
    required("upstream_model", NAME, "What the provider calls the model."),
    required("endpoint", NAME, "The endpoint."),
    required("units", Shape::Object(UNITS), "What was used."),
    required("estimated", Shape::Switch, "Whether some of it was estimated."),
    required("price_version", Shape::Any, "Which price it was counted with; empty: none is known."),
    required("cost_microusd", COUNT, "What it cost, in micro-dollars."),
]);

const FROM: Field = field("from", Shape::Time, "From this time on; sums begin with its hour.");
const UNTIL: Field = field("until", Shape::Time, "Before this time.");

/// Narrows by a value.
const fn only(name: &'static str) -> Field {
    field(name, Shape::Text { chars_max: 256 }, "Only where it is this.")
}

const fn maybe_field(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { nullable: true, ..field(name, shape, about) }
}

pub static OPERATIONS: [Operation; 2] = [
    Operation {
        csv: true,
        ..Operation::get(
            "sumUsage",
            "/admin/v1/usage",
            Shape::Object(&[
                required("data", Shape::List(&SUM), "The first periods first, and in one the dearest."),
                required("truncated", Shape::Switch, "Whether there were more rows than `limit`."),
            ]),
            |ask| Box::pin(sums(ask)),
        )
        .about("Sums usage, as JSON or CSV.")
        .query(&[
            FROM,
            UNTIL,
            field("by", Shape::Words(BY), "What sums are made by. Default: one sum of all."),
            field(
                "period",
                Shape::Choice(&["hour", "day", "all"]),
                "Sums of an hour, of a day (UTC), or of all. Default: all.",
            ),
            only("key"),
            only("tier"),
            only("owner"),
            only("team"),
            only("organisation"),
            only("model"),
            only("provider"),
            only("endpoint"),
            field("format", FORMAT, "Default: what `Accept` asks for, else json."),
            field("limit", Shape::Count { min: 1, max: ROWS_MAX }, "Rows at most. Default: 1000."),
        ])
    },
    Operation::get(
        "listUsageRecords",
        "/admin/v1/usage/records",
        Shape::Object(&[required("data", Shape::List(&RECORD), "The newest first."), NEXT]),
        |ask| Box::pin(records(ask)),
    )
    .about("Lists single usage records.")
    .query(&[
        FROM,
        UNTIL,
        only("key"),
        only("tier"),
        only("owner"),
        only("team"),
        only("organisation"),
        only("model"),
        only("provider"),
        only("endpoint"),
        LIMIT,
        CURSOR,
    ]),
];

fn filter(ask: &Ask) -> Result<UsageFilter, Problem> {
    let (from_unix_ms, until_unix_ms) = (ask.time("from"), ask.time("until"));
    if from_unix_ms.zip(until_unix_ms).is_some_and(|(from, until)| from >= until) {
        return Err(Problem::field("?until", "not after 'from'", None));
    }
    if let Some(name) = ask.query("endpoint")
        && crate::endpoint::Endpoint::by_name(name).is_none()
    {
        let names = crate::endpoint::ENDPOINTS.iter().map(|row| row.name);
        return Err(Problem::field("?endpoint", "no endpoint is called so", nearest(name, names)));
    }
    let only = GroupBy::ALL.into_iter().filter_map(|by| Some((by, ask.filter(by.name())?))).collect();
    Ok(UsageFilter { from_unix_ms, until_unix_ms, only })
}

async fn sums(ask: Ask) -> Result<Answer, Problem> {
    let by: Vec<GroupBy> =
        ask.query("by").into_iter().flat_map(|by| by.split(',')).filter_map(GroupBy::by_name).collect();
    let period = match ask.query("period") {
        Some("hour") => Period::Hour,
        Some("day") => Period::Day,
        _ => Period::All,
    };
    let rows_max = ask.number("limit").unwrap_or(ROWS);
    // One more than is shown tells whether there are more.
    let query = UsageQuery { filter: filter(&ask)?, by: by.clone(), period, rows_max: rows_max.saturating_add(1) };
    let mut rows = ask.api.store()?.usage(&query).await?;
    let truncated = rows.len() > rows_max as usize;
    rows.truncate(rows_max as usize);
    if ask.wants_csv() {
        return Ok(Answer { status: 200, content: Content::Csv(csv(&rows, &by, period)) });
    }
    let data: Vec<Value> = rows.iter().map(|row| sum(row, &by)).collect::<Result<_, _>>()?;
    Ok(Answer::ok(json!({"data": data, "truncated": truncated})))
}

async fn records(ask: Ask) -> Result<Answer, Problem> {
    page_of(&ask.api.store()?.usage_records(&filter(&ask)?, &ask.page()?).await?)
}

/// A sum as JSON.
///
/// # Errors
/// It cannot be written.
pub fn sum(row: &UsageRow, by: &[GroupBy]) -> Result<Value, Problem> {
    let mut object = Map::new();
    if let Some(period) = row.period_unix_ms {
        object.insert("period_unix_ms".into(), period.into());
    }
    for (by, value) in by.iter().zip(&row.by) {
        object.insert(by.name().into(), if value.is_empty() { Value::Null } else { value.as_str().into() });
    }
    object.insert("requests".into(), row.requests.into());
    object.insert("replaced_attempts".into(), row.replaced_attempts.into());
    object.insert("estimated".into(), row.estimated.into());
    if let Value::Object(units) = json_of(&row.units)? {
        object.extend(units);
    }
    object.insert("cost_microusd".into(), row.cost_microusd.into());
    Ok(Value::Object(object))
}

/// Sums as RFC 4180 has them, with a header line.
fn csv(rows: &[UsageRow], by: &[GroupBy], period: Period) -> String {
    let mut columns: Vec<&str> = if period == Period::All { Vec::new() } else { vec!["period"] };
    columns.extend(by.iter().map(|by| by.name()));
    columns.extend(SUMS.iter().map(|field| field.name));
    columns.extend(Units::NAMES);
    columns.push("cost_microusd");
    let mut text = columns.join(",") + "\r\n";
    for row in rows {
        let period = row.period_unix_ms.map(rfc3339);
        let mut cells: Vec<String> = period.into_iter().chain(row.by.iter().map(|value| cell(value))).collect();
        let counts = [row.requests, row.replaced_attempts, row.estimated].into_iter();
        cells.extend(counts.chain(row.units.amounts()).chain([row.cost_microusd]).map(|count| count.to_string()));
        // Writing to a String does not fail.
        let _ = write!(text, "{}\r\n", cells.join(","));
    }
    text
}

/// A cell of text. What a spreadsheet would take for a formula is marked as text.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn rfc3339(unix_ms: i64) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_store() {
        assert!(GroupBy::ALL.iter().map(|by| by.name()).eq(BY.iter().copied()));
        assert!(UNITS.iter().map(|field| field.name).eq(Units::NAMES));
    }

    #[test]
    fn csv_quotes_and_disarms_cells() {
        let by = vec!["=cmd|'/c calc'!A1".to_owned(), "a,\"b\"".to_owned()];
        let units = Units { input_tokens: 7, ..Units::default() };
        let row = UsageRow {
            period_unix_ms: Some(86_400_000),
            by,
            requests: 2,
            replaced_attempts: 0,
            estimated: 1,
            units,
            cost_microusd: 9,
        };
        let text = csv(&[row], &[GroupBy::Model, GroupBy::Key], Period::Day);
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(lines[0].starts_with("period,model,key,requests,replaced_attempts,estimated,input_tokens,"));
        assert_eq!(
            lines[1],
            "1970-01-02T00:00:00Z,'=cmd|'/c calc'!A1,\"a,\"\"b\"\"\",2,0,1,7,0,0,0,0,0,0,0,0,0,0,0,0,9"
        );
        assert_eq!((lines[2], lines.len()), ("", 3));
    }
}
