//! Runs aird's verbs in their own processes: a crash or too little memory ends only one step.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::{Result, disk};
use crate::gguf;

/// Time between two checks of a child.
const PAUSE: Duration = Duration::from_millis(20);

/// How children are started.
#[derive(Debug, Clone)]
pub struct Children {
    /// Path of the aird program.
    pub program: PathBuf,
    /// Set once the user asked to stop: the child is then asked, too.
    pub interrupt: Arc<AtomicBool>,
}

/// The standard streams of a child.
pub(super) struct Streams<'a> {
    /// Held open while the child lives, so that a lock on it lasts as long.
    pub stdin: File,
    /// File for the result, a JSON report.
    pub stdout: &'a Path,
    /// File for messages and progress.
    pub stderr: &'a Path,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ended {
    /// Exit 0: success.
    Done,
    /// Exit 3: a gate failed, or nothing was found.
    Gate,
    /// Anything else; the text is a sentence.
    Failed(String),
}

impl Children {
    /// Runs `aird WORDS` to its end; `hear` gets its messages, line by line.
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
        // A terminal's Ctrl-C must reach the child once, and aird passes it on.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(disk(&self.program, "start"))?;
        let mut talk = Talk { path: streams.stderr, heard: 0 };
        let mut asked = false;
        let status = loop {
            let status = child.try_wait().map_err(disk(&self.program, "wait for"))?;
            talk.pass_on(hear);
            if let Some(status) = status {
                break status;
            }
            if self.interrupt.load(Ordering::Relaxed) && !asked {
                asked = true;
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

/// A file into which a child writes lines.
struct Talk<'a> {
    path: &'a Path,
    heard: u64,
}

impl Talk<'_> {
    fn pass_on(&mut self, hear: &mut dyn FnMut(&str)) {
        // What cannot be read now is still in the log.
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

/// Same as Ctrl-C: the child cleans up and ends. The shell's kill exists on every Unix.
#[cfg(unix)]
fn interrupt(child: &mut Child) -> io::Result<()> {
    let kill = ["-c", "kill -INT \"$0\""];
    Command::new("sh").args(kill).arg(child.id().to_string()).status().map(|_| ())
}

/// Only a hard end is possible: outputs appear whole or not at all, whatever ends the child.
#[cfg(not(unix))]
fn interrupt(child: &mut Child) -> io::Result<()> {
    child.kill()
}

fn in_words(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let memory = if signal == 9 { ", perhaps for lack of memory" } else { "" };
        return format!("it was ended by signal {signal}{memory}");
    }
    match status.code() {
        Some(code) => format!("it ended with exit code {code}"),
        None => "it ended without an exit code".into(),
    }
}
