//! How far honest tensors lie from what their originals become, and edited ones, by type: measured
//! on real weights. `AIRD_BLESS=1 cargo bench --bench origin` writes `fixtures/origin/figures.tsv`;
//! the bounds in `src/origin/bounds.rs` come from it.
//!
//! From the environment: `AIRD_BENCH_MODEL` whose weights are taken (the one that
//! scripts/fetch-model.sh brings), `AIRD_BENCH_TYPES` to measure, as `q4_k,iq4_xs` (all).
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use aird::gguf::{Builder, GgmlType, Model, Unwatched};
use aird::llama::{encode, is_encodable, weighs_errors};
use aird::origin::{Figures, Rest, Subject, measure};
use aird::quant::decoded;
use anyhow::{Context, Result, bail};
use rayon::prelude::*;

#[allow(dead_code)] // the tests use more of it
#[path = "../tests/support/random.rs"]
mod random;

use random::Random;

/// A figure of a tensor.
type Measure = fn(&Figures) -> f64;

/// Where scripts/fetch-model.sh puts it.
const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/models/SmolLM2-135M-Instruct-Q4_1.gguf");
/// Columns of a matrix at most.
const N_COLS: u64 = 1024;

/// Rows of a matrix at most: ggml searches the grids of some types slowly.
fn most_rows(ty: GgmlType) -> usize {
    use GgmlType as T;
    match ty {
        T::IQ1_S | T::IQ1_M | T::IQ2_XXS | T::IQ2_XS | T::IQ2_S | T::IQ3_XXS | T::IQ3_S => 48,
        _ => 192,
    }
}

/// A matrix in f32.
#[derive(Clone)]
struct Matrix {
    n_cols: usize,
    values: Vec<f32>,
}

/// Quantized types that ggml writes, of those that are asked for.
fn types() -> Vec<GgmlType> {
    use GgmlType as T;
    let asked = std::env::var("AIRD_BENCH_TYPES").ok();
    let is_asked = |ty: GgmlType| {
        let name = ty.name().to_lowercase();
        asked.as_ref().is_none_or(|asked| asked.split(',').any(|a| a == name))
    };
    let is_float = |ty: GgmlType| matches!(ty, T::F32 | T::F16 | T::BF16);
    let all = GgmlType::ALL.iter().copied();
    all.filter(|ty| is_encodable(*ty) && !is_float(*ty) && is_asked(*ty)).collect()
}

/// Parts of matrices of every kind, off the grid that they were rounded to: with noise as large as
/// that rounding's.
fn matrices(path: &Path) -> Result<Vec<Matrix>> {
    let model = Model::open(path)?;
    let mut random = Random::new(7);
    let kinds = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    let kinds = kinds.iter().enumerate();
    let names = kinds.map(|(i, kind)| format!("blk.{}.{kind}.weight", 3 * i));
    let names = names.chain(["token_embd.weight".into()]);
    let mut made = Vec::new();
    for tensor in names.filter_map(|name| model.tensor(&name)).collect::<Vec<_>>() {
        let all = tensor.info.n_cols() as usize;
        let n_cols = (all as u64 / 256 * 256).min(N_COLS) as usize;
        let rows = decoded(tensor, 0..tensor.info.n_rows().min(192))?;
        let mut values: Vec<f32> =
            rows.chunks(all).flat_map(|row| row[..n_cols].to_vec()).collect();
        for block in values.chunks_mut(32) {
            let least = block.iter().copied().fold(f32::MAX, f32::min);
            let step = (block.iter().copied().fold(f32::MIN, f32::max) - least) / 15.0;
            block.iter_mut().for_each(|x| *x += 0.3 * step * random.normal());
        }
        made.push(Matrix { n_cols, values });
    }
    Ok(made)
}

/// Weights of input channels: flat, as calibration finds them, and with a few that count for all.
fn importances(n_cols: usize) -> Vec<Vec<f32>> {
    let mut random = Random::new(n_cols as u64);
    let mut with = |spread: f32| -> Vec<f32> {
        (0..n_cols).map(|_| (spread * random.normal()).exp()).collect()
    };
    vec![vec![1.0; n_cols], with(0.5), with(1.0), with(2.0)]
}

/// `values` written in `ty`, in parallel.
fn written(
    ty: GgmlType,
    values: &[f32],
    n_cols: usize,
    weights: Option<&[f32]>,
) -> Result<Vec<u8>> {
    let row_bytes = ty.bytes_for(n_cols as u64).context("rows are not whole blocks")? as usize;
    let mut out = vec![0; row_bytes * (values.len() / n_cols)];
    let rows = values.par_chunks(n_cols).zip(out.par_chunks_mut(row_bytes));
    rows.try_for_each(|(row, out)| encode(ty, row, n_cols, weights, out))?;
    Ok(out)
}

/// What is measured of `bytes` in `ty`, beside `original`; None where they are equal.
fn figures(ty: GgmlType, bytes: Vec<u8>, original: &Matrix) -> Result<Option<Figures>> {
    let folder = tempfile::tempdir()?;
    let (a, b) = (folder.path().join("a.gguf"), folder.path().join("b.gguf"));
    let shape = [original.n_cols as u64, (original.values.len() / original.n_cols) as u64];
    let write = |path: &Path, ty: GgmlType, bytes: Vec<u8>| -> Result<Model> {
        let mut file = Builder::new();
        file.kv("general.architecture", "llama");
        file.tensor("w", &shape, ty, bytes)?;
        file.write(path)?;
        Ok(Model::open(path)?)
    };
    let values = original.values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let (a, b) = (write(&a, ty, bytes)?, write(&b, GgmlType::F32, values)?);
    let (tensor, original) = (a.tensor("w").context("w")?, b.tensor("w").context("w")?);
    let measured = measure(&Subject { tensor, original, importance: None }, &Unwatched)?;
    match measured.rest {
        Some(Rest::Rows(figures)) => Ok(Some(figures)),
        None => Ok(None),
        other => bail!("{ty}: {other:?}"),
    }
}

