//! Whether two models read text as the same tokens.

use super::error::Result;
use super::words::shown;
use crate::gguf::{Model, Value};

const TOKENS: &str = "tokenizer.ggml.tokens";

/// How the vocabulary of `model` differs from that of its `original`: the first token that does;
/// None if they are the same.
///
/// # Errors
/// A list of tokens is something else.
pub(super) fn difference(model: &Model, original: &Model) -> Result<Option<String>> {
    let (ours, theirs) = match (model.texts(TOKENS)?, original.texts(TOKENS)?) {
        (Some(ours), Some(theirs)) => (ours, theirs),
        (None, None) => return Ok(None),
        (Some(_), None) => return Ok(Some("only the model has one".into())),
        (None, Some(_)) => return Ok(Some("only the original has one".into())),
    };
    let text = |value: &Value| shown(&value.to_text().unwrap_or_default());
    let mut pairs = ours.iter().zip(theirs.iter()).enumerate();
    if let Some((token, (a, b))) = pairs.find(|(_, (a, b))| a != b) {
        return Ok(Some(format!(
            "token {token} is '{}' in the model, '{}' in the original",
            text(&a),
            text(&b)
        )));
    }
    let (n, m) = (ours.len(), theirs.len());
    Ok((n != m).then(|| format!("the model has {n} tokens, the original {m}")))
}
