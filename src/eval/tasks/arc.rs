//! ARC: science questions from school exams (Clark et al. 2018), the challenge and the easy part.

use serde_json::Value;

use super::super::error::Result;
use super::item::Item;
use super::row::Row;
use super::task::Task;

/// One of the two parts.
pub(super) struct Arc {
    name: &'static str,
    files: &'static [&'static str],
}

/// Questions that neither retrieval nor co-occurrence answers.
pub(super) const CHALLENGE: Arc = Arc {
    name: "arc_challenge",
    files: &[
        "arc_challenge_test.jsonl",
        "arc_challenge.jsonl",
        "ARC-Challenge-Test.jsonl",
        "ARC-Challenge/ARC-Challenge-Test.jsonl",
    ],
};

/// All other questions.
pub(super) const EASY: Arc = Arc {
    name: "arc_easy",
    files: &[
        "arc_easy_test.jsonl",
        "arc_easy.jsonl",
        "ARC-Easy-Test.jsonl",
        "ARC-Easy/ARC-Easy-Test.jsonl",
    ],
};

impl Task for Arc {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> f64 {
        1.0
    }

    fn files(&self) -> &'static [&'static str] {
        self.files
    }

    fn source(&self) -> &'static str {
        "https://allenai.org/data/arc"
    }

    fn has_norm(&self) -> bool {
        true
    }

    fn item(&self, row: &Row<'_>) -> Result<Item> {
        let (question, choices) = match row.field(&["question"])?.1 {
            // The original files.
            Value::Object(question) => {
                let stem = question.get("stem").and_then(Value::as_str);
                let stem = stem.ok_or_else(|| row.error("field 'question' has no text 'stem'"))?;
                (stem, question.get("choices").and_then(listed))
            }
            // The form of the data sets' servers, and of the harness.
            _ => {
                (row.text(&["question"])?, row.field(&["choices"])?.1.as_object().and_then(columns))
            }
        };
        let choices = choices.filter(|choices| choices.len() >= 2);
        let choices =
            choices.ok_or_else(|| row.error("'choices' is not a list of texts and labels"))?;
        let key = row.text(&["answerKey"])?;
        let gold = choices.iter().position(|(_, label)| *label == key);
        let gold = gold.ok_or_else(|| {
            let labels: Vec<&str> = choices.iter().map(|(_, label)| *label).collect();
            row.error(&format!(
                "field 'answerKey' is '{key}', expected one of {}",
                labels.join(", ")
            ))
        })?;
        let texts: Vec<&str> = choices.iter().map(|(text, _)| *text).collect();
        Ok(Item {
            line: row.line,
            pairs: Item::pairs(&format!("Question: {question}\nAnswer:"), &texts),
            gold,
            target: gold.to_string(),
            doc: row.fields.clone(),
        })
    }
}

/// `[{"text", "label"}]` as texts and labels.
fn listed<'c>(choices: &'c Value) -> Option<Vec<(&'c str, &'c str)>> {
    let pair = |c: &'c Value| Some((c.get("text")?.as_str()?, c.get("label")?.as_str()?));
    choices.as_array()?.iter().map(pair).collect()
}

/// `{"text": [], "label": []}` as texts and labels.
fn columns(choices: &serde_json::Map<String, Value>) -> Option<Vec<(&str, &str)>> {
    let (texts, labels) = (choices.get("text")?.as_array()?, choices.get("label")?.as_array()?);
    let pairs =
        texts.iter().zip(labels).map(|(text, label)| Some((text.as_str()?, label.as_str()?)));
    (texts.len() == labels.len()).then(|| pairs.collect())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::row::rows;
    use super::*;

    #[test]
    fn both_published_forms_are_asked_alike() {
        let listed = json!([{"text": "Rain", "label": "A"}, {"text": "Sand", "label": "B"}]);
        let columns = json!({"text": ["Rain", "Sand"], "label": ["1", "2"]});
        let question = "What is wet?";
        let rows = rows(&[
            json!({"question": {"stem": question, "choices": listed}, "answerKey": "B"}),
            json!({"question": question, "choices": columns, "answerKey": "2"}),
            json!({"question": question, "choices": columns, "answerKey": "C"}),
        ]);
        let [a, b] = [0, 1].map(|i| CHALLENGE.item(&rows[i]).unwrap());
        assert_eq!((a.gold, &a.pairs), (b.gold, &b.pairs));
        assert_eq!(a.pairs[1].context, "Question: What is wet?\nAnswer:");
        assert_eq!((a.gold, a.pairs[1].choice.as_str()), (1, "Sand"));
        let said = EASY.item(&rows[2]).unwrap_err().to_string();
        assert!(said.contains("line 3: field 'answerKey' is 'C', expected one of 1, 2"), "{said}");
    }
}
