//! A rewrite changes what it is asked to change, and no other byte.

use std::fs;
use std::path::{Path, PathBuf};

use aird_gguf::{
    Ask, Error, GgmlType, HISTORY_KEY, Header, KvEdit, Layout, Model, Replacement, Rewrite, Step,
    Unwatched, VERSION_KEY, Value, ValueType, history,
};
use proptest::prelude::*;

use crate::support::{Stop, data, file_with, filled, header, names_in, rich_header};

/// A file of `header` in `folder`.
fn written(folder: &Path, header: &Header) -> PathBuf {
    let path = folder.join("old.gguf");
    fs::write(&path, file_with(header)).unwrap();
    path
}

fn set(key: &str, value: impl Into<Value>) -> KvEdit {
    KvEdit::Set(key.into(), value.into())
}

#[test]
fn a_rewrite_that_changes_nothing_is_a_copy_to_the_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), &rich_header());
    let model = Model::open(&path).unwrap();
    let out = folder.path().join("new.gguf");
    let done = Rewrite::new(&model, Layout::Single).write(&out, false, &Unwatched).unwrap();
    assert_eq!(fs::read(&out).unwrap(), fs::read(&path).unwrap());
    assert_eq!(done.files, [(out, model.file_bytes())]);
    assert_eq!(names_in(folder.path()), ["new.gguf", "old.gguf"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_key_is_set_and_every_other_byte_stays(
        header in header(),
        key in "[a-z_.]{1,16}",
        value in any::<u64>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), &header);
        let shard = aird_gguf::Shard::open(&path).unwrap();
        // A key of models might get a type that no model has.
        let Ok(model) = Model::open(&path) else { return Ok(()) };
        let mut expected = shard.header.clone();
        expected.kv.insert(key.clone(), value.into());

        let mut rewrite = Rewrite::new(&model, Layout::Single);
        rewrite.edit(set(&key, value));
        let out = folder.path().join("new.gguf");
        rewrite.write(&out, false, &Unwatched).unwrap();
        let new = aird_gguf::Shard::open(&out).unwrap();
        prop_assert_eq!(&new.bytes()[..new.data_offset as usize], expected.encode());
        let mut end = 0;
        for tensor in shard.header.tensors.values() {
            let range = |of: &aird_gguf::Shard| {
                let range = of.range(tensor);
                range.start as usize..range.end as usize
            };
            prop_assert_eq!(&new.bytes()[range(&new)], &shard.bytes()[range(&shard)]);
            end = range(&new).end;
        }
        prop_assert!(new.bytes().len() >= end);
    }
}

#[test]
fn keys_are_set_appended_and_removed_in_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open(&written(folder.path(), &rich_header())).unwrap();
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    rewrite.edit(set("u16", "now a text"));
    rewrite.edit(KvEdit::Remove("zebra".into()));
    rewrite.edit(KvEdit::Append("bools".into(), Value::Bool(9)));
    rewrite.edit(set("new", 1u8));
    let out = folder.path().join("new.gguf");
    rewrite.write(&out, false, &Unwatched).unwrap();

    let new = Model::open(&out).unwrap();
    let kept = rich_header().kv.into_keys().filter(|key| key != "zebra");
    let expected: Vec<String> = kept.chain(["new".to_owned()]).collect();
    assert_eq!(new.kv().keys().cloned().collect::<Vec<_>>(), expected);
    assert_eq!(new.text("u16").unwrap(), Some("now a text"));
    let bools = Value::array(ValueType::Bool, [0, 1, 2, 9].map(Value::Bool));
    assert_eq!(new.kv()["bools"], bools);
    assert_eq!(new.kv()["bytes"], model.kv()["bytes"]);
}

#[test]
fn a_tensor_gets_another_type_and_all_others_keep_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open(&written(folder.path(), &rich_header())).unwrap();
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    rewrite.replace("z.weight", filled(GgmlType::Q8_0, 0x11)).unwrap();
    assert!(matches!(
        rewrite.replace("a.weight", filled(GgmlType::Q8_0, 0)),
        Err(Error::PartialBlock { n_cols: 5, .. })
    ));
    assert!(matches!(
        rewrite.replace("no.weight", filled(GgmlType::Q8_0, 0)),
        Err(Error::NoTensor { .. })
    ));
    let out = folder.path().join("new.gguf");
    let plan = rewrite.plan(&out).unwrap();
    let done = rewrite.write(&out, false, &Unwatched).unwrap();
    assert_eq!(done.files, [(out.clone(), plan.bytes())]);
    assert_eq!(done.produced_bytes, 3 * 2 * 34);

    let new = Model::open(&out).unwrap();
    assert_eq!(new.tensor("z.weight").unwrap().info.ty, GgmlType::Q8_0);
    assert_eq!(data(&new, "z.weight"), [0x11; 3 * 2 * 34]);
    for tensor in model.tensors().filter(|tensor| tensor.info.name != "z.weight") {
        assert_eq!(data(&new, &tensor.info.name), tensor.data());
    }
    assert!(new.kv().iter().eq(model.kv()));
}

