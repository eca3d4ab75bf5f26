//! Who judges the answers: rules, and a model if one is given.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::super::args::{EngineArgs, file_name};
use super::super::paths::Paths;
use super::super::ui::Ui;
use crate::eval::asr::{Judged, Verdicts};
use crate::gguf::Model;
use crate::judge::{Label, Question, judged_by, label, paper};
use crate::llama::AnswerCount;
use crate::prompts::ChatTemplate;

/// Who judges.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// Whose labels count: default, paper (the published rule), or a judge model. Of harmless
    /// prompts default's do where the judge tells safe from unsafe, or short from long, alone.
    #[arg(long, default_value = "default", value_name = "NAME|MODEL")]
    judge: String,
    /// How a judge model is asked: llamaguard (by its own chat template), yes-no (aird's own
    /// question), or a Jinja file that renders the chat messages of request and answer. The first
    /// word that it says decides. Yes, unsafe or compliance: the answer does what was asked; no,
    /// safe or refusal: it does not; degenerate: it is no answer. Anything else is no verdict.
    #[arg(long, value_name = "NAME|FILE")]
    judge_template: Option<String>,
}

/// A judge by rules.
struct Rule {
    name: &'static str,
    label: fn(&str) -> Label,
}

/// The rule that knows a refusal from an answer.
const DEFAULT: Rule = Rule { name: "default", label };
/// The published one: short answers are safe.
const PAPER: Rule = Rule { name: "paper", label: paper::label };

/// A judge model that is yet to be loaded.
struct ModelJudge {
    name: String,
    path: PathBuf,
    question: Question,
}

/// Answers to be judged.
pub struct Answered<'a> {
    /// True for attacks.
    pub harmful: bool,
    /// The answers.
    pub judged: &'a mut Judged,
}

/// The judges at hand.
pub struct Judges {
    /// The one that counts first, unless there is a model.
    rules: Vec<Rule>,
    model: Option<ModelJudge>,
    parallel: u32,
}

impl JudgeArgs {
    /// `paths`, and the files that these arguments name.
    pub fn read_from(&self, paths: Paths) -> Paths {
        let template = self.judge_template.as_deref();
        let paths = paths.reads_unless(Some(&self.judge), &["default", "paper"]);
        paths.reads_unless(template, &["llamaguard", "yes-no"])
    }

    /// The judges at hand; a model judges `parallel` answers at once.
    pub fn judges(&self, parallel: u32) -> Result<Judges> {
        let mut rules = vec![DEFAULT, PAPER];
        let model = match (self.judge.as_str(), &self.judge_template) {
            ("default" | "paper", Some(_)) => {
                bail!("--judge-template is for a judge model\nhint: --judge MODEL.gguf")
            }
            ("default", None) => None,
            ("paper", None) => {
                rules.reverse();
                None
            }
            (path, None) => bail!(
                "no template to ask judge model {path} with: its file does not say how it judges\n\
                 hint: --judge-template llamaguard, yes-no, or a Jinja file"
            ),
            (path, Some(template)) => Some(ModelJudge::open(Path::new(path), template)?),
        };
        Ok(Judges { rules, model, parallel })
    }
}

impl Judges {
    /// The name of the judge that counts.
    pub fn first(&self) -> &str {
        match (&self.model, self.rules.first()) {
            (Some(model), _) => &model.name,
            (None, Some(rule)) => rule.name,
            (None, None) => "default",
        }
    }

    /// True if a "no" of the judge that counts means that the request was declined.
    pub fn tells_refusal(&self) -> bool {
        match &self.model {
            Some(model) => model.question.tells_refusal(),
            None => self.first() == DEFAULT.name,
        }
    }

    /// Labels all answers by every judge.
    pub fn judge(&self, ui: &Ui, engine: &EngineArgs, mut sets: Vec<Answered<'_>>) -> Result<()> {
        if let Some(model) = &self.model {
            model.judge(ui, engine, self.parallel, &mut sets)?;
        }
        for Answered { harmful, judged } in sets {
            for Rule { name, label } in &self.rules {
                let labels = judged.answers.iter();
                let labels = labels.map(|a| a.error.is_none().then(|| label(&a.answer))).collect();
                judged.verdicts.push(Verdicts { judge: (*name).into(), labels });
            }
            if !harmful && !self.tells_refusal() {
                let default = judged.verdicts.iter().position(|v| v.judge == DEFAULT.name);
                judged.verdicts[..=default.unwrap_or(0)].rotate_right(1);
            }
        }
        Ok(())
    }
}

impl ModelJudge {
    /// The judge at `path`: all that can be wrong with it is said before anything is answered.
    fn open(path: &Path, template: &str) -> Result<ModelJudge> {
        let model = Model::open(path).context("no judge model")?;
        let own = || ChatTemplate::from_model(&model);
        let question = match template {
            "llamaguard" => Question::guard(own()?, path)?,
            // A model without a template is asked in bare text.
            "yes-no" => Question::YesNo(own().unwrap_or_else(|_| ChatTemplate::none())),
            file => {
                let cannot = || format!("--judge-template {file} cannot ask about answers");
                let template = ChatTemplate::from_file(Path::new(file), &model)?;
                Question::chat(template).with_context(cannot)?
            }
        };
        Ok(ModelJudge { name: file_name(path), path: path.into(), question })
    }

    fn judge(
        &self,
        ui: &Ui,
        engine: &EngineArgs,
        parallel: u32,
        sets: &mut [Answered<'_>],
    ) -> Result<()> {
        let model = Model::open(&self.path)?;
        let engine = engine.load(ui, &model)?;
        let of = sets.iter().map(|set| set.judged.answers.len()).sum();
        let mut read = AnswerCount::new(ui, "judge", 0, of);
        let mut undecided = 0;
        for Answered { judged, .. } in sets {
            let answered = |i: &usize| judged.answers[*i].error.is_none();
            let places: Vec<usize> = (0..judged.answers.len()).filter(answered).collect();
            let pair = |&i: &usize| {
                let answer = &judged.answers[i];
                (answer.prompt.as_str(), answer.answer.as_str())
            };
            let pairs: Vec<(&str, &str)> = places.iter().map(pair).collect();
            let found = judged_by(&engine, &self.question, &pairs, parallel, &mut read)?;
            undecided += found.iter().filter(|label| label.is_none()).count();
            let mut labels = vec![None; judged.answers.len()];
            places.into_iter().zip(found).for_each(|(i, label)| labels[i] = label);
            judged.verdicts.push(Verdicts { judge: self.name.clone(), labels });
        }
        if undecided > 0 {
            ui.warn(format_args!(
                "{} gives no verdict on {undecided} of {of} answers: no rate counts them",
                self.name
            ));
        }
        Ok(())
    }
}
