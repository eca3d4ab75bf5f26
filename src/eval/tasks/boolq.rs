//! BoolQ: questions that people asked a search engine, with a passage that answers yes or no (Clark
//! et al. 2019).

use serde_json::Value;

use super::super::error::Result;
use super::item::Item;
use super::row::Row;
use super::task::Task;

/// A yes or no question about a passage.
pub(super) struct BoolQ;

impl Task for BoolQ {
    fn name(&self) -> &'static str {
        "boolq"
    }

    fn version(&self) -> f64 {
        2.0
    }

    fn files(&self) -> &'static [&'static str] {
        &[
            "boolq_dev.jsonl",
            "boolq_val.jsonl",
            "boolq_validation.jsonl",
            "boolq.jsonl",
            "BoolQ/val.jsonl",
        ]
    }

    fn source(&self) -> &'static str {
        "https://github.com/google-research-datasets/boolean-questions (dev.jsonl)"
    }

    fn item(&self, row: &Row<'_>) -> Result<Item> {
        let (passage, question) = (row.text(&["passage"])?, row.text(&["question"])?);
        let gold = match row.field(&["answer", "label"])? {
            (_, Value::Bool(yes)) => usize::from(*yes),
            (name, _) => row.index(&name, 2)?,
        };
        let context = format!("{passage}\nQuestion: {question}?\nAnswer:");
        Ok(Item {
            line: row.line,
            pairs: Item::pairs(&context, &["no", "yes"]),
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
        let (question, passage) = ("is tea hot", "Tea is hot.");
        let rows = rows(&[
            json!({"question": question, "passage": passage, "answer": true}),
            json!({"question": question, "passage": passage, "label": 1}),
            json!({"question": question, "passage": passage, "answer": "so"}),
        ]);
        let [a, b] = [0, 1].map(|i| BoolQ.item(&rows[i]).unwrap());
        assert_eq!((a.gold, &a.pairs), (b.gold, &b.pairs));
        assert_eq!(a.pairs[1].context, "Tea is hot.\nQuestion: is tea hot?\nAnswer:");
        assert_eq!(a.pairs[a.gold].choice, "yes");
        let said = BoolQ.item(&rows[2]).unwrap_err().to_string();
        assert!(said.contains("line 3: field 'answer' is \"so\""), "{said}");
    }
}
