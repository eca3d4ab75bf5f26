//! The names of a model's file. A file may have several (hard links), but it has one journal,
//! beside the name by which it was changed: its home. From every other name in the same folder the
//! journal is found by a search of that folder. For names in other folders the file itself carries
//! a note, an extended attribute with the path of its home. Where the file system has no such
//! attributes, the journal is found from its own folder only.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use crate::disk::{Handle, exists, folder_of};
use crate::error::{Error, Result, io_error};
use crate::journal::{JOURNAL_SUFFIX, Journal, journal_path, part_path};
use crate::keep::kept_path;

/// How many names (hard links) a file has.
#[cfg(unix)]
pub(crate) fn n_links(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

/// How many names a file has: std reports that on Unix only, so one.
#[cfg(not(unix))]
pub(crate) fn n_links(_: &Metadata) -> u64 {
    1
}

/// True if both describe one file.
#[cfg(unix)]
pub(crate) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino(), a.len()) == (b.dev(), b.ino(), b.len())
}

/// True if both may describe one file: std has no file ids here that are stable.
#[cfg(not(unix))]
pub(crate) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.len(), a.modified().ok()) == (b.len(), b.modified().ok())
}

/// The name beside which the journal of `file` lies, a path without symbolic links: `file` itself,
/// another name in its folder, or the one in its note. `file` itself if there is no journal.
pub(crate) fn home(file: &Path) -> Result<PathBuf> {
    let names = names_in_folder(file)?;
    // Journals of all names first: a part only means that some patch was cut off, maybe long before
    // the one that left the journal.
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

/// True if `name` leads to the same file as `file`: a note may be older than the name.
fn is_other_name(file: &Path, name: &Path) -> bool {
    let of = |path: &Path| path.symlink_metadata().ok();
    of(file).zip(of(name)).is_some_and(|(a, b)| is_same(&a, &b))
}

/// The extended attribute of a file that holds the path of its home.
#[cfg(target_os = "linux")]
const NOTE: &str = "user.aird.undo";

/// Writes the note: the journal lies beside `home`, an absolute path. An error is ignored, since
/// the journal can still be found from its own folder.
#[cfg(target_os = "linux")]
pub(crate) fn note(home: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let text = home.as_os_str().as_bytes();
    let _ = rustix::fs::setxattr(home, NOTE, text, rustix::fs::XattrFlags::empty());
}

/// Removes the note. An error is ignored: a note without a journal has no effect.
#[cfg(target_os = "linux")]
pub(crate) fn forget_note(file: &Path) {
    let _ = rustix::fs::removexattr(file, NOTE);
}

/// The home that the note of `file` names.
#[cfg(target_os = "linux")]
fn noted(file: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    // The longest path that Linux takes, PATH_MAX.
    let mut text = vec![0; 4096];
    let n = rustix::fs::getxattr(file, NOTE, &mut text[..]).ok()?;
    Some(std::ffi::OsStr::from_bytes(&text[..n]).into())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn note(_: &Path) {}

#[cfg(not(target_os = "linux"))]
pub(crate) fn forget_note(_: &Path) {}

#[cfg(not(target_os = "linux"))]
fn noted(_: &Path) -> Option<PathBuf> {
    None
}

/// True if a patch left anything beside `home`: a journal, whole or not, kept or not.
pub(crate) fn has_traces(home: &Path) -> Result<bool> {
    for trace in [journal_path, kept_path, part_path] {
        if exists(&trace(home))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A journal in the folder of `file` that is of this file, but beside a name that no longer exists:
/// the file was renamed, or that name was removed.
pub(crate) fn orphan(file: &Path) -> Result<Option<PathBuf>> {
    let mut models = Vec::new();
    let mut journals = Vec::new();
    for path in entries(folder_of(file))? {
        models.push(journal_path(&path));
        if path.to_string_lossy().ends_with(JOURNAL_SUFFIX) {
            journals.push(path);
        }
    }
    let model = Handle::open(file.to_owned())?;
    let bytes = model.bytes()?;
    for path in journals.into_iter().filter(|journal| !models.contains(journal)) {
        // A damaged one may be of any file: it is reported under its own model's name only.
        let Ok(Journal { index, .. }) = Journal::open(path.clone()) else { continue };
        if index.file_bytes == bytes && index.identity_of(&model)? == index.identity_sha256 {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The error of a model without a journal.
pub(crate) fn no_journal(path: &Path) -> Error {
    match path.metadata().map_or(1, |metadata| n_links(&metadata)) {
        1 => Error::NoJournal { path: path.into() },
        n_links => Error::NoJournalOfLink { path: path.into(), n_links },
    }
}

/// `file` first, then the further names that it has in its folder.
fn names_in_folder(file: &Path) -> Result<Vec<PathBuf>> {
    let mut names = vec![file.to_owned()];
    let metadata = file.metadata().map_err(io_error("cannot read", file))?;
    if n_links(&metadata) > 1 {
        let is_link = |path: &PathBuf| {
            // Symbolic links do not count: a journal lies beside the file that they lead to.
            let other = path.symlink_metadata();
            path != file && other.is_ok_and(|other| is_same(&metadata, &other))
        };
        names.extend(entries(folder_of(file))?.into_iter().filter(is_link));
    }
    Ok(names)
}

/// The paths of everything in `folder`, sorted.
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

    use super::*;
    use crate::disk::Disk;
    use crate::disk::tests::{Recorder, Stopping};
    use crate::undo::Pending;
    use crate::undo::tests::{Scene, each_stop};

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
