//! A command as its user sees it: how long it takes, and what it holds and writes (Linux).

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// What a command took.
#[derive(Debug, Clone, Copy, Default)]
#[allow(dead_code)] // not every bench looks at all of it
pub struct Took {
    /// From its start to its end.
    pub seconds: f64,
    /// Most bytes of memory beyond what it maps, as far as was seen each millisecond.
    pub memory: u64,
    /// Bytes that it wrote, to files that are gone by now among them.
    pub written: u64,
}

/// Runs a command to its end.
pub fn watched(command: &mut Command) -> Result<Took> {
    let start = Instant::now();
    let mut child = command.spawn()?;
    let (mut memory, mut written) = (0, 0);
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{command:?} failed");
            return Ok(Took { seconds: start.elapsed().as_secs_f64(), memory, written });
        }
        memory = memory.max(1024 * number(&child, "status", "RssAnon:"));
        written = written.max(number(&child, "io", "wchar:"));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The number of a line of a file in `/proc/PID`; 0 where there is none.
fn number(child: &Child, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
