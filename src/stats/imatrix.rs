//! llama.cpp's importance-matrix file: a GGUF with two tensors for every weight, `NAME.in_sum2`
//! `[n_cols, n_expert]` and `NAME.counts` `[1, n_expert]`, both F32 (`save_imatrix` of llama.cpp's
//! `tools/imatrix/imatrix.cpp`). aird's files also have `NAME.in_sum_abs` and `NAME.in_max_abs`,
//! which llama.cpp ignores, and record in `aird.stats` where they come from.
//!
//! An interrupted run leaves the same with sums in F64, so that a resumed run ends in the same
//! bytes as one that never stopped. Only aird reads those.

use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::activation::{About, InputStats, Stats};
use super::collect::Collected;
use super::error::{Error, Result};
use super::legacy;
use crate::gguf::{Builder, GgmlType, Shard, TensorInfo, Value, check_regular};

const ABOUT_KEY: &str = "aird.stats";
const PARTIAL_KEY: &str = "aird.stats.partial";
/// The keys of `common/imatrix-loader.cpp`.
const DATASETS_KEY: &str = "imatrix.datasets";
const CHUNK_COUNT_KEY: &str = "imatrix.chunk_count";
const CHUNK_SIZE_KEY: &str = "imatrix.chunk_size";
const TYPE_KEY: &str = "general.type";
const TYPE: &str = "imatrix";
/// Suffixes of what may stand beside the sums of a weight.
const PARTS: [&str; 3] = [".counts", ".in_sum_abs", ".in_max_abs"];
/// How every GGUF begins; the legacy format begins with a count.
const MAGIC: &[u8] = b"GGUF";

/// How far an interrupted run came.
#[derive(Debug, Serialize, Deserialize)]
struct PartialRun {
    n_done: usize,
}

/// Writes statistics whole or not at all.
///
/// # Errors
/// The disk's, or a name too long for a tensor.
pub fn write(path: &Path, stats: &Stats) -> Result<()> {
    Ok(builder(stats, GgmlType::F32)?.write(path)?)
}

/// Writes what an interrupted run gathered.
///
/// # Errors
/// As [`write()`].
pub fn write_partial(path: &Path, about: &About, so_far: &Collected) -> Result<()> {
    let mut inputs = so_far.inputs.clone();
    inputs.sort_keys();
    let stats = Stats { inputs, datasets: vec![about.data.clone()], about: Some(about.clone()) };
    let mut file = builder(&stats, GgmlType::F64)?;
    file.kv(PARTIAL_KEY, json(path, &PartialRun { n_done: so_far.n_done })?);
    Ok(file.write(path)?)
}

/// Reads statistics of aird or llama-imatrix, GGUF or legacy. If an interrupted run left the file,
/// also returns how far it came.
///
/// # Errors
/// The file cannot be read, is not an importance matrix, or its parts do not fit together.
pub fn read(path: &Path) -> Result<(Stats, Option<Collected>)> {
    let wrong = |what: String| Error::File { path: path.into(), what };
    check_regular(path)?;
    let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot read: {e}")))?;
    if !bytes.starts_with(MAGIC) {
        return Ok((legacy::parse(&bytes).map_err(wrong)?, None));
    }
    let file = Shard::open(path)?;
    check_keys(&file)?;
    let about = file.text(ABOUT_KEY)?.map(serde_json::from_str::<About>);
    let about = about.transpose().map_err(|e| wrong(format!("its {ABOUT_KEY}: {e}")))?;
    let name = |value: Value| value.to_text().map(|text| text.into_owned());
    let datasets = file.texts(DATASETS_KEY)?;
    let datasets = datasets.map(|a| a.iter().filter_map(name).collect()).unwrap_or_default();
    let mut inputs = IndexMap::new();
    for (name, _) in &file.header.tensors {
        if let Some(weight) = name.strip_suffix(".in_sum2") {
            inputs.insert(weight.to_owned(), input(&file, weight).map_err(wrong)?);
        } else if let Some(weight) = PARTS.iter().find_map(|part| name.strip_suffix(part))
            && !file.header.tensors.contains_key(&format!("{weight}.in_sum2"))
        {
            return Err(wrong(format!("no {weight}.in_sum2 beside {name}")));
        }
    }
    if inputs.is_empty() {
        let what = "not an importance matrix: no tensor is named *.in_sum2";
        return Err(wrong(what.into()));
    }
    inputs.sort_keys();
    let progress = file.text(PARTIAL_KEY)?.map(serde_json::from_str::<PartialRun>);
    let progress = progress.transpose().map_err(|e| wrong(format!("its {PARTIAL_KEY}: {e}")))?;
    let partial =
        progress.map(|p| Collected { inputs: inputs.clone(), n_done: p.n_done, interrupted: true });
    Ok((Stats { inputs, datasets, about }, partial))
}

