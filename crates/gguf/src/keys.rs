//! Keys read as the type that they must have. An absent key is `None`. A key of another type is an
//! error and not a default, so that a wrong file is not read as a different model.

use crate::error::{Error, Result};
use crate::header::KvMap;
use crate::history::HISTORY_KEY;
use crate::value::{Array, Value, ValueType};

/// Keys that must be of this type where a file has them: llama.cpp refuses most of them with
/// another type, and aborts at some.
const TEXTS: [&str; 3] = ["general.architecture", "general.type", "general.name"];
const TEXT_LISTS: [&str; 2] = ["tokenizer.ggml.tokens", HISTORY_KEY];
/// Indices of tokens. One outside the vocabulary, e.g. -1, means that there is no such token, so
/// any integer is allowed.
const TOKENS: [&str; 4] = [
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.padding_token_id",
];
/// Counts that must be whole numbers, after `{architecture}.`.
const HPARAMS: [&str; 3] = ["block_count", "embedding_length", "context_length"];

/// Checks the types of all keys that are listed above.
///
/// # Errors
/// [`Error::WrongValue`] with the first that has another type.
pub(crate) fn check(kv: &KvMap) -> Result<()> {
    for key in TEXTS {
        text(kv, key)?;
    }
    for key in TEXT_LISTS {
        texts(kv, key)?;
    }
    for key in TOKENS {
        let other = kv.get(key).filter(|value| !value.value_type().is_integer());
        other.map_or(Ok(()), |value| Err(wrong(key, value, "a whole number")))?;
    }
    let architecture = text(kv, "general.architecture")?.unwrap_or_default();
    for name in HPARAMS {
        count(kv, &format!("{architecture}.{name}"))?;
    }
    Ok(())
}

/// The key as UTF-8 text.
///
/// # Errors
/// The key is something else, or not UTF-8.
pub(crate) fn text<'k>(kv: &'k KvMap, key: &str) -> Result<Option<&'k str>> {
    let Some(value) = kv.get(key) else { return Ok(None) };
    match value {
        Value::String(bytes) => {
            let text = std::str::from_utf8(bytes);
            text.map(Some).map_err(|_| wrong(key, value, "a text in UTF-8"))
        }
        _ => Err(wrong(key, value, "a text")),
    }
}

/// The key as a whole number, 0 or more, of any width.
///
/// # Errors
/// The key is something else.
pub(crate) fn count(kv: &KvMap, key: &str) -> Result<Option<u64>> {
    let Some(value) = kv.get(key) else { return Ok(None) };
    value.as_u64().map(Some).ok_or_else(|| wrong(key, value, "a whole number, 0 or more"))
}

/// The key as a count of the whole model, or that of block `block` where it lists one for each.
///
/// # Errors
/// The key is something else, or lists too few.
pub(crate) fn count_of_block(kv: &KvMap, key: &str, block: u32) -> Result<Option<u64>> {
    let Some(Value::Array(array)) = kv.get(key) else { return count(kv, key) };
    let found = array.iter().nth(block as usize).and_then(|value| value.as_u64());
    let expected = "a whole number, 0 or more, or one for each block";
    let wrong = || Error::WrongValue {
        key: key.into(),
        found: Value::Array(array.clone()).brief(),
        expected,
    };
    found.map(Some).ok_or_else(wrong)
}

/// The key as a finite number: a float, or an integer that an f64 holds exactly.
///
/// # Errors
/// The key is something else.
pub(crate) fn number(kv: &KvMap, key: &str) -> Result<Option<f64>> {
    let Some(value) = kv.get(key) else { return Ok(None) };
    let number = value.as_f64().or_else(|| value.as_exact_f64()).filter(|x| x.is_finite());
    number.map(Some).ok_or_else(|| wrong(key, value, "a finite number"))
}

/// The key as a list of texts. These are bytes: tokens need not be UTF-8.
///
/// # Errors
/// The key is something else.
pub(crate) fn texts<'k>(kv: &'k KvMap, key: &str) -> Result<Option<&'k Array>> {
    let Some(value) = kv.get(key) else { return Ok(None) };
    let array = value.as_array().filter(|array| array.element() == ValueType::String);
    array.map(Some).ok_or_else(|| wrong(key, value, "a list of texts"))
}

/// The error of a required key that is absent.
pub(crate) fn missing(key: &str, expected: &'static str) -> Error {
    Error::WrongValue { key: key.into(), found: "missing".into(), expected }
}

fn wrong(key: &str, value: &Value, expected: &'static str) -> Error {
    Error::WrongValue { key: key.into(), found: value.brief(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: Value) -> KvMap {
        KvMap::from([("general.architecture".to_owned(), "llama".into()), (key.to_owned(), value)])
    }

    #[test]
    fn absent_is_none_and_another_type_is_an_error_that_names_both() {
        let kv = with("k", Value::U32(7));
        assert_eq!(text(&kv, "other").unwrap(), None);
        let said = text(&kv, "k").unwrap_err().to_string();
        assert_eq!(said, "key 'k' is u32 7, expected a text");
        assert_eq!(count(&kv, "k").unwrap(), Some(7));
        assert!(count(&with("k", Value::I32(-7)), "k").is_err());
        assert!(count(&with("k", "7".into()), "k").is_err());
        assert!(count(&with("k", Value::F32(7.0)), "k").is_err());
        assert!(texts(&with("k", Value::array(ValueType::U32, [])), "k").is_err());
        assert!(text(&with("k", Value::String(vec![0xff])), "k").is_err());
    }

    #[test]
    fn integers_become_numbers_only_where_nothing_is_lost() {
        let number = |value: Value| number(&with("k", value), "k").ok().flatten();
        assert_eq!(number(Value::U32(16)), Some(16.0));
        assert_eq!(number(Value::I64(-16)), Some(-16.0));
        assert_eq!(number(Value::U64(1 << 53)), Some((1u64 << 53) as f64));
        for wrong in [
            Value::U64((1 << 53) + 1),
            Value::I64(i64::MIN + 1),
            Value::U64(u64::MAX),
            Value::F32(f32::NAN),
            Value::F64(f64::INFINITY),
            Value::Bool(1),
            "16".into(),
        ] {
            assert_eq!(number(wrong.clone()), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_count_may_be_listed_by_block() {
        let kv = with("k", Value::array(ValueType::U32, [2, 4].map(Value::U32)));
        assert_eq!(count_of_block(&kv, "k", 1).unwrap(), Some(4));
        assert!(count_of_block(&kv, "k", 2).is_err());
        assert!(count(&kv, "k").is_err());
        let negative = with("k", Value::array(ValueType::I32, [Value::I32(-1)]));
        assert!(count_of_block(&negative, "k", 0).is_err());
    }

    #[test]
    fn every_key_that_is_known_is_checked() {
        let bools = || Value::array(ValueType::Bool, [Value::Bool(1)]);
        let hparams = HPARAMS.map(|name| format!("llama.{name}"));
        let keys = TEXTS.iter().chain(&TEXT_LISTS).chain(&TOKENS).map(|key| key.to_string());
        for key in keys.chain(hparams) {
            assert!(check(&with(&key, bools())).is_err(), "{key}");
        }
        assert!(check(&with(TOKENS[0], Value::I32(-1))).is_ok());
        assert!(check(&with("llama.rope.dimension_sections", bools())).is_ok());
    }
}
