//! Every architecture of llama.cpp by a tiny model of it: its structure is as it was reviewed,
//! every verb takes it, folded scales cancel, sums are made of what is said to write into them, and
//! an edit doubles exactly what arrives along r.

use std::collections::{BTreeMap, HashSet};
use std::panic::{RefUnwindSafe, catch_unwind};
use std::path::Path;

use aird::direction::{Direction, Shape, capture};
use aird::gguf::{Layout, Model, Rewrite, Unwatched, within_block};
use aird::llama::graph::{Link, Part, Point, PointKind, Structure, Writer};
use aird::llama::{Engine, Hooks, Input, Options, Prefill, Session, Site, Size};
use aird::quant::decoded;
use aird::repair::{
    Arrived, Asked, Edit, Half, Storage, Zeros, apply, arrivals, check_asked, edit,
};

use indexmap::IndexSet;
use serde_json::Value;

use crate::compress::{Scales, folded};
use crate::support::architectures::{Facts, all};
use crate::support::direction::{about, wave};
use crate::support::random::Random;
use crate::support::{aborts_with_amx, aird, json, prober, run, stderr, stdout, tempdir};

const STRUCTURES: &str = "fixtures/architectures/structures.txt";
const DOCS: &str = "docs/architectures.md";
/// Set, files are written instead of compared with.
const BLESS: &str = "AIRD_BLESS";
/// Tests that share the models between them, so that they run side by side.
const N_PARTS: usize = 4;

/// For each model what `aird inspect --structure` says of it: the table, which a person can review,
/// and the report.
fn structures() -> Vec<(Facts, String, Value)> {
    let folder = tempdir();
    let path = folder.path().join("model.gguf");
    let inspected = |facts: Facts| {
        facts.write(&path);
        let words = ["inspect", "--quick", "--structure"].map(Path::new);
        let output = run(&[&words[..], &[&path]].concat());
        assert!(output.status.success(), "{}: {}", facts.name, stderr(&output));
        let text = stdout(&output);
        let from = text.find("  structure\n").unwrap_or_else(|| panic!("{}: {text}", facts.name));
        let to = text.find("  history").unwrap();
        let table = text[from..to].replacen("structure", &facts.name, 1);
        (facts, table, json(&[&words[..], &[&path]].concat()))
    };
    all().into_iter().map(inspected).collect()
}

#[test]
fn the_structure_of_every_architecture_is_the_one_that_was_reviewed() {
    let structures = structures();
    let tables: String = structures.iter().map(|(_, table, _)| table.as_str()).collect();
    blessed(STRUCTURES, &tables);
    let docs = std::fs::read_to_string(crate::support::root().join(DOCS)).unwrap();
    let (text, _) = docs.split_once("-->\n").unwrap();
    let rows: String = structures.iter().map(|(facts, _, report)| row(facts, report)).collect();
    let head = "| model | adds | norms | AWQ | not read |\n|---|---|---|---|---|\n";
    blessed(DOCS, &format!("{text}-->\n\n{head}{rows}"));
}

/// Compares a file of the project with `found`, or writes it.
fn blessed(name: &str, found: &str) {
    let path = crate::support::root().join(name);
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    let differs = found.lines().zip(kept.lines()).find(|(found, kept)| found != kept);
    assert_eq!(differs, None, "found, and kept in {name}; {BLESS}=1 rewrites it");
    assert_eq!(found.len(), kept.len(), "{name}; {BLESS}=1 rewrites it");
}

