//! What can be wrong with a file: each variant a sentence that says what, where, found and
//! expected.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error, for producers of rows that live in folders above this one.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Everything that can go wrong between a GGUF file and us. Offsets count bytes from the
/// beginning of the file.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    InFile { path: PathBuf, source: Box<Error> },
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error("not a GGUF file: it begins with {found:?}, expected \"GGUF\"")]
    BadMagic { found: String },
    #[error(
        "big-endian GGUF file (version field {version:#010x}), expected little-endian\n\
         hint: convert it with llama.cpp's gguf_convert_endian.py"
    )]
    BigEndian { version: u32 },
    #[error("GGUF version {version}, expected 2 or 3\nhint: convert the model again")]
    Version { version: u32 },
    #[error("cut off at byte {offset}: {needed} more bytes expected, {left} there")]
    Truncated { offset: u64, needed: u64, left: u64 },
    #[error("header claims {count} {what}, more than the file's {file_bytes} bytes can hold")]
    CountTooLarge { what: &'static str, count: u64, file_bytes: u64 },

    #[error("string of {len} bytes at byte {offset}, expected at most 1 GiB")]
    StringTooLong { len: u64, offset: u64 },
    #[error("key {index} at byte {offset} is empty")]
    EmptyKey { index: u64, offset: u64 },
    #[error("{what} {index} at byte {offset} is not UTF-8: {found:?}")]
    NotUtf8 { what: &'static str, index: u64, offset: u64, found: String },
    #[error("key '{key}' appears twice, the second time at byte {offset}")]
    DuplicateKey { key: String, offset: u64 },
    #[error("key '{key}' has value type {id} at byte {offset}, expected 0 to 12")]
    UnknownValueType { key: String, id: u32, offset: u64 },
    #[error("key '{key}' holds an array of arrays at byte {offset}, which GGUF does not have")]
    NestedArray { key: String, offset: u64 },
    #[error("key '{key}' has an array of {len} elements at byte {offset}, expected at most 2^30")]
    ArrayTooLong { key: String, len: u64, offset: u64 },
    #[error("key '{key}' is {found}, expected {expected}")]
    WrongValue { key: String, found: String, expected: &'static str },

    #[error("tensor {index} at byte {offset} has a name of {len} bytes, expected at most 63")]
    NameTooLong { index: u64, len: u64, offset: u64 },
    #[error("tensor '{name}' appears twice, the second time at byte {offset}")]
    DuplicateTensor { name: String, offset: u64 },
    #[error("tensor '{name}' has {n_dims} dimensions at byte {offset}, expected at most 4")]
    TooManyDims { name: String, n_dims: u32, offset: u64 },
    #[error("tensor '{name}' has shape {shape}, whose size overflows")]
    ShapeOverflow { name: String, shape: String },
    #[error(
        "tensor '{name}' has type id {id} at byte {offset}, which is no ggml type that is known\n\
         hint: a newer aird may know it"
    )]
    UnknownTensorType { name: String, id: u32, offset: u64 },
    #[error("tensor '{name}' has rows of {n_cols} {ty}, expected a multiple of {block_len}")]
    PartialBlock { name: String, n_cols: u64, ty: &'static str, block_len: u64 },
    #[error(
        "tensor '{name}' lies at data offset {found}, expected {expected}: no gaps, no reordering"
    )]
    WrongOffset { name: String, found: u64, expected: u64 },
    #[error(
        "tensor '{name}' ends at byte {end}, but the file has {file_bytes}: it is cut off\n\
         hint: download it again, and compare its sha256"
    )]
    TensorPastEnd { name: String, end: u64, file_bytes: u64 },
    #[error("there is no tensor '{name}'")]
    NoTensor { name: String },

    #[error(
        "tensor '{name}' lies in an earlier shard as well, expected each tensor once\n\
         hint: the shards may be of two models"
    )]
    TensorInTwoShards { name: String },
    #[error(
        "it is {found} by its keys and {expected} by its name, expected the same\n\
         hint: shards keep the names that they were made with"
    )]
    WrongShard { found: String, expected: String },
    #[error(
        "shard {} is missing: the model has {count} files\nhint: put them all into one folder",
        path.display()
    )]
    MissingShard { path: PathBuf, count: u64 },
    #[error("its shards hold {found} tensors, expected {expected} as split.tensors.count says")]
    ShardTensorCount { found: u64, expected: u64 },

    #[error("output {} exists\nhint: --force replaces it", path.display())]
    OutputExists { path: PathBuf },
    #[error("output {} is the input itself\nhint: choose another name", path.display())]
    OutputIsInput { path: PathBuf },
    #[error(
        "output {} lies in a folder that does not exist\nhint: mkdir makes one", path.display()
    )]
    NoFolder { path: PathBuf },
    #[error("output {} is not a regular file", path.display())]
    OutputNotAFile { path: PathBuf },
    #[error(
        "{} has the name of an undo journal, which no output may have\n\
         hint: without it a repair in place could not be taken back", path.display()
    )]
    OutputIsJournal { path: PathBuf },
    #[error("cannot open {}: it is not a regular file", path.display())]
    NotRegular { path: PathBuf },
    #[error("rows {first}.. of tensor '{name}': {source}")]
    Producer { name: String, first: u64, source: BoxError },
    #[error(
        "what was written differs from what was meant, in {what} of {}\n\
         hint: the disk or the memory may be failing; nothing was left behind", path.display()
    )]
    ReadBack { path: PathBuf, what: String },

    #[error("{} is read-only\nhint: its owner can change that: chmod u+w", path.display())]
    ReadOnly { path: PathBuf },
    #[error(
        "the folder {} is read-only, and a change in place keeps its undo journal there\n\
         hint: chmod u+w lets files be made in it", path.display()
    )]
    ReadOnlyFolder { path: PathBuf },
    #[error(
        "{} may not be written by this user, who does not own it\n\
         hint: let its owner run this, or write a new file", path.display()
    )]
    NotYours { path: PathBuf },
    #[error("{} is on a read-only file system\nhint: write a new file elsewhere", path.display())]
    ReadOnlyDisk { path: PathBuf },
    #[error("another aird is changing {}\nhint: wait until it is done", path.display())]
    Busy { path: PathBuf },
    #[error("{} was replaced while it was read\nhint: try again", path.display())]
    Replaced { path: PathBuf },
    #[error(
        "tensor '{name}' is {from}, which cannot become {to} in place\n\
         hint: write a new file with -o"
    )]
    TypeInPlace { name: String, from: &'static str, to: &'static str },
    #[error(
        "{} was changed in place before, and {} could still take that back\n\
         hint: `aird undo` does; `aird undo --forget` keeps the change for good",
        path.display(), journal.display()
    )]
    JournalExists { path: PathBuf, journal: PathBuf },
    #[error(
        "what was written differs from what was meant, in {what} of {}\n\
         hint: the disk or the memory may be failing", path.display()
    )]
    WrittenWrong { path: PathBuf, what: String },
    #[error(
        "{source}\nhint: {} is changed in part; `aird undo` takes that back", path.display()
    )]
    HalfPatched { path: PathBuf, source: Box<Error> },
    #[error(
        "{} has no undo journal beside it\n\
         hint: there is one from `aird repair --in-place` until `aird undo`", path.display()
    )]
    NoJournal { path: PathBuf },
    #[error(
        "{} has no undo journal in its folder, and is one of {n_links} names (hard links) of its \
         file\n\
         hint: a journal lies beside the name that was repaired: run `aird undo` by that name",
        path.display()
    )]
    NoJournalOfLink { path: PathBuf, n_links: u64 },
    #[error(
        "the change of {} was kept for good by an `aird undo --forget` that was cut off; that is \
         finished now, and there is nothing left to take back", path.display()
    )]
    Kept { path: PathBuf },
    #[error(
        "undo journal {} is damaged: {what}; nothing was changed\n\
         hint: get the model anew from where it came; removing the journal keeps it as it is",
        path.display()
    )]
    DamagedJournal { path: PathBuf, what: &'static str },
    #[error("undo journal {} is not of version 1\nhint: a newer aird may know it", path.display())]
    JournalVersion { path: PathBuf },
    #[error(
        "undo journal {} is not of the file that is now {}; nothing was changed\n\
         hint: if the model was replaced since, remove the journal",
        journal.display(), path.display()
    )]
    JournalOfAnother { path: PathBuf, journal: PathBuf },
    #[error(
        "{} does not hold the whole change: {what} is missing or was changed since\n\
         hint: `aird undo` takes back what there is", path.display()
    )]
    NotWhole { path: PathBuf, what: String },

    #[error(
        "cannot write {}: there is no room for {bytes} bytes: {source}\n\
         hint: free some space, or name another folder", path.display()
    )]
    NoRoom { path: PathBuf, bytes: u64, source: io::Error },
    #[error("cannot start a thread: {0}\nhint: the limit on processes may be reached: ulimit -u")]
    NoThread(io::Error),
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Names the file an error is about.
    pub(super) fn in_file(self, path: &Path) -> Error {
        Error::InFile { path: path.to_owned(), source: Box::new(self) }
    }

    /// True if the user asked to stop: the exit code is then 130.
    pub fn is_interrupted(&self) -> bool {
        match self {
            Error::Interrupted => true,
            Error::InFile { source, .. } => source.is_interrupted(),
            _ => false,
        }
    }
}

/// Turns an I/O error into ours: `.map_err(io_error("read", path))`.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
