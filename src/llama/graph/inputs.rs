//! Which matrices share an input, and what computes it: AWQ may scale it, and a refit solves these
//! matrices together.

use std::collections::HashSet;

use indexmap::IndexMap;
use llama_cpp_sys_2 as sys;

use super::record::{Graph, Id, Node, is_view};
use super::structure::{Group, Input, Reader, Rows, Span};
use super::writers::source_weight;
use crate::gguf::block_of;

/// The groups of the blocks' matrices, in order of evaluation.
pub(super) fn groups(graph: &Graph) -> Vec<Group> {
    // By block, width and place of the input.
    let mut by_input: IndexMap<(u32, i64, Id), Vec<Reader>> = IndexMap::new();
    for node in &graph.nodes {
        let Some((weight, input)) = product_of(graph, node) else { continue };
        let Some(block) = block_of(&weight.name) else { continue };
        let matrices = by_input.entry((block, weight.ne[0], input)).or_default();
        if !matrices.iter().any(|known| known.tensor == weight.name) {
            let experts = node.op == sys::GGML_OP_MUL_MAT_ID;
            matrices.push(Reader { tensor: weight.name.clone(), experts });
        }
    }
    let group = |((block, n_in, input), matrices): ((u32, i64, Id), Vec<Reader>)| {
        let made = InputTracer { graph, matrices: &matrices, n_in }.of(input);
        Group { block, matrices, input: made.unwrap_or(Input::Other) }
    };
    by_input.into_iter().map(group).collect()
}

/// True if a block's matrix is multiplied more than once: the model loops over its blocks.
pub(super) fn loops(graph: &Graph) -> bool {
    let mut seen = HashSet::new();
    let weights = graph.nodes.iter().filter_map(|node| graph.matrix_of(node));
    weights.filter(|weight| block_of(&weight.name).is_some()).any(|w| !seen.insert(&w.name))
}

/// The weight of a product, and where its input is computed, ignoring shape.
fn product_of<'g>(graph: &'g Graph, node: &Node) -> Option<(&'g Node, Id)> {
    Some((graph.matrix_of(node)?, past_reshapes(graph, node.src[1]?)))
}

/// Goes back through operations that only change the shape or choose rows: the last block goes on
/// with the tokens whose logits are asked for, and of a parallel block only the MLP does.
fn past_reshapes(graph: &Graph, mut id: Id) -> Id {
    loop {
        let node = &graph.nodes[id];
        if node.carries.is_some() {
            return id;
        }
        let reshaped = match node.op {
            sys::GGML_OP_RESHAPE | sys::GGML_OP_CONT | sys::GGML_OP_GET_ROWS => node.src[0],
            sys::GGML_OP_VIEW => node.src[0].filter(|source| {
                graph.nodes[*source].n_elements() == node.n_elements() && node.view_offset == 0
            }),
            _ => None,
        };
        match reshaped {
            Some(source) => id = source,
            None => return id,
        }
    }
}

/// Finds what computes the input of some matrices.
struct InputTracer<'g> {
    graph: &'g Graph,
    matrices: &'g [Reader],
    n_in: i64,
}

