//! What is not meant to change does not change: not a byte, not an order, in any file.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

use aird::gguf::{
    Ask, Error, GgmlType, Header, KvEdit, Layout, Model, Producer, Replacement, Rewrite, Shard,
    ShardName, Unwatched, Value,
};

use crate::support::arbitrary::{self, ArbitraryFile};
use crate::support::{Arch, Tiny, names_in, real_model, root, tempdir};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A header's parts in order; `==` of the maps themselves forgets the order.
fn parts(header: &Header) -> (u32, Vec<(&String, &Value)>, Vec<String>) {
    let tensors = header.tensors.values().map(|t| format!("{t:?}")).collect();
    (header.version, header.kv.iter().collect(), tensors)
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn any_header_comes_back_as_it_was(header in arbitrary::header("")) {
        let bytes = header.encode();
        let (parsed, data_offset) = Header::parse(&bytes).unwrap();
        prop_assert_eq!(parts(&parsed), parts(&header));
        prop_assert_eq!(data_offset, bytes.len() as u64);
        prop_assert_eq!(parsed.encode(), bytes);
    }

    #[test]
    fn any_file_is_parsed_whatever_its_padding(file in arbitrary::file("")) {
        let bytes = file.bytes();
        let (parsed, data_offset) = Header::parse(&bytes).unwrap();
        prop_assert_eq!(parts(&parsed), parts(&file.header));
        prop_assert!(parsed.check_data(data_offset, bytes.len() as u64).is_ok());
    }
}

proptest! {
    #![proptest_config(config(32))]

    #[test]
    fn a_rewrite_that_changes_nothing_is_the_same_file(file in arbitrary::file("")) {
        let folder = tempdir();
        let (source, out) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
        fs::write(&source, file.bytes()).unwrap();
        let model = Model::open(&source).unwrap();
        for layout in [Layout::Single, Layout::KeepShards] {
            Rewrite::new(&model, layout).write(&out, true, &Unwatched).unwrap();
            prop_assert_eq!(fs::read(&out).unwrap(), file.bytes());
        }
    }

    #[test]
    fn shards_that_stay_shards_are_the_same_files(shards in shards()) {
        let folder = tempdir();
        let source = write_shards(folder.path(), "in", &shards);
        let out = folder.path().join("out.gguf");
        let model = Model::open(&source).unwrap();
        let rewrite = Rewrite::new(&model, Layout::KeepShards);
        let written = rewrite.write(&out, false, &Unwatched).unwrap();
        prop_assert_eq!(written.files.len(), shards.len());
        for (path, shard) in written.files.iter().map(|(path, _)| path).zip(&shards) {
            prop_assert_eq!(fs::read(path).unwrap(), shard.bytes());
        }
    }

    #[test]
    fn a_new_tensor_and_a_new_value_leave_the_others_alone(
        shards in prop_oneof![shards(), arbitrary::file("").prop_map(|f| vec![f])],
        change in change(),
        layout in prop_oneof![Just(Layout::Single), Just(Layout::KeepShards)],
    ) {
        let folder = tempdir();
        let source = write_shards(folder.path(), "in", &shards);
        let model = Model::open(&source).unwrap();
        check_change(&model, &change, layout, &folder.path().join("out.gguf"))?;
    }
}

/// One key and, where there is a tensor, one tensor.
#[derive(Debug, Clone)]
struct Change {
    key: Index,
    /// Whether the key is one that is there already.
    known: bool,
    value: Value,
    tensor: Index,
    ty: Index,
    fill: u8,
    ask: Ask,
}

fn change() -> impl Strategy<Value = Change> {
    let ask = prop_oneof![Just(Ask::Chunks), Just(Ask::Whole)];
    (any::<[Index; 3]>(), any::<bool>(), arbitrary::value(), any::<u8>(), ask).prop_map(
        |([key, tensor, ty], known, value, fill, ask)| Change {
            key,
            known,
            value,
            tensor,
            ty,
            fill,
            ask,
        },
    )
}

