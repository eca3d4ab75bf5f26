//! The residual stream in a graph: which nodes carry it, followed forward from the embeddings.
//!
//! ```text
//! root            the looked-up embeddings                              point 0
//! sum             stream + what is not of the stream                    the next point
//! rescaled        stream * c, stream * weight                           the next point
//! views, rows     reshape, view, cont, get_rows of the stream           the same point
//! ```
//! Names are not used, because they differ between architectures: only the graph's shape counts.
//! The same walk runs over a recorded graph and, node by node, beside every decode: a point has the
//! same number in both.

use std::collections::HashMap;

use llama_cpp_sys_2 as sys;
use serde::{Deserialize, Serialize};

use super::names::{name_of, plain_name};

/// Follows the stream through one graph after the other.
#[derive(Debug, Clone)]
pub(in crate::llama) struct Stream {
    root: Root,
    /// Points by the address of each node that carries one.
    points: HashMap<usize, u32>,
    /// Points by the names of nodes: with several devices a graph holds copies.
    by_name: HashMap<String, u32>,
    n_points: u32,
    width: i64,
    /// Nodes seen in this decode that may be the root.
    n_alike: u32,
    /// True once an adapter's part was added to the embeddings.
    is_adapted: bool,
}

/// The node that a stream begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::llama) struct Root {
    /// Its operation.
    pub op: u32,
    /// The table that it looks rows up in, because an adapter changes the names of nodes; of other
    /// operations the node's own name.
    pub name: String,
    /// How many nodes like it come before it in a graph.
    pub before: u32,
    /// How many of them a graph has.
    pub n_alike: u32,
}

impl Root {
    /// True for the root and for nodes that differ from it only by their order.
    pub(crate) fn is_like(&self, node: &sys::ggml_tensor) -> bool {
        node.op == self.op && Root::name_of(node) == self.name
    }

    /// What identifies a root, beside its operation.
    pub(crate) fn name_of(node: &sys::ggml_tensor) -> String {
        // SAFETY: the sources of a node of a live graph are live, or null.
        let table = unsafe { node.src[0].as_ref() }.filter(|_| node.op == sys::GGML_OP_GET_ROWS);
        plain_name(&name_of(table.unwrap_or(node))).to_owned()
    }
}

impl Stream {
    /// A stream of which no node was seen yet.
    pub(crate) fn new(root: Root) -> Stream {
        let (points, by_name) = (HashMap::new(), HashMap::new());
        Stream { root, points, by_name, n_points: 0, width: 0, n_alike: 0, is_adapted: false }
    }

    /// A decode begins: one before may have ended early.
    pub(crate) fn begin(&mut self) {
        (self.n_points, self.n_alike, self.is_adapted) = (0, 0, false);
        self.points.clear();
        self.by_name.clear();
    }

    /// True if an adapter's part is added to the embeddings: points are numbered without it.
    pub(crate) fn is_adapted(&self) -> bool {
        self.is_adapted
    }

    /// Visits the next node of a graph; its number if it is a point that no node before it was.
    /// At the root the next graph begins.
    pub(crate) fn visit(&mut self, node: &sys::ggml_tensor) -> Option<u32> {
        if self.is_root(node) {
            self.points.clear();
            self.by_name.clear();
            (self.n_points, self.width) = (0, node.ne[0]);
            return Some(self.enter(node));
        }
        if self.n_points == 0 {
            return None;
        }
        let carried = [0, 1].map(|i| self.point_of(node.src[i]));
        match (node.op, carried) {
            (op, [Some(point), _]) if carries_on(op) => {
                self.points.insert(address(node), point);
                if op != sys::GGML_OP_VIEW {
                    self.by_name.insert(name_of(node), point);
                }
                None
            }
            (sys::GGML_OP_SCALE, [Some(_), _]) => Some(self.enter(node)),
            (sys::GGML_OP_MUL | sys::GGML_OP_DIV, [Some(_), None]) if is_leaf(node.src[1]) => {
                Some(self.enter(node))
            }
            (sys::GGML_OP_ADD | sys::GGML_OP_SUB, [Some(_), _] | [_, Some(_)])
                if node.ne[0] == self.width =>
            {
                self.is_adapted |= is_of_adapter(node);
                Some(self.enter(node))
            }
            _ => None,
        }
    }

    fn is_root(&mut self, node: &sys::ggml_tensor) -> bool {
        if !self.root.is_like(node) {
            return false;
        }
        self.n_alike += 1;
        (self.n_alike - 1) % self.root.n_alike.max(1) == self.root.before
    }

    fn enter(&mut self, node: &sys::ggml_tensor) -> u32 {
        let point = self.n_points;
        self.n_points += 1;
        self.points.insert(address(node), point);
        self.by_name.insert(name_of(node), point);
        point
    }

    /// The point that a source of a node carries.
    pub(crate) fn point_of(&self, source: *mut sys::ggml_tensor) -> Option<u32> {
        // SAFETY: the sources of a node of a live graph are live, or null.
        let source = unsafe { source.as_ref() }?;
        if let Some(point) = self.points.get(&address(source)) {
            return Some(*point);
        }
        if source.op != sys::GGML_OP_NONE {
            return None;
        }
        let name = name_of(source);
        let original = plain_name(&name);
        (original != name).then(|| self.by_name.get(original).copied()).flatten()
    }
}

/// True for operations whose result holds rows of their first source and nothing else.
pub(super) fn carries_on(op: u32) -> bool {
    matches!(
        op,
        sys::GGML_OP_RESHAPE
            | sys::GGML_OP_VIEW
            | sys::GGML_OP_CONT
            | sys::GGML_OP_DUP
            | sys::GGML_OP_CPY
            | sys::GGML_OP_PERMUTE
            | sys::GGML_OP_TRANSPOSE
            | sys::GGML_OP_GET_ROWS
            | sys::GGML_OP_PAD
    )
}

/// True for the sum of looked-up rows and what an adapter makes of them (`build_inp_embd` of
/// llama.cpp's `src/llama-graph.cpp`): `rows + scale (b (rows of a))`.
fn is_of_adapter(sum: &sys::ggml_tensor) -> bool {
    let source = |node: &sys::ggml_tensor, i: usize| node.src[i];
    // SAFETY: the sources of nodes of a live graph are live, or null.
    let names = unsafe {
        let product = source(sum, 1).as_ref().and_then(|scaled| source(scaled, 0).as_ref());
        product.and_then(|product| source(product, 0).as_ref()).map(name_of)
    };
    names.is_some_and(|name| name.ends_with(".lora_b"))
}

fn is_leaf(node: *mut sys::ggml_tensor) -> bool {
    // SAFETY: the sources of a node of a live graph are live, or null.
    unsafe { node.as_ref() }.is_some_and(|node| node.op == sys::GGML_OP_NONE)
}

fn address(node: &sys::ggml_tensor) -> usize {
    std::ptr::from_ref(node) as usize
}
