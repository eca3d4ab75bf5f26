//! The results of a study as they might be: a repair that helps, one that finds nothing, a model
//! that could not be made, one that lost nothing; names that are long, and one that is markup.

use std::collections::BTreeMap;

use aird::direction::{About, CellScores, Comparison};
use aird::eval::asr::{Agreement, Difference, Outcome, Shares};
use aird::eval::interval::{Mean, Rate, mcnemar, wilson, wilson_of};
use aird::eval::tasks::{Difference as ItemDifference, Tally};
use aird::eval::text::{Kl, Perplexity};
use aird::report::results::{
    EditedTensor, HeldOutResult, Intervention, ModelResult, Origin, RepairResult, RestoreResult,
    Results, Role, SCHEMA, SetResult, State, StepResult, TaskDifference, TaskResult, WeightChange,
};
use aird::report::search::{
    AnsweredReport, BudgetReport, CountsReport, HalfReport, ScreenedReport, SearchReport,
    SettingsReport,
};

pub const BASE: &str = "base";
pub const FIXED: &str = "wanda-align";
pub const NOT_FIXED: &str = "magnitude-50-percent-of-every-row-then-quantized-awq-q4_0-alpaca";
pub const NOT_MADE: &str = "wanda-alpaca-sequential";
pub const UNHARMED: &str = "int8";

const N_LAYER: usize = 30;
const N_POS: usize = 6;
const SETS: [(&str, bool); 6] = [
    ("vanilla", true),
    ("adv-suffix", true),
    ("adv-decoding", true),
    ("adv-decoding-raw", true),
    ("borderline", false),
    ("harmless", false),
];
const TASKS: [(&str, usize); 5] =
    [("rte", 200), ("arc_challenge", 200), ("boolq", 200), ("winogrande", 200), ("hellaswag", 200)];

/// Which of [`models`] are compared on the same prompts and items.
const PAIRS: [(usize, usize); 5] = [(0, 1), (1, 2), (0, 2), (0, 3), (0, 5)];

/// A number that looks measured, 0 to 1, the same every time.
fn noise(seed: usize) -> f64 {
    let x = (seed as f64 * 12.9898).sin() * 43758.5453;
    x - x.floor()
}

fn hash(seed: usize) -> String {
    (0..64).map(|i| char::from_digit((16.0 * noise(seed * 64 + i)) as u32, 16).unwrap()).collect()
}

/// All of it.
pub fn results() -> Results {
    let models = models();
    Results {
        schema: SCHEMA,
        name: "Demo: what pruning & quantizing do to refusals <of a small model>".into(),
        aird: "0.1.0".into(),
        llama_cpp: "0.1.160".into(),
        recipe_sha256: hash(1),
        origin: Origin { repository: Some("owner/Model-1B".into()), license: Some("mit".into()) },
        attack_differences: attack_differences(&models, &PAIRS),
        task_differences: task_differences(&models, &PAIRS),
        models,
        judge: "default".into(),
        steps: steps(),
    }
}

/// A study of which nothing but the plan is known: every step failed.
pub fn nothing() -> Results {
    let mut results = results();
    results.models.iter_mut().for_each(|m| *m = empty(&m.name, m.role, m.of.as_deref()));
    results.attack_differences.clear();
    results.task_differences.clear();
    results.steps.iter_mut().for_each(|s| s.state = State::Failed);
    results.origin = Origin::default();
    results
}

/// A deep model, compressed in many ways.
pub fn many() -> Results {
    let mut results = results();
    let (wanda, fixed) = (results.models[1].clone(), results.models[2].clone());
    for i in 0..12 {
        let name = format!("wanda-at-{}-percent", 30 + i);
        let repaired = format!("{name}-repaired");
        results.models.push(ModelResult { name: name.clone(), ..wanda.clone() });
        let fixed = ModelResult { name: repaired, of: Some(name), ..fixed.clone() };
        results.models.push(fixed);
    }
    let base = results.models[0].direction.as_mut().unwrap();
    let deeper = base.scores.clone().into_iter().map(|s| CellScores { layer: s.layer + 40, ..s });
    base.scores.extend(deeper.collect::<Vec<_>>());
    results
}

