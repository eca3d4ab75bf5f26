//! `aird tasks`: runs that were cut off go on to the same bytes, what is wrong is said early, and
//! with data's line.

use std::fs;
use std::path::{Path, PathBuf};

use aird::eval::tasks::{self, task};
use aird::verbs::tasks::Report;
use serde_json::{Value, json};

use crate::support::{Arch, Tiny, aird, is_report, names_in, run, stderr, stdout, tempdir};

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
pub fn data(folder: &Path, n: usize) -> PathBuf {
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

pub const TASKS: &str = "rte,arc_easy,boolq,winogrande,hellaswag";

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
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    is_report::<Report>(json.clone());
    json
}

/// What programs that read the JSON know its values by: a key that goes breaks them.
fn check_keys(json: &Value) {
    let model = &json["models"][0];
    let rate = "high k low n rate";
    let mean = "high low mean n";
    for (object, expected) in [
        (json, "chat differences limit models reference seed version"),
        (&json["reference"], "name sha256"),
        (model, "kl name perplexity sha256 tasks"),
        (&model["tasks"]["rte"], "acc acc_norm acc_per_token n n_cut"),
        (&model["tasks"]["rte"]["acc"], rate),
        (&model["perplexity"], "n_chunks n_ctx n_tokens nll ppl ppl_error"),
        (&model["perplexity"]["nll"], mean),
        (&model["kl"], "max mean median n_tokens p90 p95 p99 same_top"),
        (&model["kl"]["mean"], mean),
        (&model["kl"]["same_top"], rate),
        (&json["differences"][0], "against gained lost metric model n p points task"),
    ] {
        let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys.join(" "), expected);
    }
}

#[test]
fn the_json_of_tasks_is_its_report() {
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
    check_keys(&json);
    let report: Report = serde_json::from_value(json).unwrap();
    let [first, second] = &report.models[..] else { panic!("two models") };
    assert_ne!(first.name, second.name);
    assert!(first.tasks.values().all(|t| t.n == 4 && t.acc.n == 4 && t.n_cut == 0));
    assert!(first.tasks["rte"].acc_norm.is_none() && first.tasks["arc_easy"].acc_norm.is_some());
    assert!(first.tasks["hellaswag"].acc_per_token.is_some());
    // arc_easy has two metrics, hellaswag three.
    assert_eq!(report.differences.len(), 8);
    for d in report.differences.iter().map(|d| &d.difference) {
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
    for expected in ["rte", "  acc_per_token (llama.cpp's)", " % [", "against", "gained"] {
        assert!(text.contains(expected), "{expected}: {text}{}", stderr(&output));
    }
    // The third is compared with the first and with the second.
    let report = measure(&[&a, &b, &a], &data, &["--limit", "4"]);
    let names: Vec<&str> =
        report["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    let differences = report["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 24);
    for (eight, (against, model)) in differences.chunks(8).zip([(0, 1), (0, 2), (1, 2)]) {
        for d in eight {
            assert_eq!(
                (&d["against"], &d["model"]),
                (&names[against].into(), &names[model].into())
            );
        }
    }
}

#[test]
fn of_one_window_no_interval_is_made_up() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let text = folder.path().join("text.txt");
    fs::write(&text, "The rain in the hills runs down to the river. ".repeat(9)).unwrap();
    let measure = |more: &[&str]| {
        aird()
            .args([Path::new("tasks"), &model, Path::new("--text"), &text])
            .args([Path::new("--reference"), &model])
            .args(["--ctx", "64", "--chunks", "1", "--threads", "1"])
            .args(more)
            .output()
            .unwrap()
    };
    let report: Value = serde_json::from_slice(&measure(&["--json"]).stdout).unwrap();
    let model = &report["models"][0];
    for mean in [&model["kl"]["mean"], &model["perplexity"]["nll"]] {
        assert_eq!(
            (&mean["n"], &mean["low"], &mean["high"]),
            (&1.into(), &Value::Null, &Value::Null)
        );
    }
    // 31 tokens that agree are one window that does.
    assert!(model["kl"]["same_top"]["low"].as_f64().unwrap() < 0.3);
    let table = stdout(&measure(&[]));
    assert!(table.contains(" [-]"), "{table}");
}

