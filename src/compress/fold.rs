//! Scales that are multiplied into the weights: `W'_ij = W_ij * rows_i * columns_j`, so that a file
//! with scaled channels needs no new format.
//!
//! What is multiplied in one place is divided in another: folding by itself leaves a model's
//! answers as they are, up to f32's rounding (and that of the f16 cache, where values of attn_v are
//! scaled).

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use super::error::{Error, Result};
use super::group::{Axis, Group, SharedHeads};
use crate::gguf::TensorInfo;

/// Factors of one tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scaling {
    /// One factor per column, `[n_cols]`; or a set for each expert, `[n_experts, n_cols]`. A norm
    /// or a bias is one row.
    pub columns: Option<Vec<f32>>,
    /// One factor per row, `[n_rows]`, over all experts.
    pub rows: Option<Vec<f32>>,
}

impl Scaling {
    /// Multiplies `values`, the rows `rows` of a tensor of `n_rows` x `n_cols`.
    fn apply(&self, rows: Range<u64>, n_rows: u64, n_cols: usize, values: &mut [f32]) {
        let n_sets = self.columns.as_ref().map_or(1, |c| (c.len() / n_cols).max(1));
        let per_set = (n_rows as usize / n_sets).max(1);
        let first = rows.start as usize;
        values.par_chunks_exact_mut(n_cols).enumerate().for_each(|(i, row)| {
            let i = first + i;
            if let Some(columns) = &self.columns {
                let columns = &columns[i / per_set * n_cols..][..n_cols];
                row.iter_mut().zip(columns).for_each(|(w, s)| *w *= s);
            }
            if let Some(rows) = &self.rows {
                row.iter_mut().for_each(|w| *w *= rows[i]);
            }
        });
    }
}

/// The factors of every tensor that has some, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Folds {
    by_name: BTreeMap<String, Scaling>,
}

impl Folds {
    /// Factors of tensor `name`, if it has some.
    pub fn get(&self, name: &str) -> Option<&Scaling> {
        self.by_name.get(name)
    }

    /// Tensors that change, by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Scales `values`, the rows `rows` of the tensor `info` as `[n_rows, n_cols]`; tensors
    /// without factors stay.
    pub fn apply(&self, info: &TensorInfo, rows: Range<u64>, values: &mut [f32]) {
        if let Some(scaling) = self.get(&info.name) {
            scaling.apply(rows, info.n_rows(), info.n_cols() as usize, values);
        }
    }

    /// How much errors of tensor `name` matter once its columns are scaled: E[x^2] / columns^2.
    /// `mean_sq` is `[n_cols]`, that of expert `expert` if the tensor holds several.
    pub fn importance(&self, name: &str, expert: usize, mean_sq: &[f32]) -> Vec<f32> {
        let n_cols = mean_sq.len();
        let columns = self.get(name).and_then(|scaling| scaling.columns.as_ref());
        let set = |columns: &Vec<f32>| if columns.len() > n_cols { expert } else { 0 };
        match columns.and_then(|columns| columns.get(set(columns) * n_cols..)) {
            Some(columns) => super::awq::importance(mean_sq, columns),
            None => mean_sq.to_vec(),
        }
    }

    /// Multiplies one of `n_sets` sets of columns of tensor `name`; all sets if `set` is None.
    fn multiply_columns(&mut self, name: &str, set: Option<(usize, usize)>, factors: &[f32]) {
        let n_cols = factors.len();
        let (index, n_sets) = set.map_or((None, 1), |(index, n_sets)| (Some(index), n_sets));
        let entry = self.by_name.entry(name.into()).or_default();
        let columns = entry.columns.get_or_insert_with(|| vec![1.0; n_cols]);
        if columns.len() < n_cols * n_sets {
            *columns = columns.repeat(n_sets);
        }
        for (i, columns) in columns.chunks_exact_mut(n_cols).enumerate() {
            if index.is_none_or(|index| index == i) {
                columns.iter_mut().zip(factors).for_each(|(c, f)| *c *= f);
            }
        }
    }

