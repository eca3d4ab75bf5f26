//! Keys: a hash of everything that a step's result depends on. Files from outside count by their
//! bytes, files of other steps by those steps' keys. So all keys are known before anything runs,
//! and a change only changes the keys of what depends on it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::error::Result;
use super::plan::Plan;
use super::step::{Arg, Kept, Step};
use super::sums::Sums;
use crate::gguf::hex;
use crate::llama::{LLAMA_CPP, Options, cpu_features};

/// The keys of a plan.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// sha256 of the plan's files from outside; None for those that do not exist.
    files: HashMap<PathBuf, Option<String>>,
    /// The program and the kernels; see [`RunBy`].
    run_by: RunBy,
    /// The key of each step, in the plan's order; None if a file from outside is missing.
    pub steps: Vec<Option<String>>,
}

/// The program and the machine, as far as results depend on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunBy {
    /// The sources that aird was built from: [`crate::BUILD`].
    pub build: String,
    /// The CPU features that llama.cpp's kernels use: [`cpu_features`].
    pub cpu: String,
    /// Where blocks run: [`Options::placement`].
    pub placement: String,
}

impl RunBy {
    /// For this program on this machine.
    pub fn this(engine: Options) -> RunBy {
        RunBy { build: crate::BUILD.into(), cpu: cpu_features(), placement: engine.placement() }
    }
}

/// Reads every file that `plan` reads from outside, and computes all keys.
///
/// # Errors
/// A file that is there but cannot be read; an interrupt.
pub fn keys(plan: &Plan, run_by: RunBy, sums: &mut Sums) -> Result<Keys> {
    let mut keys = Keys { run_by, ..Keys::default() };
    let kept = |step: &Step| -> Vec<PathBuf> {
        let all = step.kept.iter().flat_map(|kept| &kept.content);
        let files = all.filter_map(|arg| match arg {
            Arg::File(path) => Some(path.clone()),
            _ => None,
        });
        files.collect()
    };
    for step in &plan.steps {
        for path in step.files().map(PathBuf::from).chain(kept(step)) {
            if let Entry::Vacant(place) = keys.files.entry(path) {
                let sum = sums.input(place.key())?;
                place.insert(sum);
            }
        }
        let key = keys.of(step, &|_| true);
        keys.steps.push(key);
    }
    Ok(keys)
}

impl Keys {
    /// sha256 of a file from outside.
    pub fn sum(&self, path: &std::path::Path) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// A step's key, given which gathered steps are `done`.
    pub fn of(&self, step: &Step, done: &dyn Fn(usize) -> bool) -> Option<String> {
        let command = self.texts(&step.command(done))?;
        let fallback = step.fallback.as_ref().map(|args| self.texts(args));
        let fallback = match fallback {
            Some(texts) => Some(texts?),
            None => None,
        };
        let all = json!([self.run_by, LLAMA_CPP, command, fallback]);
        Some(hex(&Sha256::digest(all.to_string())))
    }

    /// The key of what a step keeps between runs.
    pub fn content(&self, kept: &Kept) -> Option<String> {
        let content = self.texts(&kept.content)?;
        let all = json!([self.run_by, LLAMA_CPP, content]);
        Some(hex(&Sha256::digest(all.to_string())))
    }

    fn texts(&self, args: &[Arg]) -> Option<Vec<String>> {
        args.iter().map(|arg| self.text(arg)).collect()
    }

    /// An argument without its path on this machine. Names stay: reports name models by them.
    fn text(&self, arg: &Arg) -> Option<String> {
        Some(match arg {
            Arg::Text(text) => format!("text {text}"),
            Arg::File(path) => {
                let sum = self.files.get(path)?.as_ref()?;
                format!("file {} {sum}", arg.shown())
            }
            Arg::Made { step, path } => {
                format!("made {path} {}", self.steps.get(*step)?.as_ref()?)
            }
            Arg::Out(path) => format!("out {path}"),
            Arg::Shared(path) => format!("folder {path}"),
        })
    }
}
