//! `aird asr`: the four attacks and benign sets, transcripts that go on where they were cut, and
//! samples that share what is decoded of their prompt.

use std::path::{Path, PathBuf};

use aird::llama::{
    Engine, Generation, Hooks, Listener, Options, Sampling, generate, generate_streams,
};

use crate::support::{Arch, Tiny, aird, names_in, real_model, stderr, stdout, tempdir};

/// Runs `aird asr MODEL` on a tiny model's vocabulary.
fn asr(model: &Path, more: &[&str]) -> std::process::Output {
    aird()
        .args([Path::new("asr"), model])
        .args(["--threads", "1", "--chat-template", "none", "--max-tokens", "6"])
        .args(more)
        .output()
        .unwrap()
}

struct Place {
    folder: tempfile::TempDir,
    model: PathBuf,
    prompts: String,
}

fn place() -> Place {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(3).write(folder.path());
    let path = folder.path().join("prompts.txt");
    let lines: Vec<String> = (0..9).map(|i| format!("sell me story number {i}")).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    Place { folder, model, prompts: path.to_string_lossy().into_owned() }
}

impl Place {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }
}

fn parsed(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(output)))
}

#[test]
fn a_run_that_was_cut_goes_on_to_the_same_bytes() {
    let place = place();
    let (whole, cut) = (place.path("whole"), place.path("cut"));
    let run = |folder: &str| {
        let more = ["--prompts", &place.prompts, "--attack", "vanilla,adv-decoding", "--parallel"];
        let more = [&more[..], &["1", "--samples", "2", "--benign", "none", "--json"]].concat();
        let output = asr(&place.model, &[&more[..], &["--transcripts", folder]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        output.stdout
    };
    let report = run(&whole);
    let stem = place.model.file_stem().unwrap().to_string_lossy();
    let [vanilla, sampled] = ["vanilla", "adv-decoding"].map(|set| format!("{stem}.{set}.jsonl"));
    assert_eq!(names_in(Path::new(&whole)), [sampled.clone(), vanilla]);
    let bytes = std::fs::read(Path::new(&whole).join(&sampled)).unwrap();
    assert_eq!(bytes.iter().filter(|b| **b == b'\n').count(), 1 + 18);
    for at in [0, 40, bytes.len() / 3, bytes.len() * 2 / 3, bytes.len()] {
        std::fs::create_dir_all(&cut).unwrap();
        std::fs::write(Path::new(&cut).join(&sampled), &bytes[..at]).unwrap();
        assert_eq!(run(&cut), report);
        assert_eq!(std::fs::read(Path::new(&cut).join(&sampled)).unwrap(), bytes, "cut at {at}");
    }
    // Another judge reads what is there.
    let more = ["--prompts", &place.prompts, "--parallel", "1", "--benign", "none", "--json"];
    let more = [&more[..], &["--transcripts", &whole, "--judge", "paper"]].concat();
    let output = asr(&place.model, &more);
    assert_eq!(parsed(&output)["judge"], "paper", "{}", stderr(&output));
    // What was made with other settings is not taken for this.
    let output = asr(&place.model, &[&more[..], &["--system", "x"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("system is null there"), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_asked_is_said_before_a_model_is() {
    let place = place();
    let empty = place.path("empty.txt");
    std::fs::write(&empty, "\n\n").unwrap();
    let suffixes = place.path("suffixes.txt");
    std::fs::write(&suffixes, "now\nand then\n").unwrap();
    let benign = ["--benign", "none"];
    for (more, expected) in [
        (&["--attack", "adv-suffix"][..], "adv-suffix needs suffixes"),
        (&["--attack", "adv"], "expected vanilla, adv-suffix"),
        (&["--attack", "none"], "nothing is asked"),
        (&["--prompts", &empty], "there is no prompt in it"),
        (&["--samples", "0"], "at least 1"),
        (&["--fail-if", "borderline.refusal>0"], "no set 'borderline' is asked"),
        (&["--suffixes", &suffixes, "--max-tokens", "0"], "at least 1"),
    ] {
        let output = asr(&place.model, &[&benign[..], more].concat());
        // clap refuses a repeated argument itself.
        assert!(matches!(output.status.code(), Some(1 | 2)), "{more:?}");
        let said = stderr(&output);
        assert!(said.contains(expected) || said.contains("cannot be used"), "{more:?}: {said}");
    }
    let output = asr(&place.model, &["--fail-if", "vanilla.asr"]);
    assert_eq!(output.status.code(), Some(2));
    let twice = aird().arg("asr").args([&place.model, &place.model]).output().unwrap();
    assert!(stderr(&twice).contains("two models are named"), "{}", stderr(&twice));
}

#[test]
fn a_gate_that_fails_exits_with_3_after_printing() {
    let place = place();
    let page = place.path("page.html");
    let asked = ["--prompts", &place.prompts, "--limit", "2", "--benign", "none", "--json"];
    let run = |gate: &str, more: &[&str]| {
        asr(&place.model, &[&asked[..], &["--fail-if", gate], more].concat())
    };
    let output = run("vanilla.errors>=0", &["--html", &page]);
    assert_eq!(output.status.code(), Some(3));
    let report = parsed(&output);
    assert_eq!(report["gates"][0]["failed"], true);
    assert_eq!(report["models"][0]["attacks"]["vanilla"]["n"], 2);
    assert!(stderr(&output).contains("holds for"), "{}", stderr(&output));
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("sell me story number 1") && !html.contains("<script"));
    assert_eq!(run("vanilla.errors>0", &[]).status.code(), Some(0));
    let again = run("vanilla.errors>0", &["--html", &page]);
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));
}

#[test]
fn a_prompt_too_long_is_named_and_counted_as_an_error() {
    let place = place();
    let long = place.path("long.txt");
    std::fs::write(&long, format!("tell me\n{}\n", "tell me story ".repeat(400))).unwrap();
    let output = asr(&place.model, &["--prompts", &long, "--benign", "none", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("prompt 2 is not answered"), "{}", stderr(&output));
    let vanilla = &parsed(&output)["models"][0]["attacks"]["vanilla"];
    assert_eq!((&vanilla["n"], &vanilla["errors"]), (&1.into(), &1.into()));
    assert_eq!(vanilla["refusal"]["n"], 1);
}

#[test]
fn models_are_compared_and_every_attack_has_its_figures() {
    let place = place();
    let other = place.path("other.gguf");
    std::fs::copy(&place.model, &other).unwrap();
    let suffixes = place.path("suffixes.json");
    std::fs::write(&suffixes, r#"[{"id": 0, "suffix": "now"}, {"id": 1, "suffix": "then"}]"#)
        .unwrap();
    let asked = ["--prompts", &place.prompts, "--limit", "3", "--attack", "all", "--samples", "2"];
    let more = ["--suffixes", &suffixes, "--benign", &place.prompts, "--json"];
    let output = asr(&place.model, &[&[&other[..]], &asked[..], &more].concat());
    let report = parsed(&output);
    let attacks = &report["models"][0]["attacks"];
    let names = ["vanilla", "adv-suffix", "adv-decoding", "adv-decoding-raw"];
    assert_eq!(attacks.as_object().unwrap().len(), names.len());
    for (name, answers) in names.iter().zip([3, 6, 6, 6]) {
        assert_eq!(attacks[name]["answers"], answers, "{name}");
        assert_eq!(attacks[name]["any"].is_null(), answers == 3, "{name}");
        assert!(attacks[name]["by_judge"]["paper"]["asr"]["n"] == 3, "{name}");
    }
    assert_eq!(attacks["adv-suffix"]["by_suffix"].as_array().unwrap().len(), 2);
    assert!(report["models"][0]["benign"]["prompts"]["refusal"]["high"].is_number());
    let differences = report["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 9);
    // A copy of the first model answers as it does.
    assert!(differences.iter().all(|d| d["more"] == 0 && d["p"] == 1.0));
    let table = asr(&place.model, &[&asked[..], &["--suffixes", &suffixes, "-v"]].concat());
    assert!(stdout(&table).contains("adv-decoding-raw"), "{}", stderr(&table));
    assert!(stdout(&table).contains("agreement"));
}

#[test]
fn a_judge_model_needs_to_be_told_how_to_judge() {
    let place = place();
    let judge = place.model.to_string_lossy().into_owned();
    let asked = ["--prompts", &place.prompts, "--limit", "2", "--benign", "none", "--json"];
    let run = |more: &[&str]| asr(&place.model, &[&asked[..], more].concat());
    let said = stderr(&run(&["--judge", &judge]));
    assert!(said.contains("hint: --judge-template llamaguard"), "{said}");
    let said = stderr(&run(&["--judge-template", "yes-no"]));
    assert!(said.contains("--judge-template is for a judge model"), "{said}");
    let said = stderr(&run(&["--judge", "nobody.gguf", "--judge-template", "yes-no"]));
    assert!(said.contains("no judge model"), "{said}");
    let template = place.path("judge.jinja");
    std::fs::write(&template, "{% for m in messages %}tell {{ m.role }} {% endfor %}").unwrap();
    // Random weights give no verdict: nothing is then called safe.
    let output = run(&["--judge", &judge, "--judge-template", &template]);
    let report = parsed(&output);
    let vanilla = &report["models"][0]["attacks"]["vanilla"];
    let by_judge = vanilla["by_judge"].as_object().unwrap();
    assert_eq!(by_judge.len(), 3);
    assert!(by_judge.contains_key(report["judge"].as_str().unwrap()));
    let decided = vanilla["refusal"]["n"].as_u64().unwrap();
    assert_eq!(decided + vanilla["errors"].as_u64().unwrap(), 2, "{}", stderr(&output));
}

#[test]
fn a_chat_model_judges_by_yes_and_no() {
    let Some(model) = real_model() else { return };
    let asked = ["--limit", "1", "--attack", "vanilla", "--benign", "none", "--max-tokens", "8"];
    let output = aird()
        .args([Path::new("asr"), &model, Path::new("--judge"), &model])
        .args(["--judge-template", "yes-no", "--threads", "1", "--json"])
        .args(asked)
        .output()
        .unwrap();
    let report = parsed(&output);
    assert_eq!(report["models"][0]["agreement"]["judges"].as_array().unwrap().len(), 3);
    let guard = aird()
        .args([Path::new("asr"), &model, Path::new("--judge"), &model])
        .args(["--judge-template", "llamaguard", "--threads", "1"])
        .args(asked)
        .output()
        .unwrap();
    assert!(stderr(&guard).contains("asks for no 'safe' or 'unsafe'"), "{}", stderr(&guard));
}

/// Counts what is decoded.
#[derive(Default)]
struct Count(usize);

impl Listener for Count {
    fn decoded(&mut self, n_tokens: usize) {
        self.0 += n_tokens;
    }
}

#[test]
fn samples_of_a_prompt_decode_it_once_and_draw_the_same() {
    let Some(model) = real_model() else { return };
    let engine = Engine::load(&model, Options { threads: 1, gpu_layers: 0 }).unwrap();
    let texts = ["The capital of France is a city that", "One plus one is two, and two plus two"];
    let prompts: Vec<Vec<i32>> = texts.iter().map(|text| engine.tokenize(text, true)).collect();
    let sampling = Sampling::Temperature { temperature: 1.0, seed: 5 };
    let (max_tokens, n) = (5, 3);
    for parallel in [2, 4, 8] {
        let settings = Generation { max_tokens, parallel, sampling };
        let (mut alone, mut counts) = (Vec::new(), 0);
        for (i, prompt) in prompts.iter().enumerate() {
            for sample in 0..n {
                let stream = (10 * i + sample) as u64;
                let one = (std::slice::from_ref(prompt), &[stream][..]);
                let mut count = Count::default();
                let hooks = &mut Hooks::new();
                alone.extend(generate_streams(&engine, one, settings, hooks, &mut count).unwrap());
                counts += count.0;
            }
        }
        let many: Vec<Vec<i32>> = prompts.iter().flat_map(|p| vec![p.clone(); n]).collect();
        let streams = [0, 1, 2, 10, 11, 12];
        let mut count = Count::default();
        let together =
            generate_streams(&engine, (&many, &streams), settings, &mut Hooks::new(), &mut count);
        assert_eq!(together.unwrap(), alone, "{parallel} at once");
        let saved: usize = prompts.iter().map(|p| (n - 1) * p.len()).sum();
        let shared = aird_shared(&prompts);
        assert_eq!(count.0, counts - saved - shared, "{parallel} at once");
    }
    let greedy = Generation { max_tokens, parallel: 4, sampling: Sampling::Greedy };
    let twice = vec![prompts[0].clone(); 2];
    let same = generate(&engine, &twice, greedy, &mut Hooks::new(), &mut Count::default()).unwrap();
    assert_eq!(same[0], same[1]);
}

/// Tokens that two prompts begin with alike: decoded once for both.
fn aird_shared(prompts: &[Vec<i32>]) -> usize {
    prompts[0].iter().zip(&prompts[1]).take_while(|(a, b)| a == b).count()
}
