//! Restore: a compressed model brought back to its original, on its own zeros and types.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aird::gguf::{GgmlType, Layout, Model, Rewrite, Unwatched};
use aird::llama::Options;
use aird::quant::decoded;
use aird::refit::Error;
use aird::refit::{BlockReport, Job, Outcome, Parts, Refit, Refitted, Towards, Zeros, refit};
use aird::stats::Sample;

use crate::support::architectures::{Facts, all};
use crate::support::random::Random;
use crate::support::{
    Arch, Tiny, aborts_with_amx, aird, names_in, prober, real_model, run, stderr, tempdir,
};

/// Tests that share the architectures between them, so that they run side by side.
const N_PARTS: usize = 4;

/// Texts of tokens below `n_vocab`.
fn samples(n: usize, len: usize, n_vocab: u64) -> Vec<Sample> {
    let mut random = Random::new(7);
    let mut token = || (random.next_u64() % n_vocab) as i32;
    let mut text = || Sample { tokens: (0..len).map(|_| token()).collect(), counted_from: 0 };
    (0..n).map(|_| text()).collect()
}

struct Scene<'a> {
    model: &'a Path,
    reference: &'a Path,
    samples: &'a [Sample],
    parts: &'a Path,
    threads: u32,
    interrupt_after: Option<u32>,
    /// Of factors beside matrices that stay; None: these are refitted themselves.
    rank: Option<usize>,
}

impl<'a> Scene<'a> {
    fn of(both: (&'a Path, &'a Path), samples: &'a [Sample], parts: &'a Path) -> Scene<'a> {
        let ((model, reference), threads) = (both, 2);
        Scene { model, reference, samples, parts, threads, interrupt_after: None, rank: None }
    }

    fn restore(&self) -> Result<(Refitted, Parts), Error> {
        let (model, reference) =
            (Model::open(self.model).unwrap(), Model::open(self.reference).unwrap());
        let prober = prober();
        let interrupt = Arc::clone(&prober.interrupt);
        let asked = Refit {
            model: &model,
            reference: &reference,
            samples: self.samples,
            towards: Towards::Original { prior: 0.1 },
            job: &|info| {
                Some(match self.rank {
                    Some(rank) => Job::Beside { rank },
                    None => Job::Swept { ty: info.ty, zeros: Zeros::Own },
                })
            },
            options: Options::cpu(self.threads),
            prober: &prober,
            watch: &Unwatched,
        };
        let parts = Parts::open(self.parts, "test".into()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads as usize);
        let mut each = |report: &BlockReport| {
            if self.interrupt_after == Some(report.block) {
                interrupt.store(true, Ordering::Relaxed);
            }
        };
        let run = || refit(&asked, &parts, &mut each);
        let restored = pool.build().unwrap().install(run)?;
        Ok((restored, parts))
    }
}

/// Bytes of every restored tensor, in the blocks' order.
fn bytes(restored: &Refitted, parts: &Parts) -> Vec<(String, Vec<u8>)> {
    let models: Vec<Model> =
        restored.blocks.iter().filter_map(|block| parts.model(block.block)).collect();
    let tensors = models.iter().flat_map(Model::tensors);
    tensors.map(|t| (t.info.name.clone(), t.data().to_vec())).collect()
}

