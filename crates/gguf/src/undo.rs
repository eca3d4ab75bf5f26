//! Undoes a patch, byte for byte, from its journals; or keeps it for good.
//!
//! Both may be cut off at any point and run again: a journal is removed only when its file is whole
//! and synced. They need the files' names only, not their headers, which may be half-written.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::disk::{Disk, Handle, Real, exists};
use crate::error::{Error, Result, io_error};
use crate::journal::{Journal, Stretch, journal_path, part_path};
use crate::keep;
use crate::links;
use crate::shards::files_of;

/// A patch that can be undone or kept for good. It holds locks on the model's files: while it
/// exists, no other patch and no other undo can begin.
#[derive(Debug)]
pub struct Pending {
    files: Vec<PendingFile>,
}

/// A file of the model, locked, beside which a journal was found, or a part of one.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) model: Handle,
    /// See [`PendingFile::home`].
    pub(crate) home: PathBuf,
    /// The journal, if it has the name of another file: the model was renamed.
    pub(crate) orphan: Option<PathBuf>,
}

/// A [`Found`] whose journal is open.
#[derive(Debug)]
struct PendingFile {
    model: Handle,
    /// The name of the file beside which its journal lies, one of several: see `links.rs`.
    home: PathBuf,
    /// None if the patch was cut off while it wrote the journal, and so before the model.
    journal: Option<Journal>,
}

/// What was undone or kept, or, from [`Pending::look`], would be.
#[derive(Debug, Clone, PartialEq)]
pub struct Undone {
    /// The model's files that had a journal.
    pub files: Vec<PathBuf>,
    /// Tensors that the patch changed, or would have changed if it had not been cut off.
    pub tensors: Vec<String>,
    /// Their bytes, and those of the header that the patch changed.
    pub bytes: u64,
    /// As `bytes`, without the tensors that held their old bytes: what an undo has to write. 0 if
    /// the patch was cut off before it wrote to the model.
    pub changed_bytes: u64,
    /// The step of the patch, as the history would hold it; None if it was applied without one.
    pub step: Option<Json>,
    /// Whether the patch wrote the step into the model's history.
    pub in_history: bool,
    /// The file that [`Pending::forget`] writes the step into otherwise.
    pub history_path: PathBuf,
}

impl Pending {
    /// Finds the journals of the model that `path` names: of one file, or, if that has the name of
    /// a shard, of all shards. If a file has several names (hard links), the journal may lie beside
    /// any of those in its folder, even if that name has been removed.
    ///
    /// # Errors
    /// [`Error::NoJournal`] or [`Error::NoJournalOfLink`]; a journal is damaged, or belongs to
    /// another file; a file cannot be written, or another process is at work on it; [`Error::Kept`]
    /// after a [`Pending::forget`] that was cut off, which is then finished.
    pub fn find(path: &Path) -> Result<Pending> {
        let mut files = Vec::new();
        for file in files_of(path) {
            match file.canonicalize() {
                Ok(file) => files.push(file),
                // A shard that is gone can hold nothing to undo.
                Err(e) if e.kind() == ErrorKind::NotFound && file != path => {}
                Err(e) => return Err(io_error("cannot open", &file)(e)),
            }
        }
        let homes = files.iter().map(|file| links::home(file)).collect::<Result<Vec<_>>>()?;
        let mut found = Vec::new();
        for (file, home) in files.iter().zip(&homes) {
            if links::has_traces(home)? {
                let model = Handle::open_to_change(file)?;
                found.push(Found { model, home: home.clone(), orphan: None });
            } else if let Some(orphan) = links::orphan(file)? {
                let model = Handle::open_to_change(file)?;
                found.push(Found { model, home: file.clone(), orphan: Some(orphan) });
            }
        }
        if keep::finish(&Real, &homes)? {
            return Err(Error::Kept { path: path.into() });
        }
        if found.is_empty() {
            return Err(links::no_journal(path));
        }
        Pending::of(found)
    }

