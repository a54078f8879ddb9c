//! The command line: what `forge` understands, and its exit codes.
//!
//! Owns arguments and what a person reads on a terminal. Each command is a file; a command prints its
//! result to stdout, so that it can be piped, and what went wrong to stderr.

mod admin;
mod check;
mod explain;
mod key;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Faults;
use crate::server::{self, StartError};

/// Done.
const EXIT_OK: u8 = 0;
/// Faults were found, or the command failed.
const EXIT_FAULT: u8 = 1;
/// The arguments are wrong; clap's own code, too.
const EXIT_USAGE: u8 = 2;

const EXIT_CODES: &str = "\
EXIT CODES
  0  done; for `run`: every request finished, or the grace period ended
  1  faults were found, or the command failed; stderr says what
  2  the arguments are wrong
  130  `run` was interrupted twice (SIGINT) and left at once";

const EXAMPLES: &str = "\
EXAMPLES
  forge                                    serve routes.yaml, or built-in defaults if there is none
  forge run --conf conf/forge.yaml         with settings of the process
  forge check routes.yaml                  every fault, with line and hint
  forge explain --model gpt-5 --key demo   where would this request go, and why
  forge key create --name alice --tier pro  a new client key in the store, shown once
  forge usage --by model                   what was used, and what it cost
  forge admin token create --name me --role own   the first credential of the admin API
  forge hash-key                           a new client key, and the line of routes.yaml that admits it
  forge schema > routes.schema.json        for editors that complete YAML

SIGNALS (run)
  TERM, INT  drain: stop accepting, let open requests end, leave; a second INT leaves at once
  HUP        read routes.yaml, the secrets it names and the TLS certificate again, reopen the access log
  USR2       start this program again and hand the listeners to it, then drain; it goes on if that fails
  QUIT       hand the listeners to a process started with --upgrade, then drain

ENVIRONMENT
  RUST_LOG         what is logged, e.g. debug or forge=debug,pingora=warn   [default: info]
  FORGE_DEMO_KEY   the key that the demo prints, instead of a random one
  FORGE_ADMIN_URL, FORGE_ADMIN_TOKEN   the admin API that key, holder, usage, apply and admin ask";

/// An LLM gateway: the OpenAI and Anthropic APIs in front of any provider.
#[derive(Debug, Parser)]
#[command(name = "forge", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
#[command(after_help = "Run `forge help COMMAND` for one command, `forge --help` for examples and exit codes.")]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve requests (what `forge` alone does)
    Run(RunArgs),
    /// Say whether a routes.yaml is valid, with every fault in it
    Check(check::CheckArgs),
    /// Say where one request would go, and why, without sending anything
    Explain(explain::ExplainArgs),
    /// Print the JSON Schema of routes.yaml
    Schema,
    /// Make a client key and the line of routes.yaml that admits it
    HashKey(key::HashKeyArgs),
    /// Create, list, show, change, revoke and rotate keys of the store
    Key(admin::KeyCommand),
    /// Owners, teams and organisations that hold keys
    Holder(admin::HolderCommand),
    /// Show what was used, and what it cost
    Usage(admin::UsageArgs),
    /// Applications for keys: list, approve, reject
    Apply(admin::ApplyCommand),
    /// Credentials of the admin API, and its audit log
    Admin(admin::AdminCommand),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Settings of the process: listeners, threads, limits, logs
    ///
    /// Without it conf/forge.yaml is read if it exists; every setting has a default.
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Providers, models, rules, tiers and keys; read again whenever it changes
    ///
    /// Without it the file that the settings name, routes.yaml by default; if that does not exist,
    /// built-in defaults that serve every model from a demo provider.
    #[arg(long, value_name = "FILE")]
    routes: Option<PathBuf>,
    /// Take the listeners over from a running forge, without refusing a connection
    ///
    /// SIGUSR2 to the running one does all of it. By hand: start this process, then send SIGQUIT to the old one
    /// within five seconds; both need the same `upgrade_sock`.
    #[arg(long)]
    upgrade: bool,
}

impl Cli {
    /// Reads the process's arguments; prints help or a usage error and exits when that is what they ask for.
    pub fn from_args() -> Self {
        Self::parse()
    }

    /// Does what was asked.
    pub fn execute(self) -> ExitCode {
        let done = match self.command {
            None => serve(self.run),
            Some(Command::Run(args)) => serve(args),
            Some(Command::Check(args)) => check::check(&args),
            Some(Command::Explain(args)) => explain::explain(&args),
            Some(Command::Schema) => check::schema(),
            Some(Command::HashKey(args)) => key::hash_key(&args),
            Some(Command::Key(command)) => command.run(),
            Some(Command::Holder(command)) => command.run(),
            Some(Command::Usage(args)) => args.run(),
            Some(Command::Apply(command)) => command.run(),
            Some(Command::Admin(command)) => command.run(),
        };
        match done {
            Ok(()) => ExitCode::from(EXIT_OK),
            Err(Failure::Usage(message)) => fail(EXIT_USAGE, &message),
            Err(Failure::Fault(message)) => fail(EXIT_FAULT, &message),
            Err(Failure::Faults(faults)) => report(&faults),
            // The reader had enough, as in `forge schema | head`.
            Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(EXIT_OK),
            Err(Failure::Io(error)) => fail(EXIT_FAULT, &error.to_string()),
        }
    }
}

/// Why a command did not end well.
enum Failure {
    /// The arguments contradict each other or name what does not exist.
    Usage(String),
    /// What was asked for is at fault; the text is for a person.
    Fault(String),
    /// A file has faults.
    Faults(Faults),
    Io(io::Error),
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::Faults(faults)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Conf(faults) | StartError::Routes(faults) => Self::Faults(faults),
            error => Self::Fault(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn serve(args: RunArgs) -> Result<(), Failure> {
    let handover = if args.upgrade { server::Listeners::TakeOver } else { server::Listeners::Bind };
    Ok(server::run(server::Options { conf: args.conf, routes: args.routes, listeners: handover })?)
}

/// Prints each fault on a line of its own that editors can jump to.
fn report(faults: &Faults) -> ExitCode {
    let _ = writeln!(io::stderr(), "{faults}");
    let (count, file) = (faults.list.len(), &faults.file);
    fail(EXIT_FAULT, &format!("{count} fault{} in {file}", if count == 1 { "" } else { "s" }))
}

fn fail(code: u8, message: &str) -> ExitCode {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "forge: {}", message.trim_end());
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default() {
        let cli = Cli::try_parse_from(["forge", "--routes", "a.yaml", "--upgrade"]).unwrap();
        assert!(cli.command.is_none() && cli.run.upgrade);
        let cli = Cli::try_parse_from(["forge", "run", "--conf", "c.yaml"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Run(RunArgs { conf: Some(_), .. }))));
    }

    #[test]
    fn help_reads_like_a_manual() {
        let help = Cli::command().render_long_help().to_string();
        for part in ["EXAMPLES", "SIGNALS", "ENVIRONMENT", "EXIT CODES", "hash-key", "--upgrade"] {
            assert!(help.contains(part), "{part} in\n{help}");
        }
    }
}
