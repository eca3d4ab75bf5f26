//! `aird generate`: man pages and shell completions, from the same definition as `--help`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Command, Subcommand};
use clap_complete::Shell;

use super::paths::Verb;
use super::ui::Ui;

/// Print man pages or shell completions
#[derive(Debug, Args)]
pub(super) struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The man page of aird, or with --dir a page for each verb as well.
    Man {
        /// Write aird.1, aird-inspect.1 and so on into this folder.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// A completion script for the shell.
    Completions { shell: Shell },
}

impl Verb for Generate {
    fn run(self, ui: &Ui) -> Result<()> {
        match self.what {
            What::Man { dir: None } => ui.print_exactly(&page(ui.command())?),
            What::Man { dir: Some(dir) } => std::fs::create_dir_all(&dir)
                .and_then(|()| clap_mangen::generate_to(ui.command(), &dir))
                .with_context(|| format!("cannot write man pages in {}", dir.display())),
            What::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut ui.command(), "aird", &mut script);
                ui.print_exactly(&String::from_utf8_lossy(&script))
            }
        }
    }
}

fn page(command: Command) -> Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).context("cannot make the man page")?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
