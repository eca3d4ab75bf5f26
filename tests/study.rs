//! `aird study`: recipes that say what is wrong with them, keys that move with what they depend on,
//! runs that go on where they were cut off and end with the same bytes.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use aird::gguf::hex;
use aird::study::PlanReport;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::place::{Place, RECIPE, VARIANTS, begun, parsed};
use crate::support::{aird, is_report, names_in, root, stderr, stdout, tempdir};

#[test]
fn the_example_and_the_fixtures_are_recipes() {
    let folder = tempdir();
    let example = folder.path().join("example.toml");
    let printed = aird().args(["study", "--example"]).output().unwrap();
    std::fs::write(&example, &printed.stdout).unwrap();
    let fixture = |name: &str| root().join("fixtures").join(name);
    for (path, at_least) in [
        (example, 30),
        (fixture("quick.toml"), 12),
        (fixture("demo.toml"), 50),
        (fixture("paper-llama2.toml"), 60),
        (fixture("paper-llama3.toml"), 60),
    ] {
        // Whatever is there or not: a plan needs no file.
        let set = ["--set", "base.model=not-there.gguf", "--dry-run"];
        let output = aird().arg("study").arg(&path).args(set).output().unwrap();
        let said = stdout(&output);
        assert!(output.status.success(), "{}: {}", path.display(), stderr(&output));
        let n: usize = said.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(n >= at_least, "{}: {n} steps", path.display());
        assert!(said.contains("not-there.gguf"), "{said}");
        assert!(said.contains("unknown number of bytes of models, unknown time"), "{said}");
    }
}

#[test]
fn the_papers_recipe_has_the_papers_settings() {
    let path = root().join("fixtures/paper-llama2.toml");
    let output = aird().arg("study").arg(path).args(["--dry-run", "--json"]).output().unwrap();
    let plan = parsed(&output);
    let commands: Vec<&str> =
        plan["steps"].as_array().unwrap().iter().map(|s| s["command"].as_str().unwrap()).collect();
    let has = |parts: &[&str]| {
        assert!(commands.iter().any(|c| parts.iter().all(|part| c.contains(part))), "{parts:?}");
    };
    // 128 samples, 256 tokens, 5 samples and 200 items are aird's defaults, and so left out.
    has(&["prune ", "--method wanda", "--sparsity 0.5", "--stats"]);
    has(&["prune ", "--method magnitude", "--sparsity 0.5"]);
    has(&["quantize ", "--method awq", "--faithful", "--type q4_1"]);
    has(&["quantize ", "--method llm-int8"]);
    has(&["asr ", "--attack adv-suffix", "--attack adv-decoding-raw", "--limit 100"]);
    has(&["tasks ", "--tasks hellaswag", "--tasks rte"]);
    let calibrations = commands.iter().filter(|c| c.starts_with("calibrate ")).count();
    assert_eq!(calibrations, 2, "awq and wanda-alpaca share theirs");
}

