//! Patches in place and `aird undo`: what was there comes back byte for byte, whatever happened.
//! What happens on the disk between any two operations is tried in `crates/gguf/src/undo.rs`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aird::gguf::{
    Ask, Builder, Error, GgmlType, HISTORY_KEY, Header, Layout, Model, Patch, Patched, Pending,
    Ready, Replacement, Rewrite, Step, TensorInfo, Unwatched, Watch, check_patch, history,
    journal_path,
};
use aird::verbs::undo::Report;

use crate::support::{
    Arch, TempDir, Tiny, is_report, json, names_in, run, stderr, stdout, tempdir,
};

/// Tensors that are patched.
pub(crate) const NAMES: [&str; 2] = ["blk.0.attn_output.weight", "blk.1.ffn_down.weight"];

/// A model, and the bytes of every file of its folder.
pub(crate) struct Scene {
    pub folder: TempDir,
    pub model: PathBuf,
    pub before: Vec<(String, Vec<u8>)>,
}

impl Scene {
    pub fn new(tiny: &Tiny) -> Scene {
        let folder = tempdir();
        let model = tiny.write(folder.path());
        let before = files_in(folder.path());
        Scene { folder, model, before }
    }

    /// A model whose history has room for more: aird fills its last line up with spaces.
    pub fn with_history() -> Scene {
        let folder = tempdir();
        let first = Tiny::new(Arch::Llama).ty(GgmlType::Q8_0).write(folder.path());
        let model = folder.path().join("model.gguf");
        {
            let first = Model::open(&first).unwrap();
            let mut rewrite = Rewrite::new(&first, Layout::Single);
            rewrite.record_measured(Step::new("prune", aird::VERSION), 900, |step| step);
            rewrite.write(&model, false, &Unwatched).unwrap();
        }
        fs::remove_file(first).unwrap();
        let before = files_in(folder.path());
        Scene { folder, model, before }
    }

    pub fn patch(&self) -> Patched {
        patch(&self.model, &NAMES).unwrap()
    }

    pub fn check_untouched(&self) {
        assert!(files_in(self.folder.path()) == self.before);
    }
}

fn files_in(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| (name.clone(), fs::read(folder.join(name)).unwrap());
    names_in(folder).into_iter().map(read).collect()
}

/// Turns the lowest bit of every byte over.
fn flip<'m>(model: &'m Model, name: &str) -> Replacement<'m> {
    let tensor = model.tensor(name).unwrap();
    let produce = Box::new(move |rows, out: &mut [u8]| {
        let old = tensor.rows(rows);
        out.iter_mut().zip(old).for_each(|(new, old)| *new = old ^ 1);
        Ok(())
    });
    Replacement { ty: tensor.info.ty, ask: Ask::Chunks, produce }
}

fn ready(model: &Path, names: &[&str]) -> Result<Ready, Error> {
    let model = Model::open(model)?;
    let mut patch = Patch::new(&model);
    for name in names {
        patch.replace(name, flip(&model, name))?;
    }
    patch.produce(&Unwatched)
}

/// The user wants to stop.
struct Stop;

impl Watch for Stop {
    fn interrupted(&self) -> bool {
        true
    }
}

fn step() -> Step {
    Step::new("repair", aird::VERSION).parameter("alpha", 1.5).changed(NAMES)
}

pub(crate) fn patch(model: &Path, names: &[&str]) -> Result<Patched, Error> {
    ready(model, names)?.apply(Some(step()), &Unwatched)
}

pub(crate) fn undo(model: &Path) -> std::process::Output {
    run(&[Path::new("undo"), model])
}

fn report(arguments: &[&Path]) -> Report {
    is_report(json(arguments))
}

