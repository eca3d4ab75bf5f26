//! Models in several files: opened by any of them, joined, or kept apart.

use std::fs;
use std::path::{Path, PathBuf};

use aird_gguf::{
    Builder, Error, GgmlType, KvEdit, Layout, Model, Rewrite, ShardName, Unwatched, model_sha256,
};

use crate::support::{data, names_in};

/// A model of three shards with a tensor each; returns their paths.
fn shards(folder: &Path) -> Vec<PathBuf> {
    let name = ShardName { prefix: folder.join("big"), index: 0, count: 3 };
    let write = |i: u64| {
        let mut file = Builder::new();
        file.kv("split.no", i as u16).kv("split.count", 3u16).kv("split.tensors.count", 3i32);
        if i == 0 {
            file.kv("general.name", "Big");
        }
        let tensor = format!("blk.{i}.weight");
        file.tensor(&tensor, &[32, 2], GgmlType::Q8_0, vec![i as u8; 68]).unwrap();
        file.write(&name.path(i)).unwrap();
        name.path(i)
    };
    (0..3).map(write).collect()
}

#[test]
fn a_split_model_is_opened_by_any_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let sums: Vec<String> = shards(folder.path())
        .iter()
        .map(|path| {
            let model = Model::open(path).unwrap();
            assert_eq!(model.shards().len(), 3);
            assert_eq!(model.text("general.name").unwrap(), Some("Big"));
            let tensors: Vec<_> = model.tensors().map(|t| (t.shard, t.data()[0])).collect();
            assert_eq!(tensors, [(0, 0), (1, 1), (2, 2)]);
            model_sha256(&model, &Unwatched).unwrap()
        })
        .collect();
    assert!(sums.iter().all(|sum| *sum == sums[0] && sum.len() == 64));
}

#[test]
fn shards_are_joined_into_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open(&shards(folder.path())[1]).unwrap();
    let out = folder.path().join("one.gguf");
    Rewrite::new(&model, Layout::Single).write(&out, false, &Unwatched).unwrap();
    let one = Model::open(&out).unwrap();
    assert_eq!(one.shards().len(), 1);
    assert_eq!(one.kv().keys().collect::<Vec<_>>(), ["general.name"]);
    for tensor in model.tensors() {
        assert_eq!(data(&one, &tensor.info.name), tensor.data());
    }
}

#[test]
fn shards_stay_apart_and_only_the_first_one_gets_the_new_key() {
    let folder = tempfile::tempdir().unwrap();
    let old = shards(folder.path());
    let model = Model::open(&old[0]).unwrap();
    let to = tempfile::tempdir().unwrap();
    let mut rewrite = Rewrite::new(&model, Layout::KeepShards);
    rewrite.edit(KvEdit::Set("general.name".into(), "Bigger".into()));
    let out = to.path().join("new.gguf");
    rewrite.write(&out, false, &Unwatched).unwrap();
    let names = [1, 2, 3].map(|n| format!("new-0000{n}-of-00003.gguf"));
    assert_eq!(names_in(to.path()), names);
    let new = Model::open(&to.path().join(&names[2])).unwrap();
    assert_eq!(new.text("general.name").unwrap(), Some("Bigger"));
    for i in 1..3 {
        let bytes = |path: &Path| fs::read(path).unwrap();
        assert_eq!(bytes(&to.path().join(&names[i])), bytes(&old[i]));
    }
}

#[test]
fn a_shard_that_is_missing_or_renamed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let paths = shards(folder.path());
    let renamed = folder.path().join("renamed.gguf");
    fs::rename(&paths[2], &renamed).unwrap();
    let missing = Model::open(&paths[0]).unwrap_err();
    assert!(matches!(&missing, Error::MissingShard { path, count: 3 } if *path == paths[2]));
    let said = Model::open(&renamed).unwrap_err().to_string();
    assert!(said.contains("it is shard 3 of 3 by its keys and no shard by its name"), "{said}");
}
