//! The book in `docs` agrees with the program: its reference is made from the definitions of the
//! command line and of the reports, its links lead somewhere, its README is short.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use aird::cli::Cli;
use clap::{Command, CommandFactory};
use serde_json::Value;

use crate::support::contract::{Contract, fits};
use crate::support::pages::{index_page, json_page, verb_page, verbs};
use crate::support::{Adapter, Arch, Tiny, json, root, tempdir};

/// The line of the summary after which verbs are listed.
const VERBS: &str = "- [Every verb](verbs/index.md)\n";
/// Modules of `src/verbs` that are a mode of a verb, and how it is asked for.
const MODES: [(&str, &str); 1] = [("origin", "diff --origin")];
/// The verbs whose `--json` is not a `Report` of theirs.
const OTHER_JSON: [&str; 1] = ["study"];

fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// By verb, of all that take `--json`.
fn schemas(command: &Command) -> Vec<(String, Value)> {
    let contract = Contract::read(root());
    let takes_json = |verb: &&Command| verb.get_arguments().any(|arg| arg.get_id() == "json");
    let names = verbs(command).filter(takes_json).map(|verb| verb.get_name().to_owned());
    let names = names.filter(|name| !OTHER_JSON.contains(&name.as_str()));
    let schema = |name: String| {
        let found = contract.schema(&name);
        let missing = "takes --json, and has no Report in src/verbs";
        (name.clone(), found.unwrap_or_else(|| panic!("aird {name} {missing}")))
    };
    let mut schemas: Vec<(String, Value)> = names.map(schema).collect();
    for (module, how) in MODES {
        let mut schema = contract.schema(module).unwrap();
        schema["title"] = format!("aird {how} --json").into();
        schemas.push((module.into(), schema));
    }
    schemas
}

/// Everything in `docs` that is generated, by its path there.
fn generated() -> BTreeMap<String, String> {
    let command = command();
    let schemas = schemas(&command);
    let mut pages = BTreeMap::new();
    let mut list = String::new();
    for verb in verbs(&command) {
        let name = verb.get_name();
        let has_schema = schemas.iter().any(|(of, _)| of == name);
        pages.insert(format!("verbs/{name}.md"), verb_page(verb, has_schema));
        list += &format!("  - [aird {name}](verbs/{name}.md)\n");
    }
    pages.insert("verbs/index.md".into(), index_page(&command));
    pages.insert("json.md".into(), json_page(&schemas));
    for (verb, schema) in &schemas {
        let text = serde_json::to_string_pretty(schema).unwrap() + "\n";
        pages.insert(format!("schemas/{verb}.json"), text);
    }
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let (before, after) = summary.split_once(VERBS).expect("the summary lists verbs");
    let after: String =
        after.split_inclusive('\n').skip_while(|line| line.starts_with("  - ")).collect();
    pages.insert("SUMMARY.md".into(), format!("{before}{VERBS}{list}{after}"));
    pages
}

#[test]
fn the_reference_is_that_of_the_definitions() {
    let docs = root().join("docs");
    let pages = generated();
    if std::env::var_os("AIRD_BLESS").is_some_and(|v| v == "1") {
        for folder in ["verbs", "schemas"] {
            let _ = fs::remove_dir_all(docs.join(folder));
            fs::create_dir_all(docs.join(folder)).unwrap();
        }
        for (path, text) in &pages {
            fs::write(docs.join(path), text).unwrap();
        }
    }
    let hint = "hint: AIRD_BLESS=1 cargo nextest run book";
    for (path, text) in &pages {
        let found = fs::read_to_string(docs.join(path)).unwrap_or_default();
        assert!(found == *text, "docs/{path} is not what the definitions say\n{hint}");
    }
    for folder in ["verbs", "schemas"] {
        for name in crate::support::names_in(&docs.join(folder)) {
            assert!(
                pages.contains_key(&format!("{folder}/{name}")),
                "{folder}/{name} is left over"
            );
        }
    }
}

/// What `aird WORDS --json` prints, against the schema of its verb.
fn assert_fits(schemas: &[(String, Value)], words: &[&Path]) {
    let verb = words[0].to_str().unwrap();
    let (_, schema) = schemas.iter().find(|(name, _)| name == verb).unwrap();
    let report = json(words);
    fits(&report, schema, schema, verb).unwrap_or_else(|e| panic!("{e}\n{report:#}"));
    // That this can fail: a field that is missing, and one too many.
    let Value::Object(mut fields) = report else { return };
    fields.insert("surprise".into(), 1.into());
    assert!(fits(&fields.clone().into(), schema, schema, verb).is_err(), "{verb}");
    fields.remove("surprise");
    let name = schema["required"][0].as_str().unwrap_or_default().to_owned();
    assert!(fields.remove(&name).is_some(), "{verb}: {name}");
    assert!(fits(&fields.into(), schema, schema, verb).is_err(), "{verb} without {name}");
}

