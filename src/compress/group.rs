//! Which linears may share scales of their input, and where the division by them goes.
//!
//! ```text
//! norm gains / s      -> every linear that reads the norm * s         (columns)
//! ffn_up rows / s     -> ffn_down * s       behind a gate: act(gate x) * (up x) is linear in up
//! attn_v rows / s     -> attn_output * s    a kv head's rows serve all query heads that share it
//! ```
//! A group holds EVERY reader of what is divided, routers too, or the model would change.
//! Source: the graphs in llama.cpp's `src/models/*.cpp`.

use std::collections::BTreeSet;

use super::error::{Error, Result};
use crate::gguf::{Model, TensorInfo};
use crate::quant::is_convertible;

/// What an architecture's block looks like to scales.
struct Family {
    /// `general.architecture`.
    name: &'static str,
    /// Norm whose output attention reads; "" if it reads the residual stream itself.
    attn_norm: &'static str,
    /// Norm whose output the MLP reads: "" as above, or the same in a parallel block.
    ffn_norm: &'static str,
    /// `ffn_up` holds the gate's rows first, then its own.
    fused_up: bool,
}

const fn family(name: &'static str, attn_norm: &'static str, ffn_norm: &'static str) -> Family {
    Family { name, attn_norm, ffn_norm, fused_up: false }
}

/// Architectures whose graphs were read. Post-norms (gemma's, olmo2's) are never divided: what
/// they read is a projection, what reads them is the residual stream.
const FAMILIES: &[Family] = &[
    // Mistral and Mixtral files say llama as well.
    family("llama", "attn_norm", "ffn_norm"),
    family("mistral3", "attn_norm", "ffn_norm"),
    family("qwen2", "attn_norm", "ffn_norm"),
    family("qwen2moe", "attn_norm", "ffn_norm"),
    family("qwen3", "attn_norm", "ffn_norm"),
    family("qwen3moe", "attn_norm", "ffn_norm"),
    family("olmoe", "attn_norm", "ffn_norm"),
    family("gemma", "attn_norm", "ffn_norm"),
    family("gemma2", "attn_norm", "ffn_norm"),
    family("gemma3", "attn_norm", "ffn_norm"),
    family("granite", "attn_norm", "ffn_norm"),
    family("internlm2", "attn_norm", "ffn_norm"),
    family("smollm3", "attn_norm", "ffn_norm"),
    // Its MLP reads the norm that others put behind attention.
    family("seed_oss", "attn_norm", "post_attention_norm"),
    // Attention and MLP side by side.
    family("command-r", "attn_norm", "attn_norm"),
    family("olmo2", "", ""),
    Family { name: "phi3", attn_norm: "attn_norm", ffn_norm: "ffn_norm", fused_up: true },
];

/// What reads the attention's norm.
const ATTENTION_READERS: &[&str] = &["attn_qkv", "attn_q", "attn_k", "attn_v"];
/// What reads the MLP's norm. A router comes first: it sees every token, an expert only its own.
const MLP_READERS: &[&str] = &[
    "ffn_gate_inp",
    "ffn_gate",
    "ffn_up",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_gate_inp_shexp",
    "ffn_gate_shexp",
    "ffn_up_shexp",
];
/// Gate, up and down of each kind of MLP.
const MLPS: [[&str; 3]; 3] = [
    ["ffn_gate", "ffn_up", "ffn_down"],
    ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"],
    ["ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"],
];
/// What else a block may hold: none of it reads a norm.
const OTHERS: &[&str] = &[
    "attn_norm",
    "attn_q_norm",
    "attn_k_norm",
    "attn_output",
    "attn_rot_embd",
    "post_attention_norm",
    "ffn_norm",
    "ffn_down",
    "ffn_down_exps",
    "ffn_down_shexp",
    "post_ffw_norm",
    "rope_freqs",
    "rope_factors_long",
    "rope_factors_short",
];

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
    /// The tensor.
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

/// One of the experts that a tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expert {
    /// From 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// Linears with one input, and what the scales of that input are taken out of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What is divided, without its `.weight`: `blk.3.attn_norm`; with `[e]` for an expert.
    pub name: String,
    /// The block.
    pub block: u32,
    /// Channels of the input: columns of every linear, and scales.
    pub n_in: usize,
    /// Matrices whose columns are multiplied and which are then quantized.
    pub linears: Vec<String>,
    /// Matrices and vectors whose columns are multiplied and which stay floats: routers.
    pub others: Vec<String>,
    /// The tensor whose input statistics are the group's: the router where there is one, as it
    /// sees every token, else the first linear.
    pub input: String,
    /// What is divided.
    pub sources: Vec<Source>,
    /// The only expert of `linears` that the group is about; None: all there are.
    pub expert: Option<Expert>,
    /// Columns that must be scaled alike.
    pub shared: Option<SharedHeads>,
}

