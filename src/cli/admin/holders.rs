//! `forge holder`: owners, teams and organisations.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::fields::{CommonFields, set_text};
use super::place::encoded;
use super::print::{Column, Show};
use super::{Common, Desk, WHERE};
use crate::cli::Failure;

const COLUMNS: [Column; 6] = [
    ("ID", "id", Show::Plain),
    ("NAME", "name", Show::Plain),
    ("TEAM", "team", Show::Plain),
    ("ORGANISATION", "organisation", Show::Plain),
    ("LIMITS", "limits", Show::Plain),
    ("CREATED", "created_unix_ms", Show::Time),
];

#[derive(Debug, Args)]
#[command(after_long_help = format!("\
EXAMPLES
  forge holder create organisation --name acme --limit 'budget=500 USD/month'
  forge holder create team --name research --organisation org_0123456789abcdef01234567
  forge holder create owner --name ada --email ada@acme.example --team team_0123456789abcdef01234567
  forge holder list owner

{WHERE}"))]
pub(in crate::cli) struct HolderCommand {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    common: Common,
}

/// What a holder is.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Owner,
    Team,
    Organisation,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create an owner, a team or an organisation
    Create {
        kind: Kind,
        /// Unique among its kind
        #[arg(long)]
        name: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// List them, the newest first
    List {
        kind: Kind,
        /// Owners of this team
        #[arg(long, value_name = "ID")]
        team: Option<String>,
        /// Owners or teams of this organisation
        #[arg(long, value_name = "ID")]
        organisation: Option<String>,
        /// Rows at most
        #[arg(long, default_value_t = 1000)]
        rows: usize,
    },
    /// Show one
    Show { kind: Kind, id: String },
    /// Change what is named; an empty value takes away
    Update {
        kind: Kind,
        id: String,
        /// Unique among its kind
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        fields: Fields,
    },
    /// Delete one that nothing belongs to
    Delete { kind: Kind, id: String },
}

#[derive(Debug, Args)]
struct Fields {
    /// Where an owner is reached
    #[arg(long)]
    email: Option<String>,
    /// The id of an owner's team
    #[arg(long, value_name = "ID")]
    team: Option<String>,
    /// The id of an owner's or a team's organisation
    #[arg(long, value_name = "ID")]
    organisation: Option<String>,
    #[command(flatten)]
    common: CommonFields,
}

impl Fields {
    fn body(&self, name: Option<String>) -> Value {
        let mut body = Map::new();
        let fields = [("email", &self.email), ("team", &self.team), ("organisation", &self.organisation)];
        fields.into_iter().for_each(|(name, text)| set_text(&mut body, name, text.as_deref()));
        self.common.add_to(&mut body);
        body.extend(name.map(|name| ("name".to_owned(), name.into())));
        Value::Object(body)
    }
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Owner => "owners",
            Self::Team => "teams",
            Self::Organisation => "organisations",
        }
    }

    fn of(self, id: &str) -> String {
        format!("{}/{}", self.path(), encoded(id))
    }
}

impl HolderCommand {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        let verb = self.verb;
        self.common.run(|desk| async move { verb.run(&desk).await })
    }
}

impl Verb {
    async fn run(self, desk: &Desk) -> Result<(), Failure> {
        match self {
            Self::Create { kind, name, fields } => {
                desk.show(&desk.place.send("POST", kind.path(), fields.body(Some(name))).await?)
            }
            Self::List { kind, team, organisation, rows } => {
                let query = [("team", team), ("organisation", organisation)];
                desk.show_list((kind.path(), &COLUMNS), &query, rows).await
            }
            Self::Show { kind, id } => desk.show(&desk.place.get(&kind.of(&id), &[]).await?),
            Self::Update { kind, id, name, fields } => {
                desk.show(&desk.place.send("PATCH", &kind.of(&id), fields.body(name)).await?)
            }
            Self::Delete { kind, id } => desk.place.send("DELETE", &kind.of(&id), json!({})).await.map(drop),
        }
    }
}
