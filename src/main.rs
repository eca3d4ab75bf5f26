//! aird, the program: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;

use aird::cli::{self, Cli};

fn main() -> ExitCode {
    let code = match Cli::parse().run() {
        Ok(()) => cli::DONE,
        Err(error) => cli::report(&error),
    };
    ExitCode::from(code)
}
