//! The one printer: stdout for results, stderr for talk and progress.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use clap::builder::styling::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::text::{shown, shown_lines};
use crate::gguf::Watch;
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
    /// Takes over Ctrl-C: the first asks, the second ends the process at once.
    pub fn new(quiet: bool, verbose: u8) -> Result<Ui> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        install_signals(flag).context("cannot listen for signals")?;
        if verbose >= 2 {
            llama::set_loud(|line| anstream::eprint!("{}", shown_lines(line)));
        }
        Ok(Ui { quiet, verbose, interrupted })
    }

    /// Prints a result. Names and values in it come from files: whatever steers a terminal is
    /// shown, not obeyed, and so in everything else that is said.
    pub fn print(&self, text: impl Display) -> Result<()> {
        self.print_exactly(&shown_lines(&text.to_string()))
    }

    /// Prints what is read by programs, to the byte.
    pub fn print_exactly(&self, text: &str) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
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
            anstream::eprintln!("{}", shown_lines(&text.to_string()));
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
        anstream::eprintln!("{YELLOW}warning:{YELLOW:#} {text}");
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
    anstream::eprintln!("{RED}error:{RED:#} {}", shown_lines(&said));
}

#[cfg(unix)]
fn install_signals(flag: Arc<AtomicBool>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::flag;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let code = super::exit::INTERRUPTED.into();
        // In this order: the second signal finds the flag set.
        flag::register_conditional_shutdown(signal, code, Arc::clone(&flag))?;
        flag::register(signal, Arc::clone(&flag))?;
    }
    // With a handler in place a write past the file-size limit is an error, not a kill.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

#[cfg(not(unix))]
fn install_signals(flag: Arc<AtomicBool>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(())
}
