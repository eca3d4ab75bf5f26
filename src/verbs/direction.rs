//! Find the direction in the residual stream that carries refusal.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::chat::{Chat, ChatSetup};
use super::error::Result;
use super::host::Host;
use super::model::{file_name, load};
use super::stopped::Stopped;
use super::words::table;
use crate::direction::{
    About, CellScores, Choice, Direction, Found, Kinds, Limits, Search, Selection, find,
};
use crate::gguf::{Model, model_sha256};
use crate::llama::{Engine, Options};
use crate::prompts::{self, Part, PromptSet};

/// Prompts of each kind for the means, by default.
pub const N_TRAIN: usize = 128;
/// Prompts of each kind for the selection, by default.
pub const N_HELD_OUT: usize = 32;
/// Nats that removing the direction may change harmless answers by, by default.
pub const MAX_KL: f64 = 0.1;
/// Prompts read at once, by default.
pub const PARALLEL: u32 = 32;

/// Candidates that the text shows.
const SHOWN: usize = 8;

/// What to find, and where it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// In which model, by which prompts.
    pub setup: DirectionSetup,
    /// The direction file to write (safetensors).
    pub output: PathBuf,
    /// Write the direction as a llama.cpp control vector, too; not without a chosen candidate.
    pub cvector: Option<PathBuf>,
}

/// How a direction is found.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectionSetup {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// Prompts that an aligned model refuses; None: aird's own.
    pub harmful: Option<PathBuf>,
    /// Prompts that it answers; None: aird's own.
    pub harmless: Option<PathBuf>,
    /// The field or column of those files that holds the prompt.
    pub field: Option<String>,
    /// Prompts of each kind for the means, the first of each file.
    pub n_train: usize,
    /// Prompts of each kind for the selection, the next of each file.
    pub n_held_out: usize,
    /// How a candidate is chosen.
    pub choice: Choice,
    /// Prompts read at once.
    pub parallel: u32,
    /// How prompts are put to the model.
    pub chat: ChatSetup,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What the file says about itself, the scores of every candidate among it.
    #[serde(flatten)]
    pub about: About,
    /// The refusal tokens, spelled.
    pub refusal_texts: Vec<String>,
    /// Tokens that the selection decoded.
    pub selection_tokens: Option<u64>,
    /// Tokens that an exhaustive selection decodes.
    pub selection_tokens_exhaustive: Option<u64>,
}

/// A direction, and how it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundDirection {
    /// The direction with its candidates.
    pub direction: Direction,
    /// How it was found.
    pub report: Report,
}

/// Harmful and harmless prompts, those for the means and those for the selection together.
struct PromptPair {
    harmful: PromptSet,
    harmless: PromptSet,
}

/// Finds a direction and writes it.
///
/// # Errors
/// The model has no direction ([`Stopped::NoDirection`]), the prompts' or the disk's, an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let found = request.setup.find(host)?;
    found.direction.write(&request.output)?;
    if let Some(cvector) = &request.cvector {
        found.direction.write_cvector(cvector)?;
    }
    host.say(format_args!("wrote {}", request.output.display()));
    Ok(found.report)
}

impl DirectionSetup {
    /// As `aird direction` finds the direction of `model`, left to itself.
    pub fn new(model: PathBuf, chat: ChatSetup, engine: Options) -> DirectionSetup {
        DirectionSetup {
            model,
            harmful: None,
            harmless: None,
            field: None,
            n_train: N_TRAIN,
            n_held_out: N_HELD_OUT,
            choice: Choice::Select(Limits { max_kl: MAX_KL, strict: false, exhaustive: false }),
            parallel: PARALLEL,
            chat,
            engine,
        }
    }

    /// Finds the direction, and warns of what should be known before it is used.
    ///
    /// # Errors
    /// See [`run`]; the disk apart.
    pub fn find(&self, host: &dyn Host) -> Result<FoundDirection> {
        let model = Model::open(&self.model)?;
        let chat = self.chat.chat(&model)?;
        let engine = load(host, &model, self.engine)?;
        let prompts = self.prompts()?;
        let found = find(&engine, &self.search(&engine, &chat, &prompts)?, host)?;
        let about = self.about(host, &model, &chat, &found, &prompts)?;
        let selection = found.selection.as_ref();
        let report = Report {
            refusal_texts: about.refusal_tokens.iter().map(|t| engine.spelled(*t)).collect(),
            about: about.clone(),
            selection_tokens: selection.map(|s| s.n_tokens),
            selection_tokens_exhaustive: selection.map(|s| s.n_tokens_exhaustive),
        };
        self.warn_if_widened(host, selection);
        report.leaves_refusals().into_iter().for_each(|warning| host.warn(warning));
        let direction = Direction { candidates: found.candidates, about };
        Ok(FoundDirection { direction, report })
    }

