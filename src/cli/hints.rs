//! Hints that name an option of the command line, for errors of verbs and of what they use.

use crate::prompts;
use crate::verbs::Error;

/// What helps against `error`, if an option does.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| match cause.downcast_ref()? {
        Error::Template { source, has_system } => of_template(source, *has_system),
        _ => None,
    })
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
