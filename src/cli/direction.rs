//! `aird direction`: find the direction in the residual stream that carries refusal.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::args::{EngineArgs, file_name, output_path};
use super::chat::{Chat, ChatArgs};
use super::paths::{Paths, Verb};
use super::text::table;
use super::ui::Ui;
use crate::direction::{
    About, Cell, CellScores, Choice, Direction, Found, Kinds, Limits, Search, find,
};
use crate::gguf::{Model, model_sha256};
use crate::llama::Engine;
use crate::prompts::{self, Part, PromptSet};

/// Candidates shown without --json.
const SHOWN: usize = 8;

/// Find the direction in the residual stream that carries refusal
#[derive(Debug, Args)]
pub struct FindDirection {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// Prompts that an aligned model refuses; default: aird's own.
    #[arg(long, value_name = "FILE")]
    harmful: Option<PathBuf>,
    /// Prompts that it answers; default: aird's own.
    #[arg(long, value_name = "FILE")]
    harmless: Option<PathBuf>,
    /// The field or column of those files that holds the prompt.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Prompts of each kind for the means, the first of each file.
    #[arg(long, default_value_t = 128, value_name = "N")]
    train: usize,
    /// Prompts of each kind for the selection, the next of each file.
    #[arg(long, default_value_t = 32, value_name = "N")]
    held_out: usize,
    /// The direction file to write (safetensors).
    #[arg(short, long, value_name = "DIR", value_parser = output_path())]
    output: PathBuf,
    /// Replace what exists.
    #[arg(long)]
    force: bool,
    /// Drop candidates whose removal changes harmless answers by more, in nats.
    #[arg(long, default_value_t = 0.1, value_name = "NATS")]
    max_kl: f64,
    /// Fail where no candidate passes, instead of widening --max-kl in steps.
    #[arg(long)]
    strict: bool,
    /// Evaluate every candidate on every prompt.
    #[arg(long)]
    exhaustive: bool,
    /// Take this layer, without a selection.
    #[arg(long, requires = "position", conflicts_with_all = ["exhaustive", "strict"])]
    layer: Option<usize>,
    /// And this position; -1 is the prompt's last token.
    #[arg(long, requires = "layer", allow_negative_numbers = true, value_name = "I")]
    position: Option<i32>,
    /// Write the candidates of all prompts, unfiltered, and choose none.
    #[arg(long, conflicts_with_all = ["layer", "exhaustive", "strict"])]
    capture_only: bool,
    /// Write the direction as a llama.cpp control vector, too.
    #[arg(long, value_name = "FILE", conflicts_with = "capture_only", value_parser = output_path())]
    cvector: Option<PathBuf>,
    /// Prompts read at once.
    #[arg(long, default_value_t = 32, value_name = "N")]
    parallel: u32,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What `aird direction --json` prints.
#[derive(Debug, Serialize)]
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

impl Verb for FindDirection {
    fn paths(&self) -> Paths {
        self.chat
            .read_from(Paths::default())
            .reads(std::iter::once(&self.model).chain(&self.harmful).chain(&self.harmless))
            .writes(std::iter::once(&self.output).chain(&self.cvector))
            .with(self.force, false)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let (direction, report) = self.look_for(ui)?;
        direction.write(&self.output)?;
        if let Some(cvector) = &self.cvector {
            direction.write_cvector(cvector)?;
        }
        ui.say(format_args!("wrote {}", self.output.display()));
        if self.json { ui.print_json(&report) } else { ui.print(report.text()) }
    }
}

impl FindDirection {
    fn look_for(&self, ui: &Ui) -> Result<(Direction, Report)> {
        let model = Model::open(&self.model)?;
        let chat = self.chat.chat(&model)?;
        let engine = self.engine.load(ui, &model)?;
        let (harmful, harmless) = self.prompt_sets()?;
        let search = self.search(&engine, &chat, [&harmful, &harmless])?;
        let found = find(&engine, &search, ui)?;
        let about = self.about(ui, &model, &chat, &found, [&harmful, &harmless])?;
        let selection = found.selection.as_ref();
        let spelled = |t: &i32| engine.spelled(*t);
        let report = Report {
            refusal_texts: about.refusal_tokens.iter().map(spelled).collect(),
            about: about.clone(),
            selection_tokens: selection.map(|s| s.n_tokens),
            selection_tokens_exhaustive: selection.map(|s| s.n_tokens_exhaustive),
        };
        self.warn_if_widened(ui, &report);
        report.leaves_refusals().into_iter().for_each(|said| ui.warn(said));
        Ok((Direction { candidates: found.candidates, about }, report))
    }