impl Change {
    /// The key to set: never one that decides where things lie.
    fn key(&self, model: &Model) -> String {
        let structural = |key: &str| key == "general.alignment" || key.starts_with("split.");
        let keys: Vec<&String> = model.kv().keys().filter(|key| !structural(key)).collect();
        match self.known && !keys.is_empty() {
            true => keys[self.key.index(keys.len())].clone(),
            false => "aird.a key that no file has".into(),
        }
    }

    /// The tensor to replace and its new type, which the rows fit.
    fn tensor(&self, model: &Model) -> Option<(String, GgmlType)> {
        let n = model.n_tensors();
        let info = model.tensors().nth(if n > 0 { self.tensor.index(n) } else { 0 })?.info;
        let fits = |ty: &&GgmlType| info.row_bytes_as(**ty).is_some();
        let types: Vec<&GgmlType> = GgmlType::ALL.iter().filter(fits).collect();
        Some((info.name.clone(), *types[self.ty.index(types.len())]))
    }
}

fn filled<'a>(byte: u8) -> Producer<'a> {
    Box::new(move |_, out| {
        out.fill(byte);
        Ok(())
    })
}

fn check_change(
    model: &Model,
    change: &Change,
    layout: Layout,
    out: &Path,
) -> Result<(), TestCaseError> {
    let (key, tensor) = (change.key(model), change.tensor(model));
    let mut rewrite = Rewrite::new(model, layout);
    rewrite.edit(KvEdit::Set(key.clone(), change.value.clone()));
    if let Some((name, ty)) = &tensor {
        let new = Replacement { ty: *ty, ask: change.ask, produce: filled(change.fill) };
        rewrite.replace(name, new).unwrap();
    }
    let plan = rewrite.plan(out).unwrap();
    let written = rewrite.write(out, false, &Unwatched).unwrap();
    let planned: Vec<_> = plan.files.iter().map(|f| (f.path.clone(), f.bytes)).collect();
    prop_assert_eq!(&written.files, &planned);
    prop_assert_eq!(written.produced_bytes, plan.produced_bytes());

    let new = Model::open(&written.files[0].0).unwrap();
    let joined = layout == Layout::Single;
    prop_assert_eq!(new.shards().len(), if joined { 1 } else { model.shards().len() });
    let mut expected = model.kv().clone();
    if joined && model.shards().len() > 1 {
        expected.retain(|key, _| !key.starts_with("split."));
    }
    expected.insert(key, change.value.clone());
    prop_assert!(new.kv().iter().eq(expected.iter()), "{:?} != {expected:?}", new.kv());
    if !joined {
        for (a, b) in new.shards()[1..].iter().zip(&model.shards()[1..]) {
            prop_assert!(a.header.kv.iter().eq(b.header.kv.iter()));
        }
    }
    prop_assert_eq!(new.n_tensors(), model.n_tensors());
    for (a, b) in new.tensors().zip(model.tensors()) {
        prop_assert_eq!(&a.info.name, &b.info.name);
        prop_assert_eq!(&a.info.shape, &b.info.shape);
        match &tensor {
            Some((name, ty)) if *name == a.info.name => {
                prop_assert_eq!(a.info.ty, *ty);
                prop_assert!(a.data().iter().all(|&b| b == change.fill));
            }
            _ => {
                prop_assert_eq!(a.info.ty, b.info.ty);
                prop_assert_eq!(a.data(), b.data());
            }
        }
    }
    Ok(())
}

/// Two or three files that belong together.
fn shards() -> impl Strategy<Value = Vec<ArbitraryFile>> {
    let files = (arbitrary::file("a"), arbitrary::file("b"), arbitrary::file("c"), 2..4usize);
    files.prop_map(|(a, b, c, n)| {
        let mut files = vec![a, b, c];
        files.truncate(n);
        let n_tensors: usize = files.iter().map(|f| f.header.tensors.len()).sum();
        for (i, file) in files.iter_mut().enumerate() {
            let kv = &mut file.header.kv;
            kv.insert("split.no".into(), Value::U16(i as u16));
            kv.insert("split.count".into(), Value::U16(n as u16));
            kv.insert("split.tensors.count".into(), Value::I32(n_tensors as i32));
        }
        files
    })
}

