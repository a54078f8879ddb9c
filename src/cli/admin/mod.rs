//! The commands that administer: keys, their holders, applications, usage, credentials of the admin API.
//!
//! Each becomes one operation of the admin API: asked of a running gateway (`--admin URL`), or served right here on
//! the store itself, by the same code.

mod applications;
mod fields;
mod holders;
mod keys;
mod place;
mod print;
mod remote;
mod tokens;
mod usage;

use std::path::PathBuf;

use clap::Args;

use super::Failure;

pub(super) use applications::ApplyCommand;
pub(super) use holders::HolderCommand;
pub(super) use keys::KeyCommand;
pub(super) use tokens::AdminCommand;
pub(super) use usage::UsageArgs;

use place::Place;

/// What every one of these commands says of where it works.
pub(super) const WHERE: &str = "\
WHERE IT WORKS
  on the store itself, the one that conf/forge.yaml (--conf) or --store names: on the machine of the gateway,
  or wherever its Postgres can be reached. A running gateway takes a change up within two seconds.
  With --admin URL it asks the admin API of a running gateway, with the token in FORGE_ADMIN_TOKEN.

ENVIRONMENT
  FORGE_ADMIN_TOKEN  a token of the admin API (`forge admin token create`)
  FORGE_ADMIN_URL    as --admin

EXIT CODES
  0  done
  1  refused or failed; stderr says why
  2  the arguments are wrong";

const WHERE_HEADING: &str = "Where it works, and how it prints";

/// Where a command works, and how it prints.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Ask the admin API of a running gateway, e.g. http://127.0.0.1:9090
    #[arg(long, value_name = "URL", global = true, conflicts_with = "store", help_heading = WHERE_HEADING)]
    admin: Option<String>,
    /// The settings whose store is worked on [default: conf/forge.yaml, if it exists]
    #[arg(long, value_name = "FILE", global = true, help_heading = WHERE_HEADING)]
    conf: Option<PathBuf>,
    /// The store that is worked on, e.g. sqlite:data/forge.db
    #[arg(long, value_name = "STORE", global = true, help_heading = WHERE_HEADING)]
    store: Option<String>,
    /// Print JSON, as the admin API answers
    #[arg(long, global = true, help_heading = WHERE_HEADING)]
    json: bool,
}

impl Common {
    /// Runs `work` where the arguments say.
    fn run<W>(&self, work: impl FnOnce(Desk) -> W) -> Result<(), Failure>
    where
        W: Future<Output = Result<(), Failure>>,
    {
        // Two libraries bring TLS; an error says that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { work(Desk { place: Place::open(self).await?, json: self.json }).await })
    }
}

/// What a command works with.
struct Desk {
    place: Place,
    json: bool,
}
