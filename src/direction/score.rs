//! How close a model is to a refusal, read from the logits after a prompt.

use crate::llama::{Engine, Generation, Hooks, LogSoftmax, NoListener, Sampling, generate};

use super::error::{Error, Result};
use crate::judge::begins_refusal;

/// Keeps the logarithms finite (refusal_direction).
const EPSILON: f64 = 1e-8;
/// Tokens that are generated to find out how a model refuses.
const LOOK_TOKENS: usize = 12;
/// A first token counts if at least this share of the refusals begin with it.
const MIN_SHARE: f64 = 0.1;
/// Share of harmful prompts that a model must refuse.
const MIN_REFUSED: f64 = 0.2;

/// `log(P + e) - log(1 - P + e)`, P the total probability of `refusal_tokens`: above 0 where a
/// refusal is likelier than not.
pub fn refusal_score(logits: &[f32], refusal_tokens: &[i32]) -> f64 {
    let softmax = LogSoftmax::new(logits);
    let at = |t: &i32| usize::try_from(*t).ok().and_then(|t| logits.get(t)).copied();
    // Rounding may lead above 1.
    let p = refusal_tokens.iter().filter_map(at).map(|x| softmax.prob(x)).sum::<f64>().min(1.0);
    (p + EPSILON).ln() - (1.0 - p + EPSILON).ln()
}

/// First tokens of refusals, with where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusalTokens {
    /// The tokens, ascending.
    pub tokens: Vec<i32>,
    /// Harmful prompts that were refused, of how many, where the tokens were found by looking;
    /// None for a family whose tokens are published.
    pub found_in: Option<(usize, usize)>,
}

/// Published first tokens of refusals (refusal_direction): pre-tokenizer, tokens, their texts.
const KNOWN: &[(&str, &[(i32, &str)])] = &[
    ("llama-bpe", &[(40, "I")]),
    ("qwen2", &[(40, "I"), (2121, "As")]),
    ("default", &[(306, "I"), (235_285, "I")]),
];

/// The published tokens of the model's family, if its vocabulary holds them where the family's
/// does.
pub fn known_refusal_tokens(engine: &Engine) -> Option<RefusalTokens> {
    let family = engine.text("tokenizer.ggml.pre").unwrap_or("default".into());
    let (_, tokens) = KNOWN.iter().find(|(pre, _)| *pre == family)?;
    let there = |&&(token, text): &&(i32, &str)| engine.spelled(token).trim() == text;
    let tokens: Vec<i32> = tokens.iter().filter(there).map(|&(token, _)| token).collect();
    (!tokens.is_empty()).then_some(RefusalTokens { tokens, found_in: None })
}

/// Finds how the model begins its refusals: by its greedy answers to `harmful` prompts.
///
/// # Errors
/// It refuses too few of them for a direction to mean anything.
pub fn find_refusal_tokens(
    engine: &Engine,
    harmful: &[Vec<i32>],
    parallel: u32,
) -> Result<RefusalTokens> {
    let settings = Generation { max_tokens: LOOK_TOKENS, parallel, sampling: Sampling::Greedy };
    let answers = generate(engine, harmful, settings, &mut Hooks::new(), &mut NoListener)?;
    let mut counts = std::collections::BTreeMap::<i32, usize>::new();
    let mut refused = 0;
    for answer in &answers {
        let refuses = || begins_refusal(&engine.answer(answer));
        if let Some(&first) = answer.first().filter(|_| refuses()) {
            refused += 1;
            *counts.entry(first).or_default() += 1;
        }
    }
    let needed = (MIN_REFUSED * harmful.len() as f64).ceil() as usize;
    if refused < needed {
        return Err(Error::HardlyRefuses { refused, of: harmful.len(), needed });
    }
    let common = |&(_, &n): &(&i32, &usize)| n as f64 >= MIN_SHARE * refused as f64;
    let tokens = counts.iter().filter(common).map(|(&t, _)| t).collect();
    Ok(RefusalTokens { tokens, found_in: Some((refused, harmful.len())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_the_log_odds_of_refusing() {
        // Shares 0.2, 0.3, 0.5.
        let logits = [0.2f32.ln(), 0.3f32.ln(), 0.5f32.ln()];
        assert!(refusal_score(&logits, &[0, 1]).abs() < 1e-6);
        assert!((refusal_score(&logits, &[0]) - (0.25f64).ln()).abs() < 1e-6);
        assert!(refusal_score(&[100.0, 0.0], &[1]) < -18.0);
        assert!(refusal_score(&[100.0, 0.0], &[1]).is_finite());
    }
}
