//! Log-likelihoods and perplexity are those of the definition, computed text by text.

use std::fs;
use std::path::Path;

use aird::eval::tasks::{self, Item, Run, Scored, evaluate, task};
use aird::gguf::Unwatched;
use aird::llama::{Engine, Options, Scorer, Session, Size, Text, prompt_inputs};
use serde_json::Value;

use crate::support::{Arch, Tiny, aird, real_model, tempdir};
use crate::tasks::{TASKS, data};

const ONE: Options = Options::cpu(1);

/// ln p of every token of `text` behind those before it, by the definition: the text alone, all
/// logits, in f64.
fn plain(engine: &Engine, text: &Text) -> Vec<f64> {
    let n_ctx = (text.tokens.len() as u32).next_multiple_of(256);
    let size = Size { n_ctx, n_batch: n_ctx, n_seq: 1, unified: true };
    let mut session = Session::new(engine, size).unwrap();
    let mut inputs = prompt_inputs(&text.tokens, 0, 0);
    inputs.iter_mut().for_each(|input| input.logits = true);
    session.decode(&inputs, None).unwrap();
    let log_prob = |place: usize| {
        let logits = session.logits(place - 1).unwrap();
        let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        f64::from(logits[text.tokens[place] as usize]) - total.ln()
    };
    (1..text.tokens.len()).map(log_prob).collect()
}

fn close(a: f64, b: f64, within: f64) -> bool {
    (a - b).abs() <= within * b.abs().max(1.0)
}

fn items(folder: &Path) -> Vec<(&'static str, Vec<Item>)> {
    let data = data(folder, 3);
    let load = |name| (name, tasks::load(task(name).unwrap(), &data, 3, None).unwrap().items);
    TASKS.split(',').map(load).collect()
}

#[test]
fn scores_are_those_of_each_text_alone_on_every_architecture() {
    for arch in [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2, Arch::Qwen3Moe] {
        let folder = tempdir();
        let model = Tiny::new(arch).blocks(3).seed(2).write(folder.path());
        let engine = Engine::load(&model, ONE).unwrap();
        let run = settings(&engine);
        let (mut n, mut n_off) = (0, 0);
        for (_, items) in items(folder.path()) {
            let groups: Vec<Vec<Text>> =
                items.iter().map(|item| tasks::texts(&run, item).unwrap().0).collect();
            // So few at once that there are several waves.
            let mut scorer = Scorer::new(&engine, &groups, 5).unwrap();
            let scores = scorer.score(&groups).unwrap();
            for (text, scores) in groups.iter().flatten().zip(scores.iter().flatten()) {
                let plain = &plain(&engine, text)[text.n_given - 1..];
                assert_eq!(plain.len(), scores.len());
                // Keys and values are kept in F16: of random weights that is what is left.
                let pairs = scores.iter().zip(plain);
                n += plain.len();
                n_off += pairs.filter(|(s, plain)| !close(s.log_prob, **plain, 5e-3)).count();
            }
        }
        // Of two experts that are nearly as good noise may choose the other.
        let most = if arch == Arch::Qwen3Moe { n / 20 } else { 0 };
        assert!(n_off <= most, "{arch:?}: {n_off} of {n}");
    }
}

fn settings(engine: &Engine) -> Run<'_> {
    Run { engine, model_sha256: "", chat: None, limit: 3, seed: None, parallel: 64 }
}

#[test]
fn the_real_model_picks_what_llama_perplexity_picks() {
    let Some(model) = real_model() else { return };
    let folder = tempdir();
    let data = data(folder.path(), 3);
    let engine = Engine::load(&model, ONE).unwrap();
    let run = settings(&engine);
    let data = tasks::load(task("hellaswag").unwrap(), &data, 3, None).unwrap();
    let (scored, _) = evaluate(&run, &data, None, &Unwatched).unwrap();
    for (item, scored) in data.items.iter().zip(&scored) {
        check_item(&engine, item, scored);
    }
}