/// A model's line in the docs.
fn row(facts: &Facts, report: &Value) -> String {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|x| x.as_str().unwrap().to_owned()).collect()
    };
    let structure = &report["structure"];
    let blocks = structure["blocks"].as_array().unwrap();
    let part =
        |key: &'static str| blocks.iter().flat_map(move |b| b[key].as_array().unwrap().clone());
    let writers = part("adds").flat_map(|add| add["writers"].as_array().unwrap().clone());
    let writers: Vec<Value> = writers.collect();
    let of = |half: &str| {
        let of_half = writers.iter().filter(|writer| writer["part"] == half);
        let names = of_half.map(|writer| writer["name"].as_str().unwrap().replace(".weight", ""));
        names.collect::<IndexSet<String>>()
    };
    let adds: Vec<String> = of("attention").into_iter().chain(of("mlp")).collect();
    let hidden = part("adds").any(|add| !add["obstacle"].is_null());
    let norms = writers.iter().flat_map(|writer| {
        let through = texts(&writer["through"]);
        let at = through.iter().position(|link| link == "norm");
        at.map_or(Vec::new(), |at| through[at + 1..].to_vec())
    });
    let norms: IndexSet<String> = norms.collect();
    let (n_folded, n) =
        (part("reads").filter(|r| r["foldable"] == true).count(), part("reads").count());
    let is_matrix = |name: &String| name.starts_with("blk.") && name.ends_with(".weight");
    let unread = texts(&structure["unread"]).into_iter().filter(is_matrix);
    let unread: IndexSet<String> = unread
        .map(|name| within_block(&name).unwrap().trim_end_matches(".weight").to_owned())
        .collect();
    let list = |names: Vec<String>| names.join(", ");
    format!(
        "| {} | {}{} | {} | {n_folded}/{n} | {} |\n",
        facts.name,
        list(adds),
        if hidden { ", others hidden" } else { "" },
        list(norms.into_iter().collect()),
        list(unread.into_iter().collect())
    )
}

/// The models of one part, each written to a folder of its own; names all that fail.
fn each(part: usize, check: impl Fn(&Facts, &Path) + RefUnwindSafe) {
    let mut failed = Vec::new();
    for facts in all().iter().skip(part).step_by(N_PARTS).filter(|facts| !is_encoder(facts)) {
        let folder = tempdir();
        let path = folder.path().join("model.gguf");
        facts.write(&path);
        if catch_unwind(|| check(facts, &path)).is_err() {
            failed.push(facts.name.clone());
        }
    }
    assert!(failed.is_empty(), "see above: {failed:?}");
}

/// It gives no logits.
fn is_encoder(facts: &Facts) -> bool {
    facts.architecture == "bert"
}

/// It has four residual streams that are mixed at every block: nothing leads from the
/// embeddings to logits by sums alone.
fn has_no_stream(facts: &Facts) -> bool {
    facts.architecture == "gemma3n"
}

