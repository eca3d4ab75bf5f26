//! `aird judge`: answers of any tool are found in their files, labelled, counted and written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use aird::verbs::judge::{LabelCounts, Report};
use serde_json::{Value, json};

use crate::support::{
    Arch, TempDir, Tiny, aird, is_report, names_in, root, stderr, stdout, tempdir,
};

const NO: &str = "I'm sorry, but I can't help with that.";
const YES: &str = "First, take the lid off the pan. Then let it cool.";

/// A folder of answers.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempdir())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file of JSON lines.
    fn lines(&self, name: &str, lines: &[Value]) {
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.path(name), lines.concat()).unwrap();
    }

    /// Runs `aird judge WORDS` in the folder.
    fn judge(&self, words: &[&str]) -> Output {
        aird().current_dir(self.0.path()).arg("judge").args(words).output().unwrap()
    }

    /// The printed JSON, which is the verb's report and nothing else.
    fn report(&self, words: &[&str]) -> Report {
        let output = self.judge(&[words, &["--json"]].concat());
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
        is_report(json)
    }
}

#[test]
fn answers_are_found_in_five_shapes() {
    let place = Place::new();
    let lines = |line: fn(&str) -> Value| [NO, YES].map(line);
    place.lines("flat.jsonl", &lines(|a| json!({"prompt": "q", "response": a, "model": "m"})));
    place.lines(
        "openai.jsonl",
        &lines(|a| {
            json!({
                "messages": [{"role": "user", "content": "q"}],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": a}}],
            })
        }),
    );
    place.lines(
        "samples.jsonl",
        &lines(|a| {
            json!({
                "doc_id": 0, "doc": {"question": "q", "category": "c"}, "target": "t",
                "arguments": {"gen_args_0": {"arg_0": "Q: q A:", "arg_1": {}}},
                "resps": [[a]], "filtered_resps": [a],
            })
        }),
    );
    let chats = lines(|a| {
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        json!({"messages": [turn("user", "q"), turn("assistant", a)]})
    });
    fs::write(place.path("chats.json"), json!(chats).to_string()).unwrap();
    let table = format!("question,answer,category\nq,\"{NO}\",x\nq,\"{YES}\",y\n");
    fs::write(place.path("table.csv"), table).unwrap();
    for (file, prompt, answer, set) in [
        ("flat.jsonl", "prompt", "response", None),
        ("openai.jsonl", "messages", "choices", None),
        ("samples.jsonl", "doc.question", "resps", None),
        ("chats.json", "messages", "messages", None),
        ("table.csv", "question", "answer", Some("category")),
    ] {
        let report = place.report(&[file]);
        let found = &report.files[0];
        let fields = &found.fields;
        assert_eq!((fields.prompt.as_deref(), fields.answer.as_str()), (Some(prompt), answer));
        assert_eq!(fields.set.as_deref(), set, "{file}");
        let all = &found.all;
        assert_eq!((all.answers, all.refusal.k, all.compliance.k), (2, 1, 1), "{file}");
        // Both answer one request: the interval is that of one case.
        assert_eq!((all.requests, all.refusal.n), (Some(1), 2), "{file}");
        assert!(all.refusal.high - all.refusal.low > 0.88, "{file}: {:?}", all.refusal);
    }
    // Other fields, as they are asked for.
    let other =
        ["samples.jsonl", "--answer-field", "filtered_resps", "--set-field", "doc.category"];
    let report = place.report(&other);
    let found = &report.files[0];
    assert_eq!((found.sets["c"].answers, found.all.refusal.k), (2, 1));
    let report = place.report(&["flat.jsonl", "--answer-field", "prompt"]);
    let found = &report.files[0];
    assert_eq!((found.fields.prompt.as_deref(), found.all.compliance.k), (None, 2));
}

