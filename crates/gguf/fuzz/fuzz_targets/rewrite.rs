//! Any file that opens as a model is rewritten with one more key, and every tensor and every other
//! key keeps its bytes. Set TMPDIR to a folder in memory.
#![no_main]

use std::path::PathBuf;

use aird_gguf::{KvEdit, Layout, Model, Rewrite, Unwatched};
use libfuzzer_sys::fuzz_target;

// An overflow is a finding only where it panics.
const _: () = assert!(cfg!(debug_assertions), "fuzz with debug assertions, as cargo fuzz does");

/// With a larger alignment most of the time would go into padding.
const MAX_ALIGNMENT: u64 = 4096;
const KEY: &str = "fuzz.key";

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("aird-gguf-fuzz-{}-{name}.gguf", std::process::id()))
}

fuzz_target!(|bytes: &[u8]| {
    let old = scratch("old");
    std::fs::write(&old, bytes).expect("TMPDIR can be written");
    let Ok(model) = Model::open(&old) else { return };
    if model.shards()[0].header.alignment() > MAX_ALIGNMENT {
        return;
    }
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    rewrite.edit(KvEdit::Set(KEY.into(), 1u8.into()));
    let new = scratch("new");
    rewrite.write(&new, true, &Unwatched).expect("what was opened is rewritten");
    let written = Model::open(&new).expect("what was written opens");
    let kept = |(key, _): &(&String, _)| key.as_str() != KEY;
    assert!(written.kv().iter().filter(kept).eq(model.kv().iter().filter(kept)));
    assert_eq!(written.n_tensors(), model.n_tensors());
    for (a, b) in model.tensors().zip(written.tensors()) {
        assert_eq!(
            (&a.info.name, &a.info.shape, a.info.ty),
            (&b.info.name, &b.info.shape, b.info.ty)
        );
        assert!(a.data() == b.data(), "{}", a.info.name);
    }
});
