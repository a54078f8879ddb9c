//! `forge apply`: applications for keys.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::fields::KeyFields;
use super::place::encoded;
use super::print::{self, Column, Show};
use super::{Common, Desk, WHERE};
use crate::cli::Failure;

const COLUMNS: [Column; 7] = [
    ("ID", "id", Show::Plain),
    ("STATUS", "status", Show::Plain),
    ("NAME", "name", Show::Plain),
    ("E-MAIL", "email", Show::Plain),
    ("FILED", "created_unix_ms", Show::Time),
    ("KEY", "key", Show::Plain),
    ("PURPOSE", "purpose", Show::Plain),
];

#[derive(Debug, Args)]
#[command(after_long_help = format!("\
People apply with POST /apply, where `apply:` in conf/forge.yaml switches it on.

EXAMPLES
  forge apply list --status pending
  forge apply approve app_0123456789abcdef01234567 --tier free --limit rpm=20
  forge apply reject app_0123456789abcdef01234567 --reason 'no purpose'

{WHERE}"))]
pub(in crate::cli) struct ApplyCommand {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List applications, the newest first
    List {
        /// Of this status
        #[arg(long, value_parser = ["pending", "approved", "rejected"])]
        status: Option<String>,
        /// Rows at most
        #[arg(long, default_value_t = 1000)]
        rows: usize,
    },
    /// Show an application
    Show {
        /// Its id
        id: String,
    },
    /// Approve an application: create its key and show it, this once
    Approve {
        /// Its id
        id: String,
        /// The name of the key [default: the applicant's]
        #[arg(long)]
        name: Option<String>,
        /// The tier of the key [default: `apply.tier` of conf/forge.yaml]
        #[arg(long)]
        tier: Option<String>,
        #[command(flatten)]
        fields: Box<KeyFields>,
    },
    /// Reject an application
    Reject {
        /// Its id
        id: String,
        /// Why, for other administrators
        #[arg(long)]
        reason: Option<String>,
    },
}

impl ApplyCommand {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        let verb = self.verb;
        self.common.run(|desk| async move { verb.run(&desk).await })
    }
}

impl Verb {
    async fn run(self, desk: &Desk) -> Result<(), Failure> {
        match self {
            Self::List { status, rows } => {
                desk.show_list(("applications", &COLUMNS), &[("status", status)], rows).await
            }
            Self::Show { id } => desk.show(&desk.place.get(&path(&id, ""), &[]).await?),
            Self::Approve { id, name, tier, fields } => {
                let mut body = fields.body();
                let given = [("name", name), ("tier", tier)].into_iter();
                body.extend(given.filter_map(|(field, value)| Some((field.to_owned(), value?.into()))));
                let approved = desk.place.send("POST", &path(&id, "/approve"), Value::Object(body)).await?;
                if desk.json { print::json(&approved) } else { print::secret(&approved["key"], "key") }
            }
            Self::Reject { id, reason } => {
                desk.show(&desk.place.send("POST", &path(&id, "/reject"), json!({"reason": reason})).await?)
            }
        }
    }
}

fn path(id: &str, verb: &str) -> String {
    format!("applications/{}{verb}", encoded(id))
}