#[test]
fn rows_are_asked_for_in_order_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut header = Header::new();
    let shape = vec![64, 40_000];
    let info = aird_gguf::TensorInfo { name: "w".into(), shape, ty: GgmlType::F32, offset: 0 };
    header.tensors.insert("w".into(), info);
    let model = Model::open(&written(folder.path(), &header)).unwrap();
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    let mut next = 0;
    let mut n_asked = 0;
    let tensor = model.tensor("w").unwrap();
    let produce = Box::new(|rows: std::ops::Range<u64>, bytes: &mut [u8]| {
        assert_eq!(rows.start, next);
        assert_eq!(bytes.len() as u64, (rows.end - rows.start) * 64 * 4);
        next = rows.end;
        n_asked += 1;
        bytes.copy_from_slice(tensor.rows(rows));
        Ok(())
    });
    let new = Replacement { ty: GgmlType::F32, ask: Ask::Chunks, produce };
    rewrite.replace("w", new).unwrap();
    let out = folder.path().join("new.gguf");
    rewrite.write(&out, false, &Unwatched).unwrap();
    assert_eq!(next, 40_000);
    assert!(n_asked > 2, "{n_asked}");
    assert_eq!(data(&Model::open(&out).unwrap(), "w"), tensor.data());
}

#[test]
fn the_input_and_what_exists_are_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), &rich_header());
    let model = Model::open(&path).unwrap();
    let out = folder.path().join("new.gguf");
    fs::write(&out, "mine").unwrap();
    let copy =
        |out: &Path, force| Rewrite::new(&model, Layout::Single).write(out, force, &Unwatched);
    assert!(matches!(copy(&out, false), Err(Error::OutputExists { .. })));
    assert!(matches!(copy(&path, true), Err(Error::OutputIsInput { .. })));
    let journal = folder.path().join("x.aird-undo");
    assert!(matches!(copy(&journal, true), Err(Error::OutputIsJournal { .. })));
    let nowhere = folder.path().join("none/new.gguf");
    assert!(matches!(copy(&nowhere, true), Err(Error::NoFolder { .. })));
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    copy(&out, true).unwrap();
    assert_eq!(fs::read(&out).unwrap(), fs::read(&path).unwrap());
}

#[test]
fn a_rewrite_that_is_stopped_or_fails_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open(&written(folder.path(), &rich_header())).unwrap();
    let out = folder.path().join("new.gguf");
    fs::write(&out, "mine").unwrap();
    let rewrite = |produce: aird_gguf::Producer<'static>| {
        let mut rewrite = Rewrite::new(&model, Layout::Single);
        let new = Replacement { ty: GgmlType::F32, ask: Ask::Whole, produce };
        rewrite.replace("z.weight", new).unwrap();
        rewrite
    };
    let stopped = rewrite(Box::new(|_, _| Ok(()))).write(&out, true, &Stop);
    assert!(stopped.unwrap_err().is_interrupted());
    let failed = rewrite(Box::new(|_, _| Err("no rows".into()))).write(&out, true, &Unwatched);
    let said = failed.unwrap_err().to_string();
    assert_eq!(said, "rows 0.. of tensor 'z.weight': no rows");
    let checked = rewrite(Box::new(|_, _| Ok(()))).write_if(&out, true, &Unwatched, |temp| {
        assert_eq!(Model::open(temp)?.n_tensors(), 5);
        Err(Error::Interrupted)
    });
    assert!(checked.is_err());
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    assert_eq!(names_in(folder.path()), ["new.gguf", "old.gguf"]);
}

#[test]
fn a_step_is_recorded_and_read_again_with_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open(&written(folder.path(), &rich_header())).unwrap();
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    let step = Step::new("scale", "1.2.3").parameter("factor", 0.5).source("model", "abc");
    rewrite.record_measured(step, 64, |step| step.parameter("loss", 7));
    let out = folder.path().join("new.gguf");
    rewrite.write(&out, false, &Unwatched).unwrap();

    let new = Model::open(&out).unwrap();
    assert_eq!(new.text(VERSION_KEY).unwrap(), Some("1.2.3"));
    assert_eq!(new.kv().keys().last().map(String::as_str), Some(HISTORY_KEY));
    let steps = history(new.kv());
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0]["verb"], "scale");
    assert_eq!(steps[0]["parameters"]["loss"], 7);
    assert_eq!(steps[0]["sources"]["model"], "abc");
}
