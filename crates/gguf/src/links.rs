//! The names of a model's file. A file may have several (hard links), but it has one journal,
//! beside the name by which it was changed. That journal is found by every name in the same folder.
//! For names in other folders the file itself carries a note (an extended attribute) of where the
//! journal lies, where the file system keeps such notes; otherwise the disk would have to be
//! searched.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use super::disk::{Handle, exists, folder_of};
use super::error::{Result, io_error};
use super::journal::{JOURNAL_SUFFIX, Journal, journal_path, part_path};
use super::keep::kept_path;

/// The number of a file's names.
#[cfg(unix)]
pub(super) fn n_links(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

/// The number of a file's names: one, as far as we can see.
#[cfg(not(unix))]
pub(super) fn n_links(_: &Metadata) -> u64 {
    1
}

/// True if both stand for one file.
#[cfg(unix)]
pub(super) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino(), a.len()) == (b.dev(), b.ino(), b.len())
}

/// True if both may stand for one file.
#[cfg(not(unix))]
pub(super) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.len(), a.modified().ok()) == (b.len(), b.modified().ok())
}

/// The name of `file`, which leads through no link, beside which its journal lies: its own, or
/// another one in its folder. Its own if there is no journal.
pub(super) fn home(file: &Path) -> Result<PathBuf> {
    let names = names_in_folder(file)?;
    // A part tells only that a patch was given up, maybe long before the one with the journal.
    for traces in [&[journal_path, kept_path][..], &[part_path]] {
        for name in &names {
            for trace in traces {
                if exists(&trace(name))? {
                    return Ok(name.clone());
                }
            }
        }
    }
    match noted(file) {
        Some(name) if is_other_name(file, &name) && has_traces(&name)? => Ok(name),
        _ => Ok(file.to_owned()),
    }
}

fn is_other_name(file: &Path, name: &Path) -> bool {
    let of = |path: &Path| path.symlink_metadata().ok();
    of(file).zip(of(name)).is_some_and(|(a, b)| is_same(&a, &b))
}

/// The note's name among the attributes of a file.
#[cfg(target_os = "linux")]
const NOTE: &str = "user.aird.undo";

/// Notes on a file with several names that its journal lies beside `home`, an absolute path. Where
/// that cannot be done the journal is found from its own folder only.
#[cfg(target_os = "linux")]
pub(super) fn note(home: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let text = home.as_os_str().as_bytes();
    let _ = rustix::fs::setxattr(home, NOTE, text, rustix::fs::XattrFlags::empty());
}

/// Removes the note.
#[cfg(target_os = "linux")]
pub(super) fn forget_note(file: &Path) {
    let _ = rustix::fs::removexattr(file, NOTE);
}

#[cfg(target_os = "linux")]
fn noted(file: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    // The longest path that Linux takes, PATH_MAX.
    let mut text = vec![0; 4096];
    let n = rustix::fs::getxattr(file, NOTE, &mut text[..]).ok()?;
    Some(std::ffi::OsStr::from_bytes(&text[..n]).into())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn note(_: &Path) {}

#[cfg(not(target_os = "linux"))]
pub(super) fn forget_note(_: &Path) {}

#[cfg(not(target_os = "linux"))]
fn noted(_: &Path) -> Option<PathBuf> {
    None
}

/// True if a patch of the file, which was named `home` for it, left anything there.
pub(super) fn has_traces(home: &Path) -> Result<bool> {
    for trace in [journal_path, kept_path, part_path] {
        if exists(&trace(home))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A journal in the folder of `file` that is of this file, but beside a name that is gone: the file
/// was renamed, or that name removed.
pub(super) fn orphan(file: &Path) -> Result<Option<PathBuf>> {
    let (mut models, mut journals) = (Vec::new(), Vec::new());
    for path in entries(folder_of(file))? {
        models.push(journal_path(&path));
        if path.to_string_lossy().ends_with(JOURNAL_SUFFIX) {
            journals.push(path);
        }
    }
    let model = Handle::open(file.to_owned())?;
    let bytes = model.bytes()?;
    for path in journals.into_iter().filter(|journal| !models.contains(journal)) {
        // One that is damaged may be of any file: it waits for its own name.
        let Ok(Journal { index, .. }) = Journal::open(path.clone()) else { continue };
        if index.file_bytes == bytes && index.identity_of(&model)? == index.identity_sha256 {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// `file` first, then the further names that it has in its folder.
fn names_in_folder(file: &Path) -> Result<Vec<PathBuf>> {
    let mut names = vec![file.to_owned()];
    let metadata = file.metadata().map_err(io_error("cannot read", file))?;
    if n_links(&metadata) > 1 {
        let is_link = |path: &PathBuf| {
            // Not through a symbolic link: the journal lies beside the file that it leads to.
            let other = path.symlink_metadata();
            path != file && other.is_ok_and(|other| is_same(&metadata, &other))
        };
        names.extend(entries(folder_of(file))?.into_iter().filter(is_link));
    }
    Ok(names)
}

/// What lies in `folder`, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = || io_error("cannot read", folder);
    let mut paths = Vec::new();
    for entry in folder.read_dir().map_err(failed())? {
        paths.push(entry.map_err(failed())?.path());
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Error;
    use super::super::disk::Disk;
    use super::super::disk::tests::{Recorder, Stopping};
    use super::super::undo::Pending;
    use super::super::undo::tests::{Scene, each_stop};
    use super::*;

    /// Undoes by `name` what was patched as `scene.path`, killed anywhere and run again, after
    /// `change` gave the file that name.
    fn check(change: impl Fn(&Path, &Path)) {
        let scene = Scene::new(1);
        scene.patched();
        let name = scene.path.with_file_name("n.gguf");
        change(&scene.path, &name);
        let patched = scene.now();
        let expected = scene.before.values().next().unwrap();
        let undo = |disk: &dyn Disk| Pending::find(&name)?.undo_on(disk);
        let stops = each_stop(true, |cost, disk: &Stopping| {
            scene.set(&patched);
            assert_eq!(undo(disk).is_err(), disk.failed.get(), "{cost}");
            match undo(&Recorder::default()) {
                Ok(()) | Err(Error::NoJournal { .. } | Error::NoJournalOfLink { .. }) => {}
                Err(e) => panic!("{cost}: {e}"),
            }
            let now = scene.now();
            assert!(now.values().all(|bytes| bytes == expected), "{cost}: {:?}", now.keys());
        });
        assert!(stops > 50, "{stops}");
    }

    #[test]
    fn an_undo_after_a_rename_killed_anywhere_can_be_run_again() {
        check(|from, to| fs::rename(from, to).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn an_undo_by_another_name_killed_anywhere_can_be_run_again() {
        check(|from, to| fs::hard_link(from, to).unwrap());
    }
}