/// The original with an edit of rank one along a random direction, `by` times as large as it.
fn along_a_direction(matrix: &Matrix, by: f64) -> Vec<f32> {
    let mut random = Random::new(3);
    let n_rows = matrix.values.len() / matrix.n_cols;
    let r = random.normals(n_rows, (1.0 / n_rows as f32).sqrt());
    let mut along = vec![0f64; matrix.n_cols];
    for (row, r) in matrix.values.chunks(matrix.n_cols).zip(&r) {
        along.iter_mut().zip(row).for_each(|(a, x)| *a += f64::from(r * x));
    }
    let size = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let whole: Vec<f64> = matrix.values.iter().map(|x| f64::from(*x)).collect();
    let alpha = by * size(&whole) / size(&along);
    let mut values = matrix.values.clone();
    for (row, r) in values.chunks_mut(matrix.n_cols).zip(&r) {
        row.iter_mut().zip(&along).for_each(|(x, a)| *x += (alpha * f64::from(*r) * a) as f32);
    }
    values
}

/// The edits that are tried, by name.
fn edits(matrix: &Matrix) -> Vec<(&'static str, Vec<f32>)> {
    let mut random = Random::new(5);
    let square: f64 = matrix.values.iter().map(|x| f64::from(*x).powi(2)).sum();
    let size = (square / matrix.values.len() as f64).sqrt() as f32;
    let mut noise = |by: f32| {
        let noisy = |x: &f32| x + by * size * random.normal();
        matrix.values.iter().map(noisy).collect::<Vec<f32>>()
    };
    vec![
        ("rank 1, 1 %", along_a_direction(matrix, 0.01)),
        ("rank 1, 3 %", along_a_direction(matrix, 0.03)),
        ("rank 1, 10 %", along_a_direction(matrix, 0.1)),
        ("noise, 1 %", noise(0.01)),
        ("noise, 3 %", noise(0.03)),
        ("noise, 10 %", noise(0.1)),
        ("longer by 1 %", matrix.values.iter().map(|x| 1.01 * x).collect()),
    ]
}

fn main() -> Result<()> {
    let path = std::env::var_os("AIRD_BENCH_MODEL").map_or(MODEL.into(), PathBuf::from);
    let all = matrices(&path)?;
    let mut table = String::from("type\tof\tn\tfigure\tleast\tmedian\tmost\n");
    for ty in types() {
        for (of, found) in measured(ty, &all)? {
            lines(&mut table, ty, &of, &found)?;
        }
        println!("{ty}");
    }
    print!("{table}");
    if std::env::var_os("AIRD_BLESS").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/origin");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("figures.tsv"), &table)?;
    }
    Ok(())
}

/// The figures of a type's tensors, by what was done to them.
fn measured(ty: GgmlType, all: &[Matrix]) -> Result<BTreeMap<String, Vec<Figures>>> {
    let mut found: BTreeMap<String, Vec<Figures>> = BTreeMap::new();
    for matrix in all {
        let Matrix { n_cols, mut values } = matrix.clone();
        values.truncate(most_rows(ty) * n_cols);
        let matrix = Matrix { n_cols, values };
        let mut add = |of: &str, bytes: Vec<u8>| -> Result<()> {
            found.entry(of.into()).or_default().extend(figures(ty, bytes, &matrix)?);
            Ok(())
        };
        // A build that adds in another order is off by a last bit here and there.
        let last_bit = |(i, x): (usize, &f32)| {
            f32::from_bits(x.to_bits() ^ u32::from(i % 3 == 0 && *x != 0.0))
        };
        let other: Vec<f32> = matrix.values.iter().enumerate().map(last_bit).collect();
        add("another build", written(ty, &other, n_cols, None)?)?;
        let importances = importances(n_cols);
        for weights in importances.iter().filter(|_| weighs_errors(ty)) {
            add("honest", written(ty, &matrix.values, n_cols, Some(weights))?)?;
        }
        let weights = weighs_errors(ty).then_some(importances[2].as_slice());
        for (name, values) in edits(&matrix) {
            add(name, written(ty, &values, n_cols, weights)?)?;
        }
    }
    Ok(found)
}

/// The least, the median and the greatest of each figure.
fn lines(table: &mut String, ty: GgmlType, of: &str, found: &[Figures]) -> Result<()> {
    let of_figure: [(&str, Measure); 8] = [
        ("relative_error", |f| f.relative_error),
        ("error", |f| f.error),
        ("row", |f| f.row),
        ("block", |f| f.block),
        ("misplaced", |f| f.misplaced.unwrap_or(0.0)),
        ("misplaced_in_block", |f| f.misplaced_in_block as f64),
        ("gain", |f| f.gain.abs()),
        ("direction", |f| f.direction),
    ];
    for (name, figure) in of_figure {
        let mut values: Vec<f64> = found.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (values.first(), values.last()) else { continue };
        let (n, median) = (values.len(), values[values.len() / 2]);
        writeln!(table, "{ty}\t{of}\t{n}\t{name}\t{least:.5}\t{median:.5}\t{most:.5}")?;
    }
    Ok(())
}
