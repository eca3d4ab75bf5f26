//! Calibration, for the verbs that need statistics: the data, the samples made of it, the pass.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::args::file_name;
use super::chat::{Chat, ChatArgs};
use super::paths::Paths;
use super::text::counted;
use super::ui::Ui;
use crate::gguf::{Model, model_sha256};
use crate::judge::begins_refusal;
use crate::llama::{AnswerCount, Engine, Generation, Hooks, Sampling, generate};
use crate::prompts::{self, Part, Prompt, PromptSet, TextFile};
use crate::stats::{About, Collected, Sample, Stats, choose, collect, samples_sha256, windows};

/// Tokens of an answer that the model gives to a built-in prompt.
const ANSWER_TOKENS: usize = 64;
/// Tokens of a sample, unless said otherwise.
const N_CTX: u32 = 512;
/// Answers under way at once.
const PARALLEL: u32 = 32;
/// Refusals that the built-in "align" data needs.
const MIN_REFUSALS: usize = 16;

/// What calibration reads.
#[derive(Debug, Args)]
pub struct CalibrationArgs {
    /// Calibration data: a text, prompts with answers (JSON, JSON lines, CSV, TSV), prompts alone;
    /// builtin:alpaca (harmless prompts and the model's answers) or builtin:align (harmful
    /// prompts and the model's refusals).
    #[arg(long, value_name = "FILE")]
    pub data: Option<String>,
    /// What FILE is; guessed if not said.
    #[arg(long, value_enum, requires = "data")]
    format: Option<Format>,
    /// Which tokens count; default: those of answers, where there are any.
    #[arg(long, value_enum, requires = "data")]
    mask: Option<Mask>,
    /// Samples to read, drawn from the data with --seed.
    #[arg(long, default_value_t = 128, value_name = "N")]
    samples: usize,
    /// Tokens of a sample, at most; of a text's window, exactly. Default: 512, or what the model
    /// was trained for if that is less.
    #[arg(long, value_name = "N")]
    ctx: Option<u32>,
    /// Seed of the draw.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    chat: ChatArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Running text, read in windows.
    Text,
    /// instruction, input, output.
    Alpaca,
    /// prompt, response.
    Align,
    /// Prompts without answers.
    Prompts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mask {
    /// The answer's tokens.
    Response,
    /// Every token.
    All,
}

/// Samples, and what will be said about them.
pub struct Calibration {
    pub samples: Vec<Sample>,
    pub about: About,
}

impl CalibrationArgs {
    /// `paths`, and the files that these arguments name.
    pub fn read_from(&self, paths: Paths) -> Paths {
        self.chat.read_from(paths).reads_unless(self.data.as_deref(), &["builtin:"])
    }

    /// True if the tokens of answers alone are asked for.
    pub fn masks(&self) -> bool {
        self.mask == Some(Mask::Response)
    }

    /// What can be wrong without a look at the model.
    pub fn check(&self) -> Result<()> {
        let Some(data) = &self.data else { bail!("--data is missing: nothing to calibrate on") };
        if self.samples == 0 || self.ctx.is_some_and(|n| n < 2) {
            bail!("--samples is at least 1 and --ctx at least 2");
        }
        // A pipe is as good as a file.
        let path = Path::new(data);
        if !data.starts_with("builtin:") && (path.is_dir() || !path.exists()) {
            bail!("there is no file {data}");
        }
        Ok(())
    }

    /// Tokens of a sample: no more than the model was trained for.
    fn n_ctx(&self, ui: &Ui, engine: &Engine) -> Result<u32> {
        let trained = engine.n_ctx_train();
        match self.ctx {
            Some(ctx) if ctx > trained => {
                bail!("--ctx is {ctx}, the model was trained for {trained} tokens")
            }
            Some(ctx) => return Ok(ctx),
            None if trained < N_CTX => ui.say(format_args!(
                "samples have at most {trained} tokens: what the model was trained for"
            )),
            None => {}
        }
        Ok(N_CTX.min(trained))
    }

    /// Makes the samples for `engine`'s model.
    pub fn samples(&self, ui: &Ui, model: &Model, engine: &Engine) -> Result<Calibration> {
        self.check()?;
        let data = self.data.as_deref().unwrap_or_default();
        let n_ctx = self.n_ctx(ui, engine)?;
        let (set, mask) = self.read(ui, model, engine, data)?;
        let samples = match set {
            Data::Text(text) => self.text_samples(engine, &text, n_ctx)?,
            Data::Prompts(set) => {
                let samples = self.chat_samples(model, engine, &set, (mask, n_ctx))?;
                let left_out = set.len() - samples.len();
                if left_out > 0 {
                    let n = counted(set.len(), "prompt");
                    ui.warn(format_args!(
                        "{left_out} of {n} left out: no token that counts is within --ctx {n_ctx}"
                    ));
                }
                samples
            }
        };
        let samples = choose(samples, self.samples, self.seed);
        if samples.len() < self.samples {
            let n = counted(samples.len(), "sample");
            ui.say(format_args!("the data has only {n}: all of it is read"));
        }
        let about = About {
            version: env!("CARGO_PKG_VERSION").into(),
            model_sha256: model_sha256(model, ui)?,
            architecture: model.architecture().into(),
            data: data_name(data),
            data_sha256: samples_sha256(&samples),
            n_ctx,
            n_samples: samples.len(),
            mask: if mask == Mask::All { "all" } else { "response" }.into(),
            seed: self.seed,
        };
        Ok(Calibration { samples, about })
    }

