//! The names of a file that is repaired in place: several of them (hard links), one that changes
//! later, one as long as the file system takes, one in a folder where nothing can be made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use aird::gguf::{
    Error, GgmlType, Model, Patch, Pending, Replacement, check_patch, history, history_path,
    journal_path,
};

use crate::support::{Arch, Tiny, aird, direction, names_in, run, stderr, tempdir};
use crate::undo::{NAMES, Scene, patch, undo};

impl Scene {
    /// Another name of the file, in `folder`.
    fn link(&self, folder: &Path, name: &str) -> PathBuf {
        let link = folder.join(name);
        fs::hard_link(&self.model, &link).unwrap();
        link
    }

    /// Whether the model holds the bytes that it held first.
    fn is_as_it_was(&self, model: &Path) -> bool {
        fs::read(model).unwrap() == self.before[0].1
    }
}

fn repair_in_place(model: &Path, direction: &Path) -> Output {
    let mut command = aird();
    command.arg("repair").arg(model).arg("--direction").arg(direction);
    command.args(["--threads", "1", "--block", "1", "--alpha", "1", "--in-place"]);
    command.output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_repair_of_a_file_with_two_names_says_so_and_is_undone_by_the_other() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q8_0).seed(4);
    let model = tiny.write(folder.path());
    let direction = direction(folder.path(), &tiny);
    let before = fs::read(&model).unwrap();
    let alone = repair_in_place(&model, &direction);
    assert!(alone.status.success() && !stderr(&alone).contains("hard links"));
    assert!(undo(&model).status.success());
    let other = folder.path().join("other.gguf");
    fs::hard_link(&model, &other).unwrap();
    let names = names_in(folder.path());
    let output = repair_in_place(&model, &direction);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("has 2 names (hard links)"), "{said}");
    assert!(fs::read(&other).unwrap() != before);
    // Neither by its first name nor by the second is it repaired again.
    for name in [&model, &other] {
        let again = repair_in_place(name, &direction);
        assert_eq!(again.status.code(), Some(1));
        let journal = journal_path(&model);
        assert!(stderr(&again).contains(journal.to_str().unwrap()), "{}", stderr(&again));
    }
    let undone = undo(&other);
    assert!(undone.status.success(), "{}", stderr(&undone));
    assert!(fs::read(&model).unwrap() == before && fs::read(&other).unwrap() == before);
    assert_eq!(names_in(folder.path()), names);
}

#[cfg(unix)]
#[test]
fn from_another_folder_undo_finds_the_journal_or_says_by_which_name_it_goes() {
    let scene = Scene::new(&Tiny::new(Arch::Llama));
    let elsewhere = tempdir();
    let other = scene.link(elsewhere.path(), "other.gguf");
    scene.patch();
    let output = undo(&other);
    let said = stderr(&output);
    if output.status.success() {
        // The file system keeps notes on files.
        scene.check_untouched();
        assert!(scene.is_as_it_was(&other));
        assert_eq!(names_in(elsewhere.path()), ["other.gguf"]);
        assert!(said.contains("took back"), "{said}");
        return;
    }
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("is one of 2 names (hard links)"), "{said}");
    assert!(said.contains("hint: run aird undo by that name"), "{said}");
    assert_eq!(names_in(elsewhere.path()), ["other.gguf"]);
    assert!(undo(&scene.model).status.success());
    scene.check_untouched();
    assert!(scene.is_as_it_was(&other));
}

#[cfg(unix)]
#[test]
fn a_split_model_is_undone_by_its_other_names() {
    for names in [&NAMES[..], &NAMES[1..]] {
        let scene = Scene::new(&Tiny::new(Arch::Llama).shards(2));
        let mut links = Vec::new();
        for (i, (name, _)) in scene.before.iter().enumerate() {
            let link = scene.folder.path().join(format!("other-0000{}-of-00002.gguf", i + 1));
            fs::hard_link(scene.folder.path().join(name), &link).unwrap();
            links.push(link);
        }
        let n_journals = patch(&scene.model, names).unwrap().journals.len();
        assert!(matches!(patch(&links[0], names), Err(Error::JournalExists { .. })));
        let undone = Pending::find(&links[1]).unwrap().undo().unwrap();
        assert_eq!((undone.files.len(), undone.tensors.len()), (n_journals, names.len()));
        links.iter().for_each(|link| fs::remove_file(link).unwrap());
        scene.check_untouched();
    }
}

