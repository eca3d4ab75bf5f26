//! The search for a repair's blocks and strength: whom it asks, what it may cost, what it found.

use std::path::PathBuf;

use super::chat::{Chat, ChatSetup};
use super::error::{Error, Result};
use super::host::Host;
use super::model::load;
use super::words::table;
use crate::direction::Direction;
use crate::eval::interval::{Rate, wilson};
use crate::gguf::{Model, write_file};
use crate::judge::thought_openings;
use crate::llama::graph::{Part as HalfPart, Structure};
use crate::llama::{Engine, Generation, Hooks, NoListener, Options, Sampling, generate};
use crate::prompts::{self, Part, PromptSet};
use crate::repair::search::{
    Answered, Budget, Counts, Questions, Ranked, Search, Searched, as_original, search,
};
use crate::repair::{Half, halves_text};
use crate::report::search::{
    AnsweredReport, BudgetReport, CountsReport, HalfReport, PromptsReport, ScreenedReport,
    SearchReport, SettingsReport,
};

/// Points of false refusals that a repair may add, by default.
pub const MAX_FALSE_REFUSAL: f64 = 10.0;
/// Nats that it may cost, by default.
pub const MAX_KL: f64 = 0.1;
/// Blocks that may be edited together, by default.
pub const MAX_BLOCKS: usize = 4;
/// Tokens of an answer that are read, by default.
pub const MAX_TOKENS: usize = 24;
/// Prompts and answers under way at once, by default.
pub const PARALLEL: u32 = 32;

/// Answers that are listened to for a thought, and their tokens.
const N_LISTENED: usize = 8;
const THOUGHT_TOKENS: usize = 6;
/// Of aird's harmless and borderline training prompts so many are asked besides the held-out ones.
const N_MORE: [usize; 2] = [8, 16];
/// Prompts that a file must hold.
const LEAST_PROMPTS: usize = 8;

/// How a search goes.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSetup {
    /// Held-out harmful prompts; None: aird's own.
    pub harmful: Option<PathBuf>,
    /// Held-out harmless ones; None: aird's own, borderline ones among them, and for whole answers
    /// some of its training ones.
    pub harmless: Option<PathBuf>,
    /// The field or column of those files that holds the prompt.
    pub field: Option<String>,
    /// False refusals that a repair may add, in points, 0 to 100; degenerate answers likewise.
    /// Where the original is the aim, its own rate is the limit instead.
    pub max_false_refusal: f64,
    /// KL to the unrepaired model at the first token of harmless answers that it may cost, nats.
    pub max_kl: f64,
    /// Blocks that may be edited together.
    pub max_blocks: usize,
    /// Tokens of an answer that are read.
    pub max_tokens: usize,
    /// Prompts and answers under way at once.
    pub parallel: u32,
    /// Write what was tried to this JSON file, its picture beside it as .svg; not in a dry run.
    pub front: Option<PathBuf>,
}

impl Default for SearchSetup {
    /// As `aird repair` searches, left to itself.
    fn default() -> SearchSetup {
        SearchSetup {
            harmful: None,
            harmless: None,
            field: None,
            max_false_refusal: MAX_FALSE_REFUSAL,
            max_kl: MAX_KL,
            max_blocks: MAX_BLOCKS,
            max_tokens: MAX_TOKENS,
            parallel: PARALLEL,
            front: None,
        }
    }
}

/// Which blocks are edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocks {
    /// These halves of blocks, together.
    Given(Vec<Half>),
    /// Those that a search finds among these halves of every block.
    Searched(Vec<HalfPart>),
}

/// What a search is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// As many refusals as the budget allows.
    Strongest {
        /// The model's own answers, unrepaired, where they were read already.
        before: Option<Counts>,
    },
    /// As many as the original's ([`as_original`]), by the least edit, with no more false ones.
    Original {
        /// The original's answers.
        original: Counts,
        /// The model's own, unrepaired.
        before: Counts,
    },
}

