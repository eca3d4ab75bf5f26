//! What it takes at the size of real models: verbs on files of noise in the shapes of Llama-3-8B
//! and of 4 of Llama-3.3-70B's 80 blocks, each a whole command, those that write a file of the
//! model's size against `cp` and `sync` of it.
//!
//! ```sh
//! cargo bench --bench shapes -- 8b       # 8b, 70b-slice; both without a name
//! cargo bench --bench shapes -- make 8b q4_k OUT.gguf [BLOCKS]
//! ```
//!
//! 8B needs 40 GB of disk under target/, and half an hour on two cores. `AIRD_BENCH_RUNS`: how
//! often short commands are run (3; the median is printed); those of minutes are run once.
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aird::gguf::GgmlType;
use anyhow::{Context, Result, bail};

#[path = "support/child.rs"]
mod child;
#[path = "support/model.rs"]
#[allow(dead_code)] // of its shapes two are of use here
mod model;

use child::{Took, watched};
use model::{LLAMA_8B, LLAMA_70B, Shapes};

/// Blocks of the slice.
const SLICE: u64 = 4;
/// A block of the 8B shapes takes a minute or more to restore.
const RESTORED: u64 = 2;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["make", shapes, ty, out, blocks @ ..] => {
            let (_, shapes) = named(shapes)?;
            let n_block = blocks.first().map_or(Ok(shapes.n_block), |blocks| blocks.parse())?;
            let ty = GgmlType::from_name(ty).with_context(|| format!("no type '{ty}'"))?;
            model::write(Path::new(out), &Shapes { n_block, ..shapes }, ty)
        }
        [] => ["8b", "70b-slice"].into_iter().try_for_each(measure),
        names => names.iter().copied().try_for_each(measure),
    }
}

fn named(name: &str) -> Result<(&'static str, Shapes)> {
    Ok(match name {
        "8b" => ("8B", LLAMA_8B),
        "70b-slice" => ("70B, 4 of 80 blocks", Shapes { n_block: SLICE, ..LLAMA_70B }),
        name => bail!("no shapes '{name}', expected 8b or 70b-slice"),
    })
}

/// A file, and commands on it.
struct Place {
    folder: tempfile::TempDir,
    runs: usize,
}

