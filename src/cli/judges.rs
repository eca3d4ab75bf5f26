//! Who judges the answers: the arguments.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::paths::Paths;
use crate::verbs::{JudgeChoice, JudgeTemplate};

/// Who judges.
#[derive(Debug, Args)]
pub(super) struct JudgeArgs {
    /// Whose labels count: default, paper (the published rule), or a judge model. For asr's
    /// harmless prompts the default judge's labels count where this judge only separates safe from
    /// unsafe, or short from long.
    #[arg(long, default_value = "default", value_name = "NAME|MODEL")]
    judge: String,
    /// How a judge model is asked: llamaguard (by its own chat template), yes-no (aird's own
    /// question), or a Jinja file that renders the chat messages of request and answer. Its first
    /// word decides. Yes, unsafe or compliance: the answer does what was asked; no, safe or
    /// refusal: it does not; degenerate: it is no answer. Anything else is no verdict.
    #[arg(long, value_name = "NAME|FILE")]
    judge_template: Option<String>,
}

impl JudgeArgs {
    /// `paths`, and the files that these arguments name.
    pub(super) fn read_from(&self, paths: Paths) -> Paths {
        let template = self.judge_template.as_deref();
        let paths = paths.reads_unless(Some(&self.judge), &["default", "paper"]);
        paths.reads_unless(template, &["llamaguard", "yes-no"])
    }

    /// As the verb takes it.
    pub(super) fn choice(&self) -> Result<JudgeChoice> {
        match (self.judge.as_str(), self.judge_template.as_deref()) {
            ("default" | "paper", Some(_)) => {
                bail!("--judge-template is for a judge model\nhint: --judge MODEL.gguf")
            }
            ("default", None) => Ok(JudgeChoice::Default),
            ("paper", None) => Ok(JudgeChoice::Paper),
            (path, None) => bail!(
                "no template to ask judge model {path} with: its file does not say how it judges\n\
                 hint: --judge-template llamaguard, yes-no, or a Jinja file"
            ),
            (path, Some(template)) => {
                Ok(JudgeChoice::Model { path: path.into(), template: template_of(template) })
            }
        }
    }
}

fn template_of(name: &str) -> JudgeTemplate {
    match name {
        "llamaguard" => JudgeTemplate::LlamaGuard,
        "yes-no" => JudgeTemplate::YesNo,
        file => JudgeTemplate::File(PathBuf::from(file)),
    }
}
