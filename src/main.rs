//! The `forge` binary: arguments in, exit code out.

use std::process::ExitCode;

use forge::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::from_args().execute()
}
