//! A new file of many tensors, streamed from other files: what a conversion writes. Memory does not
//! grow with the model.
//!
//! As in a [`Rewrite`](crate::Rewrite), a temp file beside the output is written and synced, read
//! back and compared, and renamed. The difference is that no GGUF model is read.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use crate::checksum::digest;
use crate::copy::{copy_range, write_at};
use crate::error::{Error, Result};
use crate::ggml_type::GgmlType;
use crate::header::Header;
use crate::history::{HISTORY_KEY, Step};
use crate::mapped::MappedFile;
use crate::model::Shard;
use crate::output::{Output, check_output, check_room, spawn_in};
use crate::rewrite::{Linked, Place, ROOM_BYTES, Replacement, Written, equal, write_error};
use crate::tensor::{MAX_DIMS, MAX_NAME_BYTES, TensorInfo};
use crate::value::Value;
use crate::watch::Watch;

/// sha256 of the tensors that were made, by their places in the header.
type Sums = HashMap<usize, [u8; 32]>;

/// Where the bytes of a tensor come from.
pub enum Content<'a> {
    /// They are those of another file, as they are.
    Copied {
        /// The file.
        file: &'a MappedFile,
        /// Their offsets in it.
        from: Range<u64>,
    },
    /// They are made, row by row. Its type is that of the tensor.
    Made(Replacement<'a>),
}

/// Makes the step of a file's history while its tensors are written.
type MakeStep<'a> = Box<dyn FnOnce(&dyn Watch) -> Result<Step> + Send + 'a>;

/// A new GGUF file of version 3 that is written as its tensors are read or made.
#[derive(Default)]
pub struct Assembly<'a> {
    header: Header,
    /// The bytes of each tensor, in the header's order.
    contents: Vec<Content<'a>>,
    step: Option<MakeStep<'a>>,
    /// Bytes of the step's line.
    step_width: u64,
}

