//! A model under audit: loaded, asked, and read.

use std::path::{Path, PathBuf};

use super::request::{KeptAnswers, Request};
use super::sets::AuditSet;
use crate::direction::{
    self, Captured, Grid, RefusalTokens, Shape, capture, difference_of_means, find_refusal_tokens,
    known_refusal_tokens,
};
use crate::eval::asr::{
    Asking, Headline, Interventions, Judged, Subject as Asked, Verdicts, Way, answers, answers_key,
};
use crate::gguf::Model;
use crate::llama::{Engine, Prefill, Text};
use crate::verbs::chat::Chat;
use crate::verbs::error::{Context, Error, Result};
use crate::verbs::host::Host;
use crate::verbs::model::{file_name, load, sha256_of};

/// The folder for answers beside a model.
const FOLDER: &str = ".aird-answers";
/// Letters of a model's sha256 in the names of files.
const MARK: usize = 12;
/// Harmful prompts by which the first tokens of refusals are looked for.
const N_LOOK: usize = 32;
/// Tokens of an answer along which predictions are compared.
const N_COMPARED: usize = 16;

/// A model, loaded.
pub(super) struct Subject {
    /// Where its answers are kept; None for nowhere.
    kept: Option<PathBuf>,
    pub file: String,
    pub sha256: String,
    pub chat: Chat,
    pub engine: Engine,
}

/// What was read from a model's logits and residual stream after each prompt.
pub(super) struct ModelReading {
    /// Refusal scores of harmful prompts.
    pub harmful: Vec<f64>,
    /// Refusal scores of harmless prompts.
    pub harmless: Vec<f64>,
    /// Mean residual of harmful minus that of harmless prompts, at the last token of every layer.
    pub difference: Grid<f32>,
    /// The length of that difference against the mean residual's, of every layer.
    pub separation: Vec<f64>,
}

/// The folder where the answers of the model at `path` are kept, made if it is missing. Beside a
/// model nothing can be written here and there: that is a warning.
///
/// # Errors
/// A folder that was asked for cannot be written.
pub(super) fn kept_folder(
    kept: &KeptAnswers,
    path: &Path,
    host: &dyn Host,
) -> Result<Option<PathBuf>> {
    let writable = |folder: &Path| {
        std::fs::create_dir_all(folder)?;
        tempfile::tempfile_in(folder).map(drop)
    };
    match kept {
        KeptAnswers::Nowhere => Ok(None),
        KeptAnswers::In(folder) => match writable(folder) {
            Ok(()) => Ok(Some(folder.clone())),
            Err(error) => Err(Error::Sentence(format!(
                "no answers can be kept in {}: {error}",
                folder.display()
            ))),
        },
        KeptAnswers::Beside => {
            let folder = path.parent().unwrap_or(Path::new("")).join(FOLDER);
            if let Err(error) = writable(&folder) {
                host.warn(format_args!("answers are not kept: {}: {error}", folder.display()));
                return Ok(None);
            }
            Ok(Some(folder))
        }
    }
}

impl Subject {
    /// Loads the model at `path`.
    pub(super) fn open(
        request: &Request,
        host: &dyn Host,
        path: &Path,
        kept: Option<PathBuf>,
    ) -> Result<Subject> {
        let model = Model::open(path)?;
        let chat = request.chat.chat(&model).about(|| path.display().to_string())?;
        let sha256 = sha256_of(host, &model)?;
        let engine = load(host, &model, request.engine)?;
        Ok(Subject { kept, file: file_name(path), sha256, chat, engine })
    }

