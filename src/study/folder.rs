//! A run's folder: what each step gave, by its key; who else is at work in it.
//!
//! `steps/KEY.json` is what a step printed, `steps/KEY.log` what it said, `steps/KEY.done.json` the
//! record that it is done, written last.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result, disk};
use super::sums::Sums;
use crate::gguf::{self, write_file};

/// Between two tries for the lock.
const PAUSE: Duration = Duration::from_millis(100);

/// Which models stay when a study is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None.
    None,
    /// Repaired ones.
    Repaired,
    /// All, those between two steps of a chain among them.
    All,
}

impl Keep {
    /// Whether the file at `path` of the run's folder is to stay.
    pub fn wants(self, path: &str) -> bool {
        let Some(model) = path.strip_prefix("models/") else { return true };
        match self {
            Keep::None => false,
            Keep::Repaired => model.ends_with("-repaired.gguf"),
            Keep::All => true,
        }
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Keep, String> {
        match text {
            "none" => Ok(Keep::None),
            "repaired" => Ok(Keep::Repaired),
            "all" => Ok(Keep::All),
            _ => Err("expected none, repaired or all".into()),
        }
    }
}

/// A file that a step made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeFile {
    /// Relative to the run's folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Of its bytes.
    pub sha256: String,
}

/// That a step is done, and what it made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The step's name.
    pub name: String,
    /// False where it did not find what it looked for: no direction, no repair that helps.
    pub found: bool,
    /// Then its own words.
    pub why: Option<String>,
    /// What it made.
    pub outputs: Vec<MadeFile>,
}

impl Record {
    /// The file at `path`, if it was made.
    pub fn output(&self, path: &str) -> Option<&MadeFile> {
        self.outputs.iter().find(|made| made.path == path)
    }
}

/// A run's folder.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Locked while this or a child of this is at work in it; None where nothing will be written.
    lock: Option<File>,
}

impl Folder {
    /// For a look: nothing is made, nothing is locked.
    pub fn look(path: &Path) -> Folder {
        Folder { path: path.into(), lock: None }
    }

    /// Makes the folder if there is none, and waits until nobody else is at work in it; `wait` is
    /// called once before.
    ///
    /// # Errors
    /// The folder holds what no run made; the disk's; an interrupt.
    pub fn open(path: &Path, interrupt: &AtomicBool, wait: impl FnOnce()) -> Result<Folder> {
        let steps = path.join("steps");
        let in_use = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        if in_use && !steps.join("lock").is_file() {
            return Err(Error::OtherFolder { path: path.into() });
        }
        std::fs::create_dir_all(&steps).map_err(disk(&steps, "make"))?;
        let name = steps.join("lock");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&name);
        let file = file.map_err(disk(&name, "open"))?;
        let mut wait = Some(wait);
        loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {}
                // Some file systems have no locks.
                Ok(()) | Err(TryLockError::Error(_)) => break,
            }
            if let Some(wait) = wait.take() {
                wait();
            }
            if interrupt.load(Ordering::Relaxed) {
                return Err(gguf::Error::Interrupted.into());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(Folder { path: path.into(), lock: Some(file) })
    }

    /// The lock, to be held by a child as well: if we are killed, it lasts until the child ends.
    pub(super) fn lock(&self) -> Result<File> {
        let name = self.path.join("steps/lock");
        match &self.lock {
            Some(file) => file.try_clone().map_err(disk(name, "open")),
            None => File::open(&name).map_err(disk(name, "open")),
        }
    }

    /// Where a step's file is: `json`, `log`, `done.json`.
    pub fn step_file(&self, key: &str, ending: &str) -> PathBuf {
        self.path.join(format!("steps/{key}.{ending}"))
    }

    /// Where sums of files are remembered.
    pub fn sums(&self) -> PathBuf {
        self.path.join("steps/sums.json")
    }

    /// The record of the step with that key, if it is done. One that does not parse is none.
    pub fn record(&self, key: &str) -> Option<Record> {
        let text = std::fs::read_to_string(self.step_file(key, "done.json")).ok()?;
        self.step_file(key, "json").is_file().then_some(())?;
        serde_json::from_str(&text).ok()
    }

    /// Keeps a record.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn keep(&self, key: &str, record: &Record) -> Result<()> {
        let path = self.step_file(key, "done.json");
        let json = serde_json::to_string_pretty(record);
        let json =
            json.map_err(|e| Error::File { path: path.clone(), what: e.to_string() })? + "\n";
        Ok(write_file(&path, json.as_bytes())?)
    }

    /// True if `made` is there with the bytes that it was made with.
    ///
    /// # Errors
    /// It cannot be read; an interrupt.
    pub(super) fn is_there(&self, made: &MadeFile, sums: &mut Sums) -> Result<bool> {
        let found = sums.file(&self.path.join(&made.path))?;
        Ok(found.is_some_and(|sum| (sum.bytes, &sum.sha256) == (made.bytes, &made.sha256)))
    }

    /// Removes a file or folder, if it is there.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove(&self, path: &str) -> Result<()> {
        let path = self.path.join(path);
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        match removed {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(disk(path, "remove")),
        }
    }

    /// Makes the folder that `path` lies in.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn make_room(&self, path: &str) -> Result<()> {
        let path = self.path.join(path);
        match path.parent() {
            Some(folder) => std::fs::create_dir_all(folder).map_err(disk(folder, "make")),
            None => Ok(()),
        }
    }

    /// Makes ready what a step fills bit by bit: what depends on something else is taken away, and
    /// who owns it is noted before it is begun.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn claim(&self, claims: &[(String, String)]) -> Result<()> {
        let name = self.path.join("steps/kept.json");
        let text = std::fs::read_to_string(&name).unwrap_or_default();
        let mut owners: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
        let mut changed = false;
        for (path, content) in claims {
            if owners.get(path) != Some(content) {
                self.remove(path)?;
                owners.insert(path.clone(), content.clone());
                changed = true;
            }
            self.make_room(path)?;
        }
        if changed {
            let json = serde_json::to_string_pretty(&owners).unwrap_or_default() + "\n";
            write_file(&name, json.as_bytes())?;
        }
        Ok(())
    }
}
