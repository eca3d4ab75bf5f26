//! `aird calibrate`: the statistics are llama-imatrix's, files of other tools are read, and a run
//! that is cut off goes on as if it had not been.

use std::path::{Path, PathBuf};
use std::process::Command;

use aird::gguf::{Builder, GgmlType, Unwatched, Value, ValueType};
use aird::stats::{self, Stats};

use crate::support::{Arch, Tiny, aird, json, root, run, stderr, tempdir};

/// A text of two windows of 512 tokens and a rest.
const TEXT: &str = "fixtures/imatrix/text.txt";
const CTX: &str = "512";
const SAMPLES: &str = "2";

fn calibrate(model: &Path, out: &Path, more: &[&str]) -> std::process::Output {
    let mut command = aird();
    command.arg("calibrate").arg(model).arg("-o").arg(out).args(["--threads", "1", "--force"]);
    command.args(more).output().unwrap()
}

fn collected(model: &Path, out: &Path, more: &[&str]) -> Stats {
    let text = root().join(TEXT);
    let text = ["--data", text.to_str().unwrap(), "--ctx", CTX, "--samples", SAMPLES];
    let output = calibrate(model, out, &[&text, more].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stats::read(out).unwrap().0
}

/// llama-imatrix's file for a tiny model; `AIRD_LLAMA_IMATRIX=PROGRAM` makes it anew.
fn golden(model: &Path, name: &str, format: &str) -> PathBuf {
    let path = root().join("fixtures/imatrix").join(name);
    if let Some(program) = std::env::var_os("AIRD_LLAMA_IMATRIX") {
        let mut command = Command::new(program);
        command.args(["-c", CTX, "-b", CTX, "-ub", CTX, "-t", "1", "--output-format", format]);
        // The name of the data stands in the file: without a folder.
        command.args(["-f", "text.txt"]).arg("-m").arg(model).arg("-o").arg(&path);
        let output = command.current_dir(root().join("fixtures/imatrix")).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    path
}

/// Where the golden files were made ours agreed within 1e-5. On another CPU, without AVX-512, the
/// same code is off by up to 1.3e-5 in one tensor's experts: presumably llama.cpp's own sums.
fn assert_close(what: &str, a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= 3e-5 * b.abs().max(1e-12), "{what}, {i}: {a} and {b}");
    }
}

#[test]
fn statistics_equal_those_of_llama_imatrix() {
    for (arch, name) in [(Arch::Llama, "llama.gguf"), (Arch::Qwen3Moe, "qwen3moe.gguf")] {
        let folder = tempdir();
        let model = Tiny::new(arch).seed(1).write(folder.path());
        let ours = collected(&model, &folder.path().join("stats.gguf"), &[]);
        let (theirs, _) = stats::read(&golden(&model, name, "gguf")).unwrap();
        assert_eq!(theirs.datasets, ["text.txt"]);
        assert_eq!(ours.datasets, theirs.datasets);
        let names = |s: &Stats| s.inputs.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs));
        for (name, theirs) in &theirs.inputs {
            let ours = &ours.inputs[name];
            assert_eq!(ours.counts, theirs.counts, "{name}");
            assert_close(name, &ours.sum2, &theirs.sum2);
            assert!(ours.sum_abs.is_some() && theirs.sum_abs.is_none());
        }
    }
}

#[test]
fn the_legacy_format_gives_the_same_means() {
    let folder = tempdir();
    for (arch, name) in [(Arch::Llama, "llama.dat"), (Arch::Qwen3Moe, "qwen3moe.dat")] {
        let file = Tiny::new(arch).seed(1).write(folder.path());
        let model = aird::gguf::Model::open(&file).unwrap();
        let ours = collected(&file, &folder.path().join("stats.gguf"), &[]);
        let (theirs, _) = stats::read(&golden(&file, name, "dat")).unwrap();
        let theirs = theirs.fitted_to(&model).unwrap();
        for (name, theirs) in &theirs.inputs {
            let ours = &ours.inputs[name];
            assert_eq!(ours.n_expert(), theirs.n_expert(), "{name}");
            for expert in (0..ours.n_expert()).filter(|e| ours.counts[*e] > 0) {
                let wide = |s: &stats::InputStats| -> Vec<f64> {
                    s.mean_square(expert).unwrap().iter().map(|x| f64::from(*x)).collect()
                };
                assert_close(name, &wide(ours), &wide(theirs));
            }
        }
    }
}

