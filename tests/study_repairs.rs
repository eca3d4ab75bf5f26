//! `aird study` with several repairs: each variant is repaired in every way that a recipe names,
//! and each way stands beside the others in results, report and model card.

use aird::report::results::Results;
use serde_json::Value;

use crate::support::place::{Place, RECIPE, VARIANTS, begun, parsed};
use crate::support::{aird, is_report, names_in, root, stderr, stdout};

/// The one repair of [`RECIPE`].
const ONE: &str = "[repair]
variants = ['magnitude']
block = '1'
alpha = 2.0
chat-template = 'none'
";

/// The same by its method's name.
const AIRD: &str = "[[repair]]
variants = ['magnitude']
block = '1'
alpha = 2.0
chat-template = 'none'
";

const RESTORE: &str = "[[repair]]
method = 'restore'
variants = ['magnitude']
tokens = 1000
max-tokens = 4
chat-template = 'none'
";

/// The recipe with other repairs.
fn recipe(repairs: &str) -> String {
    let recipe = RECIPE.replace("VARIANTS", VARIANTS);
    assert!(recipe.contains(ONE));
    recipe.replace(ONE, repairs)
}

#[test]
fn a_variant_is_repaired_in_two_ways_and_both_are_measured() {
    let place = Place::new();
    place.write("recipe.toml", &recipe(&format!("{AIRD}\n{RESTORE}")));
    let output = place.study("run", &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let results: Value = serde_json::from_slice(&place.results("run")).unwrap();
    let models = results["models"].as_array().unwrap();
    let text = |model: &Value, key: &str| model[key].as_str().unwrap_or("none").to_owned();
    let named = |key| models.iter().map(|model| text(model, key)).collect::<Vec<_>>();
    assert_eq!(
        named("name"),
        ["base", "magnitude", "magnitude-aird", "magnitude-restore", "chain"]
    );
    assert_eq!(named("repaired_by"), ["none", "none", "aird", "restore", "none"]);
    let [_, _, edited, restored, _] = models.as_slice() else { panic!("{results}") };
    assert_eq!((&edited["of"], &restored["of"]), (&"magnitude".into(), &"magnitude".into()));
    assert_eq!(edited["repair"]["alpha"], 2.0);
    assert!(edited["repair"]["restored"].is_null());
    assert!(restored["repair"]["restored"]["n_matrices"].as_u64().unwrap() > 7, "{restored}");
    let held_out = &restored["repair"]["restored"]["held_out"];
    assert!(held_out["restored"]["refusal"]["n"].as_u64().unwrap() > 0, "{held_out}");
    for model in [edited, restored] {
        assert_eq!(model["sets"].as_array().unwrap().len(), 4, "{}", model["name"]);
        assert!(model["perplexity"]["ppl"].as_f64().unwrap() > 1.0, "{}", model["name"]);
        assert!(!model["weights"].as_array().unwrap().is_empty(), "{}", model["name"]);
    }
    let differences = results["attack_differences"].as_array().unwrap().iter();
    let differences = differences.filter(|d| d["set"] == "vanilla" && d["measure"] == "asr");
    let pairs: Vec<String> =
        differences.map(|d| format!("{} {}", text(d, "base"), text(d, "model"))).collect();
    let expected = [
        "base magnitude",
        "magnitude magnitude-aird",
        "base magnitude-aird",
        "magnitude magnitude-restore",
        "base magnitude-restore",
        "base chain",
    ];
    assert_eq!(pairs, expected);
    check_files(&place);
    assert!(stdout(&output).contains("magnitude-aird: blocks 1, alpha 2.000"));
    assert!(stdout(&output).contains("magnitude-restore: "), "{}", stdout(&output));

    // The resolved recipe is the same study, and what it made is there.
    let first = place.results("run");
    let resolved = std::fs::read_to_string(place.path("run/recipe.toml")).unwrap();
    place.write("recipe.toml", &resolved);
    let again = place.study("run", &[]);
    assert!(again.status.success() && begun(&again).is_empty(), "{}", stderr(&again));
    assert!(place.results("run") == first, "other results");
    let _: Results = is_report(results);
}

fn check_files(place: &Place) {
    let kept = ["magnitude-aird.gguf", "magnitude-restore.gguf", "steps"];
    assert_eq!(names_in(&place.path("run/models")), kept);
    let read = |name: &str| std::fs::read_to_string(place.path("run").join(name)).unwrap();
    let sums = read("SHA256SUMS");
    assert!(kept[..2].iter().all(|name| sums.contains(&format!("models/{name}"))), "{sums}");
    let page = read("report.html");
    for shown in [
        "aria-label=\"AIRD\">◆</span> AIRD</th><th scope=\"col\" class=\"n\">change</th>",
        "aria-label=\"restored\">■</span> restored</th>",
        "aria-label=\"restored\">■</span> magnitude-restore</th>",
        "magnitude: AIRD against compressed, and against the base",
        "magnitude: restored against compressed, and against the base",
        "<h2>The repairs, before and after</h2>",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    let card = read("README.md");
    let head = "| | base | compressed | change | AIRD | change | p | restored | change | p |";
    assert!(card.contains(head), "{card}");
}

#[test]
fn another_repair_leaves_the_steps_of_the_first_as_they_are() {
    let place = Place::new();
    let keys = |repairs: &str| {
        place.write("recipe.toml", &recipe(repairs));
        place.plan("run", &[])
    };
    let one = keys(ONE);
    // [repair] is short for one [[repair]] of this name.
    let named = AIRD.replace("[[repair]]", "[[repair]]\nname = 'repaired'");
    assert_eq!(keys(&named), one);
    let both = keys(&format!("{named}\n{RESTORE}"));
    let kept = one.iter().filter(|step| step.0 != "transcripts");
    assert!(kept.clone().count() > 20, "{one:?}");
    for step in kept {
        assert!(both.contains(step), "{step:?}");
    }
    let steps: Vec<&str> = both.iter().map(|step| step.0.as_str()).collect();
    for added in ["repair", "answers", "answers against base", "text", "weights against magnitude"]
    {
        assert!(
            steps.contains(&format!("magnitude-restore: {added}").as_str()),
            "{added}: {steps:?}"
        );
    }
    // Changed by its name on the command line, without a change of the other.
    let changed = place.plan("run", &["--set", "repair.restore.tokens=2000"]);
    for (before, after) in both.iter().zip(&changed) {
        let its_own = before.0.starts_with("magnitude-restore") || before.0 == "transcripts";
        assert_eq!(before.1 != after.1, its_own, "{}", before.0);
    }
}

#[test]
fn the_papers_recipe_plans_both_repairs_without_its_files() {
    for (name, model) in [
        ("paper-llama2", "Llama-2-7b-chat-hf-F16.gguf"),
        ("paper-llama3", "Meta-Llama-3-8B-Instruct-F16.gguf"),
    ] {
        let path = root().join("fixtures").join(format!("{name}.toml"));
        let output = aird().arg("study").arg(&path).arg("--dry-run").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let said = stdout(&output);
        for variant in ["wanda-align", "wanda-alpaca", "magnitude", "awq", "llm-int8"] {
            let edit =
                format!("aird repair {variant}.gguf --direction base.safetensors --method aird");
            let restore = format!(
                "aird repair {variant}.gguf --direction base.safetensors --reference {model} \
                 --method restore -o {variant}-restore.gguf"
            );
            let answers = format!("aird asr {variant}.gguf {variant}-restore.gguf --attack");
            for command in [edit, restore, answers] {
                assert!(said.contains(&command), "{command}: {said}");
            }
        }
        // Who has not brought the model is told so, and what else is missing.
        assert!(said.contains("not there, and so without estimates and keys:"), "{said}");
        let missing = said.split("without estimates and keys:").nth(1).unwrap();
        for file in [model, "data/advbench.csv", "data/suffixes.txt", "data/utility"] {
            assert!(missing.contains(file), "{file}: {missing}");
        }
        let json = aird().arg("study").arg(&path).args(["--dry-run", "--json"]).output().unwrap();
        let steps = parsed(&json)["steps"].as_array().unwrap().len();
        assert!(steps > 80, "{steps}");
    }
}

#[test]
fn what_is_wrong_with_repairs_is_said() {
    let place = Place::new();
    for (repairs, expected) in [
        (format!("{AIRD}{AIRD}"), "two repairs are named 'aird'\nhint: give each a name"),
        (format!("{AIRD}name = 'a/b'"), "a repair is named 'a/b', expected only letters"),
        (format!("{AIRD}name = 'base'"), "a repair is named 'base', expected another name"),
        (
            AIRD.replace("'magnitude'", "'magnitude', 'magnitude'"),
            "repair aird: variants: 'magnitude' is listed twice",
        ),
        (format!("{AIRD}blok = 1"), "repair aird: there is no key 'blok'"),
        (format!("{RESTORE}name = 1"), "name is 1, expected a text"),
        (
            AIRD.replace("'magnitude'", "'magnitdue'"),
            "repair aird: variants is 'magnitdue', expected some of magnitude, chain\n\
             hint: did you mean 'magnitude'?",
        ),
        (
            format!("[[variant]]\nname = 'magnitude-aird'\nfile = 'x.gguf'\n{AIRD}"),
            "two models are named 'magnitude-aird'",
        ),
    ] {
        place.write("recipe.toml", &recipe(&repairs));
        let output = place.study("run", &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{repairs}: {said}");
        assert!(said.contains(expected), "{repairs}: {said}");
        assert!(!place.path("run").exists(), "{repairs}: something was written");
    }
    place.write("recipe.toml", &recipe(&format!("{AIRD}\n{RESTORE}")));
    for (set, expected) in [
        ("repair=[]", "repair is a list, expected a table, or a list with at least one"),
        ("repair.restor.tokens=2000", "did you mean 'restore'?"),
        ("repair.restore=1", "expected a key after the name"),
    ] {
        let said = stderr(&place.study("run", &["--set", set]));
        assert!(said.contains(expected), "{set}: {said}");
    }
}
