//! The search for a repair's blocks and strength: its arguments, its front.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::args::{EngineArgs, output_path};
use super::chat::{Chat, ChatArgs};
use super::paths::Paths;
use super::text::table;
use super::ui::Ui;
use crate::direction::Direction;
use crate::eval::interval::{Rate, wilson};
use crate::gguf::{Model, Watch, write_file};
use crate::llama::graph::{Part as HalfPart, Structure};
use crate::llama::{Engine, Generation, Hooks, NoListener, Sampling, generate};
use crate::prompts::{self, Part, PromptSet};
use crate::repair::search::{Answered, Budget, Counts, Questions, Search, Searched, search};
use crate::repair::{Half, halves_text, parse_halves};
use crate::report::search::{
    AnsweredReport, BudgetReport, CountsReport, HalfReport, PromptsReport, ScreenedReport,
    SearchReport, SettingsReport,
};

/// What opens a thought.
const THOUGHTS: [&str; 4] = ["<think>", "<|channel|>", "<thinking>", "<|thinking|>"];
/// Answers that are listened to for one, and their tokens.
const N_LISTENED: usize = 8;
const THOUGHT_TOKENS: usize = 6;
/// Of aird's harmless and borderline training prompts so many are asked besides the held-out ones.
const N_MORE: [usize; 2] = [8, 16];

/// Points of false refusals that a repair may add.
const MAX_FALSE_REFUSAL: f64 = 10.0;
/// Nats that it may cost.
const MAX_KL: f64 = 0.1;
/// Blocks that may be edited together.
const MAX_BLOCKS: usize = 4;

/// How a search goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Search")]
pub struct SearchArgs {
    /// Held-out harmful prompts; default: aird's own. Those that aird asr evaluates on are others.
    #[arg(long, value_name = "FILE")]
    harmful: Option<PathBuf>,
    /// Held-out harmless ones; default: aird's own, borderline ones among them, and for whole
    /// answers some of its training ones.
    #[arg(long, value_name = "FILE")]
    harmless: Option<PathBuf>,
    /// The field or column of those files that holds the prompt.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// False refusals that a repair may add, in points; degenerate answers likewise. With --aim
    /// original as many as the original has.
    #[arg(
        long,
        default_value_t = MAX_FALSE_REFUSAL,
        value_name = "POINTS",
        value_parser = points
    )]
    max_false_refusal: f64,
    /// KL to the unrepaired model at the first token of harmless answers that it may cost.
    #[arg(long, default_value_t = MAX_KL, value_name = "NATS", value_parser = above_zero)]
    max_kl: f64,
    /// Blocks that may be edited together; the paper edits one.
    #[arg(
        long,
        default_value_t = MAX_BLOCKS,
        value_name = "N",
        value_parser = at_least_one::<usize>
    )]
    max_blocks: usize,
    /// Tokens of an answer that are read.
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = at_least_one::<usize>)]
    max_tokens: usize,
    /// Prompts and answers under way at once.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = at_least_one::<u32>)]
    parallel: u32,
    /// Write what was tried to a JSON file, its picture beside as .svg; not with --dry-run.
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    front: Option<PathBuf>,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Whom a search asks.
struct Asked {
    harmful: PromptSet,
    benign: PromptSet,
    /// For whole answers alone; none where own prompts are given.
    more_benign: PromptSet,
}

/// What a search looks for.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
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

/// A model that refuses this part of what its original does is as the original.
const AS_ORIGINAL: f64 = 0.95;

/// Refusals that are as many as an original's, which has `refused`.
pub fn as_original(refused: usize) -> usize {
    (AS_ORIGINAL * refused as f64).ceil() as usize
}