    /// Opens the journals of the files, and checks that they belong together.
    pub(crate) fn of(found: Vec<Found>) -> Result<Pending> {
        let mut files = Vec::new();
        for Found { model, home, orphan } in found {
            let path = orphan.unwrap_or_else(|| journal_path(&home));
            let journal = if exists(&path)? { Some(Journal::open(path)?) } else { None };
            if let Some(Journal { handle, index }) = &journal
                && (model.bytes()? != index.file_bytes
                    || index.identity_of(&model)? != index.identity_sha256)
            {
                let path = model.path.clone();
                return Err(Error::JournalOfAnother { path, journal: handle.path.clone() });
            }
            files.push(PendingFile { model, home, journal });
        }
        Ok(Pending { files })
    }

    /// What [`Pending::undo`] would do, without doing it. Reads the patched tensors.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn look(&self) -> Result<Undone> {
        let mut undone = Undone {
            files: self.files.iter().map(|f| f.model.path.clone()).collect(),
            tensors: Vec::new(),
            bytes: 0,
            changed_bytes: 0,
            step: None,
            in_history: false,
            history_path: self.files.first().map_or_else(PathBuf::new, PendingFile::history_path),
        };
        for file in &self.files {
            let Some(Journal { index, .. }) = &file.journal else { continue };
            undone.tensors.extend(index.stretches.iter().filter_map(|s| s.tensor.clone()));
            undone.bytes += index.stretches.iter().map(|s| s.bytes).sum::<u64>();
            undone.changed_bytes += file.changed()?.iter().map(|(_, s)| s.bytes).sum::<u64>();
            undone.step = undone.step.or_else(|| index.step.clone());
            undone.in_history |= index.stretches.iter().any(|s| s.tensor.is_none());
        }
        Ok(undone)
    }

    /// Restores the old bytes, whatever is there now, and removes the journals.
    ///
    /// # Errors
    /// [`Error::DamagedJournal`]: nothing was written. Those of the disk: the journals are still
    /// there, and the undo can be run again.
    pub fn undo(self) -> Result<Undone> {
        let undone = self.look()?;
        self.undo_on(&Real)?;
        Ok(undone)
    }

    /// As [`Pending::undo`], on any disk.
    pub(crate) fn undo_on(&self, disk: &dyn Disk) -> Result<()> {
        let changed = self.files.iter().map(PendingFile::changed).collect::<Result<Vec<_>>>()?;
        // All journals before any write: if one is damaged, nothing changes.
        for (file, changed) in self.files.iter().zip(&changed) {
            file.check_journal(changed)?;
        }
        self.name_journals(disk)?;
        for (file, changed) in self.files.iter().zip(&changed) {
            file.restore(disk, changed)?;
        }
        self.remove_journals(disk)
    }

    /// Keeps the patch for good: removes the journals. A step that the file's own history had no
    /// room for goes into the file at [`crate::history_path`].
    ///
    /// # Errors
    /// [`Error::NotWhole`]: a tensor does not hold its new bytes. Those of the disk: the patch can
    /// then be undone as a whole or not at all, and either can be run again.
    pub fn forget(self) -> Result<Undone> {
        self.forget_on(&Real)
    }

    /// As [`Pending::forget`], on any disk.
    pub(crate) fn forget_on(self, disk: &dyn Disk) -> Result<Undone> {
        let undone = self.look()?;
        for file in &self.files {
            let Some(journal) = &file.journal else {
                return Err(Error::NotWhole { path: file.model.path.clone(), what: "all".into() });
            };
            for stretch in &journal.index.stretches {
                if file.model.sha256(stretch.range())? != stretch.new_sha256 {
                    let path = file.model.path.clone();
                    return Err(Error::NotWhole { path, what: stretch.name().into() });
                }
            }
            // The patch may have been killed after its last write and before its sync.
            file.sync(disk)?;
        }
        self.name_journals(disk)?;
        let homes: Vec<PathBuf> = self.files.iter().map(|file| file.home.clone()).collect();
        keep::keep(disk, &homes)?;
        self.files.iter().for_each(|file| links::forget_note(&file.model.path));
        Ok(undone)
    }

    /// Renames the journals of models that were renamed, so that a run that is cut off from here on
    /// finds them by the new names.
    fn name_journals(&self, disk: &dyn Disk) -> Result<()> {
        for PendingFile { home, journal, .. } in &self.files {
            let Some(Journal { handle, .. }) = journal else { continue };
            let path = journal_path(home);
            if handle.path != path {
                let renamed = disk.rename(&handle.path, &path);
                renamed.map_err(io_error("cannot rename", &handle.path))?;
            }
        }
        Ok(())
    }

    /// Removes the journals, then syncs the folders: journals that came back after a power loss
    /// would only be undone again, to the same bytes.
    fn remove_journals(&self, disk: &dyn Disk) -> Result<()> {
        for PendingFile { home, .. } in &self.files {
            for path in [journal_path(home), part_path(home)] {
                if exists(&path)? {
                    disk.remove(&path).map_err(io_error("cannot remove", &path))?;
                }
            }
        }
        for PendingFile { model, home, .. } in &self.files {
            links::forget_note(&model.path);
            disk.sync_folder(home).map_err(io_error("cannot write beside", home))?;
        }
        Ok(())
    }
}