    /// Training and held-out prompts in one set of each kind, in that order.
    fn prompt_sets(&self) -> Result<(PromptSet, PromptSet)> {
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
        Ok((load(&self.harmful, prompts::harmful)?, load(&self.harmless, prompts::harmless)?))
    }

    fn search(&self, engine: &Engine, chat: &Chat, sets: [&PromptSet; 2]) -> Result<Search> {
        let tokens = |set: &PromptSet, skip: usize, n: usize| -> Result<Vec<Vec<i32>>> {
            set.texts().skip(skip).take(n).map(|text| Ok(chat.tokens(engine, text)?)).collect()
        };
        let [harmful, harmless] = sets;
        // A short file gives a fifth of its prompts to the selection.
        let train = |set: &PromptSet| match set.len() >= self.train.saturating_add(self.held_out) {
            true => self.train,
            false => set.len() - (set.len() / 5).max(1).min(self.held_out),
        };
        let (n, m) = (train(harmful), train(harmless));
        let limits =
            Limits { max_kl: self.max_kl, strict: self.strict, exhaustive: self.exhaustive };
        let choice = match (self.layer, self.position) {
            (Some(layer), Some(position)) if position < 0 => {
                Choice::Given(Cell { layer, behind: (-1 - position) as usize })
            }
            (Some(_), Some(position)) => {
                bail!("--position is {position}, expected -1 (the last token) or less");
            }
            _ if self.capture_only => Choice::CaptureOnly,
            _ => Choice::Select(limits),
        };
        let held_out = self.held_out;
        Ok(Search {
            train: Kinds { harmful: tokens(harmful, 0, n)?, harmless: tokens(harmless, 0, m)? },
            held_out: Kinds {
                harmful: tokens(harmful, n, held_out)?,
                harmless: tokens(harmless, m, held_out)?,
            },
            n_pos: chat.n_post_instruction(engine)?,
            parallel: self.parallel,
            choice,
        })
    }

    fn about(
        &self,
        ui: &Ui,
        model: &Model,
        chat: &Chat,
        found: &Found,
        sets: [&PromptSet; 2],
    ) -> Result<About> {
        let pick = found.selection.as_ref().map(|s| s.pick.cell);
        let layer = pick.map(|c| c.layer).or(self.layer);
        let position = pick.map(|c| -1 - c.behind as i32).or(self.position);
        let scores = found.selection.iter().flat_map(|s| &s.scores).map(CellScores::from);
        let hash = |name: &str, set: &PromptSet| (name.to_owned(), set.sha256.clone().into());
        let refusal_tokens = found.refusal_tokens.as_ref();
        Ok(About {
            version: env!("CARGO_PKG_VERSION").into(),
            model: model
                .text("general.name")?
                .map_or_else(|| file_name(&self.model), str::to_owned),
            model_sha256: model_sha256(model, ui)?,
            architecture: model.architecture().into(),
            layer,
            position,
            max_kl: found.selection.as_ref().map(|s| s.max_kl),
            refusal_tokens: refusal_tokens.map(|t| t.tokens.clone()).unwrap_or_default(),
            scores: scores.collect(),
            prompts: [hash("harmful", sets[0]), hash("harmless", sets[1])].into_iter().collect(),
            n_kept: found.n_kept,
            template_sha256: chat.template.sha256(),
        })
    }

    fn warn_if_widened(&self, ui: &Ui, report: &Report) {
        if let Some(max_kl) = report.about.max_kl.filter(|kl| *kl > self.max_kl) {
            ui.warn(format_args!(
                "no candidate changes harmless answers by at most {} nats: the limit was widened \
                 to {max_kl}, and the file says so",
                self.max_kl
            ));
        }
    }
}

impl Report {
    fn text(&self) -> String {
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

/// The direction of the model at `path`, as `aird direction` finds it left to itself.
pub fn find_in(ui: &Ui, path: &Path, chat: &ChatArgs, engine: &EngineArgs) -> Result<Direction> {
    let defaults = FindDirection {
        model: path.into(),
        harmful: None,
        harmless: None,
        field: None,
        train: 128,
        held_out: 32,
        output: PathBuf::new(),
        force: false,
        max_kl: 0.1,
        strict: false,
        exhaustive: false,
        layer: None,
        position: None,
        capture_only: false,
        cvector: None,
        parallel: 32,
        chat: chat.clone(),
        engine: engine.clone(),
        json: false,
    };
    let (direction, report) = defaults.look_for(ui)?;
    ui.say(format_args!("the direction of {}: {}", file_name(path), report.text().trim_end()));
    Ok(direction)
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
        let said = report(1.25).leaves_refusals().unwrap();
        assert!(said.contains("on average still refused (bypass 1.250"), "{said}");
    }
}
