//! Records a model's graph as llama.cpp builds it, without reading a weight.
//!
//! `no_alloc` of `llama_model_params` makes llama.cpp read only a file's header and give every
//! tensor a buffer without memory; `llama_graph_reserve` (llama.cpp's `src/llama-ext.h`) then
//! builds the graph of a batch and computes nothing. What it costs does not depend on the size of
//! the weights.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, c_char};
use std::path::Path;

use llama_cpp_sys_2 as sys;

use super::names::name_of;
use super::stream::{Root, Stream};
use crate::gguf::{Model, Value};
use crate::llama::backend::backend;
use crate::llama::error::{Error, Result};
use crate::llama::log;

/// Tokens in the batch that the graph is of; the logits of one of them are asked for, so that the
/// selection of rows in the last block shows.
const N_TOKENS: u32 = 2;
const N_CTX: u32 = 64;
/// `GGML_MAX_SRC` of ggml.h.
const N_SRC: usize = 10;
/// A source, leaf or node, by its place in [`Graph::nodes`].
pub(super) type Id = usize;

/// A recorded graph. It holds nothing of llama.cpp's memory.
#[derive(Debug)]
pub(super) struct Graph {
    /// Nodes in order of evaluation, and leaves (weights, inputs, caches) before the first node
    /// that reads them.
    pub nodes: Vec<Node>,
    /// The nodes at which points of the residual stream begin, by the points' numbers.
    points: Vec<Id>,
    /// Who reads a node's result.
    readers: HashMap<Id, Vec<Id>>,
    /// The node that the residual stream begins with.
    pub root: Root,
    /// Whether there is a memory of past tokens.
    pub remembers: bool,
}

/// A node or a leaf.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// ggml's operation; `GGML_OP_NONE` for leaves.
    pub op: u32,
    /// As llama.cpp or ggml named it; a weight's is that of its tensor.
    pub name: String,
    /// Sources, by their place in ggml's list.
    pub src: [Option<Id>; N_SRC],
    /// Elements per dimension.
    pub ne: [i64; 4],
    /// Bytes from one element of a dimension to the next.
    pub nb: [usize; 4],
    /// Whose memory it shows.
    pub view_of: Option<Id>,
    /// From which byte of it on.
    pub view_offset: usize,
    /// The operation's own parameters.
    pub params: [i32; 4],
    /// The point of the residual stream that it carries.
    pub carries: Option<u32>,
    /// True for tensors of the model's file.
    pub is_weight: bool,
}

impl Graph {
    /// The graph of `model`, whose file is read up to the weights.
    ///
    /// # Errors
    /// llama.cpp does not know the model.
    pub(super) fn record(model: &Model) -> Result<Graph> {
        let path = &model.shards()[0].path;
        let skeleton = Skeleton::load(path, &overrides(model))?;
        let nodes = skeleton.nodes(path)?;
        let embeddings = nodes.iter().find(|node| is_embedding(node)).or(nodes.first());
        let Some(embeddings) = embeddings else {
            return Err(Error::Load { path: path.clone(), said: "its graph is empty".into() });
        };
        let graph =
            |root| Graph { remembers: skeleton.remembers(), ..Graph::of(model, &nodes, root) };
        let begun = graph(embeddings);
        if begun.points.iter().any(|id| is_sum(&begun.nodes[*id])) {
            return Ok(begun);
        }
        // Embeddings that only norms read, e.g. bloom's: the stream begins after the first norm.
        let reads = |node: &&&sys::ggml_tensor| {
            node.src.iter().any(|source| std::ptr::eq(*source, *embeddings))
        };
        let only_norms = nodes.iter().filter(reads).all(|node| is_norm_of(node, embeddings));
        let normed = nodes.iter().find(|node| only_norms && is_norm_of(node, embeddings));
        Ok(normed.map_or(begun, |normed| graph(normed)))
    }

    fn of(model: &Model, nodes: &[&sys::ggml_tensor], root: &sys::ggml_tensor) -> Graph {
        let like = Root { op: root.op, name: Root::name_of(root), before: 0, n_alike: 0 };
        let alike = || nodes.iter().filter(|node| like.is_like(node));
        let before = alike().take_while(|node| !std::ptr::eq(**node, root)).count() as u32;
        let root = Root { before, n_alike: alike().count() as u32, ..like.clone() };
        let mut recorder = Recorder { ids: HashMap::new(), nodes: Vec::new() };
        let (mut stream, mut points) = (Stream::new(root.clone()), Vec::new());
        for node in nodes {
            let begins = stream.visit(node).is_some();
            let carries = stream.point_of(std::ptr::from_ref(*node).cast_mut());
            let id = recorder.enter(node);
            points.extend(begins.then_some(id));
            recorder.nodes[id].carries = carries;
        }
        for node in recorder.nodes.iter_mut().filter(|node| node.op == sys::GGML_OP_NONE) {
            node.is_weight = model.tensor(&node.name).is_some();
        }
        let mut readers: HashMap<Id, Vec<Id>> = HashMap::new();
        for (id, node) in recorder.nodes.iter().enumerate() {
            for source in node.src.iter().flatten() {
                readers.entry(*source).or_default().push(id);
            }
        }
        Graph { nodes: recorder.nodes, points, readers, root, remembers: true }
    }