#[cfg(unix)]
#[test]
fn a_part_beside_one_name_does_not_hide_the_journal_beside_another() {
    let scene = Scene::new(&Tiny::new(Arch::Llama));
    let other = scene.link(scene.folder.path(), "other.gguf");
    let part = scene.folder.path().join("other.gguf.aird-undo.part");
    fs::write(&part, b"AIRDUNDO").unwrap();
    scene.patch();
    let undone = Pending::find(&other).unwrap().undo().unwrap();
    assert!(undone.changed_bytes > 0);
    assert!(scene.is_as_it_was(&other));
    // The part, which says that nothing was changed by that name, goes with its own undo.
    assert_eq!(Pending::find(&other).unwrap().undo().unwrap().changed_bytes, 0);
    fs::remove_file(other).unwrap();
    scene.check_untouched();
}

#[cfg(unix)]
#[test]
fn what_was_kept_by_one_name_is_kept_by_all() {
    let scene = Scene::new(&Tiny::new(Arch::Qwen2));
    let other = scene.link(scene.folder.path(), "other.gguf");
    scene.patch();
    let patched = fs::read(&other).unwrap();
    // A forget that was cut off after it was decided.
    let journal = journal_path(&scene.model);
    fs::rename(&journal, format!("{}.kept", journal.display())).unwrap();
    let error = Pending::find(&other).unwrap_err();
    assert!(matches!(error, Error::Kept { .. }), "{error}");
    assert!(fs::read(&other).unwrap() == patched);
    assert!(history_path(&scene.model).exists(), "the step is told beside the name repaired");
    assert!(!names_in(scene.folder.path()).iter().any(|name| name.contains("aird-undo")));
    // And kept by the other name itself.
    fs::remove_file(history_path(&scene.model)).unwrap();
    patch(&scene.model, &NAMES[..1]).unwrap();
    let kept = run(&[Path::new("undo"), &other, Path::new("--forget")]);
    assert!(kept.status.success(), "{}", stderr(&kept));
    let told = history_path(&scene.model);
    assert!(stderr(&kept).contains(told.to_str().unwrap()), "{}", stderr(&kept));
    let steps: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
    assert_eq!(steps.len(), 1);
}

#[test]
fn a_model_that_was_renamed_is_undone_and_its_copies_are_left_alone() {
    let scene = Scene::with_history();
    scene.patch();
    let [copy, renamed] = ["a.gguf", "renamed.gguf"].map(|name| scene.folder.path().join(name));
    fs::copy(&scene.model, &copy).unwrap();
    // The journal beside a model that is there is that model's.
    assert!(matches!(Pending::find(&copy), Err(Error::NoJournal { .. })));
    fs::remove_file(&copy).unwrap();
    fs::rename(&scene.model, &renamed).unwrap();
    let orphan = journal_path(&scene.model);
    let looked = run(&[Path::new("undo"), &renamed, Path::new("--dry-run")]);
    assert!(looked.status.success(), "{}", stderr(&looked));
    assert!(orphan.exists(), "nothing was done");
    let output = undo(&renamed);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(scene.is_as_it_was(&renamed));
    assert_eq!(names_in(scene.folder.path()), ["renamed.gguf"]);
    // Kept, it is kept under the new name.
    fs::rename(&renamed, &scene.model).unwrap();
    scene.patch();
    fs::rename(&scene.model, &renamed).unwrap();
    assert!(Pending::find(&renamed).unwrap().forget().unwrap().in_history);
    assert_eq!(names_in(scene.folder.path()), ["renamed.gguf"]);
    assert_eq!(history(Model::open(&renamed).unwrap().kv()).len(), 2);
}

