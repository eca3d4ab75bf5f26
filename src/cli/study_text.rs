//! A study as people read it on a terminal: the plan before, the table of before and after.

use super::text::{bytes_text, counted, seconds_text, table};
use crate::eval::interval::Rate;
use crate::report::results::{ModelResult, RepairResult, Results, Role};
use crate::study::{PlanReport, PlannedState, PlannedStep};

impl PlanReport {
    /// A step a row, its command below.
    pub fn text(&self) -> String {
        let n_done = self.steps.iter().filter(|step| step.state != PlannedState::Open).count();
        let n_steps = counted(self.steps.len(), "step");
        let mut text = format!("{}: {n_steps}, {n_done} done\n", self.name);
        for (number, step) in (1..).zip(&self.steps) {
            let mut about = match step.state {
                PlannedState::Open => step.seconds.map(seconds_text),
                PlannedState::Done => Some("done".into()),
                PlannedState::Skipped => Some("skipped".into()),
            };
            if let (Some(bytes), PlannedState::Open) =
                (step.bytes.filter(|bytes| *bytes > 0), step.state)
            {
                let bytes = format!("about {}", bytes_text(bytes));
                about = Some(about.map_or(bytes.clone(), |about| format!("{bytes}, {about}")));
            }
            let about = about.map_or(String::new(), |about| format!("  ({about})"));
            text += &format!("{number:>4}  {}{about}\n      aird {}\n", step.name, step.command);
        }
        text += &self.sum_text();
        for note in &self.notes {
            text += &format!("{note}\n");
        }
        if !self.missing.is_empty() {
            text += "not there, and so without estimates and keys:\n";
            self.missing.iter().for_each(|path| text += &format!("  {path}\n"));
        }
        text
    }

    fn sum_text(&self) -> String {
        let open: Vec<&PlannedStep> =
            self.steps.iter().filter(|step| step.state == PlannedState::Open).collect();
        let bytes: Option<u64> = open.iter().map(|step| step.bytes).sum();
        let seconds: Option<f64> = open.iter().map(|step| step.seconds).sum();
        let bytes = bytes.map_or("an unknown number of bytes".into(), |bytes| {
            format!("about {}", bytes_text(bytes))
        });
        let time = seconds.map_or("unknown time".into(), seconds_text);
        let rates = match (self.read_per_second, self.written_per_second) {
            (Some(read), Some(written)) => {
                format!(", at {read:.0} tokens read and {written:.0} written a second")
            }
            _ => String::new(),
        };
        format!("in all {bytes} of models, {time}{rates}\n")
    }
}

/// A model a row: what attacks get, what is refused, what it can do.
pub(super) fn before_after(results: &Results) -> String {
    let sets: Vec<(&str, bool)> = results
        .models
        .iter()
        .map(|m| &m.sets)
        .max_by_key(|s| s.len())
        .into_iter()
        .flatten()
        .map(|set| (set.set.as_str(), set.attack))
        .collect();
    let tasks: Vec<&str> = results
        .models
        .iter()
        .map(|m| &m.tasks)
        .max_by_key(|t| t.len())
        .into_iter()
        .flatten()
        .map(|task| task.task.as_str())
        .collect();
    let perplexity = results.models.iter().any(|model| model.perplexity.is_some());
    let mut head = vec![String::new()];
    for (set, attack) in &sets {
        head.push(if *attack { format!("ASR {set}") } else { format!("{set} refused") });
    }
    head.extend(perplexity.then(|| "perplexity".to_owned()));
    head.extend(tasks.iter().map(|task| (*task).to_owned()));
    let mut rows = vec![head];
    for model in &results.models {
        let mut row = vec![row_name(model)];
        for (set, attack) in &sets {
            let found = model.sets.iter().find(|other| other.set == *set);
            row.push(found.map_or("-".into(), |found| {
                let shares = &found.outcome.shares;
                rate_text(if *attack { &shares.asr } else { &shares.refusal })
            }));
        }
        if perplexity {
            row.push(model.perplexity.as_ref().map_or("-".into(), |p| format!("{:.2}", p.ppl)));
        }
        for task in &tasks {
            let found = model.tasks.iter().find(|other| other.task == *task);
            row.push(found.map_or("-".into(), |found| rate_text(&found.tally.acc)));
        }
        rows.push(row);
    }
    let right: Vec<usize> = (1..rows[0].len()).collect();
    let mut text = table(&rows, &right, "");
    for model in results.models.iter().filter(|m| m.role == Role::Repaired) {
        text += &repair_text(model);
    }
    text
}

fn row_name(model: &ModelResult) -> String {
    match model.role {
        Role::Repaired => format!("  {}", model.name),
        _ => model.name.clone(),
    }
}

/// `97 % [84-99]`
fn rate_text(rate: &Rate) -> String {
    let Some(share) = rate.rate else { return "-".into() };
    let percent = |x: f64| format!("{:.0}", 100.0 * x);
    format!("{} % [{}-{}]", percent(share), percent(rate.low), percent(rate.high))
}

fn repair_text(model: &ModelResult) -> String {
    let edit = |repair: &RepairResult| {
        let alpha = repair.alpha?;
        Some(format!("blocks {}, alpha {alpha:.3}", repair.blocks.join(",")))
    };
    match &model.repair {
        Some(repair) if repair.restored.is_some() || repair.alpha.is_some() => {
            let restored = repair.restored.as_ref();
            let restored = restored.map(|r| format!("{} matrices restored", r.n_matrices));
            let parts: Vec<String> = restored.into_iter().chain(edit(repair)).collect();
            format!("{}: {}\n", model.name, parts.join("; "))
        }
        Some(_) => format!("{}: nothing that was tried helps within the budget\n", model.name),
        None => String::new(),
    }
}
