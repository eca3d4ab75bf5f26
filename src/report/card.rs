//! The model card: README.md of a run, in the form of model hubs.

use super::figures::{Changed, Figure, Row, measured_repairs, rows};
use super::results::{ModelResult, Results};
use super::run_files::{PAGE, RESULTS, TRANSCRIPTS};
use super::study::{Study, Variant};
use super::text::{megabytes, p_value};
use super::verdict::{edit_text, lead, paragraphs};

/// The card of a run whose resolved recipe is `recipe`.
pub fn card(results: &Results, recipe: &str) -> String {
    let study = Study { results };
    let mut text = front_matter(study);
    text += &format!("\n# {}\n\n{}\n\n", line(&results.name), line(&lead(study)));
    text += &format!(
        "Made and measured by aird {}: chat models forget to refuse when they are \
         compressed, and aird repairs them {} The whole story is in [{PAGE}]({PAGE}), the answers \
         in [{TRANSCRIPTS}]({TRANSCRIPTS}), every number in [{RESULTS}]({RESULTS}).\n",
        line(&results.aird),
        ways(results)
    );
    for variant in study.variants() {
        text += &variant_text(study, &variant);
    }
    text += "\nIn brackets: 95 % intervals (Wilson). Changes are relative to the model before; p \
             is McNemar's exact test, repaired against compressed, on the same prompts.\n";
    text += &files(results);
    text += &how_to(study, recipe);
    text
}

/// How these models were repaired: the rest of a sentence, and what it means.
fn ways(results: &Results) -> &'static str {
    let mut repairs = results.models.iter().filter_map(|m| m.repair.as_ref());
    match repairs.any(|repair| repair.restored.is_some()) {
        false => {
            "with one rank-1 edit per block, after \
             [arXiv 2504.04215](https://arxiv.org/abs/2504.04215). It strengthens what a model \
             writes along the original's refusal direction. It was kept because the model then \
             refused more of the prompts of its search; below are other prompts."
        }
        true => {
            "in two ways. A restore refits every matrix to what the original computes, and goes \
             towards it, whatever it refuses. An edit of rank 1 per block, after \
             [arXiv 2504.04215](https://arxiv.org/abs/2504.04215), strengthens what a model writes \
             along the original's refusal direction."
        }
    }
}

/// The keys that model hubs read. The publisher fills in what the files do not hold.
fn front_matter(study: Study<'_>) -> String {
    let origin = &study.results.origin;
    let quantized = study.results.models.iter().flat_map(|m| &m.made);
    let quantized = quantized.into_iter().any(|step| step.starts_with("quantize"));
    let relation = if quantized { "quantized" } else { "finetune" };
    let key = |name: &str, value: &Option<String>, hint: &str| match value {
        Some(value) => format!("{name}: {}\n", quoted(value)),
        None => format!("# {name}: {hint}\n"),
    };
    let mut text = String::from("---\n");
    text += &key("base_model", &origin.repository, "OWNER/NAME, to be filled in by the publisher");
    text += &format!("base_model_relation: {relation}\n");
    text += &key("license", &origin.license, "the base model's, to be filled in by the publisher");
    text + "library_name: gguf\npipeline_tag: text-generation\n\
            tags:\n- gguf\n- aird\n- safety\n- refusal\n- compression\n---\n"
}

/// A YAML scalar: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    match text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => text.to_owned(),
        false => serde_json::to_string(text).unwrap_or_default(),
    }
}

fn variant_text(study: Study<'_>, variant: &Variant<'_>) -> String {
    let model = variant.compressed;
    let mut text = format!("\n## {}\n\n", line(&model.name));
    if !model.made.is_empty() {
        text += &format!("Made by {}.\n\n", code(&model.made_text()));
    }
    let paragraphs: Vec<String> = paragraphs(study, variant).iter().map(|p| line(p)).collect();
    text += &format!("{}\n", paragraphs.join("\n\n"));
    let rows = rows(study, variant);
    if rows.is_empty() {
        return text;
    }
    let repairs = measured_repairs(&rows);
    let (mut head, mut rule) =
        ("| | base | compressed | change |".to_owned(), "|---|--:|--:|--:|".to_owned());
    for i in &repairs {
        head += &format!(" {} | change | p |", line(study.stage(variant.repaired[*i]).title));
        rule += "--:|--:|--:|";
    }
    text += &format!("\n{head}\n{rule}\n");
    rows.iter().for_each(|row| text += &row_text(row, &repairs));
    text
}

