//! `forge hash-key`: a client key, shown once, and its hash, which is all that is kept.

use std::io::{self, Read, Write};

use clap::Args;

use super::Failure;
use crate::credential::Credential;

/// What `--stdin` reads at most; more is no key.
const STDIN_BYTES_MAX: u64 = 4096;

#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  forge hash-key --name alice --tier pro\n  \
    printf %s \"$KEY\" | forge hash-key --stdin\n\n\
    The key is shown this once and stored nowhere; routes.yaml holds its hash only.")]
pub(super) struct HashKeyArgs {
    /// Hash a key read from stdin instead of making one
    #[arg(long)]
    stdin: bool,
    /// A token of the admin API instead, and the line of conf/forge.yaml that admits it
    #[arg(long)]
    admin: bool,
    /// The name of the key, as logs show it
    #[arg(long, default_value = "my-key")]
    name: String,
    /// The tier of routes.yaml that the key belongs to
    #[arg(long, default_value = "pro", conflicts_with = "admin")]
    tier: String,
    /// What the token may do
    #[arg(long, default_value = "read", requires = "admin", value_parser = ["read", "operate", "own"])]
    role: String,
}

pub(super) fn hash_key(args: &HashKeyArgs) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let key = if args.stdin {
        read_key()?
    } else {
        let made = if args.admin { Credential::random_admin() } else { Credential::random() };
        let key = made.map_err(|error| Failure::Fault(error.to_string()))?;
        writeln!(out, "key:   {}", key.reveal())?;
        key
    };
    let (hash, name, tier) = (key.hash(), yaml(&args.name), yaml(&args.tier));
    writeln!(out, "hash:  {hash}\n")?;
    if args.admin {
        let line = format!("- {{ name: {name}, hash: \"{hash}\", role: {} }}", args.role);
        writeln!(out, "In conf/forge.yaml, under `admin: tokens:`\n    {line}")?;
        return Ok(());
    }
    writeln!(out, "In routes.yaml, under `keys:`\n  - {{ name: {name}, hash: \"{hash}\", tier: {tier} }}")?;
    Ok(())
}

fn read_key() -> Result<Credential, Failure> {
    let mut text = String::new();
    io::stdin().take(STDIN_BYTES_MAX).read_to_string(&mut text)?;
    Credential::parse(text.trim_end_matches(['\r', '\n']))
        .ok_or_else(|| Failure::Fault("stdin holds no key: 8 to 1024 visible ASCII characters are one".into()))
}

/// A YAML scalar: plain where nothing could be read into it, else double-quoted, which JSON's form is.
fn yaml(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_safe_yaml() {
        assert_eq!(yaml("team-a"), "team-a");
        assert_eq!(yaml("no"), "\"no\"");
        assert_eq!(yaml("a: b\n"), "\"a: b\\n\"");
    }
}
