//! Keys: what a step's result depends on, as one hash. A step reads files from outside, which
//! count by their bytes, and files of other steps, which count by those steps' keys: so all keys
//! are known before anything has run, and a change moves those of what depends on it alone.

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
use crate::llama::{LLAMA_CPP, cpu_features};

/// The keys of a plan.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// The plan's files from outside by their sums; None for those that are not there.
    files: HashMap<PathBuf, Option<String>>,
    /// What the steps are run by; see [`RunBy`].
    run_by: RunBy,
    /// Each step's, as planned; None where a file from outside is missing.
    pub steps: Vec<Option<String>>,
}

/// What runs the steps, as far as results depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunBy {
    /// The sources that aird was built from: [`crate::BUILD`].
    pub build: String,
    /// What llama.cpp's kernels use of the CPU: [`cpu_features`].
    pub cpu: String,
    /// Blocks on a GPU: other kernels round otherwise.
    pub gpu_layers: u32,
}

impl RunBy {
    /// This program, on this machine.
    pub fn this(gpu_layers: u32) -> RunBy {
        RunBy { build: crate::BUILD.into(), cpu: cpu_features(), gpu_layers }
    }
}

/// Reads every file that `plan` reads from outside, and makes all keys.
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
    /// The sum of a file from outside.
    pub fn sum(&self, path: &std::path::Path) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// A step's key where those of the gathered steps are `done` that are.
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

    /// The key of what is kept between runs of a step.
    pub fn content(&self, kept: &Kept) -> Option<String> {
        let content = self.texts(&kept.content)?;
        let all = json!([self.run_by, LLAMA_CPP, content]);
        Some(hex(&Sha256::digest(all.to_string())))
    }

    fn texts(&self, args: &[Arg]) -> Option<Vec<String>> {
        args.iter().map(|arg| self.text(arg)).collect()
    }

    /// An argument without a place on any machine. Names stay: reports tell models by them.
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
