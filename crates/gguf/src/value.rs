//! Values of a header's keys: the thirteen types, encoded and decoded without loss.
//!
//! ```text
//! key-value = key: string | type: u32 | payload
//! string    = length: u64 | bytes          (not always UTF-8: tokens are bytes)
//! array     = type: u32 | count: u64 | payloads, no arrays within
//! ```
//! A value keeps the very bits it was read from: floats by their bits, a bool by its byte, an
//! array by its payload. So `encode(decode(x)) == x` holds by construction.

use std::borrow::Cow;

use super::cursor::Cursor;
use super::error::{Error, Result};

/// `enum gguf_type` of llama.cpp's `gguf.h`.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// All thirteen, by ascending id.
    pub const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::String,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The type with that id.
    pub fn from_id(id: u32) -> Option<ValueType> {
        ValueType::ALL.get(id as usize).copied()
    }

    /// llama.cpp's short name (`u32`, `str`, `arr`).
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 13] = [
            "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "arr", "u64", "i64",
            "f64",
        ];
        NAMES[self as usize]
    }

    /// True for whole numbers, with or without a sign.
    pub fn is_integer(self) -> bool {
        use ValueType as T;
        matches!(self, T::U8 | T::I8 | T::U16 | T::I16 | T::U32 | T::I32 | T::U64 | T::I64)
    }

    /// Bytes of a payload of fixed size; None for strings and arrays.
    pub fn fixed_bytes(self) -> Option<u64> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::String | ValueType::Array => None,
        }
    }
}

/// An array as it lies in the file: its elements are decoded when asked for, since a tokenizer
/// has hundreds of thousands of them and most verbs look at none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    element: ValueType,
    len: u64,
    payload: Vec<u8>,
}

impl Array {
    /// Type of every element.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// An empty array of `element`; arrays of arrays do not exist in the format.
    pub fn new(element: ValueType) -> Array {
        assert!(element != ValueType::Array, "GGUF has no arrays of arrays");
        Array { element, len: 0, payload: Vec::new() }
    }

    /// Adds `value` at the end; false, and nothing done, if its type is not the array's.
    pub fn push(&mut self, value: &Value) -> bool {
        if value.value_type() != self.element {
            return false;
        }
        value.encode_payload(&mut self.payload);
        self.len += 1;
        true
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        let mut cursor = Cursor::new(&self.payload);
        (0..self.len).map_while(move |_| Value::decode_scalar(self.element, &mut cursor, "").ok())
    }

    fn decode(cursor: &mut Cursor<'_>, key: &str) -> Result<Array> {
        let at = cursor.offset();
        let id = cursor.u32()?;
        let element = ValueType::from_id(id).ok_or_else(|| Error::UnknownValueType {
            key: key.into(),
            id,
            offset: at,
        })?;
        if element == ValueType::Array {
            return Err(Error::NestedArray { key: key.into(), offset: at });
        }
        let at = cursor.offset();
        let len = cursor.u64()?;
        if len > MAX_ARRAY_LEN {
            return Err(Error::ArrayTooLong { key: key.into(), len, offset: at });
        }
        let start = cursor.position();
        match element.fixed_bytes() {
            // No overflow: len <= 2^30 and a payload has at most 8 bytes.
            Some(bytes) => drop(cursor.take(len * bytes)?),
            None => {
                for _ in 0..len {
                    cursor.string()?;
                }
            }
        }
        Ok(Array { element, len, payload: cursor.since(start).to_vec() })
    }
}

/// `GGUF_MAX_ARRAY_ELEMENTS` of llama.cpp's `gguf.cpp`.
pub const MAX_ARRAY_LEN: u64 = 1 << 30;

