//! Files that are wrong are errors in one sentence, and never a panic.

use std::fs;
use std::path::Path;

use aird_gguf::{Error, Header, Model, Shard};
use proptest::prelude::*;

use crate::support::{file_with, rich_header};

#[test]
fn every_malformed_file_of_the_corpus_is_refused_in_one_sentence() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/malformed");
    let Ok(entries) = fs::read_dir(&corpus) else {
        eprintln!("skipped: the corpus is in the repository only");
        return;
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "gguf")).collect();
    assert!(files.len() > 60, "{}", files.len());
    for path in files {
        let said = Model::open(&path).unwrap_err().to_string();
        let (sentence, hint) = said.split_once('\n').unwrap_or((&said, "hint: "));
        assert!(sentence.contains(".gguf") && !sentence.ends_with('.'), "{said}");
        assert!(hint.starts_with("hint: ") && !hint.contains('\n'), "{said}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let bytes = file_with(&rich_header());
    let (header, data_offset) = Header::parse(&bytes).unwrap();
    let last = header.tensors.values().last().unwrap();
    let end = data_offset + last.offset + last.n_bytes();
    for len in 0..bytes.len() as u64 {
        let opened = Header::parse(&bytes[..len as usize])
            .and_then(|(header, data_offset)| header.check_data(data_offset, len));
        assert_eq!(opened.is_ok(), len >= end, "{len}");
    }
}

proptest! {
    #[test]
    fn any_changed_bytes_are_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = file_with(&rich_header());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok((header, data_offset)) = Header::parse(&bytes) {
            let _ = header.check_data(data_offset, bytes.len() as u64);
            // What was read is written, up to the padding, which need not be zeros.
            let unpadded = (data_offset - header.alignment()) as usize;
            let same = header.alignment() > 4096 || bytes.starts_with(&header.encode()[..unpadded]);
            prop_assert!(same);
        }
    }

    #[test]
    fn any_bytes_after_the_magic_are_read_or_refused(
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Header::parse(&[b"GGUF\x03\0\0\0", &rest[..]].concat());
    }
}

#[test]
fn what_is_no_regular_file_is_refused_before_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let of_folder = Shard::open(folder.path());
    assert!(matches!(of_folder, Err(Error::NotRegular { .. })), "{of_folder:?}");
    let missing = Shard::open(&folder.path().join("none.gguf"));
    assert!(matches!(missing, Err(Error::Io { action: "cannot open", .. })), "{missing:?}");
}
