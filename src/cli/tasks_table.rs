//! `aird tasks`' report as people read it: a row a figure, a column a model.

use super::text::table;
use crate::eval::interval::{Mean, Rate, p_value};
use crate::eval::tasks::Tally;
use crate::verbs::tasks::{ModelFigures, Report, TaskDifference};

/// The tables.
pub(super) fn text(report: &Report) -> String {
    let mut rows = vec![head(report)];
    for task in report.models.first().into_iter().flat_map(|m| m.tasks.keys()) {
        rows.extend(task_rows(&report.models, task));
    }
    rows.extend(text_rows(&report.models));
    let mut text = table(&rows, &[1], "");
    if !report.differences.is_empty() {
        text += "\non the same items\n";
        text += &table(&difference_rows(&report.differences), &[3, 4, 5, 6], "  ");
    }
    text
}

fn head(report: &Report) -> Vec<String> {
    let names = report.models.iter().map(|m| m.name.clone());
    [String::new(), "n".into()].into_iter().chain(names).collect()
}

/// `52.5 % [45.6, 59.3]`
fn rate_text(rate: &Rate) -> String {
    let Some(share) = rate.rate else { return "-".into() };
    format!("{:.1} % [{:.1}, {:.1}]", 100.0 * share, 100.0 * rate.low, 100.0 * rate.high)
}

fn mean_text(mean: &Mean) -> String {
    let Some(value) = mean.mean else { return "-".into() };
    match (mean.low, mean.high) {
        (Some(low), Some(high)) => format!("{value:.4} [{low:.4}, {high:.4}]"),
        // Of one window no spread is known.
        _ => format!("{value:.4} [-]"),
    }
}

/// A row for each metric that the task has.
fn task_rows(models: &[ModelFigures], task: &str) -> Vec<Vec<String>> {
    type Figure = fn(&Tally) -> Option<&Rate>;
    let metrics: [(String, Figure); 3] = [
        (task.into(), |tally| Some(&tally.acc)),
        ("  acc_norm (by character)".into(), |tally| tally.acc_norm.as_ref()),
        ("  acc_per_token (llama.cpp's)".into(), |tally| tally.acc_per_token.as_ref()),
    ];
    let row = |(name, figure): (String, Figure)| {
        let tallies = models.iter().filter_map(|m| m.tasks.get(task));
        let rates: Vec<&Rate> = tallies.map(figure).collect::<Option<_>>()?;
        let n = rates.first()?.n.to_string();
        Some([name, n].into_iter().chain(rates.into_iter().map(rate_text)).collect())
    };
    metrics.into_iter().filter_map(row).collect()
}

fn text_rows(models: &[ModelFigures]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut push =
        |name: &str, n: Option<usize>, cell: &dyn Fn(&ModelFigures) -> Option<String>| {
            let Some(n) = n else { return };
            let cells = models.iter().map(|m| cell(m).unwrap_or("-".into()));
            rows.push([name.into(), n.to_string()].into_iter().chain(cells).collect());
        };
    let n = models.first().and_then(|m| m.perplexity.as_ref()).map(|p| p.n_tokens);
    push("perplexity", n, &|m| {
        m.perplexity.as_ref().map(|p| format!("{:.4} +/- {:.4}", p.ppl, p.ppl_error))
    });
    let n = models.first().and_then(|m| m.kl.as_ref()).map(|kl| kl.n_tokens);
    push("KL, nats", n, &|m| m.kl.as_ref().map(|kl| mean_text(&kl.mean)));
    push("  median, 90 %, 99 %", n, &|m| {
        m.kl.as_ref().map(|kl| format!("{:.4}, {:.4}, {:.4}", kl.median, kl.p90, kl.p99))
    });
    push("  same next token", n, &|m| m.kl.as_ref().map(|kl| rate_text(&kl.same_top)));
    rows
}

fn difference_rows(differences: &[TaskDifference]) -> Vec<Vec<String>> {
    let head = ["model", "against", "task", "points", "lost", "gained", "p"];
    let row = |c: &TaskDifference| {
        let task = match c.metric.as_str() {
            "acc" => c.task.clone(),
            metric => format!("{} {metric}", c.task),
        };
        let d = &c.difference;
        vec![
            c.model.clone(),
            c.against.clone(),
            task,
            format!("{:+.1}", d.points),
            d.lost.to_string(),
            d.gained.to_string(),
            p_value(d.p),
        ]
    };
    std::iter::once(head.map(String::from).to_vec()).chain(differences.iter().map(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::interval::wilson;

    #[test]
    fn rates_have_their_interval_beside_them() {
        assert_eq!(rate_text(&wilson(105, 200)), "52.5 % [45.6, 59.3]");
        assert_eq!(rate_text(&wilson(0, 0)), "-");
        let mean = Mean { n: 1, mean: Some(0.5), low: None, high: None };
        assert_eq!(mean_text(&mean), "0.5000 [-]");
    }
}
