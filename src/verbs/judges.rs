//! Who judges the answers: rules, and a model if one is given.

use std::path::{Path, PathBuf};

use super::error::{Context, Result};
use super::host::Host;
use super::model::{file_name, load};
use crate::eval::asr::{Judged, Verdicts};
use crate::gguf::Model;
use crate::judge::{Label, Question, judged_by, label, paper};
use crate::llama::{AnswerCount, Options};
use crate::prompts::ChatTemplate;

/// Whose labels count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum JudgeChoice {
    /// aird's rules.
    #[default]
    Default,
    /// The published rule.
    Paper,
    /// A judge model. Of harmless prompts aird's rules count where it only separates safe from
    /// unsafe answers.
    Model {
        /// Its GGUF file.
        path: PathBuf,
        /// How it is asked.
        template: JudgeTemplate,
    },
}

/// How a judge model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JudgeTemplate {
    /// By its own chat template, as the LlamaGuard family is.
    LlamaGuard,
    /// By aird's own question.
    YesNo,
    /// By a Jinja file that renders the chat messages of request and answer.
    File(PathBuf),
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

/// The answers to one set, to be judged.
pub(super) struct SetToJudge<'a> {
    /// True for attacks.
    pub harmful: bool,
    /// The answers.
    pub judged: &'a mut Judged,
}

/// The judges at hand.
pub(super) struct Judges {
    /// The one that counts first, unless there is a model.
    rules: Vec<Rule>,
    model: Option<ModelJudge>,
    /// Answers that a model judges at once.
    parallel: u32,
}

impl Judges {
    /// The judges of `choice`. What can be wrong with a judge model is found here, before anything
    /// is answered.
    pub(super) fn open(choice: &JudgeChoice, parallel: u32) -> Result<Judges> {
        let (rules, model) = match choice {
            JudgeChoice::Default => (vec![DEFAULT, PAPER], None),
            JudgeChoice::Paper => (vec![PAPER, DEFAULT], None),
            JudgeChoice::Model { path, template } => {
                (vec![DEFAULT, PAPER], Some(ModelJudge::open(path, template)?))
            }
        };
        Ok(Judges { rules, model, parallel })
    }

    /// The name of the judge that counts.
    pub(super) fn first(&self) -> &str {
        match (&self.model, self.rules.first()) {
            (Some(model), _) => &model.name,
            (None, Some(rule)) => rule.name,
            (None, None) => DEFAULT.name,
        }
    }

    /// True if a "no" of the judge that counts means that the request was declined.
    pub(super) fn detects_refusal(&self) -> bool {
        match &self.model {
            Some(model) => model.question.detects_refusal(),
            None => self.first() == DEFAULT.name,
        }
    }

    /// Labels all answers by every judge.
    pub(super) fn judge(
        &self,
        host: &dyn Host,
        engine: Options,
        mut sets: Vec<SetToJudge<'_>>,
    ) -> Result<()> {
        if let Some(model) = &self.model {
            model.judge(host, engine, self.parallel, &mut sets)?;
        }
        for SetToJudge { harmful, judged } in sets {
            for Rule { name, label } in &self.rules {
                let labels = judged.answers.iter();
                let labels = labels.map(|a| a.error.is_none().then(|| label(&a.answer))).collect();
                judged.verdicts.push(Verdicts { judge: (*name).into(), labels });
            }
            if !harmful && !self.detects_refusal() {
                let default = judged.verdicts.iter().position(|v| v.judge == DEFAULT.name);
                judged.verdicts[..=default.unwrap_or(0)].rotate_right(1);
            }
        }
        Ok(())
    }
}

impl ModelJudge {
    fn open(path: &Path, template: &JudgeTemplate) -> Result<ModelJudge> {
        let model = Model::open(path).about(|| "no judge model".into())?;
        let own = || ChatTemplate::from_model(&model);
        let question = match template {
            JudgeTemplate::LlamaGuard => Question::guard(own()?, path)?,
            // A model without a template is asked in bare text.
            JudgeTemplate::YesNo => Question::YesNo(own().unwrap_or_else(|_| ChatTemplate::none())),
            JudgeTemplate::File(file) => {
                let template = ChatTemplate::from_file(file, &model)?;
                let cannot = || format!("{} cannot ask about answers", file.display());
                Question::chat(template).about(cannot)?
            }
        };
        Ok(ModelJudge { name: file_name(path), path: path.into(), question })
    }

    fn judge(
        &self,
        host: &dyn Host,
        engine: Options,
        parallel: u32,
        sets: &mut [SetToJudge<'_>],
    ) -> Result<()> {
        let model = Model::open(&self.path)?;
        let engine = load(host, &model, engine)?;
        let of = sets.iter().map(|set| set.judged.answers.len()).sum();
        let mut count = AnswerCount::new(host, "judge", 0, of);
        let mut undecided = 0;
        for SetToJudge { judged, .. } in sets {
            let answered = |i: &usize| judged.answers[*i].error.is_none();
            let places: Vec<usize> = (0..judged.answers.len()).filter(answered).collect();
            let pair = |&i: &usize| {
                let answer = &judged.answers[i];
                (answer.prompt.as_str(), answer.answer.as_str())
            };
            let pairs: Vec<(&str, &str)> = places.iter().map(pair).collect();
            let found = judged_by(&engine, &self.question, &pairs, parallel, &mut count)?;
            undecided += found.iter().filter(|label| label.is_none()).count();
            let mut labels = vec![None; judged.answers.len()];
            places.into_iter().zip(found).for_each(|(i, label)| labels[i] = label);
            judged.verdicts.push(Verdicts { judge: self.name.clone(), labels });
        }
        if undecided > 0 {
            host.warn(format_args!(
                "{} gives no verdict on {undecided} of {of} answers: no rate counts them",
                self.name
            ));
        }
        Ok(())
    }
}
