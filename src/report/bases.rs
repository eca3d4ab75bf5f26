//! The folder of a run over several bases: their names, and the page that leads to their studies.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::page::overview;
use super::results::Results;
use super::run::read_results;
use super::run_files::{BASES, PAGE};
use crate::gguf::write_file;

/// The bases of a run: the contents of `bases.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bases {
    /// Their names, each that of the folder with its study.
    pub bases: Vec<String>,
}

/// The bases of the run in folder `run`; None if it is the study of a single one.
///
/// # Errors
/// The file is malformed or cannot be read.
pub fn read_bases(run: &Path) -> Result<Option<Bases>> {
    let path = run.join(BASES);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(Error::Unreadable { path, why }),
    };
    let bases: Bases = serde_json::from_str(&text)
        .map_err(|e| Error::Malformed { path: path.clone(), why: e.to_string() })?;
    match bases.bases.iter().find(|name| !is_folder_name(name)) {
        Some(name) => {
            let why = format!("a base is named '{name}', expected the name of a folder");
            Err(Error::Malformed { path, why })
        }
        None => Ok(Some(bases)),
    }
}

/// One part, and none that leads out of the run.
fn is_folder_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

/// Writes the names of the bases into folder `run`.
///
/// # Errors
/// The disk's.
pub fn write_bases(run: &Path, bases: &Bases) -> Result<()> {
    let json = serde_json::to_string_pretty(bases).unwrap_or_default() + "\n";
    Ok(write_file(&run.join(BASES), json.as_bytes())?)
}

/// Writes the page that shows the studies of all bases side by side.
///
/// # Errors
/// The names or the results of a study are missing or malformed; the disk's.
pub fn write_overview(run: &Path) -> Result<()> {
    let studies: Vec<(String, Results)> = read_bases(run)?
        .map(|bases| bases.bases)
        .unwrap_or_default()
        .into_iter()
        .map(|name| Ok((name.clone(), read_results(&run.join(name))?)))
        .collect::<Result<_>>()?;
    Ok(write_file(&run.join(PAGE), overview(&studies).as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_run_are_refused() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(read_bases(run.path()).unwrap(), None);
        let two = Bases { bases: vec!["a".into(), "qwen2.5".into()] };
        write_bases(run.path(), &two).unwrap();
        assert_eq!(read_bases(run.path()).unwrap(), Some(two));
        for name in ["..", "../a", "/etc", "a/b", ".", ""] {
            write_bases(run.path(), &Bases { bases: vec![name.into()] }).unwrap();
            let said = read_bases(run.path()).unwrap_err().to_string();
            assert!(said.contains("expected the name of a folder"), "{name}: {said}");
        }
    }
}
