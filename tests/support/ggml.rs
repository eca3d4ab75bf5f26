//! ggml itself, as the tests need it: its quantizer, so that test models do not depend on the
//! codecs they test, and its GGUF reader, to check our files against.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::sync::Once;

use aird::gguf::{GgmlType, ValueType};
use llama_cpp_sys_2 as sys;

/// Sends llama.cpp's chatter nowhere.
pub fn silence() {
    unsafe extern "C" fn ignore(_: sys::ggml_log_level, _: *const c_char, _: *mut c_void) {}
    static ONCE: Once = Once::new();
    // SAFETY: the callback lives as long as the program and ignores its pointers.
    ONCE.call_once(|| unsafe { sys::llama_log_set(Some(ignore), std::ptr::null_mut()) });
}

/// Elements and bytes of a block, as ggml has them.
pub fn block(ty: GgmlType) -> (u64, u64) {
    // SAFETY: an id that ggml knows; static tables are read.
    unsafe { (sys::ggml_blck_size(ty.id()) as u64, sys::ggml_type_size(ty.id()) as u64) }
}

/// `values` in rows of `n_cols` as ggml encodes them.
pub fn encode(ty: GgmlType, values: &[f32], n_cols: u64) -> Vec<u8> {
    if ty == GgmlType::F32 {
        return values.iter().flat_map(|v| v.to_le_bytes()).collect();
    }
    let n_rows = values.len() as u64 / n_cols;
    assert_eq!(n_rows * n_cols, values.len() as u64, "whole rows");
    let mut out = vec![0; (n_rows * ty.bytes_for(n_cols).unwrap()) as usize];
    let importance = vec![1.0; n_cols as usize];
    // SAFETY: `values` and `out` hold `n_rows` whole rows of `n_cols` values, `importance` one;
    // the type is one that ggml knows.
    let n = unsafe {
        sys::ggml_quantize_init(ty.id());
        sys::ggml_quantize_chunk(
            ty.id(),
            values.as_ptr(),
            out.as_mut_ptr().cast(),
            0,
            n_rows as i64,
            n_cols as i64,
            importance.as_ptr(),
        )
    };
    assert_eq!(n, out.len(), "{ty}");
    out
}

/// llama.cpp's own quantizer: every matrix becomes `ty`, the output head `head`; `ftype` is the
/// `llama_ftype` that the file says. False if it refuses.
pub fn quantize_model(
    source: &Path,
    target: &Path,
    ftype: u32,
    ty: GgmlType,
    head: GgmlType,
    n_threads: u32,
) -> bool {
    silence();
    let path = |path: &Path| CString::new(path.to_str().unwrap()).unwrap();
    let (source, target) = (path(source), path(target));
    // SAFETY: C strings and parameters that live through the call; what they point to is null.
    unsafe {
        sys::llama_backend_init();
        let mut params = sys::llama_model_quantize_default_params();
        params.nthread = n_threads as i32;
        params.ftype = ftype;
        params.pure_ = true;
        params.token_embedding_type = ty.id();
        params.output_tensor_type = head.id();
        sys::llama_model_quantize(source.as_ptr(), target.as_ptr(), &params) == 0
    }
}

/// What llama-quantize is asked for: `ftype` is a `llama_ftype`, whose mix of types it chooses.
pub struct Mix<'a> {
    pub ftype: u32,
    /// Weights of the input channels by tensor, `[n_expert, n_cols]`; empty for no imatrix.
    pub imatrix: &'a [(String, Vec<f32>)],
    /// All matrices of the type's own, without a mix.
    pub pure: bool,
}

/// llama-quantize without its command line. False if it refuses.
pub fn quantize_mix(source: &Path, target: &Path, mix: &Mix<'_>) -> bool {
    silence();
    let path = |path: &Path| CString::new(path.to_str().unwrap()).unwrap();
    let (source, target) = (path(source), path(target));
    let names: Vec<CString> =
        mix.imatrix.iter().map(|(name, _)| CString::new(name.as_str()).unwrap()).collect();
    let entry = |(name, (_, data)): (&CString, &(String, Vec<f32>))| {
        sys::llama_model_imatrix_data { name: name.as_ptr(), data: data.as_ptr(), size: data.len() }
    };
    let mut imatrix: Vec<_> = names.iter().zip(mix.imatrix).map(entry).collect();
    let end = std::ptr::null();
    imatrix.push(sys::llama_model_imatrix_data { name: end, data: std::ptr::null(), size: 0 });
    // SAFETY: C strings, a list that ends in a null name, and parameters that all live through the
    // call.
    unsafe {
        sys::llama_backend_init();
        let mut params = sys::llama_model_quantize_default_params();
        params.nthread = 2;
        params.ftype = mix.ftype;
        params.pure_ = mix.pure;
        params.allow_requantize = true;
        if !mix.imatrix.is_empty() {
            params.imatrix = imatrix.as_ptr();
        }
        sys::llama_model_quantize(source.as_ptr(), target.as_ptr(), &params) == 0
    }
}

