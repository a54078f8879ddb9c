//! `forge usage`: what was used, and what it cost.

use std::io::{self, Write};

use clap::Args;

use super::place::request;
use super::print::{self, Column, Show};
use super::{Common, Desk, WHERE};
use crate::admin::api::Content;
use crate::cli::Failure;

/// Columns that are always there; those that are asked for come before.
const SUMS: [Column; 6] = [
    ("REQUESTS", "requests", Show::Plain),
    ("INPUT", "input_tokens", Show::Plain),
    ("CACHED", "cached_input_tokens", Show::Plain),
    ("OUTPUT", "output_tokens", Show::Plain),
    ("ESTIMATED", "estimated", Show::Plain),
    ("COST", "cost_microusd", Show::Dollars),
];

const GROUPS: [Column; 8] = [
    ("KEY", "key", Show::Plain),
    ("TIER", "tier", Show::Plain),
    ("OWNER", "owner", Show::Plain),
    ("TEAM", "team", Show::Plain),
    ("ORGANISATION", "organisation", Show::Plain),
    ("MODEL", "model", Show::Plain),
    ("PROVIDER", "provider", Show::Plain),
    ("ENDPOINT", "endpoint", Show::Plain),
];

#[derive(Debug, Args)]
#[command(after_long_help = format!("\
Days and hours are those of UTC. Costs are counted with the prices of routes.yaml.

EXAMPLES
  forge usage --by model --from 2026-11-01
  forge usage --by key,model --period day --csv > usage.csv
  forge usage --key key_0123456789abcdef01234567

{WHERE}"))]
pub(in crate::cli) struct UsageArgs {
    /// Sum by these, with commas between: key, tier, owner, team, organisation, model, provider, endpoint
    #[arg(long, value_name = "WHAT")]
    by: Option<String>,
    /// Sum each hour, each day, or all of the time
    #[arg(long, value_parser = ["hour", "day", "all"])]
    period: Option<String>,
    /// From this time on, e.g. 2026-11-01 or 2026-11-01T12:00:00Z
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Before this time
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Of this key only, by its id; of a static key, static:NAME
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Of this owner only
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// Of this team only
    #[arg(long, value_name = "ID")]
    team: Option<String>,
    /// Of this organisation only
    #[arg(long, value_name = "ID")]
    organisation: Option<String>,
    /// Of this model only
    #[arg(long)]
    model: Option<String>,
    /// Of this provider only
    #[arg(long)]
    provider: Option<String>,
    /// Rows at most
    #[arg(long, default_value_t = 1000)]
    rows: usize,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    common: Common,
}

impl UsageArgs {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        let format = if self.csv { "csv" } else { "json" };
        let by = self.by.clone().unwrap_or_default();
        let query = [
            ("by", self.by),
            ("period", self.period),
            ("from", self.from),
            ("until", self.until),
            ("key", self.key),
            ("owner", self.owner),
            ("team", self.team),
            ("organisation", self.organisation),
            ("model", self.model),
            ("provider", self.provider),
            ("limit", Some(self.rows.to_string())),
            ("format", Some(format.to_owned())),
        ];
        self.common.run(|desk| async move { show(&desk, &query, &by).await })
    }
}

async fn show(desk: &Desk, query: &[(&str, Option<String>)], by: &str) -> Result<(), Failure> {
    let value = match desk.place.ask(request(("GET", "usage"), query, None)).await? {
        Content::Csv(text) => return Ok(io::stdout().write_all(text.as_bytes())?),
        Content::Json(value) => value,
        Content::Nothing => return Ok(()),
    };
    if desk.json {
        return print::json(&value);
    }
    let rows = value["data"].as_array().cloned().unwrap_or_default();
    let periods = rows.iter().any(|row| row["period_unix_ms"].is_number());
    let period = periods.then_some(("FROM", "period_unix_ms", Show::Time));
    let groups = by.split(',').filter_map(|by| GROUPS.into_iter().find(|(_, field, _)| *field == by));
    let columns: Vec<Column> = period.into_iter().chain(groups).chain(SUMS).collect();
    print::table(&rows, &columns)?;
    print::more(value["truncated"] == true)
}
