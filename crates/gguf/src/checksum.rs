//! sha256 of files, as `sha256sum` and model hubs print it.

use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::model::{Model, Shard};
use super::watch::Watch;

/// Bytes between two looks at the watch.
const STEP: usize = 16 << 20;

/// sha256 of `bytes`.
///
/// # Errors
/// [`Error::Interrupted`] alone.
pub(super) fn digest(bytes: &[u8], watch: &dyn Watch) -> Result<[u8; 32]> {
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

/// sha256 of a whole file, in hexadecimal.
///
/// # Errors
/// [`Error::Interrupted`] alone: the file is mapped already.
pub fn sha256(shard: &Shard, watch: &dyn Watch) -> Result<String> {
    Ok(hex(&digest(shard.bytes(), watch)?))
}

/// sha256 of a model: of its file, or of its shards' sums one after another.
///
/// # Errors
/// See [`sha256`].
pub fn model_sha256(model: &Model, watch: &dyn Watch) -> Result<String> {
    let sums = model.shards().iter().map(|s| sha256(s, watch)).collect::<Result<Vec<_>>>()?;
    match sums.as_slice() {
        [one] => Ok(one.clone()),
        many => Ok(hex(&Sha256::digest(many.concat()))),
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