#[test]
fn what_is_wrong_with_a_text_is_said_before_benchmarks_are_run() {
    let folder = tempdir();
    let own = folder.path().join("own");
    fs::create_dir(&own).unwrap();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    // Its tokens are others.
    let other = Tiny::new(Arch::Qwen2).seed(1).write(&own);
    let data = data(folder.path(), 3);
    let text = folder.path().join("text.txt");
    fs::write(&text, "The rain in the hills runs down to the river. ".repeat(9)).unwrap();
    let latin = folder.path().join("latin.txt");
    fs::write(&latin, b"caf\xe9").unwrap();
    let results = folder.path().join("results");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    for (more, expected) in [
        (vec!["--text".into(), path(&folder.path().join("none.txt"))], "none.txt: No such file"),
        (vec!["--text".into(), path(&latin)], "latin.txt: not UTF-8 from byte 3 on, in line 1"),
        (
            vec!["--text".into(), path(&text)],
            "expected at least 512 for a window of 512\nhint: a longer text, or a smaller --ctx",
        ),
        (
            vec!["--text".into(), path(&text), "--ctx".into(), "1024".into()],
            "1024 tokens are asked for, the model was trained for 512\nhint: a smaller --ctx",
        ),
        (
            ["--text", &path(&text), "--ctx", "64", "--reference", &path(&other)]
                .map(str::to_owned)
                .to_vec(),
            "hint: KL compares models of one vocabulary",
        ),
        (vec![path(&folder.path().join("none.gguf"))], "none.gguf"),
    ] {
        let output = aird()
            .args([Path::new("tasks"), &model, Path::new("--data-dir"), &data])
            .args([Path::new("--results"), &results])
            .args(["--tasks", "rte", "--threads", "1"])
            .args(&more)
            .output()
            .unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{more:?}: {said}");
        assert!(said.contains(expected), "{more:?}: {said}");
        assert!(!results.exists() || names_in(&results).is_empty(), "{more:?}");
    }
    // Perplexities of other tokens stand side by side, with a warning.
    let output = aird()
        .args([Path::new("tasks"), &model, &other, Path::new("--text"), &text])
        .args(["--ctx", "64", "--threads", "1"])
        .output()
        .unwrap();
    let said = stderr(&output);
    assert!(said.contains("perplexities are not comparable"), "{said}");
}

#[test]
fn a_choice_longer_than_the_model_reads_is_named() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let scene = ["A scene. it", "0", &"is long, ".repeat(90), "ends.", "goes on.", "stops."];
    fs::write(folder.path().join("hellaswag_val.txt"), scene.join("\n")).unwrap();
    let output = aird()
        .args([Path::new("tasks"), &model, Path::new("--data-dir"), folder.path()])
        .args(["--tasks", "hellaswag", "--threads", "1"])
        .output()
        .unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("task hellaswag, line 1: a choice of "), "{said}");
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
    let cuts: [fn(usize) -> usize; 3] = [|_| 10, |n| n / 2, |n| n - 9];
    for cut in cuts {
        for (name, text) in &whole {
            fs::write(results.join(name), &text.as_bytes()[..cut(text.len())]).unwrap();
        }
        assert_eq!(go(), report);
        assert_eq!(read(), whole);
    }
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
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(3).write(folder.path());
    // So many segments that it is still at work when it is told to stop.
    let n = 160;
    let data = data(folder.path(), n);
    let start = |results: &Path| {
        aird()
            .args([Path::new("tasks"), &model, Path::new("--data-dir"), &data])
            .args([Path::new("--results"), results])
            .args(["--tasks", "hellaswag", "--threads", "1", "--json"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let read = |results: &Path| {
        let names = if results.is_dir() { names_in(results) } else { Vec::new() };
        names.iter().map(|name| fs::read_to_string(results.join(name)).unwrap()).collect::<String>()
    };
    let whole = folder.path().join("whole");
    let report = start(&whole).wait_with_output().unwrap();
    assert_eq!(report.status.code(), Some(0));
    let results = folder.path().join("results");
    let mut child = start(&results);
    while read(&results).lines().count() < 33 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0));
    let text = read(&results);
    assert!(text.ends_with('\n') && text.contains("\"task\":\"hellaswag\""), "{text}");
    // A segment has 32 items.
    let n_lines = text.lines().count();
    assert!(n_lines % 32 == 1 && (33..n).contains(&n_lines), "{n_lines} lines");
    assert_eq!(start(&results).wait_with_output().unwrap().stdout, report.stdout);
    assert_eq!(read(&results), read(&whole));
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
    // llama-perplexity's form is not the harness's, and a BOS is not its default.
    assert_eq!(
        (&results["versions"]["hellaswag"], &results["versions"]["rte"]),
        (&Value::Null, &0.0.into())
    );
    assert_eq!(results["configs"]["hellaswag"]["dataset_path"], "hellaswag_val.txt");
    assert_eq!(results["config"]["model_args"]["add_bos_token"], true);
    let [number, greedy] = [0, 1].map(|i| sample["filtered_resps"][0][i].as_str().unwrap());
    assert!(number.parse::<f64>().unwrap() < 0.0 && ["True", "False"].contains(&greedy));
}