    /// Multiplies rows `first..` of tensor `name`, which has `n_rows`.
    fn multiply_rows(&mut self, name: &str, first: usize, n_rows: usize, factors: &[f32]) {
        let entry = self.by_name.entry(name.into()).or_default();
        let rows = entry.rows.get_or_insert_with(|| vec![1.0; n_rows]);
        rows[first..].iter_mut().zip(factors).for_each(|(r, f)| *r *= f);
    }
}

/// Adds a group's scales, `[n_in]`: its linears and routers are multiplied, its sources divided.
/// Scales of a tensor that has some already are multiplied.
///
/// # Errors
/// A number of scales that is not the group's, one that is not positive and finite (or whose
/// inverse is not), or scales that differ where [`Group::tie`] makes them equal.
pub fn scale_group(folds: &mut Folds, group: &Group, scales: &[f32]) -> Result<()> {
    check(group, scales)?;
    let set = group.expert.map(|expert| (expert.index, expert.count));
    for name in group.linears.iter().chain(&group.others) {
        folds.multiply_columns(name, set, scales);
    }
    let inverses = (0..group.n_divided()).map(|i| 1.0 / scales[group.column_of(i)]);
    let inverses: Vec<f32> = inverses.collect();
    for source in &group.sources {
        match source.axis {
            Axis::Rows => folds.multiply_rows(&source.name, source.first, source.len, &inverses),
            Axis::Columns => {
                let mut all = vec![1.0; source.len];
                all[source.first..].iter_mut().zip(&inverses).for_each(|(a, s)| *a = *s);
                folds.multiply_columns(&source.name, set, &all);
            }
        }
    }
    Ok(())
}

