//! What can be wrong with a file: the message of each variant is one sentence that names the
//! place, what was found and what was expected. Below it there may be one line `hint: ...`.

use std::io;
use std::path::{Path, PathBuf};

/// What every fallible function of this crate returns, but those that call back into the caller.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error: what a [`Producer`](crate::Producer) of the caller returns.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Everything that can go wrong between a GGUF file and its caller.
///
/// `offset` counts bytes from the beginning of the file, `index` counts from 0.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Names the file that another error is about.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file, or the shard of a split model.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The operating system refused an operation.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, e.g. "cannot open".
        action: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },

    /// The first four bytes are not the magic number.
    #[error("not a GGUF file: it begins with {found:?}, expected \"GGUF\"")]
    BadMagic {
        /// The first four bytes, invalid UTF-8 replaced.
        found: String,
    },
    /// The version is 2 or 3 with its bytes swapped.
    #[error(
        "big-endian GGUF file (version field {version:#010x}), expected little-endian\n\
         hint: convert it with llama.cpp's gguf_convert_endian.py"
    )]
    BigEndian {
        /// The version field, read as little-endian.
        version: u32,
    },
    /// A version that this crate cannot read, in either byte order.
    #[error("GGUF version {version}, expected 2 or 3\nhint: convert the model again")]
    Version {
        /// The version field.
        version: u32,
    },
    /// The file ends inside the header.
    #[error("cut off at byte {offset}: {needed} more bytes expected, {left} there")]
    Truncated {
        /// Where the bytes should begin.
        offset: u64,
        /// Bytes that should follow.
        needed: u64,
        /// Bytes that do.
        left: u64,
    },
    /// A count that the file is too short for, refused before memory is reserved for it.
    #[error("header claims {count} {what}, more than the file's {file_bytes} bytes can hold")]
    CountTooLarge {
        /// "keys" or "tensors".
        what: &'static str,
        /// The count in the header.
        count: u64,
        /// Length of the file.
        file_bytes: u64,
    },

    /// A string longer than llama.cpp's reader takes.
    #[error("string of {len} bytes at byte {offset}, expected at most 1 GiB")]
    StringTooLong {
        /// Its length field.
        len: u64,
        /// Where the length field is.
        offset: u64,
    },
    /// A key of no letters, which llama.cpp refuses.
    #[error("key {index} at byte {offset} is empty")]
    EmptyKey {
        /// The key's number.
        index: u64,
        /// Where the key begins.
        offset: u64,
    },
    /// A key or a tensor's name that is not text.
    #[error("{what} {index} at byte {offset} is not UTF-8: {found:?}")]
    NotUtf8 {
        /// "key" or "tensor name".
        what: &'static str,
        /// Its number.
        index: u64,
        /// Where it begins.
        offset: u64,
        /// Its bytes, invalid UTF-8 replaced.
        found: String,
    },
    /// Two keys of one name.
    #[error("key '{key}' appears twice, the second time at byte {offset}")]
    DuplicateKey {
        /// The name of both.
        key: String,
        /// Where the second one begins.
        offset: u64,
    },
    /// A value whose type is not one of the thirteen.
    #[error("key '{key}' has value type {id} at byte {offset}, expected 0 to 12")]
    UnknownValueType {
        /// The value's key.
        key: String,
        /// The type's number in the file.
        id: u32,
        /// Where that number is.
        offset: u64,
    },
    /// An array inside an array, which llama.cpp refuses.
    #[error("key '{key}' holds an array of arrays at byte {offset}, which GGUF does not have")]
    NestedArray {
        /// The outer array's key.
        key: String,
        /// Where the type of its elements is.
        offset: u64,
    },
    /// An array longer than llama.cpp's reader takes.
    #[error("key '{key}' has an array of {len} elements at byte {offset}, expected at most 2^30")]
    ArrayTooLong {
        /// The array's key.
        key: String,
        /// Its length field.
        len: u64,
        /// Where the length field is.
        offset: u64,
    },
    /// A key is missing, or has a value that its reader cannot use.
    #[error("key '{key}' is {found}, expected {expected}")]
    WrongValue {
        /// Name of the key.
        key: String,
        /// Its type and value, or "missing".
        found: String,
        /// What the reader takes.
        expected: &'static str,
    },

    /// A tensor's name that does not fit ggml's struct.
    #[error("tensor {index} at byte {offset} has a name of {len} bytes, expected at most 63")]
    NameTooLong {
        /// The tensor's number.
        index: u64,
        /// Bytes of the name.
        len: u64,
        /// Where the tensor's entry begins.
        offset: u64,
    },
    /// Two tensors of one name.
    #[error("tensor '{name}' appears twice, the second time at byte {offset}")]
    DuplicateTensor {
        /// The name of both.
        name: String,
        /// Where the second entry begins.
        offset: u64,
    },
    /// More dimensions than ggml has.
    #[error("tensor '{name}' has {n_dims} dimensions at byte {offset}, expected at most 4")]
    TooManyDims {
        /// Name of the tensor.
        name: String,
        /// How many it has.
        n_dims: u32,
        /// Where that number is.
        offset: u64,
    },
    /// Elements, bytes or end of a tensor do not fit a signed 64-bit number.
    #[error("tensor '{name}' has shape {shape}, whose size overflows")]
    ShapeOverflow {
        /// Name of the tensor.
        name: String,
        /// Its shape, columns first.
        shape: String,
    },
    /// A type that is newer than this crate, or that llama.cpp has removed.
    #[error(
        "tensor '{name}' has type id {id} at byte {offset}, expected the id of a known ggml type\n\
         hint: a newer version of this program may know it"
    )]
    UnknownTensorType {
        /// Name of the tensor.
        name: String,
        /// The type's number in the file.
        id: u32,
        /// Where that number is.
        offset: u64,
    },
    /// Rows that do not end with a block of their type.
    #[error("tensor '{name}' has rows of {n_cols} {ty}, expected a multiple of {block_len}")]
    PartialBlock {
        /// Name of the tensor.
        name: String,
        /// Elements of a row.
        n_cols: u64,
        /// The type's name.
        ty: &'static str,
        /// Elements of a block.
        block_len: u64,
    },
    /// A [`Builder`](crate::Builder) was given more or fewer bytes than the tensor has.
    #[error("tensor '{name}' has {found} bytes, expected {expected} for {shape} {ty}")]
    WrongSize {
        /// Name of the tensor.
        name: String,
        /// Bytes given.
        found: u64,
        /// Bytes that shape and type ask for.
        expected: u64,
        /// Its shape, columns first.
        shape: String,
        /// The type's name.
        ty: &'static str,
    },
    /// A tensor does not begin where the one before it ends.
    #[error(
        "tensor '{name}' lies at data offset {found}, expected {expected}: no gaps, no reordering"
    )]
    WrongOffset {
        /// Name of the tensor.
        name: String,
        /// Its offset from the beginning of the data.
        found: u64,
        /// The padded sizes of all tensors before it.
        expected: u64,
    },
    /// The file ends before a tensor does.
    #[error(
        "tensor '{name}' ends at byte {end}, but the file has {file_bytes}: it is cut off\n\
         hint: download it again, and compare its sha256"
    )]
    TensorPastEnd {
        /// The first such tensor.
        name: String,
        /// Where it should end.
        end: u64,
        /// Length of the file.
        file_bytes: u64,
    },
    /// The model has no tensor of the name that was asked for.
    #[error("there is no tensor '{name}'")]
    NoTensor {
        /// The name that was asked for.
        name: String,
    },

    /// Two shards hold a tensor of one name.
    #[error(
        "tensor '{name}' lies in an earlier shard as well, expected each tensor once\n\
         hint: the shards may be of two models"
    )]
    TensorInTwoShards {
        /// Name of the tensor.
        name: String,
    },
    /// A shard's name and its `split.*` keys disagree.
    #[error(
        "it is {found} by its keys and {expected} by its name, expected the same\n\
         hint: shards keep the names that they were made with"
    )]
    WrongShard {
        /// E.g. "shard 1 of 2", as its keys say.
        found: String,
        /// The same, as its name says.
        expected: String,
    },
    /// A file of a split model is not beside the others.
    #[error(
        "shard {} is missing: the model has {count} files\nhint: put them all into one folder",
        path.display()
    )]
    MissingShard {
        /// Where it should be.
        path: PathBuf,
        /// How many shards there are.
        count: u64,
    },
    /// The shards together do not hold as many tensors as the first one says.
    #[error("its shards hold {found} tensors, expected {expected} as split.tensors.count says")]
    ShardTensorCount {
        /// Tensors of all shards.
        found: u64,
        /// The key's value.
        expected: u64,
    },

    /// The output exists, and the caller did not allow to replace it.
    #[error("output {} exists", path.display())]
    OutputExists {
        /// Path of the output.
        path: PathBuf,
    },
    /// The output leads to a file that is read, by whatever name.
    #[error("output {} is the input itself\nhint: choose another name", path.display())]
    OutputIsInput {
        /// Path of the output.
        path: PathBuf,
    },
    /// The output's folder is missing.
    #[error(
        "output {} lies in a folder that does not exist\nhint: mkdir makes one", path.display()
    )]
    NoFolder {
        /// Path of the output.
        path: PathBuf,
    },
    /// The output is a folder, a device or a pipe, or names one.
    #[error("output {} is not a regular file", path.display())]
    OutputNotAFile {
        /// Path of the output.
        path: PathBuf,
    },
    /// Writing the output could destroy the journal of a patched model.
    #[error(
        "{} has the name of an undo journal, which no output may have\n\
         hint: choose another name", path.display()
    )]
    OutputIsJournal {
        /// Path of the output.
        path: PathBuf,
    },
    /// The input is a folder, a device or a pipe: it cannot be mapped, or read twice.
    #[error("cannot open {}: it is not a regular file", path.display())]
    NotRegular {
        /// Path of the input.
        path: PathBuf,
    },
    /// A [`Producer`](crate::Producer) of the caller failed.
    #[error("rows {first}.. of tensor '{name}': {source}")]
    Producer {
        /// The tensor it was asked for.
        name: String,
        /// The first row it was asked for.
        first: u64,
        /// Its error.
        source: BoxError,
    },
    /// A new file differs from what was written into it; its temp file is removed.
    #[error(
        "what was written differs from what was meant, in {what} of {}\n\
         hint: the disk or the memory may be failing; nothing was left behind", path.display()
    )]
    ReadBack {
        /// Path of the output.
        path: PathBuf,
        /// The part that differs, e.g. "the header".
        what: String,
    },

    /// The model's file has no write permission at all.
    #[error("{} is read-only\nhint: its owner can change that: chmod u+w", path.display())]
    ReadOnly {
        /// Path of the model's file.
        path: PathBuf,
    },
    /// No journal can be made beside the model.
    #[error(
        "the folder {} is read-only, and a change in place keeps its undo journal there\n\
         hint: chmod u+w lets files be made in it", path.display()
    )]
    ReadOnlyFolder {
        /// Path of the model's folder.
        path: PathBuf,
    },
    /// The model's file may be written, but not by this user.
    #[error(
        "{} may not be written by this user, who does not own it\n\
         hint: let its owner run this, or write a new file", path.display()
    )]
    NotYours {
        /// Path of the model's file.
        path: PathBuf,
    },
    /// The whole file system of the model is read-only.
    #[error("{} is on a read-only file system\nhint: write a new file elsewhere", path.display())]
    ReadOnlyDisk {
        /// Path of the model's file.
        path: PathBuf,
    },
    /// Another process, or another value in this one, holds the lock on the model's file.
    #[error("another process is changing {}\nhint: wait until it is done", path.display())]
    Busy {
        /// Path of the model's file.
        path: PathBuf,
    },
    /// Since the model was opened, another file took its name.
    #[error("{} was replaced while it was read\nhint: try again", path.display())]
    Replaced {
        /// Path of the model's file.
        path: PathBuf,
    },
    /// A [`Patch`](crate::Patch) would change a tensor's type, and with it all later offsets.
    #[error("tensor '{name}' is {from}, which cannot become {to} in place")]
    TypeInPlace {
        /// Name of the tensor.
        name: String,
        /// The type it has.
        from: &'static str,
        /// The type it was to get.
        to: &'static str,
    },
    /// An earlier patch must be undone or kept ([`Pending`](crate::Pending)) before the next one.
    #[error(
        "{} was changed in place before, and its undo journal {} is still there",
        path.display(), journal.display()
    )]
    JournalExists {
        /// Path of the model's file.
        path: PathBuf,
        /// The journal of the earlier patch.
        journal: PathBuf,
    },
    /// A file changed in place differs from what was written into it.
    #[error(
        "what was written differs from what was meant, in {what} of {}\n\
         hint: the disk or the memory may be failing", path.display()
    )]
    WrittenWrong {
        /// Path of the model's file.
        path: PathBuf,
        /// The tensor that differs, or "the header".
        what: String,
    },
    /// A patch failed, and so did its undo: [`Pending::undo`](crate::Pending::undo) can be tried
    /// again.
    #[error("{} is changed in part, and its undo journal is still there: {source}", path.display())]
    HalfPatched {
        /// The model's first file that was to change.
        path: PathBuf,
        /// Why the patch failed.
        source: Box<Error>,
    },
    /// There is nothing to undo or to keep.
    #[error("{} has no undo journal beside it", path.display())]
    NoJournal {
        /// Path of the model's file.
        path: PathBuf,
    },
    /// The same, but the journal may lie in another folder, beside another name of the file.
    #[error(
        "{} has no undo journal in its folder, and is one of {n_links} names (hard links) of its \
         file: a journal lies beside the name by which the file was changed", path.display()
    )]
    NoJournalOfLink {
        /// The name that was asked for.
        path: PathBuf,
        /// How many names the file has.
        n_links: u64,
    },
    /// A [`Pending::forget`](crate::Pending::forget) that was cut off after its decision was found
    /// and finished.
    #[error(
        "the change of {} was kept for good by an earlier run that was cut off; that is finished \
         now, and there is nothing left to take back", path.display()
    )]
    Kept {
        /// Path of the model's file.
        path: PathBuf,
    },
    /// The journal fails its checks. It stays where it is.
    #[error(
        "undo journal {} is damaged: {what}; nothing was changed\n\
         hint: download the model again, or remove the journal to keep the model as it is",
        path.display()
    )]
    DamagedJournal {
        /// Path of the journal.
        path: PathBuf,
        /// The check that failed.
        what: &'static str,
    },
    /// The journal is of a later version of its format.
    #[error(
        "undo journal {} is not of version 1\n\
         hint: a newer version of this program may know it", path.display()
    )]
    JournalVersion {
        /// Path of the journal.
        path: PathBuf,
    },
    /// The model beside the journal is not the one that was patched.
    #[error(
        "undo journal {} is not of the file that is now {}; nothing was changed\n\
         hint: if the model was replaced since, remove the journal",
        journal.display(), path.display()
    )]
    JournalOfAnother {
        /// Path of the model's file.
        path: PathBuf,
        /// Path of the journal.
        journal: PathBuf,
    },
    /// Only a whole patch can be kept for good; this one can only be undone.
    #[error(
        "{} does not hold the whole change: {what} is missing or was changed since",
        path.display()
    )]
    NotWhole {
        /// Path of the model's file.
        path: PathBuf,
        /// The tensor that differs, "the header", or "all".
        what: String,
    },

    /// The disk, the quota or the limit on file sizes is too small for the output.
    #[error(
        "cannot write {}: there is no room for {bytes} bytes: {source}\n\
         hint: free some space, or name another folder", path.display()
    )]
    NoRoom {
        /// Path of the output.
        path: PathBuf,
        /// Bytes that it needs.
        bytes: u64,
        /// The system's own error.
        source: io::Error,
    },
    /// The system refused a thread.
    #[error("cannot start a thread: {0}\nhint: the limit on processes may be reached: ulimit -u")]
    NoThread(io::Error),
    /// The caller's [`Watch::interrupted`](crate::Watch::interrupted) returned true.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Names the file an error is about.
    pub(crate) fn in_file(self, path: &Path) -> Error {
        Error::InFile { path: path.to_owned(), source: Box::new(self) }
    }

    /// True if the work was stopped through [`Watch::interrupted`](crate::Watch::interrupted), and
    /// did not fail.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        match self {
            Error::Interrupted => true,
            Error::InFile { source, .. } => source.is_interrupted(),
            _ => false,
        }
    }
}

/// Turns an I/O error into ours: `.map_err(io_error("cannot read", path))`.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