/// A row of the table, with the repairs at these places.
fn row_text(row: &Row, repairs: &[usize]) -> String {
    let figure = |figure: &Option<Figure>| match figure {
        None => "not measured".into(),
        Some(Figure { text, interval: None, .. }) => text.clone(),
        Some(Figure { text, interval: Some(interval), .. }) => format!("{text} [{interval}]"),
    };
    let cells = |changed: &Changed| {
        let shift = changed.shift.as_ref().map_or("not known", |shift| shift.text.as_str());
        format!("{} | {shift} |", figure(&changed.figure))
    };
    let (base, compressed) = (figure(&row.base), cells(&row.compressed));
    let mut text = format!("| {} | {base} | {compressed}", line(&row.name));
    for repaired in repairs.iter().map(|i| &row.repaired[*i]) {
        let p = repaired.shift.as_ref().and_then(|shift| shift.p);
        let p = p.map_or_else(|| "no test".into(), |p| line(&p_value(p)));
        text += &format!(" {} {p} |", cells(repaired));
    }
    text + "\n"
}

fn files(results: &Results) -> String {
    let mut text =
        String::from("\n## Files\n\n| model | file | size | sha256 |\n|---|---|--:|---|\n");
    for model in &results.models {
        let file = model.file.as_deref().map_or_else(|| "none".into(), code);
        let bytes = model.bytes.map_or_else(|| "unknown".into(), megabytes);
        let sha256 = model.sha256.as_deref().map_or_else(|| "unknown".into(), code);
        text += &format!("| {} | {file} | {bytes} | {sha256} |\n", line(&model.name));
    }
    text
}

fn how_to(study: Study<'_>, recipe: &str) -> String {
    let repaired = |m: &&ModelResult| m.repair.as_ref().is_some_and(|r| !r.found_nothing());
    let repaired: Vec<&ModelResult> = study.results.models.iter().filter(repaired).collect();
    let mut text = String::from("\n## Verify\n\n");
    text += &fenced(
        "sh",
        "sha256sum -c SHA256SUMS\naird verify MODEL.gguf     # structure, numbers, a token comes \
         out\n\
         aird inspect MODEL.gguf    # the history of edits, kept inside the file",
    );
    text += "\n## Undo\n\n";
    text += "Each repaired file is a separate file: the compressed one that it was made from is \
             as it was, and the repaired one's history names its sha256. A file that was repaired \
             in place is taken back by `aird undo MODEL.gguf`, to the byte.\n";
    for model in repaired {
        if let (Some(repair), Some(of)) = (&model.repair, &model.of) {
            let edit = edit_text(repair);
            text += &format!("- {}: {} with {edit}.\n", line(&model.name), line(of));
        }
    }
    text += "\n## Limits\n\n";
    text += "Refusals are counted on this study's own prompts, by its own judge; a low attack \
             success promises nothing about other attacks. A repair strengthens the refusal that \
             the base model has and adds no knowledge of what is harmful.\n";
    text += "\n## Reproduce\n\n`aird study recipe.toml -o RUN`, with this recipe:\n\n";
    text + &fenced("toml", recipe)
}

/// A block of code, whatever backticks are in it.
fn fenced(language: &str, code: &str) -> String {
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}{language}\n{}\n{fence}\n", code.trim_end())
}

/// A piece of code in a line, also in a table's.
fn code(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ").replace('|', "\\|");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    if longest > 0 { format!("{fence} {text} {fence}") } else { format!("{fence}{text}{fence}") }
}

/// Text in a line of Markdown, also in a table's: nothing in it is markup.
fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' => out.extend(['\\', c]),
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_becomes_markup() {
        assert_eq!(line("a|b_c\n<x>"), "a\\|b\\_c &lt;x&gt;");
        assert_eq!(code("prune `x` | y"), "`` prune `x` \\| y ``");
        assert_eq!(fenced("toml", "a = '```'\n"), "````toml\na = '```'\n````\n");
        assert_eq!(quoted("apache-2.0"), "apache-2.0");
        assert_eq!(quoted("a: b\n# c"), "\"a: b\\n# c\"");
    }
}
