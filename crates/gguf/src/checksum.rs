//! sha256 of files, as `sha256sum` and model hubs print it.

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::model::{Model, Shard};
use crate::watch::Watch;

/// Bytes hashed between two calls of the watch.
const STEP: usize = 16 << 20;

/// sha256 of `bytes`, with progress.
///
/// # Errors
/// Only [`Error::Interrupted`].
pub(crate) fn digest(bytes: &[u8], watch: &dyn Watch) -> Result<[u8; 32]> {
    let mut digest = Sha256::new();
    for chunk in bytes.chunks(STEP) {
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
        digest.update(chunk);
        watch.advance(chunk.len() as u64);
    }
    Ok(digest.finalize().into())
}

/// sha256 of a whole file, in lower-case hexadecimal. Reports the file's bytes to `watch`.
///
/// # Errors
/// Only [`Error::Interrupted`], since the file is mapped already.
pub fn sha256(shard: &Shard, watch: &dyn Watch) -> Result<String> {
    Ok(hex(&digest(shard.bytes(), watch)?))
}

/// sha256 of a model, in lower-case hexadecimal: that of its file, or, for a split model, that of
/// the concatenated hexadecimal sums of its shards, in order.
///
/// # Errors
/// Only [`Error::Interrupted`].
pub fn model_sha256(model: &Model, watch: &dyn Watch) -> Result<String> {
    let sums = model.shards().iter().map(|s| sha256(s, watch)).collect::<Result<Vec<_>>>()?;
    Ok(sha256_of_sums(&sums))
}

/// The sha256 that stands for several files: their only sum, or that of the concatenated
/// hexadecimal sums, in order.
#[must_use]
pub fn sha256_of_sums(sums: &[String]) -> String {
    match sums {
        [one] => one.clone(),
        many => hex(&Sha256::digest(many.concat())),
    }
}

/// `bytes` in lower-case hexadecimal, two digits a byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