/// Checks the keys that describe the file, also those that aird does not use.
fn check_keys(file: &Shard) -> Result<()> {
    let found = file.text(TYPE_KEY)?.unwrap_or(TYPE);
    if found != TYPE {
        let what = format!("{TYPE_KEY} is '{found}', expected '{TYPE}'");
        return Err(Error::File { path: file.path.clone(), what });
    }
    file.count(CHUNK_COUNT_KEY)?;
    file.count(CHUNK_SIZE_KEY)?;
    Ok(())
}

fn builder(stats: &Stats, sums: GgmlType) -> Result<Builder> {
    let mut file = Builder::new();
    let most = stats.inputs.values().flat_map(|i| i.counts.iter()).max().copied().unwrap_or(0);
    let n_ctx = stats.about.as_ref().map_or(1, |a| a.n_ctx.max(1));
    file.kv(TYPE_KEY, TYPE)
        .kv(DATASETS_KEY, Value::strings(&stats.datasets))
        .kv(CHUNK_COUNT_KEY, Value::U32(most.div_ceil(u64::from(n_ctx)) as u32))
        .kv(CHUNK_SIZE_KEY, Value::U32(n_ctx));
    if let Some(about) = &stats.about {
        file.kv(ABOUT_KEY, json(Path::new(ABOUT_KEY), about)?);
    }
    for (name, input) in &stats.inputs {
        let (n_cols, n_expert) = (input.n_cols as u64, input.n_expert() as u64);
        let shape = [n_cols, n_expert];
        let counts: Vec<f64> = input.counts.iter().map(|n| *n as f64).collect();
        file.tensor(&format!("{name}.in_sum2"), &shape, sums, encode(sums, &input.sum2))?;
        file.tensor(&format!("{name}.counts"), &[1, n_expert], sums, encode(sums, &counts))?;
        if let Some(sum_abs) = &input.sum_abs {
            file.tensor(&format!("{name}.in_sum_abs"), &shape, sums, encode(sums, sum_abs))?;
        }
        if let Some(max_abs) = &input.max_abs {
            let wide: Vec<f64> = max_abs.iter().map(|x| f64::from(*x)).collect();
            file.tensor(&format!("{name}.in_max_abs"), &shape, sums, encode(sums, &wide))?;
        }
    }
    Ok(file)
}

fn encode(ty: GgmlType, values: &[f64]) -> Vec<u8> {
    match ty {
        GgmlType::F64 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
    }
}

fn json(path: &Path, value: &impl Serialize) -> Result<String> {
    let failed = |e: serde_json::Error| Error::File { path: path.into(), what: e.to_string() };
    serde_json::to_string(value).map_err(failed)
}

