//! Headers and files to test with: any at all, and one that has everything.

use std::fs;
use std::path::Path;

use aird_gguf::{
    ALIGNMENT_KEY, Ask, GgmlType, Header, Replacement, TensorInfo, Value, ValueType, Watch,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Bytes after the last tensor, which a reader ignores.
const TRAILING_BYTES: usize = 5;

/// A file with `header`, laid out; its padding is not zeros, and bytes follow the last tensor.
pub(crate) fn file_with(header: &Header) -> Vec<u8> {
    let mut header = header.clone();
    header.lay_out();
    let alignment = header.alignment() as usize;
    let mut out = header.encode();
    for (i, info) in header.tensors.values().enumerate() {
        out.extend((0..info.n_bytes()).map(|k| (k * 7 + i as u64) as u8));
        out.resize(out.len().next_multiple_of(alignment), 0xaa);
    }
    out.extend([0xbb; TRAILING_BYTES]);
    out
}

/// A header of version 2 with every type of value, values that are easily lost, and tensors of
/// several types and shapes.
pub(crate) fn rich_header() -> Header {
    let mut header = Header { version: 2, ..Header::new() };
    let values = [
        ("zebra", Value::from("first")),
        ("u8", 1u8.into()),
        ("i8", (-1i8).into()),
        ("u16", 2u16.into()),
        ("i16", (-2i16).into()),
        ("u32", 3u32.into()),
        ("i32", (-3i32).into()),
        ("f32", Value::F32(f32::from_bits(0x7fa0_0001))),
        ("bool", Value::Bool(17)),
        ("u64", u64::MAX.into()),
        ("i64", i64::MIN.into()),
        ("f64", Value::F64(-0.0)),
        ("bytes", Value::String(vec![0xff, 0, b'x'])),
        ("none", Value::array(ValueType::I16, [])),
        ("tokens", Value::strings([&b"a"[..], &[0xc3], b""])),
        ("bools", Value::array(ValueType::Bool, [0, 1, 2].map(Value::Bool))),
        (ALIGNMENT_KEY, 64u32.into()),
        ("alpha", "last".into()),
    ];
    header.kv.extend(values.map(|(key, value)| (key.to_owned(), value)));
    let tensors: [(&str, &[u64], GgmlType); 5] = [
        ("z.weight", &[64, 3], GgmlType::F32),
        ("scalar", &[], GgmlType::F16),
        ("blk.0.ones", &[32, 2, 1, 1], GgmlType::Q8_0),
        ("empty", &[256, 0], GgmlType::Q4_K),
        ("a.weight", &[5], GgmlType::BF16),
    ];
    for (name, shape, ty) in tensors {
        let info = TensorInfo { name: name.into(), shape: shape.to_vec(), ty, offset: 0 };
        header.tensors.insert(name.into(), info);
    }
    header.lay_out();
    header
}

/// The bytes of tensor `name` in a file that is open as `model`.
pub(crate) fn data(model: &aird_gguf::Model, name: &str) -> Vec<u8> {
    model.tensor(name).unwrap().data().to_vec()
}

/// New bytes of type `ty`, all equal.
pub(crate) fn filled<'a>(ty: GgmlType, byte: u8) -> Replacement<'a> {
    let produce = Box::new(move |_, bytes: &mut [u8]| {
        bytes.fill(byte);
        Ok(())
    });
    Replacement { ty, ask: Ask::Chunks, produce }
}

/// The names in a folder, sorted.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A watch that stops the work at once.
pub(crate) struct Stop;

impl Watch for Stop {
    fn interrupted(&self) -> bool {
        true
    }
}

/// A value of that type with any bits: NaNs with payloads, bools of 17, strings that are no text.
fn scalar(ty: ValueType) -> BoxedStrategy<Value> {
    match ty {
        ValueType::U8 => any::<u8>().prop_map(Value::U8).boxed(),
        ValueType::I8 => any::<i8>().prop_map(Value::I8).boxed(),
        ValueType::U16 => any::<u16>().prop_map(Value::U16).boxed(),
        ValueType::I16 => any::<i16>().prop_map(Value::I16).boxed(),
        ValueType::U32 => any::<u32>().prop_map(Value::U32).boxed(),
        ValueType::I32 => any::<i32>().prop_map(Value::I32).boxed(),
        ValueType::F32 => any::<u32>().prop_map(|b| Value::F32(f32::from_bits(b))).boxed(),
        ValueType::Bool => any::<u8>().prop_map(Value::Bool).boxed(),
        ValueType::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        ValueType::I64 => any::<i64>().prop_map(Value::I64).boxed(),
        ValueType::F64 => any::<u64>().prop_map(|b| Value::F64(f64::from_bits(b))).boxed(),
        ValueType::String | ValueType::Array => {
            vec(any::<u8>(), 0..12).prop_map(Value::String).boxed()
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let array = select(&ValueType::ALL[..]).prop_flat_map(|ty| {
        let ty = if ty == ValueType::Array { ValueType::String } else { ty };
        vec(scalar(ty), 0..6).prop_map(move |values| Value::array(ty, values))
    });
    prop_oneof![2 => select(&ValueType::ALL[..]).prop_flat_map(scalar), 1 => array]
}

/// Any header that the format allows, small, and laid out.
pub(crate) fn header() -> impl Strategy<Value = Header> {
    let keys = vec(("[a-z_.]{1,16}", value()), 0..8);
    let alignment = select(&[None, Some(8u32), Some(64), Some(4096)][..]);
    let further = vec(prop_oneof![1 => Just(0u64), 6 => 1..4u64, 3 => Just(1)], 0..4);
    let tensors = vec((".{1,5}", select(GgmlType::ALL), 1..3u64, further), 0..6);
    (2..=3u32, keys, alignment, tensors).prop_map(|(version, keys, alignment, tensors)| {
        let mut header = Header { version, ..Header::new() };
        header.kv.extend(keys.into_iter().filter(|(key, _)| key != ALIGNMENT_KEY));
        header.kv.extend(alignment.map(|n| (ALIGNMENT_KEY.to_owned(), Value::U32(n))));
        for (name, ty, n_blocks, further) in tensors {
            let n_cols = n_blocks * ty.layout().block_len;
            let shape = std::iter::once(n_cols).chain(further).collect();
            header.tensors.insert(name.clone(), TensorInfo { name, shape, ty, offset: 0 });
        }
        header.lay_out();
        header
    })
}
