//! Names of split files: `NAME-00001-of-00003.gguf`, counted from one, as llama.cpp's
//! `llama_split_path` writes them. Inside, `split.no` counts from zero.

use std::path::{Path, PathBuf};

/// `split.no`, u16: the number of this file, from 0.
pub(crate) const NO_KEY: &str = "split.no";
/// `split.count`, u16: how many files the model has.
pub(crate) const COUNT_KEY: &str = "split.count";
/// `split.tensors.count`, i32: how many tensors all files have together.
pub(crate) const TENSORS_KEY: &str = "split.tensors.count";

/// The name of a shard in its parts.
///
/// ```
/// use std::path::Path;
///
/// use aird_gguf::ShardName;
///
/// let name = ShardName::parse(Path::new("models/big-00002-of-00003.gguf")).unwrap();
/// assert_eq!((name.index, name.count), (1, 3));
/// assert_eq!(name.path(0), Path::new("models/big-00001-of-00003.gguf"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardName {
    /// Everything before `-00001-of-00003.gguf`, folder included.
    pub prefix: PathBuf,
    /// The number of the file, from 0; in its name it is one more.
    pub index: u64,
    /// How many files the model has.
    pub count: u64,
}

impl ShardName {
    /// The parts of `path`; None if it is not the name of a shard.
    #[must_use]
    pub fn parse(path: &Path) -> Option<ShardName> {
        let name = path.file_name()?.to_str()?;
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let five_digits = |s: &str| -> Option<u64> {
            (s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?
        };
        let number = five_digits(number)?;
        let count = five_digits(count)?;
        if number == 0 || number > count {
            return None;
        }
        Some(ShardName { prefix: path.with_file_name(prefix), index: number - 1, count })
    }

    /// The path of shard `index`, from 0, of the same model.
    #[must_use]
    pub fn path(&self, index: u64) -> PathBuf {
        let stem = self.prefix.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}-{:05}-of-{:05}.gguf", index + 1, self.count);
        self.prefix.with_file_name(name)
    }
}

/// The files of the model that `path` names. Shards are found by their names, not by their keys,
/// which a patch that was cut off may have left half-written.
pub(crate) fn files_of(path: &Path) -> Vec<PathBuf> {
    match ShardName::parse(path) {
        Some(name) => (0..name.count).map(|index| name.path(index)).collect(),
        None => vec![path.into()],
    }
}

/// The longest ending that [`split_ending`] knows as one: `ndjson`.
const MAX_ENDING: usize = 6;

/// A file name without its ending, and the ending with its dot. An ending has at most 6 letters and
/// no digits, so `Llama-3.2-1B` and `model.Q4_K_M` have none.
#[must_use]
pub fn split_ending(name: &str) -> (&str, &str) {
    let Some(dot) = name.rfind('.').filter(|dot| *dot > 0) else { return (name, "") };
    let letters = &name[dot + 1..];
    let is_ending = (1..=MAX_ENDING).contains(&letters.len())
        && letters.bytes().all(|b| b.is_ascii_alphabetic());
    if is_ending { name.split_at(dot) } else { (name, "") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_told_from_a_name_with_a_dot() {
        for (name, stem, ending) in [
            ("a.gguf", "a", ".gguf"),
            ("A.GGUF", "A", ".GGUF"),
            ("a.b.bin", "a.b", ".bin"),
            ("Llama-3.2-1B-Q4_K_M", "Llama-3.2-1B-Q4_K_M", ""),
            ("model.Q4_K_M", "model.Q4_K_M", ""),
            ("model.f16", "model.f16", ""),
            ("model", "model", ""),
            ("model.", "model.", ""),
            (".gguf", ".gguf", ""),
            ("v1.2", "v1.2", ""),
        ] {
            assert_eq!(split_ending(name), (stem, ending), "{name}");
        }
    }

    #[test]
    fn names_of_shards_come_apart_and_together() {
        let shard = ShardName::parse(Path::new("m/Big-Q4_K-00002-of-00003.gguf")).unwrap();
        assert_eq!(shard.prefix, Path::new("m/Big-Q4_K"));
        assert_eq!((shard.index, shard.count), (1, 3));
        assert_eq!(shard.path(2), Path::new("m/Big-Q4_K-00003-of-00003.gguf"));
        for other in ["a.gguf", "a-00000-of-00003.gguf", "a-00004-of-00003.gguf", "a-1-of-3.gguf"] {
            assert_eq!(ShardName::parse(Path::new(other)), None, "{other}");
        }
    }
}