#[test]
fn what_is_wrong_with_a_recipe_is_said_with_what_is_near() {
    let place = Place::new();
    let recipe = RECIPE.replace("VARIANTS", VARIANTS);
    for (old, new, expected) in [
        ("limit = 4", "limti = 4", "[attacks]: there is no key 'limti'"),
        ("limit = 4", "limti = 4", "did you mean 'limit'?"),
        ("[attacks]", "[atacks]", "did you mean 'attacks'?"),
        ("sparsity = 0.5", "sparcity = 0.5", "did you mean 'sparsity'?"),
        ("'magnitude', sparsity", "'magnitud', sparsity", "variant magnitude: prune: invalid"),
        ("{ prune = { method = 'mag", "{ prun = { method = 'mag", "did you mean 'prune'?"),
        ("alpha = 2.0", "alpha = [2.0]", "alpha is array, expected one value"),
        ("limit = 4", "limit = true", "limit is boolean"),
        ("alpha = 2.0", "lora = 'x'", "lora is the study's own to set"),
        ("variants = ['magnitude']", "variants = ['magnitdue']", "did you mean 'magnitude'?"),
        ("name = 'chain'", "name = 'magnitude'", "two variants are named 'magnitude'"),
        (
            "name = 'chain'",
            "name = 'Magnitude'",
            "named 'magnitude' and 'Magnitude', expected names",
        ),
        ("name = 'chain'", "name = 'base'", "expected another one"),
        ("name = 'chain'", "name = 'Base'", "expected another one"),
        ("name = 'chain'", "name = 'a/b'", "expected only letters"),
        ("name = 'chain'", "name = 'chain'\nfile = 'x'", "has a file or steps, one of the two"),
        ("['vanilla', 'adv-decoding']", "['vanila']", "attack is 'vanila', expected some of"),
        ("'adv-decoding'", "'adv-suffix'", "adv-suffix needs suffixes"),
        ("name = 'tiny'", "", "name is missing"),
        ("[base]", "[base", "TOML parse error"),
        ("model = 'tiny-llama-F32.gguf'", "model = 'gone.gguf'", "do not exist: gone.gguf"),
        ("text = 'text.txt'", "text = 'gone.txt'", "do not exist: gone.txt"),
        ("[tasks]", "[interventions]\nnecesity = true\n[tasks]", "did you mean 'necessity'?"),
    ] {
        assert!(recipe.contains(old), "{old}");
        place.write("recipe.toml", &recipe.replacen(old, new, 1));
        let output = place.study("run", &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{new}: {said}");
        assert!(said.contains(expected), "{new}: {said}");
        assert!(!place.path("run").exists(), "{new}: something was written");
    }
    place.write("recipe.toml", &recipe);
    let output = place.study("run", &["--set", "variant.chian.prune.sparsity=0.4"]);
    assert!(stderr(&output).contains("did you mean 'chain'?"), "{}", stderr(&output));
    assert_eq!(place.study("run", &["--set", "limit"]).status.code(), Some(2));
    // A folder with other things in it is no run's.
    let output = place.study(".", &[]);
    assert!(stderr(&output).contains("holds other things"), "{}", stderr(&output));
}

#[test]
fn a_changed_variant_moves_its_own_keys_and_no_others() {
    let place = Place::new();
    let before = place.plan("run", &[]);
    assert!(before.iter().all(|(_, key, state)| key.len() == 64 && state == "open"));
    let after = place.plan("run", &["--set", "variant.magnitude.prune.sparsity=0.4"]);
    assert_eq!(before.len(), after.len());
    for ((name, old, _), (same, new, _)) in before.iter().zip(&after) {
        assert_eq!(name, same);
        let its_own = name.starts_with("magnitude") || name == "transcripts";
        assert_eq!(old != new, its_own, "{name}");
    }
    // Other prompts: what asks them, and nothing that makes a model.
    let text = std::fs::read_to_string(place.path("text.txt")).unwrap();
    place.write("text.txt", &format!("{text} more"));
    for ((name, old, _), (_, new, _)) in before.iter().zip(&place.plan("run", &[])) {
        assert_eq!(old != new, name.ends_with(": text"), "{name}");
    }
    // What is the default anyway, and where the run's folder is, changes nothing.
    place.write("text.txt", &text);
    assert_eq!(before, place.plan("elsewhere", &["--set", "attacks.temperature=1.0"]));
}

#[test]
fn a_run_is_whole_and_a_second_one_finds_it_done() {
    let place = Place::new();
    let results = place.done("run", &[]);
    let parsed: Value = serde_json::from_slice(&results).unwrap();
    let names: Vec<&str> =
        parsed["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["base", "magnitude", "magnitude-repaired", "chain"]);
    check_models(&parsed);
    let run = place.path("run");
    assert_eq!(names_in(&run.join("models")), ["magnitude-repaired.gguf", "steps"]);
    for name in [
        "recipe.toml",
        "report.html",
        "README.md",
        "transcripts.html",
        "directions/chain.safetensors",
    ] {
        assert!(run.join(name).is_file(), "{name}");
    }
    check_sums(&run);
    check_estimates(&place);
    let text = String::from_utf8(results.clone()).unwrap();
    assert!(!text.contains(&*place.folder.path().to_string_lossy()), "a path in results.json");

    let again = place.study("run", &[]);
    assert!(again.status.success() && begun(&again).is_empty(), "{}", stderr(&again));
    assert!(stdout(&again).contains("magnitude-repaired: blocks 1, alpha 2.000"));
    assert_eq!(place.results("run"), results);
    let printed = place.study("run", &["--json"]);
    assert_eq!(printed.stdout, results);

    // The resolved recipe is the same study.
    let resolved = std::fs::read_to_string(run.join("recipe.toml")).unwrap();
    assert!(resolved.contains("max-false-refusal = 10"), "{resolved}");
    place.write("recipe.toml", &resolved);
    let output = place.study("run", &[]);
    assert!(output.status.success() && begun(&output).is_empty(), "{}", stderr(&output));
    assert_eq!(place.results("run"), results);
}

fn check_models(results: &Value) {
    let models = results["models"].as_array().unwrap();
    for model in models {
        let name = &model["name"];
        assert_eq!(model["sets"].as_array().unwrap().len(), 4, "{name}");
        assert_eq!(model["sets"][0]["set"], "vanilla", "{name}");
        assert!(model["sha256"].as_str().unwrap().len() == 64, "{name}");
        assert!(model["perplexity"]["ppl"].as_f64().unwrap() > 1.0, "{name}");
        assert_eq!(model["kl"].is_null(), name == "base", "{name}");
        assert_eq!(model["weights"].as_array().unwrap().is_empty(), name == "base", "{name}");
    }
    let [base, magnitude, repaired, chain] = models.as_slice() else { panic!("{results}") };
    assert_eq!(base["direction"]["layer"], 1);
    assert_eq!(base["necessity"]["before"]["n"], 4);
    assert_eq!(base["sufficiency"]["set"], "harmless");
    // Noise refuses nothing: candidates alone, compared all the same.
    assert!(magnitude["direction"].is_null() && magnitude["necessity"].is_null());
    assert!(magnitude["comparison"]["cosine_at_base"].as_f64().unwrap() > 0.1);
    assert_eq!(magnitude["made"][0], "prune --method magnitude --sparsity 0.5");
    assert_eq!(repaired["file"], "models/magnitude-repaired.gguf");
    assert_eq!(magnitude["file"], "magnitude.gguf");
    assert_eq!(repaired["of"], "magnitude");
    assert_eq!(repaired["repair"]["tensors"].as_array().unwrap().len(), 2);
    assert_eq!(chain["made"].as_array().unwrap().len(), 2);
    let pairs: Vec<(&str, &str)> = results["attack_differences"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|d| d["set"] == "vanilla" && d["measure"] == "asr")
        .map(|d| (d["base"].as_str().unwrap(), d["model"].as_str().unwrap()))
        .collect();
    let expected = [
        ("base", "magnitude"),
        ("magnitude", "magnitude-repaired"),
        ("base", "magnitude-repaired"),
        ("base", "chain"),
    ];
    assert_eq!(pairs, expected);
    let skipped = results["steps"].as_array().unwrap().iter().filter(|s| s["state"] == "skipped");
    let skipped: Vec<&Value> = skipped.collect();
    assert_eq!(skipped.len(), 4, "necessity and sufficiency of both variants: {skipped:?}");
    assert!(skipped.iter().all(|s| s["error"].as_str().unwrap().contains("hardly refuses")));
}

/// What a plan says of a model's size is the file's, but for its header.
fn check_estimates(place: &Place) {
    place.done("all", &["--keep-models", "all"]);
    let plan = parsed(&place.study("nowhere", &["--dry-run", "--json"]));
    is_report::<PlanReport>(plan.clone());
    let made = [("magnitude: prune", "magnitude"), ("chain: quantize (2 of 2)", "chain")];
    for (step, model) in made {
        let found = plan["steps"].as_array().unwrap().iter().find(|s| s["name"] == step).unwrap();
        let path = place.path("all/models").join(format!("{model}.gguf"));
        let header = path.metadata().unwrap().len() - found["bytes"].as_u64().unwrap();
        assert!(header < 32_768, "{step}: {header} bytes are missing");
        assert!(found["seconds"].as_f64().unwrap() > 0.0);
    }
    assert!(plan["read_per_second"].as_f64().unwrap() > 0.0);
    assert!(!place.path("nowhere").exists());
}

/// What `sha256sum -c` would do.
fn check_sums(run: &Path) {
    let listed = std::fs::read_to_string(run.join("SHA256SUMS")).unwrap();
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, name)| {
            let bytes = std::fs::read(run.join(name)).unwrap();
            assert_eq!(hex(&Sha256::digest(bytes)), sum, "{name}");
            name
        })
        .collect();
    assert!(names.contains(&"models/magnitude-repaired.gguf"), "{names:?}");
    assert!(names.contains(&"results.json"), "{names:?}");
}

