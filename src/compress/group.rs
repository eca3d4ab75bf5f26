//! Which linears may share scales of their input, and where the division by them goes.
//!
//! ```text
//! norm gains / s      -> every linear that reads the norm * s         (columns)
//! ffn_up rows / s     -> ffn_down * s       after a gate: act(gate x) * (up x) is linear in up
//! attn_v rows / s     -> attn_output * s    a kv head's rows serve all query heads that share it
//! ```
//! A group holds EVERY reader of what is divided, routers too, or the model would change: which
//! they are is read off llama.cpp's own graph ([`Structure`]).

use crate::gguf::{Model, TensorInfo};
use crate::llama::graph::{self, Input, Reader, Rows, Structure};
use crate::quant::is_convertible;

/// Along which dimension a source is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Element j of every row: norms and biases, which are one row.
    Columns,
    /// Whole rows.
    Rows,
}

/// A tensor that is divided by a group's scales.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name of the tensor, e.g. `blk.0.attn_norm.weight`.
    pub name: String,
    /// Its rows or its columns.
    pub axis: Axis,
    /// The first that is divided.
    pub first: usize,
    /// How many rows (over all experts) or columns the tensor has.
    pub len: usize,
}

/// Query heads that read the same kv head: their columns need equal scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedHeads {
    /// Channels of a head.
    pub head_len: usize,
    /// Query heads to a kv head.
    pub n_sharing: usize,
}

/// One expert of a tensor that holds several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expert {
    /// Index of the expert, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// Linears with one input, and the tensors that are divided by the scales of that input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What is divided, without its `.weight`: `blk.3.attn_norm`; with `[e]` for an expert.
    pub name: String,
    /// Index of the block, from 0.
    pub block: u32,
    /// Channels of the input: columns of every linear, and scales.
    pub n_in: usize,
    /// Matrices whose columns are multiplied and which are then quantized.
    pub linears: Vec<String>,
    /// Matrices and vectors whose columns are multiplied and which stay floats: routers.
    pub others: Vec<String>,
    /// The tensor whose input statistics are the group's: the router if there is one, because it
    /// sees every token, else the first linear.
    pub input: String,
    /// The tensors that are divided by the scales.
    pub sources: Vec<Source>,
    /// The only expert of `linears` that the group is about; None: all there are.
    pub expert: Option<Expert>,
    /// Columns that must be scaled alike.
    pub shared: Option<SharedHeads>,
}

impl Group {
    /// Makes numbers of columns, `[n_in]`, equal where their scales must be: each becomes the mean
    /// over the query heads that share its kv head. For E|x| that is the mean over all that the
    /// scale will touch; do it to [`super::WeightMeans`] too.
    pub fn tie(&self, values: &mut [f32]) {
        let Some(SharedHeads { head_len, n_sharing }) = self.shared else { return };
        for heads in values.chunks_exact_mut(head_len * n_sharing) {
            for c in 0..head_len {
                let columns = (0..n_sharing).map(|head| heads[head * head_len + c]);
                let mean = columns.map(f64::from).sum::<f64>() / n_sharing as f64;
                (0..n_sharing).for_each(|head| heads[head * head_len + c] = mean as f32);
            }
        }
    }

    /// The column whose scale divides row (or element) `i` of the sources.
    pub(super) fn column_of(&self, i: usize) -> usize {
        match self.shared {
            None => i,
            Some(SharedHeads { head_len, n_sharing }) => {
                i / head_len * head_len * n_sharing + i % head_len
            }
        }
    }

    /// Rows (or elements) of a source that the scales divide.
    pub(super) fn n_divided(&self) -> usize {
        self.n_in / self.shared.map_or(1, |shared| shared.n_sharing)
    }
}

/// Every group of `model` whose scales can be folded, in order of evaluation.
pub fn groups(model: &Model, structure: &Structure) -> Vec<Group> {
    structure.groups.iter().flat_map(|group| GroupBuilder { model, group }.groups()).collect()
}

/// Makes groups of scales of the matrices that share an input.
struct GroupBuilder<'m> {
    model: &'m Model,
    group: &'m graph::Group,
}

