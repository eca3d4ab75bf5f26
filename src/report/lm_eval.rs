//! Results in the shapes of lm-evaluation-harness: `results_*.json` of a model, and
//! `samples_TASK_*.jsonl` of each task, for tools that read those.
//!
//! The shapes are those of its `EvaluationTracker` (lm_eval/loggers/evaluation_tracker.py). Where
//! the harness puts the date into names and files, aird puts the model's sha256: the same run gives
//! the same bytes. `doc_hash` is that of the row with its keys in alphabetical order; the harness
//! keeps the file's order, so that hashes differ. A task's version is left out if its data is not
//! the set's own text.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::eval::tasks::{Item, Metric, Pair, Run, Scored, TaskData};
use crate::gguf::hex;

/// The harness's filter name for figures of unfiltered answers.
const FILTER: &str = "none";

/// A file to write: its name and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The file's name, without a folder.
    pub name: String,
    /// The file's text.
    pub text: String,
}

/// The files of a model's results, `tasks` each with its scored items.
pub fn files(model: &str, run: &Run<'_>, tasks: &[(&TaskData, &[Scored])]) -> Vec<File> {
    let mark = &run.model_sha256[..run.model_sha256.len().min(12)];
    let json = serde_json::to_string_pretty(&results(model, run, tasks)).unwrap_or_default();
    let mut files = vec![File { name: format!("results_{mark}.json"), text: json + "\n" }];
    for (data, items) in tasks {
        let pairs = data.items.iter().zip(*items).enumerate();
        let lines = pairs.map(|(id, (item, scored))| sample(id, run, data, item, scored));
        let text = lines.map(|line| line.to_string() + "\n").collect();
        files.push(File { name: format!("samples_{}_{mark}.jsonl", data.task.name()), text });
    }
    files
}

fn results(model: &str, run: &Run<'_>, tasks: &[(&TaskData, &[Scored])]) -> Value {
    let by_task = |value: &dyn Fn(&TaskData, &[Scored]) -> Value| -> Map<String, Value> {
        tasks.iter().map(|(data, items)| (data.task.name().into(), value(data, items))).collect()
    };
    json!({
        "results": by_task(&|data, items| figures(data, items)),
        "group_subtasks": by_task(&|_, _| json!([])),
        "configs": by_task(&|data, _| config(data)),
        "versions": by_task(&|data, _| json!(version(data))),
        "n-shot": by_task(&|_, _| json!(0)),
        "higher_is_better": by_task(&|data, _| {
            let higher = |metric: &Metric| (metric.name().to_owned(), json!(true));
            Value::Object(Metric::of(data.task).iter().map(higher).collect())
        }),
        "n-samples": by_task(&|data, items| {
            json!({"original": data.n_original, "effective": items.len()})
        }),
        "config": {
            "model": "aird",
            "model_args": {
                "model_sha256": run.model_sha256,
                "add_bos_token": run.engine.bos_if_wanted().is_some(),
            },
            "batch_size": run.parallel,
            "limit": run.limit,
            "random_seed": run.seed,
        },
        "git_hash": null,
        "lm_eval_version": null,
        "aird_version": env!("CARGO_PKG_VERSION"),
        "model_source": "aird",
        "model_name": model,
        "model_name_sanitized": sanitized(model),
        "chat_template_sha": run.chat.map(crate::prompts::ChatTemplate::sha256),
        "task_hashes": by_task(&|data, _| json!(data.sha256)),
    })
}

/// The harness's version of the task, if its prompts are the harness's.
fn version(data: &TaskData) -> Option<f64> {
    data.is_original.then(|| data.task.version())
}

/// `{"acc,none": share, "acc_stderr,none": error}`, and the same for further metrics.
fn figures(data: &TaskData, items: &[Scored]) -> Value {
    let mut figures = Map::new();
    figures.insert("alias".into(), json!(data.task.name()));
    let n = items.len() as f64;
    for metric in Metric::of(data.task) {
        let k = items.iter().filter(|item| metric.is_right(item)).count() as f64;
        let share = k / n;
        // The harness's formula: the sample's standard deviation, by n - 1, over the root of n.
        let error = (n > 1.0).then(|| (share * (1.0 - share) / (n - 1.0)).sqrt());
        figures.insert(format!("{},{FILTER}", metric.name()), json!(share));
        let error = error.map_or(json!("N/A"), |error| json!(error));
        figures.insert(format!("{}_stderr,{FILTER}", metric.name()), error);
    }
    Value::Object(figures)
}

fn config(data: &TaskData) -> Value {
    let metrics = Metric::of(data.task).into_iter().map(Metric::name);
    let metrics = metrics
        .map(|name| json!({"metric": name, "aggregation": "mean", "higher_is_better": true}));
    json!({
        "task": data.task.name(),
        "dataset_path": data.file,
        "output_type": "multiple_choice",
        "num_fewshot": 0,
        "metric_list": metrics.collect::<Vec<_>>(),
        "metadata": {"version": version(data)},
    })
}

fn sample(id: usize, run: &Run<'_>, data: &TaskData, item: &Item, scored: &Scored) -> Value {
    let rendered = |pair: &Pair| run.chat?.render(None, &pair.context).ok();
    let given = |pair: &Pair| rendered(pair).unwrap_or_else(|| pair.context.clone());
    let between = if run.chat.is_some() { "" } else { " " };
    let choice = |pair: &Pair| format!("{between}{}", pair.choice);
    let arguments = item.pairs.iter().enumerate().map(|(i, pair)| {
        (format!("gen_args_{i}"), json!({"arg_0": given(pair), "arg_1": choice(pair)}))
    });
    // The harness turns numbers and booleans of answers into text, with Python's spelling.
    let answers: Vec<Value> = scored
        .log_likelihood
        .iter()
        .zip(&scored.greedy)
        .map(|(x, greedy)| json!([x.to_string(), if *greedy { "True" } else { "False" }]))
        .collect();
    let metrics = Metric::of(data.task);
    let first = item.pairs.first().map(given).unwrap_or_default();
    let sum = |text: &str| hex(&Sha256::digest(text.as_bytes()));
    let doc = Value::Object(item.doc.clone());
    let mut line = json!({
        "doc_id": id,
        "doc": doc,
        "target": item.target,
        "arguments": arguments.collect::<Map<String, Value>>(),
        "resps": answers.iter().map(|answer| json!([answer])).collect::<Vec<_>>(),
        "filtered_resps": answers,
        "filter": FILTER,
        "metrics": metrics.iter().map(|metric| metric.name()).collect::<Vec<_>>(),
        "doc_hash": sum(&serde_json::to_string_pretty(&doc).unwrap_or_default()),
        "prompt_hash": sum(&first),
        "target_hash": sum(&item.target),
    });
    for metric in metrics {
        line[metric.name()] = json!(f64::from(u8::from(metric.is_right(scored))));
    }
    line
}

/// A name, converted as the harness converts it for a folder.
pub fn sanitized(name: &str) -> String {
    let safe = |c: char| if "\"<>:/|\\?*[]".contains(c) { '_' } else { c };
    let words: Vec<&str> = name.split_whitespace().collect();
    words.join("_").chars().map(safe).collect()
}