/// What is left open.
pub(crate) struct Question<'a> {
    /// The name of the model that is repaired.
    pub model_name: &'a str,
    /// r, `[n_embd]`.
    pub direction: &'a Direction,
    /// sha256 of its file.
    pub direction_sha256: &'a str,
    /// Where to edit.
    pub blocks: &'a Blocks,
    /// The strength given, if any.
    pub alpha: Option<f64>,
    /// What the search is for.
    pub goal: Goal,
}

/// What was found.
pub(crate) struct Answer {
    /// Blocks and strength; None: nothing helps within the budget.
    pub place: Option<Place>,
    /// All that was tried.
    pub report: SearchReport,
}

/// Where to edit, and how strongly.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    /// Halves of blocks.
    pub halves: Vec<Half>,
    /// The strength, above 0.
    pub alpha: f64,
}

/// A search with what it runs on.
pub(crate) struct Searcher<'a> {
    /// How it goes.
    pub setup: &'a SearchSetup,
    /// How prompts are put to the model.
    pub chat: &'a ChatSetup,
    /// How llama.cpp runs.
    pub engine: Options,
    /// Who hears of it.
    pub host: &'a dyn Host,
}

/// Whom a search asks.
struct AskedPrompts {
    harmful: PromptSet,
    benign: PromptSet,
    /// For whole answers only; empty where prompts are given.
    more_benign: PromptSet,
}

impl SearchSetup {
    /// Checks what can be checked before a search.
    ///
    /// # Errors
    /// Prompts that cannot be read, or a front that would be its own picture.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(front) = &self.front
            && front.extension().is_some_and(|e| e.eq_ignore_ascii_case("svg"))
        {
            return Err(Error::Sentence(format!(
                "the front is {}, expected a name for the JSON: its picture goes beside it as .svg",
                front.display()
            )));
        }
        self.prompts().map(drop)
    }

    /// Writes what was tried, where that was asked for.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn write_front(&self, report: &SearchReport) -> Result<()> {
        let Some(path) = &self.front else { return Ok(()) };
        let json = serde_json::to_string_pretty(report);
        let json = json.map_err(|e| Error::Sentence(format!("cannot write JSON: {e}")))? + "\n";
        write_file(path, json.as_bytes())?;
        Ok(write_file(&path.with_extension("svg"), report.front().file().as_bytes())?)
    }

    fn prompts(&self) -> Result<AskedPrompts> {
        let load = |file: &PathBuf| -> Result<PromptSet> {
            Ok(prompts::load(file, self.field.as_deref())?.require(LEAST_PROMPTS)?)
        };
        let own_benign = |name: &str, part, [harmless, borderline]: [usize; 2]| {
            let harmless = prompts::harmless(part).first(harmless);
            let borderline = prompts::borderline(part).first(borderline);
            PromptSet::new(name, [harmless.prompts, borderline.prompts].concat())
        };
        let held_out = || own_benign("builtin:benign/held-out", Part::HeldOut, [usize::MAX; 2]);
        let harmful = self.harmful.as_ref().map(load).transpose()?;
        let benign = self.harmless.as_ref().map(load).transpose()?;
        let more_benign = match benign {
            // Others' files may hold these very prompts.
            Some(_) => PromptSet::new("none", Vec::new()),
            None => own_benign("builtin:benign/train, the first", Part::Train, N_MORE),
        };
        Ok(AskedPrompts {
            harmful: harmful.unwrap_or_else(|| prompts::harmful(Part::HeldOut)),
            benign: benign.unwrap_or_else(held_out),
            more_benign,
        })
    }

    /// What an edit may cost: of false refusals, where the original is the aim, as many as it has.
    fn budget(&self, goal: Goal) -> Budget {
        let max_false_refusal = match goal {
            Goal::Strongest { .. } => self.max_false_refusal,
            Goal::Original { original, before } => {
                let more = original.falsely_refused.saturating_sub(before.falsely_refused);
                100.0 * more as f64 / before.n_benign.max(1) as f64
            }
        };
        Budget { max_false_refusal, max_kl: self.max_kl }
    }
}

