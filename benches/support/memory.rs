//! The most memory that this process held.

use std::fs;

/// Lets the kernel start counting the peak from now (proc(5), clear_refs); false where it cannot.
pub fn forget_peak_memory() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Most bytes of this process resident at once, since [`forget_peak_memory`]; Linux alone.
pub fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
