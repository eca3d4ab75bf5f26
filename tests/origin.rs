//! `aird diff --origin`: yes to what llama-quantize writes of an original, in every type, with
//! and without an importance matrix; no to a file in which one tensor was changed.

use std::path::{Path, PathBuf};
use std::process::Output;

use aird::gguf::{Builder, GgmlType, Model};
use aird::llama::encode;
use aird::origin::{Finding, Reason};
use aird::quant::decoded;
use aird::stats::{InputStats, Stats, write};
use aird::verbs::origin::{Report, TensorReport, Verdict};

use crate::support::ggml::{Mix, quantize_mix};
use crate::support::random::Random;
use crate::support::{
    Arch, TempDir, Tiny, aird, is_report, real_model, scribble, stderr, stdout, tempdir,
};

/// Files of llama-quantize: `llama_ftype` and name.
const PLAIN: [(u32, &str); 17] = [
    (0, "F32"),
    (1, "F16"),
    (32, "BF16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (7, "Q8_0"),
    (10, "Q2_K"),
    (12, "Q3_K_M"),
    (15, "Q4_K_M"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (25, "IQ4_NL"),
    (30, "IQ4_XS"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
];
/// Those that need an importance matrix, or choose other types with one.
const WEIGHED: [(u32, &str); 16] = [
    (2, "Q4_0"),
    (3, "Q4_1"),
    (8, "Q5_0"),
    (10, "Q2_K"),
    (12, "Q3_K_M"),
    (15, "Q4_K_M"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (30, "IQ4_XS"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (28, "IQ2_S"),
    (23, "IQ3_XXS"),
    (27, "IQ3_M"),
    (24, "IQ1_S"),
    (31, "IQ1_M"),
];

/// An original, an importance matrix of it, and a folder for quants.
struct Place {
    folder: TempDir,
    original: PathBuf,
    stats: PathBuf,
    imatrix: Vec<(String, Vec<f32>)>,
}

impl Place {
    fn new(tiny: &Tiny) -> Place {
        let folder = tempdir();
        let original = tiny.write(folder.path());
        let model = Model::open(&original).unwrap();
        let mut random = Random::new(11);
        let mut stats = Stats::default();
        let mut imatrix = Vec::new();
        for tensor in model.tensors().filter(|t| t.info.block().is_some() && t.info.is_matrix()) {
            let n_cols = tensor.info.n_cols() as usize;
            let n_expert = tensor.info.shape.get(2).copied().unwrap_or(1) as usize;
            let mut input = InputStats::new(n_expert, n_cols);
            input.counts = vec![8; n_expert];
            let sum = |_| f64::from(8.0 * random.normal().exp());
            input.sum2 = (0..n_expert * n_cols).map(sum).collect();
            let means = (0..n_expert).flat_map(|expert| input.mean_square(expert).unwrap());
            imatrix.push((tensor.info.name.clone(), means.collect()));
            stats.inputs.insert(tensor.info.name.clone(), input);
        }
        stats.inputs.sort_keys();
        let path = folder.path().join("imatrix.gguf");
        write(&path, &stats).unwrap();
        drop(model);
        // What is written is read with f32 sums: the means are those of the file.
        let (read, _) = aird::stats::read(&path).unwrap();
        for (name, means) in &mut imatrix {
            let input = &read.inputs[name.as_str()];
            *means = (0..input.n_expert()).flat_map(|e| input.mean_square(e).unwrap()).collect();
        }
        Place { folder, original, stats: path, imatrix }
    }

    /// llama-quantize's file.
    fn quantized(&self, ftype: u32, with_imatrix: bool) -> PathBuf {
        let path = self.folder.path().join(format!("{ftype}-{with_imatrix}.gguf"));
        let imatrix = if with_imatrix { self.imatrix.as_slice() } else { &[] };
        let mix = Mix { ftype, imatrix, pure: false };
        assert!(quantize_mix(&self.original, &path, &mix), "llama-quantize refuses {ftype}");
        path
    }

    fn origin(&self, quant: &Path, more: &[&str]) -> Output {
        origin(quant, &self.original, more)
    }
}

fn origin(quant: &Path, original: &Path, more: &[&str]) -> Output {
    let mut command = aird();
    command.args(["diff", "--origin"]).arg(quant).arg(original).args(more);
    command.output().unwrap()
}

/// The attestation, and the exit code that goes with it.
fn report(output: &Output) -> Report {
    let json = serde_json::from_slice(&output.stdout);
    let report: Report = is_report(json.unwrap_or_else(|e| panic!("{e}: {}", stderr(output))));
    let code = if report.verdict == Verdict::Yes { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    report
}

/// The tensors that are not the original's.
fn not_its(report: &Report) -> Vec<&TensorReport> {
    report.tensors.iter().filter(|t| t.finding == Finding::No).collect()
}

fn wide() -> Tiny {
    Tiny::new(Arch::Llama).wide(256).ty(GgmlType::F16).seed(1)
}

#[test]
fn every_type_of_llama_quantize_is_its_originals_byte_for_byte() {
    let place = Place::new(&wide().blocks(1));
    for (ftype, name) in PLAIN {
        let report = report(&place.origin(&place.quantized(ftype, false), &["--json"]));
        assert_eq!(report.verdict, Verdict::Yes, "{name}");
        assert_eq!(report.counts.equal, report.tensors.len(), "{name}: {:?}", report.counts);
        assert!(report.keys.is_empty(), "{name}: {:?}", report.keys);
    }
}

#[test]
fn every_type_with_an_importance_matrix_is_equal_with_it_and_within_without_it() {
    let place = Place::new(&wide().blocks(1));
    let stats = place.stats.display().to_string();
    for (ftype, name) in WEIGHED {
        let quant = place.quantized(ftype, true);
        let with = report(&place.origin(&quant, &["--json", "--imatrix", &stats]));
        assert_eq!(with.verdict, Verdict::Yes, "{name}");
        assert_eq!(with.counts.equal, with.tensors.len(), "{name}: {:?}", with.counts);
        let weighed = with.tensors.iter().filter(|t| t.written.is_some_and(|w| w.imatrix)).count();
        assert!(weighed > 0, "{name}");
        // The same file without the matrix at hand.
        let without = report(&place.origin(&quant, &["--json"]));
        assert_eq!(without.verdict, Verdict::Yes, "{name}: {:?}", not_its(&without));
        assert!(without.counts.within > 0, "{name}");
    }
}

/// A way to change a file.
type Change = fn(&Place, &Path);

const EDITED: &str = "blk.1.ffn_up.weight";

/// Writes `values` into a tensor of the file, in its own type.
fn put(path: &Path, name: &str, values: &[f32]) {
    let (ty, n_cols) = {
        let model = Model::open(path).unwrap();
        let info = model.tensor(name).unwrap().info;
        (info.ty, info.n_cols() as usize)
    };
    let mut bytes = vec![0; ty.bytes_for(values.len() as u64).unwrap() as usize];
    encode(ty, values, n_cols, None, &mut bytes).unwrap();
    scribble(path, name, 0, &bytes);
}

fn weights(path: &Path, name: &str) -> (Vec<f32>, usize) {
    let model = Model::open(path).unwrap();
    let tensor = model.tensor(name).unwrap();
    let values = decoded(tensor, 0..tensor.info.n_rows()).unwrap();
    (values, tensor.info.n_cols() as usize)
}

fn flip_a_byte(_: &Place, quant: &Path) {
    let model = Model::open(quant).unwrap();
    let bytes = model.tensor(EDITED).unwrap().data().to_vec();
    drop(model);
    // Past the scales of a block in the middle.
    let at = bytes.len() / 2 + 40;
    scribble(quant, EDITED, at, &[bytes[at] ^ 0x22]);
}

/// W + 0.02 |W| u v^T: a fiftieth of its size, along one direction.
fn add_a_direction(place: &Place, quant: &Path) {
    let (mut values, n_cols) = weights(&place.original, EDITED);
    let n_rows = values.len() / n_cols;
    let size = values.iter().map(|x| x * x).sum::<f32>().sqrt();
    let mut random = Random::new(3);
    let u = random.normals(n_rows, (1.0 / n_rows as f32).sqrt());
    let v = random.normals(n_cols, (1.0 / n_cols as f32).sqrt());
    for (row, u) in values.chunks_mut(n_cols).zip(&u) {
        row.iter_mut().zip(&v).for_each(|(x, v)| *x += 0.02 * size * u * v);
    }
    put(quant, EDITED, &values);
}

fn of_another_model(_: &Place, quant: &Path) {
    let folder = tempdir();
    let other = wide().seed(2).write(folder.path());
    put(quant, EDITED, &weights(&other, EDITED).0);
}

fn of_another_block(place: &Place, quant: &Path) {
    put(quant, EDITED, &weights(&place.original, "blk.0.ffn_up.weight").0);
}

fn tune(place: &Place, quant: &Path) {
    let (mut values, _) = weights(&place.original, EDITED);
    let mut random = Random::new(4);
    values.iter_mut().for_each(|x| *x += 0.05 * 0.06 * random.normal());
    put(quant, EDITED, &values);
}

const CHANGES: [(&str, Change); 5] = [
    ("a byte", flip_a_byte),
    ("a direction", add_a_direction),
    ("another model", of_another_model),
    ("another block", of_another_block),
    ("tuning", tune),
];

#[test]
fn one_tensor_that_was_changed_is_found_and_named() {
    let place = Place::new(&wide());
    let stats = place.stats.display().to_string();
    for (ftype, name) in [(15, "Q4_K_M"), (2, "Q4_0"), (7, "Q8_0"), (30, "IQ4_XS"), (18, "Q6_K")] {
        for (what, change) in CHANGES {
            let quant = place.quantized(ftype, false);
            change(&place, &quant);
            let report = report(&place.origin(&quant, &["--json", "--imatrix", &stats]));
            assert_eq!(report.verdict, Verdict::No, "{name}, {what}");
            let found: Vec<&str> = not_its(&report).iter().map(|t| t.name.as_str()).collect();
            assert_eq!(found, [EDITED], "{name}, {what}");
        }
    }
}

#[test]
fn a_change_is_found_where_the_importance_matrix_is_not_at_hand() {
    let place = Place::new(&wide());
    for (ftype, name) in [(15, "Q4_K_M"), (18, "Q6_K"), (30, "IQ4_XS")] {
        for (what, change) in CHANGES {
            let quant = place.quantized(ftype, true);
            change(&place, &quant);
            let report = report(&place.origin(&quant, &["--json"]));
            let found: Vec<&str> = not_its(&report).iter().map(|t| t.name.as_str()).collect();
            assert_eq!(found, [EDITED], "{name}, {what}");
        }
    }
}

#[test]
fn a_scale_that_is_not_a_number_is_named() {
    let place = Place::new(&wide());
    let quant = place.quantized(15, false);
    // The first block's d.
    scribble(&quant, EDITED, 0, &0x7e00u16.to_le_bytes());
    let report = report(&place.origin(&quant, &["--json"]));
    let [tensor] = not_its(&report)[..] else { panic!("{:?}", not_its(&report)) };
    assert_eq!((tensor.name.as_str(), &tensor.reasons[..]), (EDITED, &[Reason::NotFinite][..]));
}

#[test]
fn another_model_of_the_same_shapes_is_no() {
    let place = Place::new(&wide());
    let folder = tempdir();
    let other = wide().seed(2).write(folder.path());
    let output = origin(&place.quantized(15, false), &other, &[]);
    assert_eq!(output.status.code(), Some(3));
    let text = stdout(&output);
    assert!(text.contains("no, not the original's quant"), "{text}");
    assert!(stderr(&output).contains("not the original's quant"), "{}", stderr(&output));
}

#[test]
fn experts_ties_shards_and_float_files_between_are_known() {
    for tiny in [
        Tiny::new(Arch::Qwen3Moe).wide(256).seed(1),
        Tiny::new(Arch::Qwen2).wide(256).ty(GgmlType::BF16).seed(1),
        wide().shards(3),
    ] {
        let place = Place::new(&tiny);
        let stats = place.stats.display().to_string();
        let quant = place.quantized(15, true);
        let report = report(&place.origin(&quant, &["--json", "--imatrix", &stats]));
        let arch = tiny.arch.name();
        assert_eq!(report.counts.equal, report.tensors.len(), "{arch}: {:?}", not_its(&report));
    }
    // An F32 original that a converter wrote as F16 first.
    let place = Place::new(&Tiny::new(Arch::Llama).wide(256).seed(1));
    let [f16, quant] = ["f16.gguf", "q.gguf"].map(|name| place.folder.path().join(name));
    let mix = |ftype| Mix { ftype, imatrix: &[], pure: false };
    assert!(quantize_mix(&place.original, &f16, &mix(1)));
    assert!(quantize_mix(&f16, &quant, &mix(15)));
    let report = report(&place.origin(&quant, &["--json"]));
    assert_eq!(report.counts.equal, report.tensors.len(), "{:?}", not_its(&report));
}

#[test]
fn an_original_of_8_bits_is_one_and_a_quant_of_what_it_came_from_is_within() {
    let place = Place::new(&wide());
    let q8 = place.quantized(7, false);
    let quant = place.folder.path().join("q.gguf");
    assert!(quantize_mix(&q8, &quant, &Mix { ftype: 15, imatrix: &[], pure: false }));
    let made_of_it = report(&origin(&quant, &q8, &["--json"]));
    assert_eq!(made_of_it.counts.equal, made_of_it.tensors.len());
    assert!(made_of_it.original_is_quantized);
    let of_the_float = report(&origin(&place.quantized(15, false), &q8, &["--json"]));
    assert_eq!(of_the_float.verdict, Verdict::Yes, "{:?}", not_its(&of_the_float));
}

#[test]
fn what_the_history_says_is_explained_and_not_accepted_unless_asked() {
    let place = Place::new(&wide());
    let folder = place.folder.path();
    let direction = crate::support::direction(folder, &wide());
    let quant = place.quantized(15, false);
    let repaired = folder.join("repaired.gguf");
    let output = aird()
        .args(["repair", "--block", "1:mlp", "--alpha", "1", "--direction"])
        .arg(&direction)
        .arg(&quant)
        .arg("-o")
        .arg(&repaired)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let output = place.origin(&repaired, &["--json"]);
    let found = report(&output);
    assert_eq!(found.verdict, Verdict::Edited);
    let [tensor] = not_its(&found)[..] else { panic!("{:?}", not_its(&found)) };
    assert_eq!(tensor.name, "blk.1.ffn_down.weight");
    assert_eq!(tensor.explained_by.as_deref(), Some("repair of blocks 1:mlp"));
    let text = stdout(&place.origin(&repaired, &[]));
    assert!(text.contains("history: repair of blocks 1:mlp"), "{text}");
    let accepted = place.origin(&repaired, &["--accept-history"]);
    assert_eq!(accepted.status.code(), Some(0), "{}", stderr(&accepted));
    // A change that it does not name is none of its.
    scribble(&repaired, "blk.0.ffn_down.weight", 40, &[0x55; 64]);
    assert_eq!(report(&place.origin(&repaired, &["--json"])).verdict, Verdict::No);
    assert_eq!(place.origin(&repaired, &["--accept-history"]).status.code(), Some(3));
}

#[test]
fn tensors_keys_and_shapes_that_differ_are_named_and_other_architectures_refused() {
    let folder = tempdir();
    let write = |name: &str, arch: &str, tensors: &[(&str, u64)]| {
        let mut file = Builder::new();
        file.kv("general.architecture", arch).kv("tokenizer.chat_template", name);
        for (name, n) in tensors {
            let bytes = vec![0; 4 * *n as usize];
            file.tensor(name, &[*n], GgmlType::F32, bytes).unwrap();
        }
        let path = folder.path().join(name);
        file.write(&path).unwrap();
        path
    };
    let a = write("a.gguf", "llama", &[("same", 4), ("shape", 4), ("new", 4)]);
    let b = write("b.gguf", "llama", &[("same", 4), ("shape", 8), ("old", 4)]);
    let found = report(&origin(&a, &b, &["--json"]));
    let reasons: Vec<_> = not_its(&found).iter().map(|t| (t.name.as_str(), t.reasons[0])).collect();
    let expected = [("shape", Reason::Shape), ("new", Reason::Added), ("old", Reason::Missing)];
    assert_eq!(reasons, expected);
    assert_eq!(found.keys, ["tokenizer.chat_template"]);
    let other = write("c.gguf", "qwen2", &[("same", 4)]);
    let output = origin(&a, &other, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing can be compared"), "{}", stderr(&output));
}

#[test]
fn a_real_quant_is_its_originals() {
    let Some(source) = real_model() else { return };
    let folder = tempdir();
    let [f16, quant] = ["f16.gguf", "q.gguf"].map(|name| folder.path().join(name));
    let output = aird()
        .args(["quantize", "--method", "rtn", "--type", "f16", "--requantize"])
        .arg(&source)
        .arg("-o")
        .arg(&f16)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(quantize_mix(&f16, &quant, &Mix { ftype: 15, imatrix: &[], pure: false }));
    let report = report(&origin(&quant, &f16, &["--json"]));
    assert_eq!(report.counts.equal, report.tensors.len(), "{:?}", not_its(&report));
}
