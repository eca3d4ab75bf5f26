//! On a GPU everything is as on the CPU: what is read and changed inside of a model, directions,
//! the search, the restore. scripts/check-gpu.sh runs these; AIRD_GPU names the device.

use std::path::Path;

use aird::direction::{ablate, add, unit};
use aird::gguf::Model;
use aird::llama::graph::{Part, Structure};
use aird::llama::{Engine, Hooks, Input, Options, Session, Site, Size, Split, prompt_inputs};
use aird::repair::{Half, Live};
use aird::verbs::devices::Report;

use crate::support::elsewhere::{Elsewhere, apart};
use crate::support::random::Random;
use crate::support::{Arch, Tiny, aird, is_report, real_model, stderr, stdout, tempdir};

const ARCHES: [Arch; 5] = [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2, Arch::Qwen3Moe];
const SIZE: Size = Size { n_ctx: 64, n_batch: 64, n_seq: 1, unified: true };
/// A GPU multiplies in half precision where it can.
const ROUNDING: f64 = 5e-3;

fn device() -> String {
    std::env::var("AIRD_GPU").expect("AIRD_GPU names a device: see scripts/check-gpu.sh")
}

fn on_the_gpu() -> Options {
    let split = Split::new(vec![device()], Vec::new());
    Options { gpu_layers: 9_999, split, ..Options::cpu(1) }
}

/// What is done to the residual stream.
#[derive(Debug, Clone, Copy)]
enum Change {
    Nothing,
    Ablate,
    Add,
    Strengthen,
}

/// Logits behind a prompt, then every row of the residual stream that was read.
fn run(path: &Path, options: Options, change: Change) -> (Vec<f32>, Vec<f32>) {
    let engine = Engine::load(path, options).unwrap();
    let model = Model::open(path).unwrap();
    let structure = Structure::trace(&model).unwrap();
    let unit = unit(&Random::new(7).normals(engine.n_embd(), 1.0)).unwrap();
    let live = Live::new(&model, &structure, &unit).unwrap();
    let halves = [Half { block: 0, part: Part::Attention }, Half { block: 1, part: Part::Mlp }];
    let hooks = match change {
        Change::Nothing => Hooks::new(),
        Change::Ablate => ablate(Hooks::new(), &unit),
        Change::Add => add(Hooks::new(), &structure, &unit, 1),
        Change::Strengthen => live.strengthen(Hooks::new(), &halves, 2.0).unwrap(),
    };
    let mut rows = Vec::new();
    let mut hooks = hooks.read(
        |site| matches!(site, Site::Point(_)),
        |_, _, row| {
            rows.extend_from_slice(row);
            Ok(())
        },
    );
    let mut session = Session::new(&engine, SIZE).unwrap();
    let inputs: Vec<Input> = prompt_inputs(&engine.tokenize("Tell me a story", true), 0, 0);
    session.decode(&inputs, Some(&mut hooks)).unwrap();
    let logits = session.logits(inputs.len() - 1).unwrap().to_vec();
    drop(hooks);
    (logits, rows)
}

#[test]
#[ignore = "needs a GPU: scripts/check-gpu.sh"]
fn what_is_read_and_changed_in_the_stream_is_that_of_the_cpu() {
    for arch in ARCHES {
        let folder = tempdir();
        let path = Tiny::new(arch).blocks(3).seed(2).write(folder.path());
        let (plain, _) = run(&path, Options::cpu(1), Change::Nothing);
        for change in [Change::Nothing, Change::Ablate, Change::Add, Change::Strengthen] {
            let here = run(&path, Options::cpu(1), change);
            let there = run(&path, on_the_gpu(), change);
            let [logits, rows] = [apart(&here.0, &there.0), apart(&here.1, &there.1)];
            assert!(logits < ROUNDING && rows < ROUNDING, "{arch:?} {change:?}: {logits} {rows}");
            let moved = apart(&plain, &here.0);
            assert!(matches!(change, Change::Nothing) || moved > 10.0 * ROUNDING, "{moved}");
        }
    }
}

#[test]
#[ignore = "needs a GPU: scripts/check-gpu.sh"]
fn every_block_goes_to_the_device() {
    let output = aird().args(["devices", "--json"]).output().unwrap();
    let report: Report = is_report(serde_json::from_str(&stdout(&output)).unwrap());
    let found = report.devices.iter().find(|found| found.name == device()).unwrap();
    assert!(found.takes_blocks, "{found:?}");
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).blocks(3).write(folder.path());
    let mut ask = aird();
    ask.arg("-vv").arg("ask").arg(&model).args(["hi", "--chat-template", "none"]);
    let output = ask.args(["--max-tokens", "2", "--device", &device()]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("offloaded 4/4 layers to GPU"), "{}", stderr(&output));
}

#[test]
#[ignore = "needs a GPU: scripts/check-gpu.sh"]
fn directions_are_those_of_the_cpu() {
    Elsewhere { options: &["--device", &device()], rounding: ROUNDING }.captures_alike();
}

#[test]
#[ignore = "needs a GPU: scripts/check-gpu.sh"]
fn the_search_brings_back_what_it_does_on_the_cpu() {
    Elsewhere { options: &["--device", &device()], rounding: ROUNDING }.searches_alike(false);
}

#[test]
#[ignore = "needs a GPU: scripts/check-gpu.sh"]
fn a_restore_is_that_of_the_cpu() {
    for arch in ARCHES {
        let there = Elsewhere { options: &["--device", &device()], rounding: ROUNDING };
        there.restores_alike(arch);
    }
}

#[test]
#[ignore = "needs a GPU: scripts/check-gpu.sh"]
fn the_real_model_reads_nearly_as_on_the_cpu_and_answers() {
    let Some(model) = real_model() else { return };
    let here = run(&model, Options::cpu(0), Change::Nothing);
    let there = run(&model, on_the_gpu(), Change::Nothing);
    let [logits, rows] = [apart(&here.0, &there.0), apart(&here.1, &there.1)];
    // Weights of 4 bits: a CPU rounds what is multiplied with them to 8 bits, a GPU does not.
    // Answers may differ.
    assert!(logits < 0.05 && rows < 0.05, "{logits} {rows}");
    let mut ask = aird();
    ask.arg("ask").arg(&model).args(["What is the capital of France?", "--max-tokens", "8"]);
    let output = ask.args(["--device", &device()]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("Paris"), "{}", stdout(&output));
}