#[test]
fn a_patch_changes_its_tensors_alone_and_undo_gives_the_very_file_back() {
    for ty in [GgmlType::F32, GgmlType::F16, GgmlType::Q8_0, GgmlType::Q4_K, GgmlType::IQ4_XS] {
        let scene = Scene::new(&Tiny::new(Arch::Llama).ty(ty).seed(5));
        let old = Model::open(&scene.model).unwrap();
        let old: Vec<_> = old.tensors().map(|t| (t.info.clone(), t.data().to_vec())).collect();
        let patched = scene.patch();
        assert_eq!(patched.tensors, NAMES);
        assert_eq!(patched.journals, [journal_path(&scene.model)]);
        {
            let new = Model::open(&scene.model).unwrap();
            assert_eq!(new.n_tensors(), old.len());
            for ((info, data), tensor) in old.iter().zip(new.tensors()) {
                assert_eq!(info, tensor.info);
                let flipped = NAMES.contains(&info.name.as_str());
                let expected = data.iter().map(|b| b ^ u8::from(flipped));
                assert!(tensor.data().iter().copied().eq(expected), "{info}");
            }
        }
        let output = undo(&scene.model);
        assert!(output.status.success(), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("took back the repair of ") && said.contains("2 tensors"), "{said}");
        scene.check_untouched();
    }
}

#[test]
fn the_step_is_in_the_history_where_it_has_room_and_gone_after_undo() {
    let scene = Scene::with_history();
    let bytes = fs::metadata(&scene.model).unwrap().len();
    let patched = scene.patch();
    assert!(patched.in_history);
    {
        let model = Model::open(&scene.model).unwrap();
        let steps = history(model.kv());
        let verbs: Vec<_> = steps.iter().map(|step| step["verb"].clone()).collect();
        assert_eq!(verbs, ["prune", "repair"]);
        assert_eq!(steps[1]["parameters"]["alpha"], 1.5);
        assert_eq!(model.file_bytes(), bytes);
    }
    let report = report(&[Path::new("undo"), &scene.model]);
    assert!(report.in_history && !report.kept && !report.dry_run);
    assert_eq!((report.bytes, report.changed_bytes), (patched.bytes, patched.bytes));
    scene.check_untouched();
}

#[test]
fn a_file_without_room_keeps_its_header_and_the_journal_has_the_step() {
    let scene = Scene::new(&Tiny::new(Arch::Qwen2));
    let patched = scene.patch();
    assert!(!patched.in_history);
    assert!(!Model::open(&scene.model).unwrap().kv().contains_key(HISTORY_KEY));
    let seen = report(&[Path::new("undo"), &scene.model, Path::new("--dry-run")]);
    assert!(seen.dry_run && !seen.in_history);
    assert_eq!(seen.step.unwrap()["parameters"]["alpha"], 1.5);
    assert_eq!(seen.tensors, NAMES);
    assert_eq!(names_in(scene.folder.path()).len(), 2, "nothing was done");
    let forget = run(&[Path::new("undo"), &scene.model, Path::new("--forget")]);
    assert!(forget.status.success(), "{}", stderr(&forget));
    assert!(stderr(&forget).contains("aird-history.json"), "{}", stderr(&forget));
}

#[test]
fn undo_without_a_journal_fails_and_says_where_one_comes_from() {
    let scene = Scene::new(&Tiny::new(Arch::Llama));
    let output = undo(&scene.model);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("no undo journal") && said.contains("hint: "), "{said}");
    assert_eq!(undo(&scene.folder.path().join("none.gguf")).status.code(), Some(1));
    scene.check_untouched();
}

#[test]
fn a_second_patch_waits_until_the_first_is_undone_or_forgotten() {
    let scene = Scene::with_history();
    scene.patch();
    let patched = files_in(scene.folder.path());
    let second = patch(&scene.model, &NAMES[..1]).unwrap_err();
    assert!(matches!(second, Error::JournalExists { .. }), "{second}");
    assert!(second.to_string().contains("undo journal"), "{second}");
    assert!(check_patch(&Model::open(&scene.model).unwrap()).is_err());
    assert!(files_in(scene.folder.path()) == patched);

    let kept = report(&[Path::new("undo"), &scene.model, Path::new("--forget")]);
    assert!(kept.kept && kept.tensors == NAMES);
    assert_eq!(undo(&scene.model).status.code(), Some(1));
    let first = files_in(scene.folder.path());
    patch(&scene.model, &NAMES[..1]).unwrap();
    assert_eq!(history(Model::open(&scene.model).unwrap().kv()).len(), 3);
    // The second alone is taken back.
    assert!(undo(&scene.model).status.success());
    assert!(files_in(scene.folder.path()) == first);
}

