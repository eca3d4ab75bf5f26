//! aird's verbs as processes of their own: a crash or too little memory ends one step alone.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::{Result, disk};
use crate::gguf;

/// Between two looks at a child.
const PAUSE: Duration = Duration::from_millis(20);

/// How children are started.
#[derive(Debug, Clone)]
pub struct Children {
    /// aird itself.
    pub program: PathBuf,
    /// Set once the user asked to stop: the child is asked, too.
    pub interrupt: Arc<AtomicBool>,
}

/// Where a child's words go.
pub(super) struct Streams<'a> {
    /// Held open for as long as the child lives: a lock on it lasts that long.
    pub stdin: File,
    /// The result.
    pub stdout: &'a Path,
    /// The talk.
    pub stderr: &'a Path,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ended {
    /// Exit 0.
    Done,
    /// Exit 3.
    Gate,
    /// Anything else, in words.
    Failed(String),
}

impl Children {
    /// Runs `aird WORDS` to its end; `hear` gets what it says, line by line.
    ///
    /// # Errors
    /// It cannot be started; an interrupt, once the child has ended.
    pub(super) fn run(
        &self,
        words: &[String],
        streams: Streams<'_>,
        hear: &mut dyn FnMut(&str),
    ) -> Result<Ended> {
        let create = |path: &Path| File::create(path).map_err(disk(path, "write"));
        let mut command = Command::new(&self.program);
        command.args(words).stdin(streams.stdin);
        command.stdout(create(streams.stdout)?).stderr(create(streams.stderr)?);
        // A terminal's Ctrl-C must reach the child once, through us.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(disk(&self.program, "start"))?;
        let mut talk = Talk { path: streams.stderr, heard: 0 };
        let mut told = false;
        let status = loop {
            let status = child.try_wait().map_err(disk(&self.program, "wait for"))?;
            talk.pass_on(hear);
            if let Some(status) = status {
                break status;
            }
            if self.interrupt.load(Ordering::Relaxed) && !told {
                told = true;
                interrupt(&mut child).map_err(disk(&self.program, "interrupt"))?;
            }
            std::thread::sleep(PAUSE);
        };
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(gguf::Error::Interrupted.into());
        }
        Ok(match status.code() {
            Some(0) => Ended::Done,
            Some(3) => Ended::Gate,
            _ => Ended::Failed(in_words(status)),
        })
    }
}

/// A file that someone else writes lines into.
struct Talk<'a> {
    path: &'a Path,
    heard: u64,
}

impl Talk<'_> {
    fn pass_on(&mut self, hear: &mut dyn FnMut(&str)) {
        // What cannot be read now is in the log all the same.
        let Ok(mut file) = File::open(self.path) else { return };
        let mut bytes = Vec::new();
        if file.seek(SeekFrom::Start(self.heard)).is_err() || file.read_to_end(&mut bytes).is_err()
        {
            return;
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.heard += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).lines().for_each(hear);
    }
}

/// As Ctrl-C would: the child cleans up and ends. The shell's kill is the one that is everywhere.
#[cfg(unix)]
fn interrupt(child: &mut Child) -> io::Result<()> {
    let kill = ["-c", "kill -INT \"$0\""];
    Command::new("sh").args(kill).arg(child.id().to_string()).status().map(|_| ())
}

/// There is no polite way: outputs appear whole or not at all, whatever ends the child.
#[cfg(not(unix))]
fn interrupt(child: &mut Child) -> io::Result<()> {
    child.kill()
}

fn in_words(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let memory = if signal == 9 { ", perhaps for want of memory" } else { "" };
        return format!("it was ended by signal {signal}{memory}");
    }
    match status.code() {
        Some(code) => format!("it ended with exit code {code}"),
        None => "it ended without an exit code".into(),
    }
}
