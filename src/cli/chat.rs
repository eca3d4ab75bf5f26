//! Arguments and steps that verbs share which put prompts to a model.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::Args;

use super::paths::Paths;
use super::ui::Ui;
use crate::gguf::Model;
use crate::llama::{self, Engine};
use crate::prompts::{self, ChatTemplate, common_suffix_len};

/// How prompts are put to the model.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// A Jinja file in place of the model's own chat template, or "none" for the bare text.
    #[arg(long, value_name = "FILE|none")]
    pub chat_template: Option<String>,
    /// A system prompt; without it the template's own default, if it has one.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

/// Says that prompts hold today's date, unless it is fixed.
pub fn warn_of_date(ui: &Ui) {
    if std::env::var_os("SOURCE_DATE_EPOCH").is_none() {
        ui.warn(
            "the chat template puts today's date into prompts: another day's answers are others\n\
             hint: SOURCE_DATE_EPOCH fixes the date",
        );
    }
}

/// A template with its system prompt, ready to be filled.
pub struct Chat {
    /// The template.
    pub template: ChatTemplate,
    system: Option<String>,
}

impl ChatArgs {
    /// `paths`, and the files that these arguments name.
    pub fn read_from(&self, paths: Paths) -> Paths {
        paths.reads_unless(self.chat_template.as_deref(), &["none"])
    }

    /// The template that `model` is asked through.
    pub fn chat(&self, model: &Model) -> Result<Chat> {
        let template = match self.chat_template.as_deref() {
            None => ChatTemplate::from_model(model),
            Some("none") => Ok(ChatTemplate::none()),
            Some(file) => ChatTemplate::from_file(&PathBuf::from(file), model),
        };
        let system = self.system.as_deref();
        let hinted = |error| hinted(error, system.is_some());
        let template = template.map_err(hinted).context("no chat template to ask through")?;
        // What the template leaves out is said before anything is computed.
        template.check(system).map_err(hinted)?;
        Ok(Chat { template, system: self.system.clone() })
    }
}

/// The error with what helps against a prompt that is too long, where the number of new tokens is
/// an option.
pub fn hinted_too_long(error: llama::Error) -> anyhow::Error {
    match error {
        llama::Error::ContextTooSmall { n_tokens, n_ctx, .. } => {
            let fits = n_tokens < n_ctx as usize;
            let fewer = if fits { ", or a smaller --max-tokens" } else { "" };
            anyhow!("{error}\nhint: a shorter prompt{fewer}")
        }
        other => other.into(),
    }
}

/// The error with what helps against it.
fn hinted(error: prompts::Error, has_system: bool) -> anyhow::Error {
    use prompts::Error as E;
    let about = if let E::InFile { source, .. } = &error { source } else { &error };
    let mut hint = "hint: --chat-template FILE|none".to_owned();
    match about {
        E::SystemLeftOut | E::TemplateRaised { .. } if has_system => hint += ", or no --system",
        E::NoTemplate | E::EmptyTemplate | E::PromptLeftOut | E::TemplateRaised { .. } => {}
        E::TemplateSyntax { .. } | E::TemplateFails { .. } | E::TemplatePanics => {}
        _ => return error.into(),
    }
    anyhow!("{error}\n{hint}")
}

impl Chat {
    /// The tokens of a prompt as the model reads it, up to where its answer begins.
    pub fn tokens(&self, engine: &Engine, user: &str) -> Result<Vec<i32>> {
        let text = self.template.render(self.system.as_deref(), user)?;
        Ok(engine.tokenize(&text, !self.template.adds_bos(&text)))
    }

    /// How many tokens the template puts behind the user's text; 1 at least: the last token.
    pub fn n_post_instruction(&self, engine: &Engine) -> Result<usize> {
        // They end in different letters, so that no letter of theirs counts as the template's.
        let [a, b] = ["Tell me more", "What is new?"].map(|user| self.tokens(engine, user));
        Ok(common_suffix_len(&a?, &b?).max(1))
    }
}