/// What is left open.
pub struct Question<'a> {
    /// r, [n_embd].
    pub direction: &'a Direction,
    /// sha256 of its file.
    pub direction_sha256: &'a str,
    /// The halves given, if any.
    pub halves: Option<Vec<Half>>,
    /// The strength given, if any.
    pub alpha: Option<f64>,
    /// Halves that may be chosen.
    pub parts: &'a [HalfPart],
    /// What is looked for.
    pub goal: Goal,
    /// What the model is before it is edited.
    pub start: &'static str,
    /// No front is written.
    pub dry_run: bool,
    /// Results go to stdout as JSON, and so not as a table.
    pub json: bool,
}

/// What was found.
pub struct Answer {
    /// Blocks and strength; None: nothing helps within the budget.
    pub chosen: Option<(Vec<Half>, f64)>,
    /// All that was tried.
    pub report: SearchReport,
}

impl SearchArgs {
    /// The files that these arguments name.
    pub fn paths(&self) -> Paths {
        // Where the picture's name is given, `check_front` says what is wrong.
        let mut front: Vec<PathBuf> = self.front.iter().cloned().collect();
        front.extend(self.front.iter().map(|front| front.with_extension("svg")));
        front.dedup();
        let paths = self.chat.read_from(Paths::default());
        paths.reads(self.harmful.iter().chain(&self.harmless)).writes(&front)
    }