    /// The nodes that read `id`'s result.
    pub(super) fn readers(&self, id: Id) -> &[Id] {
        self.readers.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The node at which point `number` of the residual stream begins.
    pub(super) fn point(&self, number: u32) -> &Node {
        &self.nodes[self.points[number as usize]]
    }

    /// The weight that a product multiplies with; None for other nodes.
    pub(super) fn matrix_of(&self, node: &Node) -> Option<&Node> {
        let source = node.src[0].filter(|_| node.is_product())?;
        self.leaf(source).filter(|leaf| leaf.is_weight)
    }

    /// All that `from` are made of, themselves included, up to the nodes that carry the residual
    /// stream, the nearest of which come too.
    pub(super) fn back(&self, from: &[Id]) -> impl Iterator<Item = &Node> {
        let (mut seen, mut open) = (HashSet::new(), from.to_vec());
        std::iter::from_fn(move || {
            loop {
                let id = open.pop()?;
                if seen.insert(id) {
                    let node = &self.nodes[id];
                    let sources = node.src.iter().flatten();
                    open.extend(sources.filter(|_| node.carries.is_none()));
                    return Some(node);
                }
            }
        })
    }

    /// The leaf that views and reshapes show; None where something is computed.
    pub(super) fn leaf(&self, mut id: Id) -> Option<&Node> {
        loop {
            let node = &self.nodes[id];
            match node.op {
                sys::GGML_OP_NONE => return Some(node),
                op if is_view(op) => id = node.src[0]?,
                _ => return None,
            }
        }
    }
}

impl Node {
    /// True for matrix products.
    pub(super) fn is_product(&self) -> bool {
        matches!(self.op, sys::GGML_OP_MUL_MAT | sys::GGML_OP_MUL_MAT_ID)
    }

    /// How many elements its result has.
    pub(super) fn n_elements(&self) -> i64 {
        self.ne.iter().product()
    }
}

/// True for sums of two nodes.
pub(super) fn is_sum(node: &Node) -> bool {
    matches!(node.op, sys::GGML_OP_ADD | sys::GGML_OP_SUB)
}

/// True for operations that show their source's memory in another shape.
pub(super) fn is_view(op: u32) -> bool {
    matches!(
        op,
        sys::GGML_OP_RESHAPE | sys::GGML_OP_VIEW | sys::GGML_OP_PERMUTE | sys::GGML_OP_TRANSPOSE
    )
}

fn is_embedding(node: &sys::ggml_tensor) -> bool {
    // SAFETY: the sources of a node of a live graph are live, or null.
    let table = unsafe { node.src[0].as_ref() };
    node.op == sys::GGML_OP_GET_ROWS && table.is_some_and(|t| name_of(t) == "token_embd.weight")
}

fn is_norm_of(node: &sys::ggml_tensor, source: &sys::ggml_tensor) -> bool {
    let is_norm = matches!(node.op, sys::GGML_OP_NORM | sys::GGML_OP_RMS_NORM);
    is_norm && std::ptr::eq(node.src[0], source)
}

struct Recorder {
    ids: HashMap<*const sys::ggml_tensor, Id>,
    nodes: Vec<Node>,
}

impl Recorder {
    /// Records a tensor after its sources; where it is.
    fn enter(&mut self, tensor: &sys::ggml_tensor) -> Id {
        if let Some(id) = self.ids.get(&std::ptr::from_ref(tensor)) {
            return *id;
        }
        let mut of = |source: *mut sys::ggml_tensor| {
            // SAFETY: the sources of a tensor of a live graph are live, or null.
            let source = unsafe { source.as_ref() }?;
            // A cast names itself as its second source.
            (!std::ptr::eq(source, tensor)).then(|| self.enter(source))
        };
        let src = tensor.src.map(&mut of);
        let view_of = of(tensor.view_src);
        let id = self.nodes.len();
        self.nodes.push(Node {
            op: tensor.op,
            name: name_of(tensor),
            src,
            ne: tensor.ne,
            nb: tensor.nb,
            view_of,
            view_offset: tensor.view_offs,
            params: [0, 1, 2, 3].map(|i| tensor.op_params[i]),
            carries: None,
            is_weight: false,
        });
        self.ids.insert(tensor, id);
        id
    }
}

/// A model without weights, and a context of it.
struct Skeleton {
    model: *mut sys::llama_model,
    context: *mut sys::llama_context,
}

// llama.cpp's `src/llama-ext.h` declares this in C++, so that it has a mangled name.
unsafe extern "C" {
    #[cfg_attr(not(target_env = "msvc"), link_name = "_Z19llama_graph_reserveP13llama_contextjjj")]
    #[cfg_attr(
        target_env = "msvc",
        link_name = "?llama_graph_reserve@@YAPEAUggml_cgraph@@PEAUllama_context@@III@Z"
    )]
    fn llama_graph_reserve(
        context: *mut sys::llama_context,
        n_tokens: u32,
        n_seqs: u32,
        n_outputs: u32,
    ) -> *mut sys::ggml_cgraph;
}