impl Searcher<'_> {
    /// Searches `model`.
    ///
    /// # Errors
    /// The model thinks before it answers; prompts that cannot be read; llama.cpp's; an interrupt.
    pub(crate) fn search(&self, model: &Model, question: &Question<'_>) -> Result<Answer> {
        let chat = self.chat.chat(model)?;
        let prompts = self.setup.prompts()?;
        let engine = load(self.host, model, self.engine)?;
        let questions = self.questions(&chat, &engine, &prompts)?;
        let (halves, all_halves) = match question.blocks {
            Blocks::Given(halves) => (halves.clone(), true),
            Blocks::Searched(parts) => (every_half(engine.structure()?, parts), false),
        };
        let (before, enough) = match question.goal {
            Goal::Strongest { before } => (before, None),
            Goal::Original { original, before } => {
                (Some(before), Some(as_original(original.refused)))
            }
        };
        let plan = Search {
            unit: question.direction.unit()?,
            questions,
            before,
            enough,
            all_halves,
            halves,
            alpha: question.alpha,
            max_blocks: self.setup.max_blocks,
            budget: self.setup.budget(question.goal),
        };
        if thinks(&engine, &plan.questions.harmful, self.setup.parallel)? {
            return Err(Error::ThinksInSearch);
        }
        let found = search(model, &engine, &plan, self.host)?;
        let report = self.report(question, &found, self.settings(&chat, &prompts));
        let picked = found.pick.map(|i| &found.answered[i].candidate);
        let place = picked.map(|c| Place { halves: c.halves.clone(), alpha: c.alpha });
        Ok(Answer { place, report })
    }

    /// How `model` answers what a search asks; None if it thinks before it answers.
    ///
    /// # Errors
    /// See [`Searcher::search`].
    pub(crate) fn count(&self, model: &Model) -> Result<Option<Counts>> {
        let chat = self.chat.chat(model)?;
        let engine = load(self.host, model, self.engine)?;
        let questions = self.questions(&chat, &engine, &self.setup.prompts()?)?;
        if thinks(&engine, &questions.harmful, self.setup.parallel)? {
            return Ok(None);
        }
        self.host.part("reading answers", 0, 1);
        Ok(Some(questions.count(&engine, &mut Hooks::new())?))
    }

    /// What a search asks `model`, and how.
    ///
    /// # Errors
    /// Prompts that cannot be read, or no chat template.
    pub(crate) fn asked(&self, model: &Model) -> Result<SettingsReport> {
        Ok(self.settings(&self.chat.chat(model)?, &self.setup.prompts()?))
    }

    fn questions(&self, chat: &Chat, engine: &Engine, prompts: &AskedPrompts) -> Result<Questions> {
        let tokens = |set: &PromptSet| -> Result<Vec<Vec<i32>>> {
            set.texts().map(|text| chat.tokens(engine, text)).collect()
        };
        Ok(Questions {
            harmful: tokens(&prompts.harmful)?,
            benign: tokens(&prompts.benign)?,
            more_benign: tokens(&prompts.more_benign)?,
            max_tokens: self.setup.max_tokens,
            parallel: self.setup.parallel,
        })
    }

    fn settings(&self, chat: &Chat, prompts: &AskedPrompts) -> SettingsReport {
        SettingsReport {
            harmful: PromptsReport::of(&prompts.harmful),
            harmless: PromptsReport::of(&prompts.benign),
            more_harmless: PromptsReport::of(&prompts.more_benign),
            template_sha256: chat.template.sha256(),
            thinking: false,
            system: self.chat.system.clone(),
            max_blocks: self.setup.max_blocks,
            max_tokens: self.setup.max_tokens,
            parallel: self.setup.parallel,
        }
    }

    fn report(
        &self,
        question: &Question<'_>,
        found: &Searched,
        settings: SettingsReport,
    ) -> SearchReport {
        let half = |r: &Ranked| HalfReport {
            block: r.half.block,
            part: r.half.part.name().into(),
            c: r.c,
        };
        let screened = found.screened.iter().map(|s| ScreenedReport {
            blocks: halves_text(&s.candidate.halves),
            alpha: s.candidate.alpha,
            refusal: s.refusal,
            false_refusal: s.false_refusal,
            likelihood: s.likelihood,
            kl_nats: s.kl_nats,
        });
        let answered = |(i, a): (usize, &Answered)| AnsweredReport {
            blocks: halves_text(&a.candidate.halves),
            alpha: a.candidate.alpha,
            counts: counts(&a.counts),
            kl_nats: a.kl_nats,
            within_budget: a.within_budget,
            on_front: a.on_front,
            chosen: found.pick == Some(i),
        };
        SearchReport {
            version: crate::VERSION.into(),
            model: question.model_name.into(),
            direction_sha256: question.direction_sha256.into(),
            settings,
            budget: BudgetReport {
                max_false_refusal_points: self.setup.budget(question.goal).max_false_refusal,
                max_kl_nats: self.setup.max_kl,
            },
            original: match question.goal {
                Goal::Strongest { .. } => None,
                Goal::Original { original, .. } => Some(counts(&original)),
            },
            compressed: counts(&found.before),
            halves: found.ranked.iter().map(half).collect(),
            screened: screened.collect(),
            answered: found.answered.iter().enumerate().map(answered).collect(),
        }
    }
}