fn check(group: &Group, scales: &[f32]) -> Result<()> {
    if scales.len() != group.n_in {
        let (what, found) = ("scales of a group", scales.len());
        return Err(Error::Length { what, found, expected: group.n_in });
    }
    let bad = |s: &f32| !(*s > 0.0 && s.is_finite() && (1.0 / s).is_finite());
    if let Some(index) = scales.iter().position(bad) {
        return Err(Error::Scale { group: group.name.clone(), index, found: scales[index] });
    }
    let Some(SharedHeads { head_len, n_sharing }) = group.shared else { return Ok(()) };
    for b in 0..scales.len() {
        let a = b / (head_len * n_sharing) * (head_len * n_sharing) + b % head_len;
        if scales[a] != scales[b] {
            return Err(Error::Untied { group: group.name.clone(), a, b });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::group::{Expert, Source};
    use crate::gguf::GgmlType;

    fn info(name: &str, shape: &[u64]) -> TensorInfo {
        TensorInfo { name: name.into(), shape: shape.into(), ty: GgmlType::F32, offset: 0 }
    }

    fn group(n_in: usize) -> Group {
        let source = |name: &str, axis, first, len| Source { name: name.into(), axis, first, len };
        Group {
            name: "g".into(),
            block: 0,
            n_in,
            linears: vec!["down".into()],
            others: vec!["router".into()],
            input: "down".into(),
            sources: vec![source("up", Axis::Rows, 2, 6), source("bias", Axis::Columns, 0, n_in)],
            expert: None,
            shared: None,
        }
    }

    #[test]
    fn what_is_multiplied_here_is_divided_there() {
        let mut folds = Folds::default();
        scale_group(&mut folds, &group(4), &[2.0, 4.0, 0.5, 1.0]).unwrap();
        scale_group(&mut folds, &group(4), &[2.0, 1.0, 1.0, 1.0]).unwrap();
        let columns = Some(vec![4.0, 4.0, 0.5, 1.0]);
        for name in ["down", "router"] {
            let expected = Scaling { columns: columns.clone(), rows: None };
            assert_eq!(folds.get(name), Some(&expected));
        }
        let rows = Some(vec![1.0, 1.0, 0.25, 0.25, 2.0, 1.0]);
        assert_eq!(folds.get("up"), Some(&Scaling { columns: None, rows }));
        assert_eq!(folds.names().collect::<Vec<_>>(), ["bias", "down", "router", "up"]);
        // Rows 2 and 3 of six, two columns each.
        let mut values = [8.0, 12.0, 16.0, 4.0];
        folds.apply(&info("up", &[2, 6]), 2..4, &mut values);
        assert_eq!(values, [2.0, 3.0, 4.0, 1.0]);
        let mut bias = [4.0, 4.0, 4.0, 4.0];
        folds.apply(&info("bias", &[4]), 0..1, &mut bias);
        assert_eq!(bias, [1.0, 1.0, 8.0, 4.0]);
        folds.apply(&info("other", &[4]), 0..1, &mut bias);
        assert_eq!(bias, [1.0, 1.0, 8.0, 4.0]);
        assert_eq!(folds.importance("down", 0, &[16.0; 4]), [1.0, 1.0, 64.0, 16.0]);
        assert_eq!(folds.importance("other", 0, &[3.0]), [3.0]);
    }

    #[test]
    fn an_experts_scales_touch_no_other_expert() {
        let mut folds = Folds::default();
        let all = Group { sources: Vec::new(), others: Vec::new(), ..group(2) };
        scale_group(&mut folds, &all, &[2.0, 2.0]).unwrap();
        let one = Group { expert: Some(Expert { index: 1, count: 3 }), ..all };
        scale_group(&mut folds, &one, &[1.0, 8.0]).unwrap();
        // Two rows of the first expert's three, then on to the second's.
        let mut values = [1.0; 8];
        folds.apply(&info("down", &[2, 3, 3]), 1..5, &mut values);
        assert_eq!(values, [2.0, 2.0, 2.0, 2.0, 2.0, 16.0, 2.0, 16.0]);
        assert_eq!(folds.importance("down", 1, &[256.0, 256.0]), [64.0, 1.0]);
        assert_eq!(folds.importance("down", 2, &[256.0, 256.0]), [64.0, 64.0]);
    }

    #[test]
    fn scales_that_cannot_be_undone_are_errors() {
        let mut folds = Folds::default();
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45] {
            let error = scale_group(&mut folds, &group(2), &[1.0, bad]).unwrap_err();
            assert!(matches!(error, Error::Scale { index: 1, .. }), "{error}");
        }
        assert!(matches!(
            scale_group(&mut folds, &group(2), &[1.0]),
            Err(Error::Length { found: 1, expected: 2, .. })
        ));
        let shared = Some(SharedHeads { head_len: 1, n_sharing: 2 });
        let tied = Group { shared, ..group(4) };
        let error = scale_group(&mut folds, &tied, &[1.0, 1.0, 2.0, 3.0]).unwrap_err();
        assert!(matches!(error, Error::Untied { a: 2, b: 3, .. }), "{error}");
        assert_eq!(folds, Folds::default());
    }

    proptest! {
        #[test]
        fn down_times_up_stays(
            scales in prop::collection::vec(0.01f32..100.0, 4),
            weights in prop::collection::vec(-1f32..1.0, 8),
        ) {
            let mut folds = Folds::default();
            scale_group(&mut folds, &group(4), &scales).unwrap();
            let (mut down, mut up) = (weights[..4].to_vec(), weights[4..].to_vec());
            folds.apply(&info("down", &[4, 1]), 0..1, &mut down);
            folds.apply(&info("up", &[1, 6]), 2..6, &mut up);
            for i in 0..4 {
                let (before, after) = (weights[i] * weights[4 + i], down[i] * up[i]);
                prop_assert!((before - after).abs() <= 4.0 * f32::EPSILON * before.abs());
            }
        }
    }
}