#[test]
fn the_same_settings_give_the_same_bytes_and_another_seed_other_samples() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let text = root().join(TEXT);
    let make = |name: &str, seed: &str| {
        let out = folder.path().join(name);
        let text = text.to_str().unwrap();
        let settings = ["--data", text, "--ctx", "16", "--samples", "4", "--seed", seed];
        assert!(calibrate(&model, &out, &settings).status.success());
        std::fs::read(out).unwrap()
    };
    assert!(make("a", "0") == make("b", "0"));
    assert!(make("a", "0") != make("c", "1"));
}

#[test]
fn a_run_that_was_cut_off_goes_on_to_the_same_bytes() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Qwen3Moe).seed(1).write(folder.path());
    let (whole, resumed) = (folder.path().join("whole"), folder.path().join("resumed"));
    collected(&model, &whole, &[]);
    // What an interrupt after the first of two batches leaves behind.
    interrupted_after(&model, &resumed, 1);
    let again = collected(&model, &resumed, &["--resume"]);
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&resumed).unwrap());
    assert!(again.about.is_some());
    assert!(!folder.path().join("resumed.partial").exists());

    let output = calibrate(&model, &resumed, &["--data", "builtin:alpaca", "--resume"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing to resume"), "{}", stderr(&output));
}

/// Collects from the first `n` samples alone, and writes it down as an interrupt would.
fn interrupted_after(model: &Path, out: &Path, n: usize) {
    use aird::llama::{Engine, Options};
    let stats = collected(model, out, &[]);
    let engine = Engine::load(model, Options::cpu(1)).unwrap();
    let tokens = engine.tokenize(&std::fs::read_to_string(root().join(TEXT)).unwrap(), true);
    let samples = stats::windows(&tokens, 512, 2, engine.bos_if_wanted()).unwrap();
    let so_far =
        stats::collect(&engine, &samples[..n], stats::Collected::default(), &Unwatched).unwrap();
    assert_eq!(so_far.n_done, n);
    let partial = out.with_extension("partial");
    stats::write_partial(&partial, &stats.about.unwrap(), &so_far).unwrap();
    std::fs::remove_file(out).unwrap();
}

#[test]
fn answers_alone_count_where_there_are_answers() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let data = folder.path().join("pairs.json");
    let pairs = r#"[{"instruction": "Say", "input": "on", "output": "in the"},
                    {"instruction": "Tell", "input": "", "output": "a"}]"#;
    std::fs::write(&data, pairs).unwrap();
    let out = folder.path().join("stats");
    let report = |mask: &str| {
        let file = data.as_path();
        let arguments = ["calibrate", model.to_str().unwrap(), "-o", out.to_str().unwrap()];
        let more = ["--force", "--data", file.to_str().unwrap(), "--mask", mask];
        let all: Vec<&Path> = arguments.iter().chain(&more).map(Path::new).collect();
        json(&all)
    };
    let (response, all) = (report("response"), report("all"));
    assert_eq!(response["mask"], "response");
    assert!(response["n_rows"].as_u64() < all["n_rows"].as_u64());
    assert_eq!(response["n_samples"], 2);
}

#[test]
fn what_is_wrong_with_calibration_is_said() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let out = folder.path().join("stats");
    let text = root().join(TEXT);
    let text = text.to_str().unwrap();
    let prompts = folder.path().join("prompts.csv");
    std::fs::write(&prompts, "prompt\na\nb\n").unwrap();
    let prompts = prompts.to_str().unwrap();
    for (arguments, expected) in [
        (&["--data", text, "--ctx", "32"][..], "tokens, expected 4096 (128 samples of 32)"),
        (&[][..], "--data is missing"),
        (&["--data", "builtin:c4"][..], "there is no builtin:c4"),
        (&["--data", text, "--mask", "response"][..], "leave --mask response out"),
        (&["--data", prompts, "--format", "align"][..], "0 of 2 prompts have an answer"),
        (&["--data", text, "--ctx", "1"][..], "--ctx at least 2"),
        (&["--data", text, "--ctx", "99999"][..], "the model was trained for"),
    ] {
        let output = calibrate(&model, &out, arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!out.exists());
    }
}

