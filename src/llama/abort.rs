//! What happens where ggml aborts: one sentence instead of a debugger's backtrace.
//!
//! `ggml_abort` (ggml/src/ggml.c, which every `GGML_ASSERT` calls) calls this callback instead of
//! printing, and then `abort()`. The process cannot go on: other threads may be in the middle of
//! anything.

use std::ffi::{CStr, c_char};
use std::io::Write;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_sys_2 as sys;

use super::endpoint::lost_worker;
use crate::gguf::remove_temp_files;

/// What ggml-rpc.cpp says where a worker no longer answers, or cannot be connected again.
const LOST: [&str; 3] =
    ["Remote RPC server crashed", "Failed to connect to", "RPC handshake failed"];
/// Exit code of a run that failed.
const FAILED: i32 = 1;

static INSTALL: Once = Once::new();
/// Set by the first thread that ends the process.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Takes over ggml's abort; does nothing the second time.
pub(super) fn install() {
    // SAFETY: `last_sentence` has the signature asked for and lives as long as the program.
    INSTALL.call_once(|| unsafe {
        sys::ggml_set_abort_callback(Some(last_sentence));
    });
}

unsafe extern "C" fn last_sentence(message: *const c_char) {
    be_the_only_one();
    // SAFETY: ggml passes a NUL-terminated string on its stack.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    let is_loss = LOST.iter().any(|said| message.contains(said));
    say_and_end(&match is_loss.then(lost_worker).flatten() {
        Some(who) => without(&who),
        None => format!("llama.cpp aborted: {}", without_folders(&message)),
    });
}

/// Ends the process since workers no longer answer.
pub(super) fn end_without_worker() {
    be_the_only_one();
    say_and_end(&without(&lost_worker().unwrap_or_else(|| "workers no longer answer".into())));
}

/// The sentence for a worker that is lost, with what helps.
fn without(who: &str) -> String {
    format!(
        "{who}\nhint: run the same command again, it goes on from what it kept; a worker that was \
         only slow needs a longer limit"
    )
}

/// Ends the process with an error.
pub(super) fn end_with(said: &str) {
    be_the_only_one();
    say_and_end(said);
}

/// Returns for the first thread. The others wait for the end: looking for the worker that is lost
/// cuts the connections on which they wait.
fn be_the_only_one() {
    if ENDING.swap(true, Ordering::SeqCst) {
        loop {
            std::thread::park();
        }
    }
}

fn say_and_end(said: &str) {
    remove_temp_files();
    let _ = writeln!(std::io::stderr(), "error: {said}");
    end();
}

/// Exits without destructors and exit handlers: the thread that aborts may hold any lock.
#[cfg(unix)]
fn end() {
    signal_hook::low_level::exit(FAILED);
}

#[cfg(not(unix))]
fn end() {
    std::process::exit(FAILED);
}

/// `/where/it/was/built/llama-vocab.cpp:12: GGML_ASSERT(x) failed` without the folders.
fn without_folders(message: &str) -> &str {
    let first_space = message.find(' ').unwrap_or(message.len());
    let start = message[..first_space].rfind(['/', '\\']).map_or(0, |at| at + 1);
    message[start..].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_loses_the_folders_it_was_built_in() {
        let message = "/home/x/llama.cpp/src/llama-vocab.cpp:3: GGML_ASSERT(a / b) failed\n";
        assert_eq!(without_folders(message), "llama-vocab.cpp:3: GGML_ASSERT(a / b) failed");
        assert_eq!(without_folders("fatal error"), "fatal error");
    }
}
