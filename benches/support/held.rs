//! What this process holds beside the files that it maps.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often is looked.
const EVERY: Duration = Duration::from_millis(20);

/// Runs `work`; beside what it returns, the most bytes that were seen held meanwhile. 0 where the
/// system does not tell: Linux alone does.
pub fn held<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let done = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&done);
    let watch = std::thread::spawn(move || {
        let mut most = 0;
        while !seen.load(Ordering::Relaxed) {
            most = most.max(now().unwrap_or(0));
            std::thread::sleep(EVERY);
        }
        most
    });
    let out = work();
    done.store(true, Ordering::Relaxed);
    (out, watch.join().unwrap_or(0))
}

/// Resident bytes of no file (proc(5), status).
fn now() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("RssAnon:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
