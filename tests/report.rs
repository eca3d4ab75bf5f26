//! `aird report`: the page and the model card of a study, from its results alone; the page looked
//! over in a real browser.

use std::path::{Path, PathBuf};

use aird::eval::asr::Difference;
use aird::report::results::{Origin, Results, State};
use aird::report::{card, page, read_results};
use aird::verbs::report::Report;

use crate::support::browser::{Browser, browser};
use crate::support::study::{
    BASE, FIXED, NOT_FIXED, NOT_MADE, UNHARMED, both, many, nothing, results,
};
use crate::support::{aird, is_report, json, names_in, root, stderr, stdout, tempdir};

const RECIPE: &str = "name = \"demo\"\n[base]\nfile = \"base.gguf\"\n";

/// A run's folder with its results and its recipe.
fn run_folder(results: &Results) -> tempfile::TempDir {
    let folder = tempdir();
    let json = serde_json::to_string_pretty(results).unwrap();
    std::fs::write(folder.path().join("results.json"), json).unwrap();
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    folder
}

fn report(folder: &Path) -> std::process::Output {
    aird().args([Path::new("report"), folder]).output().unwrap()
}

#[test]
fn the_report_is_written_again_to_the_same_bytes() {
    let results = results();
    let folder = run_folder(&results);
    let path = |name: &str| folder.path().join(name);
    let output = report(folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("report.html\n"), "{}", stdout(&output));
    let files = ["README.md", "recipe.toml", "report.html", "results.json"];
    assert_eq!(names_in(folder.path()), files);
    let html = std::fs::read_to_string(path("report.html")).unwrap();
    // What went through JSON looks as it did.
    assert!(html == page(&results), "the page changes with its results' way through a file");
    assert_eq!(std::fs::read_to_string(path("README.md")).unwrap(), card(&results, RECIPE));
    assert_eq!(read_results(folder.path()).unwrap().models.len(), results.models.len());
    let written: Report = is_report(json(&[Path::new("report"), folder.path()]));
    assert!(written.card.as_ref().is_some_and(|card| card.ends_with("README.md")), "{written:?}");
    assert!(std::fs::read_to_string(path("report.html")).unwrap() == html, "another page");
    let _: Results = is_report(serde_json::to_value(&results).unwrap());
}

#[test]
fn a_run_that_cannot_be_read_is_one_clear_sentence() {
    let whole = serde_json::to_string(&results()).unwrap();
    let newer = whole.replacen("\"schema\":1", "\"schema\":2", 1);
    let older = whole.replacen("\"schema\":1", "\"schema\":0", 1);
    let strange = whole.replacen("\"recipe_sha256\":", "\"recipe_sha265\":", 1);
    for (text, expected) in [
        (newer.as_str(), "has schema 2, expected 1\nhint: a newer aird wrote it"),
        (older.as_str(), "has schema 0, expected 1\nhint: an older aird wrote it"),
        (&whole[..whole.len() / 2], "holds no results of a study: EOF"),
        (strange.as_str(), "holds no results of a study: unknown field `recipe_sha265`"),
        ("{}", "missing field `schema`"),
        ("", "holds no results of a study"),
    ] {
        let folder = run_folder(&results());
        std::fs::write(folder.path().join("results.json"), text).unwrap();
        let output = report(folder.path());
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(said.contains("results.json") && said.contains(expected), "{said}");
        assert_eq!(names_in(folder.path()), ["recipe.toml", "results.json"]);
    }
    for missing in ["results.json", "recipe.toml"] {
        let folder = run_folder(&results());
        std::fs::remove_file(folder.path().join(missing)).unwrap();
        let output = report(folder.path());
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(said.contains(missing) && said.contains("hint: expected the folder"), "{said}");
        assert_eq!(names_in(folder.path()).len(), 1);
    }
}

