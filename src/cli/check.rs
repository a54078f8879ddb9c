//! `forge check` and `forge schema`: whether files say what their writer meant, without serving anything.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::Failure;
use crate::config::{self, Faults, Loaded, ProcessConf, Snapshot, Surroundings};
use crate::server;

#[derive(Debug, Args)]
#[command(after_help = "Every fault is reported at once, as FILE:LINE: PATH: MESSAGE, with a guess at what was \
    meant. Secrets are looked up, so run it where Forge will run.\n\n\
    EXAMPLES\n  forge check\n  forge check new-routes.yaml && mv new-routes.yaml routes.yaml\n  \
    forge check --conf conf/forge.yaml\n\n\
    EXIT CODES\n  0  valid, perhaps with warnings\n  1  faults were found")]
pub(super) struct CheckArgs {
    /// The routing file [default: routes.yaml, or the built-in one if there is none]
    file: Option<PathBuf>,
    /// Check the settings of the process instead
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    conf: Option<PathBuf>,
}

pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    match &args.conf {
        Some(conf) => {
            ProcessConf::load(conf)?;
            writeln!(io::stdout(), "{}: valid", conf.display())?;
        }
        None => {
            let loaded = load(args.file.as_deref())?;
            warn(&loaded)?;
            writeln!(io::stdout(), "{}: valid: {}", loaded.name, summary(&loaded.loaded.snapshot))?;
        }
    }
    Ok(())
}

pub(super) fn schema() -> Result<(), Failure> {
    let schema = serde_json::to_string_pretty(&config::routes_schema()).map_err(io::Error::from)?;
    writeln!(io::stdout(), "{schema}")?;
    Ok(())
}

/// Nothing is started here, so the demo provider has no address yet; RFC 863's port stands for it.
pub(super) const DEMO_PORT: u16 = 9;

/// A file that was read without starting anything, and what messages call it.
pub(super) struct Offline {
    pub(super) loaded: Loaded,
    pub(super) name: String,
}

/// Reads `file`, or what `forge run` would read without one.
pub(super) fn load(file: Option<&Path>) -> Result<Offline, Faults> {
    let around = Surroundings { demo: Arc::new(|| Ok(([127, 0, 0, 1], DEMO_PORT).into())), ..Surroundings::offline() };
    let source = server::Source::choose(file, &ProcessConf::default().routes);
    Ok(Offline { loaded: source.load(&around)?, name: source.to_string() })
}

pub(super) fn warn(offline: &Offline) -> io::Result<()> {
    let mut err = io::stderr().lock();
    for warning in &offline.loaded.warnings {
        writeln!(err, "{}:{warning} (warning)", offline.name)?;
    }
    Ok(())
}

fn summary(snapshot: &Snapshot) -> String {
    let counts = [
        (snapshot.providers.len(), "provider"),
        (snapshot.models.exact.len() + snapshot.models.wild.len(), "model"),
        (snapshot.rules.iter().count(), "rule"),
        (snapshot.tiers.len(), "tier"),
        (snapshot.keys.len(), "key"),
    ];
    let counted = counts.map(|(count, noun)| format!("{count} {noun}{}", if count == 1 { "" } else { "s" }));
    counted.join(", ")
}
