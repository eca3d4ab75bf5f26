//! Eval hooks: read and change activations while llama.cpp computes.
//!
//! llama.cpp's scheduler asks its eval callback about every node before and tells it after the
//! node was computed (`ggml_backend_sched_eval_callback` of `ggml/include/ggml-backend.h`). What
//! is written back in the second call is what the following nodes see. On any backend: rows go
//! through `ggml_backend_tensor_get` and `_set`.

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use llama_cpp_sys_2 as sys;

use super::error::{Error, Result};
use super::sites::{Site, SiteMap, plain_name};

/// Which sites a hook is for.
type At<'a> = Box<dyn Fn(Site) -> bool + 'a>;
/// Looks at one row at a site: the row's place in the batch, and the row.
pub type Read<'a> = Box<dyn FnMut(Site, usize, &[f32]) -> Result<()> + 'a>;
/// Changes one row at a site.
pub type Change<'a> = Box<dyn FnMut(Site, &mut [f32]) + 'a>;

/// What is done to a decode.
#[derive(Default)]
pub struct Hooks<'a> {
    reads: Vec<(At<'a>, Read<'a>)>,
    changes: Vec<(At<'a>, Change<'a>)>,
    /// Rows of the batch that are read; all if None.
    rows: Option<Vec<usize>>,
}

impl<'a> Hooks<'a> {
    /// No hooks.
    pub fn new() -> Hooks<'a> {
        Hooks::default()
    }

    /// Calls `read` with the rows at every site that `at` accepts, after all changes there.
    pub fn read(
        mut self,
        at: impl Fn(Site) -> bool + 'a,
        read: impl FnMut(Site, usize, &[f32]) -> Result<()> + 'a,
    ) -> Hooks<'a> {
        self.reads.push((Box::new(at), Box::new(read)));
        self
    }

    /// Calls `change` with every row at every site that `at` accepts.
    pub fn change(
        mut self,
        at: impl Fn(Site) -> bool + 'a,
        change: impl FnMut(Site, &mut [f32]) + 'a,
    ) -> Hooks<'a> {
        self.changes.push((Box::new(at), Box::new(change)));
        self
    }

    /// Reads only these rows of each batch, ascending.
    pub fn set_rows(&mut self, rows: Vec<usize>) {
        self.rows = Some(rows);
    }

    fn wants(&self, site: Site) -> bool {
        self.reads.iter().any(|(at, _)| at(site)) || self.changes.iter().any(|(at, _)| at(site))
    }
}

/// The batch under way, as far as rows need it.
#[derive(Default)]
pub(super) struct Shape {
    /// Tokens in the batch.
    pub n_tokens: usize,
    /// Batch rows whose logits are asked for, ascending: all that the last block keeps.
    pub outputs: Vec<usize>,
}

/// What the callback finds behind its user data.
#[derive(Default)]
pub(super) struct State {
    /// The hooks of the decode under way; null between decodes.
    hooks: Option<*mut Hooks<'static>>,
    /// Every node's name, while a model is looked over.
    pub recorded: Option<Vec<String>>,
    pub sites: SiteMap,
    pub shape: Shape,
    error: Option<Error>,
    /// Sites by node address: asked for thousands of times a second, they are parsed once a graph.
    cache: HashMap<(usize, u32), Option<Site>>,
    buffer: Vec<f32>,
}

impl State {
    /// Lends `hooks` to the callback until [`State::finish`].
    pub fn begin(&mut self, hooks: &mut Hooks<'_>) {
        // Only an address until the callback runs, which it does between begin and finish alone.
        self.hooks = Some(std::ptr::from_mut(hooks).cast());
        self.error = None;
    }

    /// Takes the hooks back, with what went wrong in them.
    pub fn finish(&mut self) -> Result<()> {
        self.hooks = None;
        self.cache.clear();
        self.error.take().map_or(Ok(()), Err)
    }
}

/// llama.cpp's `ggml_backend_sched_eval_callback`. Nothing unwinds through it.
pub(super) unsafe extern "C" fn callback(
    node: *mut sys::ggml_tensor,
    ask: bool,
    user_data: *mut c_void,
) -> bool {
    // SAFETY: user_data is the State that the session owns, boxed, and outlives the context; the
    // scheduler calls from the thread that called llama_decode, which holds no other reference.
    let state = unsafe { &mut *user_data.cast::<State>() };
    // SAFETY: llama.cpp passes a node of the graph that it computes.
    let node = unsafe { &mut *node };
    let visit = AssertUnwindSafe(|| visit(state, node, ask));
    match catch_unwind(visit) {
        Ok(answer) => answer,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            state.error = Some(Error::HookPanicked { text: text.unwrap_or_default() });
            !ask
        }
    }
}