impl Group {
    /// Makes numbers of columns, [n_in], equal where their scales must be: each becomes the mean
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

/// Every group of `model`, block by block.
///
/// # Errors
/// An architecture, or a tensor in a block, of which it is not known here what reads what; the
/// caller may go on without scaling. Or readers of one norm that differ in width.
pub fn groups(model: &Model) -> Result<Vec<Group>> {
    let architecture = model.architecture();
    let unknown = || Error::UnknownArchitecture { found: architecture.into() };
    let family = FAMILIES.iter().find(|f| f.name == architecture).ok_or_else(unknown)?;
    let mut numbers = BTreeSet::new();
    for tensor in model.tensors() {
        let Some(number) = tensor.info.block() else { continue };
        numbers.insert(number);
        if !is_known(&tensor.info.name) {
            let (name, architecture) = (tensor.info.name.clone(), architecture.into());
            return Err(Error::UnknownTensor { name, architecture });
        }
    }
    let mut found = Vec::new();
    for number in numbers {
        let block = Block { model, family, number };
        found.extend(block.norms()?);
        found.extend(block.values()?);
        MLPS.iter().for_each(|mlp| found.extend(block.mlp(*mlp)));
    }
    Ok(found)
}

/// True if it is known which norm `name` reads, or that it reads none.
fn is_known(name: &str) -> bool {
    let rest = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let stem =
        rest.and_then(|(_, rest)| rest.strip_suffix(".weight").or(rest.strip_suffix(".bias")));
    let known = [ATTENTION_READERS, MLP_READERS, OTHERS];
    stem.is_some_and(|stem| known.iter().any(|names| names.contains(&stem)))
}

/// One block being looked at.
struct Block<'m> {
    model: &'m Model,
    family: &'static Family,
    number: u32,
}