#[test]
fn statistics_of_another_model_are_refused() {
    let folder = tempdir();
    let write = |name: &str, tiny: Tiny| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        tiny.write(&folder.path().join(name))
    };
    let llama = write("llama", Tiny::new(Arch::Llama).seed(1));
    let qwen = write("qwen", Tiny::new(Arch::Qwen2).seed(1));
    let wide = write("wide", Tiny::new(Arch::Llama).ty(aird::gguf::GgmlType::Q4_K));
    let more = write("more", Tiny::new(Arch::Llama).blocks(3));
    let file = folder.path().join("stats");
    let stats = collected(&llama, &file, &[]);
    let prune = |model: &Path, stats: &Path| {
        let out = folder.path().join("out.gguf");
        let arguments = ["prune", "--method", "wanda", "--sparsity", "0.5", "--stats"];
        let mut all: Vec<&Path> = arguments.iter().map(Path::new).collect();
        all.extend([stats, model, Path::new("-o"), &out]);
        let output = run(&all);
        assert_eq!(output.status.code(), Some(1));
        assert!(!out.exists());
        stderr(&output)
    };
    assert!(prune(&qwen, &file).contains("of architecture 'llama', the model is 'qwen2'"));
    assert!(prune(&wide, &file).contains("channels there, expected 256"));
    // A block more than the statistics know.
    assert!(prune(&more, &file).contains("nothing about blk.2."));
    let zero = folder.path().join("zero");
    let mut none = stats.clone();
    none.inputs.values_mut().for_each(|input| input.counts.fill(0));
    stats::write(&zero, &none).unwrap();
    assert!(prune(&llama, &zero).contains("count no input row"));
    std::fs::write(&zero, b"not statistics").unwrap();
    assert!(prune(&llama, &zero).contains("not an importance matrix"));
}

/// A file of statistics about one weight, bent by `bend`; what is said about it.
fn said_of(folder: &Path, bend: impl Fn(&mut Builder)) -> Option<String> {
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = Builder::new();
    file.kv("general.type", "imatrix").kv("imatrix.datasets", Value::strings(["a.txt"]));
    file.kv("imatrix.chunk_count", 1u32).kv("imatrix.chunk_size", 512u32);
    file.tensor("b.w.in_sum2", &[2, 1], GgmlType::F32, floats(&[8.0, 2.0])).unwrap();
    bend(&mut file);
    // The last, unless it was bent.
    let _ = file.tensor("b.w.counts", &[1, 1], GgmlType::F32, floats(&[4.0]));
    let path = folder.join("stats.gguf");
    file.write(&path).unwrap();
    stats::read(&path).err().map(|error| error.to_string())
}

#[test]
fn what_a_file_of_statistics_says_is_never_passed_over() {
    let folder = tempdir();
    assert_eq!(said_of(folder.path(), |_| ()), None);
    assert_eq!(said_of(folder.path(), |f| _ = f.kv("imatrix.chunk_count", 1i64)), None);
    let numbers = || Value::array(ValueType::U32, [Value::U32(1)]);
    for (key, value, expected) in [
        ("imatrix.datasets", "a.txt".into(), "'imatrix.datasets' is str"),
        ("imatrix.datasets", numbers(), "'imatrix.datasets' is arr of 1 u32"),
        ("imatrix.chunk_count", "1".into(), "'imatrix.chunk_count' is str"),
        ("imatrix.chunk_size", Value::I32(-1), "'imatrix.chunk_size' is i32 -1"),
        ("general.type", 1u32.into(), "'general.type' is u32 1"),
        ("general.type", "model".into(), "general.type is 'model', expected 'imatrix'"),
        ("aird.stats", 1u32.into(), "'aird.stats' is u32 1"),
        ("aird.stats", "{}".into(), "its aird.stats: missing field"),
        ("aird.stats.partial", true.into(), "'aird.stats.partial' is bool"),
    ] {
        let said = said_of(folder.path(), |f| _ = f.kv(key, value.clone())).unwrap();
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("stats.gguf: "), "{said}");
    }
    let one = |x: f32| x.to_le_bytes().to_vec();
    let with = |name: &str, x: f32| {
        said_of(folder.path(), |f| drop(f.tensor(name, &[1, 1], GgmlType::F32, one(x)))).unwrap()
    };
    assert!(with("b.w.counts", 1.5).contains("b.w.counts holds 1.5, expected a whole number"));
    assert!(with("c.w.counts", 1.0).contains("no c.w.in_sum2 beside c.w.counts"));
    assert!(with("c.w.in_max_abs", 1.0).contains("no c.w.in_sum2 beside c.w.in_max_abs"));
}