    /// Searches, prints the front, and writes it where that was asked for.
    pub fn search(
        &self,
        ui: &Ui,
        (path, model): (&Path, &Model),
        question: &Question<'_>,
    ) -> Result<Answer> {
        let chat = self.chat.chat(model)?;
        let asked = self.prompt_sets()?;
        let engine = self.engine.load(ui, model)?;
        let questions = self.questions(&chat, &engine, &asked)?;
        let structure = engine.structure()?;
        let given = question.halves.clone();
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
            all_halves: given.is_some(),
            halves: given.unwrap_or_else(|| every_half(structure, question.parts)),
            alpha: question.alpha,
            max_blocks: self.max_blocks,
            budget: self.budget(question.goal),
        };
        if thinks(&engine, &plan.questions.harmful, self.parallel)? {
            bail!(
                "the model thinks before it answers, and whether it refuses does not show in so \
                 few tokens\n\
                 hint: a --chat-template that ends the thought at once, as \"<think></think>\""
            );
        }
        let found = search(model, &engine, &plan, ui)?;
        let settings = self.settings(&chat, &asked);
        let report = self.report(path, question, &found, settings);
        let front = front_text(&report, question.start);
        match (found.pick, question.json) {
            // Then it is the result.
            (None, false) => ui.print(front)?,
            _ => ui.say(front.trim_end()),
        }
        // After it was shown: a disk that is full does not take the search away.
        if let Some(front) = self.front.as_ref().filter(|_| !question.dry_run) {
            write_front(front, &report)?;
        }
        let chosen = found.pick.map(|i| &found.answered[i].candidate);
        Ok(Answer { chosen: chosen.map(|c| (c.halves.clone(), c.alpha)), report })
    }

    /// How `model` answers what a search asks; None if it thinks before it answers.
    pub fn count(&self, ui: &Ui, model: &Model) -> Result<Option<Counts>> {
        let chat = self.chat.chat(model)?;
        let engine = self.engine.load(ui, model)?;
        let questions = self.questions(&chat, &engine, &self.prompt_sets()?)?;
        if thinks(&engine, &questions.harmful, self.parallel)? {
            return Ok(None);
        }
        ui.part("reading answers", 0, 1);
        Ok(Some(questions.count(&engine, &mut Hooks::new())?))
    }

    fn questions(&self, chat: &Chat, engine: &Engine, asked: &Asked) -> Result<Questions> {
        let tokens = |set: &PromptSet| -> Result<Vec<Vec<i32>>> {
            set.texts().map(|text| Ok(chat.tokens(engine, text)?)).collect()
        };
        Ok(Questions {
            harmful: tokens(&asked.harmful)?,
            benign: tokens(&asked.benign)?,
            more_benign: tokens(&asked.more_benign)?,
            max_tokens: self.max_tokens,
            parallel: self.parallel,
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

    /// Looks at what can be seen before a search.
    ///
    /// # Errors
    /// Prompts that cannot be read, or a front that would be its own picture.
    pub fn check(&self) -> Result<()> {
        self.check_front()?;
        self.prompt_sets().map(drop)
    }

    fn check_front(&self) -> Result<()> {
        let Some(front) = &self.front else { return Ok(()) };
        if front.extension().is_some_and(|e| e.eq_ignore_ascii_case("svg")) {
            bail!(
                "--front is {}, expected a name for the JSON: its picture goes beside it as .svg",
                front.display()
            );
        }
        Ok(())
    }

    /// True if a front is to be written.
    pub fn has_front(&self) -> bool {
        self.front.is_some()
    }

    /// True if --max-false-refusal is given, which the original decides with --aim original.
    pub fn limits_false_refusals(&self) -> bool {
        self.max_false_refusal != MAX_FALSE_REFUSAL
    }

    /// An option that only a search goes by and that is not as usual.
    pub fn of_search(&self) -> Option<&'static str> {
        let given = [
            (self.front.is_some(), "--front"),
            (self.harmful.is_some(), "--harmful"),
            (self.harmless.is_some(), "--harmless"),
            (self.limits_false_refusals(), "--max-false-refusal"),
            (self.max_kl != MAX_KL, "--max-kl"),
            (self.max_blocks != MAX_BLOCKS, "--max-blocks"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }

    /// How llama.cpp runs, for a reference too.
    pub fn engine(&self) -> (&ChatArgs, &EngineArgs) {
        (&self.chat, &self.engine)
    }

    fn prompt_sets(&self) -> Result<Asked> {
        let load = |file: &PathBuf| -> Result<PromptSet> {
            Ok(prompts::load(file, self.field.as_deref())?.require(8)?)
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
        Ok(Asked {
            harmful: harmful.unwrap_or_else(|| prompts::harmful(Part::HeldOut)),
            benign: benign.unwrap_or_else(held_out),
            more_benign,
        })
    }

    fn settings(&self, chat: &Chat, asked: &Asked) -> SettingsReport {
        let set = |set: &PromptSet| PromptsReport {
            name: set.name.clone(),
            n: set.len(),
            sha256: set.sha256.clone(),
        };
        SettingsReport {
            harmful: set(&asked.harmful),
            harmless: set(&asked.benign),
            more_harmless: set(&asked.more_benign),
            template_sha256: chat.template.sha256(),
            thinking: false,
            system: self.chat.system.clone(),
            max_blocks: self.max_blocks,
            max_tokens: self.max_tokens,
            parallel: self.parallel,
        }
    }

    fn report(
        &self,
        path: &Path,
        question: &Question<'_>,
        found: &Searched,
        settings: SettingsReport,
    ) -> SearchReport {
        let half = |r: &crate::repair::search::Ranked| HalfReport {
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
            version: env!("CARGO_PKG_VERSION").into(),
            model: super::args::file_name(path),
            direction_sha256: question.direction_sha256.into(),
            settings,
            budget: BudgetReport {
                max_false_refusal_points: self.budget(question.goal).max_false_refusal,
                max_kl_nats: self.max_kl,
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
fn thinks(engine: &Engine, harmful: &[Vec<i32>], parallel: u32) -> Result<bool> {
    let spelled = |tokens: &[i32]| tokens.iter().map(|&t| engine.spelled(t)).collect::<String>();
    let begins = |text: &str| THOUGHTS.iter().any(|mark| text.trim_start().starts_with(mark));
    let asked = &harmful[..harmful.len().min(N_LISTENED)];
    let sampling = Sampling::Greedy;
    let settings = Generation { max_tokens: THOUGHT_TOKENS, parallel, sampling };
    let answers = generate(engine, asked, settings, &mut Hooks::new(), &mut NoListener)?;
    let thinks = |(prompt, answer): (&Vec<i32>, &Vec<i32>)| {
        let prompt = spelled(&prompt[prompt.len().saturating_sub(THOUGHT_TOKENS)..]);
        THOUGHTS.iter().any(|mark| prompt.trim_end().ends_with(mark)) || begins(&spelled(answer))
    };
    let n = asked.iter().zip(&answers).filter(|pair| thinks(*pair)).count();
    Ok(2 * n > asked.len())
}

/// The front as a table, the unrepaired model first.
fn front_text(report: &SearchReport, start: &str) -> String {
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
pub fn counts(c: &Counts) -> CountsReport {
    CountsReport {
        refusal: wilson(c.refused, c.n_harmful),
        false_refusal: wilson(c.falsely_refused, c.n_benign),
        degenerate: wilson(c.degenerate, c.n_harmful + c.n_benign),
    }
}

fn write_front(path: &Path, report: &SearchReport) -> Result<()> {
    let json = serde_json::to_string_pretty(report).context("cannot write JSON")? + "\n";
    write_file(path, json.as_bytes())?;
    write_file(&path.with_extension("svg"), report.front().file().as_bytes())?;
    Ok(())
}

fn every_half(structure: &Structure, parts: &[HalfPart]) -> Vec<Half> {
    let mut halves: Vec<Half> = structure.writers().map(Half::of).collect();
    halves.retain(|half| parts.contains(&half.part));
    halves.sort_unstable();
    halves.dedup();
    halves
}

/// Blocks as `--block` takes them: `auto`, or the halves of a list as 14,16:mlp.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks(pub Option<Vec<Half>>);

impl FromStr for Blocks {
    type Err = String;

    fn from_str(text: &str) -> Result<Blocks, String> {
        if text == "auto" {
            return Ok(Blocks(None));
        }
        let both = [HalfPart::Attention, HalfPart::Mlp];
        let halves = text.split(',').map(|one| parse_halves(one, &both));
        let mut halves: Vec<Half> = halves.collect::<Result<Vec<_>, _>>()?.concat();
        halves.sort_unstable();
        halves.dedup();
        Ok(Blocks(Some(halves)))
    }
}

/// A strength as `--alpha` takes it: `auto`, or a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alpha(pub Option<f64>);

impl FromStr for Alpha {
    type Err = String;

    fn from_str(text: &str) -> Result<Alpha, String> {
        match text {
            "auto" => Ok(Alpha(None)),
            text => match text.parse::<f64>() {
                Ok(alpha) if alpha <= 0.0 => Err("expected auto or a number above 0: aird makes \
                     models refuse more; it does not remove a refusal direction"
                    .into()),
                Ok(alpha) if !alpha.is_finite() => Err(format!(
                    "expected a number above 0, or auto; {alpha} is not a finite number"
                )),
                _ => above_zero(text).map(|x| Alpha(Some(x))).map_err(|e| format!("{e}, or auto")),
            },
        }
    }
}

/// Parses an argument that is a number above 0.
pub fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x: &f64| *x > 0.0 && x.is_finite());
    number.ok_or_else(|| "expected a number above 0".into())
}

fn points(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x| (0.0..=100.0).contains(x));
    number.ok_or_else(|| "expected 0 to 100 points".into())
}

pub fn at_least_one<N: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<N, String> {
    let number = text.parse().ok().filter(|n: &N| *n >= N::from(1));
    number.ok_or_else(|| "expected a whole number, at least 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strength_is_a_finite_number_above_zero() {
        assert_eq!("0.5".parse(), Ok(Alpha(Some(0.5))));
        assert_eq!("auto".parse(), Ok(Alpha(None)));
        for (text, expected) in [
            ("inf", "inf is not a finite number"),
            ("1e999", "inf is not a finite number"),
            ("NaN", "NaN is not a finite number"),
            ("-inf", "does not remove a refusal direction"),
            ("-1", "does not remove a refusal direction"),
            ("0", "does not remove a refusal direction"),
            ("much", "expected a number above 0, or auto"),
        ] {
            let said = text.parse::<Alpha>().unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