/// `check` as tests, one a part.
macro_rules! in_parts {
    ($check:ident: $($name:ident $part:literal,)*) => {
        $(#[test] fn $name() { each($part, $check); })*
    };
}

in_parts! { verbs:
    every_verb_takes_every_architecture_first_part 0,
    every_verb_takes_every_architecture_second_part 1,
    every_verb_takes_every_architecture_third_part 2,
    every_verb_takes_every_architecture_last_part 3,
}

in_parts! { edits:
    an_edit_doubles_what_arrives_along_the_direction_first_part 0,
    an_edit_doubles_what_arrives_along_the_direction_second_part 1,
    an_edit_doubles_what_arrives_along_the_direction_third_part 2,
    an_edit_doubles_what_arrives_along_the_direction_last_part 3,
}

in_parts! { folds:
    folded_scales_cancel_in_every_architecture_first_part 0,
    folded_scales_cancel_in_every_architecture_second_part 1,
    folded_scales_cancel_in_every_architecture_third_part 2,
    folded_scales_cancel_in_every_architecture_last_part 3,
}

fn verbs(facts: &Facts, model: &Path) {
    let folder = model.parent().unwrap();
    let text = crate::support::root().join("fixtures/imatrix/text.txt");
    let text = text.to_str().unwrap();
    let runs = |words: &str| {
        let mut words = words.split(' ');
        let mut command = aird();
        command.current_dir(folder).arg(words.next().unwrap()).arg(model).args(words);
        command.args(["--threads", "1"]).output().unwrap()
    };
    let command = |words: &str| {
        let output = runs(words);
        assert!(output.status.success(), "{} {words}: {}", facts.name, stderr(&output));
    };
    command("verify");
    command(&format!("calibrate --data {text} --ctx 64 --samples 4 -o stats.gguf"));
    command("prune --method wanda --sparsity 0.5 --stats stats.gguf -o pruned.gguf");
    for words in
        ["quantize --method int8 -o int8.gguf", "quantize --method rtn --type q4_0 -o q4_0.gguf"]
    {
        match runs(words) {
            output if aborts_with_amx(&output) => println!("{}: aborts with AMX", facts.name),
            output => {
                assert!(output.status.success(), "{} {words}: {}", facts.name, stderr(&output))
            }
        }
    }
    let direction = folder.join("d.safetensors");
    let n_embd = Model::open(model).unwrap().needed_hparam("embedding_length").unwrap();
    let candidates = wave(2, n_embd as usize);
    let about = about(&facts.architecture);
    Direction { candidates, about }.write(&direction).unwrap();
    // Its graph has no down projection: what reaches the sum is a gated product.
    let block = if facts.name == "refact-moe" { "0:attention" } else { "0" };
    if has_no_stream(facts) {
        let output = runs("repair --direction d.safetensors --block 0 --alpha 1 -o out.gguf");
        assert!(stderr(&output).contains("has no residual stream"), "{}", stderr(&output));
        return;
    }
    command(&format!("repair --direction d.safetensors --block {block} --alpha 1 -o out.gguf"));
}

const PROMPT: &str = "Tell me two stories";
const OPTIONS: Options = Options::cpu(1);

/// Logits of every token, and what was at every site.
struct Seen {
    sites: BTreeMap<Site, Vec<Vec<f32>>>,
    logits: Vec<f32>,
}

impl Seen {
    fn read(path: &Path, with_sites: bool) -> Seen {
        Seen::read_prompt(path, PROMPT, with_sites)
    }

    fn read_prompt(path: &Path, prompt: &str, with_sites: bool) -> Seen {
        let engine = Engine::load(path, OPTIONS).unwrap();
        let size = Size { n_ctx: 64, n_batch: 64, n_seq: 1, unified: true };
        let mut session = Session::new(&engine, size).unwrap();
        let tokens = engine.tokenize(prompt, false);
        let inputs: Vec<Input> = (0u32..)
            .zip(&tokens)
            .map(|(position, &token)| Input { token, position, sequence: 0, logits: true })
            .collect();
        let mut sites = BTreeMap::<Site, Vec<Vec<f32>>>::new();
        let mut hooks = Hooks::new().read(
            |_| true,
            |site, _, row| {
                sites.entry(site).or_default().push(row.to_vec());
                Ok(())
            },
        );
        session.decode(&inputs, with_sites.then_some(&mut hooks)).unwrap();
        drop(hooks);
        let rows = (0..tokens.len()).flat_map(|row| session.logits(row).unwrap().to_vec());
        Seen { sites, logits: rows.collect() }
    }

    /// What is added between point `place` and the one before, row by row.
    fn added(&self, place: usize) -> Vec<Vec<f64>> {
        let [before, after] = [place - 1, place].map(|place| &self.sites[&Site::Point(place)]);
        let row = |(a, b): (&Vec<f32>, &Vec<f32>)| -> Vec<f64> {
            a.iter().zip(b).map(|(a, b)| f64::from(*b) - f64::from(*a)).collect()
        };
        before.iter().zip(after).map(row).collect()
    }
}

fn folds(facts: &Facts, path: &Path) {
    let before = Seen::read(path, false).logits;
    let out = folded(path, Scales::PowersOfTwo, |all| all);
    let after = Seen::read(&out, false).logits;
    let size = before.iter().map(|x| x.abs()).fold(0.0, f32::max);
    let off = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size;
    assert!(off <= 1e-4, "{}: logits are off by {off}", facts.name);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(row: &[f32]) -> f64 {
    row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

/// `|a - s b| / |a|`.
fn off(a: &[f64], s: f64, b: &[f64]) -> f64 {
    let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - s * b).collect();
    (dot(&difference, &difference) / dot(a, a)).sqrt()
}

fn edits(facts: &Facts, path: &Path) {
    let model = Model::open(path).unwrap();
    let structure = prober().structure(&model).unwrap();
    if has_no_stream(facts) {
        assert!(structure.check_stream().is_err());
        return;
    }
    let before = Seen::read(path, true);
    check_sums(facts, &model, &structure, &before);
    check_capture(facts, path, &structure, &before);
    let normals = Random::new(7).normals(before.sites[&Site::Point(0)][0].len(), 1.0);
    let unit = aird::direction::unit(&normals).unwrap();
    let mut edited = HashSet::new();
    for (place, point) in structure.points.iter().enumerate() {
        let halves: HashSet<Half> = point.writers.iter().map(Half::of).collect();
        // What comes behind an edited sum reads another stream.
        if !halves.is_empty() && halves.iter().all(|half| edited.insert(*half)) {
            let out = path.with_extension("edited.gguf");
            let halves: Vec<Half> = halves.into_iter().collect();
            write_edit(&model, asked(&structure, (&unit, &halves)), &out);
            let what = format!("{} point {place}", facts.name);
            let after = Seen::read(&out, true);
            let slack = slack(facts, point);
            if facts.name.ends_with("-wide") {
                let asked = asked(&structure, (&unit, &halves));
                check_wide(&what, (&model, path), asked, (&before, &after, place));
                continue;
            }
            let factor = check_edit(&what, (place, point), (&unit, slack), (&before, &after));
            let edit = asked(&structure, (&unit, &halves));
            check_measured(&what, (&model, path), edit, (factor, slack));
        }
    }
    assert!(!edited.is_empty(), "{} has nothing to edit", facts.name);
}

/// What keeps an edit from being exact up to one factor a token.
fn slack(facts: &Facts, point: &Point) -> f64 {
    let n_norms = |writer: &Writer| writer.links.iter().filter(|l| **l == Link::RmsNorm).count();
    match facts.architecture.as_str() {
        // Its chunk experts read what its experts write, and so the edit.
        "grovemoe" => 2e-2,
        // Norms of the experts and of the dense MLP before they are summed, each with its factor.
        _ if point.writers.iter().any(|writer| n_norms(writer) > 1) => 5e-2,
        _ => 0.0,
    }
}

fn asked<'a>(structure: &'a Structure, (unit, halves): (&'a [f32], &'a [Half])) -> Edit<'a> {
    let (storage, zeros) = (Storage::Keep, Zeros::Keep);
    Edit { unit, alpha: 1.0, halves, storage, zeros, structure }
}

