//! `forge admin`: credentials of the admin API, and what was done with them.

use clap::{Args, Subcommand};
use serde_json::json;

use super::fields::{Moment, moment};
use super::place::encoded;
use super::print::{Column, Show};
use super::{Common, Desk, WHERE};
use crate::cli::Failure;

const TOKENS: [Column; 7] = [
    ("ID", "id", Show::Plain),
    ("NAME", "name", Show::Plain),
    ("TOKEN", "prefix", Show::Plain),
    ("ROLE", "role", Show::Plain),
    ("CREATED", "created_unix_ms", Show::Time),
    ("EXPIRES", "expires_unix_ms", Show::Time),
    ("REVOKED", "revoked_unix_ms", Show::Time),
];

const ENTRIES: [Column; 6] = [
    ("WHEN", "at_unix_ms", Show::Time),
    ("WHO", "actor", Show::Plain),
    ("THROUGH", "via", Show::Plain),
    ("WHAT", "action", Show::Plain),
    ("TO", "object", Show::Plain),
    ("DETAIL", "detail", Show::Plain),
];

#[derive(Debug, Args)]
#[command(after_long_help = format!("\
EXAMPLES
  forge admin token create --name me --role own     the first token: it needs none, only the store
  forge admin token list
  forge admin audit --object key_0123456789abcdef01234567

{WHERE}"))]
pub(in crate::cli) struct AdminCommand {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Credentials of the admin API
    #[command(subcommand)]
    Token(Verb),
    /// Show who changed what, the newest first
    Audit {
        /// By this actor
        #[arg(long)]
        actor: Option<String>,
        /// To the object of this id
        #[arg(long, value_name = "ID")]
        object: Option<String>,
        /// Of this action, e.g. key.revoke
        #[arg(long)]
        action: Option<String>,
        /// Rows at most
        #[arg(long, default_value_t = 100)]
        rows: usize,
    },
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a credential and show it, this once
    Create {
        /// For people; the audit log notes it
        #[arg(long)]
        name: String,
        /// read: see all but secrets; operate: change keys and routes; own: these credentials, too
        #[arg(long, value_parser = ["read", "operate", "own"])]
        role: String,
        /// When it ends: a time from now, e.g. 30d, or a date, e.g. 2026-12-31 [default: never]
        #[arg(long, value_name = "WHEN", value_parser = moment)]
        expires: Option<Moment>,
    },
    /// List credentials, the newest first; those of conf/forge.yaml are not among them
    List {
        /// Rows at most
        #[arg(long, default_value_t = 1000)]
        rows: usize,
    },
    /// Revoke a credential for good
    Revoke {
        /// Its id
        id: String,
    },
}

impl AdminCommand {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        let what = self.what;
        self.common.run(|desk| async move { what.run(&desk).await })
    }
}

impl What {
    async fn run(self, desk: &Desk) -> Result<(), Failure> {
        match self {
            Self::Token(Verb::Create { name, role, expires }) => {
                let expires = expires.map(Moment::json);
                let body = json!({"name": name, "role": role, "expires_unix_ms": expires});
                desk.show_secret(&desk.place.send("POST", "tokens", body).await?, "token")
            }
            Self::Token(Verb::List { rows }) => desk.show_list(("tokens", &TOKENS), &[], rows).await,
            Self::Token(Verb::Revoke { id }) => {
                let path = format!("tokens/{}/revoke", encoded(&id));
                desk.show(&desk.place.send("POST", &path, json!({})).await?)
            }
            Self::Audit { actor, object, action, rows } => {
                let query = [("actor", actor), ("object", object), ("action", action)];
                desk.show_list(("audit", &ENTRIES), &query, rows).await
            }
        }
    }
}