impl<'m> GroupBuilder<'m> {
    fn groups(&self) -> Vec<Group> {
        let Some(first) = self.group.matrices.first() else { return Vec::new() };
        let Some(n_in) = self.info(&first.tensor).map(|info| info.n_cols() as usize) else {
            return Vec::new();
        };
        match &self.group.input {
            Input::Norm { gains: Some(gains), bias, alone: true } => {
                let sources = [Some(gains), bias.as_ref()].into_iter().flatten();
                let sources = sources.map(|name| self.source(name, Axis::Columns, 0));
                self.group(stem(gains), n_in, sources.collect()).into_iter().collect()
            }
            Input::Gated { up } => self.experts(up, n_in),
            Input::Heads { values, head_len, n_sharing } => {
                let (head_len, n_sharing) = (*head_len as usize, *n_sharing as usize);
                let name = stem(&values.matrix.tensor);
                let group = self.group(name, n_in, self.rows(values, None));
                let shared = (n_sharing > 1).then_some(SharedHeads { head_len, n_sharing });
                group.map(|group| Group { shared, ..group }).into_iter().collect()
            }
            Input::Norm { .. } | Input::Stream | Input::Other => Vec::new(),
        }
    }

    /// A group for all of the matrices, or one for each expert.
    fn experts(&self, up: &Rows, n_in: usize) -> Vec<Group> {
        let name = stem(&up.matrix.tensor);
        let Some(info) = self.info(&up.matrix.tensor) else { return Vec::new() };
        let count = info.shape.iter().skip(2).product::<u64>() as usize;
        let all_experts = self.group.matrices.iter().all(|reader| reader.experts);
        if count == 1 && !self.group.matrices.iter().any(|reader| reader.experts) {
            return self.group(name, n_in, self.rows(up, None)).into_iter().collect();
        }
        // Experts beside a matrix for all tokens would all need the same scales.
        if !all_experts {
            return Vec::new();
        }
        let per_expert = info.n_rows() as usize / count.max(1);
        let of = |index: usize| {
            let sources = self.rows(up, Some(index * per_expert));
            let group = self.group(name, n_in, sources)?;
            let name = format!("{name}[{index}]");
            Some(Group { name, expert: Some(Expert { index, count }), ..group })
        };
        (0..count).filter_map(of).collect()
    }

    /// None if one of the tensors cannot be scaled: a quantized norm, a missing tensor.
    fn group(&self, name: &str, n_in: usize, sources: Vec<Option<Source>>) -> Option<Group> {
        let sources: Vec<Source> = sources.into_iter().collect::<Option<_>>()?;
        let infos: Vec<(&Reader, &TensorInfo)> = self
            .group
            .matrices
            .iter()
            .map(|reader| Some((reader, self.info(&reader.tensor)?)))
            .collect::<Option<_>>()?;
        let (linears, others): (Vec<_>, Vec<_>) =
            infos.into_iter().partition(|(_, info)| is_convertible(info));
        let names = |infos: Vec<(&Reader, &TensorInfo)>| -> Vec<String> {
            infos.iter().map(|(_, info)| info.name.clone()).collect()
        };
        // A matrix for every token sees more than an expert does.
        let input = self.group.matrices.iter().min_by_key(|reader| reader.experts)?;
        Some(Group {
            name: name.to_owned(),
            block: self.group.block,
            n_in,
            linears: names(linears),
            others: names(others),
            input: input.tensor.clone(),
            sources,
            expert: None,
            shared: None,
        })
    }

    fn info(&self, name: &str) -> Option<&'m TensorInfo> {
        self.model.tensor(name).map(|tensor| tensor.info)
    }

    /// Rows of a matrix with their biases; after those of other experts, `skipped`.
    fn rows(&self, rows: &Rows, skipped: Option<usize>) -> Vec<Option<Source>> {
        let matrix = &rows.matrix;
        let first = matrix.first as usize + skipped.unwrap_or(0);
        let mut sources = vec![self.source(&matrix.tensor, Axis::Rows, first)];
        for bias in &rows.biases {
            sources.push(self.source(&bias.tensor, Axis::Columns, bias.first as usize));
        }
        sources
    }

    fn source(&self, name: &str, axis: Axis, first: usize) -> Option<Source> {
        let info = self.info(name)?;
        let len = match axis {
            Axis::Columns => info.n_cols() as usize,
            Axis::Rows => info.n_rows() as usize,
        };
        Some(Source { name: info.name.clone(), axis, first, len })
    }
}

/// A tensor's name without its `.weight`.
fn stem(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}
