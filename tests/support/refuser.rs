//! A tiny model that refuses harmful prompts, and whose refusals hang on one matrix: a whole search
//! and a whole repair take no time. Each of aird's own prompts is one token, whose embedding
//! says whether it is harmful; one block's MLP turns that into a push along one channel, and the
//! output reads "I'm sorry" from it.
//!
//! ```text
//! BIAS: in every prompt, read as "Sure, .."      HARM: in harmful prompts, read by the MLP
//! REFUSE: written by that MLP, half of it by each of two units, read as "I'm sorry"
//! ```

use std::path::{Path, PathBuf};

use aird::gguf::{Builder, GgmlType};
use aird::prompts::{self, Part};

use super::ggml;
use super::tiny::{Arch, Tiny, Weight};
use super::vocabulary::Tokenizer;

/// The block whose MLP speaks.
pub const BLOCK: u32 = 1;
const N_BLOCK: u64 = 6;
const N_EMBD: usize = 64;
const TOKENIZER: Tokenizer = Tokenizer::Llama;

const REFUSE: usize = 0;
const HARM: usize = 1;
const BIAS: usize = 2;
const SORRY: usize = 3;
const DONE: usize = 4;

/// The model, with a push of some strength.
#[derive(Debug, Clone, Copy)]
pub struct Refuser {
    /// What the MLP writes along REFUSE: at 0.3 the model refuses, at 0.15 it does not.
    pub push: f32,
    /// True if the matrix that writes it is zero but for the first unit: half of the push is left.
    pub pruned: bool,
    /// Type of the matrices.
    pub ty: GgmlType,
}

/// The vocabulary behind the usual one, with what each text's embedding holds.
fn texts() -> Vec<(String, Vec<(usize, f32)>)> {
    let parts = [Part::Train, Part::HeldOut];
    let of = |set: fn(Part) -> prompts::PromptSet| {
        parts.map(set).into_iter().flat_map(|set| set.prompts).map(|prompt| prompt.text)
    };
    let harmless = of(prompts::harmless).chain(of(prompts::borderline));
    let harmful = of(prompts::harmful).map(|text| (text, vec![(BIAS, 7.0), (HARM, 2.0)]));
    let mut all: Vec<_> = harmful.chain(harmless.map(|text| (text, vec![(BIAS, 7.0)]))).collect();
    all.push(("I'm sorry".into(), vec![(SORRY, 7.0)]));
    all.push((", but I can't help with that.".into(), vec![(DONE, 7.0)]));
    all.push(("Sure, here is how a lid comes off.".into(), vec![(DONE, 7.0)]));
    all
}

impl Refuser {
    /// One that was not pruned.
    pub fn of(push: f32, ty: GgmlType) -> Refuser {
        Refuser { push, ty, pruned: false }
    }

    /// Writes the model into `folder`.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let tiny = Tiny::new(Arch::Llama).ty(self.ty).blocks(N_BLOCK).seed(4);
        let texts = texts();
        let mut file = Builder::new();
        tiny.keys(&mut file);
        let tokens: Vec<String> = texts.iter().map(|(text, _)| text.clone()).collect();
        TOKENIZER.write_with(&mut file, &tokens);
        for weight in tiny.weights() {
            let Weight { name, shape, ty, values } = self.shaped(weight, &texts);
            let bytes = ggml::encode(ty, &values, shape[0]);
            file.tensor(&name, &shape, ty, bytes).unwrap();
        }
        let path = folder.join(name);
        file.write(&path).unwrap();
        path
    }

    fn shaped(&self, mut weight: Weight, texts: &[(String, Vec<(usize, f32)>)]) -> Weight {
        let n_usual = TOKENIZER.n_vocab() as usize;
        let row = |i: usize| i * N_EMBD;
        let name = weight.name.clone();
        let values = &mut weight.values;
        match name.as_str() {
            name if name.ends_with("_norm.weight") => values.fill(1.0),
            "token_embd.weight" | "output.weight" => {
                values.iter_mut().for_each(|x| *x *= 0.01);
                values.resize((n_usual + texts.len()) * N_EMBD, 0.0);
                weight.shape[1] = (n_usual + texts.len()) as u64;
            }
            // Nearly nothing, and not nothing: there is something to strengthen everywhere.
            _ => values.iter_mut().for_each(|x| *x *= 0.01),
        }
        let mlp = format!("blk.{BLOCK}.ffn_");
        match name.as_str() {
            "token_embd.weight" => {
                for (i, (_, embedding)) in texts.iter().enumerate() {
                    embedding.iter().for_each(|&(at, x)| values[row(n_usual + i) + at] = x);
                }
            }
            "output.weight" => {
                let end = n_usual + texts.len();
                // Tokens 2 and 4 of the vocabulary end an answer; this is <|im_end|>.
                for (token, channel, x) in [
                    (end - 3, REFUSE, 3.0),
                    (end - 2, SORRY, 2.0),
                    (end - 1, BIAS, 1.5),
                    (4, DONE, 2.0),
                ] {
                    values[row(token) + channel] = x;
                }
            }
            name if name == format!("{mlp}gate.weight") || name == format!("{mlp}up.weight") => {
                (0..2).for_each(|unit| values[row(unit) + HARM] = 2.0);
            }
            name if name == format!("{mlp}down.weight") => {
                let n_units = weight.shape[0] as usize;
                values[REFUSE * n_units..][..2].fill(self.push / 2.0);
                let gone = |at: usize| self.pruned && !at.is_multiple_of(n_units);
                (0..values.len()).filter(|at| gone(*at)).for_each(|at| values[at] = 0.0);
            }
            _ => {}
        }
        weight
    }
}
