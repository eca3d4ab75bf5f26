//! Readers that we did not write agree with ours: ggml's own and `gguf-rs`.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use gguf_rs::{ByteOrder, GGUFContainer, GGUFModel};
use proptest::prelude::*;
use serde_json::Value as Json;

use aird::gguf::{
    Ask, GgmlType, Header, KvEdit, Layout, Model, Replacement, Rewrite, Unwatched, Value, ValueType,
};

use crate::support::ggml::{self, Seen, SeenKey, SeenTensor};
use crate::support::tiny::TYPES;
use crate::support::{Arch, Tiny, arbitrary, real_model, tempdir};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Up to the first NUL, where a C string ends.
fn c_text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec()
}

/// A scalar as ggml keeps it: bools are 0 or 1 there.
fn ggml_bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::U8(v) => vec![*v],
        Value::Bool(v) => vec![u8::from(*v != 0)],
        Value::I8(v) => v.to_le_bytes().to_vec(),
        Value::U16(v) => v.to_le_bytes().to_vec(),
        Value::I16(v) => v.to_le_bytes().to_vec(),
        Value::U32(v) => v.to_le_bytes().to_vec(),
        Value::I32(v) => v.to_le_bytes().to_vec(),
        Value::U64(v) => v.to_le_bytes().to_vec(),
        Value::I64(v) => v.to_le_bytes().to_vec(),
        Value::F32(v) => v.to_bits().to_le_bytes().to_vec(),
        Value::F64(v) => v.to_bits().to_le_bytes().to_vec(),
        Value::String(v) => c_text(v),
        Value::Array(_) => unreachable!("no arrays in arrays"),
    }
}

/// What ggml should see of a header that we parsed.
fn expected_of(header: &Header, data_offset: u64) -> Seen {
    let key = |(key, value): (&String, &Value)| {
        let (element, payload) = match value {
            Value::Array(a) if a.element() == ValueType::String => {
                (Some(a.element()), a.iter().map(|v| ggml_bytes(&v)).collect())
            }
            Value::Array(a) => {
                (Some(a.element()), vec![a.iter().flat_map(|v| ggml_bytes(&v)).collect()])
            }
            scalar => (None, vec![ggml_bytes(scalar)]),
        };
        SeenKey { key: c_text(key.as_bytes()), ty: value.value_type(), element, payload }
    };
    let tensor = |t: &aird::gguf::TensorInfo| {
        let mut ne = [1; 4];
        ne[..t.shape.len()].copy_from_slice(&t.shape);
        let (ty, bytes) = (t.ty.id(), t.n_bytes());
        SeenTensor { name: c_text(t.name.as_bytes()), ne, ty, offset: t.offset, bytes }
    };
    Seen {
        version: header.version,
        alignment: header.alignment(),
        data_offset,
        keys: header.kv.iter().map(key).collect(),
        tensors: header.tensors.values().map(tensor).collect(),
    }
}

/// Reads with gguf-rs, arrays whole.
fn gguf_rs_read(bytes: &[u8]) -> GGUFModel {
    // The container begins behind the magic.
    let reader = Box::new(Cursor::new(bytes[4..].to_vec()));
    GGUFContainer::new(ByteOrder::LE, reader, u64::MAX).decode().unwrap()
}

/// A scalar as gguf-rs shows it: JSON, which has no NaN and no bytes.
fn json_of(value: &Value) -> Json {
    match value {
        Value::U8(v) => (*v).into(),
        Value::I8(v) => (*v).into(),
        Value::U16(v) => (*v).into(),
        Value::I16(v) => (*v).into(),
        Value::U32(v) => (*v).into(),
        Value::I32(v) => (*v).into(),
        Value::U64(v) => (*v).into(),
        Value::I64(v) => (*v).into(),
        Value::F32(v) => (*v).into(),
        Value::F64(v) => (*v).into(),
        Value::Bool(v) => (*v != 0).into(),
        Value::String(v) => String::from_utf8_lossy(v).into_owned().into(),
        Value::Array(a) => Json::Array(a.iter().map(|v| json_of(&v)).collect()),
    }
}

