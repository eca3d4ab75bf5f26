//! Work that can be interrupted: a JSONL file with one line per item, made in segments of a fixed
//! size.
//!
//! The last bits of a sequence's logits depend on what shares its batch. So items are made in
//! segments that always hold the same items. A segment is written when it is complete, and made
//! again if it was cut: the same settings give the same bytes, in one run or in ten.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::ops::Range;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Error, Result};

/// Makes `n` items in segments of `size` with `make`, which gets the numbers of a segment's items
/// and returns as many. With a `path` they are kept there, after a first line that holds `settings`
/// (an object: what the items depend on), and items that exist already are read.
///
/// # Errors
/// The file was made with other settings, or is not one of aird's; the disk's; `make`'s.
pub fn run<T: Serialize + DeserializeOwned>(
    path: Option<&Path>,
    settings: &Value,
    (n, size): (usize, usize),
    mut make: impl FnMut(Range<usize>) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    let size = size.max(1);
    let (mut items, mut file) = match path {
        Some(path) => {
            let (items, file) = resume(path, settings, n, size)?;
            (items, Some((path, file)))
        }
        None => (Vec::new(), None),
    };
    while items.len() < n {
        let segment = items.len()..n.min(items.len() + size);
        let made = make(segment)?;
        if let Some((path, file)) = &mut file {
            let lines: Vec<String> =
                made.iter().map(|item| line(path, item)).collect::<Result<_>>()?;
            let written = file.write_all(lines.concat().as_bytes()).and_then(|()| file.sync_data());
            written.map_err(disk(path, "write"))?;
        }
        items.extend(made);
    }
    Ok(items)
}

/// The complete segments that `path` holds, and the file, truncated after them.
fn resume<T: DeserializeOwned>(
    path: &Path,
    settings: &Value,
    n: usize,
    size: usize,
) -> Result<(Vec<T>, File)> {
    let head = line(path, settings)?;
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = opened.map_err(disk(path, "open"))?;
    let bytes = std::fs::read(path).map_err(disk(path, "read"))?;
    // A cut file can end anywhere, also in the middle of a character.
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| foreign(path))?;
    let mut lines = text.split_inclusive('\n');
    let Some(found) = lines.next() else {
        // New, or cut within its first line: only such a file may be replaced.
        if !head.as_bytes().starts_with(&bytes) {
            return Err(foreign(path));
        }
        file.set_len(0).map_err(disk(path, "write"))?;
        file.rewind()
            .and_then(|()| file.write_all(head.as_bytes()))
            .map_err(disk(path, "write"))?;
        return Ok((Vec::new(), file));
    };
    compare(path, found, settings)?;
    let lines: Vec<&str> = lines.take(n).collect();
    let whole = if lines.len() == n { n } else { lines.len() / size * size };
    let mut items = Vec::with_capacity(whole);
    for (number, line) in (2..).zip(&lines[..whole]) {
        let broken = |e| Error::File { path: path.into(), what: format!("line {number}: {e}") };
        items.push(serde_json::from_str(line).map_err(broken)?);
    }
    let kept = found.len() + lines[..whole].iter().map(|line| line.len()).sum::<usize>();
    file.set_len(kept as u64).map_err(disk(path, "write"))?;
    file.seek(std::io::SeekFrom::End(0)).map_err(disk(path, "write"))?;
    Ok((items, file))
}

/// Every key of the first line must be as it is now.
fn compare(path: &Path, found: &str, settings: &Value) -> Result<()> {
    let found: Value = serde_json::from_str(found).map_err(|_| foreign(path))?;
    let (Some(there), Some(now)) = (found.as_object(), settings.as_object()) else {
        return Err(foreign(path));
    };
    let keys = now.keys().chain(there.keys().filter(|key| !now.contains_key(*key)));
    for key in keys {
        let (found, expected) = (there.get(key), now.get(key));
        if found != expected {
            let text = |v: Option<&Value>| v.map_or("nothing".into(), Value::to_string);
            let (found, expected) = (text(found), text(expected));
            return Err(Error::OtherSettings {
                path: path.into(),
                key: key.clone(),
                found,
                expected,
            });
        }
    }
    Ok(())
}

fn line(path: &Path, item: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string(item);
    let json = json.map_err(|e| Error::File { path: path.into(), what: e.to_string() })?;
    Ok(json + "\n")
}

fn foreign(path: &Path) -> Error {
    let what = "this file is not one that aird began\nhint: name another folder";
    Error::File { path: path.into(), what: what.into() }
}

fn disk(path: &Path, verb: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Disk { path: path.into(), verb, source }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn make(segment: Range<usize>) -> Result<Vec<String>> {
        // Letters of two, three and four bytes: a file may be cut within each.
        Ok(segment.map(|i| format!("item {i} \u{e9}\u{4e2d}\u{1f600}")).collect())
    }

    #[test]
    fn a_run_that_was_cut_anywhere_goes_on_to_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let settings = json!({"seed": 1, "model": "abc", "system": "\u{e9}"});
        let items = run(Some(&path), &settings, (7, 3), make).unwrap();
        assert_eq!(items.len(), 7);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut made = 0;
            let again = run(Some(&path), &settings, (7, 3), |segment| {
                made += segment.len();
                make(segment)
            });
            assert_eq!(again.unwrap(), items);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {cut}");
            assert!(cut < whole.len() || made == 0);
        }
    }

    #[test]
    fn a_failing_segment_leaves_the_ones_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let failing = run(Some(&path), &json!({}), (6, 2), |segment| match segment.start {
            4 => Err(foreign(Path::new("x"))),
            _ => make(segment),
        });
        assert!(failing.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 5);
    }

    #[test]
    fn other_settings_and_other_files_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        run(Some(&path), &json!({"seed": 1}), (2, 2), make).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = run(Some(&path), &json!({"seed": 2}), (2, 2), make).unwrap_err().to_string();
        assert!(error.contains("seed is 1 there, 2 now"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, "a letter to a friend").unwrap();
        assert!(run(Some(&path), &json!({"seed": 2}), (2, 2), make).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a letter to a friend");
        std::fs::write(&path, b"\xff\xfe\n").unwrap();
        let error = run(Some(&path), &json!({"seed": 2}), (2, 2), make).unwrap_err().to_string();
        assert!(error.contains("not one that aird began"), "{error}");
    }
}