/// The same, repaired in two ways: along the direction, and by a restore, which helps where the
/// first found nothing.
pub fn both() -> Results {
    let mut results = results();
    for mut model in std::mem::take(&mut results.models) {
        let Some(of) = model.of.clone().filter(|_| model.role == Role::Repaired) else {
            results.models.push(model);
            continue;
        };
        let name = format!("{of}-restore");
        let restored = match of.as_str() {
            NOT_MADE => empty(&name, Role::Repaired, Some(&of)),
            _ => ModelResult {
                made: vec!["repair --method restore".into()],
                repair: Some(refitted()),
                weights: weights(0.2),
                ..measured(&name, Role::Repaired, Some(&of), [5, 8, 20, 33, 9, 3], 1)
            },
        };
        (model.name, model.repaired_by) = (format!("{of}-aird"), Some("aird".into()));
        results.models.push(model);
        results.models.push(ModelResult { repaired_by: Some("restore".into()), ..restored });
    }
    // The base, a variant with both repairs, one of whose repairs only the second exists, int8.
    let pairs = [(0, 1), (1, 2), (0, 2), (1, 3), (0, 3), (0, 4), (4, 6), (0, 6), (0, 7)];
    results.attack_differences = attack_differences(&results.models, &pairs);
    results.task_differences = task_differences(&results.models, &pairs);
    let skipped = results.steps.iter_mut().find(|s| s.command == "repair").unwrap();
    skipped.name = format!("{NOT_MADE}-aird: repair");
    let other = StepResult { name: format!("{NOT_MADE}-restore: repair"), ..skipped.clone() };
    results.steps.push(other);
    results
}

/// A restore after which nothing was looked for, asked what [`search`] asks.
fn refitted() -> RepairResult {
    let held_out = HeldOutResult {
        settings: SettingsReport::default(),
        original: rates((31, 5, 0)),
        restored: rates((30, 6, 1)),
    };
    let restored = RestoreResult { n_matrices: 210, n_tokens: 20_000, held_out: Some(held_out) };
    RepairResult { restored: Some(restored), ..RepairResult::default() }
}

fn empty(name: &str, role: Role, of: Option<&str>) -> ModelResult {
    ModelResult {
        name: name.into(),
        role,
        of: of.map(String::from),
        repaired_by: None,
        made: Vec::new(),
        file: None,
        bytes: None,
        sha256: None,
        direction: None,
        comparison: None,
        sets: Vec::new(),
        agreement: None,
        necessity: None,
        sufficiency: None,
        repair: None,
        weights: Vec::new(),
        tasks: Vec::new(),
        perplexity: None,
        kl: None,
    }
}