    fn read(&self, ui: &Ui, model: &Model, engine: &Engine, data: &str) -> Result<(Data, Mask)> {
        let own = match data {
            "builtin:alpaca" => Some(prompts::harmless(Part::Train)),
            "builtin:align" => Some(prompts::harmful(Part::Train)),
            _ if data.starts_with("builtin:") => {
                bail!("there is no {data}, expected builtin:alpaca or builtin:align")
            }
            _ => None,
        };
        if let Some(set) = own {
            let refusals = data == "builtin:align";
            let set = answered(ui, engine, &self.chat.chat(model)?, set, refusals)?;
            return Ok((Data::Prompts(set), self.mask.unwrap_or(Mask::Response)));
        }
        let file = TextFile::read(Path::new(data))?;
        let format = match self.format {
            Some(format) => format,
            None => guess(&file)?,
        };
        if format == Format::Text {
            if self.mask == Some(Mask::Response) {
                bail!("--mask response needs answers, and {data} is read as text");
            }
            return Ok((Data::Text(text_of(file)?), Mask::All));
        }
        let mut set = file.prompts(None)?;
        let answers = set.prompts.iter().filter(|p| p.answer.is_some()).count();
        if format == Format::Prompts {
            if self.mask == Some(Mask::Response) {
                bail!("--mask response needs answers, and {data} is read as prompts alone");
            }
            set.prompts.iter_mut().for_each(|p| p.answer = None);
            return Ok((Data::Prompts(set), Mask::All));
        }
        if answers < set.len() {
            bail!(
                "{data}: {answers} of {} prompts have an answer (a field output, response, \
                 completion or answer)\nhint: --format prompts reads the prompts alone",
                set.len()
            );
        }
        Ok((Data::Prompts(set), self.mask.unwrap_or(Mask::Response)))
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
        (mask, n_ctx): (Mask, u32),
    ) -> Result<Vec<Sample>> {
        let chat = self.chat.chat(model)?;
        let sample = |prompt: &Prompt| -> Result<Sample> {
            let mut tokens = chat.tokens(engine, &prompt.text)?;
            let counted_from = if mask == Mask::All { 0 } else { tokens.len() };
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

enum Data {
    Text(String),
    Prompts(PromptSet),
}

/// Reads the samples through `engine`, from where `so_far` ended.
pub fn run(
    ui: &Ui,
    engine: &Engine,
    calibration: &Calibration,
    so_far: Collected,
) -> Result<Collected> {
    Ok(collect(engine, &calibration.samples, so_far, ui)?)
}

/// What was collected, as it goes into a file.
pub fn stats(calibration: &Calibration, collected: Collected) -> Stats {
    let mut inputs = collected.inputs;
    inputs.sort_keys();
    let about = calibration.about.clone();
    Stats { inputs, datasets: vec![about.data.clone()], about: Some(about) }
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
    ui: &Ui,
    engine: &Engine,
    chat: &Chat,
    set: PromptSet,
    refusals: bool,
) -> Result<PromptSet> {
    let tokens: Vec<Vec<i32>> =
        set.texts().map(|text| Ok(chat.tokens(engine, text)?)).collect::<Result<_>>()?;
    let sampling = Sampling::Greedy;
    let settings = Generation { max_tokens: ANSWER_TOKENS, parallel: PARALLEL, sampling };
    let mut answered = AnswerCount::new(ui, "answering", 0, set.len());
    let answers = generate(engine, &tokens, settings, &mut Hooks::new(), &mut answered)?;
    let mut prompts = Vec::new();
    for (mut prompt, answer) in set.prompts.into_iter().zip(answers) {
        let text = engine.answer(&answer);
        if !text.trim().is_empty() && (!refusals || begins_refusal(&text)) {
            prompt.answer = Some(text);
            prompts.push(prompt);
        }
    }
    if refusals && prompts.len() < MIN_REFUSALS {
        bail!(
            "this model refuses {} of {} harmful prompts, builtin:align needs at least \
             {MIN_REFUSALS} refusals\nhint: --data FILE with prompts and refusals",
            prompts.len(),
            tokens.len()
        );
    }
    Ok(PromptSet::new(set.name, prompts))
}

fn data_name(data: &str) -> String {
    if data.starts_with("builtin:") { data.into() } else { file_name(&PathBuf::from(data)) }
}
