//! OpenMP threads that wait give their core away soon.
//!
//! llama.cpp's threads meet at a barrier after every node of the graph. GCC's OpenMP lets those
//! that wait spin for milliseconds, unless there are more threads than cores. On a busy machine the
//! one that they wait for then gets no core, and everything takes many times as long. libgomp reads
//! its settings as the process starts, so aird starts itself again with one of them, once.

/// Rounds that a thread spins before it sleeps: some ten microseconds, longer than most barriers
/// take on an idle machine (BENCHMARKS.md has the figures).
const ROUNDS: &str = "1000";
/// libgomp's own setting, and OpenMP's. Whoever set either knows better.
const SETTINGS: [&str; 2] = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"];

/// Starts the program again with the setting, in this process. Returns where it is set already, or
/// where that is not possible: then waiting threads spin.
#[cfg(target_os = "linux")]
pub(super) fn limit() {
    use std::os::unix::process::CommandExt;
    if SETTINGS.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let (mut arguments, program) = (std::env::args_os(), super::ui::own_program());
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // It returns only if it fails.
    let _ = command.args(arguments).env(SETTINGS[0], ROUNDS).exec();
}

#[cfg(not(target_os = "linux"))]
pub fn limit() {}