/// The tensors about one weight.
fn input(file: &Shard, weight: &str) -> std::result::Result<InputStats, String> {
    let find = |suffix: &str| file.header.tensors.get(&format!("{weight}.{suffix}"));
    let sum2 = find("in_sum2").ok_or_else(|| format!("no {weight}.in_sum2"))?;
    let counts = find("counts").ok_or_else(|| format!("no {weight}.counts beside its in_sum2"))?;
    let (n_cols, n_expert) = (sum2.n_cols(), sum2.n_rows());
    // If a dimension is 0, the other one takes no bytes in the file, but counts for it would.
    if n_cols == 0 || n_expert == 0 {
        let shape = sum2.shape_text();
        return Err(format!("{weight}.in_sum2 has shape {shape}, expected no dimension of 0"));
    }
    let values = |info: &TensorInfo| {
        let values = decode(file, info)?;
        let expected = n_cols * n_expert;
        if values.len() as u64 != expected {
            return Err(format!("{} has {} values, expected {expected}", info.name, values.len()));
        }
        // An interrupted run's F64 end as F32: what is too large for that would end as infinity.
        match values.iter().find(|x| !(**x as f32).is_finite() || **x < 0.0) {
            Some(x) => Err(format!("{} holds {x}, expected a sum of squares or sizes", info.name)),
            None => Ok(values),
        }
    };
    let counts = decode(file, counts)?;
    let is_count = |n: &&f64| n.is_finite() && **n >= 0.0 && n.fract() == 0.0;
    if let Some(n) = counts.iter().find(|n| !is_count(n)) {
        return Err(format!("{weight}.counts holds {n}, expected a whole number, 0 or more"));
    }
    let counts: Vec<u64> = counts.iter().map(|n| *n as u64).collect();
    // One count for all experts: files that were converted from the legacy format.
    let counts = match (counts.len() as u64, counts.first()) {
        (n, _) if n == n_expert => counts,
        (1, Some(&n)) => vec![n; n_expert as usize],
        (n, _) => return Err(format!("{weight}.counts has {n} values, expected {n_expert}")),
    };
    let max_abs = find("in_max_abs").map(values).transpose()?;
    Ok(InputStats {
        n_cols: n_cols as usize,
        counts,
        sum2: values(sum2)?,
        sum_abs: find("in_sum_abs").map(values).transpose()?,
        max_abs: max_abs.map(|m| m.iter().map(|x| *x as f32).collect()),
    })
}

fn decode(file: &Shard, info: &TensorInfo) -> std::result::Result<Vec<f64>, String> {
    let range = file.range(info);
    let bytes = &file.bytes()[range.start as usize..range.end as usize];
    match info.ty {
        GgmlType::F32 => {
            let words = bytes.as_chunks::<4>().0.iter();
            Ok(words.map(|b| f64::from(f32::from_le_bytes(*b))).collect())
        }
        GgmlType::F64 => {
            let words = bytes.as_chunks::<8>().0.iter();
            Ok(words.map(|b| f64::from_le_bytes(*b)).collect())
        }
        ty => Err(format!("{} is {ty}, expected F32", info.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_without_columns_or_rows_are_refused_whatever_their_number() {
        for shape in [[0, 3], [3, 0], [0, 1 << 60], [1 << 60, 0]] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("imatrix.gguf");
            let mut file = Builder::new();
            file.tensor("w.in_sum2", &shape, GgmlType::F32, Vec::new()).unwrap();
            file.tensor("w.counts", &[1, 1], GgmlType::F32, vec![0; 4]).unwrap();
            file.write(&path).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("expected no dimension of 0"), "{shape:?}: {error}");
        }
    }

    #[test]
    fn sums_that_no_finished_file_could_hold_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partial.gguf");
        for (sum, fits) in [(f64::from(f32::MAX), true), (1e39, false), (f64::INFINITY, false)] {
            let mut file = Builder::new();
            let counts = encode(GgmlType::F64, &[1.0]);
            file.tensor("w.in_sum2", &[1, 1], GgmlType::F64, encode(GgmlType::F64, &[sum]))
                .unwrap();
            file.tensor("w.counts", &[1, 1], GgmlType::F64, counts).unwrap();
            file.write(&path).unwrap();
            assert_eq!(read(&path).is_ok(), fits, "{sum}");
        }
    }
}
