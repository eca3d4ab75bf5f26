//! Pages of the book that are made from definitions: a verb's page from clap's, the page of JSON
//! from the schemas.

use clap::{Arg, Command};
use serde_json::Value;

/// Plain text as Markdown; what clap shows in angle brackets is no HTML.
fn escaped(text: &str) -> String {
    text.replace('<', "\\<").replace('*', "\\*").replace('[', "\\[")
}

/// Paragraphs as one line each: the book wraps by itself.
fn paragraphs(text: &str) -> String {
    let paragraph = |text: &str| escaped(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    text.split("\n\n").map(paragraph).collect::<Vec<_>>().join("\n\n")
}

/// `-o`, `--output <OUT>`, as one writes it.
fn spelled(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let many = if arg.get_num_args().is_some_and(|n| n.max_values() > 1) { "..." } else { "" };
    let values: Vec<String> = names.iter().map(|name| format!("<{name}>")).collect();
    let values = values.join(" ");
    if arg.is_positional() {
        return format!("`{values}{many}`");
    }
    let takes = arg.get_action().takes_values() && !values.is_empty();
    let values = if takes { format!(" {values}") } else { String::new() };
    let short = arg.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    format!("{short}`--{}{values}`", arg.get_long().unwrap_or_default())
}

fn argument(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
    let mut line = format!("- {}: {}", spelled(arg), paragraphs(&help.unwrap_or_default()));
    line = line.replace("\n\n", "\n\n  ");
    let takes = arg.get_action().takes_values();
    let values = arg.get_possible_values();
    let values: Vec<_> = values.iter().filter(|value| takes && !value.is_hide_set()).collect();
    for value in &values {
        let help = value.get_help().map(|help| format!(": {}", escaped(&help.to_string())));
        line += &format!("\n  - `{}`{}", value.get_name(), help.unwrap_or_default());
    }
    let defaults = arg.get_default_values();
    if takes && !arg.is_hide_default_value_set() && !defaults.is_empty() {
        let of = |value: &clap::builder::OsStr| format!("`{}`", value.to_string_lossy());
        let defaults = defaults.iter().map(of).collect::<Vec<_>>().join(" ");
        let before = match (values.is_empty(), line.ends_with('.')) {
            (false, _) => "\n\n  ",
            (true, true) => " ",
            (true, false) => ". ",
        };
        line += &format!("{before}Default: {defaults}.");
    }
    line + "\n"
}

/// A section for every heading of the help.
fn arguments(command: &Command, mark: &str) -> String {
    let shown = || command.get_arguments().filter(|arg| !arg.is_hide_set());
    let of = |heading: Option<&str>, positional: bool| -> String {
        shown()
            .filter(|a| a.is_positional() == positional && a.get_help_heading() == heading)
            .filter(|a| !["help", "version"].contains(&a.get_id().as_str()))
            .map(argument)
            .collect()
    };
    let mut headings: Vec<&str> = shown().filter_map(Arg::get_help_heading).collect();
    headings.dedup();
    let mut sections = vec![("Arguments", of(None, true)), ("Options", of(None, false))];
    sections.extend(headings.iter().map(|heading| (*heading, of(Some(heading), false))));
    let written = sections.iter().filter(|(_, lines)| !lines.is_empty());
    written.map(|(title, lines)| format!("\n{mark} {title}\n\n{lines}")).collect()
}

fn about(command: &Command) -> String {
    let long = command.get_long_about().or(command.get_about());
    paragraphs(&long.map(ToString::to_string).unwrap_or_default())
}

/// Verbs that people are shown, in the order of the help.
pub fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

/// The page of a verb; `has_schema` if there is a schema of its JSON.
pub fn verb_page(verb: &Command, has_schema: bool) -> String {
    let name = verb.get_name();
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let mut page = format!("# aird {name}\n\n{}\n\n```text\n{usage}\n```\n", about(verb));
    page += &arguments(verb, "##");
    for inner in verbs(verb) {
        page += &format!("\n## aird {name} {}\n\n{}\n", inner.get_name(), about(inner));
        page += &arguments(inner, "###");
    }
    page += "\n## See also\n\n";
    if has_schema {
        page += &format!("[What `--json` prints](../json.md#aird-{name}). ");
    }
    page + "[Exit codes](../ci.md#exit-codes-a-contract).\n"
}

/// The page of all verbs.
pub fn index_page(command: &Command) -> String {
    let mut page = String::from(
        "# Every verb\n\n\
         These pages are made from the definitions behind `aird --help`; `aird generate man` makes \
         man pages of the same.\n\n| verb | |\n|---|---|\n",
    );
    for verb in verbs(command) {
        let name = verb.get_name();
        let about = escaped(&verb.get_about().map(ToString::to_string).unwrap_or_default());
        page += &format!("| [`aird {name}`]({name}.md) | {about} |\n");
    }
    page += "\nOptions of all verbs:\n\n";
    command
        .get_arguments()
        .filter(|arg| arg.is_global_set())
        .for_each(|arg| page += &argument(arg));
    page + "\nResults go to stdout, progress and notes to stderr. Nothing is overwritten without \
            `--force`. With `NO_COLOR` nothing is coloured.\n"
}

/// A schema's type in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return name.trim_start_matches("#/$defs/").to_owned();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    }
    if let Some(ways) = schema["anyOf"].as_array() {
        return ways.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match (&schema["type"], schema.get("items"), schema.get("prefixItems")) {
        (_, _, Some(Value::Array(items))) => {
            format!("[{}]", items.iter().map(kind).collect::<Vec<_>>().join(", "))
        }
        (_, Some(items), _) => format!("array of {}", kind(items)),
        (Value::String(name), ..) if name == "object" => match &schema["additionalProperties"] {
            inner @ Value::Object(_) => format!("object of {}", kind(inner)),
            _ => "object".into(),
        },
        (Value::String(name), ..) => name.clone(),
        (Value::Array(names), ..) => {
            names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
        }
        _ => "any value".into(),
    }
}

fn fields(schema: &Value) -> String {
    let text = |schema: &Value| {
        let about = schema["description"].as_str().unwrap_or_default();
        about.replace('|', "\\|").replace('<', "\\<")
    };
    let Some(properties) = schema["properties"].as_object() else {
        return format!("{} {}\n", kind(schema), text(schema));
    };
    let mut table = String::from("| field | type | |\n|---|---|---|\n");
    // Required fields are in the order of the source, the properties of a schema by name.
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let required: Vec<&str> = required.collect();
    let others = properties.keys().map(String::as_str).filter(|name| !required.contains(name));
    for name in required.iter().copied().chain(others) {
        let field = &properties[name];
        table += &format!("| `{name}` | {} | {} |\n", kind(field), text(field));
    }
    table
}

/// The page of what every verb prints with `--json`.
pub fn json_page(schemas: &[(String, Value)]) -> String {
    let mut page = String::from(
        "# JSON\n\n\
         What each verb prints with `--json`. This page and the schemas in `docs/schemas` (JSON \
         Schema, draft 2020-12) are made from the report types of the library, and tests check \
         that what verbs print fits them. Fields are added in minor versions, and removed or \
         renamed in major ones; a schema allows those of its version only. Numbers \
         that are not finite are `null`.\n\n\
         Where a verb stops without its report, because a model has no direction say, it prints \
         `{\"stopped\": {...}}` with a `message`. `study --json` prints `results.json`, or with \
         `--dry-run` its plan.\n",
    );
    for (verb, schema) in schemas {
        let title = schema["title"].as_str().unwrap_or_default().trim_end_matches(" --json");
        page += &format!("\n## {title}\n\n[Schema](schemas/{verb}.json)");
        page += &format!("\n\n{}", fields(schema));
        for (name, inner) in schema["$defs"].as_object().into_iter().flatten() {
            page += &format!("\n**{name}**\n\n{}", fields(inner));
        }
    }
    page
}
