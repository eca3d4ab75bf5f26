//! Scores items: every choice's log-likelihood, and which choice each rule picks.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::error::{Error, Result};
use super::super::segments;
use super::data::TaskData;
use super::item::{Item, Pair};
use crate::gguf::Watch;
use crate::llama::{Engine, Scorer, Text, TokenScore, cpu_features};
use crate::prompts::ChatTemplate;

/// Items that are scored together, and written together where the results are kept.
const SEGMENT: usize = 32;

/// How items are scored.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The model.
    pub engine: &'a Engine,
    /// sha256 of the model's file.
    pub model_sha256: &'a str,
    /// Contexts become a user's messages, rendered by this; none: the bare text.
    pub chat: Option<&'a ChatTemplate>,
    /// Items a task at most.
    pub limit: usize,
    /// What the items were shuffled with.
    pub seed: Option<u64>,
    /// Choices scored at once.
    pub parallel: u32,
}

/// An item's scores: a line of a results file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The item's line in the data file.
    pub line: usize,
    /// Index of the right choice.
    pub gold: usize,
    /// The choice of the highest log-likelihood, the first of equal ones: `acc`.
    pub picked: usize,
    /// The choice of the highest log-likelihood per character: `acc_norm`.
    pub picked_norm: usize,
    /// The choice of the highest log-likelihood per token, the choices' common beginning left out:
    /// llama-perplexity's pick.
    pub picked_per_token: usize,
    /// Every choice's log-likelihood, nats, to six decimal places.
    pub log_likelihood: Vec<f64>,
    /// Tokens of every choice.
    pub n_tokens: Vec<usize>,
    /// Whether each of a choice's tokens was the likeliest one.
    pub greedy: Vec<bool>,
    /// Tokens cut from the beginning of the longest text, because it did not fit into the model's
    /// context.
    pub n_cut: usize,
}

/// What the scores depend on: the first line of a results file.
///
/// # Errors
/// The chat template's.
pub fn settings(run: &Run<'_>, data: &TaskData) -> Result<Value> {
    // A template may print the date.
    let dated = run.chat.map(ChatTemplate::dated_text).transpose()?.flatten();
    Ok(json!({
        "build": crate::BUILD,
        "cpu": cpu_features(),
        "task": data.task.name(),
        "model_sha256": run.model_sha256,
        "data_sha256": data.sha256,
        "limit": run.limit,
        "seed": run.seed,
        "chat_template_sha256": run.chat.map(ChatTemplate::sha256),
        "dated": dated,
        "parallel": run.parallel,
        "placement": run.engine.options().placement(),
    }))
}

/// Scores `data`'s items, which are kept in `results` and read from there if they are complete.
/// Also returns the number of tokens that were decoded.
///
/// # Errors
/// The results were made with other settings; a score is NaN or infinite; the engine's.
pub fn evaluate(
    run: &Run<'_>,
    data: &TaskData,
    results: Option<&Path>,
    watch: &dyn Watch,
) -> Result<(Vec<Scored>, u64)> {
    let texts: Vec<(Vec<Text>, usize)> =
        data.items.iter().map(|item| texts(run, item)).collect::<Result<_>>()?;
    let (groups, cuts): (Vec<Vec<Text>>, Vec<usize>) = texts.into_iter().unzip();
    check_lengths(run, data, &groups)?;
    // Made with the first segment: if all results exist, it is not needed.
    let mut scorer: Option<Scorer<'_>> = None;
    let make = |segment: std::ops::Range<usize>| {
        watch.part(data.task.name(), segment.start, data.items.len());
        let scorer = match &mut scorer {
            Some(scorer) => scorer,
            none => none.insert(Scorer::new(run.engine, &groups, run.parallel)?),
        };
        let scores = scorer.score(&groups[segment.clone()])?;
        let scored = segment.zip(scores).map(|(i, scores)| {
            let item = &data.items[i];
            let scored = Scored { n_cut: cuts[i], ..scored(item, &groups[i], &scores) };
            let finite = scored.log_likelihood.iter().all(|x| x.is_finite());
            let what = || format!("task {}, line {}", data.task.name(), item.line);
            if finite { Ok(scored) } else { Err(Error::NoNumbers { what: what() }) }
        });
        scored.collect()
    };
    let n = data.items.len();
    let scored = segments::run(results, &settings(run, data)?, (n, SEGMENT), make)?;
    watch.part(data.task.name(), n, n);
    Ok((scored, scorer.map_or(0, |scorer| scorer.n_tokens())))
}

/// An item's texts, one a choice, and the tokens that were cut off the longest.
///
/// As in lm-evaluation-harness, context and choice are tokenized together. What comes after the
/// context's own number of tokens is the choice, and a text that is too long loses its beginning.
/// The BOS of a model that wants one comes first, as the harness has it with `add_bos_token=True`.
///
/// # Errors
/// The chat template's.
pub fn texts(run: &Run<'_>, item: &Item) -> Result<(Vec<Text>, usize)> {
    let most = run.engine.n_ctx_train() as usize + 1;
    let mut n_cut = 0;
    let mut texts = Vec::with_capacity(item.pairs.len());
    for pair in &item.pairs {
        let mut text = text(run, pair)?;
        let cut = text.tokens.len().saturating_sub(most).min(text.n_given.saturating_sub(1));
        text.tokens.drain(..cut);
        text.n_given -= cut;
        n_cut = n_cut.max(cut);
        texts.push(text);
    }
    Ok((texts, n_cut))
}