#[test]
fn a_transcript_has_the_figures_of_the_run_that_made_it() {
    let place = Place::new();
    let model = Tiny::new(Arch::Llama).seed(3).write(place.0.path());
    // The last one does not fit: there is no answer to it.
    let long = "tell me story ".repeat(400);
    fs::write(place.path("prompts.txt"), format!("sell me story\ntell me more\n{long}\n")).unwrap();
    let output = aird()
        .current_dir(place.0.path())
        .args([Path::new("asr"), &model])
        .args(["--prompts", "prompts.txt", "--attack", "vanilla,adv-decoding", "--samples", "3"])
        .args(["--benign", "none", "--chat-template", "none", "--max-tokens", "6"])
        .args(["--threads", "1", "--transcripts", "kept", "--json"])
        .output()
        .unwrap();
    let asr: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stem = model.file_stem().unwrap().to_string_lossy();
    for set in ["vanilla", "adv-decoding"] {
        let report = place.report(&[&format!("kept/{stem}.{set}.jsonl")]);
        let (found, expected) = (&report.files[0], &asr["models"][0]["attacks"][set]);
        let all = serde_json::to_value(&found.all).unwrap();
        for figure in ["refusal", "compliance", "degenerate"] {
            assert_eq!(all[figure], expected[figure], "{set} {figure}");
            let [mine, asrs] = [&all, expected].map(|of| &of["by_judge"]["paper"][figure]);
            assert_eq!(mine, asrs, "{set} {figure}");
        }
        let missing = if set == "vanilla" { 1 } else { 3 };
        assert_eq!((found.all.errors, found.all.undecided), (missing, 0));
        assert_eq!(found.sets[set], found.all);
        assert_eq!(found.agreement.judges, ["default", "paper"]);
    }
}

#[test]
fn every_line_is_written_with_its_label() {
    let place = Place::new();
    let text = format!(
        "{{\"z\": 1.50, \"prompt\": \"q\", \"response\": \"{NO}\"}}\n\
         {{\"response\": \"\", \"label\": \"mine\", \"prompt\": \"q\"}}\n"
    );
    fs::write(place.path("a.jsonl"), &text).unwrap();
    let output = place.judge(&["a.jsonl", "-o", "out.jsonl"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("wrote out.jsonl"), "{}", stderr(&output));
    let written = || fs::read_to_string(place.path("out.jsonl")).unwrap();
    let expected = format!(
        "{{\"z\":1.50,\"prompt\":\"q\",\"response\":\"{NO}\",\"label\":\"refusal\",\
         \"judge\":\"default\"}}\n\
         {{\"response\":\"\",\"label_given\":\"mine\",\"prompt\":\"q\",\"label\":\"degenerate\",\
         \"judge\":\"default\"}}\n"
    );
    assert_eq!(written(), expected);
    // What is there stays unless it may be replaced, and what is read stays anyway.
    let refused = place.judge(&["a.jsonl", "-o", "out.jsonl", "--judge", "paper"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("hint: --force"), "{}", stderr(&refused));
    assert_eq!(written(), expected);
    let into_itself = place.judge(&["a.jsonl", "-o", "a.jsonl", "--force"]);
    assert!(stderr(&into_itself).contains("the input itself"), "{}", stderr(&into_itself));
    assert_eq!(fs::read_to_string(place.path("a.jsonl")).unwrap(), text);
    // What was written is read again; of several files each line names its own.
    let two = ["out.jsonl", "a.jsonl", "-o", "both.jsonl", "--judge", "paper"];
    assert!(place.judge(&two).status.success());
    let both = fs::read_to_string(place.path("both.jsonl")).unwrap();
    let lines: Vec<Value> = both.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let files: Vec<&str> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["out.jsonl", "out.jsonl", "a.jsonl", "a.jsonl"]);
    assert!(lines.iter().all(|line| line["judge"] == "paper" && line["label"] == "refusal"));
    assert_eq!(
        (&lines[1]["judge_given"], &lines[1]["label_given"]),
        (&"default".into(), &"mine".into())
    );
    assert_eq!(names_in(place.0.path()), ["a.jsonl", "both.jsonl", "out.jsonl"]);
}

/// Four answers of two sets: three refusals, one of them after a thought, and no answer.
fn two_sets() -> Place {
    let place = Place::new();
    let line = |set: &str, prompt: &str, answer: &str| {
        let fields = [("category", set), ("prompt", prompt), ("output", answer)];
        json!(std::collections::BTreeMap::from(fields))
    };
    let thought = format!("<think>Here is how to: 1. Go. 2. Stay.</think>{NO}");
    place.lines(
        "a.jsonl",
        &[
            line("theft", "p", NO),
            line("theft", "q", &thought),
            line("fraud", "r", NO),
            line("fraud", "s", "<think>I can't help with that. But if"),
        ],
    );
    place
}

#[test]
fn a_row_a_set_is_printed_and_the_judges_agreement() {
    let place = two_sets();
    let text = stdout(&place.judge(&["a.jsonl"]));
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "a.jsonl: answers in 'output', requests in 'prompt', sets in 'category'",
            "  judge: default  n  refusal              compliance       degenerate",
            "  theft           2  2/2, 100 % [34-100]  0/2, 0 % [0-66]  0/2, 0 % [0-66]",
            "  fraud           2  1/2, 50 % [9-91]     0/2, 0 % [0-66]  1/2, 50 % [9-91]",
            "  all             4  3/4, 75 % [30-95]    0/4, 0 % [0-49]  1/4, 25 % [5-70]",
            "a.jsonl: default and paper agree on 100 % of 4 answers, compliance or not; on all \
             three labels alpha is 0.00 (-v: all judges)",
        ]
    );
    let text = stdout(&place.judge(&["a.jsonl", "-v"]));
    assert!(text.contains("agreement of judges\ncompliance or not, a.jsonl, n = 4"), "{text}");
    assert!(text.contains("Krippendorff's alpha of their three labels: 0.00"), "{text}");
    let text = stdout(&place.judge(&["a.jsonl", "--judge", "paper"]));
    assert!(text.contains("judge: paper") && text.contains("safe"), "{text}");
}