#[test]
fn what_verbs_print_as_json_fits_their_schemas() {
    let schemas = schemas(&command());
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama);
    let model = tiny.write(folder.path());
    let adapter = Adapter::new(&tiny, &["blk.0.ffn_up.weight"]).write(folder.path());
    let out = folder.path().join("out.gguf");
    let answers = root().join("fixtures/judge.jsonl");
    let words = |words: &[&'static str]| -> Vec<PathBuf> {
        let path = |word: &&str| match *word {
            "MODEL" => model.clone(),
            "ADAPTER" => adapter.clone(),
            "OUT" => out.clone(),
            "ANSWERS" => answers.clone(),
            word => word.into(),
        };
        words.iter().map(path).collect()
    };
    for line in [
        &["inspect", "MODEL", "--tensors", "--structure"][..],
        &["verify", "MODEL", "--sha256"],
        &["merge", "MODEL", "--lora", "ADAPTER", "-o", "OUT"],
        &["diff", "MODEL", "OUT"],
        &["quantize", "MODEL", "--method", "rtn", "--type", "q8_0", "-o", "OUT", "--force"],
        &["prune", "MODEL", "--method", "magnitude", "--sparsity", "0.5", "-o", "OUT", "--force"],
        &["judge", "ANSWERS"],
        &["devices"],
    ] {
        let line = words(line);
        assert_fits(&schemas, &line.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    }
}

/// Markdown files that people read, relative to the repository.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        ["README.md", "BENCHMARKS.md", "CONTRIBUTING.md"].map(PathBuf::from).into();
    found.extend(["ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"].map(PathBuf::from));
    for folder in ["docs", "docs/verbs", "fixtures", "fixtures/results"] {
        let names = crate::support::names_in(&root().join(folder));
        let pages = names.iter().filter(|name| name.ends_with(".md"));
        found.extend(pages.map(|name| Path::new(folder).join(name)));
    }
    found
}

/// The text outside of code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Anchors of headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
        title.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut findings = Vec::new();
    let mut n_links = 0;
    for document in documents() {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        for link in prose(&text).split("](").skip(1) {
            let Some((link, _)) = link.split_once(')') else { continue };
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            n_links += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(&document),
                path => root().join(&document).parent().unwrap().join(path),
            };
            if !target.exists() {
                findings.push(format!("{}: {link}: there is no such file", document.display()));
            } else if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                if !anchors(&text).contains(anchor) {
                    findings.push(format!("{}: {link}: no such heading", document.display()));
                }
            }
        }
    }
    assert!(n_links > 100, "only {n_links} links found");
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// The words of a line of shell, up to a comment, a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (None, '>' | '|' | '&' | ';') => break,
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// What a page tells its reader to type, of aird: after a prompt; in blocks of shell without it.
fn commands_of(text: &str) -> Vec<Vec<String>> {
    let (mut language, mut found) = ("", Vec::new());
    let text = text.replace("\\\n", " ");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("```") {
            language = if language.is_empty() { name } else { "" };
        }
        let typed = match (language, line.strip_prefix("$ ")) {
            ("console" | "text", Some(typed)) => typed,
            ("sh", None) => line,
            _ => continue,
        };
        if typed.starts_with("aird ") {
            found.push(words(typed));
        }
    }
    found
}

#[test]
fn every_command_of_the_documents_is_one_that_aird_takes() {
    let mut findings = Vec::new();
    let mut n_commands = 0;
    let is_refused = |words: &[String]| match command().try_get_matches_from(words) {
        Err(error) if error.use_stderr() => Some(error.to_string()),
        _ => None,
    };
    // Of the past, and usage as clap shows it.
    let is_typed =
        |path: &&PathBuf| !path.ends_with("CHANGELOG.md") && !path.starts_with("docs/verbs");
    for document in documents().iter().filter(is_typed) {
        for words in commands_of(&fs::read_to_string(root().join(document)).unwrap()) {
            n_commands += 1;
            let error = is_refused(&words);
            let at = format!("{}: {}", document.display(), words.join(" "));
            findings.extend(error.map(|error| format!("{at}\n{error}")));
        }
    }
    assert!(n_commands > 60, "only {n_commands} commands found");
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    let of_old = words("aird repair 'a model.gguf' --refference b.gguf -o c.gguf # long ago");
    assert_eq!(of_old[2], "a model.gguf");
    assert!(is_refused(&of_old).is_some_and(|error| error.contains("--refference")), "{of_old:?}");
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for page in documents().iter().filter_map(|path| path.strip_prefix("docs").ok()) {
        let page = page.to_string_lossy().replace('\\', "/");
        assert!(page == "SUMMARY.md" || summary.contains(&format!("]({page})")), "{page}");
    }
}

#[test]
fn readme_is_short_and_names_every_verb() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let n_lines = readme.lines().count();
    assert!(n_lines <= 150, "{n_lines} lines, at most 150: the book takes the rest");
    for verb in verbs(&command()) {
        let name = verb.get_name();
        assert!(readme.contains(&format!("`aird {name}")), "README's table lacks aird {name}");
    }
}
