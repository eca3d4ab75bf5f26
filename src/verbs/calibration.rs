//! Calibration, for the verbs that need statistics: the data, the samples made of it, the pass.

use std::path::PathBuf;

use super::chat::{Chat, ChatSetup};
use super::error::{Error, Result};
use super::host::Host;
use super::model::{file_name, sha256_of};
use super::words::counted;
use crate::gguf::Model;
use crate::judge::begins_refusal;
use crate::llama::{AnswerCount, Engine, Generation, Hooks, Sampling, generate};
use crate::prompts::{self, Part, Prompt, PromptSet, TextFile};
use crate::stats::{About, Collected, Sample, Stats, choose, collect, samples_sha256, windows};

/// Tokens of an answer that the model gives to a built-in prompt.
const ANSWER_TOKENS: usize = 64;
/// Tokens of a sample, unless others are asked for.
const N_CTX: u32 = 512;
/// Answers under way at once.
const PARALLEL: u32 = 32;
/// Refusals that the built-in "align" data needs.
const MIN_REFUSALS: usize = 16;

/// What calibration reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Built-in harmless prompts, and the model's own answers.
    Alpaca,
    /// Built-in harmful prompts, and the model's own refusals.
    Align,
    /// A file.
    File(PathBuf),
}

/// What a file of calibration data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Running text, read in windows.
    Text,
    /// instruction, input, output.
    Alpaca,
    /// prompt, response.
    Align,
    /// Prompts without answers.
    Prompts,
}

/// Which tokens count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenMask {
    /// The answer's tokens.
    Response,
    /// Every token.
    All,
}

/// Calibration data, and how samples are made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalibrationSetup {
    /// The data.
    pub data: Data,
    /// What a file is; None: it is guessed.
    pub format: Option<Format>,
    /// Which tokens count; None: those of answers, where there are any.
    pub mask: Option<TokenMask>,
    /// Samples to read, drawn from the data with `seed`; 1 at least.
    pub samples: usize,
    /// Tokens of a sample, at most; of a text's window, exactly; 2 at least. None: 512, or what the
    /// model was trained for if that is less.
    pub n_ctx: Option<u32>,
    /// Seed of the draw.
    pub seed: u64,
    /// How prompts are put to the model.
    pub chat: ChatSetup,
}

/// Samples, and what files will say about them.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// Tokens to read.
    pub samples: Vec<Sample>,
    /// Where they come from.
    pub about: About,
}

/// The data, read.
enum Read {
    Text(String),
    Prompts(PromptSet),
}