    fn prompts(&self) -> Result<PromptPair> {
        let load = |file: &Option<PathBuf>, own: fn(Part) -> PromptSet| -> Result<PromptSet> {
            let set = match file {
                Some(file) => prompts::load(file, self.field.as_deref())?,
                None => {
                    let (train, held_out) = (own(Part::Train), own(Part::HeldOut));
                    let all = train.prompts.into_iter().chain(held_out.prompts).collect();
                    PromptSet::new(train.name, all)
                }
            };
            Ok(set.require(2)?)
        };
        let harmful = load(&self.harmful, prompts::harmful)?;
        Ok(PromptPair { harmful, harmless: load(&self.harmless, prompts::harmless)? })
    }

    fn search(&self, engine: &Engine, chat: &Chat, prompts: &PromptPair) -> Result<Search> {
        let PromptPair { harmful, harmless } = prompts;
        let tokens = |set: &PromptSet, skip: usize, n: usize| -> Result<Vec<Vec<i32>>> {
            set.texts().skip(skip).take(n).map(|text| chat.tokens(engine, text)).collect()
        };
        let (n, m) = (self.n_train_of(harmful), self.n_train_of(harmless));
        Ok(Search {
            train: Kinds { harmful: tokens(harmful, 0, n)?, harmless: tokens(harmless, 0, m)? },
            held_out: Kinds {
                harmful: tokens(harmful, n, self.n_held_out)?,
                harmless: tokens(harmless, m, self.n_held_out)?,
            },
            n_pos: chat.n_post_instruction(engine)?,
            parallel: self.parallel,
            choice: self.choice,
        })
    }

    /// How many prompts of `set` are for the means. A short file gives a fifth of its prompts to
    /// the selection.
    fn n_train_of(&self, set: &PromptSet) -> usize {
        match set.len() >= self.n_train.saturating_add(self.n_held_out) {
            true => self.n_train,
            false => set.len() - (set.len() / 5).max(1).min(self.n_held_out),
        }
    }

    fn about(
        &self,
        host: &dyn Host,
        model: &Model,
        chat: &Chat,
        found: &Found,
        prompts: &PromptPair,
    ) -> Result<About> {
        let cell = match (&found.selection, self.choice) {
            (Some(selection), _) => Some(selection.pick.cell),
            (None, Choice::Given(cell)) => Some(cell),
            (None, _) => None,
        };
        let scores = found.selection.iter().flat_map(|s| &s.scores).map(CellScores::from);
        let sha256 = |set: &PromptSet| set.sha256.clone().into();
        let refusal_tokens = found.refusal_tokens.as_ref();
        Ok(About {
            version: crate::VERSION.into(),
            model: model
                .text("general.name")?
                .map_or_else(|| file_name(&self.model), str::to_owned),
            model_sha256: model_sha256(model, host)?,
            architecture: model.architecture().into(),
            layer: cell.map(|cell| cell.layer),
            position: cell.map(|cell| -1 - cell.behind as i32),
            max_kl: found.selection.as_ref().map(|s| s.max_kl),
            refusal_tokens: refusal_tokens.map(|t| t.tokens.clone()).unwrap_or_default(),
            scores: scores.collect(),
            prompts: serde_json::Map::from_iter([
                ("harmful".to_owned(), sha256(&prompts.harmful)),
                ("harmless".to_owned(), sha256(&prompts.harmless)),
            ]),
            n_kept: found.n_kept,
            template_sha256: chat.template.sha256(),
        })
    }

    fn warn_if_widened(&self, host: &dyn Host, selection: Option<&Selection>) {
        let Choice::Select(limits) = self.choice else { return };
        if let Some(max_kl) = selection.map(|s| s.max_kl).filter(|kl| *kl > limits.max_kl) {
            host.warn(format_args!(
                "no candidate changes harmless answers by at most {} nats: the limit was widened \
                 to {max_kl}, and the file says so",
                limits.max_kl
            ));
        }
    }
}