/// True of a model that thinks before it answers: it says nothing in the few tokens that are read,
/// and its refusals cannot be counted.
pub(super) fn thinks(engine: &Engine, harmful: &[Vec<i32>], parallel: u32) -> Result<bool> {
    let spelled = |tokens: &[i32]| tokens.iter().map(|&t| engine.spelled(t)).collect::<String>();
    let begins = |text: &str| thought_openings().any(|mark| text.trim_start().starts_with(mark));
    let asked = &harmful[..harmful.len().min(N_LISTENED)];
    let sampling = Sampling::Greedy;
    let settings = Generation { max_tokens: THOUGHT_TOKENS, parallel, sampling };
    let answers = generate(engine, asked, settings, &mut Hooks::new(), &mut NoListener)?;
    let thinks = |(prompt, answer): (&Vec<i32>, &Vec<i32>)| {
        let prompt = spelled(&prompt[prompt.len().saturating_sub(THOUGHT_TOKENS)..]);
        thought_openings().any(|mark| prompt.trim_end().ends_with(mark)) || begins(&spelled(answer))
    };
    let n = asked.iter().zip(&answers).filter(|pair| thinks(*pair)).count();
    Ok(2 * n > asked.len())
}

/// The front as a table; first the model as it was searched, called `start`.
pub(crate) fn front_text(report: &SearchReport, start: &str) -> String {
    let head = ["blocks", "alpha", "refused", "falsely refused", "degenerate", "KL nats", ""];
    let mut rows = vec![head.map(String::from).to_vec()];
    let of = |rate: &Rate| format!("{}/{}", rate.k, rate.n);
    let cells = |blocks: String, alpha: String, c: &CountsReport, kl: String, mark: &str| {
        let counts = [of(&c.refusal), of(&c.false_refusal), of(&c.degenerate)];
        [vec![blocks, alpha], counts.to_vec(), vec![kl, mark.into()]].concat()
    };
    let none = || "-".to_owned();
    if let Some(original) = &report.original {
        rows.push(cells("the original".into(), none(), original, none(), ""));
    }
    rows.push(cells(start.into(), none(), &report.compressed, none(), ""));
    for a in &report.answered {
        let mark = match a {
            a if a.chosen => "<- chosen",
            a if !a.within_budget => "over budget",
            a if a.on_front => "on the front",
            _ => "",
        };
        let (alpha, kl) = (format!("{:.3}", a.alpha), format!("{:.3}", a.kl_nats));
        rows.push(cells(a.blocks.join(","), alpha, &a.counts, kl, mark));
    }
    table(&rows, &[1, 2, 3, 4, 5], "  ")
}

/// Counts as they are reported.
pub(crate) fn counts(c: &Counts) -> CountsReport {
    CountsReport {
        refusal: wilson(c.refused, c.n_harmful),
        false_refusal: wilson(c.falsely_refused, c.n_benign),
        degenerate: wilson(c.degenerate, c.n_harmful + c.n_benign),
    }
}

fn every_half(structure: &Structure, parts: &[HalfPart]) -> Vec<Half> {
    let mut halves: Vec<Half> = structure.writers().map(Half::of).collect();
    halves.retain(|half| parts.contains(&half.part));
    halves.sort_unstable();
    halves.dedup();
    halves
}