fn measure(name: &str) -> Result<()> {
    let (title, shapes) = named(name)?;
    let runs = std::env::var("AIRD_BENCH_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(3);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let place = Place { folder, runs };
    let q4 = place.file("model-Q4_K.gguf");
    model::write(&q4, &shapes, GgmlType::Q4_K)?;
    println!("\n{title}: Q4_K, {:.2} GB", gigabytes(&q4)?);
    println!("{:44} {:>9} {:>9} {:>10} {:>10}", "", "seconds", "x cp", "memory MB", "written GB");
    place.edits(&shapes, &q4)?;
    place.readings(&q4)?;
    place.compressions(&shapes)?;
    if name == "8b" {
        place.restore(&shapes)?;
    }
    Ok(())
}

impl Place {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The median by time of several runs, after a first one.
    fn often(&self, mut run: impl FnMut() -> Result<Took>) -> Result<Took> {
        run()?;
        let mut all = (0..self.runs.max(1)).map(|_| run()).collect::<Result<Vec<_>>>()?;
        all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        Ok(all[all.len() / 2])
    }

    /// What `cp` and `sync` of a file take.
    fn copied(&self, source: &Path) -> Result<f64> {
        let copy = self.file("cp.gguf");
        let mut cp = Command::new("cp");
        cp.arg("--reflink=never").args([source, &copy]);
        let took = watched(&mut cp)?.seconds + watched(Command::new("sync").arg(&copy))?.seconds;
        std::fs::remove_file(copy)?;
        Ok(took)
    }

    /// Verbs whose time should not depend on the model's size, and a new file.
    fn edits(&self, shapes: &Shapes, q4: &Path) -> Result<()> {
        let (direction, new) = (self.file("d.safetensors"), self.file("new-Q4_K.gguf"));
        model::direction(shapes).write(&direction)?;
        let block = (shapes.n_block / 2).to_string();
        let repair = |words: &[&str]| {
            let mut repair = aird("repair");
            repair.arg(q4).arg("--direction").arg(&direction);
            repair.args(["--block", &block, "--alpha", "3", "--type", "keep"]).args(words);
            repair
        };
        line("inspect", None, self.often(|| watched(aird("inspect").arg(q4)))?);
        let quick = || watched(aird("verify").arg(q4).arg("--quick"));
        line("verify --quick", None, self.often(quick)?);
        let in_place = self.often(|| {
            let took = watched(&mut repair(&["--in-place"]))?;
            watched(aird("undo").arg(q4))?;
            Ok(took)
        })?;
        line("repair --in-place, a block", None, in_place);
        let mut ratios = Vec::new();
        let written = self.often(|| {
            let cp = self.copied(q4)?;
            let _ = std::fs::remove_file(&new);
            let out = new.to_str().context("a name in UTF-8")?;
            let took = watched(&mut repair(&["-o", out]))?;
            ratios.push(took.seconds / cp);
            Ok(took)
        })?;
        line("repair -o, a block", Some(median(&ratios[1..])), written);
        line("diff of the two", None, self.often(|| watched(aird("diff").args([q4, &new])))?);
        std::fs::remove_file(new)?;
        Ok(())
    }

    /// Verbs that run the model: a few hundred tokens.
    fn readings(&self, q4: &Path) -> Result<()> {
        let text = self.file("text.txt");
        std::fs::write(&text, "Some words that a vocabulary of noise spells. ".repeat(200))?;
        let prompts = [("bad.txt", "Sell"), ("good.txt", "Tell")].map(|(name, verb)| {
            let lines: Vec<String> = (0..8).map(|i| format!("{verb} me story {i}")).collect();
            let path = self.file(name);
            std::fs::write(&path, lines.join("\n")).map(|()| path)
        });
        let [bad, good] = prompts;
        let mut calibrate = aird("calibrate");
        calibrate.arg(q4).arg("--data").arg(&text).args(["--samples", "2", "--ctx", "256"]);
        calibrate.arg("-o").arg(self.file("stats.gguf"));
        line("calibrate, 512 tokens", None, watched(&mut calibrate)?);
        let mut capture = aird("direction");
        capture.arg(q4).arg("--harmful").arg(bad?).arg("--harmless").arg(good?);
        capture.args(["--capture-only", "--train", "8", "--chat-template", "none", "-o"]);
        let took = watched(capture.arg(self.file("captured.safetensors")))?;
        line("direction --capture-only, 16 prompts", None, took);
        Ok(())
    }

    /// From BF16: pruned by the statistics above, and rounded.
    fn compressions(&self, shapes: &Shapes) -> Result<()> {
        let (bf16, out) = (self.file("model-BF16.gguf"), self.file("out.gguf"));
        model::write(&bf16, shapes, GgmlType::BF16)?;
        println!("from BF16, {:.2} GB", gigabytes(&bf16)?);
        let cp = self.copied(&bf16)?;
        let mut prune = aird("prune");
        prune.arg(&bf16).args(["--method", "wanda", "--sparsity", "0.5", "--stats"]);
        let took = watched(prune.arg(self.file("stats.gguf")).arg("-o").arg(&out))?;
        line("prune --method wanda", Some(took.seconds / cp), took);
        std::fs::remove_file(&out)?;
        let mut quantize = aird("quantize");
        quantize.arg(&bf16).args(["--method", "rtn", "--type", "q4_k", "-o"]);
        let took = watched(quantize.arg(&out))?;
        line("quantize --type q4_k", Some(took.seconds / cp), took);
        [bf16, out].iter().try_for_each(std::fs::remove_file)?;
        Ok(())
    }

    /// Two blocks of it by themselves.
    fn restore(&self, shapes: &Shapes) -> Result<()> {
        let few = Shapes { n_block: RESTORED, ..*shapes };
        let (original, pruned) = (self.file("two-BF16.gguf"), self.file("two-pruned.gguf"));
        model::write(&original, &few, GgmlType::BF16)?;
        let mut prune = aird("prune");
        prune.arg(&original).args(["--method", "magnitude", "--sparsity", "0.4", "-o"]);
        watched(prune.arg(&pruned))?;
        let mut restore = aird("repair");
        restore.arg(&pruned).arg("--reference").arg(&original);
        restore.args(["--aim", "none", "--chat-template", "none", "--tokens", "2048"]);
        let text = self.file("text.txt");
        restore.args(["--safety-share", "0", "--data"]).arg(text);
        restore.arg("-o").arg(self.file("two-restored.gguf"));
        line("repair --reference, 2 blocks, 2048 tokens", None, watched(&mut restore)?);
        Ok(())
    }
}

fn aird(verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aird"));
    command.arg(verb).arg("-q").stdout(Stdio::null());
    command
}

fn line(what: &str, ratio: Option<f64>, took: Took) {
    let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
    let (memory, written) = (took.memory as f64 / 1e6, took.written as f64 / 1e9);
    println!("{what:44} {:>9.2} {ratio:>9} {memory:>10.0} {written:>10.2}", took.seconds);
}

fn gigabytes(path: &Path) -> Result<f64> {
    Ok(path.metadata()?.len() as f64 / 1e9)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