/// What `repair` says that norms leave is what they leave.
fn check_measured(
    what: &str,
    (model, path): (&Model, &Path),
    edit: Edit<'_>,
    (factor, slack): (f64, f64),
) {
    let slack = 1e-4 + slack;
    let engine = Engine::load(path, OPTIONS).unwrap();
    let tokens = engine.tokenize(PROMPT, false);
    // A later sum of the half reads what the first one changed.
    let measured = arrivals((model, &engine), edit, &[&tokens]).unwrap();
    for Arrived { along, across, astray, .. } in measured.into_iter().take(1) {
        assert!((across / factor - 1.0).abs() < slack, "{what}: {across}, found {factor}");
        assert!((along / across / 2.0 - 1.0).abs() < slack, "{what}: {along}, {across}");
        assert!(astray < 1e-2 + 10.0 * slack, "{what}: {astray}");
    }
}

/// Where gains differ by thousands no edit is exact: what arrives is more along r, and as measured.
fn check_wide(
    what: &str,
    (model, path): (&Model, &Path),
    edit: Edit<'_>,
    (before, after, place): (&Seen, &Seen, usize),
) {
    let r: Vec<f64> = edit.unit.iter().map(|x| f64::from(*x)).collect();
    let along = |seen: &Seen| dot(seen.added(place).last().unwrap(), &r);
    let found = along(after) / along(before);
    let engine = Engine::load(path, OPTIONS).unwrap();
    let tokens = engine.tokenize(PROMPT, false);
    let measured = arrivals((model, &engine), edit, &[&tokens]).unwrap().remove(0);
    assert!((measured.along / found - 1.0).abs() < 1e-3, "{what}: {measured:?}, found {found}");
    assert!(found > 1.5 && found < 2.3, "{what}: {found}");
    assert!(measured.astray > 0.1, "{what}: {measured:?}");
}

