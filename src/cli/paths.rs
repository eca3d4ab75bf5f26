//! The rule of every verb: what is read is never written over, and what cannot be written is seen
//! before the work.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::checkpoints::import_folders;
use super::ui::Ui;
use crate::checkpoint::is_checkpoint;
use crate::gguf::{ShardName, check_output, check_room, same_file};

/// Room that is asked for a small output: statistics of a small model, a direction, a page.
const SMALL_BYTES: u64 = 64 << 10;

/// A verb with its arguments.
pub(super) trait Verb: Sized {
    /// The files that it reads and writes.
    fn paths(&self) -> Paths {
        Paths::default()
    }

    /// The models that it reads, each of which may be given as a Hugging Face folder.
    ///
    /// # Errors
    /// A folder is given where only a file can be.
    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(Vec::new())
    }

    /// Does it.
    fn run(self, ui: &Ui) -> Result<()>;
}

/// Checks a verb's paths and runs it. Models that are Hugging Face folders are imported into the
/// cache first.
pub(super) fn run(mut verb: impl Verb, cache: Option<&Path>, ui: &Ui) -> Result<()> {
    verb.paths().check()?;
    import_folders(verb.models()?, cache, ui)?;
    verb.run(ui)
}

/// The files that a verb reads and writes.
#[derive(Debug, Default)]
pub(super) struct Paths {
    inputs: Vec<PathBuf>,
    outputs: Vec<PathBuf>,
    /// Outputs that may exist.
    replaced: Vec<PathBuf>,
    force: bool,
    dry_run: bool,
}

impl Paths {
    /// Files that are read, if they are given.
    pub(super) fn reads<'p>(mut self, paths: impl IntoIterator<Item = &'p PathBuf>) -> Paths {
        self.inputs.extend(paths.into_iter().cloned());
        self
    }

    /// As [`Paths::reads`], of an argument that takes a file or one of `words`.
    pub(super) fn reads_unless(mut self, argument: Option<&str>, words: &[&str]) -> Paths {
        let is_file = |text: &&str| {
            let is_word =
                |word: &&str| text == word || (word.ends_with(':') && text.starts_with(*word));
            !words.iter().any(is_word)
        };
        self.inputs.extend(argument.filter(is_file).map(PathBuf::from));
        self
    }

    /// Files that are made, if they are given.
    pub(super) fn writes<'p>(mut self, paths: impl IntoIterator<Item = &'p PathBuf>) -> Paths {
        self.outputs.extend(paths.into_iter().cloned());
        self
    }

    /// A file that is made, and replaced if it exists: what a run that was cut off keeps.
    pub(super) fn replaces(mut self, path: PathBuf) -> Paths {
        self.outputs.push(path.clone());
        self.replaced.push(path);
        self
    }

    /// Whether files that exist are replaced (`--force`), and whether nothing is written at all
    /// (`--dry-run`).
    pub(super) fn with(self, force: bool, dry_run: bool) -> Paths {
        Paths { force, dry_run, ..self }
    }

    /// Compares every output with every input and every other output, and tries to write beside it.
    fn check(&self) -> Result<()> {
        for (i, output) in self.outputs.iter().enumerate() {
            if let Some(other) = self.outputs[..i].iter().find(|other| same_place(other, output)) {
                bail!(
                    "{} and {} are the same file, expected one for each output",
                    other.display(),
                    output.display()
                );
            }
        }
        if self.dry_run {
            return Ok(());
        }
        let inputs: Vec<PathBuf> =
            self.inputs.iter().flat_map(|path| with_siblings(path)).collect();
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        for output in &self.outputs {
            check_output(output, self.force || self.replaced.contains(output), &inputs)?;
            check_room(output, SMALL_BYTES)?;
        }
        Ok(())
    }
}

/// A file, and the other shards of a split model; of a Hugging Face folder all files.
fn with_siblings(path: &Path) -> Vec<PathBuf> {
    if is_checkpoint(path) {
        let files = path.read_dir().map(|files| files.filter_map(|file| Some(file.ok()?.path())));
        return files.map(Iterator::collect).unwrap_or_default();
    }
    match ShardName::parse(path) {
        Some(shard) => (0..shard.count).map(|index| shard.path(index)).collect(),
        None => vec![path.to_owned()],
    }
}

/// True if both are one file, or would be.
fn same_place(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    a == b || same_file(a, b) || (place(a).is_some() && place(a) == place(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_place_of_files_are_not_inputs() {
        let inputs =
            |argument| Paths::default().reads_unless(argument, &["none", "builtin:"]).inputs;
        assert_eq!(inputs(Some("a.txt")), [Path::new("a.txt")]);
        for other in [None, Some("none"), Some("builtin:align")] {
            assert!(inputs(other).is_empty(), "{other:?}");
        }
    }

    #[test]
    fn two_outputs_of_one_place_are_refused_whatever_they_are_called() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let [a, b] = ["x", "sub/../x"].map(|name| folder.path().join(name));
        let said = Paths::default().writes([&a, &b]).check().unwrap_err().to_string();
        assert!(said.contains("are the same file"), "{said}");
        let other = folder.path().join("y");
        Paths::default().writes([&a, &other]).check().unwrap();
    }
}