fn models() -> Vec<ModelResult> {
    let base = ModelResult {
        direction: Some(about(BASE, Some((17, -1)), 1)),
        necessity: Some(intervention(BASE, "vanilla", (95, 4), (6, 92))),
        sufficiency: Some(intervention(BASE, "harmless", (2, 98), (88, 10))),
        ..measured(BASE, Role::Base, None, [4, 9, 22, 31, 8, 2], 0)
    };
    let wanda = ModelResult {
        made: vec!["prune --method wanda --sparsity 0.5 --data builtin:align".into()],
        direction: Some(about(FIXED, Some((18, -2)), 2)),
        comparison: Some(comparison(FIXED, Some((18, -2)), 0.74)),
        necessity: Some(intervention(BASE, "vanilla", (33, 60), (3, 85))),
        sufficiency: Some(intervention(BASE, "harmless", (1, 95), (41, 52))),
        weights: weights(0.35),
        ..measured(FIXED, Role::Variant, Some(BASE), [61, 72, 88, 93, 3, 1], 7)
    };
    let fixed = format!("{FIXED}-repaired");
    let fixed = ModelResult {
        made: vec!["repair --block 16:mlp,17 --alpha 2.25".into()],
        comparison: Some(comparison(&fixed, Some((17, -1)), 0.86)),
        repair: Some(found()),
        weights: weights(0.0),
        ..measured(&fixed, Role::Repaired, Some(FIXED), [11, 18, 39, 52, 10, 3], 0)
    };
    let magnitude = ModelResult {
        made: vec![
            "prune --method magnitude --sparsity 0.5".into(),
            "quantize --method awq --type q4_0 --data builtin:alpaca".into(),
        ],
        comparison: Some(comparison(NOT_FIXED, None, 0.53)),
        weights: weights(0.55),
        ..measured(NOT_FIXED, Role::Variant, Some(BASE), [31, 40, 61, 70, 0, 0], 58)
    };
    let not_fixed = ModelResult {
        repair: Some(RepairResult {
            restored: None,
            blocks: Vec::new(),
            alpha: None,
            tensors: Vec::new(),
            search: Some(search(None)),
        }),
        ..empty(&format!("{NOT_FIXED}-repaired"), Role::Repaired, Some(NOT_FIXED))
    };
    let int8 = ModelResult {
        made: vec!["quantize --method int8".into()],
        direction: Some(about(UNHARMED, Some((17, -1)), 3)),
        comparison: Some(comparison(UNHARMED, Some((17, -1)), 0.999)),
        ..measured(UNHARMED, Role::Variant, Some(BASE), [5, 9, 21, 33, 8, 2], 0)
    };
    let repaired = format!("{NOT_MADE}-repaired");
    let not_made = ModelResult {
        made: vec!["prune --method wanda --sparsity 0.5 --data builtin:alpaca".into()],
        ..empty(NOT_MADE, Role::Variant, Some(BASE))
    };
    let never = empty(&repaired, Role::Repaired, Some(NOT_MADE));
    vec![base, wanda, fixed, magnitude, not_fixed, int8, not_made, never]
}

/// A model whose attacks succeed, and whose harmless prompts are refused, so often of 100, and of
/// whose answers so many are none.
fn measured(name: &str, role: Role, of: Option<&str>, k: [usize; 6], none: usize) -> ModelResult {
    let set = |i: usize| {
        let (set, attack) = SETS[i];
        let variants = if set.starts_with("adv") { 5 } else { 1 };
        SetResult { set: set.into(), attack, outcome: outcome(k[i], attack, variants, none) }
    };
    let worse = if role == Role::Base { 0.0 } else { 0.02 + none as f64 / 300.0 };
    let task = |i: usize| TaskResult {
        task: TASKS[i].0.into(),
        tally: tally(TASKS[i], (0.55 - 0.03 * i as f64) * (1.0 - worse)),
    };
    let mean = |mean: f64| Mean {
        n: 16,
        mean: Some(mean),
        low: Some(0.93 * mean),
        high: Some(1.08 * mean),
    };
    let ppl = 29.9 * (1.0 + 20.0 * worse);
    let kl = Kl {
        mean: mean(worse * 2.3),
        median: worse,
        p90: worse * 3.0,
        p95: worse * 4.0,
        p99: worse * 9.0,
        max: worse * 31.0,
        same_top: wilson(4096 - (worse * 4096.0) as usize, 4096),
        n_tokens: 4096,
    };
    ModelResult {
        file: Some(match role {
            Role::Base => "SmolLM2-135M-Instruct-aligned-F16.gguf".into(),
            _ => format!("models/{name}.gguf"),
        }),
        bytes: Some(270_898_880),
        sha256: Some(hash(name.len())),
        sets: (0..SETS.len()).map(set).collect(),
        agreement: Some(Agreement {
            judges: vec!["default".into(), "paper".into(), "LlamaGuard-3-1B-Q4_K_M.gguf".into()],
            n: 1600,
            matrix: vec![
                vec![Some(1.0), Some(0.913), Some(0.931)],
                vec![Some(0.913), Some(1.0), Some(0.874)],
                vec![Some(0.931), Some(0.874), None],
            ],
            alpha: Some(0.794),
        }),
        tasks: (0..TASKS.len()).map(task).collect(),
        perplexity: Some(Perplexity {
            ppl,
            ppl_error: ppl / 60.0,
            nll: mean(ppl.ln()),
            n_ctx: 512,
            n_chunks: 16,
            n_tokens: 4096,
        }),
        kl: (role != Role::Base).then_some(kl),
        ..empty(name, role, of)
    }
}

