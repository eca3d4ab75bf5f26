//! `aird tasks`: figures are those of the definition, runs that were cut off go on to the same
//! bytes, and what is wrong with data is said with its line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aird::eval::tasks::{self, Item, Run, Scored, evaluate, task};
use aird::llama::{Engine, Options, Scorer, Session, Size, Text, prompt_inputs};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Arch, Tiny, aird, names_in, real_model, run, stderr, stdout, tempdir};

const ONE: Options = Options { threads: 1, gpu_layers: 0 };
const SCENES: [[&str; 6]; 3] = [
    [
        "Making tea: A man fills a kettle with water and puts it on the stove. he",
        "1",
        "sings to the kettle in a foreign language.",
        "waits until the water boils.",
        "waits until the moon comes down.",
        "throws the stove out of the window.",
    ],
    [
        "Mending a bike: A girl turns her bicycle upside down. she",
        "0",
        "takes the wheel off and looks for the hole.",
        "takes the wheel off and eats it.",
        "is a bicycle.",
        "rides home.",
    ],
    [
        "Painting: The wall is covered with paper first. then",
        "3",
        "a horse",
        "paper covers the paper",
        "they swim",
        "they paint it white",
    ],
];

/// Rows of every task, `n` of each, in our own words.
fn data(folder: &Path, n: usize) -> PathBuf {
    let write = |name: &str, row: &dyn Fn(usize) -> Value| {
        let lines: Vec<String> = (0..n).map(|i| row(i).to_string() + "\n").collect();
        fs::write(folder.join(name), lines.concat()).unwrap();
    };
    write("rte_val.jsonl", &|i| {
        let label = if i % 2 == 0 { "entailment" } else { "not_entailment" };
        let premise = format!("Number {i} is painted on the door.");
        json!({"premise": premise, "hypothesis": "The door is blue.", "label": label, "idx": i})
    });
    write("boolq_dev.jsonl", &|i| {
        let passage = format!("Rivers run to the sea, all {i} of them.");
        let question = "do rivers run uphill";
        json!({"question": question, "title": "Rivers", "answer": i % 3 == 0, "passage": passage})
    });
    write("arc_easy_test.jsonl", &|i| {
        let choices = json!([{"text": "a stone", "label": "A"}, {"text": "a fish", "label": "B"}]);
        let stem = format!("Which of these {i} can swim?");
        json!({"id": i, "question": {"stem": stem, "choices": choices}, "answerKey": "B"})
    });
    write("winogrande_dev.jsonl", &|i| {
        let sentence = format!("The box did not fit into the bag, since _ was {i} inches high.");
        json!({"sentence": sentence, "option1": "the box", "option2": "the bag", "answer": "1"})
    });
    let scenes: Vec<String> = (0..n).map(|i| SCENES[i % SCENES.len()].join("\n") + "\n").collect();
    fs::write(folder.join("hellaswag_val.txt"), scenes.concat()).unwrap();
    folder.to_owned()
}

const TASKS: &str = "rte,arc_easy,boolq,winogrande,hellaswag";