    /// Its greedy answers to every set, made or found, with their labels.
    pub(super) fn answers(
        &self,
        request: &Request,
        host: &dyn Host,
        sets: &[AuditSet],
    ) -> Result<Vec<Judged>> {
        let Request { max_tokens, parallel, .. } = *request;
        let asking = Asking { max_tokens, parallel, seed: 0 };
        let interventions = Interventions::default();
        let asked = Asked {
            engine: &self.engine,
            template: &self.chat.template,
            sha256: &self.sha256,
            interventions: &interventions,
        };
        let mut judged = Vec::new();
        for set in sets {
            let way = Way::plain(set.name, request.chat.system.as_deref());
            let file = match &self.kept {
                None => None,
                Some(folder) => {
                    let key = answers_key(&asked, (&way, &set.prompts), asking)?;
                    let model = &self.sha256[..MARK];
                    Some(folder.join(format!("{model}.{}.{key}.jsonl", set.name)))
                }
            };
            let answers = answers(&asked, (&way, &set.prompts), asking, file.as_deref(), host)?;
            let labels = answers.iter().map(|answer| answer.label).collect();
            let verdicts = vec![Verdicts { judge: "default".into(), labels }];
            judged.push(Judged { answers, n_variants: 1, headline: Headline::Only, verdicts });
        }
        Ok(judged)
    }

    /// How its refusals begin; None if it refuses too little to tell.
    pub(super) fn refusal_tokens(
        &self,
        request: &Request,
        harmful: &[Vec<i32>],
    ) -> Result<Option<RefusalTokens>> {
        if let Some(known) = known_refusal_tokens(&self.engine) {
            return Ok(Some(known));
        }
        let looked = &harmful[..harmful.len().min(N_LOOK)];
        match find_refusal_tokens(&self.engine, looked, request.parallel) {
            Ok(found) => Ok(Some(found)),
            Err(direction::Error::HardlyRefuses { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the scores of harmful and harmless prompts, and the mean residuals.
    pub(super) fn read(
        &self,
        request: &Request,
        host: &dyn Host,
        [harmful, harmless]: &[Vec<Vec<i32>>; 2],
        refusals: &RefusalTokens,
    ) -> Result<ModelReading> {
        let longest = harmful.iter().chain(harmless).map(Vec::len).max().unwrap_or(1);
        let mut prefill = Prefill::new(&self.engine, longest, request.parallel)?;
        let inputs = self.engine.structure()?.inputs(self.engine.n_block());
        let shape = Shape {
            inputs: &inputs,
            n_pos: 1,
            n_embd: self.engine.n_embd(),
            refusal_tokens: &refusals.tokens,
        };
        let mut read = |prompts: &[Vec<i32>], done| -> Result<Captured> {
            host.part("reading prompts", done, 2);
            let prompts: Vec<&[i32]> = prompts.iter().map(Vec::as_slice).collect();
            Ok(capture(&mut prefill, &prompts, shape, |_| true)?)
        };
        let (harmful, harmless) = (read(harmful, 0)?, read(harmless, 1)?);
        let difference = difference_of_means(&harmful, &harmless);
        let separation = (0..difference.n_layer).map(|layer| {
            let n = harmless.kept.max(1) as f64;
            let mean = harmless.sums.at(layer, 0).iter().map(|x| (x / n) * (x / n)).sum::<f64>();
            let apart = difference.at(layer, 0).iter().map(|&x| f64::from(x) * f64::from(x));
            (apart.sum::<f64>() / mean).sqrt()
        });
        Ok(ModelReading {
            separation: separation.collect(),
            harmful: harmful.scores,
            harmless: harmless.scores,
            difference,
        })
    }

    /// The prompts of a set as the model reads them.
    pub(super) fn tokens(&self, set: &AuditSet) -> Result<Vec<Vec<i32>>> {
        set.prompts.texts().map(|text| self.chat.tokens(&self.engine, text)).collect()
    }

    /// Its prompts with the beginning of each of `answers`, one after each prompt; without those
    /// that `keep` does not take.
    pub(super) fn answered(
        &self,
        set: &AuditSet,
        answers: &Judged,
        keep: impl Fn(usize) -> bool,
    ) -> Result<Vec<Text>> {
        let mut texts = Vec::new();
        let pairs = self.tokens(set)?.into_iter().zip(&answers.answers).enumerate();
        for (_, (mut tokens, answer)) in pairs.filter(|(i, _)| keep(*i)) {
            let n_given = tokens.len();
            // No BOS in the middle of a text, and no space of its own after the prompt's end.
            let answer = self.engine.tokenize(answer.answer.trim_start(), false);
            tokens.extend(answer.iter().take(N_COMPARED));
            texts.push(Text { tokens, n_given });
        }
        Ok(texts)
    }
}
