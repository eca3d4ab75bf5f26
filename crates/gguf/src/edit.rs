//! Edits of a header's keys that keep the order of all others.

use crate::error::{Error, Result};
use crate::header::KvMap;
use crate::value::{Array, Value};

/// A change of one key, all others keeping their bytes and their order.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub enum KvEdit {
    /// Gives the key a value of any type. A known key keeps its place, a new one comes last.
    Set(String, Value),
    /// Adds one element to the end of an array; makes the array if the key is new.
    Append(String, Value),
    /// Removes the key; nothing happens if it is not there.
    Remove(String),
}

impl KvEdit {
    /// Changes `kv` in place.
    ///
    /// # Errors
    /// [`Error::WrongValue`] of [`KvEdit::Append`]: the key is no array, or one of another type, or
    /// the new element is an array itself. `kv` is then as it was.
    pub fn apply(&self, kv: &mut KvMap) -> Result<()> {
        match self {
            KvEdit::Set(key, value) => {
                kv.insert(key.clone(), value.clone());
            }
            KvEdit::Remove(key) => {
                kv.shift_remove(key);
            }
            KvEdit::Append(key, Value::Array(_)) => {
                return Err(Error::WrongValue {
                    key: key.clone(),
                    found: "given an array as an element".into(),
                    expected: "a single value",
                });
            }
            KvEdit::Append(key, value) => {
                let empty = || Value::Array(Array::new(value.value_type()));
                let slot = kv.entry(key.clone()).or_insert_with(empty);
                let Value::Array(array) = slot else {
                    return Err(cannot_grow(key, &format!("of type {}", slot.value_type().name())));
                };
                if !array.push(value) {
                    return Err(cannot_grow(
                        key,
                        &format!("an array of {}", array.element().name()),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn cannot_grow(key: &str, found: &str) -> Error {
    Error::WrongValue {
        key: key.into(),
        found: found.into(),
        expected: "an array of the type that is added to it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(kv: &KvMap) -> Vec<&str> {
        kv.keys().map(String::as_str).collect()
    }

    #[test]
    fn edits_keep_the_order_of_the_other_keys() {
        let mut kv = KvMap::new();
        for key in ["a", "b", "c"] {
            kv.insert(key.into(), Value::U32(1));
        }
        KvEdit::Set("b".into(), "new".into()).apply(&mut kv).unwrap();
        KvEdit::Remove("a".into()).apply(&mut kv).unwrap();
        KvEdit::Append("d".into(), "x".into()).apply(&mut kv).unwrap();
        KvEdit::Append("d".into(), "y".into()).apply(&mut kv).unwrap();
        assert_eq!(keys(&kv), ["b", "c", "d"]);
        assert_eq!(kv["d"], Value::strings(["x", "y"]));
    }

    #[test]
    fn a_scalar_does_not_grow() {
        let mut kv = KvMap::new();
        kv.insert("a".into(), Value::U32(1));
        assert!(KvEdit::Append("a".into(), Value::U32(2)).apply(&mut kv).is_err());
        let array = Value::strings(["x"]);
        assert!(KvEdit::Append("b".into(), array).apply(&mut kv).is_err());
        assert_eq!(kv["a"], Value::U32(1));
    }
}