/// One value of a header. Strings are bytes: see [`Value::as_str`].
#[allow(missing_docs)]
#[derive(Debug, Clone)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    /// The byte of a bool; anything but 0 is true.
    Bool(u8),
    String(Vec<u8>),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// The type as the file stores it.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// An array of `values`, all of type `element`.
    ///
    /// # Panics
    /// If a value has another type: a mistake of the caller, never of a file.
    pub fn array(element: ValueType, values: impl IntoIterator<Item = Value>) -> Value {
        let mut array = Array::new(element);
        for value in values {
            assert!(array.push(&value), "an array holds values of one type");
        }
        Value::Array(array)
    }

    /// An array of strings.
    pub fn strings<S: AsRef<[u8]>>(values: impl IntoIterator<Item = S>) -> Value {
        let values = values.into_iter().map(|s| Value::String(s.as_ref().to_vec()));
        Value::array(ValueType::String, values)
    }

    /// A string's text, if it is valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// A string's text, invalid bytes replaced: for showing only.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::String(bytes) => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        }
    }

    /// Any integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// Either float.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => None,
        }
    }

    /// An integer that an f64 holds to the bit.
    pub fn as_exact_f64(&self) -> Option<f64> {
        let wide = match *self {
            Value::U8(v) => i128::from(v),
            Value::I8(v) => i128::from(v),
            Value::U16(v) => i128::from(v),
            Value::I16(v) => i128::from(v),
            Value::U32(v) => i128::from(v),
            Value::I32(v) => i128::from(v),
            Value::U64(v) => i128::from(v),
            Value::I64(v) => i128::from(v),
            _ => return None,
        };
        let nearest = wide as f64;
        (nearest as i128 == wide).then_some(nearest)
    }

    /// A bool.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(v) => Some(v != 0),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// A number, whatever its type, in decimal; None for bools, strings and arrays.
    pub fn number_text(&self) -> Option<String> {
        Some(match self {
            Value::U8(v) => v.to_string(),
            Value::I8(v) => v.to_string(),
            Value::U16(v) => v.to_string(),
            Value::I16(v) => v.to_string(),
            Value::U32(v) => v.to_string(),
            Value::I32(v) => v.to_string(),
            Value::U64(v) => v.to_string(),
            Value::I64(v) => v.to_string(),
            Value::F32(v) => v.to_string(),
            Value::F64(v) => v.to_string(),
            Value::Bool(_) | Value::String(_) | Value::Array(_) => return None,
        })
    }

    /// Type and value for a message, short whatever a file holds.
    pub(super) fn brief(&self) -> String {
        const MAX_CHARS: usize = 40;
        let text = match self {
            Value::Bool(v) => v.to_string(),
            Value::String(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                format!("{:?}", text.chars().take(MAX_CHARS).collect::<String>())
            }
            Value::Array(array) => format!("of {} {}", array.len, array.element.name()),
            number => number.number_text().unwrap_or_default(),
        };
        format!("{} {text}", self.value_type().name())
    }

    /// Reads the type and the payload. `key` names the value in errors.
    pub(super) fn decode(cursor: &mut Cursor<'_>, key: &str) -> Result<Value> {
        let at = cursor.offset();
        let id = cursor.u32()?;
        match ValueType::from_id(id) {
            None => Err(Error::UnknownValueType { key: key.into(), id, offset: at }),
            Some(ValueType::Array) => Ok(Value::Array(Array::decode(cursor, key)?)),
            Some(scalar) => Value::decode_scalar(scalar, cursor, key),
        }
    }

    fn decode_scalar(ty: ValueType, cursor: &mut Cursor<'_>, key: &str) -> Result<Value> {
        Ok(match ty {
            ValueType::U8 => Value::U8(cursor.u8()?),
            ValueType::I8 => Value::I8(cursor.u8()?.cast_signed()),
            ValueType::U16 => Value::U16(cursor.u16()?),
            ValueType::I16 => Value::I16(cursor.u16()?.cast_signed()),
            ValueType::U32 => Value::U32(cursor.u32()?),
            ValueType::I32 => Value::I32(cursor.u32()?.cast_signed()),
            ValueType::F32 => Value::F32(f32::from_bits(cursor.u32()?)),
            ValueType::Bool => Value::Bool(cursor.u8()?),
            ValueType::String => Value::String(cursor.string()?.to_vec()),
            ValueType::U64 => Value::U64(cursor.u64()?),
            ValueType::I64 => Value::I64(cursor.u64()?.cast_signed()),
            ValueType::F64 => Value::F64(f64::from_bits(cursor.u64()?)),
            ValueType::Array => {
                return Err(Error::NestedArray { key: key.into(), offset: cursor.offset() });
            }
        })
    }

    /// Appends the type and the payload.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend((self.value_type() as u32).to_le_bytes());
        self.encode_payload(out);
    }

    fn encode_payload(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(v) | Value::Bool(v) => out.push(*v),
            Value::I8(v) => out.push(v.cast_unsigned()),
            Value::U16(v) => out.extend(v.to_le_bytes()),
            Value::I16(v) => out.extend(v.to_le_bytes()),
            Value::U32(v) => out.extend(v.to_le_bytes()),
            Value::I32(v) => out.extend(v.to_le_bytes()),
            Value::F32(v) => out.extend(v.to_bits().to_le_bytes()),
            Value::U64(v) => out.extend(v.to_le_bytes()),
            Value::I64(v) => out.extend(v.to_le_bytes()),
            Value::F64(v) => out.extend(v.to_bits().to_le_bytes()),
            Value::String(bytes) => {
                out.extend((bytes.len() as u64).to_le_bytes());
                out.extend(bytes);
            }
            Value::Array(array) => {
                out.extend((array.element as u32).to_le_bytes());
                out.extend(array.len.to_le_bytes());
                out.extend(&array.payload);
            }
        }
    }
}

/// Equal to the bit: two NaNs of the same bits are equal, 0.0 and -0.0 are not.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        match (self, other) {
            (Value::Array(x), Value::Array(y)) => x == y,
            (Value::String(x), Value::String(y)) => x == y,
            _ => {
                self.encode(&mut a);
                other.encode(&mut b);
                a == b
            }
        }
    }
}

impl Eq for Value {}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.as_bytes().to_vec())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text.into_bytes())
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Value {
        Value::Bool(v.into())
    }
}

macro_rules! value_from {
    ($($ty:ty => $variant:ident),*) => {
        $(impl From<$ty> for Value {
            fn from(v: $ty) -> Value { Value::$variant(v) }
        })*
    };
}

value_from!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32,
    u64 => U64, i64 => I64, f64 => F64);
