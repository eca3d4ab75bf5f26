//! How prompts are put to a model: its chat template, or another, and a system prompt.

use std::path::PathBuf;

use super::error::{Context, Error, Result};
use super::host::Host;
use crate::gguf::Model;
use crate::llama::Engine;
use crate::prompts::{ChatTemplate, common_suffix_len};

/// Which template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Template {
    /// The model's own.
    #[default]
    Own,
    /// None: the bare text.
    Bare,
    /// A Jinja file.
    File(PathBuf),
}

/// How prompts are to be put to a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatSetup {
    /// The template.
    pub template: Template,
    /// A system prompt; without it the template's own default, if it has one.
    pub system: Option<String>,
}

/// A template with its system prompt, ready to be filled.
#[derive(Debug)]
pub struct Chat {
    /// The template.
    pub template: ChatTemplate,
    system: Option<String>,
}

impl ChatSetup {
    /// The template that `model` is asked through.
    ///
    /// # Errors
    /// The model has no template, or it fails, or leaves the system prompt out.
    pub fn chat(&self, model: &Model) -> Result<Chat> {
        let template = match &self.template {
            Template::Own => ChatTemplate::from_model(model),
            Template::Bare => Ok(ChatTemplate::none()),
            Template::File(file) => ChatTemplate::from_file(file, model),
        };
        let has_system = self.system.is_some();
        let of_template = |source| Error::Template { source, has_system };
        let template = template.map_err(of_template);
        let template = template.about(|| "no chat template to ask through".into())?;
        // What the template leaves out is reported before anything is computed.
        template.check(self.system.as_deref()).map_err(of_template)?;
        Ok(Chat { template, system: self.system.clone() })
    }
}

impl Chat {
    /// The tokens of a prompt as the model reads it, up to where its answer begins.
    ///
    /// # Errors
    /// The template fails.
    pub fn tokens(&self, engine: &Engine, user: &str) -> Result<Vec<i32>> {
        let text = self.template.render(self.system.as_deref(), user)?;
        Ok(engine.tokenize(&text, !self.template.adds_bos(&text)))
    }

    /// How many tokens the template puts after the user's text; 1 at least: the last token.
    ///
    /// # Errors
    /// The template fails.
    pub fn n_post_instruction(&self, engine: &Engine) -> Result<usize> {
        // They end in different letters, so that no letter of theirs counts as the template's.
        let [a, b] = ["Tell me more", "What is new?"].map(|user| self.tokens(engine, user));
        Ok(common_suffix_len(&a?, &b?).max(1))
    }
}

/// Warns that prompts hold today's date, unless it is fixed.
pub fn warn_of_date(host: &dyn Host) {
    if std::env::var_os("SOURCE_DATE_EPOCH").is_none() {
        host.warn(
            "the chat template puts today's date into prompts: another day's answers are others\n\
             hint: SOURCE_DATE_EPOCH fixes the date",
        );
    }
}