#[test]
fn a_split_model_is_patched_and_undone_as_one() {
    for (names, n_journals) in [(&NAMES[..], 2), (&NAMES[1..], 1)] {
        let scene = Scene::new(&Tiny::new(Arch::Llama).shards(2));
        let patched = patch(&scene.model, names).unwrap();
        assert_eq!(patched.journals.len(), n_journals);
        assert_eq!(names_in(scene.folder.path()).len(), 2 + n_journals);
        let journal = &patched.journals[0];
        assert!(matches!(patch(&scene.model, names), Err(Error::JournalExists { .. })));
        assert!(journal.exists());
        // By whichever shard it is named.
        let last = scene.folder.path().join(&scene.before[1].0);
        let report = report(&[Path::new("undo"), &last]);
        assert_eq!(report.files.len(), n_journals);
        assert_eq!(report.tensors, names);
        scene.check_untouched();
    }
}

#[test]
fn the_journal_of_another_file_is_refused() {
    let scene = Scene::with_history();
    scene.patch();
    let patched = files_in(scene.folder.path());
    let name = scene.model.file_name().unwrap().to_str().unwrap();
    let bytes = &patched.iter().find(|(n, _)| n == name).unwrap().1;
    let last = Model::open(&scene.model).unwrap();
    let last = last.shards()[0].range(last.tensor(NAMES[1]).unwrap().info);
    let mut others = vec![[&bytes[..], &[0]].concat(), bytes[..bytes.len() - 1].to_vec()];
    // A key's value; a byte of a tensor beside one that was patched.
    for at in [100, last.end as usize + 40] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        others.push(other);
    }
    for other in others {
        fs::write(&scene.model, &other).unwrap();
        for more in [&[][..], &["--forget"]] {
            let mut arguments = vec![Path::new("undo"), &scene.model];
            arguments.extend(more.iter().map(Path::new));
            let output = run(&arguments);
            assert_eq!(output.status.code(), Some(1));
            assert!(stderr(&output).contains("is not of the file"), "{}", stderr(&output));
        }
        assert!(fs::read(&scene.model).unwrap() == other, "nothing was changed");
    }
    // The model itself put back by hand: nothing is left to do but to say so.
    fs::write(&scene.model, &scene.before[0].1).unwrap();
    let output = undo(&scene.model);
    assert!(stderr(&output).contains("nothing is left to take back"), "{}", stderr(&output));
    scene.check_untouched();
}

#[test]
fn a_journal_that_was_never_finished_says_that_the_model_is_as_it_was() {
    let scene = Scene::new(&Tiny::new(Arch::Llama));
    let part = PathBuf::from(format!("{}.part", journal_path(&scene.model).display()));
    fs::write(&part, b"AIRDUNDO\x01\0").unwrap();
    let forget = run(&[Path::new("undo"), &scene.model, Path::new("--forget")]);
    assert_eq!(forget.status.code(), Some(1), "there is nothing to keep");
    let output = undo(&scene.model);
    assert!(output.status.success());
    assert!(stderr(&output).contains("is as it was"), "{}", stderr(&output));
    scene.check_untouched();
    // Nor does it stand in the way of the next patch.
    fs::write(&part, b"AIRDUNDO").unwrap();
    scene.patch();
    assert!(undo(&scene.model).status.success());
    scene.check_untouched();
}