fn write_edit(model: &Model, asked: Edit<'_>, out: &Path) {
    let edited = edit(model, asked, &Unwatched).unwrap();
    let mut rewrite = Rewrite::new(model, Layout::Single);
    apply(&mut rewrite, &edited).unwrap();
    rewrite.write(out, true, &Unwatched).unwrap();
}

/// What arrives is `(I + r r^T)` of what arrived; behind a norm, times one number a token: that of
/// the last one.
fn check_edit(
    what: &str,
    (place, point): (usize, &Point),
    (unit, slack): (&[f32], f64),
    (before, after): (&Seen, &Seen),
) -> f64 {
    let mut last = 1.0;
    let r: Vec<f64> = unit.iter().map(|x| f64::from(*x)).collect();
    let normed = point.writers.iter().any(Writer::is_normed);
    let stream = before.sites[&Site::Point(place)].iter().map(|row| length(row));
    let rows = before.added(place).into_iter().zip(after.added(place)).zip(stream);
    for ((old, new), stream) in rows {
        let along = dot(&old, &r);
        let expected: Vec<f64> = old.iter().zip(&r).map(|(x, r)| x + along * r).collect();
        let factor = dot(&new, &expected) / dot(&expected, &expected);
        // The stream is held in f32: of a small sum its rounding is more.
        let most = slack + 1e-5 + 1e-6 * stream / dot(&expected, &expected).sqrt();
        let factors = if normed { 0.7..1.01 } else { 1.0 - most..1.0 + most };
        assert!(factors.contains(&factor), "{what}: all of it {factor} times");
        let off = off(&new, factor, &expected);
        assert!(off < most, "{what}: off by {off}, expected {most} at most");
        last = factor;
    }
    last
}

/// What `direction` captures is the stream at the input of every block.
fn check_capture(facts: &Facts, path: &Path, structure: &Structure, seen: &Seen) {
    let engine = Engine::load(path, OPTIONS).unwrap();
    let tokens = engine.tokenize(PROMPT, false);
    if ["dream", "llada", "llada-moe", "rnd1"].contains(&&*facts.architecture) {
        let error = Prefill::new(&engine, tokens.len(), 1).err().unwrap().to_string();
        assert!(error.contains("read a whole text at once"), "{error}");
        return;
    }
    // Read together, prompts of different lengths.
    let (other, short) = (Seen::read_prompt(path, "No", true), engine.tokenize("No", false));
    let inputs = structure.inputs(engine.n_block());
    let n_embd = engine.n_embd();
    let shape = Shape { inputs: &inputs, n_pos: 2, n_embd, refusal_tokens: &[0] };
    let mut prefill = Prefill::new(&engine, tokens.len(), 4).unwrap();
    let captured = capture(&mut prefill, &[&tokens, &short], shape, |_| true).unwrap();
    for (layer, place) in inputs.iter().enumerate() {
        for behind in 0..2 {
            let [a, b] = [seen, &other].map(|seen| {
                let rows = &seen.sites[&Site::Point(*place)];
                &rows[rows.len() - 1 - behind]
            });
            let sums = captured.sums.at(layer, behind).iter().zip(a.iter().zip(b));
            let errors = sums.map(|(sum, (a, b))| (sum - f64::from(*a) - f64::from(*b)).powi(2));
            let off = errors.sum::<f64>().sqrt() / (length(a) + length(b));
            assert!(off < 1e-2, "{}: layer {layer}, {behind} from the last: {off}", facts.name);
        }
    }
}