/// The text between tags, entities as they are.
fn text_of(html: &str) -> String {
    let pieces = html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    pieces.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_page_runs_nothing_fetches_nothing_and_escapes_everything() {
    for results in [results(), nothing(), both()] {
        let html = page(&results);
        for never in ["<script", "javascript:", "src=", "@import", "url(", "<link", " onclick"] {
            assert!(!html.contains(never), "{never}");
        }
        let places = html.match_indices("http").map(|(at, _)| &html[at..]);
        for place in places {
            assert!(place.starts_with("https://arxiv.org/abs/2504.04215\""), "{}", &place[..60]);
        }
        assert!(html.contains("&lt;of a small model&gt;") && !html.contains("<of a small"));
        let is_answered = results.models.iter().any(|m| !m.sets.is_empty());
        assert_eq!(html.contains("href=\"transcripts.html\""), is_answered);
        for tag in ["section", "figure", "table", "details", "tr", "svg", "div", "g", "p", "span"] {
            let open = html.matches(&format!("<{tag}>")).count()
                + html.matches(&format!("<{tag} ")).count();
            assert_eq!(open, html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(!text_of(&html).contains("NaN") && !text_of(&html).contains(" inf"));
    }
}

#[test]
fn every_figure_is_described_and_has_its_data_below() {
    let html = page(&results());
    let figures: Vec<&str> = html.split("<figure id=\"").skip(1).collect();
    // The story, selection, cosine, six sets, the search, strengths, realised alpha, weights.
    assert_eq!(figures.len(), 2 + 1 + 2 + 6 + 2 + 2 + 1 + 3);
    let mut ids = Vec::new();
    for figure in figures {
        let figure = figure.split("</figure>").next().unwrap();
        let id = figure.split('"').next().unwrap();
        assert!(!ids.contains(&id), "{id} twice");
        ids.push(id);
        for part in [
            "<svg class=\"chart\" role=\"img\"",
            &format!("<title id=\"{id}-t\">"),
            &format!("<desc id=\"{id}-d\">"),
            "<figcaption>",
            "<details><summary>Data</summary>",
            "<caption>",
        ] {
            assert!(figure.contains(part), "{id}: {part}");
        }
    }
}

#[test]
fn the_summary_says_what_broke_and_what_came_back() {
    let html = page(&results()).replace('\u{a0}', " ");
    for said in [
        "was compressed in 4 ways: 2 models lost safety, and the repair fixed 1; one model kept \
         it; one model could not be measured.",
        "Compression lowered refusals (vanilla) from 96 % to 32 % (p &lt;0.001), and raised attack \
         success from 4 % to 61 % (p &lt;0.001). The repair (blocks 16:mlp and 17 at alpha 2.25) \
         raised refusals from 32 % to 89 % (p &lt;0.001), not significantly different from the \
         base (p = 0.065). Attack success went from 61 % to 11 % (p &lt;0.001), not significantly \
         above the base",
        "Harmless prompts refused: 10 % instead of 3 % (borderline) and 3 % instead of 1 % \
         (harmless).",
        "58 % of its answers are degenerate: they are empty",
        "The search found no repair that helps within its budget.",
        "Compression lost no measurable safety (vanilla): refusals went from 96 % to 95 %",
        "Its attack success is not known: step ‘wanda-alpaca-sequential: prune’ failed: \
         cannot write",
        "<strong>1 of 5 steps failed</strong>, and 1 was not run",
        "<td class=\"n better\">▼ 82 %</td>",
        "<td class=\"n worse\">▲ 15-fold</td>",
        "61 % <small>51–70</small>",
        "refuses too little to have a direction of its own",
        "0.351 (Wanda-Align)",
        "0.996 (LLM.int8())",
        "other models’ figures",
    ] {
        assert!(html.contains(said), "{said}");
    }
    // Two ways of compressing one after the other are no row of the paper's.
    assert!(!html.contains("0.337 ("));
}

#[test]
fn a_repair_that_falls_short_of_the_base_raised_refusals() {
    let mut results = results();
    let ends = |d: &Difference| d.model == format!("{FIXED}-repaired") && d.base == BASE;
    for d in results.attack_differences.iter_mut().filter(|d| ends(d)) {
        d.p = 0.01;
    }
    let html = page(&results).replace('\u{a0}', " ");
    for said in [
        "2 models lost safety, and no repair brought it back; one model kept it; one model could \
         not be measured; one repair raised refusals.",
        "raised refusals from 32 % to 89 % (p &lt;0.001), still below the base (p = 0.010).",
    ] {
        assert!(html.contains(said), "{said}");
    }
}

#[test]
fn a_model_that_babbles_instead_of_refusing_has_lost_safety() {
    let mut results = results();
    let [base, babbling] = [0, 1].map(|i| &results.models[i].name);
    let is_success = |d: &Difference| (&d.base, &d.model) == (base, babbling) && d.measure == "asr";
    let at: Vec<bool> = results.attack_differences.iter().map(is_success).collect();
    // It answers no attack more often, and refuses a third of them.
    results.models[1].sets[0].outcome.shares.asr = results.models[0].sets[0].outcome.shares.asr;
    for (d, _) in results.attack_differences.iter_mut().zip(at).filter(|(_, at)| *at) {
        (d.more, d.fewer, d.p) = (0, 0, 1.0);
    }
    let html = page(&results).replace('\u{a0}', " ");
    for said in [
        "2 models lost safety",
        "Compression lowered refusals (vanilla) from 96 % to 32 % (p &lt;0.001). Attack success \
         went from 4 % to 4 % (p = 1.00).",
    ] {
        assert!(html.contains(said), "{said}");
    }
}

#[test]
fn two_repairs_stand_side_by_side_everywhere() {
    let html = page(&both()).replace('\u{a0}', " ");
    for said in [
        // The sentences.
        "2 models lost safety, of which AIRD fixed 1 and the restore fixed 2; one model kept it;",
        "AIRD (blocks 16:mlp and 17 at alpha 2.25) raised refusals from 32 % to 89 % (p \
         &lt;0.001), not significantly different from the base (p = 0.",
        "The restore (210 matrices restored to the original on their own zeros and types) raised \
         refusals from 32 % to 94 % (p &lt;0.001), not significantly different from the base",
        "AIRD found nothing that helps within its budget.",
        "what the repairs brought back",
        // The legend, and a table's head and rows.
        "<span><span class=\"mark repaired\" role=\"img\" aria-label=\"AIRD\">◆</span> AIRD</span> \
         <span><span class=\"mark repaired-2\" role=\"img\" aria-label=\"restored\">■</span> \
         restored</span>",
        "AIRD</th><th scope=\"col\" class=\"n\">change</th><th scope=\"col\" class=\"n\">p</th>\
         <th scope=\"col\" class=\"n\"><span class=\"mark repaired-2\"",
        "aria-label=\"restored\">■</span> wanda-align-restore</th>",
        "wanda-align: AIRD against compressed, and against the base",
        "wanda-align: restored against compressed, and against the base",
        "AIRD: the search found nothing that helps within its budget: there is no repaired model.",
        // The charts.
        "wanda-align: compressed 61 %, AIRD 11 %, restored 5 %",
        "Each line is a variant, and forks into its repairs.",
        "Beside them, on the same prompts: base and restored.",
        "; base: 97 % and 8 % refused; restored: 94 % and 9 % refused",
        "Of 32 held-out harmful prompts the base refuses 31, the restored model 30; of 64 harmless \
         ones 5 and 6.",
        "Weight change of wanda-align-restore by block",
        "Its attack success is not known: step ‘wanda-alpaca-sequential: prune’ failed",
    ] {
        assert!(html.contains(said), "{said}");
    }
    // What stood where there was one repair has a repair's own word.
    assert!(!html.contains("The repair (") && !html.contains("aria-label=\"repaired\""));
    let ids: Vec<&str> =
        html.split("<figure id=\"").skip(1).map(|f| f.split('"').next().unwrap()).collect();
    // As with one repair, and the weights of the two that were restored.
    assert_eq!(ids.len(), 2 + 1 + 2 + 6 + 2 + 2 + 1 + 3 + 2);
    assert!(ids.iter().enumerate().all(|(i, id)| !ids[..i].contains(id)), "{ids:?}");
    let classes = ["mark repaired", "mark repaired-2", "whisker repaired-2", "bar repaired-2"];
    assert!(classes.iter().all(|class| html.contains(&format!("class=\"{class}\""))));
}

#[test]
fn a_repair_is_counted_where_it_was_tried() {
    let said = |results: &Results| page(results).replace('\u{a0}', " ");
    let without = |mut results: Results, names: &[String]| {
        results.models.retain(|m| !names.contains(&m.name));
        results
    };
    let [aird, other] = [FIXED, NOT_FIXED].map(|of| format!("{of}-aird"));
    let html = said(&without(both(), std::slice::from_ref(&other)));
    let expected = "2 models lost safety, and where it was tried AIRD fixed 1 of 1 and the restore \
                    fixed 2 of 2; one model kept it;";
    assert!(html.contains(expected));
    // Tried only on a model that could not be measured.
    let html = said(&without(both(), &[aird, other]));
    assert!(
        html.contains("2 models lost safety, of which the restore fixed 2; one model kept it;")
    );
    let [first, second] = [FIXED, NOT_FIXED].map(|of| format!("{of}-repaired"));
    let html = said(&without(results(), std::slice::from_ref(&second)));
    let expected = "2 models lost safety, and where it was tried the repair fixed 1 of 1; one";
    assert!(html.contains(expected));
    let html = said(&without(results(), &[first, second]));
    assert!(html.contains("2 models lost safety, and no repair was tried on them; one model kept"));
}

#[test]
fn where_nothing_was_edited_no_formula_of_an_edit_comes_first() {
    const FORMULA: &str = "W + alpha r rᵀ W";
    let inside = |results: &Results| {
        let html = page(results);
        html.split("<h2>Inside the repairs</h2>\n").nth(1).unwrap().to_owned()
    };
    assert!(inside(&both()).starts_with(&format!("<p>{FORMULA}")));
    let mut restored = both();
    restored.models.retain(|m| m.repaired_by.as_deref() != Some("aird"));
    let html = inside(&restored);
    assert!(html.starts_with("<p>A restore refits") && !html.contains(FORMULA));
    // With a search that found nothing to edit there are alphas to explain.
    let found_nothing = results().models.into_iter().rev().find_map(|m| m.repair?.search);
    let model = restored.models.iter_mut().find_map(|m| m.repair.as_mut()).unwrap();
    model.search = found_nothing;
    let html = inside(&restored);
    assert!(html.starts_with("<p>A restore refits") && html.contains(FORMULA));
    assert!(!inside(&nothing()).contains(FORMULA));
}

#[test]
fn two_repairs_that_are_shown_by_one_word_keep_their_own_numbers() {
    let mut results = both();
    for model in &mut results.models {
        model.repaired_by = model.repaired_by.take().map(|name| name.replace("aird", "restored"));
    }
    let html = page(&results).replace('\u{a0}', " ");
    let story = html.split("<figure id=\"fig-story-attack\"").nth(1).unwrap();
    let table = story.split("<tbody>").nth(1).unwrap().split("</tbody>").next().unwrap();
    let row = table.lines().find(|row| row.contains(FIXED)).unwrap();
    for share in ["96 %", "32 %", "89 %", "94 %"] {
        assert!(row.contains(&format!(">{share} <small>")), "{share}: {row}");
    }
}

#[test]
fn the_card_has_a_column_for_each_repair() {
    let text = card(&both(), RECIPE).replace('\u{a0}', " ");
    for said in [
        "| | base | compressed | change | AIRD | change | p | restored | change | p |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        "| attack success, vanilla | 4 % [2–10] | 61 % [51–70] | ▲ 15-fold | 11 % [6–19] | ▼ 82 % \
         | &lt;0.001 | 5 % [2–11] | ▼ 92 % | &lt;0.001 |\n",
        // Where AIRD found nothing it has no column.
        "| | base | compressed | change | restored | change | p |\n",
        "A restore refits every matrix to what the original computes",
        "- wanda-align-restore: wanda-align with 210 matrices restored to the original",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
}

/// The results in `fixtures/results/NAME.json`.
fn committed(name: &str) -> Results {
    let path = root().join(format!("fixtures/results/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn results_of_one_repair_are_read_and_written_as_they_were() {
    let json = serde_json::to_string(&results()).unwrap();
    assert!(!json.contains("repaired_by") && !json.contains("held_out"));
    for name in ["quick", "all-attacks"] {
        let html = page(&committed(name));
        assert!(html.contains("<h2>The repair, before and after</h2>"), "{name}");
        assert!(html.contains("aria-label=\"repaired\">◆</span> repaired</th>"), "{name}");
        assert!(!html.contains("class=\"mark repaired-2"), "{name}");
    }
}

#[test]
fn steps_that_had_nothing_to_work_on_are_not_called_failed() {
    let mut results = results();
    results.steps.iter_mut().for_each(|s| s.state = State::Done);
    results.steps[1].state = State::Skipped;
    let html = page(&results);
    assert!(html.contains("<strong>1 of 5 steps was not run</strong>, since what they need"));
    assert!(!html.contains("failed</strong>"));
}

#[test]
fn what_is_not_known_is_said_everywhere() {
    let html = page(&nothing());
    for said in [
        "There are no answers to read.",
        "No model was attacked.",
        "No model was asked harmless prompts.",
        "No benchmark was run.",
        "No perplexity and no KL was measured.",
        "This was tried on no model.",
        "Only one judge judged",
        "there is no map of them",
        "5 of 5 steps failed",
    ] {
        assert!(html.contains(said), "{said}");
    }
    assert!(!html.contains("<td></td>") && !html.contains("<tbody>\n</tbody>"));
    let mut bare = nothing();
    bare.models.clear();
    bare.steps.clear();
    let html = page(&bare);
    assert!(html.contains("the study has no variants") && html.contains("no record of steps"));
    assert!(html.contains("The study has no variant to repair."));
    assert!(card(&bare, RECIPE).contains("the study has no variants"));
}

/// Every place in `value` below `path`, as JSON pointers, down to `depth`.
fn places(value: &serde_json::Value, path: &str, depth: usize, found: &mut Vec<String>) {
    let mut below = |key: &str, value| {
        let path = format!("{path}/{key}");
        found.push(path.clone());
        if depth > 1 {
            places(value, &path, depth - 1, found);
        }
    };
    match value {
        serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| below(key, value)),
        // The first of a list stands for the others.
        serde_json::Value::Array(list) => list.iter().take(1).for_each(|value| below("0", value)),
        _ => {}
    }
}

#[test]
fn whatever_is_missing_there_is_a_report() {
    let whole = serde_json::to_value(results()).unwrap();
    let mut n = 0;
    for (i, model) in whole["models"].as_array().unwrap().iter().enumerate() {
        let (root, mut found) = (format!("/models/{i}"), Vec::new());
        found.push(root.clone());
        places(model, &root, 3, &mut found);
        for place in found {
            for less in [serde_json::json!(null), serde_json::json!([]), serde_json::json!(0)] {
                let mut results = whole.clone();
                *results.pointer_mut(&place).unwrap() = less;
                // Read as a file is.
                let Ok(results) = serde_json::from_str::<Results>(&results.to_string()) else {
                    continue;
                };
                let html = page(&results);
                assert!(html.ends_with("</html>\n") && !html.contains("NaN"), "{place}");
                assert!(!card(&results, RECIPE).contains("NaN"), "{place}");
                n += 1;
            }
        }
    }
    for i in 0..whole["models"].as_array().unwrap().len() {
        let mut results = results();
        results.models.remove(i);
        assert!(page(&results).ends_with("</html>\n") && !card(&results, RECIPE).is_empty());
    }
    assert!(n > 100, "only {n} of these were results");
}

#[test]
fn the_card_has_what_hubs_read_and_people_ask() {
    let results = results();
    let text = card(&results, RECIPE).replace('\u{a0}', " ");
    let front = text.strip_prefix("---\n").unwrap().split("---\n").next().unwrap();
    let keys = "base_model: owner/Model-1B\nbase_model_relation: quantized\nlicense: mit\n";
    assert!(front.starts_with(keys), "{front}");
    assert!(front.contains("tags:\n- gguf\n- aird\n"), "{front}");
    for said in [
        "# Demo: what pruning &amp; quantizing do to refusals &lt;of a small model&gt;\n",
        "| attack success, vanilla | 4 % [2–10] | 61 % [51–70] | ▲ 15-fold | 11 % [6–19] | ▼ 82 % \
         | &lt;0.001 |\n",
        "## wanda-align\n",
        "sha256sum -c SHA256SUMS",
        "aird undo",
        "```toml\nname = \"demo\"\n[base]\nfile = \"base.gguf\"\n```\n",
        "(report.html)",
        "- wanda-align-repaired: wanda-align with blocks 16:mlp and 17 at alpha 2.25.\n",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    let unknown = Results { origin: Origin::default(), ..results };
    let text = card(&unknown, RECIPE);
    assert!(text.contains("# base_model: OWNER/NAME, to be filled in by the publisher\n"));
    assert!(text.contains("# license: the base model's, to be filled in by the publisher\n"));
}

#[test]
fn every_model_is_named_in_every_table_of_models() {
    let html = page(&results());
    let attacks = html.split("<section id=\"attacks\">").nth(1).unwrap();
    let attacks = attacks.split("</table>").next().unwrap();
    for name in [BASE, FIXED, NOT_FIXED, UNHARMED, NOT_MADE] {
        assert!(attacks.contains(&format!("</span> {name}</th>")), "{name}");
    }
}

/// What the script in `layout.js` finds in `html` at `width` pixels.
fn looked_over(browser: &Browser, html: &str, width: u32, open: bool, more: &[&str]) -> usize {
    let script = include_str!("support/layout.js").replace("OPEN", &open.to_string());
    let script = format!("<script>{script}</script>\n</head>");
    let html = html.replacen("</head>", &script, 1);
    let dom = browser.show(&html, (width, 1000), &[&["--dump-dom"], more].concat());
    let found = dom.split("<pre id=\"found\">").nth(1).expect("the script did not end");
    let found = found.split("</pre>").next().unwrap();
    let found = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["width"], width, "the browser took another width");
    let problems = found["problems"].as_array().unwrap();
    let list = problems.iter().map(|p| p.as_str().unwrap()).collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "at {width}, {more:?}:\n{list}");
    found["boxes"].as_u64().unwrap() as usize
}

const DARK: &str = "--blink-settings=preferredColorScheme=0";

#[test]
fn in_a_browser_no_text_overlaps_is_cut_or_too_small() {
    let Some(browser) = browser() else { return };
    let html = page(&results());
    for (width, open, more) in [
        (1280, false, &[][..]),
        (420, false, &[][..]),
        (1280, true, &[DARK][..]),
        (420, true, &[DARK][..]),
    ] {
        let boxes = looked_over(&browser, &html, width, open, more);
        assert!(boxes > 400, "only {boxes} texts are seen at {width}");
    }
    assert!(looked_over(&browser, &page(&nothing()), 420, true, &[]) > 50);
    assert!(looked_over(&browser, &page(&many()), 420, false, &[]) > 1000);
    for (width, more) in [(1280, &[][..]), (420, &[DARK][..])] {
        assert!(looked_over(&browser, &page(&both()), width, true, more) > 400);
    }
}

#[test]
fn what_looks_the_page_over_finds_what_is_wrong() {
    let Some(browser) = browser() else { return };
    for (body, expected) in [
        (
            "<div style='position:absolute;top:0'>one</div><div style='position:absolute;top:\
          2px'>two\
          </div>",
            "overlap",
        ),
        ("<div style='width:900px'>x</div>", "pixels wide in 420"),
        ("<svg viewBox='0 0 99 20' width='99'><text x='90' y='12'>outside</text></svg>", "leaves"),
        ("<div style='overflow:hidden;width:30px;white-space:nowrap'>much too long</div>", "cut"),
        ("<p style='font-size:7px'>tiny</p>", "pixels small"),
        ("<p style='color:#aaa'>pale</p>", "has contrast 2.3"),
    ] {
        let html = format!("<html><head></head><body style='background:#fff'>{body}</body></html>");
        let found = std::panic::catch_unwind(|| looked_over(&browser, &html, 420, false, &[]));
        let said = *found.unwrap_err().downcast::<String>().unwrap();
        assert!(said.contains(expected), "{body}: {said}");
    }
}

#[test]
fn in_a_browser_the_page_is_a_picture_in_light_and_dark_and_on_paper() {
    let Some(browser) = browser() else { return };
    let html = page(&results());
    let folder = tempdir();
    // Kept, and whole, for eyes where someone asks for them.
    let kept = std::env::var_os("AIRD_TEST_PICTURES").map(PathBuf::from);
    let height = if kept.is_some() { 13000 } else { 1500 };
    let folder = kept.as_deref().unwrap_or(folder.path());
    let picture = |name: &str, width: u32, more: &[&str]| {
        let path = folder.join(format!("{name}.png"));
        let shot = format!("--screenshot={}", path.display());
        browser.show(&html, (width, height), &[&[shot.as_str()], more].concat());
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(u32::from_be_bytes(bytes[16..20].try_into().unwrap()), width, "{name}");
        // An empty page is a few kB.
        assert!(bytes.len() > 40_000, "{name}: only {} bytes of picture", bytes.len());
        bytes
    };
    let (light, dark) = (picture("light", 1280, &[]), picture("dark", 1280, &[DARK]));
    assert!(light != dark, "the page is the same in light and dark");
    picture("narrow", 420, &[]);
    let (path, pdf) = (folder.join("report.html"), folder.join("report.pdf"));
    std::fs::write(&path, &html).unwrap();
    let print = format!("--print-to-pdf={}", pdf.display());
    browser.open(&path, (1280, 1000), &[&print, "--no-pdf-header-footer"]);
    assert!(std::fs::read(&pdf).unwrap().starts_with(b"%PDF"));
}