#[test]
fn what_cannot_be_patched_is_refused_before_any_work() {
    let scene = Scene::new(&Tiny::new(Arch::Llama).ty(GgmlType::Q8_0));
    let model = Model::open(&scene.model).unwrap();
    let mut patch = Patch::new(&model);
    let wrong = Replacement { ty: GgmlType::F16, ..flip(&model, NAMES[0]) };
    assert!(matches!(patch.replace(NAMES[0], wrong), Err(Error::TypeInPlace { .. })));
    let none = patch.replace("no.weight", flip(&model, NAMES[0]));
    assert!(matches!(none, Err(Error::NoTensor { .. })));

    let never = || {
        let mut patch = Patch::new(&model);
        let produce = Box::new(|_, _: &mut [u8]| unreachable!("no work before the check"));
        let new = Replacement { ty: GgmlType::Q8_0, ask: Ask::Chunks, produce };
        patch.replace(NAMES[0], new).unwrap();
        patch.produce(&Unwatched)
    };
    let busy = ready(&scene.model, &NAMES).unwrap();
    assert!(matches!(never(), Err(Error::Busy { .. })));
    drop(busy);

    let writable = fs::metadata(&scene.model).unwrap().permissions();
    let mut read_only = writable.clone();
    read_only.set_readonly(true);
    fs::set_permissions(&scene.model, read_only).unwrap();
    let error = never().unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    assert!(check_patch(&model).is_err());
    fs::set_permissions(&scene.model, writable).unwrap();
    check_patch(&model).unwrap();

    let copy = scene.folder.path().join("copy");
    fs::copy(&scene.model, &copy).unwrap();
    fs::rename(&copy, &scene.model).unwrap();
    assert!(matches!(never(), Err(Error::Replaced { .. })));
    scene.check_untouched();
}

#[test]
fn a_producer_that_fails_or_changes_nothing_leaves_nothing() {
    let scene = Scene::with_history();
    let model = Model::open(&scene.model).unwrap();
    let mut patch = Patch::new(&model);
    patch.replace(NAMES[0], flip(&model, NAMES[0])).unwrap();
    let produce = Box::new(|_, _: &mut [u8]| Err("row 3 is not finite".into()));
    let failing = Replacement { ty: GgmlType::Q8_0, ask: Ask::Whole, produce };
    patch.replace(NAMES[1], failing).unwrap();
    let error = patch.produce(&Unwatched).unwrap_err();
    assert!(error.to_string().ends_with("row 3 is not finite"), "{error}");
    scene.check_untouched();

    let mut patch = Patch::new(&model);
    let tensor = model.tensor(NAMES[0]).unwrap();
    let produce = Box::new(move |rows, out: &mut [u8]| {
        out.copy_from_slice(tensor.rows(rows));
        Ok(())
    });
    let same = Replacement { ty: GgmlType::Q8_0, ask: Ask::Whole, produce };
    patch.replace(NAMES[0], same).unwrap();
    let patched = patch.produce(&Unwatched).unwrap().apply(Some(step()), &Unwatched).unwrap();
    assert!(patched.files.is_empty() && patched.bytes == 0 && !patched.in_history);
    // Made, judged and dropped; or stopped by the user before the model is touched.
    drop(ready(&scene.model, &NAMES).unwrap());
    let stopped = ready(&scene.model, &NAMES).unwrap().apply(Some(step()), &Stop);
    assert!(stopped.unwrap_err().is_interrupted());
    scene.check_untouched();
}

#[cfg(unix)]
#[test]
fn the_file_behind_a_link_is_patched_and_the_journal_lies_beside_it() {
    let scene = Scene::new(&Tiny::new(Arch::Llama));
    let elsewhere = tempdir();
    let link = elsewhere.path().join("link.gguf");
    std::os::unix::fs::symlink(&scene.model, &link).unwrap();
    let patched = patch(&link, &NAMES).unwrap();
    assert_eq!(patched.journals, [journal_path(&scene.model)]);
    assert_eq!(journal_path(&link), journal_path(&scene.model));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names_in(elsewhere.path()), ["link.gguf"]);
    assert!(undo(&link).status.success());
    scene.check_untouched();
}

