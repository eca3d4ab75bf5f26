//! The one printer: stdout for results, stderr for messages and progress.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Command;
use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use super::progress::Progress;
use super::signals;
use super::text::shown_lines;
use crate::gguf::Watch;
use crate::llama::{self, Prober};
use crate::verbs::{Host, Note};

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// How loud to be, and whether the user asked to stop.
pub(super) struct Ui {
    quiet: bool,
    verbose: u8,
    interrupted: Arc<AtomicBool>,
    progress: Progress,
    command: fn() -> Command,
}

impl Ui {
    /// `command` is the definition of the command line. Listens for signals (see `signals.rs`) and
    /// starts the threads that rows are worked on by.
    pub(super) fn new(quiet: bool, verbose: u8, command: fn() -> Command) -> Result<Ui> {
        let interrupted = Arc::new(AtomicBool::new(false));
        signals::listen(Arc::clone(&interrupted)).context(
            "cannot start a thread to listen for signals\n\
             hint: the limit on processes may be reached: ulimit -u",
        )?;
        start_workers();
        if verbose >= 2 {
            llama::set_loud(|line| complain(shown_lines(line)));
        }
        Ok(Ui { quiet, verbose, interrupted, progress: Progress::new(quiet), command })
    }

    /// Prints a result. Names and values in it come from files: whatever steers a terminal is
    /// shown, not obeyed, and so in everything else that is printed.
    pub(super) fn print(&self, text: impl Display) -> Result<()> {
        self.print_exactly(&shown_lines(&text.to_string()))
    }

    /// Prints what is read by programs, to the byte.
    pub(super) fn print_exactly(&self, text: &str) -> Result<()> {
        self.print_bytes(text.as_bytes())
    }

    /// Prints bytes of a result, as they are. A reader that closed the pipe has what it wanted: the
    /// rest is dropped, and whatever the verb finds is still its exit code.
    pub(super) fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.progress.clear();
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.context("cannot write to stdout"),
        }
    }

    /// Prints a text as it is in a file: to the byte, but fit for a terminal where it goes to one.
    pub(super) fn print_text(&self, text: &str) -> Result<()> {
        match std::io::stdout().is_terminal() {
            true => self.print(text),
            false => self.print_exactly(text),
        }
    }

    /// Prints a result as JSON, indented, for `--json`.
    pub(super) fn print_json(&self, report: &impl Serialize) -> Result<()> {
        let json = serde_json::to_string_pretty(report).context("cannot write JSON")?;
        self.print_exactly(&(json + "\n"))
    }

    /// Says what was done.
    pub(super) fn say(&self, text: impl Display) {
        if !self.quiet {
            let text = shown_lines(&format!("{text}\n"));
            self.progress.aside(|| complain(text));
        }
    }

    /// Says a detail, under `-v`.
    pub(super) fn detail(&self, text: impl Display) {
        if self.verbose >= 1 {
            self.say(text);
        }
    }

    /// True under `-v`.
    pub(super) fn is_verbose(&self) -> bool {
        self.verbose >= 1
    }

    /// Says what the user should know before trusting the result; even `-q` does not hide it.
    pub(super) fn warn(&self, text: impl Display) {
        let text = shown_lines(&text.to_string());
        let warn = || complain(format_args!("{YELLOW}warning:{YELLOW:#} {text}\n"));
        self.progress.aside(warn);
    }

    /// The definition of the whole command line.
    pub(super) fn command(&self) -> Command {
        (self.command)()
    }

    /// Set once the user asked to stop.
    pub(super) fn interrupt(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupted)
    }

    /// Prints a report: as JSON, or else as `text` has it.
    pub(super) fn report<R: Serialize>(
        &self,
        json: bool,
        report: &R,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        match json {
            true => self.print_json(report),
            false => self.print(text()),
        }
    }
}

impl Watch for Ui {
    fn stage(&self, what: &str, bytes: u64) {
        self.progress.stage(what, bytes);
    }

    fn advance(&self, bytes: u64) {
        self.progress.advance(bytes);
    }

    fn part(&self, what: &str, done: usize, of: usize) {
        self.progress.part(what, done, of);
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Host for Ui {
    fn note(&self, note: Note, text: &str) {
        match note {
            Note::Done => self.say(text),
            Note::Detail => self.detail(text),
            Note::Warning => self.warn(text),
        }
    }

    fn prober(&self) -> Prober {
        Prober { program: Some(own_program()), interrupt: self.interrupt() }
    }
}

/// Prints an error and its causes, each once, and a hint.
pub(super) fn print_error(error: &anyhow::Error, hint: Option<String>) {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    if let Some(hint) = hint {
        said = format!("{said}\nhint: {hint}");
    }
    complain(format_args!("{RED}error:{RED:#} {}\n", shown_lines(&said)));
}

/// Writes to stderr. Where that cannot be written nothing is left to tell anyone.
fn complain(text: impl Display) {
    let _ = write!(anstream::stderr(), "{text}");
}

/// The program that runs: by its name, or where that is gone (replaced while it ran) on Linux by
/// its process.
pub(super) fn own_program() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ if cfg!(target_os = "linux") => PathBuf::from("/proc/self/exe"),
        _ => PathBuf::from("aird"),
    }
}

/// Starts rayon's threads now, where it can be seen that there can be none: it panics later. One
/// thread, this one, is enough for everything but speed.
fn start_workers() {
    let pool = || rayon::ThreadPoolBuilder::new();
    if pool().build_global().is_err() {
        let _ = pool().num_threads(1).use_current_thread().build_global();
    }
}
