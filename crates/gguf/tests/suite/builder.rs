//! The builder makes files that can be read, and refuses to make others.

use std::path::Path;

use aird_gguf::{
    ALIGNMENT_KEY, Builder, Error, GgmlType, KvEdit, Model, Value, ValueType, history,
};

use crate::support::names_in;

#[test]
fn what_was_built_is_read_again_in_the_same_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut file = Builder::new();
    file.kv("z", 1u8).kv("a", true).kv("z", "again").kv(ALIGNMENT_KEY, 8u32);
    file.tensor("y", &[3], GgmlType::I8, vec![1, 2, 3]).unwrap();
    file.tensor("b", &[2, 2], GgmlType::F16, vec![9; 8]).unwrap();
    file.write(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), file.encode());

    let model = Model::open(&path).unwrap();
    let keys: Vec<&str> = model.kv().keys().map(String::as_str).collect();
    assert_eq!(keys, ["z", "a", ALIGNMENT_KEY]);
    assert_eq!(model.kv()["z"], Value::from("again"));
    let tensors: Vec<(&str, &[u8])> =
        model.tensors().map(|t| (t.info.name.as_str(), t.data())).collect();
    assert_eq!(tensors, [("y", &[1, 2, 3][..]), ("b", &[9; 8])]);
    assert!(history(model.kv()).is_empty());
}

#[test]
fn a_tensor_that_does_not_fit_its_bytes_is_refused() {
    let mut file = Builder::new();
    let long = "n".repeat(64);
    let refused = [
        (file.tensor("a", &[4], GgmlType::F32, vec![0; 15]).map(drop), "15 bytes, expected 16"),
        (file.tensor("a", &[31], GgmlType::Q8_0, vec![]).map(drop), "a multiple of 32"),
        (file.tensor("a", &[u64::MAX], GgmlType::F32, vec![]).map(drop), "overflows"),
        (file.tensor("a", &[1; 5], GgmlType::I8, vec![0]).map(drop), "5 dimensions"),
        (file.tensor(&long, &[1], GgmlType::I8, vec![0]).map(drop), "64 bytes"),
    ];
    for (result, expected) in refused {
        let said = result.unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
    file.tensor("a", &[1], GgmlType::I8, vec![7]).unwrap();
    let twice = file.tensor("a", &[2], GgmlType::I8, vec![8, 8]).map(drop);
    assert!(matches!(twice, Err(Error::DuplicateTensor { .. })), "{twice:?}");
    let mut other = Builder::new();
    other.tensor("a", &[1], GgmlType::I8, vec![7]).unwrap();
    assert_eq!(file.encode(), other.encode());
}

#[test]
fn a_file_that_could_not_be_read_again_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    for (key, value) in [("", Value::U8(1)), (ALIGNMENT_KEY, 3u32.into())] {
        let said = Builder::new().kv(key, value).write(&path).unwrap_err().to_string();
        assert!(said.contains("m.gguf: key"), "{said}");
    }
    assert!(names_in(folder.path()).is_empty());
    let missing = Builder::new().write(Path::new("/missing/m.gguf"));
    assert!(matches!(missing, Err(Error::Io { .. })), "{missing:?}");
}

#[test]
fn an_array_takes_only_elements_of_its_type() {
    let mut kv = aird_gguf::KvMap::new();
    KvEdit::Append("list".into(), 1u8.into()).apply(&mut kv).unwrap();
    for (element, expected) in [
        (Value::from(1u16), "key 'list' is an array of u8"),
        (Value::array(ValueType::U8, []), "given an array as an element"),
    ] {
        let said = KvEdit::Append("list".into(), element).apply(&mut kv).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(kv["list"], Value::array(ValueType::U8, [Value::U8(1)]));
}