impl Skeleton {
    fn load(path: &Path, overrides: &[sys::llama_model_kv_override]) -> Result<Skeleton> {
        backend()?;
        log::clear();
        let failed = || Error::Load { path: path.into(), said: log::last_errors() };
        let file = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| failed())?;
        // SAFETY: `file` and `overrides` outlive the load; the defaults are llama.cpp's own.
        let model = unsafe {
            let mut params = sys::llama_model_default_params();
            params.no_alloc = true;
            params.load_mode = sys::LLAMA_LOAD_MODE_NONE;
            params.n_gpu_layers = 0;
            params.kv_overrides = overrides.as_ptr();
            sys::llama_model_load_from_file(file.as_ptr(), params)
        };
        if model.is_null() {
            return Err(failed());
        }
        // Freed when dropped, also if there is no context.
        let mut skeleton = Skeleton { model, context: std::ptr::null_mut() };
        // SAFETY: the model is live.
        skeleton.context = unsafe {
            let mut params = sys::llama_context_default_params();
            (params.n_ctx, params.n_batch, params.n_ubatch) = (N_CTX, N_TOKENS, N_TOKENS);
            params.n_seq_max = 1;
            params.no_perf = true;
            sys::llama_init_from_model(model, params)
        };
        match skeleton.context.is_null() {
            true => Err(Error::Context { n_ctx: N_CTX, said: log::last_errors() }),
            false => Ok(skeleton),
        }
    }

    fn remembers(&self) -> bool {
        // SAFETY: the context is live.
        !unsafe { sys::llama_get_memory(self.context) }.is_null()
    }

    /// The nodes of the graph, in order of evaluation.
    fn nodes(&self, path: &Path) -> Result<Vec<&sys::ggml_tensor>> {
        // SAFETY: the context is live; the graph is valid until the next call, which does not come
        // before `self` is dropped, and so are its nodes.
        unsafe {
            let graph = llama_graph_reserve(self.context, N_TOKENS, 1, 1);
            if graph.is_null() {
                return Err(Error::Load { path: path.into(), said: log::last_errors() });
            }
            let node = |i| sys::ggml_graph_node(graph, i).as_ref();
            Ok((0..sys::ggml_graph_n_nodes(graph)).filter_map(node).collect())
        }
    }
}

impl Drop for Skeleton {
    fn drop(&mut self) {
        // SAFETY: both came from llama.cpp, are freed once, the context first; null is allowed.
        unsafe {
            sys::llama_free(self.context);
            sys::llama_model_free(self.model);
        }
    }
}

/// Keys to read with other values than the file's, and the empty one that ends the list: the
/// vocabulary is left out, because building it takes longer than all the rest.
fn overrides(model: &Model) -> Vec<sys::llama_model_kv_override> {
    // SAFETY: a plain C struct, of which all zeros are a value.
    let empty = || unsafe { std::mem::zeroed::<sys::llama_model_kv_override>() };
    let fill = |to: &mut [c_char], text: &str| {
        to.iter_mut().zip(text.bytes()).for_each(|(to, byte)| *to = byte as c_char);
    };
    let size_key = format!("{}.vocab_size", model.architecture());
    let Some(Value::Array(tokens)) = model.kv().get("tokenizer.ggml.tokens") else {
        return vec![empty()];
    };
    let (mut kind, mut size) = (empty(), empty());
    // Of 128 bytes, the last of which ends the text.
    if size_key.len() >= size.key.len() {
        return vec![empty()];
    }
    fill(&mut kind.key, "tokenizer.ggml.model");
    kind.tag = sys::LLAMA_KV_OVERRIDE_TYPE_STR;
    // SAFETY: the union is written before it is read, as the type that the tag names.
    fill(unsafe { &mut kind.__bindgen_anon_1.val_str }, "none");
    fill(&mut size.key, &size_key);
    size.tag = sys::LLAMA_KV_OVERRIDE_TYPE_INT;
    size.__bindgen_anon_1.val_i64 = tokens.len() as i64;
    vec![kind, size, empty()]
}
