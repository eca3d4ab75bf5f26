//! Winogrande: which of two names a blank stands for (Sakaguchi et al. 2019).
//!
//! Scored by part (Trinh and Le 2018): the options stand in the context, and what is scored is the
//! rest of the sentence, the same after both.

use super::super::error::Result;
use super::item::{Item, Pair};
use super::row::Row;
use super::task::Task;

/// Which of two a sentence speaks of.
pub(super) struct Winogrande;

impl Task for Winogrande {
    fn name(&self) -> &'static str {
        "winogrande"
    }

    fn version(&self) -> f64 {
        1.0
    }

    fn files(&self) -> &'static [&'static str] {
        &[
            "winogrande_dev.jsonl",
            "winogrande_val.jsonl",
            "winogrande.jsonl",
            "winogrande_1.1/dev.jsonl",
        ]
    }

    fn source(&self) -> &'static str {
        "https://winogrande.allenai.org (winogrande_1.1.zip, dev.jsonl)"
    }

    fn item(&self, row: &Row<'_>) -> Result<Item> {
        let sentence = row.text(&["sentence"])?;
        let parts = sentence.split_once('_');
        let (before, rest) = parts.ok_or_else(|| row.error("field 'sentence' has no blank '_'"))?;
        let gold = match row.text(&["answer"])? {
            "1" => 0,
            "2" => 1,
            other => {
                return Err(row.error(&format!("field 'answer' is '{other}', expected 1 or 2")));
            }
        };
        let rest = rest.trim();
        if rest.is_empty() {
            return Err(row.error("field 'sentence' has nothing after its blank"));
        }
        let pair = |option: &str| -> Result<Pair> {
            let context = format!("{before}{}", row.text(&[option])?);
            Ok(Pair { context, choice: rest.into() })
        };
        Ok(Item {
            line: row.line,
            pairs: vec![pair("option1")?, pair("option2")?],
            gold,
            target: rest.into(),
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
    fn the_rest_of_the_sentence_is_scored_behind_each_option() {
        let sentence = "The cup fell off the tray as _ was tilted.";
        let [cup, tray] = ["the cup", "the tray"];
        let rows = rows(&[
            json!({"sentence": sentence, "option1": cup, "option2": tray, "answer": "2"}),
            json!({"sentence": "No blank.", "option1": "a", "option2": "b", "answer": "1"}),
        ]);
        let item = Winogrande.item(&rows[0]).unwrap();
        assert_eq!(item.pairs[0].context, "The cup fell off the tray as the cup");
        assert_eq!(item.pairs[1].context, "The cup fell off the tray as the tray");
        assert!(item.pairs.iter().all(|pair| pair.choice == "was tilted."));
        assert_eq!(item.gold, 1);
        assert!(Winogrande.item(&rows[1]).unwrap_err().to_string().contains("line 2"));
    }
}
