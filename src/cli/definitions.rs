//! The command line as a study sees it: which options a verb has, and whether a command parses.

use clap::builder::ValueHint;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use crate::study::{Kind, OptionInfo, Verbs};

/// Parts of value names that may stand for files.
const FILES: [&str; 4] = ["FILE", "MODEL", "DIR", "FOLDER"];

/// clap's definitions.
pub(super) struct Definitions {
    command: Command,
}

impl Definitions {
    pub(super) fn new(command: Command) -> Definitions {
        Definitions { command }
    }
}

impl Verbs for Definitions {
    fn options(&self, verb: &str) -> Vec<OptionInfo> {
        let command = self.command.find_subcommand(verb);
        command.into_iter().flat_map(Command::get_arguments).filter_map(info).collect()
    }

    fn check(&self, arguments: &[String]) -> Result<(), String> {
        let words = std::iter::once("aird").chain(arguments.iter().map(String::as_str));
        match self.command.clone().try_get_matches_from(words) {
            Ok(_) => Ok(()),
            // Not what a recipe can say; no error of its own either.
            Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                Err("--help and --version are no options of a step".into())
            }
            Err(e) => Err(sentence(&e.to_string())),
        }
    }
}

fn info(arg: &Arg) -> Option<OptionInfo> {
    let name = arg.get_long()?.to_owned();
    let kind = match arg.get_action() {
        ArgAction::Append => Kind::Many,
        ArgAction::Set => Kind::One,
        _ => Kind::Flag,
    };
    let text = |value: &clap::builder::OsStr| value.to_string_lossy().into_owned();
    let shown = kind != Kind::Flag && !arg.is_hide_default_value_set();
    let default = if shown { arg.get_default_values().iter().map(text).collect() } else { vec![] };
    let value_names = arg.get_value_names().unwrap_or_default();
    let may_be_path = value_names.iter().any(|name| FILES.iter().any(|file| name.contains(file)));
    let is_path = kind != Kind::Flag && arg.get_value_hint() == ValueHint::AnyPath;
    Some(OptionInfo { name, kind, default, is_path, may_be_path })
}

/// clap's first paragraph, without its mark, on one line.
fn sentence(error: &str) -> String {
    let about = error.split("\n\n").next().unwrap_or(error);
    let about = about.strip_prefix("error: ").unwrap_or(about);
    about.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn options_are_those_of_the_help() {
        let definitions = Definitions::new(Cli::command());
        let of = |verb: &str, name: &str| {
            let found = definitions.options(verb).into_iter().find(|o| o.name == name);
            found.unwrap_or_else(|| panic!("{verb} has no --{name}"))
        };
        let samples = of("asr", "samples");
        assert_eq!((samples.kind, samples.default), (Kind::One, vec!["5".to_owned()]));
        assert_eq!(of("asr", "benign").kind, Kind::Many);
        assert_eq!(of("quantize", "faithful").kind, Kind::Flag);
        assert!(of("asr", "prompts").is_path && !of("prune", "data").is_path);
        assert!(of("prune", "data").may_be_path && !of("asr", "system").may_be_path);
        // No number of TOML holds this default.
        assert_eq!(of("tasks", "chunks").default, Vec::<String>::new());
        assert!(definitions.options("enhance").is_empty());
    }

    #[test]
    fn what_does_not_parse_is_said_in_a_sentence() {
        let definitions = Definitions::new(Cli::command());
        let check = |words: &[&str]| {
            definitions.check(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(check(&["compare", "a", "b"]), Ok(()));
        let said = check(&["prune", "m", "-o", "o", "--method=wandaa", "--sparsity=0.5"]);
        assert!(said.clone().is_err_and(|s| s.starts_with("invalid value 'wandaa'")), "{said:?}");
    }
}
