//! From a sum of the residual stream back to the matrices that write into it.

use std::collections::HashSet;

use llama_cpp_sys_2 as sys;

use super::names::op_name;
use super::record::{Graph, Id, Node, is_view};
use super::structure::{Link, Obstacle, Part, Writer};
use crate::gguf::block_of;

/// Walks back from one sum.
pub(super) struct Walk<'g> {
    graph: &'g Graph,
    /// Operations passed so far, from the stream on.
    links: Vec<Link>,
    seen: HashSet<Id>,
    /// Products with their writers, in the order found.
    found: Vec<(Id, Writer)>,
}

/// The matrices whose products enter a sum by the operands `from`.
///
/// # Errors
/// The first node on the way that is not linear.
pub(super) fn writers(graph: &Graph, from: &[Id]) -> Result<Vec<Writer>, Obstacle> {
    let mut walk = Walk { graph, links: Vec::new(), seen: HashSet::new(), found: Vec::new() };
    for id in from {
        walk.back(*id)?;
    }
    walk.found.sort_by_key(|(id, _)| *id);
    Ok(walk.found.into_iter().map(|(_, writer)| writer).collect())
}

impl Walk<'_> {
    fn back(&mut self, id: Id) -> Result<(), Obstacle> {
        let node = &self.graph.nodes[id];
        // An earlier value of the stream is not a writer. Each node counts once: an expert's
        // product is summed through a view for each place in the token's list.
        if node.carries.is_some() || !self.seen.insert(id) {
            return Ok(());
        }
        match node.op {
            // An input that is not a weight: no matrix writes it.
            sys::GGML_OP_NONE => Ok(()),
            sys::GGML_OP_ADD | sys::GGML_OP_SUB => self.sum(node),
            sys::GGML_OP_ADD_ID => {
                let bias = self.source_weight(node.src[1]);
                let bias = bias.ok_or_else(|| obstacle(node))?;
                self.through(Link::Bias(bias), node.src[0])
            }
            sys::GGML_OP_MUL => self.product(node),
            sys::GGML_OP_RMS_NORM => self.through(Link::RmsNorm, node.src[0]),
            // Rows of a table by position or token.
            sys::GGML_OP_GET_ROWS if self.source_weight(node.src[0]).is_some() => Ok(()),
            op if is_view(op) || keeps_channels(op) => match node.src[0] {
                Some(source) => self.back(source),
                None => Ok(()),
            },
            _ if node.is_product() => self.writer(id, node),
            _ => Err(obstacle(node)),
        }
    }

    fn through(&mut self, link: Link, source: Option<Id>) -> Result<(), Obstacle> {
        let Some(source) = source else { return Ok(()) };
        self.links.push(link);
        self.back(source)?;
        self.links.pop();
        Ok(())
    }

    fn sum(&mut self, node: &Node) -> Result<(), Obstacle> {
        let [a, b, ..] = node.src;
        if let Some(bias) = self.source_weight(b) {
            return self.through(Link::Bias(bias), a);
        }
        if let Some(bias) = self.source_weight(a) {
            return self.through(Link::Bias(bias), b);
        }
        for operand in [a, b].into_iter().flatten() {
            self.back(operand)?;
        }
        Ok(())
    }

    fn product(&mut self, node: &Node) -> Result<(), Obstacle> {
        let [Some(a), Some(b), ..] = node.src else { return Err(obstacle(node)) };
        for (value, factor) in [(a, b), (b, a)] {
            let is_one = self.graph.nodes[factor].ne[0] == 1;
            if let Some(weight) = self.source_weight(Some(factor)) {
                let link = if is_one { Link::Scale } else { Link::Gains };
                return self.through(link(weight), Some(value));
            }
            if is_one && self.graph.nodes[value].ne[0] > 1 {
                return self.through(Link::Routed, Some(value));
            }
        }
        Err(obstacle(node))
    }

    fn writer(&mut self, id: Id, node: &Node) -> Result<(), Obstacle> {
        let matrix = self.graph.matrix_of(node).ok_or_else(|| obstacle(node))?;
        let block = block_of(&matrix.name).ok_or_else(|| obstacle(node))?;
        let part = match node.src[1].is_some_and(|input| mixes_tokens(self.graph, input)) {
            true => Part::Attention,
            false => Part::Mlp,
        };
        let (tensor, experts) = (matrix.name.clone(), node.op == sys::GGML_OP_MUL_MAT_ID);
        let links = self.links.iter().rev().cloned().collect();
        self.found.push((id, Writer { tensor, block, part, experts, links }));
        Ok(())
    }

    fn source_weight(&self, id: Option<Id>) -> Option<String> {
        source_weight(self.graph, id?)
    }
}

/// The weight whose numbers, repeated or chosen by row, are a node's.
pub(super) fn source_weight(graph: &Graph, mut id: Id) -> Option<String> {
    loop {
        let node = &graph.nodes[id];
        match node.op {
            sys::GGML_OP_NONE => return node.is_weight.then(|| node.name.clone()),
            sys::GGML_OP_REPEAT | sys::GGML_OP_GET_ROWS | sys::GGML_OP_CONT => id = node.src[0]?,
            op if is_view(op) => id = node.src[0]?,
            _ => return None,
        }
    }
}

/// True for operations whose rows are those of their first source, times constants or summed.
fn keeps_channels(op: u32) -> bool {
    matches!(
        op,
        sys::GGML_OP_SCALE
            | sys::GGML_OP_CONT
            | sys::GGML_OP_CPY
            | sys::GGML_OP_DUP
            | sys::GGML_OP_REPEAT
            | sys::GGML_OP_SUM_ROWS
            | sys::GGML_OP_GET_ROWS
    )
}

/// The last block of whose weights `from` is made, up to the residual stream.
pub(super) fn block_of_weights(graph: &Graph, from: &[Id]) -> Option<u32> {
    let weights = graph.back(from).filter(|node| node.is_weight);
    weights.filter_map(|node| block_of(&node.name)).max()
}

fn obstacle(node: &Node) -> Obstacle {
    Obstacle { node: node.name.clone(), op: op_name(node.op) }
}

/// True if what `from` is made of, up to the residual stream, mixes tokens.
fn mixes_tokens(graph: &Graph, from: Id) -> bool {
    graph.back(&[from]).filter(|node| node.carries.is_none()).any(|node| {
        let masked = node.op == sys::GGML_OP_SOFT_MAX && node.src[1].is_some();
        // cache_r also holds the past token of a shifted MLP (rwkv).
        let cached = ["cache_k", "cache_v", "cache_s"].iter().any(|c| node.name.starts_with(c));
        masked || is_mixer(node.op) || cached
    })
}

fn is_mixer(op: u32) -> bool {
    matches!(
        op,
        sys::GGML_OP_FLASH_ATTN_EXT
            | sys::GGML_OP_SSM_CONV
            | sys::GGML_OP_SSM_SCAN
            | sys::GGML_OP_RWKV_WKV6
            | sys::GGML_OP_RWKV_WKV7
            | sys::GGML_OP_GATED_LINEAR_ATTN
            | sys::GGML_OP_GATED_DELTA_NET
    )
}