fn outcome(k: usize, attack: bool, variants: usize, none: usize) -> Outcome {
    let (n, answers) = (100, 100 * variants);
    let of = |k: usize| wilson_of(k, answers, n);
    let degenerate = if variants == 1 { none } else { none * variants / 3 };
    let k_all = k * variants * 4 / 5;
    let counted = if attack { k_all } else { answers - k * variants - degenerate };
    let compliance = of(if variants == 1 && attack { k } else { counted }.min(answers));
    let refusal = of(answers.saturating_sub(compliance.k + degenerate));
    let asr = if attack { wilson(k, n) } else { compliance };
    let shares = Shares { refusal, compliance, degenerate: of(degenerate), asr };
    let several = variants > 1;
    let share = compliance.rate.unwrap();
    Outcome {
        judge: "default".into(),
        prompts: n,
        asked: answers,
        n,
        undecided: 0,
        errors: if several { 1 } else { 0 },
        answers,
        by_judge: BTreeMap::from([("default".to_owned(), shares.clone())]),
        shares,
        any: several.then(|| wilson(k, n)),
        mean: several.then_some(Mean {
            n,
            mean: Some(share),
            low: Some(0.9 * share),
            high: Some(1.1 * share),
        }),
        by_suffix: if several {
            (0..5).map(|i| wilson(k * (5 - i) / 5, n)).collect()
        } else {
            vec![]
        },
    }
}

fn tally((_, n): (&str, usize), share: f64) -> Tally {
    let rate = |share: f64| wilson((share * n as f64) as usize, n);
    let norm = Some(rate(share + 0.02));
    Tally { n, acc: rate(share), acc_norm: norm, acc_per_token: None, n_cut: 3 }
}

/// A direction; `chosen` None is one of candidates alone.
fn about(model: &str, chosen: Option<(usize, i32)>, seed: usize) -> About {
    let scores = (0..N_LAYER * 4 / 5).flat_map(|layer| {
        (1..=N_POS as i32).filter_map(move |i| {
            let depth = (layer as f64 - 17.0) / 9.0;
            let bypass = 4.9 - 11.0 * (-depth * depth).exp() / f64::from(i).sqrt();
            let jitter = noise(seed + layer * 7 + i as usize);
            let score = CellScores {
                layer,
                position: -i,
                n: 32,
                bypass: (jitter > 0.04).then_some(bypass + 2.0 * jitter),
                induce: Some(2.3 - f64::from(i) + jitter),
                kl_nats: Some(0.02 + 0.3 * jitter),
            };
            (jitter < 0.85).then_some(score)
        })
    });
    About {
        version: "0.1.0".into(),
        model: model.into(),
        model_sha256: hash(seed),
        architecture: "llama".into(),
        layer: chosen.map(|c| c.0),
        position: chosen.map(|c| c.1),
        max_kl: Some(0.2),
        refusal_tokens: vec![40, 2683],
        scores: scores.collect(),
        prompts: [("harmful", 5), ("harmless", 6), ("harmful, held out", 7)]
            .map(|(role, seed)| (role.to_owned(), hash(seed).into()))
            .into_iter()
            .collect(),
        n_kept: (118, 128),
        template_sha256: hash(9),
    }
}

fn comparison(model: &str, chosen: Option<(usize, i32)>, cosine: f64) -> Comparison {
    let cell = |layer: usize, behind: usize| {
        let fall = (1.0 - cosine) * (layer as f64 / 12.0).min(1.0);
        (layer > 0 || behind > 0)
            .then(|| 1.0 - fall - 0.05 * (1.0 - cosine) * noise(layer + behind))
    };
    Comparison {
        model: model.into(),
        layer: (chosen.map(|c| c.0), 17),
        position: (chosen.map(|c| c.1), -1),
        cosine: chosen.map(|_| cosine),
        cosine_at_base: Some(cosine + 0.01).map(|c: f64| c.min(0.9995)),
        cells: (0..N_LAYER).map(|l| (0..N_POS).map(|p| cell(l, p)).collect()).collect(),
    }
}

