//! Tables for people. What others wrote is shown without control characters, which a terminal would obey.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::cli::Failure;

/// How a field is shown.
#[derive(Clone, Copy)]
pub(super) enum Show {
    /// As it is; lists and maps in one line.
    Plain,
    /// Milliseconds since 1970.
    Time,
    /// Micro-dollars.
    Dollars,
}

/// A column: its heading, the field it shows, how.
pub(super) type Column = (&'static str, &'static str, Show);

/// Prints JSON.
pub(super) fn json(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

/// Prints rows under headings.
pub(super) fn table(rows: &[Value], columns: &[Column]) -> Result<(), Failure> {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|(_, field, show)| cell(&row[*field], *show)).collect()).collect();
    let headings: Vec<String> = columns.iter().map(|(heading, ..)| (*heading).to_owned()).collect();
    let width = |index: usize| {
        let cells = cells.iter().chain([&headings]).map(|row| row[index].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = io::stdout().lock();
    for row in [&headings].into_iter().chain(&cells) {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Says that a list was cut.
pub(super) fn more(more: bool) -> Result<(), Failure> {
    if more {
        writeln!(io::stderr(), "there are more; --rows shows them")?;
    }
    Ok(())
}

/// Prints one object, a field a line; what is null or empty is left out.
pub(super) fn object(value: &Value) -> Result<(), Failure> {
    let Some(fields) = value.as_object() else { return Ok(()) };
    let shown = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    let mut out = io::stdout().lock();
    for (name, value) in fields.iter().filter(|(_, value)| shown(value)) {
        let (name, show) = match (name.strip_suffix("_unix_ms"), name.strip_suffix("_microusd")) {
            (Some(name), _) => (name, Show::Time),
            (None, Some(name)) => (name, Show::Dollars),
            (None, None) => (name.as_str(), Show::Plain),
        };
        writeln!(out, "{:14}{}", format!("{}:", name.replace('_', " ")), cell(value, show))?;
    }
    Ok(())
}

/// Prints what holds a secret, the secret first; `None` is said, too.
pub(super) fn secret(value: &Value, what: &str) -> Result<(), Failure> {
    match value["secret"].as_str() {
        Some(secret) => {
            writeln!(io::stdout(), "{:14}{secret}", "secret:")?;
            let mut rest = value.clone();
            if let Some(fields) = rest.as_object_mut() {
                fields.shift_remove("secret");
            }
            object(&rest)?;
            writeln!(io::stderr(), "\nThis {what} is shown this once: only its hash is kept.")?;
            Ok(())
        }
        None => object(value),
    }
}

fn cell(value: &Value, show: Show) -> String {
    let text = match (value, show) {
        (Value::Null, _) => "-".to_owned(),
        (Value::Number(number), Show::Time) => number.as_u64().map(time).unwrap_or_default(),
        (Value::Number(number), Show::Dollars) => number.as_u64().map(dollars).unwrap_or_default(),
        (Value::String(text), _) => text.clone(),
        (Value::Array(items), _) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        (value, _) => value.to_string(),
    };
    if text.is_empty() { "-".to_owned() } else { text.chars().filter(|c| !c.is_control()).collect() }
}

fn time(unix_ms: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
}

fn dollars(microusd: u64) -> String {
    format!("${}.{:06}", microusd / 1_000_000, microusd % 1_000_000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_for_people_and_for_no_terminal() {
        for (value, show, shown) in [
            (json!(null), Show::Plain, "-"),
            (json!(86_400_000), Show::Time, "1970-01-02T00:00:00Z"),
            (json!(1_500_000), Show::Dollars, "$1.500000"),
            (json!(["a", "b"]), Show::Plain, "a b"),
            (json!({"rpm": 1}), Show::Plain, "{\"rpm\":1}"),
            (json!("evil\u{1b}[2J\n"), Show::Plain, "evil[2J"),
        ] {
            assert_eq!(cell(&value, show), shown);
        }
    }
}