fn measure(models: &[&Path], data: &Path, more: &[&str]) -> Value {
    let output = aird()
        .arg("tasks")
        .args(models)
        .args([Path::new("--data-dir"), data])
        .args(["--tasks", TASKS, "--threads", "1", "--json"])
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The contract of `--json`, read strictly.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // that it is read at all is the test
struct Report {
    version: String,
    limit: usize,
    seed: Option<u64>,
    chat: bool,
    reference: Option<Name>,
    models: Vec<Figures>,
    differences: Vec<Compared>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Name {
    name: String,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Figures {
    name: String,
    sha256: String,
    tasks: BTreeMap<String, Tally>,
    perplexity: Option<Perplexity>,
    kl: Option<Kl>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Tally {
    n: usize,
    acc: Rate,
    acc_norm: Option<Rate>,
    acc_per_token: Option<Rate>,
    n_cut: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Rate {
    k: usize,
    n: usize,
    rate: Option<f64>,
    low: f64,
    high: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Mean {
    n: usize,
    mean: Option<f64>,
    low: f64,
    high: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Perplexity {
    ppl: f64,
    ppl_error: f64,
    nll: Mean,
    n_ctx: usize,
    n_chunks: usize,
    n_tokens: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Kl {
    mean: Mean,
    median: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    max: f64,
    same_top: Rate,
    n_tokens: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Compared {
    model: String,
    against: String,
    task: String,
    metric: String,
    n: usize,
    points: f64,
    lost: usize,
    gained: usize,
    p: f64,
}

#[test]
fn the_report_holds_what_it_promises() {
    let folder = tempdir();
    let [a, b] = [1, 2].map(|seed| {
        let own = folder.path().join(seed.to_string());
        fs::create_dir(&own).unwrap();
        Tiny::new(Arch::Llama).seed(seed).write(&own)
    });
    let data = data(folder.path(), 5);
    let text = folder.path().join("text.txt");
    fs::write(&text, "The rain in the hills runs down to the river. ".repeat(30)).unwrap();
    let text = text.to_str().unwrap();
    let more = ["--limit", "4", "--text", text, "--ctx", "64", "--reference", a.to_str().unwrap()];
    let json = measure(&[&a, &b], &data, &more);
    let report: Report = serde_json::from_value(json).unwrap();
    let [first, second] = &report.models[..] else { panic!("two models") };
    assert_ne!(first.name, second.name);
    assert!(first.tasks.values().all(|t| t.n == 4 && t.acc.n == 4 && t.n_cut == 0));
    assert!(first.tasks["rte"].acc_norm.is_none() && first.tasks["arc_easy"].acc_norm.is_some());
    assert!(first.tasks["hellaswag"].acc_per_token.is_some());
    // arc_easy has two metrics, hellaswag three.
    assert_eq!(report.differences.len(), 8);
    for d in &report.differences {
        let points = 100.0 * (d.gained as f64 - d.lost as f64) / d.n as f64;
        assert!((d.points - points).abs() < 1e-9 && d.p <= 1.0);
    }
    let (own, other) = (first.kl.as_ref().unwrap(), second.kl.as_ref().unwrap());
    assert!(own.max < 1e-5 && own.same_top.rate == Some(1.0), "{} to itself", own.max);
    assert!(other.mean.mean.unwrap() > 0.0 && other.median <= other.p99);
    let perplexity = first.perplexity.as_ref().unwrap();
    assert!((perplexity.nll.mean.unwrap().exp() / perplexity.ppl - 1.0).abs() < 1e-9);
    assert_eq!(perplexity.n_tokens, perplexity.n_chunks * 31);

    let output = aird()
        .args([Path::new("tasks"), &a, &b, Path::new("--data-dir"), &data])
        .args(["--tasks", "rte,hellaswag", "--limit", "4", "--threads", "1", "--chat"])
        .output()
        .unwrap();
    let text = stdout(&output);
    for expected in ["rte", "  by token", " % [", "against tiny-llama", "gained"] {
        assert!(text.contains(expected), "{expected}: {text}{}", stderr(&output));
    }
}

#[test]
fn a_run_that_was_cut_off_goes_on_to_the_same_bytes() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(3).write(folder.path());
    // More items than a segment holds.
    let data = data(folder.path(), 40);
    let results = folder.path().join("results");
    let go = || measure(&[&model], &data, &["--results", results.to_str().unwrap()]);
    let read = || -> Vec<(String, String)> {
        let read = |name: String| (fs::read_to_string(results.join(&name)).unwrap(), name);
        names_in(&results).into_iter().map(read).map(|(text, name)| (name, text)).collect()
    };
    let report = go();
    let whole = read();
    assert_eq!(whole.len(), 5);
    assert!(whole.iter().all(|(_, text)| text.lines().count() == 41 && !text.contains('/')));
    for (name, text) in &whole {
        for cut in [10, text.len() / 2, text.len() - 9] {
            fs::write(results.join(name), &text[..cut]).unwrap();
        }
    }
    assert_eq!(go(), report);
    assert_eq!(read(), whole);
    // All there: nothing is computed, nothing changes.
    assert_eq!(go(), report);
    assert_eq!(read(), whole);
    // Other settings are refused, and leave the files alone.
    let output = aird()
        .args([Path::new("tasks"), &model, Path::new("--data-dir"), &data])
        .args([Path::new("--results"), &results])
        .args(["--tasks", "rte", "--seed", "1", "--threads", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("seed is null there, 1 now"), "{}", stderr(&output));
    assert_eq!(read(), whole);
}

#[test]
fn a_seed_shuffles_and_without_one_the_first_are_taken() {
    let folder = tempdir();
    let data = data(folder.path(), 40);
    let rte = task("rte").unwrap();
    let lines = |limit, seed| -> Vec<usize> {
        let data = tasks::load(rte, &data, limit, seed).unwrap();
        assert_eq!(data.n_original, 40);
        data.items.iter().map(|item| item.line).collect()
    };
    assert_eq!(lines(4, None), [1, 2, 3, 4]);
    assert_eq!(lines(4, Some(1)), lines(40, Some(1))[..4]);
    assert_ne!(lines(4, Some(1)), lines(4, Some(2)));
}

#[test]
fn wrong_data_and_wrong_names_are_said_before_a_model_is_loaded() {
    let folder = tempdir();
    let data = data(folder.path(), 3);
    let none = folder.path().join("no-model.gguf");
    let said = |tasks: &str| {
        let tasks = Path::new(tasks);
        let arguments = [Path::new("tasks"), &none, Path::new("--tasks"), tasks];
        let output = run(&[&arguments[..], &[Path::new("--data-dir"), &data]].concat());
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let rte = data.join("rte_val.jsonl");
    let good = fs::read_to_string(&rte).unwrap();
    fs::write(&rte, format!("{good}{{\"premise\": \"a\"}}\n")).unwrap();
    let error = said("boolq,rte");
    assert!(error.contains("rte_val.jsonl: line 4: no field 'hypothesis'"), "{error}");
    let error = said("arc_challenge");
    assert!(error.contains("no data for task arc_challenge, expected one of"), "{error}");
    assert!(error.contains("hint: the set is published at https://"), "{error}");
    let error = said("rte,piqa");
    assert!(error.contains("no task is called 'piqa', expected some of rte, "), "{error}");
    let output = run(&[Path::new("tasks"), &none]);
    assert!(stderr(&output).contains("nothing to measure"), "{}", stderr(&output));
}

#[test]
fn what_does_not_fit_loses_its_front_and_that_is_said() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(3).write(folder.path());
    let data = data(folder.path(), 2);
    let rows = fs::read_to_string(data.join("rte_val.jsonl")).unwrap();
    // A letter is a token of a tiny model, which reads 512.
    let long = rows.replacen("Number 0", &"Number ".repeat(100), 1);
    fs::write(data.join("rte_val.jsonl"), long).unwrap();
    let output = aird()
        .args([Path::new("tasks"), &model, Path::new("--data-dir"), &data])
        .args(["--tasks", "rte", "--threads", "1", "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["models"][0]["tasks"]["rte"]["n_cut"], 1);
    let said = stderr(&output);
    assert!(said.contains("1 of 2 items of rte are longer than the model's context"), "{said}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_with_130_and_keeps_what_is_whole() {
    let Some(model) = real_model() else { return };
    let folder = tempdir();
    let data = data(folder.path(), 40);
    let results = folder.path().join("results");
    let mut child = aird()
        .args([Path::new("tasks"), &model, Path::new("--data-dir"), &data])
        .args([Path::new("--results"), &results])
        .args(["--tasks", "hellaswag", "--threads", "1", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let begun = || fs::read_dir(&results).is_ok_and(|mut entries| entries.next().is_some());
    while !begun() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0));
    let [name] = &names_in(&results)[..] else { panic!("one file") };
    let text = fs::read_to_string(results.join(name)).unwrap();
    assert!(text.ends_with('\n') && text.contains("\"task\":\"hellaswag\""), "{text}");
}

#[test]
fn the_harness_files_have_its_shapes_and_no_clock() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(3).write(folder.path());
    let data = data(folder.path(), 4);
    let write = |name: &str| {
        let out = folder.path().join(name);
        let report = measure(&[&model], &data, &["--lm-eval-dir", out.to_str().unwrap()]);
        let [own] = &names_in(&out)[..] else { panic!("one folder a model") };
        (report, out.join(own))
    };
    let (report, out) = write("a");
    let names = names_in(&out);
    let mark = report["models"][0]["sha256"].as_str().unwrap()[..12].to_owned();
    assert!(names.contains(&format!("results_{mark}.json")), "{names:?}");
    assert!(names.contains(&format!("samples_hellaswag_{mark}.jsonl")), "{names:?}");
    assert_eq!(names.len(), 6);
    let (_, again) = write("b");
    for name in &names {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(again.join(name)).unwrap());
    }
    let read = |name: String| fs::read_to_string(out.join(name)).unwrap();
    let results: Value = serde_json::from_str(&read(format!("results_{mark}.json"))).unwrap();
    let tally = &report["models"][0]["tasks"]["hellaswag"];
    assert_eq!(results["results"]["hellaswag"]["acc,none"], tally["acc"]["rate"]);
    assert_eq!(results["results"]["hellaswag"]["acc_norm,none"], tally["acc_norm"]["rate"]);
    assert!(results["results"]["rte"]["acc_stderr,none"].is_number());
    assert_eq!(results["n-samples"]["rte"], json!({"original": 4, "effective": 4}));
    for key in ["configs", "versions", "n-shot", "higher_is_better", "group_subtasks"] {
        assert!(results[key]["rte"] != Value::Null, "{key}");
    }
    let samples = read(format!("samples_winogrande_{mark}.jsonl"));
    let sample: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    let keys: Vec<&str> = sample.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "acc",
        "arguments",
        "doc",
        "doc_hash",
        "doc_id",
        "filter",
        "filtered_resps",
        "metrics",
        "prompt_hash",
        "resps",
        "target",
        "target_hash",
    ];
    assert_eq!(keys, expected);
    assert_eq!(sample["arguments"]["gen_args_1"]["arg_1"], " was 0 inches high.");
    assert_eq!(sample["resps"][1][0], sample["filtered_resps"][1]);
    let [number, greedy] = [0, 1].map(|i| sample["filtered_resps"][0][i].as_str().unwrap());
    assert!(number.parse::<f64>().unwrap() < 0.0 && ["True", "False"].contains(&greedy));
}

/// ln p of every token of `text` behind those before it, by the definition: the text alone, all
/// logits, in f64.
fn plain(engine: &Engine, text: &Text) -> Vec<f64> {
    let n_ctx = (text.tokens.len() as u32).next_multiple_of(256);
    let size = Size { n_ctx, n_batch: n_ctx, n_seq: 1, unified: true };
    let mut session = Session::new(engine, size).unwrap();
    let mut inputs = prompt_inputs(&text.tokens, 0, 0);
    inputs.iter_mut().for_each(|input| input.logits = true);
    session.decode(&inputs, None).unwrap();
    let log_prob = |place: usize| {
        let logits = session.logits(place - 1);
        let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        f64::from(logits[text.tokens[place] as usize]) - total.ln()
    };
    (1..text.tokens.len()).map(log_prob).collect()
}

fn close(a: f64, b: f64, within: f64) -> bool {
    (a - b).abs() <= within * b.abs().max(1.0)
}

fn items(folder: &Path) -> Vec<(&'static str, Vec<Item>)> {
    let data = data(folder, 3);
    let load = |name| (name, tasks::load(task(name).unwrap(), &data, 3, None).unwrap().items);
    TASKS.split(',').map(load).collect()
}

#[test]
fn scores_are_those_of_each_text_alone_on_every_architecture() {
    for arch in [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2, Arch::Qwen3Moe] {
        let folder = tempdir();
        let model = Tiny::new(arch).blocks(3).seed(2).write(folder.path());
        let engine = Engine::load(&model, ONE).unwrap();
        let run = settings(&engine);
        let (mut n, mut n_off) = (0, 0);
        for (_, items) in items(folder.path()) {
            let groups: Vec<Vec<Text>> =
                items.iter().map(|item| tasks::texts(&run, item).unwrap().0).collect();
            // So few at once that there are several waves.
            let mut scorer = Scorer::new(&engine, &groups, 5).unwrap();
            let scores = scorer.score(&groups).unwrap();
            for (text, scores) in groups.iter().flatten().zip(scores.iter().flatten()) {
                let plain = &plain(&engine, text)[text.n_given - 1..];
                assert_eq!(plain.len(), scores.len());
                // Keys and values are kept in F16: of random weights that is what is left.
                let pairs = scores.iter().zip(plain);
                n += plain.len();
                n_off += pairs.filter(|(s, plain)| !close(s.log_prob, **plain, 5e-3)).count();
            }
        }
        // Of two experts that are nearly as good noise may choose the other.
        let most = if arch == Arch::Qwen3Moe { n / 20 } else { 0 };
        assert!(n_off <= most, "{arch:?}: {n_off} of {n}");
    }
}

fn settings(engine: &Engine) -> Run<'_> {
    Run { engine, model_sha256: "", chat: None, limit: 3, seed: None, parallel: 64 }
}

#[test]
fn the_real_model_picks_what_llama_perplexity_picks() {
    let Some(model) = real_model() else { return };
    let folder = tempdir();
    let data = data(folder.path(), 3);
    let engine = Engine::load(&model, ONE).unwrap();
    let run = settings(&engine);
    let data = tasks::load(task("hellaswag").unwrap(), &data, 3, None).unwrap();
    let (scored, _) = evaluate(&run, &data, None, &mut |_| ()).unwrap();
    for (item, scored) in data.items.iter().zip(&scored) {
        check_item(&engine, item, scored);
    }
}

/// Each ending as a text of its own, with llama-perplexity's rule: the mean over what lies behind
/// the tokens that all four have in common (`hellaswag_score` of tools/perplexity/perplexity.cpp).
fn check_item(engine: &Engine, item: &Item, scored: &Scored) {
    let whole = |i: usize| format!("{} {}", item.pairs[i].context, item.pairs[i].choice);
    let tokens: Vec<Vec<i32>> = (0..4).map(|i| engine.tokenize_plain(&whole(i))).collect();
    let common = (0..).take_while(|&k| {
        tokens.iter().all(|t| t.get(k).is_some_and(|token| *token == tokens[0][k]))
    });
    let common = common.count();
    let mut best = (0, f64::NEG_INFINITY);
    for (i, tokens) in tokens.into_iter().enumerate() {
        let log_probs = plain(engine, &Text { tokens, n_given: 1 });
        let own = &log_probs[common - 1..];
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        if mean > best.1 {
            best = (i, mean);
        }
        let ending: f64 = log_probs[log_probs.len() - scored.n_tokens[i]..].iter().sum();
        let found = scored.log_likelihood[i];
        assert!(close(found, ending, 0.01), "line {}: {found} {ending}", item.line);
    }
    assert_eq!(scored.picked_per_token, best.0, "line {}", item.line);
}

#[test]
fn the_real_models_perplexity_is_that_of_the_definition() {
    let Some(model) = real_model() else { return };
    let folder = tempdir();
    let text = folder.path().join("text.txt");
    let words = "A lighthouse stands on the cape. At night its lamp turns, and ships keep away. ";
    fs::write(&text, words.repeat(5)).unwrap();
    let output = aird()
        .args([Path::new("tasks"), &model, Path::new("--text"), &text])
        .args(["--ctx", "32", "--chunks", "2", "--threads", "1", "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let engine = Engine::load(&model, ONE).unwrap();
    let tokens = engine.tokenize_plain(&fs::read_to_string(&text).unwrap());
    let window = |i: usize| {
        let tokens = tokens[i * 32..(i + 1) * 32].to_vec();
        let log_probs = plain(&engine, &Text { tokens, n_given: 1 });
        // Those behind positions 16 to 30.
        log_probs[16..].iter().sum::<f64>()
    };
    let expected = (-(window(0) + window(1)) / 30.0).exp();
    let found = report["models"][0]["perplexity"]["ppl"].as_f64().unwrap();
    assert!(close(found, expected, 1e-3), "{found} {expected}");
}
