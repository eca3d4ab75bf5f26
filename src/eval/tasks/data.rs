//! Data files: found by name, read row by row.

use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::error::{Error, Result};
use super::hellaswag::rows_of_six;
use super::item::Item;
use super::row::json_rows;
use super::task::Task;
use crate::prompts::TextFile;

/// A task with the items to score.
pub struct TaskData {
    /// The task.
    pub task: &'static dyn Task,
    /// The data file's name.
    pub file: String,
    /// Whether it holds the set as published: marks and capitals are lost in llama-perplexity's
    /// form.
    pub is_original: bool,
    /// sha256 of the data file.
    pub sha256: String,
    /// Items in the whole file.
    pub n_original: usize,
    /// The items, in the order in which they are scored.
    pub items: Vec<Item>,
}

/// Reads `task`'s data from `folder`: the first `limit` items of the file's order, or of that which
/// `seed` shuffles them into.
///
/// # Errors
/// No file of the expected names is there; a row is malformed, wherever in the file it stands.
pub fn load(
    task: &'static dyn Task,
    folder: &Path,
    limit: usize,
    seed: Option<u64>,
) -> Result<TaskData> {
    let path = find(task, folder)?;
    let TextFile { text, sha256, .. } = TextFile::read(&path)?;
    let rows =
        if is_lines_of_six(&path) { rows_of_six(&path, &text) } else { json_rows(&path, &text) }?;
    let mut items = rows.iter().map(|row| task.item(row)).collect::<Result<Vec<Item>>>()?;
    if items.is_empty() {
        return Err(Error::File { path, what: "no rows".into() });
    }
    let n_original = items.len();
    if let Some(seed) = seed {
        shuffle(&mut items, seed);
    }
    items.truncate(limit);
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_original = !is_lines_of_six(&path);
    Ok(TaskData { task, file, is_original, sha256, n_original, items })
}

fn find(task: &'static dyn Task, folder: &Path) -> Result<PathBuf> {
    let paths = task.files().iter().map(|name| folder.join(name));
    paths.into_iter().find(|path| path.is_file()).ok_or_else(|| Error::NoData {
        task: task.name(),
        folder: folder.into(),
        names: task.files(),
        source_url: task.source(),
    })
}

fn is_lines_of_six(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "txt")
}

/// Fisher and Yates, from the end.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for i in (1..items.len()).rev() {
        items.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::super::task;
    use super::*;

    const RTE: &str =
        "{\"premise\": \"It rains.\", \"hypothesis\": \"It is wet.\", \"label\": 0}\n\n";

    fn load_rte(name: &str, text: &[u8]) -> Result<TaskData> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        load(task("rte").unwrap(), folder.path(), 2, None)
    }

    fn said(text: &[u8]) -> String {
        load_rte("rte_val.jsonl", text).err().unwrap().to_string()
    }

    #[test]
    fn malformed_rows_are_named_by_their_line() {
        assert_eq!(load_rte("rte_val.jsonl", RTE.repeat(3).as_bytes()).unwrap().items.len(), 2);
        let long = RTE.repeat(3);
        for (broken, expected) in [
            ("{\"premise\": ", "line 7: not JSON"),
            ("[1]", "line 7: not a JSON object"),
            (
                "{\"premise\": \"a\", \"label\": 0}",
                "line 7: no field 'hypothesis' or 'sentence2', found",
            ),
            (
                "{\"premise\": 3, \"hypothesis\": \"b\"}",
                "line 7: field 'premise' is 3, expected text",
            ),
            (
                "{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": 2}",
                "line 7: field 'label' is 2",
            ),
        ] {
            let said = said(format!("{long}{broken}\n").as_bytes());
            assert!(said.contains("rte_val.jsonl") && said.contains(expected), "{said}");
        }
        assert!(said(b"{}\n\xff\n").contains("not UTF-8 from byte 3 on, in line 2"), "bytes");
        assert!(said(b"\n").contains("no rows"));
        let marked = format!("\u{feff}{RTE}");
        assert_eq!(load_rte("rte_val.jsonl", marked.as_bytes()).unwrap().items.len(), 1);
    }

    #[test]
    fn a_missing_file_names_the_task_the_names_and_the_source() {
        let said = load_rte("other.jsonl", b"").err().unwrap().to_string();
        let hint = "hint: the set is published at";
        for expected in ["task rte", "rte_val.jsonl", hint, "harness's samples"] {
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn a_shuffle_depends_on_its_seed_alone() {
        let shuffled = |seed| {
            let mut items: Vec<u32> = (0..50).collect();
            shuffle(&mut items, seed);
            items
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }
}
