//! `aird study` with several bases: a study of each, in a folder of its own, and one page over all.

use aird::study::PlanReport;
use serde_json::Value;

use crate::support::place::{Place, RECIPE, begun, parsed};
use crate::support::{Arch, Tiny, aird, is_report, names_in, stderr, stdout};

const ONE_BASE: &str = "[base]\nmodel = 'tiny-llama-F32.gguf'\n";
const DIRECTION: &str = "file = 'base.safetensors'\n";

/// Two models, a variant of both, and one that only the second has, with a file of its own.
const TWO_BASES: &str = "[[base]]
name = 'llama'
model = 'tiny-llama-F32.gguf'
direction = 'base.safetensors'
[[base]]
name = 'other'
model = 'other.gguf'
direction = 'base.safetensors'
";

const VARIANTS: &str = "[[variant]]
name = 'magnitude'
steps = [{ prune = { method = 'magnitude', sparsity = 0.5 } }]
[[variant]]
name = 'ready'
base = 'other'
file = 'other-q8.gguf'
";

const RESTORE: &str = "[[repair]]
method = 'restore'
variants = ['magnitude', 'ready']
tokens = 1000
max-tokens = 4
chat-template = 'none'
aim = 'none'

";

fn place() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("in")).unwrap();
    let other = Tiny::new(Arch::Llama).seed(4).write(&place.path("in"));
    std::fs::rename(other, place.path("other.gguf")).unwrap();
    let quantized = aird()
        .arg("quantize")
        .arg(place.path("other.gguf"))
        .args(["--method", "rtn", "--type", "q8_0", "-o"])
        .arg(place.path("other-q8.gguf"))
        .output()
        .unwrap();
    assert!(quantized.status.success(), "{}", stderr(&quantized));
    place.write("recipe.toml", &recipe());
    place
}

fn recipe() -> String {
    let (before, after) = RECIPE.split_once("[repair]").unwrap();
    let after = &after[after.find("[attacks]").unwrap()..];
    let recipe = format!("{before}{RESTORE}{after}");
    assert!(recipe.contains(ONE_BASE) && recipe.contains(DIRECTION));
    recipe.replace(ONE_BASE, TWO_BASES).replace("VARIANTS", VARIANTS).replace(DIRECTION, "")
}

#[test]
fn every_base_gets_its_study_and_one_page_shows_all() {
    let place = place();
    let output = place.study("run", &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("llama\n") && said.contains("other\n"), "{said}");
    let run = place.path("run");
    assert_eq!(names_in(&run), ["bases.json", "llama", "other", "report.html"]);
    let models = |base: &str| -> Vec<String> {
        let results: Value =
            serde_json::from_slice(&place.results(&format!("run/{base}"))).unwrap();
        assert_eq!(results["name"], format!("tiny, {base}"));
        let models = results["models"].as_array().unwrap().iter();
        models.map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    };
    let llama = ["base", "magnitude", "magnitude-restore"];
    assert_eq!(models("llama"), llama);
    assert_eq!(models("other"), [&llama[..], &["ready", "ready-restore"]].concat());
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(
        page.contains("<h1>tiny</h1>") && page.contains("A study by aird of 2 bases"),
        "{page}"
    );
    for link in ["href=\"llama/report.html\"", "href=\"other/report.html\""] {
        assert!(page.contains(link), "{page}");
    }
    // The head, both bases, and their models: one row each.
    assert_eq!(page.matches("<tr>").count(), 1 + 3 + 5, "{page}");

    // Again: nothing is left to do, and the page is the same.
    let again = place.study("run", &["--json"]);
    assert_eq!(begun(&again), Vec::<String>::new(), "{}", stderr(&again));
    let all = parsed(&again);
    assert_eq!(all["other"]["models"].as_array().unwrap().len(), 5);
    assert_eq!(all.as_object().unwrap().len(), 2);
    std::fs::remove_file(run.join("report.html")).unwrap();
    std::fs::remove_file(run.join("other/README.md")).unwrap();
    let report = aird().arg("report").arg(&run).arg("--json").output().unwrap();
    let report: aird::verbs::report::Report = is_report(parsed(&report));
    assert_eq!((report.card, report.bases.len()), (None, 2));
    assert_eq!(std::fs::read_to_string(run.join("report.html")).unwrap(), page);
    assert!(run.join("other/README.md").is_file());
}

#[test]
fn a_dry_run_plans_every_base_and_set_changes_one() {
    let place = place();
    let output = place.study("run", &["--dry-run", "--json", "--set", "base.other.model=no.gguf"]);
    let plans: Vec<PlanReport> = is_report(parsed(&output));
    let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    assert_eq!(names, ["tiny, llama", "tiny, other"]);
    assert!(plans[0].missing.is_empty(), "{:?}", plans[0].missing);
    assert!(plans[1].missing.iter().any(|path| path == "no.gguf"), "{:?}", plans[1].missing);
    assert!(!place.path("run").exists());
    // A file that the second base lacks is told before the first one's hours.
    let output = place.study("run", &["--set", "base.other.model=no.gguf"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("files that do not exist: no.gguf"), "{}", stderr(&output));
    assert!(!place.path("run").exists());
}

#[test]
fn a_folder_of_another_kind_of_run_is_left_alone() {
    let place = place();
    std::fs::create_dir_all(place.path("run/steps")).unwrap();
    place.write("run/steps/lock", "");
    let output = place.study("run", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("holds other things"), "{}", stderr(&output));
    assert_eq!(names_in(&place.path("run")), ["steps"]);
}