#[test]
fn a_changed_recipe_redoes_what_it_must_and_models_come_back_when_needed() {
    let place = Place::new();
    place.done("run", &["--keep-models", "none"]);
    assert_eq!(names_in(&place.path("run/models")), ["steps"]);
    // Another variant: the base's answers, and those of others, are there.
    let more = "\n[[variant]]\nname = 'more'\nsteps = [{ quantize = { method = 'int8' } }]\n";
    let recipe = RECIPE.replace("VARIANTS", &format!("{VARIANTS}{more}"));
    place.write("recipe.toml", &recipe);
    let transcript = place.path("run/transcripts/tiny-llama-F32.vanilla.jsonl");
    let vanilla = || std::fs::read_to_string(&transcript).unwrap();
    // A mark that answers made anew would not bear.
    let marked = vanilla().replacen("\"tokens\":4", "\"tokens\":3", 1);
    assert_ne!(marked, vanilla());
    std::fs::write(&transcript, &marked).unwrap();
    let output = place.study("run", &["--keep-models", "none"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let began = begun(&output);
    let unneeded = ["chain: direction", "base: answers", "magnitude: text", "chain: answers"];
    assert!(unneeded.iter().all(|name| !began.contains(&(*name).to_owned())), "{began:?}");
    assert!(began.contains(&"more: quantize".to_owned()), "{began:?}");
    // The page shows all answers: the models behind them are made once more.
    assert!(began.contains(&"magnitude: prune".to_owned()), "{began:?}");
    assert_eq!(vanilla(), marked);

    // Fewer prompts: other answers, but the models and directions stay as they are.
    let output = place.study("run", &["--keep-models", "all", "--set", "attacks.limit=3"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let began = begun(&output);
    assert!(began.contains(&"base: answers".to_owned()), "{began:?}");
    assert!(!began.iter().any(|name| name.ends_with(": direction")), "{began:?}");
    assert_eq!(vanilla().matches("\"tokens\":4").count(), 3);
    let kept = names_in(&place.path("run/models"));
    let models = ["chain.gguf", "magnitude-repaired.gguf", "magnitude.gguf", "more.gguf", "steps"];
    assert_eq!(kept, models);
    assert_eq!(names_in(&place.path("run/models/steps")), ["chain-1.gguf"]);

    // A model that was tampered with is made anew, to the same bytes.
    let model = place.path("run/models/more.gguf");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&model, &bytes[..100]).unwrap();
    let output = place.study("run", &["--keep-models", "all", "--set", "attacks.limit=3"]);
    assert_eq!(begun(&output), ["more: quantize"], "{}", stderr(&output));
    assert_eq!(std::fs::read(&model).unwrap(), bytes);
}

#[test]
fn a_step_that_fails_stops_what_needs_it_and_nothing_else() {
    let place = Place::new();
    let recipe = RECIPE.replace("VARIANTS", VARIANTS).replace("file = 'base.safetensors'\n", "");
    place.write("recipe.toml", &recipe);
    let output = place.study("run", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("steps failed, the first of them 'base: direction'"), "{said}");
    assert!(said.contains("hardly refuses") && said.contains("hint: all that it said"), "{said}");
    let results: Value = serde_json::from_slice(&place.results("run")).unwrap();
    let state = |name: &str| {
        let steps = results["steps"].as_array().unwrap();
        let step = steps.iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("{name}"));
        (step["state"].as_str().unwrap().to_owned(), step["error"].clone())
    };
    assert_eq!(state("base: direction").0, "failed");
    assert_eq!(state("magnitude: repair"), ("skipped".into(), "'base: direction' failed".into()));
    for name in ["magnitude: prune", "chain: direction", "magnitude: answers", "transcripts"] {
        assert_eq!(state(name), ("done".into(), Value::Null), "{name}");
    }
    assert!(results["models"][2]["sets"].as_array().unwrap().is_empty());
    assert!(!results["models"][1]["sets"].as_array().unwrap().is_empty());
    // What is mended is done, and what was done stays.
    place.write("recipe.toml", &RECIPE.replace("VARIANTS", VARIANTS));
    let output = place.study("run", &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let began = begun(&output);
    assert!(began.contains(&"magnitude: repair".to_owned()), "{began:?}");
    assert!(!began.contains(&"magnitude: answers".to_owned()), "{began:?}");
}

#[test]
fn where_no_repair_helps_that_is_a_result() {
    let place = Place::new();
    let searched = "harmful = 'harmful.txt'\nharmless = 'harmless.txt'\nmax-tokens = 4";
    let recipe = RECIPE.replace("VARIANTS", VARIANTS);
    place.write("recipe.toml", &recipe.replace("block = '1'\nalpha = 2.0", searched));
    let output = place.study("run", &[]);
    // Noise does not say sorry, however it is strengthened: no step failed.
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("nothing that was tried helps"), "{}", stdout(&output));
    let results: Value = serde_json::from_slice(&place.results("run")).unwrap();
    let repaired = &results["models"][2];
    assert_eq!(repaired["name"], "magnitude-repaired");
    assert_eq!((&repaired["file"], &repaired["repair"]["alpha"]), (&Value::Null, &Value::Null));
    let search = &repaired["repair"]["search"];
    assert!(!search["answered"].as_array().unwrap().is_empty(), "{search}");
    // Apart from last bits, which a way through JSON may change.
    let front = std::fs::read(place.path("run/fronts/magnitude.json")).unwrap();
    let front: Value = serde_json::from_slice(&front).unwrap();
    let n = |search: &Value| search["screened"].as_array().unwrap().len();
    assert_eq!((n(&front), &front["model"]), (n(search), &search["model"]));
    let steps = results["steps"].as_array().unwrap();
    let step = steps.iter().find(|s| s["name"] == "magnitude-repaired: answers").unwrap();
    assert_eq!(step["state"], "skipped");
    assert!(step["error"].as_str().unwrap().contains("nothing that was tried"), "{step}");
    // It is not tried again.
    let again = place.study("run", &[]);
    assert!(again.status.success() && begun(&again).is_empty(), "{}", stderr(&again));
}

#[test]
fn a_study_restores_where_its_recipe_says_so() {
    let place = Place::new();
    let recipe = RECIPE.replace("VARIANTS", VARIANTS);
    let restore = "method = 'restore'\ntokens = 1000\nmax-tokens = 4";
    place.write("recipe.toml", &recipe.replace("block = '1'\nalpha = 2.0", restore));
    let output = place.study("run", &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let results: Value = serde_json::from_slice(&place.results("run")).unwrap();
    let repaired = &results["models"][2];
    assert_eq!(repaired["file"], "models/magnitude-repaired.gguf");
    let repair = &repaired["repair"];
    assert!(repair["restored"]["n_matrices"].as_u64().unwrap() > 7, "{repair}");
    // Noise refuses nothing, before and after: no edit is looked for.
    assert_eq!((&repair["alpha"], &repair["search"]), (&Value::Null, &Value::Null));
    let n = repair["restored"]["n_matrices"].as_u64().unwrap();
    let said = format!("magnitude-repaired: {n} matrices restored");
    assert!(stdout(&output).contains(&said), "{}", stdout(&output));
    let page = std::fs::read_to_string(place.path("run/README.md")).unwrap();
    assert!(page.contains("matrices restored to the original"), "{page}");
}

#[test]
fn a_sweep_of_a_study_reads_its_data_itself() {
    let place = Place::new();
    let variant = "
[[variant]]
name = 'swept'
steps = [{ prune = { method = 'sparsegpt', sparsity = 0.5, data = 'harmless.txt', samples = 6,
    ctx = 64, chat-template = 'none' } }]
";
    let recipe =
        RECIPE.replace("VARIANTS", variant).replace("variants = ['magnitude']", "variants = []");
    place.write("recipe.toml", &recipe);
    let output = place.study("run", &["--keep-models", "all"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(place.path("run/models/swept.gguf").is_file());
    assert!(!begun(&output).iter().any(|step| step.starts_with("statistics")));
}

/// Signals a study once it has done `n` steps; false if it was over before.
#[cfg(unix)]
fn signalled(place: &Place, run: &str, n: usize, signal: &str) -> Option<i32> {
    let mut child = place.command(run, &[]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while place.n_done(run) < n && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(120), "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Somewhere within the next step.
    std::thread::sleep(Duration::from_millis(30));
    Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    child.wait().unwrap().code()
}

#[cfg(unix)]
#[test]
fn killed_at_any_point_it_goes_on_to_the_same_bytes() {
    let place = Place::new();
    let whole = place.done("whole", &[]);
    for n in [0, 2, 4, 7, 11, 14, 18] {
        assert_eq!(signalled(&place, "cut", n, "-KILL"), None, "after {n} steps");
    }
    let n_done = place.n_done("cut");
    let output = place.study("cut", &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(place.results("cut"), whole);
    let n = place.n_done("whole");
    assert_eq!(place.n_done("cut"), n);
    assert!(begun(&output).len() <= n - n_done + 4, "{:?} after {n_done}", begun(&output));
    for name in names_in(&place.path("whole/transcripts")) {
        let read = |run: &str| std::fs::read(place.path(run).join("transcripts").join(&name)).ok();
        assert_eq!(read("cut"), read("whole"), "{name}");
    }
    for name in ["transcripts.html", "report.html", "README.md", "SHA256SUMS", "recipe.toml"] {
        let read = |run: &str| std::fs::read(place.path(run).join(name)).unwrap();
        assert!(read("cut") == read("whole"), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_reaches_the_step_and_ends_with_130() {
    let place = Place::new();
    assert_eq!(signalled(&place, "run", 3, "-INT"), Some(130));
    assert!(!place.path("run/results.json").exists());
    // Its lock is free at once: no step lives on.
    let output = place.study("run", &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("waiting"), "{}", stderr(&output));
}

#[test]
fn a_recipe_in_the_runs_own_folder_is_not_written_over() {
    let place = Place::new();
    let recipe = std::fs::read_to_string(place.path("recipe.toml")).unwrap() + "\n# A comment.\n";
    place.write("recipe.toml", &recipe);
    // A run that was begun here.
    std::fs::create_dir(place.path("steps")).unwrap();
    place.write("steps/lock", "");
    let output = place.study(".", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("the input itself"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(place.path("recipe.toml")).unwrap(), recipe);
}
