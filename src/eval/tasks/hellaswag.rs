//! HellaSwag: how a described scene goes on (Zellers et al. 2019).
//!
//! Two forms: the set's own JSON lines, and the text file that llama-perplexity reads, six lines an
//! item, in which the activity stands before the context already and marks are taken out.

use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::super::error::Result;
use super::item::Item;
use super::row::{Row, malformed};
use super::task::Task;

/// Lines of an item in llama-perplexity's form: context, number of the right ending, four endings.
const LINES: usize = 6;
/// The field that such a row's context is given in.
const READY: &str = "query";

/// The likeliest of four endings.
pub(super) struct HellaSwag;

impl Task for HellaSwag {
    fn name(&self) -> &'static str {
        "hellaswag"
    }

    fn version(&self) -> f64 {
        1.0
    }

    fn files(&self) -> &'static [&'static str] {
        &["hellaswag_val.jsonl", "hellaswag.jsonl", "hellaswag_val.txt", "hellaswag_val_full.txt"]
    }

    fn source(&self) -> &'static str {
        "https://github.com/rowanz/hellaswag/tree/master/data (hellaswag_val.jsonl)"
    }

    fn has_norm(&self) -> bool {
        true
    }

    fn has_per_token(&self) -> bool {
        true
    }

    fn item(&self, row: &Row<'_>) -> Result<Item> {
        let (_, endings) = row.field(&["endings"])?;
        let texts = endings.as_array().map(|list| list.iter().filter_map(Value::as_str));
        let texts: Vec<&str> = texts.into_iter().flatten().collect();
        if texts.len() < 2 || texts.len() != endings.as_array().map_or(0, Vec::len) {
            return Err(row.error("field 'endings' is not a list of texts"));
        }
        let gold = row.index("label", texts.len())?;
        let ready = row.fields.contains_key(READY) && !row.fields.contains_key("ctx_a");
        let pairs = if ready {
            Item::pairs(row.text(&[READY])?, &texts)
        } else {
            let endings: Vec<String> = texts.into_iter().map(tidied).collect();
            Item::pairs(&tidied(&context(row)?), &endings)
        };
        Ok(Item { line: row.line, pairs, gold, target: gold.to_string(), doc: row.fields.clone() })
    }
}

/// The activity, what is given, and how the sentence to finish begins, its first letter in upper
/// case and all others in lower case: as the harness has it.
fn context(row: &Row<'_>) -> Result<String> {
    let activity = row.text(&["activity_label"])?;
    if !row.fields.contains_key("ctx_a") {
        return Ok(format!("{activity}: {}", row.text(&["ctx"])?));
    }
    let (given, begun) = (row.text(&["ctx_a"])?, row.text(&["ctx_b"])?);
    let mut letters = begun.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    Ok(format!("{activity}: {given} {first}{}", letters.as_str().to_lowercase()))
}

/// Without the marks in WikiHow's texts, removed as the harness removes them.
fn tidied(text: &str) -> String {
    let titled = text.trim().replace(" [title]", ". ");
    // A pattern of two escaped brackets cannot be wrong.
    let marks = Regex::new(r"\[[^\n]*?\]");
    let bare = marks.map(|marks| marks.replace_all(&titled, "").into_owned()).unwrap_or(titled);
    bare.replace("  ", " ")
}

/// The rows of llama-perplexity's form.
pub(super) fn rows_of_six<'a>(path: &'a Path, text: &str) -> Result<Vec<Row<'a>>> {
    // Empty lines at the end are not an item.
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let row = |(n, six): (usize, &[&str])| {
        let line = n * LINES + 1;
        let [context, label, endings @ ..] = six else {
            return Err(malformed(path, line, "an item of one line, expected 6"));
        };
        if endings.len() != LINES - 2 {
            let what = format!("an item of {} lines, expected {LINES}", six.len());
            return Err(malformed(path, line, &what));
        }
        let Some(gold) = label.trim().parse::<usize>().ok().filter(|gold| *gold < endings.len())
        else {
            let what = format!("'{label}', expected the number of the right ending, 0 to 3");
            return Err(malformed(path, line + 1, &what));
        };
        let mut fields = Map::new();
        fields.insert(READY.into(), json!(context));
        fields.insert("endings".into(), json!(endings));
        fields.insert("label".into(), json!(gold));
        Ok(Row::new(path, line, fields))
    };
    lines.chunks(LINES).enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::row::rows;
    use super::*;

    #[test]
    fn the_sets_own_form_is_tidied_as_the_harness_does() {
        let rows = rows(&[json!({
            "activity_label": "Baking",
            "ctx_a": "[header] Bread [title] Mix flour.",
            "ctx_b": "the Baker",
            "ctx": "x",
            "endings": ["kneads  it.", "[step] waits."],
            "label": "1",
        })]);
        let item = HellaSwag.item(&rows[0]).unwrap();
        assert_eq!(item.pairs[0].context, "Baking: Bread. Mix flour. The baker");
        assert_eq!([&item.pairs[0].choice, &item.pairs[1].choice], ["kneads it.", " waits."]);
        assert_eq!(item.gold, 1);
    }

    #[test]
    fn six_lines_are_an_item_as_they_stand() {
        let text = "Baking: A woman mixes flour. she\n2\na.\nb.\nc [x].\nd.\n";
        let path = Path::new("h.txt");
        let rows = rows_of_six(path, text).unwrap();
        let item = HellaSwag.item(&rows[0]).unwrap();
        assert_eq!(item.pairs[2].context, "Baking: A woman mixes flour. she");
        assert_eq!((item.pairs[2].choice.as_str(), item.gold), ("c [x].", 2));
        let said = |text: &str| rows_of_six(path, text).err().unwrap().to_string();
        assert!(said(&format!("{text}{}", text.replace('2', "4"))).contains("line 8: '4'"));
        assert!(said(&format!("{text}Only: a context\n")).contains("line 7: an item of one line"));
        assert_eq!(rows_of_six(path, &format!("{text}\n\n")).unwrap().len(), 1);
        assert!(said(&format!("{text}c\n1\na\n")).contains("line 7: an item of 3 lines"));
    }
}
