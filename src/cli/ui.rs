//! The one printer: stdout for results, stderr for messages and progress.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use clap::builder::styling::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::signals;
use super::text::{shown, shown_lines};
use crate::gguf::Watch;
use crate::llama::Prober;
use crate::{direction, llama};

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// How loud to be, and whether the user asked to stop.
pub struct Ui {
    quiet: bool,
    verbose: u8,
    interrupted: Arc<AtomicBool>,
}

impl Ui {
    /// Listens for signals (see `signals.rs`) and starts the threads that rows are worked on by.
    pub fn new(quiet: bool, verbose: u8) -> Result<Ui> {
        let interrupted = Arc::new(AtomicBool::new(false));
        signals::listen(Arc::clone(&interrupted)).context(
            "cannot start a thread to listen for signals\n\
             hint: the limit on processes may be reached: ulimit -u",
        )?;
        start_workers();
        if verbose >= 2 {
            llama::set_loud(|line| complain(shown_lines(line)));
        }
        Ok(Ui { quiet, verbose, interrupted })
    }

    /// Prints a result. Names and values in it come from files: whatever steers a terminal is
    /// shown, not obeyed, and so in everything else that is printed.
    pub fn print(&self, text: impl Display) -> Result<()> {
        self.print_exactly(&shown_lines(&text.to_string()))
    }

    /// Prints what is read by programs, to the byte.
    pub fn print_exactly(&self, text: &str) -> Result<()> {
        self.print_bytes(text.as_bytes())
    }

    /// Prints bytes of a result, as they are. A reader that closed the pipe has what it wanted: the
    /// rest is dropped, and whatever the verb finds is still its exit code.
    pub fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.context("cannot write to stdout"),
        }
    }

    /// How a model is tried in a process of its own.
    pub fn prober(&self) -> Prober {
        Prober { program: own_program(), interrupt: self.interrupt() }
    }

    /// Prints a text as it is in a file: to the byte, but fit for a terminal where it goes to one.
    pub fn print_text(&self, text: &str) -> Result<()> {
        match std::io::stdout().is_terminal() {
            true => self.print(text),
            false => self.print_exactly(text),
        }
    }

    /// Prints a result as JSON, indented, for `--json`.
    pub fn print_json(&self, report: &impl Serialize) -> Result<()> {
        let json = serde_json::to_string_pretty(report).context("cannot write JSON")?;
        self.print_exactly(&(json + "\n"))
    }

    /// Says what was done.
    pub fn say(&self, text: impl Display) {
        if !self.quiet {
            complain(shown_lines(&format!("{text}\n")));
        }
    }

    /// Says a detail, under `-v`.
    pub fn detail(&self, text: impl Display) {
        if self.verbose >= 1 {
            self.say(text);
        }
    }

    /// True under `-v`.
    pub fn is_verbose(&self) -> bool {
        self.verbose >= 1
    }

    /// Says what the user should know before trusting the result; even `-q` does not hide it.
    pub fn warn(&self, text: impl Display) {
        let text = shown_lines(&text.to_string());
        complain(format_args!("{YELLOW}warning:{YELLOW:#} {text}\n"));
    }

    /// Set once the user asked to stop.
    pub fn interrupt(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupted)
    }

    /// A bar that counts parts; hidden where stderr is no terminal.
    pub fn steps(&self) -> Steps {
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{msg:<18} [{bar:30}] {pos}/{len} {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Steps { bar }
    }

    /// A bar with bytes a second and time left; hidden where stderr is no terminal.
    pub fn progress(&self) -> Progress<'_> {
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
        Progress { bar: Mutex::new(bar), interrupted: &self.interrupted }
    }
}

/// A bar that counts the parts of a long search.
pub struct Steps {
    bar: ProgressBar,
}

impl llama::Listener for Steps {}

impl Steps {
    /// `done` of `of` parts of `what`.
    pub fn show(&mut self, what: &str, done: usize, of: usize) {
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(shown(what));
    }
}

impl direction::Progress for Steps {
    fn part(&mut self, what: &str, done: usize, of: usize) {
        self.show(what, done, of);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A progress bar that watches a long operation.
pub struct Progress<'a> {
    bar: Mutex<ProgressBar>,
    interrupted: &'a AtomicBool,
}

impl Progress<'_> {
    fn with(&self, act: impl Fn(&ProgressBar)) {
        act(&self.bar.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Watch for Progress<'_> {
    fn stage(&self, what: &str, bytes: u64) {
        let template = "{msg:<14} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        self.with(|bar| {
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.reset();
            bar.set_length(bytes);
            bar.set_message(shown(what));
        });
    }

    fn advance(&self, bytes: u64) {
        self.with(|bar| bar.inc(bytes));
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.with(ProgressBar::finish_and_clear);
    }
}

/// Prints an error and its causes, each said once.
pub fn print_error(error: &anyhow::Error) {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    complain(format_args!("{RED}error:{RED:#} {}\n", shown_lines(&said)));
}

/// Writes to stderr. Where that cannot be written nothing is left to tell anyone.
fn complain(text: impl Display) {
    let _ = write!(anstream::stderr(), "{text}");
}

/// The program that runs: by its name, or where that is gone (replaced while it ran) on Linux by
/// its process.
pub fn own_program() -> PathBuf {
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
