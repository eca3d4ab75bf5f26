//! Arbitrary GGUF files: every value type, odd names, odd padding, odd bits.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use aird::gguf::{ALIGNMENT_KEY, GgmlType, Header, TensorInfo, Value, ValueType};

use super::random::Random;

/// A header with what stands around it in a file.
#[derive(Debug, Clone)]
pub struct ArbitraryFile {
    pub header: Header,
    /// Decides the tensors' bytes.
    seed: u64,
    /// Byte of all padding: writers leave what they like there.
    padding: u8,
    /// Whether the last tensor is padded as the others are.
    padded: bool,
    /// Bytes behind everything.
    trailing: usize,
}

impl ArbitraryFile {
    pub fn bytes(&self) -> Vec<u8> {
        let mut random = Random::new(self.seed);
        let mut out = unpadded(&self.header);
        let alignment = self.header.alignment() as usize;
        let count = self.header.tensors.len();
        if count > 0 {
            out.resize(out.len().next_multiple_of(alignment), self.padding);
        }
        for (i, tensor) in self.header.tensors.values().enumerate() {
            out.extend(random.bytes(tensor.n_bytes() as usize));
            if self.padded || i + 1 < count {
                out.resize(out.len().next_multiple_of(alignment), self.padding);
            }
        }
        out.extend(random.bytes(self.trailing));
        out
    }
}

/// The header's bytes without the padding at their end.
fn unpadded(header: &Header) -> Vec<u8> {
    let mut bytes = header.encode();
    let infos = header.tensors.values().map(|t| 8 + t.name.len() + 4 + 8 * t.shape.len() + 4 + 8);
    let keys = header.kv.iter().map(|(key, value)| 8 + key.len() + encoded_bytes(value));
    let len = 24 + keys.sum::<usize>() + infos.sum::<usize>();
    assert!(len <= bytes.len() && bytes[len..].iter().all(|&b| b == 0));
    bytes.truncate(len);
    bytes
}

/// Type and payload of a value, written down once more and apart from the codec.
fn encoded_bytes(value: &Value) -> usize {
    let payload = |value: &Value| match value {
        Value::String(text) => 8 + text.len(),
        scalar => scalar.value_type().fixed_bytes().unwrap() as usize,
    };
    match value {
        Value::Array(array) => 4 + 4 + 8 + array.iter().map(|v| payload(&v)).sum::<usize>(),
        other => 4 + payload(other),
    }
}

/// Mostly text, sometimes no UTF-8 at all, sometimes with NULs.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-z ]{0,12}".prop_map(String::into_bytes),
        ".{0,6}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..12),
    ]
}

/// A value of that type: any bits at all, so NaNs with payloads and bools of 17 as well.
fn scalar(ty: ValueType) -> BoxedStrategy<Value> {
    match ty {
        ValueType::U8 => any::<u8>().prop_map(Value::U8).boxed(),
        ValueType::I8 => any::<i8>().prop_map(Value::I8).boxed(),
        ValueType::U16 => any::<u16>().prop_map(Value::U16).boxed(),
        ValueType::I16 => any::<i16>().prop_map(Value::I16).boxed(),
        ValueType::U32 => any::<u32>().prop_map(Value::U32).boxed(),
        ValueType::I32 => any::<i32>().prop_map(Value::I32).boxed(),
        ValueType::F32 => float_bits().prop_map(|b| Value::F32(f32::from_bits(b as u32))).boxed(),
        ValueType::Bool => any::<u8>().prop_map(Value::Bool).boxed(),
        ValueType::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        ValueType::I64 => any::<i64>().prop_map(Value::I64).boxed(),
        ValueType::F64 => float_bits().prop_map(|b| Value::F64(f64::from_bits(b))).boxed(),
        ValueType::String | ValueType::Array => text().prop_map(Value::String).boxed(),
    }
}

/// Any bits, and often those of a NaN, of either width and sign.
fn float_bits() -> impl Strategy<Value = u64> {
    let nan = any::<u64>().prop_map(|b| b | 0x7ff0_0000_7f80_0000);
    prop_oneof![any::<u64>(), nan]
}

pub fn value() -> impl Strategy<Value = Value> {
    let array = select(&ValueType::ALL[..]).prop_flat_map(|ty| {
        let ty = if ty == ValueType::Array { ValueType::String } else { ty };
        vec(scalar(ty), 0..6).prop_map(move |values| Value::array(ty, values))
    });
    prop_oneof![2 => select(&ValueType::ALL[..]).prop_flat_map(scalar), 1 => array]
}

/// Shape and type that fit each other, small; now and then empty, or with ones at the end.
fn shape_and_type() -> impl Strategy<Value = (Vec<u64>, GgmlType)> {
    let further = vec(prop_oneof![1 => Just(0u64), 6 => 1..4u64, 3 => Just(1)], 0..4);
    (select(GgmlType::ALL), 0..3u64, further, prop::bool::weighted(0.1)).prop_map(
        |(ty, n_blocks, further, scalar)| {
            if scalar && !ty.is_quantized() {
                return (Vec::new(), ty);
            }
            let mut shape = vec![n_blocks.max(1) * ty.layout().block_len];
            shape.extend(further);
            (shape, ty)
        },
    )
}

/// A header whose tensors' names begin with `prefix`, so that shards do not share any.
pub fn header(prefix: &'static str) -> impl Strategy<Value = Header> {
    let keys = vec((prop_oneof!["[a-z_.]{1,16}", ".{1,6}"], value()), 0..8);
    let alignment = select(&[None, Some(8u32), Some(32), Some(64), Some(4096)][..]);
    let tensors = vec((".{0,5}", shape_and_type()), 0..6);
    (2..=3u32, keys, alignment, any::<prop::sample::Index>(), tensors).prop_map(
        move |(version, keys, alignment, at, tensors)| {
            let mut header = Header { version, ..Header::new() };
            header.kv.extend(keys.into_iter().filter(|(key, _)| key != ALIGNMENT_KEY));
            if let Some(alignment) = alignment {
                let at = at.index(header.kv.len() + 1);
                header.kv.shift_insert(at, ALIGNMENT_KEY.into(), Value::U32(alignment));
            }
            for (name, (shape, ty)) in tensors {
                let name = format!("{prefix}{name}");
                let info = TensorInfo { name: name.clone(), shape, ty, offset: 0 };
                header.tensors.insert(name, info);
            }
            header.lay_out();
            header
        },
    )
}

pub fn file(prefix: &'static str) -> impl Strategy<Value = ArbitraryFile> {
    (header(prefix), any::<u64>(), any::<u8>(), any::<bool>(), prop_oneof![Just(0), 0..70usize])
        .prop_map(|(header, seed, padding, padded, trailing)| ArbitraryFile {
            header,
            seed,
            padding,
            padded,
            trailing,
        })
}
