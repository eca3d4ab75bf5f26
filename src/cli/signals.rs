//! Signals: the first asks aird to stop, the second ends it at once. Where a process was started
//! with a signal ignored (nohup, a shell's background job) it stays ignored.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::exit;

/// Exit code after Ctrl-C, or a polite kill.
pub(super) const INTERRUPTED: u8 = 130;
/// Time for cleaning up after SIGTERM or SIGHUP. A process that waits for what never comes, as the
/// writer of a pipe, does not see the flag.
const GRACE: Duration = Duration::from_secs(10);
/// Between two checks for a second signal.
const PAUSE: Duration = Duration::from_millis(20);

/// Ends the process as an interrupted one, at once and without exit handlers.
pub(super) fn leave() -> ! {
    exit(INTERRUPTED.into())
}

/// Sets `flag` at the first signal.
///
/// # Errors
/// No handler can be installed, or no thread started.
#[cfg(unix)]
pub(super) fn listen(flag: Arc<AtomicBool>) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGXFSZ};
    use signal_hook::iterator::Signals;

    // With a handler in place a write past the file-size limit is an error, not a kill.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let ignored = ignored_from_the_start();
    let heard = [SIGINT, SIGHUP].into_iter().filter(|signal| ignored & bit(*signal) == 0);
    let mut signals = Signals::new(heard.chain([SIGTERM]))?;
    let wait = move || {
        let first = signals.forever().next();
        flag.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + GRACE;
        loop {
            let is_late = first != Some(SIGINT) && Instant::now() > deadline;
            if is_late || signals.pending().next().is_some() {
                exit(INTERRUPTED.into());
            }
            std::thread::sleep(PAUSE);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}

#[cfg(not(unix))]
pub fn listen(flag: Arc<AtomicBool>) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(())
}

#[cfg(unix)]
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The signals that this process was started to ignore, as Linux tells them; none elsewhere.
#[cfg(unix)]
fn ignored_from_the_start() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
