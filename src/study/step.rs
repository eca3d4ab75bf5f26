//! A step: one of aird's commands, what it reads from other steps, what it makes.

use std::path::{Path, PathBuf};

use crate::gguf::split_ending;

/// A part of a step's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    /// A verb, an option or a value.
    Text(String),
    /// A file or folder from outside.
    File(PathBuf),
    /// A file that an earlier step makes.
    Made {
        /// Index of the step in the plan.
        step: usize,
        /// Relative to the run's folder.
        path: String,
    },
    /// A file that this step makes, relative to the run's folder.
    Out(String),
    /// A folder of the run that steps share; its name does not change results.
    Shared(String),
}

impl Arg {
    /// An argument that is a text.
    pub fn text(text: impl Into<String>) -> Arg {
        Arg::Text(text.into())
    }

    /// The argument for a process.
    pub fn word(&self, run: &Path) -> String {
        match self {
            Arg::Text(text) => text.clone(),
            Arg::File(path) => path.display().to_string(),
            Arg::Made { path, .. } | Arg::Out(path) | Arg::Shared(path) => {
                run.join(path).display().to_string()
            }
        }
    }

    /// The argument for display: files only by their names.
    pub fn shown(&self) -> String {
        let name = |path: &Path| {
            path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
        };
        match self {
            Arg::Text(text) => text.clone(),
            Arg::File(path) => name(path),
            Arg::Made { path, .. } | Arg::Out(path) | Arg::Shared(path) => name(Path::new(path)),
        }
    }

    /// The file's name without its ending: verbs name models so.
    pub fn stem(&self) -> String {
        split_ending(&self.shown()).0.to_owned()
    }

    /// Path of the file or folder; for a text, the text.
    pub fn path(&self) -> &Path {
        match self {
            Arg::File(path) => path,
            Arg::Text(path) | Arg::Made { path, .. } | Arg::Out(path) | Arg::Shared(path) => {
                Path::new(path)
            }
        }
    }
}

/// A file or folder that a step fills gradually and continues after an interruption, as long as
/// what it depends on stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Relative to the run's folder.
    pub path: String,
    /// Everything that it depends on.
    pub content: Vec<Arg>,
}

/// Rough cost of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Tokens read.
    pub read: f64,
    /// Tokens written.
    pub written: f64,
}

/// A step of a plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Its name in the plan.
    pub name: String,
    /// The command, verb first.
    pub args: Vec<Arg>,
    /// The command to run instead, if this one reports that there is nothing to be found.
    pub fallback: Option<Vec<Arg>>,
    /// True if exit 3 is a result: nothing was found, and nothing is written.
    pub may_find_nothing: bool,
    /// Files that it makes, relative to the run's folder.
    pub outputs: Vec<String>,
    /// What it fills gradually.
    pub kept: Vec<Kept>,
    /// Steps that must be done before it, besides those whose files it reads.
    pub after: Vec<usize>,
    /// A step that must have found what it looked for, not by its fallback.
    pub needs_found: Option<usize>,
    /// Models that are inserted after the verb, each if its step is done: a missing one stops
    /// nothing.
    pub gathered: Vec<(usize, Arg)>,
    /// Rough cost of the step.
    pub work: Work,
}

impl Step {
    /// The command, verb first, with those gathered models whose step is `done`.
    pub fn command(&self, done: &dyn Fn(usize) -> bool) -> Vec<Arg> {
        let gathered = self.gathered.iter().filter(|(step, _)| done(*step));
        let mut args = self.args.clone();
        args.splice(1..1, gathered.map(|(_, model)| model.clone()));
        args
    }

    /// The verb of the command.
    pub fn verb(&self) -> String {
        self.args.first().map(Arg::shown).unwrap_or_default()
    }

    /// Steps without which this one cannot run.
    pub fn needs(&self) -> Vec<usize> {
        let mut needs: Vec<usize> = self.args.iter().filter_map(made_by).collect();
        needs.extend(&self.after);
        needs.extend(self.needs_found);
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    /// Steps whose files it reads, gathered ones included.
    pub fn reads(&self) -> Vec<usize> {
        let gathered = self.gathered.iter().map(|(_, model)| model);
        let mut reads: Vec<usize> = self.args.iter().chain(gathered).filter_map(made_by).collect();
        reads.sort_unstable();
        reads.dedup();
        reads
    }

    /// Files that it reads from outside.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let gathered = self.gathered.iter().map(|(_, model)| model);
        let all = self.args.iter().chain(gathered).chain(self.fallback.iter().flatten());
        all.filter_map(|arg| match arg {
            Arg::File(path) => Some(path.as_path()),
            _ => None,
        })
    }

    /// The command for display.
    pub fn shown(&self, done: &dyn Fn(usize) -> bool) -> String {
        let command = self.command(done);
        command.iter().map(Arg::shown).collect::<Vec<_>>().join(" ")
    }
}

fn made_by(arg: &Arg) -> Option<usize> {
    match arg {
        Arg::Made { step, .. } => Some(*step),
        _ => None,
    }
}

/// True if that method of compression reads its data itself: statistics are not enough for it.
pub(super) fn is_sweep(method: Option<&str>) -> bool {
    matches!(method, Some("sparsegpt" | "gptq"))
}
