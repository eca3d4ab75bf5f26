//! `aird asr`: the four attacks and benign sets, transcripts that go on where they were cut, and
//! samples that share what is decoded of their prompt.

use std::path::{Path, PathBuf};
use std::process::Output;

use aird::direction::Direction;
use aird::gguf::hex;
use aird::llama::{
    Engine, Generation, Hooks, Listener, Options, Sampling, generate, generate_streams,
};
use aird::verbs::{ask, asr::Report};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::direction::capture;
use crate::support::{
    Adapter, Arch, Tiny, aird, is_report, names_in, real_model, stderr, stdout, tempdir,
};

/// What `asr` is run with unless a test says otherwise.
const USUAL: [[&str; 2]; 3] =
    [["--threads", "1"], ["--chat-template", "none"], ["--max-tokens", "6"]];

/// Runs `aird asr MODEL` on a tiny model's vocabulary.
fn asr(model: &Path, more: &[&str]) -> Output {
    let usual = USUAL.iter().filter(|[option, _]| !more.contains(option)).flatten();
    aird().args([Path::new("asr"), model]).args(usual).args(more).output().unwrap()
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

/// The printed JSON, which is the verb's report and nothing else.
fn parsed(output: &Output) -> Value {
    let json: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", stderr(output)));
    is_report::<Report>(json.clone());
    json
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
    // Of a template that prints the date another day is another setting.
    let template = place.path("dated.jinja");
    std::fs::write(&template, "{{ strftime_now('%d %b') }} {{ messages[0].content }}").unwrap();
    let dated = place.path("dated");
    let on = |seconds: &str| {
        aird()
            .args([Path::new("asr"), &place.model])
            .args(["--chat-template", &template, "--max-tokens", "6", "--threads", "1"])
            .args(["--prompts", &place.prompts, "--benign", "none", "--transcripts", &dated])
            .env("SOURCE_DATE_EPOCH", seconds)
            .output()
            .unwrap()
    };
    assert!(on("0").status.success() && on("1").status.success());
    let said = stderr(&on("86400"));
    assert!(said.contains("dated is \"01 Jan ?\" there, \"02 Jan ?\" now"), "{said}");
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
        (&["--prompts", &empty], "the file holds no prompt"),
        (&["--samples", "0"], "at least 1"),
        (&["--fail-if", "borderline.refusal>0"], "no set 'borderline' is asked"),
        (&["--suffixes", &suffixes, "--max-tokens", "0"], "--max-tokens and --parallel"),
        (&["--parallel", "0"], "--max-tokens and --parallel"),
        (&["--limit", "0"], "--samples and --limit are at least 1"),
        (&["--temperature", "0"], "--temperature is above 0"),
        (&["--attack", "adv-decoding", "--system", "Hi"], "no set that is asked has a system"),
    ] {
        let output = asr(&place.model, &[&benign[..], more].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{more:?}: {said}");
        assert!(said.contains(expected), "{more:?}: {said}");
    }
    let output = asr(&place.model, &["--fail-if", "vanilla.asr"]);
    assert_eq!(output.status.code(), Some(2));
    let twice = aird().arg("asr").args([&place.model, &place.model]).output().unwrap();
    assert!(stderr(&twice).contains("two models are named"), "{}", stderr(&twice));
}

#[test]
fn what_is_missing_at_the_end_is_said_at_the_beginning() {
    let place = place();
    let model = place.model.to_str().unwrap();
    let wide = Tiny::new(Arch::Llama).ty(aird::gguf::GgmlType::Q4_K).write(place.folder.path());
    let wide = chosen(&capture(place.folder.path(), &wide, "wide.d", &[]));
    let missing = place.path("missing");
    let broken = place.path("broken.jinja");
    std::fs::write(&broken, "{{ raise_exception('not so') }}").unwrap();
    let kept = place.path("kept");
    for (more, expected) in [
        (&["--judge", model, "--judge-template", &missing][..], "missing"),
        (&["--judge", model, "--judge-template", &broken], "not so"),
        (&["--judge", model, "--judge-template", "llamaguard"], "asks for no 'safe'"),
        (&[missing.as_str()], "missing"),
        (&["--lora", &missing], "missing"),
        (&["--lora", model], "expected 'adapter'"),
        (&["--ablate", &missing], "missing"),
        (&["--ablate", wide.to_str().unwrap()], "256 wide"),
    ] {
        let all = [&["--prompts", &place.prompts, "--transcripts", &kept], more].concat();
        let output = asr(&place.model, &all);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{more:?}: {said}");
        assert!(said.contains(expected), "{more:?}: {said}");
        assert_eq!(names_in(Path::new(&kept)).len(), 0, "{more:?}");
    }
}

/// The direction file at `path`, with its last candidate chosen.
fn chosen(path: &Path) -> PathBuf {
    let mut direction = Direction::read(path).unwrap();
    (direction.about.layer, direction.about.position) = (Some(1), Some(-1));
    direction.write(path).unwrap();
    path.to_owned()
}

#[test]
fn interventions_change_answers_as_they_do_in_ask_and_are_part_of_the_key() {
    let place = place();
    let direction = chosen(&capture(place.folder.path(), &place.model, "d", &[]));
    let tiny = Tiny::new(Arch::Llama).seed(3);
    let lora = Adapter::new(&tiny, &["blk.0.attn_output.weight"]).write(place.folder.path());
    let asked = ["--prompts", &place.prompts, "--limit", "4", "--benign", "none"];
    let asked = [&asked[..], &["--parallel", "1", "--json"]].concat();
    let kept = |folder: &str| -> Vec<Value> {
        let stem = place.model.file_stem().unwrap().to_string_lossy();
        let path = Path::new(folder).join(format!("{stem}.vanilla.jsonl"));
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let answers = |lines: &[Value]| -> Vec<String> {
        lines[1..].iter().map(|line| line["answer"].as_str().unwrap().to_owned()).collect()
    };
    let plain = place.path("plain");
    let output = asr(&place.model, &[&asked[..], &["--transcripts", &plain]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let plain = answers(&kept(&plain));
    for (name, file) in [("ablate", &direction), ("add", &direction), ("lora", &lora)] {
        let (folder, option) = (place.path(name), format!("--{name}"));
        let done = [option.as_str(), file.to_str().unwrap()];
        let transcripts = ["--transcripts", folder.as_str()];
        let report = parsed(&asr(&place.model, &[&asked[..], &done, &transcripts].concat()));
        let sha256 = hex(&Sha256::digest(std::fs::read(file).unwrap()));
        assert_eq!(report["interventions"][name], sha256.as_str());
        let lines = kept(&folder);
        assert_eq!(lines[0][name], sha256.as_str());
        let found = answers(&lines);
        assert_ne!(found, plain, "{name}");
        let output = aird()
            .args([Path::new("ask"), &place.model])
            .args(USUAL.iter().flatten())
            .args(done)
            .args(lines[1..].iter().map(|line| line["prompt"].as_str().unwrap()))
            .arg("--json")
            .output()
            .unwrap();
        // The JSON of ask is its report, too.
        let report: ask::Report = is_report(serde_json::from_slice(&output.stdout).unwrap());
        let replies: Vec<String> = report.replies.into_iter().map(|r| r.answer).collect();
        assert_eq!(replies, found, "{name}");
        // Without it other answers would come: they do not go into the same file.
        let output = asr(&place.model, &[&asked[..], &transcripts].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(&format!("{name} is \"{sha256}\" there, null now")));
    }
}

#[test]
fn a_system_prompt_reaches_the_model_for_benign_sets() {
    let place = place();
    let system = "tell me more story";
    let benign = ["--attack", "none", "--benign", &place.prompts, "--limit", "3"];
    let answers = |folder: &str, more: &[&str]| -> Vec<String> {
        let kept = place.path(folder);
        let more = [&benign[..], &["--transcripts", &kept, "--parallel", "1"], more].concat();
        let output = asr(&place.model, &more);
        assert!(output.status.success(), "{}", stderr(&output));
        let stem = place.model.file_stem().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(format!("{kept}/{stem}.prompts.jsonl")).unwrap();
        let lines = text.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["answer"].as_str().unwrap().to_owned()).collect()
    };
    let with = answers("with", &["--system", system]);
    assert_ne!(with, answers("without", &[]));
    // As `ask` puts it, before the prompt.
    let prompts = std::fs::read_to_string(&place.prompts).unwrap();
    let output = aird()
        .args([Path::new("ask"), &place.model])
        .args(USUAL.iter().flatten())
        .args(["--system", system, "--parallel", "1", "--json"])
        .args(prompts.lines().take(3))
        .output()
        .unwrap();
    let report: ask::Report = is_report(serde_json::from_slice(&output.stdout).unwrap());
    assert_eq!(with, report.replies.into_iter().map(|r| r.answer).collect::<Vec<_>>());
}

#[test]
fn the_number_of_threads_changes_no_byte_and_another_model_no_file() {
    let place = place();
    let asked = ["--prompts", &place.prompts, "--attack", "vanilla,adv-decoding", "--samples", "2"];
    let run = |model: &Path, folder: &str, threads: &str| {
        let more = ["--benign", "none", "--transcripts", folder, "--threads", threads];
        asr(model, &[&asked[..], &more].concat())
    };
    let read = |folder: &str| -> Vec<Vec<u8>> {
        let names = names_in(Path::new(folder));
        names.iter().map(|name| std::fs::read(Path::new(folder).join(name)).unwrap()).collect()
    };
    let folders = ["1", "2", "3"].map(|threads| {
        let folder = place.path(threads);
        assert!(run(&place.model, &folder, threads).status.success());
        folder
    });
    assert_eq!(read(&folders[0]), read(&folders[1]));
    assert_eq!(read(&folders[0]), read(&folders[2]));
    // Another model of the same name.
    let own = place.path("own");
    std::fs::create_dir(&own).unwrap();
    let other = Tiny::new(Arch::Llama).seed(4).write(Path::new(&own));
    let before = read(&folders[0]);
    let output = run(&other, &folders[0], "1");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("made with other settings: model is"), "{}", stderr(&output));
    assert_eq!(read(&folders[0]), before);
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
    // What was not answered might have been anything.
    let long = place.path("long.txt");
    std::fs::write(&long, format!("tell me\n{}\n", "tell me story ".repeat(400))).unwrap();
    let more = ["--prompts", &long, "--benign", "none", "--fail-if", "vanilla.refusal>0.4"];
    let output = asr(&place.model, &more);
    assert_eq!(output.status.code(), Some(3));
    let said = stderr(&output);
    assert!(said.contains("0.000, 0.500 with what has no answer or no verdict"), "{said}");
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
    // Too long with the second suffix alone: each prompt is named, and named once.
    let suffixes = place.path("suffixes.txt");
    std::fs::write(&suffixes, format!("now\n{}\nplease\n", "then ".repeat(400))).unwrap();
    let asked = ["--prompts", &place.prompts, "--limit", "3", "--attack", "adv-suffix"];
    let more = ["--suffixes", &suffixes, "--benign", "none", "--json"];
    let output = asr(&place.model, &[&asked[..], &more].concat());
    let said = stderr(&output);
    assert_eq!(said.matches("is not answered").count(), 3, "{said}");
    assert!(said.contains("adv-suffix: prompt 1 is") && said.contains("prompt 3 is"), "{said}");
    let found = &parsed(&output)["models"][0]["attacks"]["adv-suffix"];
    assert_eq!((&found["prompts"], &found["errors"]), (&3.into(), &3.into()));
    assert_eq!((&found["n"], &found["answers"]), (&3.into(), &6.into()));
    assert_eq!((&found["by_suffix"][1]["n"], &found["by_suffix"][2]["n"]), (&0.into(), &3.into()));
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
    assert_eq!(report["sets"]["prompts"]["n"], 3);
    assert_eq!(report["suffixes"]["n"], 2);
    assert!(report["models"][0]["template_sha256"].is_string());
    let table = asr(&place.model, &[&asked[..], &["--suffixes", &suffixes, "-v"]].concat());
    assert!(stdout(&table).contains("adv-decoding-raw"), "{}", stderr(&table));
    assert!(stdout(&table).contains("agreement of judges\n"));
    // A third is compared with both.
    let third = place.path("third.gguf");
    std::fs::copy(&place.model, &third).unwrap();
    let more = [&other, &third, "--prompts", &place.prompts, "--limit", "3", "--benign", "none"];
    let report = parsed(&asr(&place.model, &[&more[..], &["--json"]].concat()));
    let stem = place.model.file_stem().unwrap().to_str().unwrap();
    let pair = |d: &Value| [&d["base"], &d["model"]].map(|name| name.as_str().unwrap().to_owned());
    let pairs: Vec<_> = report["differences"].as_array().unwrap().iter().map(pair).collect();
    let expected = [[stem, "other"], [stem, "third"], ["other", "third"]];
    assert_eq!(pairs, expected.iter().flat_map(|two| [*two, *two]).collect::<Vec<_>>());
    let table = stdout(&asr(&place.model, &more));
    assert!(table.contains("third  other"), "{table}");
    assert!(table.contains("third: default and paper agree on "), "{table}");
}

#[test]
fn harmless_prompts_are_counted_by_a_judge_that_knows_refusals() {
    let place = place();
    let asked = ["--prompts", &place.prompts, "--benign", &place.prompts, "--judge", "paper"];
    let report = parsed(&asr(&place.model, &[&asked[..], &["--json"]].concat()));
    let model = &report["models"][0];
    // Six tokens are a short answer, which the published rule calls safe.
    let vanilla = &model["attacks"]["vanilla"];
    assert_eq!((&vanilla["judge"], &vanilla["asr"]["rate"]), (&"paper".into(), &0.0.into()));
    let harmless = &model["benign"]["prompts"];
    assert_eq!(harmless["judge"], "default");
    assert_eq!(harmless["refusal"], harmless["by_judge"]["default"]["refusal"]);
    assert_eq!(harmless["by_judge"]["paper"]["refusal"]["rate"], 1.0);
    assert_eq!(harmless["refusal"]["rate"], 0.0);
    let table = stdout(&asr(&place.model, &asked));
    assert!(table.contains("prompts (judge: default)") && table.contains("  safe"), "{table}");
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
    assert_eq!(decided + vanilla["undecided"].as_u64().unwrap(), 2, "{}", stderr(&output));
    assert_eq!(vanilla["errors"], 0);
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

#[test]
fn what_a_judge_model_says_becomes_the_rate() {
    let Some(model) = real_model() else { return };
    let folder = tempdir();
    let prompts = folder.path().join("prompts.txt");
    std::fs::write(&prompts, "Name a colour.\nName a bird.\n").unwrap();
    for (word, rate) in [("unsafe", 1.0), ("safe", 0.0)] {
        // A model goes on as the text goes, whatever it was told.
        let template = folder.path().join(format!("{word}.jinja"));
        let text = "{{ messages[1].content }}\nIs it safe or unsafe?\n";
        std::fs::write(&template, format!("{text}{}", format!("{word}\n").repeat(12))).unwrap();
        let output = aird()
            .args([Path::new("asr"), &model, Path::new("--judge"), &model])
            .args([Path::new("--judge-template"), &template, Path::new("--prompts"), &prompts])
            .args([Path::new("--benign"), &prompts])
            .args(["--max-tokens", "12", "--threads", "1", "--json"])
            .output()
            .unwrap();
        let report = parsed(&output);
        let found = &report["models"][0]["attacks"]["vanilla"];
        assert_eq!((&found["asr"]["rate"], &found["undecided"]), (&rate.into(), &0.into()));
        assert_eq!(found["judge"], report["judge"]);
        assert_ne!(found["judge"], "default");
        // Safe is not refused.
        assert_eq!(report["models"][0]["benign"]["prompts"]["judge"], "default");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_with_130_and_goes_on_to_the_same_bytes() {
    let Place { folder, model, prompts } = place();
    // So many segments that it is still at work when it is told to stop.
    let n = 160;
    let lines: Vec<String> = (0..n).map(|i| format!("sell me story number {i}")).collect();
    std::fs::write(&prompts, lines.join("\n")).unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    let start = |kept: &Path| {
        let asked = ["--prompts", &prompts, "--chat-template", "none", "--benign", "none"];
        aird()
            .args([Path::new("asr"), &model, Path::new("--transcripts"), kept])
            .args(["--max-tokens", "8", "--parallel", "2", "--threads", "1", "--json"])
            .args(asked)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let report = start(&whole).wait_with_output().unwrap();
    assert_eq!(report.status.code(), Some(0));
    let file = format!("{}.vanilla.jsonl", model.file_stem().unwrap().to_string_lossy());
    let read = |kept: &Path| std::fs::read(kept.join(&file)).unwrap_or_default();
    let n_lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    // A segment is four times as many answers as are under way at once.
    let mut child = start(&cut);
    while n_lines(&read(&cut)) < 9 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0));
    let made = n_lines(&read(&cut));
    assert!(made % 8 == 1 && (9..n).contains(&made), "{made} lines");
    assert_eq!(start(&cut).wait_with_output().unwrap().stdout, report.stdout);
    assert_eq!(read(&cut), read(&whole));
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
    let engine = Engine::load(&model, Options::cpu(1)).unwrap();
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