fn visit(state: &mut State, node: &mut sys::ggml_tensor, ask: bool) -> bool {
    if let Some(names) = &mut state.recorded {
        if ask {
            names.push(plain_name(&name_of(node)).to_owned());
        }
        return !ask;
    }
    let Some(hooks) = state.hooks else { return false };
    if state.error.is_some() {
        return !ask;
    }
    let key = (std::ptr::from_ref(node) as usize, node.op);
    let site = match state.cache.get(&key) {
        Some(site) => *site,
        None => {
            let site = state.sites.site(plain_name(&name_of(node)), weight_of(node).as_deref());
            state.cache.insert(key, site);
            site
        }
    };
    // SAFETY: `begin` lent these hooks, exclusively, until `finish`, which comes after the decode.
    let hooks = unsafe { &mut *hooks };
    match site {
        Some(site) if ask => hooks.wants(site),
        Some(site) => {
            if let Err(error) = run(hooks, site, node, &state.shape, &mut state.buffer) {
                state.error = Some(error);
            }
            true
        }
        None => !ask,
    }
}

/// Fetches the rows of `node`, changes them, writes them back, and shows those asked for.
fn run(
    hooks: &mut Hooks<'_>,
    site: Site,
    node: &mut sys::ggml_tensor,
    shape: &Shape,
    buffer: &mut Vec<f32>,
) -> Result<()> {
    let (n_cols, n_rows) = (node.ne[0] as usize, (node.ne[1] * node.ne[2] * node.ne[3]) as usize);
    // SAFETY: pure functions of a computed node.
    let plain = unsafe { sys::ggml_is_contiguous(node) } && node.type_ == sys::GGML_TYPE_F32;
    if !plain {
        return Err(Error::UnreadableNode { name: name_of(node) });
    }
    buffer.resize(n_cols * n_rows, 0.0);
    if n_rows == 0 {
        return Ok(());
    }
    let changing = hooks.changes.iter().any(|(at, _)| at(site));
    // All rows at once when all are needed, else one by one.
    if changing || hooks.rows.is_none() {
        get(node, 0, buffer);
    }
    if changing {
        for (_, change) in hooks.changes.iter_mut().filter(|(at, _)| at(site)) {
            buffer.chunks_exact_mut(n_cols).for_each(|row| change(site, row));
        }
        let bytes = size_of_val(buffer.as_slice());
        // SAFETY: the node is contiguous F32 of exactly `buffer`'s length (checked above).
        unsafe { sys::ggml_backend_tensor_set(node, buffer.as_ptr().cast(), 0, bytes) };
    }
    let batch_row = |row: usize| match n_rows == shape.n_tokens {
        true => Some(row),
        false => shape.outputs.get(row).copied(),
    };
    for row in 0..n_rows {
        let Some(place) = batch_row(row) else { continue };
        if hooks.rows.as_ref().is_some_and(|rows| rows.binary_search(&place).is_err()) {
            continue;
        }
        let values = &mut buffer[row * n_cols..(row + 1) * n_cols];
        if !changing && hooks.rows.is_some() {
            get(node, row * size_of_val(values), values);
        }
        for (_, read) in hooks.reads.iter_mut().filter(|(at, _)| at(site)) {
            read(site, place, values)?;
        }
    }
    Ok(())
}

fn get(node: &sys::ggml_tensor, offset: usize, out: &mut [f32]) {
    // SAFETY: the node is contiguous F32 and holds `offset` plus `out`'s bytes: callers ask for
    // rows of it.
    unsafe {
        sys::ggml_backend_tensor_get(node, out.as_mut_ptr().cast(), offset, size_of_val(out));
    }
}

fn name_of(node: &sys::ggml_tensor) -> String {
    // SAFETY: ggml keeps names NUL-terminated in a fixed array.
    unsafe { CStr::from_ptr(node.name.as_ptr()) }.to_string_lossy().into_owned()
}

/// The name of the weight that a node multiplies with.
fn weight_of(node: &sys::ggml_tensor) -> Option<String> {
    if node.op != sys::GGML_OP_MUL_MAT && node.op != sys::GGML_OP_MUL_MAT_ID {
        return None;
    }
    // SAFETY: the sources of a node of a live graph are live, or null.
    let weight = unsafe { node.src[0].as_ref() }?;
    Some(plain_name(&name_of(weight)).to_owned())
}