impl InputTracer<'_> {
    fn of(&self, id: Id) -> Option<Input> {
        let node = &self.graph.nodes[id];
        if node.carries.is_some() {
            return Some(Input::Stream);
        }
        self.norm(id).or_else(|| self.gated(id)).or_else(|| self.heads(id))
    }

    /// `norm(x) * gains + bias`; gains and bias are optional.
    fn norm(&self, id: Id) -> Option<Input> {
        let (with_gains, bias) = self.weighted(id, sys::GGML_OP_ADD);
        let (norm, gains) = self.weighted(with_gains, sys::GGML_OP_MUL);
        let node = &self.graph.nodes[norm];
        let is_norm = matches!(node.op, sys::GGML_OP_RMS_NORM | sys::GGML_OP_NORM);
        let name = |weight: Option<&Node>| weight.map(|weight| weight.name.clone());
        let inner = [with_gains, norm].into_iter().filter(|inner| *inner != id);
        let alone = self.reads_alone(id)
            && inner.into_iter().all(|inner| self.graph.readers(inner).len() == 1)
            && [gains, bias].into_iter().flatten().all(|weight| {
                // A norm of each of several groups of channels has shorter gains.
                weight.ne[0] == self.n_in && self.is_used_once(weight)
            });
        is_norm.then(|| Input::Norm { gains: name(gains), bias: name(bias), alone })
    }

    /// The other operand and the weight, if `id` is `op` of something and a vector of the file.
    fn weighted(&self, id: Id, op: u32) -> (Id, Option<&Node>) {
        let node = &self.graph.nodes[id];
        let weight = node.src[1].filter(|_| node.op == op).and_then(|b| self.graph.leaf(b));
        match (weight.filter(|leaf| leaf.is_weight), node.src[0]) {
            (Some(weight), Some(source)) => (source, Some(weight)),
            _ => (id, None),
        }
    }

    fn is_used_once(&self, weight: &Node) -> bool {
        let named = |node: &&Node| node.op == sys::GGML_OP_NONE && node.name == weight.name;
        let uses = self.graph.nodes.iter().enumerate().filter(|(_, node)| named(node));
        uses.map(|(id, _)| self.graph.readers(id).len()).sum::<usize>() == 1
    }

    /// True if only this group's matrices read `id`.
    fn reads_alone(&self, id: Id) -> bool {
        self.graph.readers(id).iter().all(|reader| {
            let node = &self.graph.nodes[*reader];
            match node.op {
                _ if node.is_product() => {
                    let ours = self.graph.matrix_of(node).is_some_and(|weight| {
                        self.matrices.iter().any(|matrix| matrix.tensor == weight.name)
                    });
                    ours && node.src[1] == Some(id)
                }
                sys::GGML_OP_CONT => self.reads_alone(*reader),
                sys::GGML_OP_GET_ROWS if node.src[0] == Some(id) => self.reads_alone(*reader),
                op if is_view(op) => self.reads_alone(*reader),
                _ => false,
            }
        })
    }

    /// `act(gate) * up`, one node or two.
    fn gated(&self, id: Id) -> Option<Input> {
        let node = &self.graph.nodes[id];
        let alone = self.reads_alone(id);
        let up = match node.op {
            sys::GGML_OP_GLU => self.linear_half(node)?,
            sys::GGML_OP_MUL => {
                let [a, b] = [node.src[0]?, node.src[1]?];
                let acts = |id: Id| self.graph.nodes[id].op == sys::GGML_OP_UNARY;
                match (acts(a), acts(b)) {
                    (true, false) => self.rows(b)?,
                    (false, true) => self.rows(a)?,
                    _ => return None,
                }
            }
            _ => return None,
        };
        (alone && up.len as i64 == self.n_in).then_some(Input::Gated { up })
    }

    /// The rows that make the factor of a GLU node that passes through no function.
    fn linear_half(&self, node: &Node) -> Option<Rows> {
        let [kind, swapped, ..] = node.params;
        // gpt-oss's limits both factors and adds 1 to the linear one.
        if kind as u32 == sys::GGML_GLU_OP_SWIGLU_OAI {
            return None;
        }
        if let Some(up) = node.src[1] {
            return self.rows(up);
        }
        let both = self.rows(node.src[0]?)?;
        let len = both.len / 2;
        let shift = if swapped == 0 { len } else { 0 };
        let moved = |span: Span| Span { first: span.first + shift, ..span };
        let biases = both.biases.into_iter().map(moved).collect();
        Some(Rows { matrix: moved(both.matrix), biases, len })
    }

    /// The rows of a matrix whose products, biases added, are node `id`, which has no other reader.
    fn rows(&self, id: Id) -> Option<Rows> {
        let mut biases = Vec::new();
        let (mut id, mut first, mut len) = (id, 0u64, self.graph.nodes[id].ne[0] as u64);
        loop {
            let node = &self.graph.nodes[id];
            let source = node.src[0];
            let only = || self.graph.readers(id).len() == 1;
            match node.op {
                _ if node.is_product() => {
                    let weight = self.graph.matrix_of(node)?;
                    if !self.is_read_once(id) {
                        return None;
                    }
                    let whole = first + len <= weight.ne[1] as u64;
                    let tensor = weight.name.clone();
                    let once = self.is_used_once(weight);
                    let matrix = Span { tensor, first };
                    return (whole && once).then_some(Rows { matrix, biases, len });
                }
                sys::GGML_OP_ADD | sys::GGML_OP_ADD_ID => {
                    let bias = source_weight(self.graph, node.src[1]?)?;
                    if !only() {
                        return None;
                    }
                    biases.push(Span { tensor: bias, first });
                }
                // One scale of the file for all of a matrix (NVFP4), or one for each token.
                sys::GGML_OP_MUL if self.graph.nodes[node.src[1]?].ne[0] == 1 && only() => {}
                sys::GGML_OP_SCALE if only() => {}
                sys::GGML_OP_VIEW => {
                    let whole = &self.graph.nodes[node.view_of?];
                    // The offset counts in the memory that is shown, through views of views.
                    (first, len) = part(node, whole)?;
                    id = node.view_of?;
                    continue;
                }
                sys::GGML_OP_RESHAPE | sys::GGML_OP_CONT => {
                    let n = self.graph.nodes[source?].ne[0] as u64;
                    len = len.max(n);
                }
                _ => return None,
            }
            id = source?;
        }
    }

    /// True if one node reads a product, or views that show parts of its rows.
    fn is_read_once(&self, id: Id) -> bool {
        let readers = self.graph.readers(id);
        let whole = self.graph.nodes[id].n_elements();
        let shows_a_part = |reader: &Id| {
            let node = &self.graph.nodes[*reader];
            node.op == sys::GGML_OP_VIEW && node.n_elements() < whole
        };
        readers.len() == 1 || readers.iter().all(shows_a_part)
    }

    /// Attention's result, heads side by side, perhaps times a gate.
    fn heads(&self, id: Id) -> Option<Input> {
        if !self.reads_alone(id) {
            return None;
        }
        let mut id = id;
        let (query, value) = loop {
            let node = &self.graph.nodes[id];
            match node.op {
                sys::GGML_OP_FLASH_ATTN_EXT => break (node.src[0]?, node.src[2]?),
                sys::GGML_OP_MUL_MAT if self.graph.leaf(node.src[0]?).is_none() => {
                    break (node.src[1]?, node.src[0]?);
                }
                sys::GGML_OP_MUL_MAT if self.cache_of(node.src[0]?).is_some() => {
                    break (node.src[1]?, node.src[0]?);
                }
                sys::GGML_OP_CONT | sys::GGML_OP_RESHAPE => id = node.src[0]?,
                sys::GGML_OP_PERMUTE => id = node.src[0]?,
                sys::GGML_OP_MUL => {
                    let gate = |id: Id| {
                        let inner = &self.graph.nodes[past_reshapes(self.graph, id)];
                        inner.op == sys::GGML_OP_UNARY
                    };
                    let [a, b] = [node.src[0]?, node.src[1]?];
                    id = match (gate(a), gate(b)) {
                        (false, true) => a,
                        (true, false) => b,
                        _ => return None,
                    };
                }
                _ => return None,
            }
        };
        let (n_query, n_value) =
            (self.graph.nodes[query].ne[2] as u64, self.graph.nodes[value].ne[2] as u64);
        let values = self.rows(self.stored(value)?)?;
        let head_len = (self.n_in as u64).checked_div(n_query)?;
        let n_sharing = n_query.checked_div(n_value)?;
        let fits = head_len * n_query == self.n_in as u64
            && n_sharing * n_value == n_query
            && values.len == head_len * n_value;
        fits.then_some(Input::Heads { values, head_len, n_sharing })
    }

    /// What is stored as the values that attention reads: past a cache, or directly.
    fn stored(&self, value: Id) -> Option<Id> {
        let Some(cache) = self.cache_of(value) else {
            let mut id = value;
            loop {
                let node = &self.graph.nodes[id];
                match node.op {
                    sys::GGML_OP_CONT | sys::GGML_OP_CPY | sys::GGML_OP_DUP => id = node.src[0]?,
                    sys::GGML_OP_PERMUTE | sys::GGML_OP_TRANSPOSE => id = node.src[0]?,
                    _ => return Some(id),
                }
            }
        };
        let mut stores = self.graph.nodes.iter().filter(|node| {
            let is_store = matches!(node.op, sys::GGML_OP_SET_ROWS | sys::GGML_OP_CPY);
            is_store && node.view_of == Some(cache)
        });
        let store = stores.next().filter(|_| stores.next().is_none())?;
        // More than one reader: other blocks attend to the same values.
        let reads = |node: &&Node| {
            let attends = node.op == sys::GGML_OP_FLASH_ATTN_EXT || node.is_product();
            attends && node.src.iter().flatten().any(|s| self.cache_of(*s) == Some(cache))
        };
        let n_readers = self.graph.nodes.iter().filter(reads).count();
        (n_readers == 1).then_some(store.src[0]).flatten()
    }

    /// The cache whose memory a node shows.
    fn cache_of(&self, mut id: Id) -> Option<Id> {
        loop {
            let node = &self.graph.nodes[id];
            match node.op {
                sys::GGML_OP_NONE => return (!node.is_weight).then_some(id),
                sys::GGML_OP_CONT | sys::GGML_OP_CPY => id = node.src[0]?,
                op if is_view(op) => id = node.src[0]?,
                _ => return None,
            }
        }
    }
}

/// Which of a row's elements a view shows: the first, and how many; None if they do not lie side by
/// side.
fn part(view: &Node, whole: &Node) -> Option<(u64, u64)> {
    let (size, row) = (view.nb[0], whole.nb[1]);
    if size != whole.nb[0] || size == 0 || row == 0 {
        return None;
    }
    let (first, mut n) = ((view.view_offset % row / size) as u64, view.ne[0] as u64);
    // Heads of a row, in their own dimension.
    if view.ne[1] > 1 && view.nb[1] == view.ne[0] as usize * size && view.nb[1] < row {
        n *= view.ne[1] as u64;
    } else if view.ne[1] > 1 && view.nb[1] < row {
        return None;
    }
    Some((first, n))
}
