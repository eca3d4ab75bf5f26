//! Patches in place: only what is asked for changes, and an undo gives back every byte.

use std::fs;
use std::path::PathBuf;

use aird_gguf::{
    Error, GgmlType, HISTORY_KEY, Model, Patch, Patched, Pending, Result, Step, Unwatched, Value,
    check_patch, history, history_path, journal_path,
};
use tempfile::TempDir;

use crate::support::{Stop, data, file_with, filled, names_in, rich_header};

/// A model in a folder of its own.
struct Scene {
    folder: TempDir,
    path: PathBuf,
    before: Vec<u8>,
}

impl Scene {
    /// `room` is how many spaces the file's history has for another step.
    fn new(room: usize) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let mut header = rich_header();
        header.kv.insert(HISTORY_KEY.into(), Value::strings([format!("{{}}{:room$}", "")]));
        let before = file_with(&header);
        fs::write(&path, &before).unwrap();
        Scene { folder, path, before }
    }

    fn patch(&self, name: &str, step: Option<Step>) -> Result<Patched> {
        let model = Model::open(&self.path)?;
        let ty = model.tensor(name).unwrap().info.ty;
        let mut patch = Patch::new(&model);
        patch.replace(name, filled(ty, 0x3c))?;
        let ready = patch.produce(&Unwatched)?;
        drop(model);
        ready.apply(step, &Unwatched)
    }

    fn now(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}

fn step() -> Step {
    Step::new("fill", "0.1.0").parameter("byte", 0x3c)
}

#[test]
fn an_undo_gives_back_every_byte() {
    let scene = Scene::new(400);
    let patched = scene.patch("z.weight", Some(step())).unwrap();
    assert!(patched.in_history);
    assert_eq!(patched.tensors, ["z.weight"]);
    assert_eq!(patched.journals, [journal_path(&scene.path)]);
    let model = Model::open(&scene.path).unwrap();
    assert_eq!(data(&model, "z.weight"), [0x3c; 64 * 3 * 4]);
    assert_eq!(history(model.kv()).last().unwrap()["verb"], "fill");
    drop(model);

    let pending = Pending::find(&scene.path).unwrap();
    assert_eq!(pending.look().unwrap().changed_bytes, patched.bytes);
    let undone = pending.undo().unwrap();
    assert_eq!(undone.tensors, ["z.weight"]);
    assert_eq!(scene.now(), scene.before);
    assert_eq!(names_in(scene.folder.path()), ["m.gguf"]);
    assert!(matches!(Pending::find(&scene.path), Err(Error::NoJournal { .. })));
}

#[test]
fn a_patch_changes_the_bytes_of_its_tensor_and_no_other() {
    let scene = Scene::new(0);
    let range = {
        let shard = aird_gguf::Shard::open(&scene.path).unwrap();
        shard.range(&shard.header.tensors["blk.0.ones"])
    };
    let patched = scene.patch("blk.0.ones", None).unwrap();
    assert_eq!(patched.bytes, range.end - range.start);
    let mut expected = scene.before.clone();
    expected[range.start as usize..range.end as usize].fill(0x3c);
    assert_eq!(scene.now(), expected);
}

#[test]
fn a_patch_that_is_kept_cannot_be_undone_and_its_step_is_not_lost() {
    let scene = Scene::new(0);
    let patched = scene.patch("a.weight", Some(step())).unwrap();
    assert!(!patched.in_history, "the header has no room");
    let after = scene.now();
    let kept = Pending::find(&scene.path).unwrap().forget().unwrap();
    assert_eq!(kept.history_path, history_path(&scene.path));
    assert_eq!(scene.now(), after);
    assert!(matches!(Pending::find(&scene.path), Err(Error::NoJournal { .. })));
    let beside = fs::read(history_path(&scene.path)).unwrap();
    let steps: Vec<Step> = serde_json::from_slice(&beside).unwrap();
    assert_eq!(steps, [step()]);
}

#[test]
fn a_second_patch_must_wait_for_the_end_of_the_first() {
    let scene = Scene::new(400);
    scene.patch("z.weight", None).unwrap();
    let after = scene.now();
    let second = scene.patch("a.weight", None);
    assert!(matches!(second, Err(Error::JournalExists { .. })), "{second:?}");
    assert!(check_patch(&Model::open(&scene.path).unwrap()).is_err());
    assert_eq!(scene.now(), after);
    Pending::find(&scene.path).unwrap().undo().unwrap();
    scene.patch("a.weight", None).unwrap();
}

#[test]
fn a_patch_that_is_given_up_leaves_nothing() {
    let scene = Scene::new(400);
    let model = Model::open(&scene.path).unwrap();
    let patch = || {
        let mut patch = Patch::new(&model);
        patch.replace("z.weight", filled(GgmlType::F32, 1)).unwrap();
        patch
    };
    drop(patch().produce(&Unwatched).unwrap());
    assert!(patch().produce(&Stop).unwrap_err().is_interrupted());
    let ready = patch().produce(&Unwatched).unwrap();
    assert!(matches!(check_patch(&model), Err(Error::Busy { .. })));
    assert!(ready.apply(Some(step()), &Stop).unwrap_err().is_interrupted());
    assert_eq!(scene.now(), scene.before);
    assert_eq!(names_in(scene.folder.path()), ["m.gguf"]);
}

#[test]
fn a_patch_cannot_change_a_type() {
    let scene = Scene::new(400);
    let model = Model::open(&scene.path).unwrap();
    let mut patch = Patch::new(&model);
    let retyped = patch.replace("z.weight", filled(GgmlType::F16, 0));
    assert!(matches!(retyped, Err(Error::TypeInPlace { from: "F32", to: "F16", .. })));
}

#[test]
fn a_patch_to_the_bytes_that_are_there_changes_nothing() {
    let scene = Scene::new(400);
    scene.patch("z.weight", None).unwrap();
    Pending::find(&scene.path).unwrap().forget().unwrap();
    let same = scene.patch("z.weight", Some(step())).unwrap();
    assert!(same.files.is_empty() && same.bytes == 0 && !same.in_history);
    assert_eq!(names_in(scene.folder.path()), ["m.gguf"]);
}

#[test]
fn a_damaged_journal_is_refused_and_stays() {
    let scene = Scene::new(400);
    scene.patch("z.weight", None).unwrap();
    let after = scene.now();
    let journal = journal_path(&scene.path);
    let mut bytes = fs::read(&journal).unwrap();
    bytes[40] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    let undone = Pending::find(&scene.path).unwrap().undo();
    assert!(matches!(undone, Err(Error::DamagedJournal { .. })), "{undone:?}");
    assert_eq!(scene.now(), after);
    assert_eq!(fs::read(&journal).unwrap(), bytes);
}