#[cfg(unix)]
#[test]
fn the_journal_is_hidden_from_whom_the_model_is_hidden_from() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new(&Tiny::new(Arch::Llama));
    fs::set_permissions(&scene.model, fs::Permissions::from_mode(0o700)).unwrap();
    scene.patch();
    let mode = fs::metadata(journal_path(&scene.model)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A file of 64 GiB, nearly all of it a hole.
#[cfg(unix)]
#[test]
fn the_size_of_the_model_does_not_matter() {
    let folder = tempdir();
    let path = folder.path().join("large.gguf");
    let mut header = Header::new();
    for (name, shape) in [("large", [1 << 20, 1 << 14]), ("small", [64, 64])] {
        let info =
            TensorInfo { name: name.into(), shape: shape.to_vec(), ty: GgmlType::F32, offset: 0 };
        header.tensors.insert(name.into(), info);
    }
    header.lay_out();
    let bytes = header.encode();
    let end = bytes.len() as u64 + header.tensors["small"].offset + 64 * 64 * 4;
    fs::write(&path, &bytes).unwrap();
    if fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(end).is_err() {
        eprintln!("skipped: no such large files here");
        return;
    }
    let began = Instant::now();
    patch(&path, &["small"]).unwrap();
    Pending::find(&path).unwrap().undo().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(names_in(folder.path()), ["large.gguf"]);
}

#[test]
fn help_says_what_becomes_of_the_journal() {
    let help = stdout(&run(&["undo", "--help"].map(Path::new)));
    for word in ["byte for byte", "MODEL.aird-undo", "--forget", "--dry-run", "--json"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

/// What [`a_killed_process_leaves_what_undo_puts_right`] runs in a process of its own.
const CHILD: &str = "undo::patch_and_undo_until_killed";
const CHILD_MODEL: &str = "AIRD_TEST_PATCHED_MODEL";

/// Processes that are killed.
const N_KILLED: u64 = 100;

#[cfg(unix)]
#[test]
fn a_killed_process_leaves_what_undo_puts_right() {
    let folder = tempdir();
    let path = folder.path().join("model.gguf");
    let mut file = Builder::new();
    for (i, name) in NAMES.iter().enumerate() {
        let bytes = (0..3 << 20).map(|k: u32| (k ^ (k >> 7)) as u8 ^ i as u8);
        file.tensor(name, &[1024, 768], GgmlType::F32, bytes.collect()).unwrap();
    }
    file.write(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let (mut journals, mut touched) = (0, 0);
    for n in 0..N_KILLED {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", CHILD])
            .env(CHILD_MODEL, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("begin")), "the child did not begin");
        // Odd numbers, so that all phases of the child's rounds are met.
        std::thread::sleep(Duration::from_micros(n * 7919 % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        journals += u64::from(journal_path(&path).exists());
        touched += u64::from(fs::read(&path).unwrap() != before);
        match Pending::find(&path) {
            Ok(pending) => drop(pending.undo().unwrap()),
            Err(Error::NoJournal { .. }) => {}
            Err(e) => panic!("kill {n}: {e}"),
        }
        assert!(fs::read(&path).unwrap() == before, "kill {n}");
        let left = names_in(folder.path());
        assert!(left.iter().all(|name| !name.contains("aird-undo")), "{left:?}");
    }
    println!("of {N_KILLED} kills {journals} left a journal, {touched} a changed model");
    assert!(journals > 0 && touched > 0, "{journals} {touched}: killed at the wrong moments");
}

/// The library in a loop; `aird repair --in-place` is killed in its own tests.
#[test]
fn patch_and_undo_until_killed() {
    let Some(path) = std::env::var_os(CHILD_MODEL).map(PathBuf::from) else { return };
    println!("begin");
    loop {
        patch(&path, &NAMES).unwrap();
        Pending::find(&path).unwrap().undo().unwrap();
    }
}