impl Report {
    /// The chosen candidate, and the best ones beside it.
    pub(crate) fn text(&self) -> String {
        let about = &self.about;
        let mut text = match (about.layer, about.position) {
            (Some(layer), Some(position)) => format!("layer {layer}, position {position}\n"),
            _ => "candidates captured, none chosen\n".into(),
        };
        let (harmful, harmless) = about.n_kept;
        text += &format!("  means over     {harmful} harmful and {harmless} harmless prompts\n");
        if !self.refusal_texts.is_empty() {
            let quoted: Vec<String> = self.refusal_texts.iter().map(|t| format!("{t:?}")).collect();
            text += &format!("  refusals begin {}\n", quoted.join(", "));
        }
        if let (Some(n), Some(all)) = (self.selection_tokens, self.selection_tokens_exhaustive) {
            text += &format!("  selection read {n} tokens of an exhaustive search's {all}\n");
        }
        text + &self.scores_text()
    }

    /// The scores of the one that was taken.
    fn chosen(&self) -> Option<&CellScores> {
        let place = (self.about.layer?, self.about.position?);
        let n = |s: &&CellScores| s.n;
        self.about.scores.iter().filter(|s| (s.layer, s.position) == place).max_by_key(n)
    }

    /// What removing the direction leaves, where that is most of the refusals.
    fn leaves_refusals(&self) -> Option<String> {
        let bypass = self.chosen()?.bypass.filter(|bypass| *bypass > 0.0)?;
        Some(format!(
            "with the direction removed harmful prompts are on average still refused (bypass \
             {bypass:.3}, expected below 0): the model refuses by more than this direction"
        ))
    }

    /// The candidates evaluated on most prompts, the best first, and the one that was taken.
    fn scores_text(&self) -> String {
        let n = self.about.scores.iter().map(|s| s.n).max().unwrap_or(0);
        let mut best: Vec<&CellScores> = self.about.scores.iter().filter(|s| s.n == n).collect();
        if best.is_empty() {
            return String::new();
        }
        let key = |s: &CellScores| s.bypass.unwrap_or(f64::INFINITY);
        best.sort_by(|a, b| key(a).total_cmp(&key(b)));
        let head = ["layer", "position", "bypass", "induce", "KL nats", ""];
        let mut rows = vec![head.map(String::from).to_vec()];
        let number = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.3}"));
        let is_chosen = |s: &CellScores| self.chosen().is_some_and(|chosen| chosen == s);
        let beyond = best.iter().skip(SHOWN).filter(|s| is_chosen(s));
        for s in best.iter().take(SHOWN).chain(beyond) {
            rows.push(vec![
                s.layer.to_string(),
                s.position.to_string(),
                number(s.bypass),
                number(s.induce),
                number(s.kl_nats),
                if is_chosen(s) { "<- chosen".into() } else { String::new() },
            ]);
        }
        table(&rows, &[0, 1, 2, 3, 4], "  ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates whose bypass is -9, -8, .. and `last`, the last one chosen.
    fn report(last: f64) -> Report {
        let score = |(layer, bypass)| CellScores {
            layer,
            position: -1,
            n: 32,
            bypass: Some(bypass),
            induce: Some(1.0),
            kl_nats: Some(0.05),
        };
        let bypasses = (0..9).map(|i| f64::from(i) - 9.0).chain([last]);
        let about = About {
            version: String::new(),
            model: String::new(),
            model_sha256: String::new(),
            architecture: String::new(),
            layer: Some(9),
            position: Some(-1),
            max_kl: Some(0.1),
            refusal_tokens: Vec::new(),
            scores: bypasses.enumerate().map(score).collect(),
            prompts: Default::default(),
            n_kept: (32, 32),
            template_sha256: String::new(),
        };
        let (selection_tokens, selection_tokens_exhaustive) = (None, None);
        let refusal_texts = Vec::new();
        Report { about, refusal_texts, selection_tokens, selection_tokens_exhaustive }
    }

    #[test]
    fn the_one_that_was_taken_is_shown_also_where_others_bypass_more() {
        let text = report(-0.5).scores_text();
        let last = text.lines().last().unwrap();
        assert!(last.contains("-0.500") && last.ends_with("<- chosen"), "{text}");
        assert_eq!(text.lines().count(), 1 + SHOWN + 1);
    }

    #[test]
    fn refusals_that_stay_without_the_direction_are_told_of() {
        assert_eq!(report(-0.5).leaves_refusals(), None);
        let warning = report(1.25).leaves_refusals().unwrap();
        assert!(warning.contains("on average still refused (bypass 1.250"), "{warning}");
    }
}
