//! Whatever goes wrong while a file is written, the output's place holds what it held, and
//! nothing else is left in the folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use aird::gguf::{
    Ask, Error, GgmlType, KvEdit, Layout, Model, Replacement, Rewrite, Unwatched, Watch,
};

use crate::support::{Arch, TempDir, Tiny, names_in, tempdir};

/// Says that the user wants to stop, from the `after`-th time it is asked.
struct Impatient {
    after: usize,
    asked: AtomicUsize,
}

impl Impatient {
    fn new(after: usize) -> Impatient {
        Impatient { after, asked: AtomicUsize::new(0) }
    }
}

impl Watch for Impatient {
    fn interrupted(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.after
    }
}

/// A model and an older output in one folder.
struct Scene {
    folder: TempDir,
    model: PathBuf,
    out: PathBuf,
}

const OLD: &[u8] = b"what was there before";

impl Scene {
    fn new(n_shards: u64) -> Scene {
        let folder = tempdir();
        let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q8_0).shards(n_shards);
        let model = tiny.write(folder.path());
        let out = folder.path().join("out.gguf");
        let scene = Scene { folder, model, out };
        for path in scene.outputs() {
            fs::write(path, OLD).unwrap();
        }
        scene
    }

    fn outputs(&self) -> Vec<PathBuf> {
        let model = Model::open(&self.model).unwrap();
        let plan = Rewrite::new(&model, Layout::KeepShards).plan(&self.out).unwrap();
        plan.files.into_iter().map(|f| f.path).collect()
    }

    fn check_untouched(&self) {
        for path in self.outputs() {
            assert_eq!(fs::read(&path).unwrap(), OLD, "{}", path.display());
        }
        let names = names_in(self.folder.path());
        assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
        assert_eq!(names.len(), 2 * self.outputs().len(), "{names:?}");
    }
}

fn zeros<'a>(ty: GgmlType) -> Replacement<'a> {
    let produce = Box::new(|_, out: &mut [u8]| {
        out.fill(0);
        Ok(())
    });
    Replacement { ty, ask: Ask::Chunks, produce }
}

/// A rewrite of a tensor in the first file and of one in the last.
fn rewrite(model: &Model) -> Rewrite<'_> {
    let mut rewrite = Rewrite::new(model, Layout::KeepShards);
    rewrite.edit(KvEdit::Set("general.name".into(), "Never seen".into()));
    rewrite.replace("token_embd.weight", zeros(GgmlType::F32)).unwrap();
    rewrite.replace("output.weight", zeros(GgmlType::F16)).unwrap();
    rewrite
}

#[test]
fn an_interrupt_at_any_moment_leaves_what_was_there() {
    for n_shards in [1, 2] {
        let scene = Scene::new(n_shards);
        let model = Model::open(&scene.model).unwrap();
        let patient = Impatient::new(usize::MAX);
        rewrite(&model).write(&scene.folder.path().join("x.gguf"), false, &patient).unwrap();
        let moments = patient.asked.into_inner();
        assert!(moments >= 4, "asked {moments} times only");

        let scene = Scene::new(n_shards);
        let model = Model::open(&scene.model).unwrap();
        for after in 0..moments {
            let result = rewrite(&model).write(&scene.out, true, &Impatient::new(after));
            assert!(result.unwrap_err().is_interrupted(), "at {after}");
            scene.check_untouched();
        }
    }
}

#[test]
fn a_producer_that_fails_leaves_what_was_there() {
    for n_shards in [1, 2] {
        let scene = Scene::new(n_shards);
        let model = Model::open(&scene.model).unwrap();
        let mut rewrite = rewrite(&model);
        let produce = Box::new(|_, _: &mut [u8]| Err("row 3 is not finite".into()));
        let failing = Replacement { ty: GgmlType::Q8_0, ask: Ask::Whole, produce };
        rewrite.replace("output.weight", failing).unwrap();
        let error = rewrite.write(&scene.out, true, &Unwatched).unwrap_err();
        assert_eq!(error.to_string(), "rows 0.. of tensor 'output.weight': row 3 is not finite");
        scene.check_untouched();
    }
}

#[test]
fn an_output_that_may_not_be_written_is_refused_before_any_work() {
    let scene = Scene::new(1);
    let model = Model::open(&scene.model).unwrap();
    let never = || {
        let mut rewrite = Rewrite::new(&model, Layout::KeepShards);
        let produce = Box::new(|_, _: &mut [u8]| unreachable!("no work before the check"));
        let new = Replacement { ty: GgmlType::Q8_0, ask: Ask::Chunks, produce };
        rewrite.replace("output.weight", new).unwrap();
        rewrite
    };
    let exists = never().write(&scene.out, false, &Unwatched);
    assert!(matches!(exists, Err(Error::OutputExists { .. })), "{exists:?}");
    let itself = never().write(&scene.model, true, &Unwatched);
    assert!(matches!(itself, Err(Error::OutputIsInput { .. })), "{itself:?}");
    let folder = never().write(scene.folder.path(), true, &Unwatched);
    assert!(matches!(folder, Err(Error::OutputNotAFile { .. })), "{folder:?}");
    let nowhere = never().write(&scene.folder.path().join("no/out.gguf"), true, &Unwatched);
    assert!(matches!(nowhere, Err(Error::NoFolder { .. })), "{nowhere:?}");
    scene.check_untouched();
}

/// What [`a_full_disk_leaves_what_was_there`] runs in a process of its own.
const CHILD: &str = "interrupted::rewrite_in_a_child";
const CHILD_FOLDER: &str = "AIRD_TEST_CHILD_FOLDER";

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_what_was_there() {
    for n_shards in [1, 2] {
        let scene = Scene::new(n_shards);
        // 8 blocks of 512 or 1024 bytes, whatever the shell counts in: less than the output. The
        // signal is ignored, so that the write fails as on a full disk.
        let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact --nocapture \"$1\"";
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg(CHILD)
            .env(CHILD_FOLDER, scene.folder.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert!(told.contains("cannot write") && told.contains("out"), "{told}");
        scene.check_untouched();
    }
}

#[test]
fn rewrite_in_a_child() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let folder = Path::new(&folder);
    let names = names_in(folder);
    let model = names.iter().find(|name| name.starts_with("tiny")).unwrap();
    let model = Model::open(&folder.join(model)).unwrap();
    let error = rewrite(&model).write(&folder.join("out.gguf"), true, &Unwatched).unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }), "{error}");
    println!("{error}");
}
