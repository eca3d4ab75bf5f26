//! Temp files of this process, for a process that ends without destructors.

use std::path::PathBuf;
use std::sync::Mutex;

/// Files and folders that are to go with this process.
static PATHS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A temp file or folder that [`remove_temp_files`] removes, until this is dropped. Removing it in
/// the usual case is the owner's.
#[derive(Debug)]
pub struct TempPath(PathBuf);

impl TempPath {
    /// Remembers `path`, which should be absolute.
    pub fn remember(path: impl Into<PathBuf>) -> TempPath {
        let path = path.into();
        if let Ok(mut paths) = PATHS.lock() {
            paths.push(path.clone());
        }
        TempPath(path)
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        if let Ok(mut paths) = PATHS.lock() {
            paths.retain(|path| *path != self.0);
        }
    }
}

/// Removes what this process has written and not finished: outputs under their temp names. To be
/// called right before a process ends without destructors, as after an abort of a C library; other
/// threads may be in the middle of writing. It waits for no lock, and reports no errors: nobody
/// could act on them.
pub fn remove_temp_files() {
    if let Ok(paths) = PATHS.try_lock() {
        remove(&paths);
    }
}

fn remove(paths: &[PathBuf]) {
    for path in paths {
        let _ =
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let made = ["kept", "dropped", "gone"].map(|name| folder.path().join(name));
        made.iter().for_each(|path| std::fs::write(path, "x").unwrap());
        drop(TempPath::remember(&made[1]));
        let _gone = TempPath::remember(&made[2]);
        let below = folder.path().join("below");
        std::fs::create_dir(&below).unwrap();
        std::fs::write(below.join("file"), "x").unwrap();
        let _below = TempPath::remember(&below);
        // Other tests write files meanwhile: only those of this one may go.
        let mut mine = PATHS.lock().unwrap().clone();
        mine.retain(|path| path.starts_with(folder.path()));
        remove(&mine);
        let left = made.iter().filter(|path| path.exists()).collect::<Vec<_>>();
        assert_eq!((left, below.exists()), (vec![&made[0], &made[1]], false));
    }
}