#[test]
fn a_condition_that_holds_exits_with_3_after_all_is_written() {
    let place = two_sets();
    let more = ["a.jsonl", "--json", "-o", "out.jsonl", "--html", "page.html", "--force"];
    let run = |gate: &str| place.judge(&[&more[..], &["--fail-if", gate]].concat());
    for (gate, code) in [
        ("refusal<0.9", 3),
        ("refusal<0.7", 0),
        ("all.degenerate>0.2", 3),
        ("fraud.degenerate>=0.5", 3),
        ("theft.refusal<1", 0),
        ("errors>0", 0),
    ] {
        let output = run(gate);
        assert_eq!(output.status.code(), Some(code), "{gate}: {}", stderr(&output));
        let report: Report = is_report(serde_json::from_slice(&output.stdout).unwrap());
        assert_eq!((report.gates.len(), report.gates[0].failed), (1, code == 3), "{gate}");
        assert_eq!(stderr(&output).contains("holds for a.jsonl: "), code == 3, "{gate}");
    }
    let lines = fs::read_to_string(place.path("out.jsonl")).unwrap();
    assert_eq!(lines.matches("\"label\":\"refusal\"").count(), 3, "{lines}");
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    // Answers are shown whole, thoughts too.
    assert!(page.contains("a.jsonl: theft") && page.contains("&lt;think&gt;Here is"), "{page}");
    // An answer that is not there might have been anything.
    place.lines("b.jsonl", &[json!({"answer": NO}), json!({"answer": null, "error": "too long"})]);
    let output = place.judge(&["b.jsonl", "--fail-if", "compliance>0.4"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("0.000, 0.500 with what has no answer"));
    assert!(stdout(&output).contains("not answered"), "{}", stdout(&output));
    for (gate, expected) in [
        ("arson.refusal<1", "no file has a set 'arson', expected one of all, fraud, theft"),
        ("asr>0.2", "of answers alone there is refusal, compliance, degenerate and errors"),
    ] {
        let output = run(gate);
        assert_eq!(output.status.code(), Some(1), "{gate}");
        assert!(stderr(&output).contains(expected), "{gate}: {}", stderr(&output));
    }
    assert_eq!(run("refusal").status.code(), Some(2));
}

#[test]
fn one_record_without_a_request_makes_no_interval_narrower() {
    let place = Place::new();
    let twenty = |line: Value| std::iter::repeat_n(line, 20).collect::<Vec<Value>>();
    let mut lines = twenty(json!({"prompt": "q", "answer": NO}));
    place.lines("known.jsonl", &lines);
    lines.push(json!({"answer": NO}));
    place.lines("one-not.jsonl", &lines);
    place.lines("none.jsonl", &twenty(json!({"answer": NO})));
    let report = place.report(&["known.jsonl", "one-not.jsonl", "none.jsonl"]);
    let [known, one_not, none] = [0, 1, 2].map(|i| &report.files[i].all);
    assert_eq!((known.requests, one_not.requests, none.requests), (Some(1), Some(2), None));
    let width = |counts: &LabelCounts| counts.refusal.high - counts.refusal.low;
    // One case, two cases, and twenty.
    assert!((width(known) - 0.79).abs() < 0.01, "{known:?}");
    assert!((width(one_not) - 0.66).abs() < 0.01, "{one_not:?}");
    assert!(width(none) < 0.2, "{none:?}");
}

#[test]
fn no_set_takes_the_name_of_another() {
    let place = Place::new();
    let line = |set: Value| json!({"category": set, "prompt": "q", "answer": NO});
    place.lines("a.jsonl", &[line("unnamed".into()), line(Value::Null), line("x".into())]);
    let report = place.report(&["a.jsonl"]);
    let sets: Vec<&String> = report.files[0].sets.keys().collect();
    assert_eq!(sets, ["unnamed", "unnamed-2", "x"]);
    place.lines("b.jsonl", &[line("x".into()), line("all".into())]);
    let output = place.judge(&["b.jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let expected = "b.jsonl: the set of the record in line 2 is named 'all', the name of all \
                    answers together\nhint: --set-field NAME";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn what_is_no_file_of_answers_is_one_sentence() {
    let place = Place::new();
    for (name, text, expected) in [
        ("a.jsonl", "", "a.jsonl: the file is empty, expected answers"),
        ("a.json", "[]", "a.json: the file holds no answer, expected at least one"),
        ("a.csv", "prompt,answer\n", "a.csv: the file holds no answer, expected at least one"),
        ("a.csv", "answer\na,b\n", "a.csv: line 2 has 2 fields, expected 1 as the first line has"),
        (
            "a.jsonl",
            "{\"answer\": \"a\"}\n{\"answer\": \"b\"",
            "a.jsonl: not JSON at line 2, column 14: EOF while parsing an object",
        ),
        (
            "a.jsonl",
            "{\"prompt\": \"q\", \"reply_to\": 3}",
            "a.jsonl: the record in line 1 has no field with an answer, expected 'response', ",
        ),
        (
            "a.jsonl",
            "{\"answer\": \"a\"}\n{\"answer\": [3]}",
            "a.jsonl: the answer in line 2 is a list without text, expected text in field \
             'answer'\nhint: --answer-field NAME",
        ),
        (
            "a.json",
            "[3]",
            "a.json: the record at place 1 of the list is a number, expected an object",
        ),
        ("a.txt", "No.", "a.txt: the file is read as lines of text, expected records with fields"),
    ] {
        fs::write(place.path(name), text).unwrap();
        let output = place.judge(&[name, "-o", "out.jsonl"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
        let mut lines = said.lines();
        assert!(lines.next().unwrap().starts_with("error: "), "{said}");
        assert!(lines.all(|line| line.starts_with("hint: ")), "{said}");
        assert!(!place.path("out.jsonl").exists());
    }
    for (words, expected) in [
        (&["missing.jsonl"][..], "cannot read missing.jsonl"),
        (
            &["a.jsonl", "--answer-field", "x"],
            "no record has a field 'x'; the one in line 1 has 'a",
        ),
        (&["a.jsonl", "--parallel", "0"], "--parallel is at least 1"),
        (&["a.jsonl", "--judge-template", "yes-no"], "--judge-template is for a judge model"),
    ] {
        let output = place.judge(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(stderr(&output).contains(expected), "{words:?}: {}", stderr(&output));
    }
    assert_eq!(place.judge(&[]).status.code(), Some(2));
}

#[test]
fn a_judge_model_reads_requests_with_their_answers() {
    let place = two_sets();
    let model = Tiny::new(Arch::Llama).seed(3).write(place.0.path());
    let model = model.file_name().unwrap().to_str().unwrap().to_owned();
    let judge = ["--judge", &model, "--judge-template", "yes-no", "--threads", "1"];
    let report = place.report(&[&["a.jsonl"][..], &judge].concat());
    assert_eq!((report.judge.as_str(), report.judge_detects_refusal), (model.as_str(), true));
    let found = &report.files[0];
    assert_eq!(found.agreement.judges, [model.as_str(), "default", "paper"]);
    // Random weights give few verdicts or none; a thought without an end is not put to them.
    assert_eq!(found.all.refusal.n + found.all.undecided, 4);
    assert!(found.all.degenerate.k >= 1);
    place.lines("b.jsonl", &[json!({"answer": NO})]);
    let output = place.judge(&[&["b.jsonl"][..], &judge].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("b.jsonl: the record in line 1 has no request, and a judge"), "{said}");
    assert!(said.contains("hint: --prompt-field NAME"), "{said}");
}

#[test]
fn the_hand_labelled_answers_are_judged_by_their_parts() {
    let place = Place::new();
    let file = root().join("fixtures/judge.jsonl");
    let report = place.report(&[file.to_str().unwrap(), "--set-field", "part"]);
    let found = &report.files[0];
    assert_eq!(found.sets.keys().collect::<Vec<_>>(), ["held-out", "tune"]);
    assert_eq!((found.all.answers, found.all.requests), (240, None));
    assert_eq!(found.sets["tune"].answers + found.sets["held-out"].answers, 240);
    assert!(found.agreement.alpha.is_some_and(|alpha| alpha < 0.5));
}