/// `path` compressed by a verb.
fn compressed(path: &Path, words: &[&str], out: &Path) {
    let (verb, rest) = words.split_first().unwrap();
    let words: Vec<&Path> = rest.iter().map(Path::new).collect();
    let output = run(&[&[Path::new(verb), path][..], &words, &["-o".as_ref(), out]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}

fn pruned(path: &Path, out: &Path) {
    compressed(path, &["prune", "--method", "magnitude", "--sparsity", "0.5"], out);
}

/// A tiny model and its pruned form.
fn pair(folder: &Path) -> (PathBuf, PathBuf) {
    let reference = Tiny::new(Arch::Llama).ty(GgmlType::F16).write(folder);
    let model = folder.join("pruned.gguf");
    pruned(&reference, &model);
    (model, reference)
}

#[test]
fn a_pruned_model_comes_nearer_to_its_original_and_keeps_its_zeros() {
    let folder = tempdir();
    let (model, reference) = pair(folder.path());
    let samples = samples(40, 50, 200);
    let parts = folder.path().join("parts");
    let scene = Scene::of((&model, &reference), &samples, &parts);
    let (restored, parts) = scene.restore().unwrap();
    let mut n_restored = 0;
    for block in &restored.blocks {
        assert!(block.alone, "block {} was not run by itself", block.block);
        let (before, after) = block.residual;
        assert!(after < 0.95 * before, "block {}: {before} -> {after}", block.block);
        for tensor in &block.tensors {
            let (before, after) = tensor.error.unwrap();
            let restored = tensor.outcome == Outcome::Refitted;
            assert_eq!(restored, after < before, "{}: {before} -> {after}", tensor.name);
            assert_eq!(restored, tensor.zeros_kept, "{}", tensor.name);
            n_restored += usize::from(restored);
        }
    }
    assert!(n_restored >= 10, "{n_restored} of 14 matrices restored");
    let before = Model::open(&model).unwrap();
    for part in (0..restored.blocks.len() as u32).filter_map(|block| parts.model(block)) {
        for tensor in part.tensors() {
            let old = before.tensor(&tensor.info.name).unwrap();
            assert_eq!(tensor.info.ty, old.info.ty);
            let numbers = |t| decoded(t, 0..tensor.info.n_rows()).unwrap();
            let (old, new) = (numbers(old), numbers(tensor));
            let filled = old.iter().zip(&new).filter(|(a, b)| **a == 0.0 && **b != 0.0).count();
            assert_eq!(filled, 0, "{}", tensor.info.name);
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads_nor_on_where_a_run_was_cut_off() {
    let folder = tempdir();
    let (model, reference) = pair(folder.path());
    let samples = samples(30, 40, 200);
    for rank in [None, Some(6)] {
        let run = |name: &str, threads, interrupt_after| {
            let parts = folder.path().join(format!("{name}-{rank:?}"));
            let scene = Scene::of((&model, &reference), &samples, &parts);
            let scene = Scene { threads, interrupt_after, rank, ..scene };
            scene.restore().map(|(restored, parts)| bytes(&restored, &parts))
        };
        let whole = run("a", 1, None).unwrap();
        assert!(!whole.is_empty());
        assert!(run("b", 2, None).unwrap() == whole, "another number of threads, other bytes");
        assert!(run("c", 2, Some(0)).is_err(), "the interrupt was not heard");
        let left = names_in(&folder.path().join(format!("c-{rank:?}")));
        assert!(left.iter().any(|name| name.contains("block-00000")), "{left:?}");
        assert!(run("c", 2, None).unwrap() == whole, "the resumed run has other bytes");
    }
}

#[test]
fn factors_beside_a_pruned_model_bring_it_nearer_the_more_they_are() {
    let folder = tempdir();
    let (model, reference) = pair(folder.path());
    let samples = samples(40, 50, 200);
    let errors = [2, 16].map(|rank| {
        let parts = folder.path().join(format!("rank-{rank}"));
        let scene = Scene::of((&model, &reference), &samples, &parts);
        let (restored, parts) = Scene { rank: Some(rank), ..scene }.restore().unwrap();
        for (name, bytes) in bytes(&restored, &parts) {
            assert!(name.ends_with(".lora_a") || name.ends_with(".lora_b"), "{name}");
            assert!(!bytes.is_empty(), "{name}");
        }
        restored.blocks.last().unwrap().residual
    });
    let [(before, few), (_, many)] = errors;
    assert!(many < 0.8 * few && few < before, "{before} -> {few} with 2, {many} with 16");
}

#[test]
fn experts_are_refitted_to_the_tokens_that_reach_them() {
    let folder = tempdir();
    let reference = Tiny::new(Arch::Qwen3Moe).ty(GgmlType::F16).write(folder.path());
    let model = folder.path().join("pruned.gguf");
    pruned(&reference, &model);
    let samples = samples(60, 50, 200);
    for rank in [None, Some(8)] {
        let parts = folder.path().join(format!("{rank:?}"));
        let scene = Scene::of((&model, &reference), &samples, &parts);
        let (restored, parts) = Scene { rank, ..scene }.restore().unwrap();
        let (before, after) = restored.blocks.last().unwrap().residual;
        assert!(after < 0.95 * before, "{rank:?}: {before} -> {after}");
        let stacks: Vec<_> =
            restored.tensors().filter_map(|t| Some((t, t.experts.as_ref()?))).collect();
        assert_eq!(stacks.len(), 3 * restored.blocks.len());
        for (tensor, experts) in stacks {
            let name = &tensor.name;
            let (before, after) = tensor.error.unwrap();
            // What enters the down projections of noise is not correlated: little can be made up
            // for.
            let least = if name.contains("down") { 1 } else { experts.n };
            assert!(experts.refitted >= least, "{name}: {experts:?}");
            assert!(after < before, "{name}: {before} -> {after}");
            assert_eq!(experts.without_tokens, [0usize; 0], "{name}");
            assert_eq!(tensor.zeros_kept, rank.is_none(), "{name}");
        }
        // Who resumes has the same.
        let again = Scene { rank, ..Scene::of((&model, &reference), &samples, parts.folder()) };
        let (resumed, again) = again.restore().unwrap();
        let last = |restored: &Refitted| restored.blocks.last().unwrap().residual.1;
        assert!((last(&resumed) - last(&restored)).abs() < 1e-6, "{rank:?}");
        assert_eq!(bytes(&resumed, &again).len(), bytes(&restored, &parts).len());
    }
}

#[test]
fn llama_cpp_applies_the_adapter_of_a_mixture() {
    let folder = tempdir();
    let text = folder.path().join("text.txt");
    let once = crate::support::root().join("fixtures/imatrix/text.txt");
    std::fs::write(&text, std::fs::read_to_string(once).unwrap().repeat(6)).unwrap();
    let repair = |tiny: Tiny| {
        let reference = tiny.ty(GgmlType::F16).write(folder.path());
        let [model, lora] = ["pruned.gguf", "lora.gguf"].map(|name| folder.path().join(name));
        let _ = std::fs::remove_file(&model);
        pruned(&reference, &model);
        let mut command = aird();
        command.arg("repair").arg(&model).arg("--reference").arg(&reference).arg("--lora");
        command.arg(&lora).arg("--data").arg(&text).args(["--rank", "8", "--safety-share", "0"]);
        command.args(["--tokens", "3000", "--chat-template", "none", "--force"]).output().unwrap()
    };
    // It was run, and nearer to what was computed than to what the model does without it.
    let output = repair(Tiny::new(Arch::Qwen3Moe));
    assert!(output.status.success(), "{}", stderr(&output));
    let adapter = Model::open(&folder.path().join("lora.gguf")).unwrap();
    let factor = adapter.tensor("blk.0.ffn_up_exps.weight.lora_a").unwrap();
    assert_eq!(factor.info.shape[1..], [8, 4]);
    let output = repair(Tiny::new(Arch::Qwen3Moe).scaled());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("an adapter beside a matrix with a scale"));
}

#[test]
fn a_model_that_was_not_compressed_stays_what_it_is() {
    for arch in [Arch::Llama, Arch::Qwen3Moe] {
        not_compressed(arch);
    }
}

fn not_compressed(arch: Arch) {
    let folder = tempdir();
    let reference = Tiny::new(arch).write(folder.path());
    let model = folder.path().join("same.gguf");
    Rewrite::new(&Model::open(&reference).unwrap(), Layout::Single)
        .write(&model, false, &Unwatched)
        .unwrap();
    let samples = samples(30, 40, 200);
    let parts = folder.path().join("parts");
    let scene = Scene::of((&model, &reference), &samples, &parts);
    let (restored, parts) = scene.restore().unwrap();
    for tensor in restored.tensors().filter(|t| t.error.is_some()) {
        let (before, _) = tensor.error.unwrap();
        assert!(before < 1e-3, "{}: {before}", tensor.name);
    }
    let before = Model::open(&model).unwrap();
    for part in (0..restored.blocks.len() as u32).filter_map(|block| parts.model(block)) {
        for tensor in part.tensors() {
            let old = before.tensor(&tensor.info.name).unwrap();
            let numbers = |t| decoded(t, 0..tensor.info.n_rows()).unwrap();
            let (old, new) = (numbers(old), numbers(tensor));
            let size = old.iter().map(|x| x.abs()).fold(0.0, f32::max);
            let off = old.iter().zip(&new).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-3 * size, "{}: off by {off} of {size}", tensor.info.name);
        }
    }
}

/// Every `part`th architecture, quantized, is restored: block by block where llama.cpp runs a block
/// by itself, in the whole model else.
fn architectures(part: usize) {
    let folder = tempdir();
    for facts in all().into_iter().skip(part).step_by(N_PARTS) {
        restores(&facts, folder.path());
    }
}

fn restores(facts: &Facts, folder: &Path) {
    // It has no logits, so that nothing that is made of it counts as sound.
    if facts.architecture == "bert" {
        return;
    }
    let [reference, model, parts] =
        ["original.gguf", "model.gguf", "parts"].map(|name| folder.join(name));
    facts.write(&reference);
    let _ = std::fs::remove_file(&model);
    let _ = std::fs::remove_dir_all(&parts);
    let mut command = aird();
    command.arg("quantize").arg(&reference).args(["--method", "rtn", "--type", "q4_0", "-o"]);
    let output = command.arg(&model).output().unwrap();
    if aborts_with_amx(&output) {
        println!("{}: aborts with AMX", facts.name);
        return;
    }
    assert!(output.status.success(), "{}", stderr(&output));
    let samples = samples(20, 12, 200);
    let scene = Scene::of((&model, &reference), &samples, &parts);
    let name = &facts.name;
    match scene.restore() {
        Ok((restored, _)) => {
            let tensors = || restored.blocks.iter().flat_map(|block| &block.tensors);
            let done = tensors().filter(|t| t.outcome == Outcome::Refitted).count();
            let tried = tensors().filter(|t| t.error.is_some()).count();
            let whole = restored.blocks.iter().filter(|block| !block.alone).count();
            let (before, after) = restored.blocks.last().unwrap().residual;
            println!(
                "{name}: {done} of {tried}, {} blocks, {whole} in the whole model, \
                 {before:.4} -> {after:.4}",
                restored.blocks.len()
            );
            // Some 200 random tokens say little, and a router may choose other experts.
            let most = if name.ends_with("moe") { 1.5 } else { 1.2 };
            assert!(after <= most * before, "{name}: the stream is off by {before} -> {after}");
        }
        Err(error) => {
            let said = error.to_string();
            println!("{name}: {said}");
            let known = ["no residual stream", "read a whole text at once"];
            assert!(known.iter().any(|k| said.contains(k)), "{name}: {said}");
        }
    }
}

#[test]
fn every_architecture_is_restored_first_part() {
    architectures(0);
}

#[test]
fn every_architecture_is_restored_second_part() {
    architectures(1);
}

#[test]
fn every_architecture_is_restored_third_part() {
    architectures(2);
}

#[test]
fn every_architecture_is_restored_fourth_part() {
    architectures(3);
}

#[test]
fn a_real_model_is_restored_in_place_and_taken_back() {
    let Some(reference) = real_model() else { return };
    let folder = tempdir();
    let model = folder.path().join("pruned.gguf");
    pruned(&reference, &model);
    let before = std::fs::read(&model).unwrap();
    let output = aird()
        .arg("repair")
        .arg(&model)
        .arg("--reference")
        .arg(&reference)
        .args(["--tokens", "1000", "--aim", "none", "--in-place", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let blocks = report["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 30);
    for block in blocks {
        let residual = |i: usize| block["residual"][i].as_f64().unwrap();
        assert!(residual(1) < residual(0), "{block}");
    }
    assert_eq!(names_in(folder.path()), ["pruned.gguf", "pruned.gguf.aird-undo"]);
    assert!(std::fs::read(&model).unwrap() != before);
    let output = run(&["undo".as_ref(), &model]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(std::fs::read(&model).unwrap() == before);
}

#[test]
fn what_is_no_original_of_the_model_is_refused_in_one_sentence() {
    let folder = tempdir();
    let (model, reference) = pair(folder.path());
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let qwen = Tiny::new(Arch::Qwen2).write(&other);
    for (reference, said) in [(&model, "the model itself"), (&qwen, "architecture")] {
        let output =
            aird().arg("repair").arg(&model).arg("--reference").arg(reference).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    let output = aird().arg("repair").arg(&model).args(["--method", "restore"]).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    let output = aird()
        .arg("repair")
        .arg(&model)
        .arg("--reference")
        .arg(&reference)
        .args(["--alpha", "2"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--alpha is of --method aird"), "{}", stderr(&output));
}