#[test]
fn the_journal_of_another_model_whose_file_is_gone_is_left_alone() {
    let scene = Scene::new(&Tiny::new(Arch::Llama).seed(1));
    scene.patch();
    let orphan = fs::read(journal_path(&scene.model)).unwrap();
    let other = Scene::new(&Tiny::new(Arch::Llama).seed(2));
    let path = other.folder.path().join("gone.gguf.aird-undo");
    for bytes in [&orphan[..], &orphan[..40]] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(Pending::find(&other.model), Err(Error::NoJournal { .. })));
        assert!(fs::read(&path).unwrap() == bytes);
    }
}

#[test]
fn names_as_long_as_the_file_system_takes_are_patched_undone_and_kept() {
    // Two that differ at the end only; then one whose letters have three bytes.
    let ascii = ["a", "b"].map(|last| format!("{}{last}.gguf", "m".repeat(244)));
    let wide = format!("{}.gguf", "\u{6a21}".repeat(81));
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Qwen2);
    let first = tiny.write(folder.path());
    let models: Vec<PathBuf> =
        ascii.iter().chain([&wide]).map(|name| folder.path().join(name)).collect();
    for model in &models {
        fs::copy(&first, model).unwrap();
    }
    let (before, names) = (fs::read(&first).unwrap(), names_in(folder.path()));
    for model in &models {
        let patched = patch(model, &NAMES).unwrap();
        assert_eq!(patched.journals, [journal_path(model)]);
        assert!(fs::read(model).unwrap() != before);
    }
    assert_eq!(names_in(folder.path()).len(), names.len() + models.len(), "a journal for each");
    assert!(matches!(patch(&models[0], &NAMES), Err(Error::JournalExists { .. })));
    // A copy under another name has none, though no name in the folder tells whose they are.
    assert!(matches!(Pending::find(&first), Err(Error::NoJournal { .. })));
    for model in &models {
        let output = undo(model);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(fs::read(model).unwrap() == before);
    }
    assert_eq!(names_in(folder.path()), names);
    for model in &models {
        patch(model, &NAMES).unwrap();
        let kept = run(&[Path::new("undo"), model, Path::new("--forget")]);
        assert!(kept.status.success(), "{}", stderr(&kept));
        assert!(history_path(model).exists());
    }
    assert_eq!(names_in(folder.path()).len(), names.len() + models.len(), "a history for each");
}

#[test]
fn short_names_keep_the_journals_that_they_had() {
    let folder = tempdir();
    let model = folder.path().canonicalize().unwrap().join(format!("{}.gguf", "m".repeat(235)));
    let expected = format!("{}.aird-undo", model.display());
    assert_eq!(journal_path(&model), Path::new(&expected));
}

#[cfg(unix)]
#[test]
fn a_folder_where_nothing_can_be_made_is_seen_before_the_work() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new(&Tiny::new(Arch::Llama));
    let mode = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(scene.folder.path(), permissions).unwrap();
    };
    mode(0o555);
    let model = Model::open(&scene.model).unwrap();
    let mut patch = Patch::new(&model);
    let produce = Box::new(|_, _: &mut [u8]| unreachable!("no work before the check"));
    let ty = model.tensor(NAMES[0]).unwrap().info.ty;
    let new = Replacement { ty, ask: aird::gguf::Ask::Chunks, produce };
    patch.replace(NAMES[0], new).unwrap();
    let errors = [check_patch(&model), patch.produce(&aird::gguf::Unwatched).map(drop)];
    mode(0o755);
    for error in errors.map(Result::unwrap_err) {
        assert!(matches!(error, Error::ReadOnlyFolder { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("the folder ") && text.contains(" is read-only"), "{text}");
    }
    check_patch(&model).unwrap();
    scene.check_untouched();
}
