//! Values of a header's keys: the thirteen types, encoded and decoded without loss.
//!
//! ```text
//! key-value = key: string | type: u32 | payload
//! string    = length: u64 | bytes          (not always UTF-8: tokens are bytes)
//! array     = type: u32 | count: u64 | payloads, no arrays within
//! ```
//! A value keeps the bits that it was read from: a float its NaN payload, a bool its byte, an array
//! its payload. So `encode(decode(x)) == x` holds by construction.

use std::borrow::Cow;

use crate::cursor::Cursor;
use crate::error::{Error, Result};

/// The type of a value: `enum gguf_type` of llama.cpp's `gguf.h`. The format has had these thirteen
/// since version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueType {
    /// Unsigned, 8 bits.
    U8 = 0,
    /// Signed, 8 bits.
    I8 = 1,
    /// Unsigned, 16 bits.
    U16 = 2,
    /// Signed, 16 bits.
    I16 = 3,
    /// Unsigned, 32 bits.
    U32 = 4,
    /// Signed, 32 bits.
    I32 = 5,
    /// IEEE 754 binary32.
    F32 = 6,
    /// One byte; 0 is false, and writers use 1 for true.
    Bool = 7,
    /// Bytes with a u64 length, usually UTF-8.
    String = 8,
    /// Values of one type, which is not an array, with a u64 count.
    Array = 9,
    /// Unsigned, 64 bits.
    U64 = 10,
    /// Signed, 64 bits.
    I64 = 11,
    /// IEEE 754 binary64.
    F64 = 12,
}

impl ValueType {
    /// All value types, by ascending id.
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

    /// The type with that id in the file; None if there is no such type.
    #[must_use]
    pub fn from_id(id: u32) -> Option<ValueType> {
        ValueType::ALL.get(id as usize).copied()
    }

    /// The short name that llama.cpp prints: `u32`, `str`, `arr`.
    #[must_use]
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 13] = [
            "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "arr", "u64", "i64",
            "f64",
        ];
        NAMES[self as usize]
    }

    /// True for the eight integer types; false for bools.
    #[must_use]
    pub fn is_integer(self) -> bool {
        use ValueType as T;
        matches!(self, T::U8 | T::I8 | T::U16 | T::I16 | T::U32 | T::I32 | T::U64 | T::I64)
    }

    /// Bytes of a value without its type; None for strings and arrays, which have no fixed size.
    #[must_use]
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

/// An array, kept as the bytes that it has in the file. Elements are decoded when they are asked
/// for: a tokenizer has hundreds of thousands of them, and most programs need none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    element: ValueType,
    len: u64,
    payload: Vec<u8>,
}

impl Array {
    /// The type that every element has.
    #[must_use]
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// An array without elements.
    ///
    /// # Panics
    /// If `element` is [`ValueType::Array`]: the format has no arrays of arrays.
    #[must_use]
    pub fn new(element: ValueType) -> Array {
        assert!(element != ValueType::Array, "GGUF has no arrays of arrays");
        Array { element, len: 0, payload: Vec::new() }
    }

    /// Adds `value` at the end. Returns false, and adds nothing, if it has another type than the
    /// array's elements.
    pub fn push(&mut self, value: &Value) -> bool {
        if value.value_type() != self.element {
            return false;
        }
        value.encode_payload(&mut self.payload);
        self.len += 1;
        true
    }

    /// The elements, in the file's order, decoded one by one.
    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        let mut cursor = Cursor::new(&self.payload);
        (0..self.len).map_while(move |_| Value::decode_scalar(self.element, &mut cursor, "").ok())
    }

    /// Reads element type, count and payload. `key` names the array in errors.
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
            // No overflow: len <= 2^30, and an element has at most 8 bytes.
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
const MAX_ARRAY_LEN: u64 = 1 << 30;

/// The value of a key, with the exact bits that it has in the file. `From` makes one of Rust's
/// numbers, bools and strings.
///
/// ```
/// use aird_gguf::Value;
///
/// assert_eq!(Value::from(7u32).as_u64(), Some(7));
/// assert_eq!(Value::from("llama").as_str(), Some("llama"));
/// // Equal by bits: a signed zero is another value.
/// assert_ne!(Value::from(0.0f32), Value::from(-0.0f32));
/// ```
#[derive(Debug, Clone)]
pub enum Value {
    /// Unsigned, 8 bits.
    U8(u8),
    /// Signed, 8 bits.
    I8(i8),
    /// Unsigned, 16 bits.
    U16(u16),
    /// Signed, 16 bits.
    I16(i16),
    /// Unsigned, 32 bits.
    U32(u32),
    /// Signed, 32 bits.
    I32(i32),
    /// IEEE 754 binary32, any NaN with its bits.
    F32(f32),
    /// The byte of a bool: 0 is false, anything else is true and is kept.
    Bool(u8),
    /// Bytes, usually UTF-8: see [`Value::as_str`].
    String(Vec<u8>),
    /// Values of one type.
    Array(Array),
    /// Unsigned, 64 bits.
    U64(u64),
    /// Signed, 64 bits.
    I64(i64),
    /// IEEE 754 binary64, any NaN with its bits.
    F64(f64),
}

impl Value {
    /// The type that is stored with the value.
    #[must_use]
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

    /// An array of `values`, which must all have the type `element`.
    ///
    /// # Panics
    /// If a value has another type, or `element` is [`ValueType::Array`].
    #[must_use]
    pub fn array(element: ValueType, values: impl IntoIterator<Item = Value>) -> Value {
        let mut array = Array::new(element);
        for value in values {
            assert!(array.push(&value), "an array holds values of one type");
        }
        Value::Array(array)
    }

    /// An array of strings, from texts or from bytes.
    #[must_use]
    pub fn strings<S: AsRef<[u8]>>(values: impl IntoIterator<Item = S>) -> Value {
        let values = values.into_iter().map(|s| Value::String(s.as_ref().to_vec()));
        Value::array(ValueType::String, values)
    }

    /// The text of a string; None if it is not valid UTF-8, and for other types.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The text of a string with invalid UTF-8 replaced, for display only; None for other types.
    #[must_use]
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::String(bytes) => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        }
    }

    /// The number of any integer type; None if it is negative, and for other types.
    #[must_use]
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

    /// The number of an f32 or an f64; None for other types, integers too.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => None,
        }
    }

    /// The number of any integer type; None if an f64 does not hold it exactly, and for other
    /// types.
    #[must_use]
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

    /// The truth of a bool; None for other types.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(v) => Some(v != 0),
            _ => None,
        }
    }

    /// The array; None for other types.
    #[must_use]
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// A number of any type in decimal; None for bools, strings and arrays.
    #[must_use]
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
    pub(crate) fn brief(&self) -> String {
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
    pub(crate) fn decode(cursor: &mut Cursor<'_>, key: &str) -> Result<Value> {
        let at = cursor.offset();
        let id = cursor.u32()?;
        match ValueType::from_id(id) {
            None => Err(Error::UnknownValueType { key: key.into(), id, offset: at }),
            Some(ValueType::Array) => Ok(Value::Array(Array::decode(cursor, key)?)),
            Some(scalar) => Value::decode_scalar(scalar, cursor, key),
        }
    }

    /// Reads a value of a type that is known already.
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
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend((self.value_type() as u32).to_le_bytes());
        self.encode_payload(out);
    }

    /// Appends the value without its type.
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
        match (self, other) {
            (Value::Array(x), Value::Array(y)) => x == y,
            (Value::String(x), Value::String(y)) => x == y,
            _ => {
                let mut a = Vec::new();
                self.encode(&mut a);
                let mut b = Vec::new();
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
