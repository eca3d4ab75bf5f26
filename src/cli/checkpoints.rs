//! A Hugging Face folder where a verb takes a model.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::ui::Ui;
use crate::checkpoint::is_checkpoint;
use crate::verbs::cached;

/// Puts the imported model in the place of each path that is a Hugging Face folder. `cache` is
/// where it is kept, instead of the usual place.
pub(super) fn import_folders(
    models: Vec<&mut PathBuf>,
    cache: Option<&Path>,
    ui: &Ui,
) -> Result<()> {
    for model in models {
        if is_checkpoint(model) {
            *model = cached(model, &cache_folder(cache)?, ui)?;
        }
    }
    Ok(())
}

/// Where caches are kept on this system.
fn cache_folder(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let folder = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let usual = match () {
        () if cfg!(windows) => folder("LOCALAPPDATA"),
        () if cfg!(target_os = "macos") => folder("HOME").map(|home| home.join("Library/Caches")),
        () => folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache"))),
    };
    match usual {
        Some(usual) => Ok(usual.join("aird")),
        None => bail!(
            "there is no home folder to keep the imported model in\nhint: --cache-dir names one"
        ),
    }
}
