//! `forge key`: the keys of the store.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::fields::{KeyFields, duration};
use super::place::encoded;
use super::print::{self, Column, Show};
use super::{Common, Desk, WHERE};
use crate::cli::Failure;

const COLUMNS: [Column; 8] = [
    ("ID", "id", Show::Plain),
    ("NAME", "name", Show::Plain),
    ("KEY", "prefix", Show::Plain),
    ("TIER", "tier", Show::Plain),
    ("OWNER", "owner", Show::Plain),
    ("CREATED", "created_unix_ms", Show::Time),
    ("LAST USED", "last_used_unix_ms", Show::Time),
    ("REVOKED", "revoked_unix_ms", Show::Time),
];

#[derive(Debug, Args)]
#[command(after_long_help = format!("\
EXAMPLES
  forge key create --name alice --tier pro --limit rpm=60 --limit 'budget=50 USD/month'
  forge key list --tier pro
  forge key rotate key_0123456789abcdef01234567 --grace 24h
  forge key create --name ci --tier free --json | jq -r .secret

{WHERE}"))]
pub(in crate::cli) struct KeyCommand {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a key and show it, this once
    Create {
        /// For people
        #[arg(long)]
        name: String,
        /// A tier of routes.yaml
        #[arg(long)]
        tier: String,
        #[command(flatten)]
        fields: Box<KeyFields>,
    },
    /// List keys, the newest first
    List {
        /// Of this owner
        #[arg(long, value_name = "ID")]
        owner: Option<String>,
        /// Of this team, or of its owners
        #[arg(long, value_name = "ID")]
        team: Option<String>,
        /// Of this organisation, its teams or its owners
        #[arg(long, value_name = "ID")]
        organisation: Option<String>,
        /// Of this tier
        #[arg(long)]
        tier: Option<String>,
        /// Revoked ones, or those that are not
        #[arg(long, value_parser = ["active", "revoked"])]
        state: Option<String>,
        /// Rows at most
        #[arg(long, default_value_t = 1000)]
        rows: usize,
    },
    /// Show a key
    Show {
        /// Its id
        id: String,
    },
    /// Change what is named; an empty value takes away, as in --owner ''
    Update {
        /// Its id
        id: String,
        /// For people
        #[arg(long)]
        name: Option<String>,
        /// A tier of routes.yaml
        #[arg(long)]
        tier: Option<String>,
        #[command(flatten)]
        fields: Box<KeyFields>,
    },
    /// Revoke a key for good
    Revoke {
        /// Its id
        id: String,
    },
    /// Give a key a new secret and show it, this once
    Rotate {
        /// Its id
        id: String,
        /// For how long the old secret stays valid, e.g. 0s or 24h
        #[arg(long, default_value = "1h", value_parser = duration)]
        grace: Duration,
    },
}

impl KeyCommand {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        let verb = self.verb;
        self.common.run(|desk| async move { verb.run(&desk).await })
    }
}

impl Verb {
    async fn run(self, desk: &Desk) -> Result<(), Failure> {
        match self {
            Self::Create { name, tier, fields } => {
                let mut body = fields.body();
                body.insert("name".into(), name.into());
                body.insert("tier".into(), tier.into());
                desk.show_secret(&desk.place.send("POST", "keys", Value::Object(body)).await?, "key")
            }
            Self::List { owner, team, organisation, tier, state, rows } => {
                let query = [
                    ("owner", owner),
                    ("team", team),
                    ("organisation", organisation),
                    ("tier", tier),
                    ("state", state),
                ];
                desk.show_list(("keys", &COLUMNS), &query, rows).await
            }
            Self::Show { id } => desk.show(&desk.place.get(&path(&id, ""), &[]).await?),
            Self::Update { id, name, tier, fields } => {
                let mut body = fields.body();
                let given = [("name", name), ("tier", tier)].into_iter();
                body.extend(given.filter_map(|(field, value)| Some((field.to_owned(), value?.into()))));
                desk.show(&desk.place.send("PATCH", &path(&id, ""), Value::Object(body)).await?)
            }
            Self::Revoke { id } => desk.show(&desk.place.send("POST", &path(&id, "/revoke"), json!({})).await?),
            Self::Rotate { id, grace } => {
                let body = json!({"grace_ms": u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)});
                desk.show_secret(&desk.place.send("POST", &path(&id, "/rotate"), body).await?, "key")
            }
        }
    }
}

fn path(id: &str, verb: &str) -> String {
    format!("keys/{}{verb}", encoded(id))
}

impl Desk {
    /// Prints an object.
    pub(super) fn show(&self, value: &Value) -> Result<(), Failure> {
        if self.json { print::json(value) } else { print::object(value) }
    }

    /// Prints an object that holds a secret.
    pub(super) fn show_secret(&self, value: &Value, what: &str) -> Result<(), Failure> {
        if self.json { print::json(value) } else { print::secret(value, what) }
    }

    /// Prints a list.
    pub(super) async fn show_list(
        &self,
        (path, columns): (&str, &[Column]),
        query: &[(&str, Option<String>)],
        rows_max: usize,
    ) -> Result<(), Failure> {
        let (rows, more) = self.place.list(path, query, rows_max).await?;
        if self.json {
            print::json(&Value::Array(rows))?
        } else {
            print::table(&rows, columns)?
        }
        print::more(more)
    }
}
