//! The residual stream in a graph: which nodes carry it, followed forward from the embeddings.
//!
//! ```text
//! root            the looked-up embeddings                              point 0
//! sum             stream + what is not of the stream                    the next point
//! rescaled        stream * c, stream * weight                           the next point
//! views, rows     reshape, view, cont, get_rows of the stream           the same point
//! ```
//! Names are not needed, which differ between architectures: only the graph's shape counts. The
//! same walk runs over a recorded graph and, node by node, beside every decode: a point has the
//! same number in both.

use std::collections::HashMap;

use llama_cpp_sys_2 as sys;
use serde::{Deserialize, Serialize};

use super::record::{name_of, plain_name};

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
    /// Nodes seen that may be the root by their names.
    n_alike: u32,
}

/// The node that a stream begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::llama) struct Root {
    /// Its name.
    pub name: String,
    /// Its operation.
    pub op: u32,
    /// How many nodes of that name and operation come before it in a graph.
    pub before: u32,
    /// How many of them a graph has.
    pub n_alike: u32,
}

impl Stream {
    /// Nothing seen yet.
    pub fn new(root: Root) -> Stream {
        let (points, by_name) = (HashMap::new(), HashMap::new());
        Stream { root, points, by_name, n_points: 0, width: 0, n_alike: 0 }
    }

    /// Looks at the next node of a graph; its number if it is a point that no node before it was.
    /// The root begins a graph anew.
    pub fn visit(&mut self, node: &sys::ggml_tensor) -> Option<u32> {
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
                Some(self.enter(node))
            }
            _ => None,
        }
    }

    fn is_root(&mut self, node: &sys::ggml_tensor) -> bool {
        let Root { name, op, before, n_alike } = &self.root;
        if node.op != *op || name_of(node) != *name {
            return false;
        }
        self.n_alike += 1;
        (self.n_alike - 1) % (*n_alike).max(1) == *before
    }

    fn enter(&mut self, node: &sys::ggml_tensor) -> u32 {
        let point = self.n_points;
        self.n_points += 1;
        self.points.insert(address(node), point);
        self.by_name.insert(name_of(node), point);
        point
    }

    /// The point that a source of a node carries.
    pub fn point_of(&self, source: *mut sys::ggml_tensor) -> Option<u32> {
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

fn is_leaf(node: *mut sys::ggml_tensor) -> bool {
    // SAFETY: the sources of a node of a live graph are live, or null.
    unsafe { node.as_ref() }.is_some_and(|node| node.op == sys::GGML_OP_NONE)
}

fn address(node: &sys::ggml_tensor) -> usize {
    std::ptr::from_ref(node) as usize
}
