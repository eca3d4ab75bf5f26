//! RTE, recognising textual entailment (Dagan et al. 2006 and on), as SuperGLUE and GLUE hold it.

use serde_json::Value;

use super::super::error::Result;
use super::item::Item;
use super::row::Row;
use super::task::Task;

/// Whether one sentence follows from another.
pub(super) struct Rte;

impl Task for Rte {
    fn name(&self) -> &'static str {
        "rte"
    }

    fn version(&self) -> f64 {
        0.0
    }

    fn files(&self) -> &'static [&'static str] {
        &["rte_val.jsonl", "rte_validation.jsonl", "rte.jsonl", "RTE/val.jsonl"]
    }

    fn source(&self) -> &'static str {
        "https://super.gluebenchmark.com/tasks (RTE)"
    }

    fn item(&self, row: &Row<'_>) -> Result<Item> {
        let premise = row.text(&["premise", "sentence1"])?;
        let hypothesis = row.text(&["hypothesis", "sentence2"])?;
        let gold = match row.field(&["label"])?.1 {
            Value::String(label) if label == "entailment" => 0,
            Value::String(label) if label == "not_entailment" => 1,
            _ => row.index("label", 2)?,
        };
        let context = format!("{premise}\nQuestion: {hypothesis} True or False?\nAnswer:");
        Ok(Item {
            line: row.line,
            pairs: Item::pairs(&context, &["True", "False"]),
            gold,
            target: gold.to_string(),
            doc: row.fields.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::row::rows;
    use super::*;

    #[test]
    fn both_published_forms_are_asked_alike() {
        let (premise, hypothesis) = ("It rains.", "It is wet.");
        let rows = rows(&[
            json!({"premise": premise, "hypothesis": hypothesis, "label": "not_entailment"}),
            json!({"sentence1": premise, "sentence2": hypothesis, "label": 1}),
        ]);
        let [a, b] = [0, 1].map(|i| Rte.item(&rows[i]).unwrap());
        assert_eq!((a.gold, b.gold), (1, 1));
        assert_eq!(a.pairs, b.pairs);
        assert_eq!(a.pairs[0].context, "It rains.\nQuestion: It is wet. True or False?\nAnswer:");
        assert_eq!([&a.pairs[0].choice, &a.pairs[1].choice], ["True", "False"]);
    }
}
