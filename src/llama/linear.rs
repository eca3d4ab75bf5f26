//! The input rows of a linear layer, experts separately.
//!
//! `MUL_MAT`'s second source holds a row a token. `MUL_MAT_ID` multiplies each token's row with
//! some experts of a stack: its third source holds their indices (`ggml_mul_mat_id` of
//! `ggml/include/ggml.h`). There is one row per token, or one for every expert that the token uses.

use llama_cpp_sys_2 as sys;

use super::batch::BatchShape;

/// The input of one linear layer in one decode.
#[derive(Debug)]
pub struct LinearInput<'a> {
    /// The weight's name in the file.
    pub weight: &'a str,
    /// Matrices in the weight: 1, or the number of experts.
    pub n_expert: usize,
    /// Input channels of the layer.
    pub n_cols: usize,
    /// `[n_rows, n_cols]`.
    pub rows: &'a [f32],
    /// Which row meets which matrix.
    pub uses: &'a [RowUse],
}

/// One row that one matrix multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowUse {
    /// Index into [`LinearInput::rows`].
    pub row: usize,
    /// Its token's place in the batch.
    pub place: usize,
    /// Which matrix; 0 where there is one.
    pub expert: usize,
}

/// Fetches what `node` multiplies, passes it to `read` and returns its result. None for rows that
/// are not F32, e.g. the inputs of a few quantized lookups: llama-imatrix skips them as well.
pub(super) fn read_input<T>(
    node: &sys::ggml_tensor,
    weight: &str,
    shape: &BatchShape,
    buffer: &mut Vec<f32>,
    read: impl FnOnce(&LinearInput<'_>) -> T,
) -> Option<T> {
    // SAFETY: the sources of a node of a live graph are live, or null.
    let (matrix, input, ids) =
        unsafe { (node.src[0].as_ref(), node.src[1].as_ref(), node.src[2].as_ref()) };
    let (matrix, input) = (matrix?, input?);
    if input.type_ != sys::GGML_TYPE_F32 || input.nb[0] != size_of::<f32>() {
        return None;
    }
    let rows = match in_place(input) {
        Some(rows) => rows,
        None => fetch(input, buffer),
    };
    let n_rows = (input.ne[1] * input.ne[2] * input.ne[3]) as usize;
    let uses = match ids.filter(|_| node.op == sys::GGML_OP_MUL_MAT_ID) {
        Some(ids) => expert_uses(ids, input.ne[1] as usize, shape),
        None => {
            let stacked = matrix.ne[2] > 1;
            let place = |row| {
                let (token, expert) = if stacked { head_use(input, row, shape) } else { (row, 0) };
                let n_rows = if stacked { shape.n_tokens } else { n_rows };
                Some(RowUse { row, place: shape.place(token, n_rows)?, expert })
            };
            (0..n_rows).filter_map(place).collect()
        }
    };
    Some(read(&LinearInput {
        weight,
        n_expert: matrix.ne[2].max(1) as usize,
        n_cols: input.ne[0] as usize,
        rows,
        uses: &uses,
    }))
}

/// The rows where they lie, if the CPU can read them there: most of a pass's cost would be copying.
fn in_place(input: &sys::ggml_tensor) -> Option<&[f32]> {
    let n = input.ne.iter().product::<i64>() as usize;
    let data = input.data.cast::<f32>();
    // SAFETY: pure functions of a computed node and its buffer, where it has one.
    let readable = unsafe {
        sys::ggml_is_contiguous(input)
            && !input.buffer.is_null()
            && sys::ggml_backend_buffer_is_host(input.buffer)
    };
    // SAFETY: a computed, contiguous F32 node in host memory holds its elements at `data`, and the
    // scheduler computes nothing that could change them before the callback returns.
    (readable && data.is_aligned() && !data.is_null())
        .then(|| unsafe { std::slice::from_raw_parts(data, n) })
}

/// Copies all rows of `input`, whatever its strides.
fn fetch<'b>(input: &sys::ggml_tensor, buffer: &'b mut Vec<f32>) -> &'b [f32] {
    let [n_cols, ne1, ne2, ne3] = input.ne.map(|n| n as usize);
    buffer.resize(n_cols * ne1 * ne2 * ne3, 0.0);
    // SAFETY: a pure function of a computed node.
    if unsafe { sys::ggml_is_contiguous(input) } {
        get(input, 0, buffer);
        return buffer;
    }
    for (row, out) in buffer.chunks_exact_mut(n_cols.max(1)).enumerate() {
        let (i1, i2, i3) = (row % ne1, row / ne1 % ne2, row / ne1 / ne2);
        get(input, i1 * input.nb[1] + i2 * input.nb[2] + i3 * input.nb[3], out);
    }
    buffer
}

/// Token and matrix of a row where each head has its own matrix (`attn_k_b`, `attn_v_b`): the
/// input is `[n, n_tokens, n_head]` or `[n, 1, n_head, n_tokens]`.
fn head_use(input: &sys::ggml_tensor, row: usize, shape: &BatchShape) -> (usize, usize) {
    let [_, ne1, ne2, ne3] = input.ne.map(|n| n as usize);
    let (i1, i2, i3) = (row % ne1, row / ne1 % ne2, row / ne1 / ne2);
    if ne1 == shape.n_tokens && ne3 == 1 { (i1, i2) } else { (i3, i2) }
}

/// `ids` is `[n_used, n_tokens]`, I32, and need not be contiguous; `input` has `n_per_token` rows
/// for each token, 1 or n_used.
fn expert_uses(ids: &sys::ggml_tensor, n_per_token: usize, shape: &BatchShape) -> Vec<RowUse> {
    let (n_used, n_tokens) = (ids.ne[0] as usize, ids.ne[1] as usize);
    let mut uses = Vec::with_capacity(n_used * n_tokens);
    for token in 0..n_tokens {
        let Some(place) = shape.place(token, n_tokens) else { continue };
        for used in 0..n_used {
            let mut id = [0i32];
            get(ids, token * ids.nb[1] + used * ids.nb[0], &mut id);
            let row = token * n_per_token + used % n_per_token;
            uses.push(RowUse { row, place, expert: id[0].unsigned_abs() as usize });
        }
    }
    uses
}

/// What elements of nodes may be; any bits are a value of either.
pub(super) trait Element {}

impl Element for f32 {}

impl Element for i32 {}

/// Copies elements of a computed node, from byte `offset` on, from whatever device.
pub(super) fn get<T: Element>(node: &sys::ggml_tensor, offset: usize, out: &mut [T]) {
    // SAFETY: the node holds `offset` plus `out`'s bytes, of elements of that type: callers check
    // its type, and ask for rows and elements of it.
    unsafe {
        sys::ggml_backend_tensor_get(node, out.as_mut_ptr().cast(), offset, size_of_val(out));
    }
}