/// Writes a single file as NAME.gguf, several as shards; returns the path of the last.
fn write_shards(folder: &Path, name: &str, files: &[ArbitraryFile]) -> PathBuf {
    let single = folder.join(format!("{name}.gguf"));
    let count = files.len() as u64;
    let names = ShardName { prefix: folder.join(name), index: 0, count };
    let path = |i: usize| if count == 1 { single.clone() } else { names.path(i as u64) };
    for (i, file) in files.iter().enumerate() {
        fs::write(path(i), file.bytes()).unwrap();
    }
    path(files.len() - 1)
}

#[test]
fn a_tiny_model_in_shards_becomes_one_file_with_the_same_tensors() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q8_0);
    let one = Model::open(&tiny.write(folder.path())).unwrap();
    let two = Model::open(&tiny.clone().shards(2).write(folder.path())).unwrap();
    assert_eq!(two.shards().len(), 2);
    let out = folder.path().join("joined.gguf");
    Rewrite::new(&two, Layout::Single).write(&out, false, &Unwatched).unwrap();
    assert_eq!(fs::read(&out).unwrap(), one.shards()[0].bytes());
}

#[test]
fn a_row_longer_than_a_chunk_and_many_chunks_are_written_whole() {
    let folder = tempdir();
    let path = folder.path().join("in.gguf");
    let mut file = aird::gguf::Builder::new();
    // 3 rows of 12 MB, more than is asked for at once; then 1200 rows of 16 KB.
    let (wide, long) = ([3 << 20, 3], [4096, 1200]);
    file.tensor("wide", &wide, GgmlType::I8, vec![1; 9 << 20]).unwrap();
    file.tensor("long", &long, GgmlType::I8, vec![2; 4096 * 1200]).unwrap();
    file.write(&path).unwrap();
    let model = Model::open(&path).unwrap();
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    for (name, n_cols) in [("wide", wide[0]), ("long", long[0])] {
        let produce: Producer = Box::new(move |rows, out| {
            assert_eq!(out.len() as u64, (rows.end - rows.start) * n_cols * 4);
            for (row, out) in rows.zip(out.chunks_mut(n_cols as usize * 4)) {
                out.fill(row as u8);
            }
            Ok(())
        });
        rewrite
            .replace(name, Replacement { ty: GgmlType::F32, ask: Ask::Chunks, produce })
            .unwrap();
    }
    let out = folder.path().join("out.gguf");
    rewrite.write(&out, false, &Unwatched).unwrap();
    let new = Model::open(&out).unwrap();
    for tensor in new.tensors() {
        for row in 0..tensor.info.n_rows() {
            assert!(tensor.rows(row..row + 1).iter().all(|&b| b == row as u8));
        }
    }
}

#[test]
fn a_real_header_is_encoded_as_it_was() {
    let Some(path) = real_model() else { return };
    let shard = Shard::open(&path).unwrap();
    assert!(shard.header.tensors.len() > 200);
    let head = &shard.bytes()[..shard.data_offset as usize];
    assert!(shard.header.encode() == head, "{} bytes", head.len());
}

#[test]
fn files_that_others_wrote_are_read() {
    let formats = root().join("../shared/data/formats");
    let (little, big) = (formats.join("test-le-v3.gguf"), formats.join("test-be-v3.gguf"));
    if !little.is_file() {
        eprintln!("skipped: no {}", little.display());
        return;
    }
    let shard = Shard::open(&little).unwrap();
    assert!(shard.bytes().starts_with(&shard.header.encode()));
    let Err(Error::InFile { source, .. }) = Shard::open(&big) else { panic!("it was opened") };
    assert!(matches!(*source, Error::BigEndian { version: 0x0300_0000 }), "{source}");
}

#[test]
fn an_output_holds_nothing_but_what_was_planned() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).write(folder.path());
    let model = Model::open(&path).unwrap();
    let out = folder.path().join("out.gguf");
    Rewrite::new(&model, Layout::Single).write(&out, false, &Unwatched).unwrap();
    assert_eq!(names_in(folder.path()), ["out.gguf", "tiny-llama-F32.gguf"]);
}