/// Each ending as a text of its own, with llama-perplexity's rule: the mean over what lies behind
/// the tokens that all four have in common (`hellaswag_score` of tools/perplexity/perplexity.cpp).
fn check_item(engine: &Engine, item: &Item, scored: &Scored) {
    let whole = |i: usize| format!("{} {}", item.pairs[i].context, item.pairs[i].choice);
    let tokens: Vec<Vec<i32>> = (0..4).map(|i| engine.tokenize_plain(&whole(i))).collect();
    let common = (0..).take_while(|&k| {
        tokens.iter().all(|t| t.get(k).is_some_and(|token| *token == tokens[0][k]))
    });
    let common = common.count();
    let mut best = (0, f64::NEG_INFINITY);
    for (i, tokens) in tokens.into_iter().enumerate() {
        let log_probs = plain(engine, &Text { tokens, n_given: 1 });
        let own = &log_probs[common - 1..];
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        if mean > best.1 {
            best = (i, mean);
        }
        let ending: f64 = log_probs[log_probs.len() - scored.n_tokens[i]..].iter().sum();
        let found = scored.log_likelihood[i];
        assert!(close(found, ending, 0.01), "line {}: {found} {ending}", item.line);
    }
    assert_eq!(scored.picked_per_token, best.0, "line {}", item.line);
}

#[test]
fn a_bos_stands_in_place_of_each_windows_first_token() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(2).write(folder.path());
    let text = folder.path().join("text.txt");
    fs::write(&text, "The rain in the hills runs down to the river. ".repeat(9)).unwrap();
    let output = aird()
        .args([Path::new("tasks"), &model, Path::new("--text"), &text])
        .args(["--ctx", "32", "--chunks", "3", "--threads", "1", "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let engine = Engine::load(&model, ONE).unwrap();
    let tokens = engine.tokenize_plain(&fs::read_to_string(&text).unwrap());
    let bos = engine.bos_if_wanted().unwrap();
    let nll = |first: &dyn Fn(i32) -> i32| -> f64 {
        let window = |window: &[i32]| {
            let mut tokens = window.to_vec();
            tokens[0] = first(tokens[0]);
            plain(&engine, &Text { tokens, n_given: 1 })[16..].iter().sum::<f64>()
        };
        -tokens.chunks(32).take(3).map(window).sum::<f64>() / 45.0
    };
    let found = report["models"][0]["perplexity"]["nll"]["mean"].as_f64().unwrap();
    let (with, without) = (nll(&|_| bos), nll(&|token| token));
    assert!(close(found, with, 1e-3), "{found} {with}");
    assert!(!close(without, with, 2e-3), "the BOS makes no difference: {without} {with}");
}

#[test]
fn the_real_models_perplexity_is_that_of_the_definition() {
    let Some(model) = real_model() else { return };
    let folder = tempdir();
    let text = folder.path().join("text.txt");
    let words = "A lighthouse stands on the cape. At night its lamp turns, and ships keep away. ";
    fs::write(&text, words.repeat(5)).unwrap();
    let output = aird()
        .args([Path::new("tasks"), &model, Path::new("--text"), &text])
        .args(["--ctx", "32", "--chunks", "2", "--threads", "1", "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let engine = Engine::load(&model, ONE).unwrap();
    let tokens = engine.tokenize_plain(&fs::read_to_string(&text).unwrap());
    let window = |i: usize| {
        let tokens = tokens[i * 32..(i + 1) * 32].to_vec();
        let log_probs = plain(&engine, &Text { tokens, n_given: 1 });
        // Those behind positions 16 to 30.
        log_probs[16..].iter().sum::<f64>()
    };
    let expected = (-(window(0) + window(1)) / 30.0).exp();
    let found = report["models"][0]["perplexity"]["ppl"].as_f64().unwrap();
    assert!(close(found, expected, 1e-3), "{found} {expected}");
}
