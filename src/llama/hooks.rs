//! Eval hooks: read and change activations while llama.cpp computes.
//!
//! llama.cpp's scheduler asks its eval callback about every node before and tells it after the
//! node was computed (`ggml_backend_sched_eval_callback` of `ggml/include/ggml-backend.h`). What
//! is written back in the second call is what the following nodes see. On any backend: rows go
//! through `ggml_backend_tensor_get` and `_set`.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use llama_cpp_sys_2 as sys;

use super::error::{Error, Result};
use super::graph::{name_of, plain_name};
use super::linear::{LinearInput, get, read_input};
use super::sites::{Site, Sites};

/// Which sites a hook is for.
type At<'a> = Box<dyn Fn(Site) -> bool + 'a>;
/// Looks at one row at a site: the row's place in the batch, and the row.
pub type Read<'a> = Box<dyn FnMut(Site, usize, &[f32]) -> Result<()> + 'a>;
/// Changes one row at a site.
pub type Change<'a> = Box<dyn FnMut(Site, &mut [f32]) + 'a>;

/// Which weights' inputs a hook is for.
type Of<'a> = Box<dyn Fn(&str) -> bool + 'a>;
/// Looks at the input of a linear layer; false: nothing behind it is needed.
pub type ReadInput<'a> = Box<dyn FnMut(&LinearInput<'_>) -> Result<Go> + 'a>;

/// Whether a decode goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// To its end.
    On,
    /// No further: what the rest of the graph would compute, logits among it, is not needed, and
    /// holds nothing of worth. (On several devices the rest may be computed all the same.)
    Home,
}