impl<'m> Block<'m> {
    fn tensor(&self, stem: &str, suffix: &str) -> Option<&'m TensorInfo> {
        let name = format!("blk.{}.{stem}.{suffix}", self.number);
        self.model.tensor(&name).map(|tensor| tensor.info)
    }

    fn weight(&self, stem: &str) -> Option<&'m TensorInfo> {
        self.tensor(stem, "weight")
    }

    /// The source `stem.suffix`, if it is there: from `first` on, counted as `axis` says.
    fn source(&self, stem: &str, suffix: &str, axis: Axis, first: usize) -> Option<Source> {
        let info = self.tensor(stem, suffix)?;
        let len = match axis {
            Axis::Columns => info.n_cols() as usize,
            Axis::Rows => info.n_rows() as usize,
        };
        Some(Source { name: info.name.clone(), axis, first, len })
    }

    fn group(&self, name: &str, n_in: usize, linear: &TensorInfo) -> Group {
        Group {
            name: format!("blk.{}.{name}", self.number),
            block: self.number,
            n_in,
            linears: vec![linear.name.clone()],
            others: Vec::new(),
            input: linear.name.clone(),
            sources: Vec::new(),
            expert: None,
            shared: None,
        }
    }

    /// The norms with their readers: one group if attention and MLP share a norm.
    fn norms(&self) -> Result<Vec<Group>> {
        let Family { attn_norm, ffn_norm, .. } = *self.family;
        if attn_norm == ffn_norm {
            let readers = [ATTENTION_READERS, MLP_READERS].concat();
            return Ok(self.norm(attn_norm, &readers)?.into_iter().collect());
        }
        let groups = [self.norm(attn_norm, ATTENTION_READERS)?, self.norm(ffn_norm, MLP_READERS)?];
        Ok(groups.into_iter().flatten().collect())
    }

    fn norm(&self, norm: &str, readers: &[&str]) -> Result<Option<Group>> {
        let Some(gains) = self.weight(norm) else { return Ok(None) };
        let readers: Vec<_> = readers.iter().filter_map(|stem| self.weight(stem)).collect();
        let Some(first) = readers.first().filter(|r| r.n_cols() > 0) else { return Ok(None) };
        for reader in &readers {
            let (found, expected) = (reader.n_cols(), gains.n_cols());
            if found != expected {
                let (name, like) = (reader.name.clone(), gains.name.clone());
                return Err(Error::GroupWidth { name, found, expected, like });
            }
        }
        let mut group = self.group(norm, gains.n_cols() as usize, first);
        let (linears, others): (Vec<_>, Vec<_>) = readers.iter().partition(|r| is_convertible(r));
        let names = |infos: Vec<&TensorInfo>| infos.iter().map(|info| info.name.clone()).collect();
        (group.linears, group.others) = (names(linears), names(others));
        let part = |suffix| self.source(norm, suffix, Axis::Columns, 0);
        group.sources = ["weight", "bias"].into_iter().filter_map(part).collect();
        Ok(Some(group))
    }

    /// attn_v's rows with attn_output's columns; None where heads cannot be told apart.
    fn values(&self) -> Result<Option<Group>> {
        let key = "attention.head_count";
        let n_head = self.model.hparam_of_block(key, self.number)?;
        Ok(self.values_of(n_head))
    }

    fn values_of(&self, n_head: Option<u64>) -> Option<Group> {
        let output = self.weight("attn_output")?;
        let n_in = output.n_cols() as usize;
        let stem = if self.weight("attn_qkv").is_some() { "attn_qkv" } else { "attn_v" };
        let n_rows = self.weight(stem)?.n_rows() as usize;
        // In attn_qkv: n_in rows of q, then as many of k as of v.
        let n_value = match stem {
            "attn_v" => n_rows,
            _ => n_rows.checked_sub(n_in)? / 2,
        };
        let n_sharing = n_in.checked_div(n_value)?;
        if n_sharing * n_value != n_in || n_sharing == 0 {
            return None;
        }
        let mut group = self.group(stem, n_in, output);
        if n_sharing > 1 {
            let head_len = n_in / n_head?.max(1) as usize;
            if head_len == 0 || !n_value.is_multiple_of(head_len) {
                return None;
            }
            group.shared = Some(SharedHeads { head_len, n_sharing });
        }
        let first = n_rows - n_value;
        let bias = |stem| {
            let len = self.tensor(stem, "bias")?.n_cols() as usize;
            self.source(stem, "bias", Axis::Columns, len.checked_sub(n_value)?)
        };
        group.sources.extend(self.source(stem, "weight", Axis::Rows, first));
        group.sources.extend(["attn_qkv", "attn_v"].into_iter().filter_map(bias));
        Some(group)
    }

    /// The up matrix's rows with the down matrix's columns, each expert by itself. Empty without
    /// a gate: the rows then pass a function that is not linear.
    fn mlp(&self, [gate, up, down]: [&str; 3]) -> Vec<Group> {
        let (Some(rows), Some(columns)) = (self.weight(up), self.weight(down)) else {
            return Vec::new();
        };
        let fused = self.family.fused_up && self.weight(gate).is_none();
        if !fused && self.weight(gate).is_none() {
            return Vec::new();
        }
        let (n_in, n_rows) = (columns.n_cols() as usize, rows.n_rows() as usize);
        let count = columns.shape.iter().skip(2).product::<u64>() as usize;
        let per_expert = n_rows.checked_div(count).unwrap_or(0);
        if n_in == 0
            || per_expert * count != n_rows
            || per_expert != n_in * (1 + usize::from(fused))
        {
            return Vec::new();
        }
        let group = |index: usize| {
            let mut group = self.group(up, n_in, columns);
            let last = (index + 1) * per_expert - n_in;
            group.sources.extend(self.source(up, "weight", Axis::Rows, last));
            group.sources.extend(self.source(up, "bias", Axis::Columns, per_expert - n_in));
            if count > 1 {
                group.name = format!("{}[{index}]", group.name);
                group.expert = Some(Expert { index, count });
            }
            group
        };
        (0..count).map(group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Builder, GgmlType};

    /// A model of `tensors` with their shapes, and 4 query heads.
    fn model(architecture: &str, tensors: &[(&str, &[u64])]) -> Model {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Builder::new();
        file.kv("general.architecture", architecture)
            .kv(format!("{architecture}.attention.head_count"), 4u32);
        for (name, shape) in tensors {
            let bytes = vec![0; shape.iter().product::<u64>() as usize * 4];
            file.tensor(name, shape, GgmlType::F32, bytes).unwrap();
        }
        let path = folder.path().join("model.gguf");
        file.write(&path).unwrap();
        Model::open(&path).unwrap()
    }

    fn source(name: &str, axis: Axis, first: usize, len: usize) -> Source {
        Source { name: name.into(), axis, first, len }
    }

    #[test]
    fn fused_matrices_are_divided_in_their_last_rows() {
        let model = model(
            "phi3",
            &[
                ("blk.7.attn_norm.weight", &[8]),
                ("blk.7.attn_qkv.weight", &[8, 16]),
                ("blk.7.attn_qkv.bias", &[16]),
                ("blk.7.attn_output.weight", &[8, 8]),
                ("blk.7.ffn_norm.weight", &[8]),
                ("blk.7.ffn_up.weight", &[8, 24]),
                ("blk.7.ffn_down.weight", &[12, 8]),
            ],
        );
        let groups = groups(&model).unwrap();
        let names: Vec<_> = groups.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(
            names,
            ["attn_norm", "ffn_norm", "attn_qkv", "ffn_up"].map(|n| format!("blk.7.{n}"))
        );
        let [_, _, values, up] = &groups[..] else { panic!("{names:?}") };
        // 8 rows of q, 4 of k, 4 of v: two query heads of 2 channels share each kv head.
        assert_eq!(values.shared, Some(SharedHeads { head_len: 2, n_sharing: 2 }));
        let expected = [
            source("blk.7.attn_qkv.weight", Axis::Rows, 12, 16),
            source("blk.7.attn_qkv.bias", Axis::Columns, 12, 16),
        ];
        assert_eq!(values.sources, expected);
        assert_eq!((0..4).map(|i| values.column_of(i)).collect::<Vec<_>>(), [0, 1, 4, 5]);
        let mut means = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 8.0, 0.0];
        values.tie(&mut means);
        assert_eq!(means, [2.0, 3.0, 2.0, 3.0, 4.0, 0.0, 4.0, 0.0]);
        assert_eq!(up.sources, [source("blk.7.ffn_up.weight", Axis::Rows, 12, 24)]);
        assert_eq!((up.n_in, &up.linears[0][..]), (12, "blk.7.ffn_down.weight"));
    }

    #[test]
    fn a_router_is_scaled_and_not_quantized_and_each_expert_is_a_group() {
        let model = model(
            "qwen2moe",
            &[
                ("blk.0.ffn_norm.weight", &[8]),
                ("blk.0.ffn_gate_inp.weight", &[8, 3]),
                ("blk.0.ffn_gate_exps.weight", &[8, 6, 3]),
                ("blk.0.ffn_up_exps.weight", &[8, 6, 3]),
                ("blk.0.ffn_down_exps.weight", &[6, 8, 3]),
                ("blk.0.ffn_gate_inp_shexp.weight", &[8]),
                ("blk.0.ffn_gate_shexp.weight", &[8, 6]),
                ("blk.0.ffn_up_shexp.weight", &[8, 6]),
                ("blk.0.ffn_down_shexp.weight", &[6, 8]),
            ],
        );
        let groups = groups(&model).unwrap();
        assert_eq!(groups.len(), 5);
        let norm = &groups[0];
        let routers = ["blk.0.ffn_gate_inp.weight", "blk.0.ffn_gate_inp_shexp.weight"];
        assert_eq!(
            (&norm.others[..], &norm.input[..]),
            (&routers.map(String::from)[..], routers[0])
        );
        assert_eq!(norm.linears.len(), 4);
        assert_eq!(groups[2].name, "blk.0.ffn_up_exps[1]");
        assert_eq!(groups[2].expert, Some(Expert { index: 1, count: 3 }));
        assert_eq!(groups[2].sources, [source("blk.0.ffn_up_exps.weight", Axis::Rows, 6, 18)]);
        assert_eq!(groups[4].expert, None);
    }

    #[test]
    fn parallel_blocks_have_one_group_for_their_norm() {
        let model = model(
            "command-r",
            &[
                ("blk.0.attn_norm.weight", &[8]),
                ("blk.0.attn_q.weight", &[8, 8]),
                ("blk.0.attn_k.weight", &[8, 8]),
                ("blk.0.attn_v.weight", &[8, 8]),
                ("blk.0.ffn_up.weight", &[8, 12]),
                ("blk.0.ffn_down.weight", &[12, 8]),
            ],
        );
        let groups = groups(&model).unwrap();
        // No gate: the rows of ffn_up stay.
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].linears.len(), 4);
    }

    #[test]
    fn what_is_not_known_is_not_scaled() {
        let error = groups(&model("gpt2", &[])).unwrap_err();
        assert!(matches!(error, Error::UnknownArchitecture { .. }), "{error}");
        let strange = [("blk.0.attn_norm.weight", &[8][..]), ("blk.0.attn_gate.weight", &[8, 8])];
        let error = groups(&model("llama", &strange)).unwrap_err();
        assert!(error.to_string().contains("'blk.0.attn_gate.weight'"), "{error}");
        let narrow = [("blk.0.attn_norm.weight", &[8][..]), ("blk.0.attn_q.weight", &[6, 8])];
        let error = groups(&model("llama", &narrow)).unwrap_err();
        assert!(matches!(error, Error::GroupWidth { found: 6, expected: 8, .. }), "{error}");
        // Far-away numbers and empty tensors cost nothing.
        let empty = [
            ("blk.4294967295.attn_norm.weight", &[0][..]),
            ("blk.4294967295.attn_q.weight", &[0, 8]),
            ("blk.4294967295.attn_v.weight", &[0, 0]),
            ("blk.4294967295.attn_output.weight", &[0, 0]),
            ("blk.4294967295.ffn_gate.weight", &[0, 0]),
            ("blk.4294967295.ffn_up.weight", &[0, 0]),
            ("blk.4294967295.ffn_down.weight", &[0, 0]),
        ];
        assert_eq!(groups(&model("llama", &empty)).unwrap(), []);
    }
}
