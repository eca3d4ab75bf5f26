//! Hints that name an option of the command line, for errors of verbs and of what they use.

use crate::verbs::Error;
use crate::{eval, judge, llama, prompts};

/// What helps against `error`, if an option does.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| of_verb(cause.downcast_ref()?))
}

fn of_verb(error: &Error) -> Option<String> {
    match error {
        Error::About { source, .. } => of_verb(source),
        Error::Template { source, has_system } => of_template(source, *has_system),
        Error::ContextTooLong { .. } => Some("a smaller --ctx".into()),
        Error::NoAnswers { .. } => Some("leave --mask response out".into()),
        Error::FewerAnswers { .. } => Some("--format prompts reads the prompts only".into()),
        Error::FewRefusals { .. } => Some("--data FILE with prompts and refusals".into()),
        Error::LeftoverExists { .. } => {
            Some("--resume goes on with it, --force starts over".into())
        }
        Error::LeftoverOfAnother { .. } => Some("run without --resume to start over".into()),
        Error::NothingChosen => Some("--blocks, --include and --exclude choose".into()),
        Error::NeedsNoStatistics { .. } => Some("leave --stats and --data out".into()),
        Error::Unfinished { .. } => Some("aird calibrate --resume".into()),
        Error::UnusedSystem => Some("--attack vanilla, or no --system".into()),
        Error::NoSuffixes => Some(
            "--suffixes FILE, a line each; aird brings none along. Or name the other three: \
             --attack vanilla,adv-decoding,adv-decoding-raw"
                .into(),
        ),
        Error::Eval(eval::Error::TooLittleText { .. }) => {
            Some("a longer text, or a smaller --ctx".into())
        }
        Error::Judge(judge::Error::NoGuard { .. }) => Some(
            "--judge-template yes-no, or a Jinja file with the prompt it was trained on".into(),
        ),
        Error::Llama(llama::Error::ContextTooSmall { n_tokens, n_ctx, .. }) => {
            let fits = *n_tokens < *n_ctx as usize;
            let fewer = if fits { ", or a smaller --max-tokens" } else { "" };
            Some(format!("a shorter prompt{fewer}"))
        }
        _ => None,
    }
}

fn of_template(error: &prompts::Error, has_system: bool) -> Option<String> {
    use prompts::Error as E;
    let about = if let E::InFile { source, .. } = error { source } else { error };
    let hint = "--chat-template FILE|none";
    match about {
        E::SystemLeftOut | E::TemplateRaised { .. } if has_system => {
            Some(format!("{hint}, or no --system"))
        }
        E::NoTemplate | E::EmptyTemplate | E::PromptLeftOut | E::TemplateRaised { .. } => {
            Some(hint.into())
        }
        E::TemplateSyntax { .. } | E::TemplateFails { .. } | E::TemplatePanics => Some(hint.into()),
        _ => None,
    }
}
