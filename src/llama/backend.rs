//! llama.cpp itself: started once, its log and its aborts taken over.

use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;

use super::error::{Error, Result};
use super::{abort, log};

/// llama.cpp, started once for the whole process.
pub(super) fn backend() -> Result<&'static LlamaBackend> {
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        log::install();
        abort::install();
        LlamaBackend::init().ok()
    });
    backend.as_ref().ok_or_else(|| Error::Backend { said: log::last_errors() })
}