impl<'a> Assembly<'a> {
    /// A file without keys and tensors.
    #[must_use]
    pub fn new() -> Assembly<'a> {
        Assembly::default()
    }

    /// Sets a key. A new key comes last, a known one keeps its place.
    pub fn kv(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.header.kv.insert(key.into(), value.into());
    }

    /// Begins the file's history with a step: see [`crate::history`]. `make` is called while the
    /// tensors are written, so that it can hash what they are read from. `like` is a step of the
    /// same length: the header is laid out before.
    ///
    /// # Errors
    /// [`Error::WrongValue`]: the key of the version was set to something else than a text.
    pub fn record(
        &mut self,
        like: &Step,
        make: impl FnOnce(&dyn Watch) -> Result<Step> + Send + 'a,
    ) -> Result<()> {
        self.step_width = like.width() + ROOM_BYTES;
        self.step = Some(Box::new(make));
        set_step(&mut self.header, like, self.step_width)
    }

    /// Adds a tensor after those that are there. `shape` has the columns first.
    ///
    /// # Errors
    /// As [`Builder::tensor`](crate::Builder::tensor).
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[u64],
        ty: GgmlType,
        content: Content<'a>,
    ) -> Result<()> {
        let info = TensorInfo { name: name.into(), shape: shape.to_vec(), ty, offset: 0 };
        if name.len() as u64 > MAX_NAME_BYTES {
            let index = self.contents.len() as u64;
            return Err(Error::NameTooLong { index, len: name.len() as u64, offset: 0 });
        }
        if shape.len() > MAX_DIMS as usize {
            let n_dims = shape.len() as u32;
            return Err(Error::TooManyDims { name: name.into(), n_dims, offset: 0 });
        }
        info.validate()?;
        if let Content::Copied { from, .. } = &content
            && from.end.saturating_sub(from.start) != info.n_bytes()
        {
            return Err(Error::WrongSize {
                name: name.into(),
                found: from.end.saturating_sub(from.start),
                expected: info.n_bytes(),
                shape: info.shape_text(),
                ty: ty.name(),
            });
        }
        if self.header.tensors.contains_key(name) {
            return Err(Error::DuplicateTensor { name: name.into(), offset: 0 });
        }
        self.header.tensors.insert(name.into(), info);
        self.contents.push(content);
        Ok(())
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let mut header = self.header.clone();
        header.lay_out();
        laid_out_bytes(&header)
    }

    /// Bytes of tensors that are made; all others are copied.
    #[must_use]
    pub fn made_bytes(&self) -> u64 {
        let made = self.header.tensors.values().zip(&self.contents);
        let made = made.filter(|(_, content)| matches!(content, Content::Made(_)));
        made.map(|(info, _)| info.n_bytes()).sum()
    }

    /// Writes the file to `out`, reads it back and compares it, passes the path of the temp file to
    /// `check`, and gives it its name. `force` allows to replace an existing file; the file is none
    /// of `inputs`.
    ///
    /// # Errors
    /// See [`check_output`] and [`check_room`](crate::check_room); a key that makes the header
    /// unreadable; [`Error::Producer`]; [`Error::Interrupted`]; [`Error::ReadBack`]; the disk is
    /// full or fails; those of `check`. What was at `out` is then still there.
    pub fn write_if<E: From<Error>>(
        mut self,
        out: &Path,
        force: bool,
        inputs: &[&Path],
        watch: &dyn Watch,
        check: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<Written, E> {
        check_output(out, force, inputs)?;
        self.header.lay_out();
        let planned = self.header.encode();
        Header::parse(&planned).map_err(|e| e.in_file(out))?;
        let bytes = laid_out_bytes(&self.header);
        check_room(out, bytes)?;
        let produced_bytes = self.made_bytes();
        watch.stage("writing", bytes);
        let output = Output::create(out)?;
        let (sums, step) = output.flushing(|| self.fill(&output, planned.len() as u64, watch))?;
        if let Some(step) = step {
            set_step(&mut self.header, &step, self.step_width)?;
        }
        let encoded = self.header.encode();
        if encoded.len() != planned.len() {
            return Err(Error::ReadBack { path: out.into(), what: "the history's room".into() })?;
        }
        write_at(output.file(), &encoded, 0).map_err(|e| write_error(e, out))?;
        output.file().set_len(bytes).map_err(|e| write_error(e, out))?;
        watch.stage("syncing", 0);
        output.sync()?;
        watch.stage("reading back", bytes);
        self.read_back(&output, &encoded, &sums, watch)?;
        check(output.temp_path())?;
        output.commit()?;
        Ok(Written { files: vec![(out.to_owned(), bytes)], produced_bytes })
    }

    /// Writes all tensors: one thread copies, one makes the step, this one makes tensors. Returns
    /// the sha256 of each that is made, by its place in the header, and the step.
    fn fill(
        &mut self,
        output: &Output,
        data_offset: u64,
        watch: &dyn Watch,
    ) -> Result<(Sums, Option<Step>)> {
        let linked = Linked { watch, failed: AtomicBool::new(false) };
        let mut copies = Vec::new();
        let mut made = Vec::new();
        let tensors = self.header.tensors.values().zip(&mut self.contents);
        for (index, (info, content)) in tensors.enumerate() {
            let to = data_offset + info.offset;
            match content {
                Content::Copied { file, from } => copies.push((*file, from.clone(), to)),
                Content::Made(new) => made.push((index, info, new, to)),
            }
        }
        let copy = || {
            copies.into_iter().try_for_each(|(file, from, to)| {
                copy_range(&file.file, from, output.file(), to, &linked)
                    .map_err(|e| write_error(e, output.path()))
            })
        };
        let make = || {
            let mut sums = Sums::new();
            for (index, info, new, to) in made {
                let place = Place { name: &info.name, output, to, row_bytes: info.row_bytes() };
                sums.insert(index, place.fill(new, info.n_rows(), &linked)?);
            }
            Ok(sums)
        };
        let step = self.step.take();
        let stepped = || step.map(|make| make(&Quiet(&linked))).transpose();
        let (copied, stepped, made) = std::thread::scope(|scope| {
            let copier = spawn_in(scope, || linked.guard(copy()))?;
            let stepper = spawn_in(scope, || linked.guard(stepped()))?;
            let made = linked.guard(make());
            let copied = copier.join().unwrap_or_else(|panic| resume_unwind(panic));
            let stepped = stepper.join().unwrap_or_else(|panic| resume_unwind(panic));
            Ok::<_, Error>((copied, stepped, made))
        })?;
        // The thread that failed first has the reason; the others were interrupted because of it.
        let errors = [copied.as_ref().err(), stepped.as_ref().err(), made.as_ref().err()];
        let is_reason = |error: &&Error| !error.is_interrupted();
        match errors.iter().position(|error| error.as_ref().is_some_and(is_reason)) {
            Some(1) => stepped.map(|step| (Sums::new(), step)),
            Some(2) => made.map(|sums| (sums, None)),
            _ => {
                copied?;
                Ok((made?, stepped?))
            }
        }
    }

    /// Opens the temp file as any reader would, and compares it with the header, the sources and
    /// the sums of the tensors that were made.
    fn read_back(
        &self,
        output: &Output,
        encoded: &[u8],
        sums: &Sums,
        watch: &dyn Watch,
    ) -> Result<()> {
        let differs =
            |what: &str| Error::ReadBack { path: output.path().into(), what: what.into() };
        let written = Shard::open(output.temp_path())?;
        if written.file_bytes() != laid_out_bytes(&self.header) {
            return Err(differs("the length"));
        }
        if !written.bytes().starts_with(encoded) {
            return Err(differs("the header"));
        }
        watch.advance(encoded.len() as u64);
        let mut made = Vec::new();
        let tensors = self.header.tensors.values().zip(&self.contents);
        for (index, (info, content)) in tensors.enumerate() {
            let at = encoded.len() as u64 + info.offset;
            let bytes = &written.bytes()[at as usize..][..info.n_bytes() as usize];
            match content {
                Content::Made(_) => made.push((info, bytes, sums.get(&index))),
                Content::Copied { file, from } => {
                    let source = &file.bytes()[from.start as usize..from.end as usize];
                    if !equal(source, bytes, watch)? {
                        return Err(differs(&info.name));
                    }
                }
            }
        }
        let same =
            |&(_, bytes, expected): &(_, &[u8], _)| Ok(expected == Some(&digest(bytes, watch)?));
        let checked: Vec<Result<bool>> = made.par_iter().map(same).collect();
        for ((info, ..), same) in made.into_iter().zip(checked) {
            if !same? {
                return Err(differs(&info.name));
            }
        }
        Ok(())
    }
}

