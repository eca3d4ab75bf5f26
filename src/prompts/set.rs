//! A prompt, and a set of them with the hash that names it.

use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use crate::gguf::hex;

/// One request to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Names the prompt within its set: the file's own id, else its number from 1.
    pub id: String,
    /// The user's message, to the letter.
    pub text: String,
    /// Its category, if the file has one.
    pub category: Option<String>,
    /// An answer to it, if the file has one.
    pub answer: Option<String>,
}

/// Prompts in order, with a name and a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptSet {
    /// The file's name without its folder, or `builtin:harmful/train`.
    pub name: String,
    /// In the file's order.
    pub prompts: Vec<Prompt>,
    /// sha256 over the texts, each ended by a NUL: it identifies the prompts in results.
    pub sha256: String,
}

impl PromptSet {
    /// A set of `prompts`.
    pub fn new(name: impl Into<String>, prompts: Vec<Prompt>) -> PromptSet {
        let sha256 = texts_sha256(&prompts);
        PromptSet { name: name.into(), prompts, sha256 }
    }

    /// Number of prompts.
    pub fn len(&self) -> usize {
        self.prompts.len()
    }

    /// True if there is no prompt; reading a file never gives such a set.
    pub fn is_empty(&self) -> bool {
        self.prompts.is_empty()
    }

    /// The texts in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.prompts.iter().map(|p| p.text.as_str())
    }

    /// Returns the set if it has at least `needed` prompts: a mean over one prompt is not a mean.
    ///
    /// # Errors
    /// Only [`Error::TooFew`].
    pub fn require(self, needed: usize) -> Result<PromptSet> {
        match self.len() {
            found if found < needed => Err(Error::TooFew { name: self.name, found, needed }),
            _ => Ok(self),
        }
    }

    /// The first `n` prompts, or all if there are fewer.
    pub fn first(mut self, n: usize) -> PromptSet {
        self.prompts.truncate(n);
        PromptSet::new(self.name, self.prompts)
    }
}

fn texts_sha256(prompts: &[Prompt]) -> String {
    let mut digest = Sha256::new();
    for prompt in prompts {
        digest.update(&prompt.text);
        digest.update([0]);
    }
    hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> PromptSet {
        let prompt = |(id, text): (usize, &&str)| Prompt {
            id: id.to_string(),
            text: (*text).into(),
            category: None,
            answer: None,
        };
        PromptSet::new("set", (1..).zip(texts).map(prompt).collect())
    }

    #[test]
    fn the_hash_is_that_of_the_texts_each_ended_by_a_nul() {
        // printf 'a\0b\0' | sha256sum
        let expected = "8fb20ef63ced4145fc2e983ffe597d1dcff39154c3bf21f0fa9dde6a0c50fdc9";
        assert_eq!(set(&["a", "b"]).sha256, expected);
        assert_ne!(set(&["ab"]).sha256, set(&["a", "b"]).sha256);
    }

    #[test]
    fn too_few_prompts_are_told_with_numbers() {
        assert_eq!(set(&["a", "b"]).require(2).unwrap().len(), 2);
        let error = |texts: &[&str]| set(texts).require(8).unwrap_err().to_string();
        assert_eq!(error(&["a"]), "prompt set 'set' holds 1 prompt, expected at least 8");
        assert_eq!(error(&["a", "b"]), "prompt set 'set' holds 2 prompts, expected at least 8");
    }

    #[test]
    fn the_first_prompts_are_a_set_of_their_own() {
        assert_eq!(set(&["a", "b"]).first(1), set(&["a"]));
        assert_eq!(set(&["a", "b"]).first(9), set(&["a", "b"]));
        assert!(set(&["a", "b"]).first(0).is_empty());
    }
}