/// If a text is still too long, its choice is: a choice cannot be cut.
fn check_lengths(run: &Run<'_>, data: &TaskData, groups: &[Vec<Text>]) -> Result<()> {
    let most = run.engine.n_ctx_train() as usize;
    for (item, texts) in data.items.iter().zip(groups) {
        // The context's last token stays, and the choice's last one is not read.
        if let Some(long) = texts.iter().find(|text| text.tokens.len() > most + 1) {
            let n_tokens = long.tokens.len() - long.n_given;
            let (task, line) = (data.task.name(), item.line);
            return Err(Error::ChoiceTooLong { task, line, n_tokens, most });
        }
    }
    Ok(())
}

fn text(run: &Run<'_>, pair: &Pair) -> Result<Text> {
    let (context, whole) = match run.chat {
        None => {
            // The space between belongs to the choice, whichever side it was written on.
            let context = pair.context.trim_end();
            let between = &pair.context[context.len()..];
            (context.to_owned(), format!("{context}{between} {}", pair.choice))
        }
        Some(template) => {
            let context = template.render(None, &pair.context)?;
            let whole = format!("{context}{}", pair.choice);
            (context, whole)
        }
    };
    let tokens = |text: &str| match run.chat {
        None => run.engine.tokenize_plain(text),
        Some(template) => run.engine.tokenize(text, !template.adds_bos(text)),
    };
    let (given, tokens) = (tokens(&context), tokens(&whole));
    // At least one token is scored, even if the choice merges into the context's last token.
    let n_given = given.len().min(tokens.len().saturating_sub(1));
    Ok(Text { tokens, n_given })
}

fn scored(item: &Item, texts: &[Text], scores: &[Vec<TokenScore>]) -> Scored {
    let sum = |scores: &[TokenScore]| scores.iter().map(|s| s.log_prob).sum::<f64>();
    // Six digits come back from a file as they were written.
    let rounded = |x: f64| (x * 1e6).round() / 1e6;
    let log_likelihood: Vec<f64> = scores.iter().map(|s| rounded(sum(s))).collect();
    let n_chars = item.pairs.iter().map(|pair| pair.choice.chars().count());
    let per_char: Vec<f64> =
        log_likelihood.iter().zip(n_chars).map(|(x, n)| x / n as f64).collect();
    let common = n_common(texts);
    let per_token = texts.iter().zip(scores).map(|(text, scores)| {
        let own = &scores[common.saturating_sub(text.n_given).min(scores.len())..];
        sum(own) / own.len() as f64
    });
    Scored {
        line: item.line,
        gold: item.gold,
        picked: highest(&log_likelihood),
        picked_norm: highest(&per_char),
        picked_per_token: highest(&per_token.collect::<Vec<f64>>()),
        n_tokens: scores.iter().map(Vec::len).collect(),
        greedy: scores.iter().map(|s| s.iter().all(|s| s.is_top)).collect(),
        log_likelihood,
        n_cut: 0,
    }
}

/// Tokens that all texts begin with.
fn n_common(texts: &[Text]) -> usize {
    let Some((first, rest)) = texts.split_first() else { return 0 };
    let common =
        |text: &Text| first.tokens.iter().zip(&text.tokens).take_while(|(a, b)| a == b).count();
    rest.iter().map(common).min().unwrap_or(0)
}

/// The first of the highest; NaN never wins.
fn highest(values: &[f64]) -> usize {
    let better = |best: usize, i: usize| match values[i] > values[best] || values[best].is_nan() {
        true => i,
        false => best,
    };
    (0..values.len()).fold(0, better)
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn score(log_probs: &[f64]) -> Vec<TokenScore> {
        log_probs.iter().map(|&log_prob| TokenScore { log_prob, is_top: log_prob > -0.5 }).collect()
    }

    #[test]
    fn the_three_rules_pick_by_sum_by_character_and_by_token() {
        let pairs = Item::pairs("Go", &["on", "onwards and up", "on in"]);
        let item = Item { line: 4, pairs, gold: 1, target: "1".into(), doc: Map::new() };
        let text = |tokens: &[i32]| Text { tokens: tokens.to_vec(), n_given: 1 };
        // All choices begin with token 2, which the rule by token leaves out.
        let texts = [text(&[1, 2, 3]), text(&[1, 2, 4, 5, 6]), text(&[1, 2, 7, 8])];
        let scores =
            [score(&[-0.1, -2.0]), score(&[-0.1, -1.5, -1.5, -1.5]), score(&[-0.1, -1.1, -1.2])];
        let scored = scored(&item, &texts, &scores);
        assert_eq!((scored.picked, scored.picked_norm, scored.picked_per_token), (0, 1, 2));
        assert_eq!(scored.log_likelihood, [-2.1, -4.6, -2.4]);
        assert_eq!((scored.n_tokens, scored.greedy), (vec![2, 4, 3], vec![false; 3]));
    }

    #[test]
    fn ties_go_to_the_first_and_nan_never_wins() {
        assert_eq!(highest(&[f64::NAN, -2.0, -1.0, -1.0]), 2);
        assert_eq!(highest(&[-1.0, -1.0]), 0);
    }

    #[test]
    fn a_line_comes_back_as_it_was() {
        let scored = Scored {
            line: 1,
            gold: 0,
            picked: 0,
            picked_norm: 0,
            picked_per_token: 0,
            log_likelihood: (0..4000).map(|i| -f64::from(i * 7919) / 1e6).collect(),
            n_tokens: vec![1],
            greedy: vec![true],
            n_cut: 0,
        };
        let line = serde_json::to_string(&scored).unwrap();
        assert_eq!(serde_json::from_str::<Scored>(&line).unwrap(), scored);
    }
}
