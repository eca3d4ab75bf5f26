//! llama.cpp's log: kept, not shown. Errors carry its last lines; `-vv` shows all of it, and a
//! probe forwards its errors.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use llama_cpp_sys_2 as sys;

/// Warnings and errors remembered for the next error message.
const KEPT: usize = 8;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
/// The lowest level that goes to the sink; above all levels before there is a sink.
static LEAST: AtomicU32 = AtomicU32::new(u32::MAX);
static INSTALL: Once = Once::new();

/// Where llama.cpp's lines go.
pub(super) type Sink = fn(&str);

static SINK: Mutex<Option<Sink>> = Mutex::new(None);

/// Sends every line of llama.cpp's log to `sink` as well.
pub fn set_loud(sink: Sink) {
    pass_on(sys::GGML_LOG_LEVEL_NONE, sink);
}

/// Sends llama.cpp's errors to `sink` as well.
pub(super) fn pass_errors_on(sink: Sink) {
    pass_on(sys::GGML_LOG_LEVEL_ERROR, sink);
}

fn pass_on(least: sys::ggml_log_level, sink: Sink) {
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    LEAST.store(least, Ordering::Relaxed);
}

/// Takes over llama.cpp's log; does nothing the second time.
pub(super) fn install() {
    // SAFETY: `keep` has the signature asked for, lives as long as the program, uses no user data.
    INSTALL.call_once(|| unsafe { sys::llama_log_set(Some(keep), std::ptr::null_mut()) });
}

/// Drops the kept lines, so that [`last_errors`] covers only what comes next.
pub(super) fn clear() {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// The last errors (warnings, if there are no errors), as one line.
pub(super) fn last_errors() -> String {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let words: Vec<&str> = lines.iter().map(String::as_str).collect();
    if words.is_empty() { "it gave no reason".into() } else { words.join("; ") }
}

unsafe extern "C" fn keep(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated string that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    if level >= LEAST.load(Ordering::Relaxed)
        && let Some(sink) = *SINK.lock().unwrap_or_else(PoisonError::into_inner)
    {
        sink(&text);
    }
    if level == sys::GGML_LOG_LEVEL_ERROR {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(text.trim().to_owned());
    }
}