/// Every sum is what its writers put out, through what is said to stand behind them; a constant
/// factor, as minicpm's, apart.
fn check_sums(facts: &Facts, model: &Model, structure: &Structure, seen: &Seen) {
    for (place, point) in structure.points.iter().enumerate() {
        let outputs = structure.outputs_of(place);
        if point.kind != PointKind::Sum || outputs.is_empty() || !is_plain(point) {
            continue;
        }
        let added = seen.added(place).concat();
        let mut written = vec![0.0; added.len()];
        for (writer, output) in point.writers.iter().zip(outputs) {
            let rows = &seen.sites[&Site::Output(output)];
            let arriving = rows.iter().flat_map(|row| arriving(model, writer, row));
            written.iter_mut().zip(arriving).for_each(|(sum, x)| *sum += x);
        }
        let factor = dot(&added, &written) / dot(&written, &written);
        // The norm's epsilon is in none of these numbers.
        let normed = point.writers.iter().any(Writer::is_normed);
        let most = if normed { 1e-2 } else { 1e-4 };
        let scaled = facts.name.contains("minicpm") || facts.name == "granite-scaled";
        assert!(scaled || (factor - 1.0).abs() < most, "{} {place}: {factor} times", facts.name);
        let off = off(&added, factor, &written);
        assert!(off < most, "{} point {place}: off by {off}", facts.name);
    }
}

/// True where each writer's part can be computed by itself.
fn is_plain(point: &Point) -> bool {
    let links = || point.writers.iter().flat_map(|writer| &writer.links);
    let routed = links().any(|link| *link == Link::Routed);
    let alone = point.writers.len() == 1 || !point.writers.iter().any(Writer::is_normed);
    !routed && alone && point.writers.iter().all(|writer| !writer.experts)
}

/// What of a row that `writer` puts out arrives in the residual stream.
fn arriving(model: &Model, writer: &Writer, row: &[f32]) -> Vec<f64> {
    let vector = |name: &String| -> Vec<f64> {
        let tensor = model.tensor(name).unwrap();
        decoded(tensor, 0..1).unwrap().iter().map(|x| f64::from(*x)).collect()
    };
    let mut row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
    for link in &writer.links {
        match link {
            Link::Bias(name) => row.iter_mut().zip(vector(name)).for_each(|(x, b)| *x += b),
            Link::Gains(name) => row.iter_mut().zip(vector(name)).for_each(|(x, g)| *x *= g),
            Link::Scale(name) => {
                let scale = vector(name)[0];
                row.iter_mut().for_each(|x| *x *= scale);
            }
            Link::RmsNorm => {
                let root = (dot(&row, &row) / row.len() as f64).sqrt();
                row.iter_mut().for_each(|x| *x /= root);
            }
            Link::Routed => unreachable!("not a plain point"),
        }
    }
    row
}

#[test]
fn what_hides_behind_a_node_that_is_not_linear_is_not_edited() {
    let folder = tempdir();
    let path = folder.path().join("model.gguf");
    all().iter().find(|facts| facts.name == "refact-moe").unwrap().write(&path);
    let structure = prober().structure(&Model::open(&path).unwrap()).unwrap();
    for (block, parts) in [(0, &[Part::Attention, Part::Mlp][..]), (1, &[Part::Mlp])] {
        let halves: Vec<Half> = parts.iter().map(|&part| Half { block, part }).collect();
        let asked = Asked { alpha: 1.0, halves: &halves, structure: &structure };
        let error = check_asked(asked).unwrap_err().to_string();
        let expected = format!("graph has node 'ffn_out-{block}' (UNARY), which is not linear");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn an_encoder_is_pruned_and_quantized_and_not_repaired() {
    let folder = tempdir();
    let path = folder.path().join("model.gguf");
    all().iter().find(|facts| is_encoder(facts)).unwrap().write(&path);
    let model = Model::open(&path).unwrap();
    let structure = prober().structure(&model).unwrap();
    let error = structure.check_stream().unwrap_err().to_string();
    assert!(error.contains("bert models cannot be read or edited along a direction"), "{error}");
    assert_eq!(structure.groups.len(), 2 * 4);
}
