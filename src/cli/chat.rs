//! How prompts are put to a model, as the command line has it.

use clap::Args;

use super::paths::Paths;
use crate::verbs::{ChatSetup, Template};

/// How prompts are put to the model.
#[derive(Debug, Clone, Args)]
pub(super) struct ChatArgs {
    /// A Jinja file in place of the model's own chat template, or "none" for the bare text.
    #[arg(long, value_name = "FILE|none")]
    pub chat_template: Option<String>,
    /// A system prompt. Default: the template's own, if it has one.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

impl ChatArgs {
    /// `paths`, and the files that these arguments name.
    pub(super) fn read_from(&self, paths: Paths) -> Paths {
        paths.reads_unless(self.chat_template.as_deref(), &["none"])
    }

    /// As the verbs take it.
    pub(super) fn setup(&self) -> ChatSetup {
        let template = match self.chat_template.as_deref() {
            None => Template::Own,
            Some("none") => Template::Bare,
            Some(file) => Template::File(file.into()),
        };
        ChatSetup { template, system: self.system.clone() }
    }
}
