//! A model's structure in a report: what its blocks read and write, blocks that are alike together.

use serde::{Deserialize, Serialize};

use crate::gguf::{Model, within_block};
use crate::llama::graph::{Input, Link, Point, PointKind, Structure, Writer};

/// Blocks whose residual writers are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writers {
    /// The first block.
    pub first_block: u32,
    /// The last block.
    pub last_block: u32,
    /// Their writers.
    pub tensors: Vec<WriterReport>,
}

/// A matrix whose rows are channels of the residual stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterReport {
    /// The name within its block.
    pub name: String,
    /// The half of the block that it ends: attention or mlp.
    pub part: String,
    /// ggml's name.
    #[serde(rename = "type")]
    pub ty: String,
    /// Inputs first.
    pub shape: Vec<u64>,
    /// What happens to its product before it is added, in order: names within the block, `norm` for
    /// a division by the root mean square, `routed` for a number that the model computes.
    pub through: Vec<String>,
}

/// What each block reads and adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructureReport {
    /// By runs of blocks that are alike.
    pub blocks: Vec<BlocksReport>,
    /// Tensors of the file that llama.cpp's graph of a short text does not read.
    pub unread: Vec<String>,
}

/// Blocks whose structure is alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlocksReport {
    /// The first block.
    pub first_block: u32,
    /// The last block.
    pub last_block: u32,
    /// Matrices that share an input, in order of evaluation.
    pub reads: Vec<ReadReport>,
    /// What is added to the residual stream, sum by sum.
    pub adds: Vec<AddReport>,
}

/// Matrices that share an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadReport {
    /// Names within the block.
    pub matrices: Vec<String>,
    /// What makes the input: stream, norm, gated, heads or other.
    pub input: String,
    /// The tensors that make it, within the block: gains and bias of the norm, the linear factor,
    /// the values.
    pub of: Vec<String>,
    /// True if scales of the input can be folded into those tensors.
    pub foldable: bool,
}

/// One sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddReport {
    /// sum, skip (an earlier value of the stream once more) or rescaled.
    pub kind: PointKind,
    /// The matrices whose products are added.
    pub writers: Vec<WriterReport>,
    /// The node of the graph that is not linear and hides the writers.
    pub obstacle: Option<String>,
}

/// The writers of each block; neighbours that are alike share an entry.
pub(super) fn residual_writers(model: &Model, structure: &Structure) -> Vec<Writers> {
    let mut runs: Vec<Writers> = Vec::new();
    for block in blocks(structure) {
        let of_block = structure.writers().filter(|writer| writer.block == block);
        let mut tensors: Vec<_> = of_block.map(|writer| writer_report(model, writer)).collect();
        tensors.sort_by(|a, b| (&a.part, &a.name).cmp(&(&b.part, &b.name)));
        if tensors.is_empty() {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.last_block + 1 == block && run.tensors == tensors => {
                run.last_block = block;
            }
            _ => runs.push(Writers { first_block: block, last_block: block, tensors }),
        }
    }
    runs
}

impl StructureReport {
    /// That of `model`.
    pub fn new(model: &Model, structure: &Structure) -> StructureReport {
        let mut runs: Vec<BlocksReport> = Vec::new();
        for block in blocks(structure) {
            let (reads, adds) = (reads(structure, block), adds(model, structure, block));
            match runs.last_mut() {
                Some(run)
                    if run.last_block + 1 == block && run.reads == reads && run.adds == adds =>
                {
                    run.last_block = block;
                }
                _ => runs.push(BlocksReport { first_block: block, last_block: block, reads, adds }),
            }
        }
        let names = model.tensors().map(|tensor| &tensor.info.name);
        // Which factors of RoPE are read depends on the length of the context.
        let unread = names.filter(|name| !structure.reads(name) && !name.starts_with("rope_"));
        let unread = unread.cloned().collect();
        StructureReport { blocks: runs, unread }
    }
}

fn blocks(structure: &Structure) -> Vec<u32> {
    let groups = structure.groups.iter().map(|group| group.block);
    let mut blocks: Vec<u32> = groups.chain(structure.writers().map(|w| w.block)).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

fn reads(structure: &Structure, block: u32) -> Vec<ReadReport> {
    let of_block = structure.groups.iter().filter(|group| group.block == block);
    let report = |group: &crate::llama::graph::Group| {
        let (input, of, foldable): (_, Vec<&str>, _) = match &group.input {
            Input::Stream => ("stream", Vec::new(), false),
            Input::Norm { gains, bias, alone } => {
                let of = gains.iter().chain(bias).map(String::as_str).collect();
                ("norm", of, *alone && gains.is_some())
            }
            Input::Gated { up } => ("gated", vec![&up.matrix.tensor], true),
            Input::Heads { values, .. } => ("heads", vec![&values.matrix.tensor], true),
            Input::Other => ("other", Vec::new(), false),
        };
        let matrices = group.matrices.iter().map(|reader| short(&reader.tensor)).collect();
        let input = input.to_owned();
        ReadReport { matrices, input, of: of.into_iter().map(short).collect(), foldable }
    };
    of_block.map(report).collect()
}

fn adds(model: &Model, structure: &Structure, block: u32) -> Vec<AddReport> {
    let of_block = structure.points.iter().filter(|point| point.block == Some(block));
    let report = |point: &Point| AddReport {
        kind: point.kind,
        writers: point.writers.iter().map(|writer| writer_report(model, writer)).collect(),
        obstacle: point.obstacle.as_ref().map(|o| format!("{} ({})", o.node, o.op)),
    };
    of_block.map(report).collect()
}

fn writer_report(model: &Model, writer: &Writer) -> WriterReport {
    let info = model.tensor(&writer.tensor).map(|tensor| tensor.info);
    let through = |link: &Link| match link {
        Link::Bias(name) | Link::Gains(name) | Link::Scale(name) => short(name),
        Link::RmsNorm => "norm".into(),
        Link::Routed => "routed".into(),
    };
    WriterReport {
        name: in_block(&writer.tensor).to_owned(),
        part: writer.part.name().to_owned(),
        ty: info.map_or_else(String::new, |info| info.ty.to_string()),
        shape: info.map_or_else(Vec::new, |info| info.shape.clone()),
        through: writer.links.iter().map(through).collect(),
    }
}

/// A tensor's name without its block.
fn in_block(name: &str) -> &str {
    within_block(name).unwrap_or(name)
}

/// The same without `.weight`.
pub(crate) fn short(name: &str) -> String {
    let name = in_block(name);
    name.strip_suffix(".weight").unwrap_or(name).to_owned()
}