impl CalibrationSetup {
    /// What can be wrong before a model is opened.
    ///
    /// # Errors
    /// The file of the data is missing or a folder.
    pub fn check(&self) -> Result<()> {
        match &self.data {
            // A pipe is as good as a file.
            Data::File(path) if path.is_dir() || !path.exists() => {
                Err(Error::Sentence(format!("there is no file {}", path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Makes the samples for `engine`'s model.
    ///
    /// # Errors
    /// The data cannot be read, or is too little; a template fails; the model refuses too few
    /// harmful prompts for [`Data::Align`]; an interrupt.
    pub fn samples(&self, host: &dyn Host, model: &Model, engine: &Engine) -> Result<Calibration> {
        self.check()?;
        let n_ctx = self.n_ctx(host, engine)?;
        let (data, mask) = self.read(host, model, engine)?;
        let samples = match data {
            Read::Text(text) => self.text_samples(engine, &text, n_ctx)?,
            Read::Prompts(set) => {
                let samples = self.chat_samples(model, engine, &set, mask, n_ctx)?;
                let left_out = set.len() - samples.len();
                if left_out > 0 {
                    let n = counted(set.len(), "prompt");
                    host.warn(format_args!(
                        "{left_out} of {n} left out: no token that counts is among the first \
                         {n_ctx}"
                    ));
                }
                samples
            }
        };
        let samples = choose(samples, self.samples, self.seed);
        if samples.len() < self.samples {
            let n = counted(samples.len(), "sample");
            host.say(format_args!("the data has only {n}: all of it is read"));
        }
        let about = About {
            version: crate::VERSION.into(),
            model_sha256: sha256_of(host, model)?,
            architecture: model.architecture().into(),
            data: self.data.name(),
            data_sha256: samples_sha256(&samples),
            n_ctx,
            n_samples: samples.len(),
            mask: if mask == TokenMask::All { "all" } else { "response" }.into(),
            seed: self.seed,
        };
        Ok(Calibration { samples, about })
    }

    /// Tokens of a sample: no more than the model was trained for.
    fn n_ctx(&self, host: &dyn Host, engine: &Engine) -> Result<u32> {
        let trained = engine.n_ctx_train();
        match self.n_ctx {
            Some(n_ctx) if n_ctx > trained => {
                let (n_ctx, trained) = (n_ctx as usize, trained as usize);
                Err(Error::ContextTooLong { n_ctx, trained })
            }
            Some(n_ctx) => Ok(n_ctx),
            None => {
                if trained < N_CTX {
                    host.say(format_args!(
                        "samples have at most {trained} tokens: what the model was trained for"
                    ));
                }
                Ok(N_CTX.min(trained))
            }
        }
    }

    fn read(&self, host: &dyn Host, model: &Model, engine: &Engine) -> Result<(Read, TokenMask)> {
        let path = match &self.data {
            Data::File(path) => path,
            own => {
                let refusals = *own == Data::Align;
                let set = if refusals { prompts::harmful } else { prompts::harmless };
                let chat = self.chat.chat(model)?;
                let set = answered(host, engine, &chat, set(Part::Train), refusals)?;
                return Ok((Read::Prompts(set), self.mask.unwrap_or(TokenMask::Response)));
            }
        };
        let file = TextFile::read(path)?;
        let format = match self.format {
            Some(format) => format,
            None => guess(&file)?,
        };
        let lacks_answers = |read_as| Error::NoAnswers { path: path.clone(), read_as };
        let masked = self.mask == Some(TokenMask::Response);
        if format == Format::Text {
            return match masked {
                true => Err(lacks_answers("text")),
                false => Ok((Read::Text(text_of(file)?), TokenMask::All)),
            };
        }
        let mut set = file.prompts(None)?;
        if format == Format::Prompts {
            set.prompts.iter_mut().for_each(|p| p.answer = None);
            return match masked {
                true => Err(lacks_answers("prompts alone")),
                false => Ok((Read::Prompts(set), TokenMask::All)),
            };
        }
        let answers = set.prompts.iter().filter(|p| p.answer.is_some()).count();
        if answers < set.len() {
            let (path, of) = (path.clone(), set.len());
            return Err(Error::FewerAnswers { path, answers, of });
        }
        Ok((Read::Prompts(set), self.mask.unwrap_or(TokenMask::Response)))
    }

    fn text_samples(&self, engine: &Engine, text: &str, n_ctx: u32) -> Result<Vec<Sample>> {
        let tokens = engine.tokenize(text, true);
        let bos = engine.bos_if_wanted();
        Ok(windows(&tokens, n_ctx as usize, self.samples, bos)?)
    }

    fn chat_samples(
        &self,
        model: &Model,
        engine: &Engine,
        set: &PromptSet,
        mask: TokenMask,
        n_ctx: u32,
    ) -> Result<Vec<Sample>> {
        let chat = self.chat.chat(model)?;
        let sample = |prompt: &Prompt| -> Result<Sample> {
            let mut tokens = chat.tokens(engine, &prompt.text)?;
            let counted_from = if mask == TokenMask::All { 0 } else { tokens.len() };
            if let Some(answer) = &prompt.answer {
                tokens.extend(engine.tokenize(answer.trim_start(), false));
            }
            tokens.truncate(n_ctx as usize);
            Ok(Sample { tokens, counted_from })
        };
        let samples = set.prompts.iter().map(sample).collect::<Result<Vec<_>>>()?;
        Ok(samples.into_iter().filter(|s| s.counted_from < s.tokens.len()).collect())
    }
}

impl Data {
    /// As files name it: without folders.
    fn name(&self) -> String {
        match self {
            Data::Alpaca => "builtin:alpaca".into(),
            Data::Align => "builtin:align".into(),
            Data::File(path) => file_name(path),
        }
    }
}

impl Calibration {
    /// Reads the samples through `engine`, from where `so_far` ended. An interrupt is no error.
    ///
    /// # Errors
    /// The engine's; activations that are not finite.
    pub fn collect(
        &self,
        host: &dyn Host,
        engine: &Engine,
        so_far: Collected,
    ) -> Result<Collected> {
        Ok(collect(engine, &self.samples, so_far, host)?)
    }

    /// Statistics from all of the samples.
    ///
    /// # Errors
    /// As [`Calibration::collect`]; an interrupt.
    pub fn collect_all(&self, host: &dyn Host, engine: &Engine) -> Result<Stats> {
        let collected = self.collect(host, engine, Collected::default())?;
        match collected.interrupted {
            true => Err(crate::llama::Error::Interrupted.into()),
            false => Ok(self.stats(collected)),
        }
    }

    /// What was collected, as it goes into a file.
    pub fn stats(&self, collected: Collected) -> Stats {
        let mut inputs = collected.inputs;
        inputs.sort_keys();
        let about = self.about.clone();
        Stats { inputs, datasets: vec![about.data.clone()], about: Some(about) }
    }
}

/// A file of records holds prompts, with or without answers, unless its usual field is `text`;
/// anything else is text.
fn guess(file: &TextFile) -> Result<Format> {
    if !file.holds_records() {
        return Ok(Format::Text);
    }
    let set = file.prompts(None)?;
    if set.prompts.iter().all(|p| p.answer.is_some()) {
        return Ok(Format::Align);
    }
    let as_text = file.prompts(Some("text"));
    Ok(if as_text.is_ok_and(|t| t == set) { Format::Text } else { Format::Prompts })
}

/// A text, or the texts of a file of records, whole documents joined.
fn text_of(file: TextFile) -> Result<String> {
    match file.holds_records() {
        true => Ok(file.prompts(Some("text"))?.texts().collect::<Vec<_>>().join("\n\n")),
        false => Ok(file.filled()?),
    }
}

/// The prompts with the model's own greedy answers; with `refusals`, those that it refuses.
fn answered(
    host: &dyn Host,
    engine: &Engine,
    chat: &Chat,
    set: PromptSet,
    refusals: bool,
) -> Result<PromptSet> {
    let tokens: Vec<Vec<i32>> =
        set.texts().map(|text| chat.tokens(engine, text)).collect::<Result<_>>()?;
    let sampling = Sampling::Greedy;
    let settings = Generation { max_tokens: ANSWER_TOKENS, parallel: PARALLEL, sampling };
    let mut count = AnswerCount::new(host, "answering", 0, set.len());
    let answers = generate(engine, &tokens, settings, &mut Hooks::new(), &mut count)?;
    let mut prompts = Vec::new();
    for (mut prompt, answer) in set.prompts.into_iter().zip(answers) {
        let text = engine.answer(&answer);
        if !text.trim().is_empty() && (!refusals || begins_refusal(&text)) {
            prompt.answer = Some(text);
            prompts.push(prompt);
        }
    }
    if refusals && prompts.len() < MIN_REFUSALS {
        let (refused, of, needed) = (prompts.len(), tokens.len(), MIN_REFUSALS);
        return Err(Error::FewRefusals { refused, of, needed });
    }
    Ok(PromptSet::new(set.name, prompts))
}
