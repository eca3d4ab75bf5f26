//! An audit in words: the verdict, a table, and what else is worth knowing.

use super::report::{FilesReport, MarginReport, Report, Scores};
use crate::eval::asr::Outcome;
use crate::eval::interval::{Rate, p_text};
use crate::verbs::words::{counted, few, rate_text, table};

impl Report {
    /// The verdict with what decided it, on one line.
    pub(crate) fn headline(&self) -> String {
        format!("{}: {}", self.judgement.verdict.text(), self.judgement.because)
    }

    /// The verdict and what decided it, as sentences.
    pub(super) fn lead(&self) -> String {
        let mut letters = self.judgement.because.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        format!("{} {first}{}.", self.judgement.verdict.sentence(), letters.as_str())
    }

    /// The verdict, the table, the notes.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n\n{}", self.headline(), table(&self.rows(), &[], ""));
        let notes: String = self.notes().iter().map(|note| format!("{note}\n")).collect();
        if !notes.is_empty() {
            text += &format!("\n{notes}");
        }
        text
    }

    /// A row a figure: its name, the original's, the model's, and what changed.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let original = self.original.as_ref().map_or("", |original| &original.file);
        let mut rows = vec![row("", original, &self.model.file, "")];
        for (name, answers) in &self.answers {
            let change = answers.refusals.as_ref().map_or_else(String::new, |d| {
                format!("{} more, {} fewer, {}", d.more, d.fewer, p_text(d.p))
            });
            let mut add = |what: &str, rate: fn(&Outcome) -> &Rate, change: &str| {
                let original =
                    answers.original.as_ref().map_or_else(String::new, |o| rate_text(rate(o)));
                rows.push(row(what, &original, &rate_text(rate(&answers.model)), change));
            };
            add(&format!("{name}: refused"), |o| &o.shares.refusal, &change);
            add("  answered, or evaded", |o| &o.shares.compliance, "");
            add("  no language", |o| &o.shares.degenerate, "");
        }
        rows.extend(self.margin.as_ref().map(margin_rows).into_iter().flatten());
        if let Some(drift) = &self.drift {
            let kl = drift.kl.mean.unwrap_or_default();
            let ends = drift.kl.low.zip(drift.kl.high);
            let ends = ends.map_or_else(String::new, |(a, b)| format!(" [{a:.3}-{b:.3}]"));
            rows.push(row(
                "KL along the original's harmless answers, nats",
                "0",
                &format!("{kl:.3}{ends}"),
                "",
            ));
            let same = format!("{} same likeliest token", percent(&drift.same_top));
            let [a, b] = [drift.original_perplexity, drift.perplexity].map(|x| format!("{x:.2}"));
            rows.push(row("  perplexity of those answers", &a, &b, &same));
        }
        if let Some(direction) = &self.direction {
            let at = |cosine: Option<f64>| cosine.map_or("-".into(), |x| format!("{x:.3}"));
            let lowest = direction
                .lowest()
                .map_or_else(String::new, |(layer, x)| format!("lowest {x:.3} at layer {layer}"));
            let name = format!("harmful minus harmless, layer {}: cosine", direction.layer);
            rows.push(row(&name, "1", &at(direction.cosine), &lowest));
        }
        if let Some(error) = self.files.as_ref().and_then(|files| files.median_error) {
            let worst = self.files.as_ref().and_then(|files| files.worst.first());
            let worst =
                worst.map(|t| format!("worst {}, {}", error_text(t.relative_change), t.name));
            let worst = worst.unwrap_or_default();
            rows.push(row("error of a matrix, median", "0", &error_text(Some(error)), &worst));
        }
        rows
    }

    /// What else is worth knowing, a sentence each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!("rule: {}", self.judgement.rule)];
        if let Some(files) = &self.files {
            notes.extend(files_notes(files));
        }
        notes
    }
}

fn files_notes(files: &FilesReport) -> Vec<String> {
    let mut notes = Vec::new();
    if files.template_differs {
        notes.push(
            "the chat templates differ: each model was asked through its own, and a difference in \
             answers may be the template's"
                .into(),
        );
    }
    for key in files.tokenizer.iter().chain(&files.architecture) {
        notes.push(match key.a == key.b {
            true => format!("{} differs: {} in both", key.key, key.a),
            false => format!("{} is {} in the original, {} in the model", key.key, key.a, key.b),
        });
    }
    if !files.unmatched.is_empty() {
        notes.push(format!(
            "{} without a counterpart of the same shape: {}",
            counted(files.unmatched.len(), "tensor"),
            few(&files.unmatched)
        ));
    }
    notes
}

fn margin_rows(margin: &MarginReport) -> Vec<Vec<String>> {
    let shift = margin.shift.as_ref();
    let slope = shift.and_then(|shift| shift.slope);
    let slope = slope.map_or_else(String::new, |slope| format!("slope {slope:.2}"));
    let sides = shift.map_or_else(String::new, |shift| {
        format!(
            "{} to refusing, {} to answering, {}",
            shift.to_refusing,
            shift.to_answering,
            p_text(shift.p)
        )
    });
    let original = |pick: fn(&super::report::KindScores) -> &Scores,
                    text: fn(&Scores) -> String| {
        margin.original.as_ref().map_or_else(String::new, |scores| text(pick(scores)))
    };
    let mean = |scores: &Scores| format!("{:.2}", scores.mean);
    let refusing = |scores: &Scores| rate_text(&scores.refusing);
    vec![
        row(
            "refusal score of harmful prompts, mean",
            &original(|s| &s.harmful, mean),
            &mean(&margin.model.harmful),
            &slope,
        ),
        row(
            "  above 0",
            &original(|s| &s.harmful, refusing),
            &refusing(&margin.model.harmful),
            &sides,
        ),
        row(
            "refusal score of harmless prompts, mean",
            &original(|s| &s.harmless, mean),
            &mean(&margin.model.harmless),
            "",
        ),
    ]
}

fn row(name: &str, original: &str, model: &str, change: &str) -> Vec<String> {
    [name, original, model, change].map(str::to_owned).to_vec()
}

fn percent(rate: &Rate) -> String {
    rate.rate.map_or("-".into(), |share| format!("{} %", (100.0 * share).round()))
}

fn error_text(error: Option<f64>) -> String {
    error.map_or("-".into(), |error| format!("{:.1} %", 100.0 * error))
}