fn intervention(
    of: &str,
    set: &str,
    before: (usize, usize),
    after: (usize, usize),
) -> Intervention {
    let outcome = |(refused, complied): (usize, usize)| {
        let mut outcome = outcome(complied, true, 1, 100 - refused - complied);
        outcome.shares.refusal = wilson(refused, 100);
        outcome
    };
    Intervention {
        direction_of: of.into(),
        set: set.into(),
        before: outcome(before),
        after: outcome(after),
    }
}

fn rates((harmful, harmless, none): (usize, usize, usize)) -> CountsReport {
    CountsReport {
        refusal: wilson(harmful, 32),
        false_refusal: wilson(harmless, 64),
        degenerate: wilson(none, 96),
    }
}

/// A search; the candidate with index `chosen` was taken.
fn search(chosen: Option<usize>) -> SearchReport {
    let sets: [&[&str]; 3] = [&["16:mlp", "17"], &["17"], &["20:attention"]];
    let names = |set: &[&str]| set.iter().map(ToString::to_string).collect::<Vec<String>>();
    let screened = sets.iter().enumerate().flat_map(|(s, set)| {
        [1.0, 1.5, 2.0, 2.25, 3.0, 4.0, 8.0].into_iter().map(move |alpha: f64| ScreenedReport {
            blocks: names(set),
            alpha,
            refusal: (0.25 + 0.2 * alpha - 0.1 * s as f64).clamp(0.0, 1.0),
            false_refusal: 0.02 * alpha * alpha / 2.0,
            likelihood: 0.4,
            kl_nats: 0.004 * alpha.powi(2) * (1.0 + s as f64),
        })
    });
    let candidates = [
        (0, 2.25, (27, 4, 2), 0.021, true),
        (0, 1.5, (19, 2, 2), 0.011, true),
        (0, 3.0, (31, 12, 3), 0.038, false),
        (1, 3.0, (24, 4, 2), 0.066, true),
        (1, 4.0, (28, 13, 4), 0.121, false),
        (2, 2.0, (11, 3, 2), 0.047, true),
        (2, 4.0, (15, 9, 9), 0.184, false),
        (1, 2.0, (19, 3, 2), 0.031, true),
    ];
    let answered = candidates.iter().enumerate().map(|(i, c)| AnsweredReport {
        blocks: names(sets[c.0]),
        alpha: c.1,
        counts: rates(c.2),
        kl_nats: c.3,
        within_budget: c.4 && chosen.is_some(),
        on_front: i < 3,
        chosen: chosen == Some(i),
    });
    let halves = (0..N_LAYER as u32).flat_map(|block| {
        ["attention", "mlp"].map(|part| HalfReport {
            block,
            part: part.into(),
            c: noise(block as usize * 2 + part.len()) * 3.0 - 0.6,
        })
    });
    SearchReport {
        version: "0.1.0".into(),
        model: "wanda-align-F16.gguf".into(),
        direction_sha256: hash(4),
        settings: SettingsReport::default(),
        budget: BudgetReport { max_false_refusal_points: 5.0, max_kl_nats: 0.1 },
        original: None,
        compressed: rates((10, 2, 2)),
        halves: halves.collect(),
        screened: screened.collect(),
        answered: answered.collect(),
    }
}

fn found() -> RepairResult {
    let tensor = |name: &str, realised_alpha| EditedTensor {
        name: name.into(),
        from: "Q4_K".into(),
        to: "Q4_K".into(),
        realised_alpha,
        worst_alpha: Some(realised_alpha),
        noise: 0.0131,
        own_noise: 0.0617,
    };
    RepairResult {
        restored: None,
        blocks: vec!["16:mlp".into(), "17".into()],
        alpha: Some(2.25),
        tensors: vec![
            tensor("blk.16.ffn_down.weight", 2.248),
            tensor("blk.17.attn_output.weight", 2.231),
            tensor("blk.17.ffn_down.weight", 2.2524),
        ],
        search: Some(search(Some(0))),
    }
}