/// A key as ggml's reader sees it. Text ends at its first NUL there.
#[derive(Debug, PartialEq)]
pub struct SeenKey {
    pub key: Vec<u8>,
    pub ty: ValueType,
    /// Of an array.
    pub element: Option<ValueType>,
    /// Strings, or one entry of all other bytes.
    pub payload: Vec<Vec<u8>>,
}

/// A tensor as ggml's reader sees it.
#[derive(Debug, PartialEq)]
pub struct SeenTensor {
    pub name: Vec<u8>,
    pub ne: [u64; 4],
    pub ty: u32,
    pub offset: u64,
    pub bytes: u64,
}

/// A header as ggml's reader sees it.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub version: u32,
    pub alignment: u64,
    pub data_offset: u64,
    pub keys: Vec<SeenKey>,
    pub tensors: Vec<SeenTensor>,
}

/// Reads a file with ggml; None if it refuses.
pub fn read_file(path: &Path) -> Option<Seen> {
    silence();
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a C string, and parameters that ask for no data.
    let context = unsafe { sys::gguf_init_from_file(path.as_ptr(), header_only()) };
    Context::new(context).map(|c| c.seen())
}

/// Reads the header at the beginning of `bytes` with ggml; None if it refuses.
pub fn read_bytes(bytes: &[u8]) -> Option<Seen> {
    silence();
    // SAFETY: the buffer outlives the call, which copies what it keeps.
    let context =
        unsafe { sys::gguf_init_from_buffer(bytes.as_ptr().cast(), bytes.len(), header_only()) };
    Context::new(context).map(|c| c.seen())
}

fn header_only() -> sys::gguf_init_params {
    sys::gguf_init_params { no_alloc: true, ctx: std::ptr::null_mut() }
}

struct Context(*mut sys::gguf_context);

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by gguf_init_*, freed once.
        unsafe { sys::gguf_free(self.0) }
    }
}

impl Context {
    fn new(raw: *mut sys::gguf_context) -> Option<Context> {
        (!raw.is_null()).then_some(Context(raw))
    }

    fn seen(&self) -> Seen {
        // SAFETY: a valid context; ids stay below the counts it gives.
        unsafe {
            Seen {
                version: sys::gguf_get_version(self.0),
                alignment: sys::gguf_get_alignment(self.0) as u64,
                data_offset: sys::gguf_get_data_offset(self.0) as u64,
                keys: (0..sys::gguf_get_n_kv(self.0)).map(|i| self.key(i)).collect(),
                tensors: (0..sys::gguf_get_n_tensors(self.0)).map(|i| self.tensor(i)).collect(),
            }
        }
    }

    fn key(&self, i: i64) -> SeenKey {
        // SAFETY: `i` is below the count; each getter is called for the type it is for, and
        // the bytes are copied before the context goes.
        unsafe {
            let ty = ValueType::from_id(sys::gguf_get_kv_type(self.0, i)).unwrap();
            let element = (ty == ValueType::Array)
                .then(|| ValueType::from_id(sys::gguf_get_arr_type(self.0, i)).unwrap());
            let n = if element.is_some() { sys::gguf_get_arr_n(self.0, i) } else { 1 };
            let payload = match (ty, element) {
                (ValueType::String, _) => vec![text(sys::gguf_get_val_str(self.0, i))],
                (_, Some(ValueType::String)) => {
                    (0..n).map(|j| text(sys::gguf_get_arr_str(self.0, i, j))).collect()
                }
                (_, Some(element)) => {
                    let data = sys::gguf_get_arr_data(self.0, i);
                    vec![raw(data, n * element.fixed_bytes().unwrap() as usize)]
                }
                (scalar, None) => {
                    let data = sys::gguf_get_val_data(self.0, i);
                    vec![raw(data, scalar.fixed_bytes().unwrap() as usize)]
                }
            };
            SeenKey { key: text(sys::gguf_get_key(self.0, i)), ty, element, payload }
        }
    }

    fn tensor(&self, i: i64) -> SeenTensor {
        // SAFETY: `i` is below the count; ne points to GGML_MAX_DIMS numbers.
        unsafe {
            let ne: *const [i64; 4] = sys::gguf_get_tensor_ne(self.0, i).cast();
            SeenTensor {
                name: text(sys::gguf_get_tensor_name(self.0, i)),
                ne: (*ne).map(|n| n as u64),
                ty: sys::gguf_get_tensor_type(self.0, i),
                offset: sys::gguf_get_tensor_offset(self.0, i) as u64,
                bytes: sys::gguf_get_tensor_size(self.0, i) as u64,
            }
        }
    }
}

/// # Safety
/// `text` is a C string.
unsafe fn text(text: *const c_char) -> Vec<u8> {
    // SAFETY: by the caller.
    unsafe { CStr::from_ptr(text) }.to_bytes().to_vec()
}

/// # Safety
/// `data` points to `n` bytes, or `n` is 0.
unsafe fn raw(data: *const c_void, n: usize) -> Vec<u8> {
    if n == 0 {
        return Vec::new();
    }
    // SAFETY: by the caller.
    unsafe { std::slice::from_raw_parts(data.cast(), n) }.to_vec()
}
