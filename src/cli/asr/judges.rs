//! Who judges the answers: rules, and a model if one is given.

use anyhow::Result;
use clap::Args;

use super::super::args::EngineArgs;
use super::super::ui::Ui;
use crate::eval::asr::{Judged, Verdicts};
use crate::judge::{Label, label, paper};

/// Who judges.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// Whose labels count: default, paper (the published rule), or a judge model.
    #[arg(long, default_value = "default", value_name = "NAME|MODEL")]
    judge: String,
}

/// A judge by rules.
struct Rule {
    name: &'static str,
    label: fn(&str) -> Label,
}

/// The judges, the one that counts first.
pub struct Judges {
    rules: Vec<Rule>,
}

impl JudgeArgs {
    /// The judges at hand.
    pub fn judges(&self) -> Result<Judges> {
        let default = Rule { name: "default", label };
        let mut rules = vec![default, Rule { name: "paper", label: paper::label }];
        if self.judge == "paper" {
            rules.reverse();
        }
        Ok(Judges { rules })
    }
}

impl Judges {
    /// The name of the judge that counts.
    pub fn first(&self) -> &str {
        self.rules.first().map_or("default", |rule| rule.name)
    }

    /// Labels all answers by every judge.
    pub fn judge<'a>(
        &self,
        _ui: &Ui,
        _engine: &EngineArgs,
        sets: impl Iterator<Item = &'a mut Judged>,
    ) -> Result<()> {
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
