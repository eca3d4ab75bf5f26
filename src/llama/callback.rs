//! The eval callback, through which llama.cpp's graph and the hooks meet.
//!
//! llama.cpp's scheduler calls its eval callback before it computes a node, to ask whether the node
//! is wanted, and if so again after (`ggml_backend_sched_eval_callback` of
//! `ggml/include/ggml-backend.h`). What is written back in the second call is what the following
//! nodes see. On any backend: rows go through `ggml_backend_tensor_get` and `_set`.

use std::ffi::c_void;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use llama_cpp_sys_2 as sys;

use super::batch::BatchShape;
use super::error::{Error, Result};
use super::graph::{name_of, plain_name};
use super::hooks::Hooks;
use super::linear::{LinearInput, get, read_input};
use super::sites::{Site, Sites};

/// The state that the callback gets as its user data.
#[derive(Default)]
pub(super) struct HookState {
    /// The hooks of the decode under way; None between decodes.
    hooks: Option<*mut Hooks<'static>>,
    /// The model's, once a hook asked for one.
    pub sites: Option<Sites>,
    pub shape: BatchShape,
    error: Option<Error>,
    /// Set by a hook that needs nothing more of this decode.
    is_over: bool,
    /// The node that was asked about last and wanted, by its address: it is computed next.
    asked: Option<(usize, Wanted)>,
    buffer: Vec<f32>,
}

/// Why hooks want a node.
struct Wanted {
    site: Option<Site>,
    /// The weight of a block that it multiplies with.
    weight: Option<String>,
}

impl HookState {
    /// Lends `hooks` to the callback until [`HookState::finish`].
    pub(super) fn begin(&mut self, hooks: &mut Hooks<'_>) {
        // Only an address until the callback runs, which it does only between begin and finish.
        self.hooks = Some(std::ptr::from_mut(hooks).cast());
        self.error = None;
        self.is_over = false;
        self.sites.iter_mut().for_each(Sites::begin);
    }

    /// Takes the hooks back, with what went wrong in them.
    pub(super) fn finish(&mut self) -> Result<()> {
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
    // SAFETY: user_data is the HookState that the session owns, boxed, and outlives the context;
    // the scheduler calls from the thread that called llama_decode, which holds no other reference.
    let state = unsafe { &mut *user_data.cast::<HookState>() };
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

fn visit(state: &mut HookState, node: &mut sys::ggml_tensor, ask: bool) -> bool {
    let Some(hooks) = state.hooks else { return false };
    if state.error.is_some() || state.is_over {
        return false;
    }
    let key = std::ptr::from_ref(node) as usize;
    // SAFETY: `begin` lent these hooks, exclusively, until `finish`, which comes after the decode.
    let hooks = unsafe { &mut *hooks };
    if ask {
        // Every node is asked about, in the graph's order: the residual stream is followed so.
        let found = match state.wanted(node, hooks) {
            Ok(found) => found,
            Err(error) => {
                state.error = Some(error);
                return false;
            }
        };
        let wanted = found.site.is_some() || found.weight.is_some();
        state.asked = wanted.then_some((key, found));
        return wanted;
    }
    let asked = state.asked.take().filter(|(asked, _)| *asked == key);
    let Some((_, Wanted { site, weight })) = asked else { return true };
    match state.serve(hooks, node, site, weight.as_deref()) {
        Ok(ControlFlow::Continue(())) => true,
        Ok(ControlFlow::Break(())) => {
            state.is_over = true;
            false
        }
        Err(error) => {
            state.error = Some(error);
            false
        }
    }
}

impl HookState {
    /// What the hooks want of `node`.
    fn wanted(&mut self, node: &sys::ggml_tensor, hooks: &Hooks<'_>) -> Result<Wanted> {
        let weight = weight_of(node);
        let site = match &mut self.sites {
            Some(sites) => sites.site(node, weight.as_deref())?,
            None => None,
        };
        let of_block = |w: &String| w.starts_with("blk.") && w.ends_with(".weight");
        Ok(Wanted {
            site: site.filter(|site| hooks.reads_at(*site) || hooks.changes_at(*site)),
            weight: weight.filter(of_block).filter(|weight| hooks.reads_input_of(weight)),
        })
    }

    fn serve(
        &mut self,
        hooks: &mut Hooks<'_>,
        node: &mut sys::ggml_tensor,
        site: Option<Site>,
        weight: Option<&str>,
    ) -> Result<ControlFlow<()>> {
        if let Some(site) = site {
            run(hooks, site, node, &self.shape, &mut self.buffer)?;
        }
        let Some(weight) = weight else { return Ok(ControlFlow::Continue(())) };
        let show = |input: &LinearInput<'_>| hooks.show_input(input);
        let shown = read_input(node, weight, &self.shape, &mut self.buffer, show);
        shown.unwrap_or(Ok(ControlFlow::Continue(())))
    }
}

/// Reads the rows of `node`, changes them, writes them back, and passes on those asked for.
fn run(
    hooks: &mut Hooks<'_>,
    site: Site,
    node: &mut sys::ggml_tensor,
    shape: &BatchShape,
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
    let changing = hooks.changes_at(site);
    // All rows at once when all are needed, else one by one.
    if changing || hooks.reads_all_rows() {
        get(node, 0, buffer);
    }
    if changing {
        hooks.apply_changes(site, buffer, n_cols);
        let bytes = size_of_val(buffer.as_slice());
        // SAFETY: the node is contiguous F32 of exactly `buffer`'s length (checked above).
        unsafe { sys::ggml_backend_tensor_set(node, buffer.as_ptr().cast(), 0, bytes) };
    }
    // An expert's output is not yet weighted and summed: it is not the row of a token.
    let reading = node.op != sys::GGML_OP_MUL_MAT_ID && hooks.reads_at(site);
    if reading && shape.place(0, n_rows).is_none() {
        return Err(Error::CutBatch { n_rows, n_tokens: shape.n_tokens });
    }
    for row in 0..if reading { n_rows } else { 0 } {
        let Some(place) = shape.place(row, n_rows) else { continue };
        if !hooks.reads_row(place) {
            continue;
        }
        let values = &mut buffer[row * n_cols..(row + 1) * n_cols];
        if !changing && !hooks.reads_all_rows() {
            get(node, row * size_of_val(values), values);
        }
        hooks.show(site, place, values)?;
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
