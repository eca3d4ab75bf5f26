//! aird, the program: parse, run, exit code.

use std::process::ExitCode;

use aird::cli::{self, Cli};

fn main() -> ExitCode {
    ExitCode::from(cli::exit_code_of(|| Cli::from_command_line()?.run()))
}