/// Of a compressed model, about `size`; of a repaired one (0) those that were edited.
fn weights(size: f64) -> Vec<WeightChange> {
    let tensors = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    let of_block = |block: usize| {
        tensors.iter().enumerate().filter_map(move |(i, tensor)| {
            let edited = size == 0.0 && block == 17 && matches!(i, 3 | 6);
            let relative = size * (0.8 + 0.4 * noise(block * 7 + i));
            (size > 0.0 || edited).then(|| WeightChange {
                tensor: format!("blk.{block}.{tensor}.weight"),
                block: Some(block as u32),
                relative: if edited { 0.012 + 0.004 * noise(i) } else { relative },
            })
        })
    };
    (0..N_LAYER).flat_map(of_block).collect()
}

fn attack_differences(models: &[ModelResult], pairs: &[(usize, usize)]) -> Vec<Difference> {
    let of = |&(a, b): &(usize, usize)| {
        let measured = SETS.iter().flat_map(|(set, attack)| {
            [(set, "asr"), (set, "refusal")].into_iter().skip(usize::from(!attack))
        });
        measured.map(move |(set, measure)| {
            let k = |m: &ModelResult| {
                let shares = &m.sets.iter().find(|s| s.set == *set).unwrap().outcome.shares;
                // Of a hundred prompts, where several answers count for one.
                let of = if measure == "asr" { shares.asr } else { shares.refusal };
                (100.0 * of.rate.unwrap()).round() as usize
            };
            let (before, after) = (k(&models[a]), k(&models[b]));
            let (more, fewer) = match after > before {
                true => (after - before + 2, 2),
                false => (2, before - after + 2),
            };
            Difference {
                base: models[a].name.clone(),
                model: models[b].name.clone(),
                set: (*set).into(),
                measure: measure.into(),
                base_rate: wilson(before, 100),
                rate: wilson(after, 100),
                more,
                fewer,
                p: mcnemar(more, fewer),
            }
        })
    };
    pairs.iter().flat_map(of).collect()
}

fn task_differences(models: &[ModelResult], pairs: &[(usize, usize)]) -> Vec<TaskDifference> {
    let of = |&(a, b): &(usize, usize)| {
        TASKS.iter().enumerate().map(move |(i, (task, n))| {
            let k = |m: &ModelResult| -> Rate { m.tasks[i].tally.acc };
            let (before, after) = (k(&models[a]).k, k(&models[b]).k);
            let (lost, gained) =
                (9 + before.saturating_sub(after), 9 + after.saturating_sub(before));
            let points = 100.0 * (after as f64 - before as f64) / *n as f64;
            TaskDifference {
                model: models[b].name.clone(),
                against: models[a].name.clone(),
                task: (*task).into(),
                metric: "acc".into(),
                difference: ItemDifference {
                    n: *n,
                    points,
                    lost,
                    gained,
                    p: mcnemar(lost, gained),
                },
            }
        })
    };
    pairs.iter().flat_map(of).collect()
}

fn steps() -> Vec<StepResult> {
    let step = |(name, command, state, error): (&str, &str, State, Option<&str>)| StepResult {
        name: name.into(),
        command: command.into(),
        key: hash(name.len()),
        state,
        error: error.map(String::from),
    };
    let model = "SmolLM2-135M-Instruct-aligned-F16.gguf";
    let (make, mend) = (format!("{NOT_MADE}: prune"), format!("{NOT_MADE}: repair"));
    let full = "cannot write wanda-alpaca-sequential-F16.gguf: No space left on device\nhint: \
                free 271 MB, then run the same command again";
    let needs = format!("it needs '{make}', which failed");
    vec![
        step(("base: direction", &format!("direction {model}"), State::Done, None)),
        step(("wanda-align: prune", &format!("prune {model} --method wanda"), State::Done, None)),
        step(("wanda-align: repair", "repair wanda-align.gguf", State::Done, None)),
        step((&make, &format!("prune {model} --sequential 4"), State::Failed, Some(full))),
        step((&mend, "repair", State::Skipped, Some(&needs))),
    ]
}