/// What is done to a decode.
#[derive(Default)]
pub struct Hooks<'a> {
    reads: Vec<(At<'a>, Read<'a>)>,
    changes: Vec<(At<'a>, Change<'a>)>,
    inputs: Option<(Of<'a>, ReadInput<'a>)>,
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

    /// Calls `read` with what the weights multiply that `of` accepts by name, in the blocks.
    pub fn inputs(
        mut self,
        of: impl Fn(&str) -> bool + 'a,
        read: impl FnMut(&LinearInput<'_>) -> Result<Go> + 'a,
    ) -> Hooks<'a> {
        self.inputs = Some((Box::new(of), Box::new(read)));
        self
    }

    /// Reads only these rows of each batch, ascending.
    pub fn set_rows(&mut self, rows: Vec<usize>) {
        self.rows = Some(rows);
    }

    /// True if it is for sites, not for the inputs of matrices alone.
    pub(super) fn needs_sites(&self) -> bool {
        !self.reads.is_empty() || !self.changes.is_empty()
    }

    fn wants(&self, site: Site) -> bool {
        self.reads.iter().any(|(at, _)| at(site)) || self.changes.iter().any(|(at, _)| at(site))
    }

    fn wants_input(&self, weight: &str) -> bool {
        self.inputs.as_ref().is_some_and(|(of, _)| of(weight))
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

impl Shape {
    /// The batch row of row `row` of a node with `n_rows`: the last block keeps output rows alone.
    /// None where rows are no tokens of the batch as it was given: llama.cpp cut it.
    pub fn place(&self, row: usize, n_rows: usize) -> Option<usize> {
        match n_rows {
            n if n == self.n_tokens => Some(row),
            n if n == self.outputs.len() => self.outputs.get(row).copied(),
            _ => None,
        }
    }
}

/// What the callback finds behind its user data.
#[derive(Default)]
pub(super) struct State {
    /// The hooks of the decode under way; None between decodes.
    hooks: Option<*mut Hooks<'static>>,
    /// The model's, once a hook asked for one.
    pub sites: Option<Sites>,
    pub shape: Shape,
    error: Option<Error>,
    /// Set by a hook that needs nothing more of this decode.
    home: bool,
    /// The node that was asked about last and wanted, by its address: it is computed next.
    asked: Option<(usize, Known)>,
    buffer: Vec<f32>,
}

/// What a node is to hooks.
struct Known {
    site: Option<Site>,
    /// The weight of a block that it multiplies with.
    weight: Option<String>,
}

impl State {
    /// Lends `hooks` to the callback until [`State::finish`].
    pub fn begin(&mut self, hooks: &mut Hooks<'_>) {
        // Only an address until the callback runs, which it does between begin and finish alone.
        self.hooks = Some(std::ptr::from_mut(hooks).cast());
        self.error = None;
        self.home = false;
        self.sites.iter_mut().for_each(Sites::begin);
    }

    /// Takes the hooks back, with what went wrong in them.
    pub fn finish(&mut self) -> Result<()> {
        self.hooks = None;
        self.asked = None;
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
    let Some(hooks) = state.hooks else { return false };
    if state.error.is_some() || state.home {
        return false;
    }
    let key = std::ptr::from_ref(node) as usize;
    // SAFETY: `begin` lent these hooks, exclusively, until `finish`, which comes after the decode.
    let hooks = unsafe { &mut *hooks };
    if ask {
        // Every node is asked about, in the graph's order: the residual stream is followed so.
        let known = match state.know(node, hooks) {
            Ok(known) => known,
            Err(error) => {
                state.error = Some(error);
                return false;
            }
        };
        let wanted = known.site.is_some() || known.weight.is_some();
        state.asked = wanted.then_some((key, known));
        return wanted;
    }
    let asked = state.asked.take().filter(|(asked, _)| *asked == key);
    let Some((_, Known { site, weight })) = asked else { return true };
    match state.serve(hooks, node, site, weight.as_deref()) {
        Ok(Go::On) => true,
        Ok(Go::Home) => {
            state.home = true;
            false
        }
        Err(error) => {
            state.error = Some(error);
            false
        }
    }
}

impl State {
    /// What of `node` the hooks want.
    fn know(&mut self, node: &sys::ggml_tensor, hooks: &Hooks<'_>) -> Result<Known> {
        let weight = weight_of(node);
        let site = match &mut self.sites {
            Some(sites) => sites.site(node, weight.as_deref())?,
            None => None,
        };
        let of_block = |w: &String| w.starts_with("blk.") && w.ends_with(".weight");
        Ok(Known {
            site: site.filter(|site| hooks.wants(*site)),
            weight: weight.filter(of_block).filter(|weight| hooks.wants_input(weight)),
        })
    }

    fn serve(
        &mut self,
        hooks: &mut Hooks<'_>,
        node: &mut sys::ggml_tensor,
        site: Option<Site>,
        weight: Option<&str>,
    ) -> Result<Go> {
        if let Some(site) = site {
            run(hooks, site, node, &self.shape, &mut self.buffer)?;
        }
        match (weight, &mut hooks.inputs) {
            (Some(weight), Some((_, read))) => {
                read_input(node, weight, &self.shape, &mut self.buffer, read)
            }
            _ => Ok(Go::On),
        }
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
    // An expert's output is not yet weighted and summed: no row of a token.
    let reading = node.op != sys::GGML_OP_MUL_MAT_ID && hooks.reads.iter().any(|(at, _)| at(site));
    if reading && shape.place(0, n_rows).is_none() {
        return Err(Error::CutBatch { n_rows, n_tokens: shape.n_tokens });
    }
    for row in 0..if reading { n_rows } else { 0 } {
        let Some(place) = shape.place(row, n_rows) else { continue };
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

/// The name of the weight that a node multiplies with.
fn weight_of(node: &sys::ggml_tensor) -> Option<String> {
    if node.op != sys::GGML_OP_MUL_MAT && node.op != sys::GGML_OP_MUL_MAT_ID {
        return None;
    }
    // SAFETY: the sources of a node of a live graph are live, or null.
    let weight = unsafe { node.src[0].as_ref() }?;
    Some(plain_name(&name_of(weight)).to_owned())
}
