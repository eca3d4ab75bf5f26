//! Who judges the answers: rules, and a model if one is given.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::super::args::{EngineArgs, file_name};
use super::super::ui::{Steps, Ui};
use crate::eval::asr::{Judged, Verdicts};
use crate::gguf::Model;
use crate::judge::{Label, Question, judged_by, label, paper};
use crate::llama::Listener;
use crate::prompts::ChatTemplate;

/// Who judges.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// Whose labels count: default, paper (the published rule), or a judge model.
    #[arg(long, default_value = "default", value_name = "NAME|MODEL")]
    judge: String,
    /// How a judge model is asked: llamaguard (by its own chat template), yes-no, or a Jinja file
    /// that renders the request and the answer; it answers safe or unsafe, yes or no.
    #[arg(long, value_name = "NAME|FILE")]
    judge_template: Option<String>,
}

/// A judge by rules.
struct Rule {
    name: &'static str,
    label: fn(&str) -> Label,
}

/// A judge model that is yet to be loaded.
struct ModelJudge {
    name: String,
    path: PathBuf,
    template: String,
}

/// The judges at hand.
pub struct Judges {
    /// The one that counts first, unless there is a model.
    rules: Vec<Rule>,
    model: Option<ModelJudge>,
    parallel: u32,
}

impl JudgeArgs {
    /// The judges at hand; a model judges `parallel` answers at once.
    pub fn judges(&self, parallel: u32) -> Result<Judges> {
        let default = Rule { name: "default", label };
        let mut rules = vec![default, Rule { name: "paper", label: paper::label }];
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
            (path, Some(template)) => {
                let path = PathBuf::from(path);
                Model::open(&path).context("no judge model")?;
                Some(ModelJudge { name: file_name(&path), path, template: template.clone() })
            }
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

    /// Labels all answers by every judge.
    pub fn judge(&self, ui: &Ui, engine: &EngineArgs, sets: &mut [&mut Judged]) -> Result<()> {
        if let Some(model) = &self.model {
            model.judge(ui, engine, self.parallel, sets)?;
        }
        for set in sets {
            for Rule { name, label } in &self.rules {
                let labels = set.answers.iter();
                let labels = labels.map(|a| a.error.is_none().then(|| label(&a.answer))).collect();
                set.verdicts.push(Verdicts { judge: (*name).into(), labels });
            }
        }
        Ok(())
    }
}

impl ModelJudge {
    fn judge(
        &self,
        ui: &Ui,
        engine: &EngineArgs,
        parallel: u32,
        sets: &mut [&mut Judged],
    ) -> Result<()> {
        let model = Model::open(&self.path)?;
        let question = self.question(&model)?;
        let engine = engine.load(ui, &model)?;
        let of = sets.iter().map(|set| set.answers.len()).sum();
        let mut bar = Bar { steps: ui.steps(), done: 0, of };
        let mut undecided = 0;
        for set in sets {
            let answered = |i: &usize| set.answers[*i].error.is_none();
            let places: Vec<usize> = (0..set.answers.len()).filter(answered).collect();
            let pair =
                |&i: &usize| (set.answers[i].prompt.as_str(), set.answers[i].answer.as_str());
            let pairs: Vec<(&str, &str)> = places.iter().map(pair).collect();
            let found = judged_by(&engine, &question, &pairs, parallel, &mut bar)?;
            undecided += found.iter().filter(|label| label.is_none()).count();
            let mut labels = vec![None; set.answers.len()];
            places.into_iter().zip(found).for_each(|(i, label)| labels[i] = label);
            set.verdicts.push(Verdicts { judge: self.name.clone(), labels });
        }
        if undecided > 0 {
            ui.warn(format_args!(
                "{} gives no verdict on {undecided} of {of} answers: their prompts count as not \
                 answered",
                self.name
            ));
        }
        Ok(())
    }

    fn question(&self, model: &Model) -> Result<Question> {
        let own = || ChatTemplate::from_model(model);
        Ok(match self.template.as_str() {
            "llamaguard" => Question::guard(own()?, &self.path)?,
            // A model without a template is asked in bare text.
            "yes-no" => Question::YesNo(own().unwrap_or_else(|_| ChatTemplate::none())),
            file => Question::Chat(ChatTemplate::from_file(Path::new(file), model)?),
        })
    }
}

struct Bar {
    steps: Steps,
    done: usize,
    of: usize,
}

impl Listener for Bar {
    fn answered(&mut self, _: usize) {
        self.done += 1;
        self.steps.show("judge", self.done, self.of);
    }
}