/// gguf-rs 0.1.8 takes these for blocks of another length.
fn gguf_rs_knows_size_of(ty: GgmlType) -> bool {
    use GgmlType as T;
    !matches!(
        ty,
        T::BF16 | T::I8 | T::I16 | T::I32 | T::I64 | T::F64 | T::IQ4_NL | T::MXFP4 | T::Q8_1
    )
}

/// It panics at NVFP4 and refuses what came after.
fn gguf_rs_knows(ty: GgmlType) -> bool {
    ty.id() < GgmlType::NVFP4.id()
}

fn check_gguf_rs(bytes: &[u8]) {
    let (header, data_offset) = Header::parse(bytes).unwrap();
    if !header.tensors.values().all(|t| gguf_rs_knows(t.ty)) {
        return;
    }
    let model = gguf_rs_read(bytes);
    assert_eq!(model.num_kv(), header.kv.len() as u64);
    assert_eq!(model.data_offset(), data_offset);
    for (key, value) in &header.kv {
        assert_eq!(model.metadata()[key], json_of(value), "{key}");
    }
    assert_eq!(model.tensors().len(), header.tensors.len());
    for (theirs, ours) in model.tensors().iter().zip(header.tensors.values()) {
        assert_eq!(theirs.name, ours.name);
        assert_eq!(theirs.shape, ours.shape, "{ours}");
        assert_eq!((theirs.kind, theirs.offset), (ours.ty.id(), ours.offset), "{ours}");
        if gguf_rs_knows_size_of(ours.ty) {
            assert_eq!(theirs.size, ours.n_bytes(), "{ours}");
        }
    }
}

fn check_all(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let (header, data_offset) = Header::parse(&bytes).unwrap();
    assert_eq!(ggml::read_file(path), Some(expected_of(&header, data_offset)));
    check_gguf_rs(&bytes);
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn ggml_sees_what_we_see(file in arbitrary::file("t")) {
        let bytes = file.bytes();
        let (header, data_offset) = Header::parse(&bytes).unwrap();
        // Without tensors ggml does not look for the padding in front of them.
        let data_offset = match header.tensors.is_empty() {
            true => ggml::read_bytes(&bytes).unwrap().data_offset,
            false => data_offset,
        };
        prop_assert_eq!(ggml::read_bytes(&bytes), Some(expected_of(&header, data_offset)));
    }

    #[test]
    fn gguf_rs_sees_what_we_see(file in arbitrary::file("t")) {
        check_gguf_rs(&file.bytes());
    }
}

#[test]
fn type_sizes_are_ggmls() {
    for &ty in GgmlType::ALL {
        let ours = (ty.layout().block_len, ty.layout().block_bytes);
        assert_eq!(ours, ggml::block(ty), "{ty}");
    }
}

#[test]
fn rewritten_models_are_read_alike() {
    for ty in TYPES {
        let folder = tempdir();
        let path = Tiny::new(Arch::Gemma3).ty(ty).write(folder.path());
        check_all(&path);
        let model = Model::open(&path).unwrap();
        let out = folder.path().join("out.gguf");
        let mut rewrite = Rewrite::new(&model, Layout::Single);
        rewrite.edit(KvEdit::Append("aird.history".into(), "{}".into()));
        rewrite.edit(KvEdit::Set("general.name".into(), "Another".into()));
        let produce = Box::new(|_, out: &mut [u8]| {
            out.fill(0);
            Ok(())
        });
        let zeros = Replacement { ty: GgmlType::F16, ask: Ask::Chunks, produce };
        rewrite.replace("blk.0.ffn_down.weight", zeros).unwrap();
        rewrite.write(&out, false, &Unwatched).unwrap();
        check_all(&out);
    }
}

#[test]
fn a_real_model_is_read_alike() {
    let Some(path) = real_model() else { return };
    check_all(&path);
}