impl PendingFile {
    fn history_path(&self) -> PathBuf {
        keep::history_path(&self.home)
    }

    /// The stretches that do not hold their old bytes, each with its index in the journal.
    fn changed(&self) -> Result<Vec<(usize, &Stretch)>> {
        let mut changed = Vec::new();
        let stretches = self.journal.iter().flat_map(|journal| &journal.index.stretches);
        for (i, stretch) in stretches.enumerate() {
            if self.model.sha256(stretch.range())? != stretch.old_sha256 {
                changed.push((i, stretch));
            }
        }
        Ok(changed)
    }

    /// Checks the old bytes that will be needed, before any byte is written.
    fn check_journal(&self, changed: &[(usize, &Stretch)]) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        for &(i, stretch) in changed {
            if journal.handle.sha256(journal.old(i))? != stretch.old_sha256 {
                let path = journal.handle.path.clone();
                return Err(Error::DamagedJournal { path, what: "old bytes lack their sha256" });
            }
        }
        Ok(())
    }

    /// Writes the old bytes of the stretches `changed`, syncs, and checks all of them.
    fn restore(&self, disk: &dyn Disk, changed: &[(usize, &Stretch)]) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        for &(i, stretch) in changed {
            self.model.copy_from(disk, &journal.handle, journal.old(i), stretch.start)?;
        }
        // Even if nothing was left to write: an earlier undo may have been killed before its sync.
        self.sync(disk)?;
        if let Some((_, stretch)) = self.changed()?.first() {
            let path = self.model.path.clone();
            return Err(Error::WrittenWrong { path, what: stretch.name().into() });
        }
        Ok(())
    }

    fn sync(&self, disk: &dyn Disk) -> Result<()> {
        disk.sync(&self.model).map_err(io_error("cannot write", &self.model.path))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;
    use crate::disk::tests::{Files, Recorder, Stopping, after_power_loss};
    use crate::shards::ShardName;
    use crate::{
        Ask, Builder, GgmlType, HISTORY_KEY, Model, Patch, Patched, Replacement, Step, Unwatched,
        Value,
    };

    /// A model of one file or two, each with two tensors that are patched and two that are not.
    pub(crate) struct Scene {
        folder: tempfile::TempDir,
        pub(crate) path: PathBuf,
        pub(crate) before: Files,
    }

    const SHAPE: [u64; 2] = [64, 5];
    const PATCHED: [&str; 4] = ["0.a", "0.c", "1.a", "1.c"];

    impl Scene {
        pub(crate) fn new(n_files: u64) -> Scene {
            let folder = tempfile::tempdir().unwrap();
            let name = ShardName { prefix: folder.path().join("m"), index: 0, count: n_files };
            for i in 0..n_files {
                let mut file = Builder::new();
                // As aird leaves it: with room at the end of a line.
                file.kv(HISTORY_KEY, Value::strings([format!("{{}}{:400}", "")]));
                file.kv("split.no", i as u16).kv("split.count", n_files as u16);
                for (j, tensor) in ["a", "b", "c", "d"].iter().enumerate() {
                    let bytes = (0..SHAPE[0] * SHAPE[1] * 4).map(|k| (k + j as u64 + i) as u8);
                    let tensor = format!("{i}.{tensor}");
                    file.tensor(&tensor, &SHAPE, GgmlType::F32, bytes.collect()).unwrap();
                }
                file.write(&name.path(i)).unwrap();
            }
            let path = name.path(0);
            let before = files_in(folder.path());
            Scene { folder, path, before }
        }

        pub(crate) fn now(&self) -> Files {
            files_in(self.folder.path())
        }

        pub(crate) fn set(&self, files: &Files) {
            for name in self.now().keys().filter(|name| !files.contains_key(*name)) {
                fs::remove_file(self.folder.path().join(name)).unwrap();
            }
            for (name, bytes) in files {
                fs::write(self.folder.path().join(name), bytes).unwrap();
            }
        }

        fn patch(&self, disk: &dyn Disk) -> Result<Patched> {
            let model = Model::open(&self.path).unwrap();
            let mut patch = Patch::new(&model);
            for name in PATCHED {
                let Some(tensor) = model.tensor(name) else { continue };
                let produce = Box::new(move |rows, out: &mut [u8]| {
                    let new = tensor.rows(rows).iter().map(|b| b ^ 0x55);
                    out.iter_mut().zip(new).for_each(|(out, new)| *out = new);
                    Ok(())
                });
                let new = Replacement { ty: GgmlType::F32, ask: Ask::Chunks, produce };
                patch.replace(name, new).unwrap();
            }
            patch.produce(&Unwatched).unwrap().apply_on(disk, Some(Step::new("repair", "0.1.0")))
        }

        /// The files with the patch applied and its journals.
        pub(crate) fn patched(&self) -> Files {
            let done = self.patch(&Recorder::default()).unwrap();
            assert!(done.in_history && done.tensors == PATCHED[..done.files.len() * 2]);
            let patched = self.now();
            assert_eq!(patched.len(), 2 * self.before.len());
            patched
        }

        fn undo(&self, disk: &dyn Disk) -> Result<()> {
            Pending::find(&self.path)?.undo_on(disk)
        }

        /// Undoes what there is to undo: everything is then as it was.
        fn check(&self, what: &str) {
            match self.undo(&Recorder::default()) {
                Ok(()) | Err(Error::NoJournal { .. }) => {}
                Err(e) => panic!("{what}: {e}"),
            }
            assert!(self.now() == self.before, "{what}");
        }
    }

    fn files_in(folder: &Path) -> Files {
        let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap());
        let named = entries.map(|e| (e.file_name().into_string().unwrap(), e.path()));
        named.map(|(name, path)| (name, fs::read(path).unwrap())).collect()
    }

    fn random(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            state >> 33
        }
    }

    /// Runs `act` with disks that stop ever later, until one does not; returns how many did.
    pub(crate) fn each_stop(for_good: bool, mut act: impl FnMut(usize, &Stopping)) -> usize {
        for cost in 0.. {
            let disk = Stopping::after(cost, for_good);
            act(cost, &disk);
            if !disk.failed.get() {
                return cost;
            }
        }
        unreachable!("some disk is large enough")
    }

    #[test]
    fn undo_after_a_patch_killed_anywhere_gives_back_what_was_there() {
        for n_files in [1, 2] {
            let scene = Scene::new(n_files);
            let (mut early, mut late) = (0, 0);
            let stops = each_stop(true, |cost, disk| {
                scene.set(&scene.before);
                let result = scene.patch(disk);
                assert_eq!(result.is_err(), disk.failed.get(), "{cost}");
                let now = scene.now();
                let touched = scene.before.iter().any(|(name, bytes)| now[name] != *bytes);
                let half = matches!(result, Err(Error::HalfPatched { .. }));
                assert!(half || result.is_ok() || !touched, "{cost}: touched, and not said");
                late += usize::from(half);
                early += usize::from(!half);
                scene.check(&format!("{n_files} files, stopped after {cost}"));
            });
            assert!(stops > 100 && early > 50 && late > 50, "{stops} {early} {late}");
        }
    }

    #[test]
    fn an_undo_killed_anywhere_can_be_run_again() {
        for n_files in [1, 2] {
            let scene = Scene::new(n_files);
            let patched = scene.patched();
            let stops = each_stop(true, |cost, disk| {
                scene.set(&patched);
                assert_eq!(scene.undo(disk).is_err(), disk.failed.get(), "{cost}");
                scene.check(&format!("{n_files} files, stopped after {cost}"));
            });
            assert!(stops > 50, "{stops}");
            // Both of them, and the undo more than once.
            let mut random = random(n_files);
            for _ in 0..300 {
                scene.set(&scene.before);
                let _ = scene.patch(&Stopping::after(random() as usize % 400, true));
                for _ in 0..random() % 4 {
                    let _ = scene.undo(&Stopping::after(random() as usize % 200, true));
                }
                scene.check("stopped again and again");
            }
        }
    }

    #[test]
    fn a_patch_that_fails_takes_itself_back() {
        for n_files in [1, 2] {
            let scene = Scene::new(n_files);
            each_stop(false, |cost, disk| match scene.patch(disk) {
                Ok(_) => scene.check("the last"),
                Err(Error::Io { .. }) => assert!(scene.now() == scene.before, "{cost}"),
                Err(e) => panic!("{cost}: {e}"),
            });
        }
    }

    #[test]
    fn a_power_loss_at_any_moment_loses_nothing() {
        for n_files in [1, 2] {
            let scene = Scene::new(n_files);
            let patching = Recorder::default();
            scene.patch(&patching).unwrap();
            let patched = scene.now();
            let undoing = Recorder::default();
            scene.undo(&undoing).unwrap();
            let mut random = random(7 + n_files);
            for (start, recorder) in [(&scene.before, patching), (&patched, undoing)] {
                let ops = recorder.ops.into_inner();
                assert!(ops.len() >= 6, "{ops:?}");
                for n in 0..=ops.len() {
                    for _ in 0..60 {
                        scene.set(&after_power_loss(start, &ops[..n], &mut random));
                        scene.check(&format!("after {:?}", ops[..n].last()));
                    }
                }
            }
        }
    }

    #[test]
    fn the_power_loss_does_find_a_missing_sync() {
        use crate::disk::tests::Op;
        let scene = Scene::new(1);
        let patching = Recorder::default();
        scene.patch(&patching).unwrap();
        let ops = patching.ops.into_inner();
        let is_sync = |op: &&Op| matches!(op, Op::Sync(_) | Op::SyncFolder);
        // Those before the model is written; what is lost of the model itself undo puts back.
        for skipped in 0..2 {
            let nth = ops.iter().filter(is_sync).nth(skipped).unwrap();
            let rest = ops.iter().filter(|op| !std::ptr::eq(*op, nth)).cloned();
            let rest: Vec<Op> = rest.collect();
            let mut random = random(1);
            let lost = (0..300).any(|_| {
                let n = rest.len() - 1;
                scene.set(&after_power_loss(&scene.before, &rest[..n], &mut random));
                let _ = scene.undo(&Recorder::default());
                scene.now() != scene.before
            });
            assert!(lost, "sync {skipped} is not needed");
        }
    }

    #[test]
    fn kept_and_killed_anywhere_a_model_is_the_new_one_or_the_old_one() {
        for n_files in [1, 2] {
            let scene = Scene::new(n_files);
            let patched = scene.patched();
            let kept: Files =
                patched.clone().into_iter().filter(|(name, _)| !name.contains("undo")).collect();
            let (mut news, mut olds) = (0, 0);
            let mut check = |what: &str| {
                match scene.undo(&Recorder::default()) {
                    Ok(()) | Err(Error::NoJournal { .. } | Error::Kept { .. }) => {}
                    Err(e) => panic!("{what}: {e}"),
                }
                let now = scene.now();
                assert!(now == scene.before || now == kept, "{what}: {:?}", now.keys());
                (news, olds) = (news + u32::from(now == kept), olds + u32::from(now != kept));
            };
            let keep = |disk: &dyn Disk| Pending::find(&scene.path)?.forget_on(disk);
            let stops = each_stop(true, |cost, disk| {
                scene.set(&patched);
                assert_eq!(keep(disk).is_err(), disk.failed.get(), "{cost}");
                check(&format!("{n_files} files, stopped after {cost}"));
            });
            assert!(stops >= 4 * n_files as usize, "{stops}");
            scene.set(&patched);
            let keeping = Recorder::default();
            keep(&keeping).unwrap();
            let ops = keeping.ops.into_inner();
            let mut random = random(3 + n_files);
            for n in 0..=ops.len() {
                for _ in 0..60 {
                    scene.set(&after_power_loss(&patched, &ops[..n], &mut random));
                    check(&format!("after {:?}", ops[..n].last()));
                }
            }
            assert!(news > 20 && olds > 20, "{news} {olds}");
        }
    }

    #[test]
    fn a_damaged_journal_changes_nothing_and_stays() {
        let scene = Scene::new(1);
        let patched = scene.patched();
        let name = patched.keys().find(|name| name.ends_with(".aird-undo")).unwrap();
        let journal = &patched[name];
        let mut files = patched.clone();
        let mut check = |bytes: Vec<u8>, what: &str| {
            files.insert(name.clone(), bytes);
            scene.set(&files);
            match scene.undo(&Recorder::default()) {
                Err(Error::DamagedJournal { .. } | Error::JournalVersion { .. }) => {}
                other => panic!("{what}: {other:?}"),
            }
            assert!(scene.now() == files, "{what}");
        };
        for at in 0..journal.len() {
            let mut bytes = journal.clone();
            bytes[at] ^= 1 << (at % 8);
            check(bytes, &format!("byte {at}"));
        }
        for len in (0..journal.len()).step_by(13).chain([journal.len() - 1]) {
            check(journal[..len].to_vec(), &format!("{len} bytes"));
        }
        check([&journal[..], &[0]].concat(), "a byte too many");
    }

    #[test]
    fn a_patch_cut_off_by_hand_is_not_kept_but_taken_back() {
        let scene = Scene::new(2);
        let patched = scene.patched();
        for name in scene.before.keys() {
            let mut files = patched.clone();
            // The last byte of the last tensor that is patched, before that of the last one.
            let bytes = files.get_mut(name).unwrap();
            let at = bytes.len() - (SHAPE[0] * SHAPE[1] * 4) as usize - 1;
            bytes[at] ^= 0x55;
            scene.set(&files);
            let kept = Pending::find(&scene.path).unwrap().forget();
            assert!(matches!(kept, Err(Error::NotWhole { .. })), "{kept:?}");
            assert!(scene.now() == files);
            scene.check("by hand");
        }
        scene.set(&patched);
        let kept = Pending::find(&scene.path).unwrap().forget().unwrap();
        assert_eq!(kept.tensors, PATCHED);
        assert_eq!(scene.now().len(), scene.before.len());
        assert!(scene.now().iter().all(|(name, bytes)| patched[name] == *bytes));
    }
}