/// A watch that hears no progress: what is hashed beside the writing is no part of it.
struct Quiet<'a>(&'a dyn Watch);

impl Watch for Quiet<'_> {
    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

/// Makes `step` the file's history, in a line of `width` bytes.
fn set_step(header: &mut Header, step: &Step, width: u64) -> Result<()> {
    header.kv.shift_remove(HISTORY_KEY);
    step.edits(width).iter().try_for_each(|edit| edit.apply(&mut header.kv))
}

/// Length of a file with that header, whose tensors have their offsets.
fn laid_out_bytes(header: &Header) -> u64 {
    let last = header.tensors.values().next_back();
    let alignment = header.alignment();
    let data = last.map_or(0, |info| info.offset + info.n_bytes().next_multiple_of(alignment));
    header.encode().len() as u64 + data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::rewrite::Ask;
    use crate::watch::Unwatched;

    fn made(bytes: Vec<u8>) -> Content<'static> {
        Content::Made(Replacement {
            ty: GgmlType::F32,
            ask: Ask::Chunks,
            produce: Box::new(move |rows, out| {
                let row = bytes.len() as u64 / 2;
                out.copy_from_slice(&bytes[(rows.start * row) as usize..(rows.end * row) as usize]);
                Ok(())
            }),
        })
    }

    #[test]
    fn copied_and_made_tensors_are_in_the_file_with_its_keys_and_its_step() {
        let folder = tempfile::tempdir().unwrap();
        let [source, out] = ["source", "out.gguf"].map(|name| folder.path().join(name));
        std::fs::write(&source, (0..40u8).collect::<Vec<u8>>()).unwrap();
        let source = MappedFile::open(&source).unwrap();
        let mut assembly = Assembly::new();
        assembly.kv("general.architecture", "llama");
        let copied = Content::Copied { file: &source, from: 3..27 };
        assembly.tensor("a", &[3, 2], GgmlType::F32, copied).unwrap();
        assembly.tensor("b", &[1, 2], GgmlType::F32, made((50..58).collect())).unwrap();
        let like = Step::new("import", "1").source("a", &"0".repeat(64));
        let step = Step::new("import", "1").source("a", &"1".repeat(64));
        assembly.record(&like, move |_| Ok(step)).unwrap();
        let bytes = assembly.bytes();
        assert_eq!(assembly.made_bytes(), 8);
        let pass = |_: &Path| Ok::<_, Error>(());
        let written = assembly.write_if(&out, false, &[], &Unwatched, pass).unwrap();
        assert_eq!(written.files, [(out.clone(), bytes)]);
        assert_eq!(out.metadata().unwrap().len(), bytes);
        let model = Model::open(&out).unwrap();
        assert_eq!(model.tensor("a").unwrap().data(), (3..27).collect::<Vec<u8>>());
        assert_eq!(model.tensor("b").unwrap().data(), (50..58).collect::<Vec<u8>>());
        let steps = crate::history::history(model.kv());
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0]["sources"]["a"], "1".repeat(64));
    }

    #[test]
    fn a_tensor_of_another_length_or_a_name_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::write(&source, [0; 40]).unwrap();
        let source = MappedFile::open(&source).unwrap();
        let mut assembly = Assembly::new();
        let copied = |from| Content::Copied { file: &source, from };
        let short = assembly.tensor("a", &[3], GgmlType::F32, copied(0..8));
        assert!(matches!(short, Err(Error::WrongSize { .. })));
        assembly.tensor("a", &[2], GgmlType::F32, copied(0..8)).unwrap();
        let twice = assembly.tensor("a", &[2], GgmlType::F32, copied(0..8));
        assert!(matches!(twice, Err(Error::DuplicateTensor { .. })));
    }

    #[test]
    fn a_failed_check_or_producer_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.gguf");
        std::fs::write(&out, "old").unwrap();
        let mut assembly = Assembly::new();
        assembly.tensor("b", &[1, 2], GgmlType::F32, made((0..8).collect())).unwrap();
        let fail = |_: &Path| Err(Error::Interrupted);
        assert!(assembly.write_if(&out, true, &[], &Unwatched, fail).is_err());
        let mut assembly = Assembly::new();
        let produce = Box::new(|_: Range<u64>, _: &mut [u8]| Err("no".into()));
        let broken = Replacement { ty: GgmlType::F32, ask: Ask::Chunks, produce };
        assembly.tensor("b", &[1, 2], GgmlType::F32, Content::Made(broken)).unwrap();
        let pass = |_: &Path| Ok::<_, Error>(());
        let failed = assembly.write_if(&out, true, &[], &Unwatched, pass);
        assert!(matches!(failed, Err(Error::Producer { .. })));
        assert_eq!(std::fs::read(&out).unwrap(), b"old");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }
}
