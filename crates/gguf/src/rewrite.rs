//! The streaming rewriter: some tensors get new bytes, some keys new values, everything else is
//! copied. Memory does not grow with the model.
//!
//! 1. Temp files beside the outputs are written and synced.
//! 2. They are read back and compared with the plan and the sources.
//! 3. They are renamed.
//!
//! So whatever happens, the output's path holds what it held before, or the whole new file. Shards
//! are renamed one after another: a crash between two renames leaves some of them.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::checksum::digest;
use crate::copy::{copy_range, write_at};
use crate::edit::KvEdit;
use crate::error::{BoxError, Error, Result, io_error};
use crate::ggml_type::GgmlType;
use crate::history::Step;
use crate::model::{Model, Shard};
use crate::output::{Output, check_output, check_room, spawn_in, temp_folder};
use crate::plan::{Layout, Plan, PlannedFile, Segment};
use crate::temp::TempPath;
use crate::watch::Watch;

/// Bytes of rows that a producer is asked for at once, unless a row is longer.
const CHUNK_BYTES: u64 = 2 << 20;
/// Spaces after a step's line: room for the step of a later patch, which cannot make the header
/// longer.
pub(crate) const ROOM_BYTES: u64 = 1 << 10;
/// Bytes that each thread compares at once while reading back.
const COMPARE_BYTES: usize = 4 << 20;

/// Fills the buffer with the encoded bytes of the rows that it is asked for. The buffer has exactly
/// their length; what it holds before is unspecified. An error ends the work as
/// [`Error::Producer`].
pub type Producer<'a> =
    Box<dyn FnMut(Range<u64>, &mut [u8]) -> std::result::Result<(), BoxError> + 'a>;

/// Adds to a step what is known only when all tensors are produced.
type Complete<'a> = Box<dyn FnOnce(Step) -> Step + 'a>;

/// New bytes for a tensor; its name and shape stay. For a [`Rewrite`] or a [`Patch`](crate::Patch).
pub struct Replacement<'a> {
    /// The type that the new bytes are encoded in.
    pub ty: GgmlType,
    /// How many rows `produce` is asked for at once.
    pub ask: Ask,
    /// Called with ascending ranges of rows, which cover the tensor exactly once.
    pub produce: Producer<'a>,
}

/// How many rows of a tensor a [`Producer`] is asked for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// About 2 MiB of rows, at least one: memory does not grow with the tensor.
    Chunks,
    /// All rows at once, in memory: for transforms that do not visit rows in their order.
    Whole,
}

impl Ask {
    /// How many rows of `row_bytes` to ask for at once, of a tensor with `n_rows`.
    pub(crate) fn rows_at_once(self, row_bytes: u64, n_rows: u64) -> u64 {
        match self {
            Ask::Whole => n_rows,
            // Rows of an empty dimension have no bytes.
            Ask::Chunks => (CHUNK_BYTES / row_bytes.max(1)).max(1),
        }
    }
}

/// A new file made of a model: some keys and tensors change, everything else is copied byte for
/// byte, in the same order. The model itself is not changed.
pub struct Rewrite<'m> {
    model: &'m Model,
    layout: Layout,
    edits: Vec<KvEdit>,
    step: Option<Step>,
    /// Bytes that the step may grow by once the tensors are produced.
    reserve: u64,
    complete: Option<Complete<'m>>,
    replacements: HashMap<String, Replacement<'m>>,
}

/// What [`Rewrite::write`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Each output file with its length in bytes, in the order of their numbers.
    pub files: Vec<(PathBuf, u64)>,
    /// Bytes that came from producers.
    pub produced_bytes: u64,
}

impl<'m> Rewrite<'m> {
    /// A rewrite that changes nothing yet: a copy.
    #[must_use]
    pub fn new(model: &'m Model, layout: Layout) -> Rewrite<'m> {
        Rewrite {
            model,
            layout,
            edits: Vec::new(),
            step: None,
            reserve: 0,
            complete: None,
            replacements: HashMap::new(),
        }
    }

    /// Adds an edit of the model's keys. Edits apply in the order in which they were added.
    pub fn edit(&mut self, edit: KvEdit) {
        self.edits.push(edit);
    }

    /// Appends `step` to the file's history, as the last edit: see [`crate::history`].
    pub fn record(&mut self, step: Step) {
        self.step = Some(step);
    }

    /// As [`Rewrite::record`], for a step with measurements that producers make: when all tensors
    /// are produced, `complete` adds them, in at most `reserve` bytes of JSON. The header is laid
    /// out before, so its length cannot change any more.
    pub fn record_measured(
        &mut self,
        step: Step,
        reserve: u64,
        complete: impl FnOnce(Step) -> Step + 'm,
    ) {
        self.step = Some(step);
        self.reserve = reserve;
        self.complete = Some(Box::new(complete));
    }

    /// Gives tensor `name` new bytes, of any type. A later call for the same tensor replaces an
    /// earlier one.
    ///
    /// # Errors
    /// [`Error::NoTensor`], or [`Error::PartialBlock`]: a row is no whole number of the type's
    /// blocks.
    pub fn replace(&mut self, name: &str, new: Replacement<'m>) -> Result<()> {
        let tensor = self.model.tensor(name);
        let info = tensor.ok_or_else(|| Error::NoTensor { name: name.into() })?.info;
        if info.row_bytes_as(new.ty).is_none() {
            return Err(Error::PartialBlock {
                name: name.into(),
                n_cols: info.n_cols(),
                ty: new.ty.name(),
                block_len: new.ty.layout().block_len,
            });
        }
        self.replacements.insert(name.into(), new);
        Ok(())
    }

    /// The model that the new file is made of.
    pub(crate) fn model(&self) -> &'m Model {
        self.model
    }

    /// The new bytes of a tensor; None if it stays.
    pub(crate) fn replacement(&mut self, name: &str) -> Option<&mut Replacement<'m>> {
        self.replacements.get_mut(name)
    }

    /// What [`Rewrite::write`] would write, without writing.
    ///
    /// # Errors
    /// [`Error::WrongValue`]: an edit does not fit the type of its key.
    pub fn plan(&self, out: &Path) -> Result<Plan> {
        Ok(self.laid_out(out)?.0)
    }

    /// The plan, and the width in bytes of the step's line in it. The line is made longer so that
    /// the data begins at the same offset within a page as the source's: then whole pages can be
    /// shared.
    fn laid_out(&self, out: &Path) -> Result<(Plan, u64)> {
        let width = self.step.as_ref().map_or(0, |step| step.width() + ROOM_BYTES) + self.reserve;
        let tight = self.plan_with(out, width)?;
        match (&self.step, tight.page_shift()) {
            (Some(_), shift) if shift > 0 => {
                Ok((self.plan_with(out, width + shift)?, width + shift))
            }
            _ => Ok((tight, width)),
        }
    }

    /// The plan with a line of `width` bytes for the step.
    fn plan_with(&self, out: &Path, width: u64) -> Result<Plan> {
        let types = self.replacements.iter().map(|(name, r)| (name.clone(), r.ty)).collect();
        let step = self.step.iter().flat_map(|step| step.edits(width));
        let edits: Vec<KvEdit> = self.edits.iter().cloned().chain(step).collect();
        Plan::new(self.model, &edits, &types, self.layout, out)
    }

    /// Writes the new file, or files, to `out`; reads it back and compares it; gives it its name.
    /// `force` allows to replace an existing file. Of several files `out` gives the folder and the
    /// part of the name before the number.
    ///
    /// # Errors
    /// See [`check_output`] and [`check_room`](crate::check_room); an edit that does not fit its
    /// key; [`Error::Producer`]; [`Error::Interrupted`]; [`Error::ReadBack`]; the disk is full or
    /// fails. No temp file is left, and no output was made or changed, unless the disk failed while
    /// the outputs were renamed.
    pub fn write(self, out: &Path, force: bool, watch: &dyn Watch) -> Result<Written> {
        self.write_if(out, force, watch, |_| Ok(()))
    }

    /// As [`Rewrite::write`], with a check before the rename: `check` gets the path of the temp
    /// file, or of the first of several shards, which lie in one folder under their final names. If
    /// it fails nothing is renamed.
    ///
    /// # Errors
    /// As [`Rewrite::write`], and those of `check`.
    pub fn write_if<E: From<Error>>(
        mut self,
        out: &Path,
        force: bool,
        watch: &dyn Watch,
        check: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<Written, E> {
        let (mut plan, width) = self.laid_out(out)?;
        let inputs: Vec<&Path> = self.model.shards().iter().map(|s| s.path.as_path()).collect();
        for file in &plan.files {
            check_output(&file.path, force, &inputs)?;
        }
        check_room(out, plan.bytes())?;
        // `check` opens shards by their final names, so they need a folder; one file needs no name
        // yet.
        let folder = if plan.files.len() > 1 { Some(temp_folder(out)?) } else { None };
        let _remembered = folder.as_ref().map(|folder| TempPath::remember(folder.path()));
        let mut outputs = Vec::new();
        watch.stage("writing", plan.bytes());
        for file in &plan.files {
            let output = match &folder {
                Some(folder) => Output::create_in(folder, &file.path)?,
                None => Output::create(&file.path)?,
            };
            let digests = output.flushing(|| self.write_file(file, &output, watch))?;
            outputs.push((output, digests));
        }
        self.complete_step(&mut plan, out, width)?;
        // The header is last: its history holds what the producers measured.
        for (file, (output, _)) in plan.files.iter().zip(&outputs) {
            if let Some(header) = &file.header {
                let written = write_at(output.file(), &header.encode(), 0);
                written.map_err(|e| write_error(e, &file.path))?;
            }
        }
        watch.stage("syncing", 0);
        for (output, _) in &outputs {
            output.sync()?;
        }
        watch.stage("reading back", plan.bytes());
        for (file, (output, digests)) in plan.files.iter().zip(&outputs) {
            read_back(self.model, file, output, digests, watch)?;
        }
        if let Some((first, _)) = outputs.first() {
            check(first.temp_path())?;
        }
        let files = plan.files.iter().map(|f| (f.path.clone(), f.bytes)).collect();
        for (output, _) in outputs {
            output.commit()?;
        }
        Ok(Written { files, produced_bytes: plan.produced_bytes() })
    }

    /// Makes the plan again with the completed step. Only the text of its line may differ: the
    /// tensors are written already.
    fn complete_step(&mut self, plan: &mut Plan, out: &Path, width: u64) -> Result<()> {
        let (Some(complete), Some(step)) = (self.complete.take(), self.step.take()) else {
            return Ok(());
        };
        self.step = Some(complete(step));
        let completed = self.plan_with(out, width)?;
        let same = |(a, b): (&PlannedFile, &PlannedFile)| a.segments == b.segments;
        if !plan.files.iter().zip(&completed.files).all(same) {
            return Err(Error::ReadBack { path: out.into(), what: "the history's room".into() });
        }
        *plan = completed;
        Ok(())
    }

    /// Writes one output but for its header; returns the sha256 of each produced tensor, in order.
    /// Another thread copies the unchanged bytes while this one produces.
    fn write_file(
        &mut self,
        file: &PlannedFile,
        output: &Output,
        watch: &dyn Watch,
    ) -> Result<Vec<[u8; 32]>> {
        let linked = Linked { watch, failed: AtomicBool::new(false) };
        let model = self.model;
        let (copied, produced) = std::thread::scope(|scope| {
            let copy = || linked.guard(copy_segments(model, file, output, &linked));
            let copier = spawn_in(scope, copy)?;
            let produced = linked.guard(self.produce_segments(file, output, &linked));
            Ok::<_, Error>((copier.join().unwrap_or_else(|panic| resume_unwind(panic)), produced))
        })?;
        // The thread that failed first has the reason; the other one was interrupted because of it.
        let digests = match (copied, produced) {
            (Ok(()), Ok(digests)) => digests,
            (Err(error), Err(Error::Interrupted)) | (Err(error), Ok(_)) => return Err(error),
            (_, Err(error)) => return Err(error),
        };
        // No segment covers the padding after the last tensor: the file gets its length here.
        output.file().set_len(file.bytes).map_err(|e| write_error(e, &file.path))?;
        Ok(digests)
    }

    /// Asks for all new tensors of `file` and writes them; returns the sha256 of each.
    fn produce_segments(
        &mut self,
        file: &PlannedFile,
        output: &Output,
        watch: &dyn Watch,
    ) -> Result<Vec<[u8; 32]>> {
        let mut digests = Vec::new();
        for segment in &file.segments {
            let Segment::Produce { name, to, row_bytes, n_rows } = segment else { continue };
            let no_tensor = || Error::NoTensor { name: name.clone() };
            let new = self.replacements.get_mut(name).ok_or_else(no_tensor)?;
            let place = Place { name, output, to: *to, row_bytes: *row_bytes };
            digests.push(place.fill(new, *n_rows, watch)?);
        }
        Ok(digests)
    }
}

/// Copies all unchanged bytes of `file`.
fn copy_segments(
    model: &Model,
    file: &PlannedFile,
    output: &Output,
    watch: &dyn Watch,
) -> Result<()> {
    for segment in &file.segments {
        let Segment::Copy { shard, from, to } = segment else { continue };
        let source = &model.shards()[*shard].file;
        copy_range(source, from.clone(), output.file(), *to, watch)
            .map_err(|e| write_error(e, &file.path))?;
    }
    Ok(())
}

/// The watch of two threads: when one of them fails, the other one is interrupted.
pub(crate) struct Linked<'a> {
    pub(crate) watch: &'a dyn Watch,
    pub(crate) failed: AtomicBool,
}

impl Linked<'_> {
    /// Passes the result on, and interrupts the other thread if it is an error.
    pub(crate) fn guard<T>(&self, result: Result<T>) -> Result<T> {
        self.failed.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    }
}

impl Watch for Linked<'_> {
    fn advance(&self, bytes: u64) {
        self.watch.advance(bytes);
    }

    fn interrupted(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.watch.interrupted()
    }
}

/// Where a produced tensor is written.
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) output: &'a Output,
    /// Its first offset in the output.
    pub(crate) to: u64,
    pub(crate) row_bytes: u64,
}

impl Place<'_> {
    /// Asks for all rows and writes them; returns their sha256. While this thread asks for a chunk,
    /// another hashes and writes the one before.
    pub(crate) fn fill(
        &self,
        new: &mut Replacement,
        n_rows: u64,
        watch: &dyn Watch,
    ) -> Result<[u8; 32]> {
        let (full, filled) = sync_channel::<(u64, Vec<u8>)>(0);
        let (empty, emptied) = channel();
        std::thread::scope(|scope| {
            let writer = spawn_in(scope, move || self.write_chunks(&filled, &empty, watch))?;
            let asked = self.ask_chunks(new, n_rows, watch, &full, &emptied);
            // A closed channel ends the writer's loop.
            drop(full);
            let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
            // A writer that fails makes the asking stop without an error: the writer has the
            // reason.
            written.and_then(|digest| asked.map(|()| digest))
        })
    }

    /// Asks for chunk after chunk, each into a buffer that the writer has finished with or a new
    /// one, until all are sent or the writer has failed.
    fn ask_chunks(
        &self,
        new: &mut Replacement,
        n_rows: u64,
        watch: &dyn Watch,
        full: &SyncSender<(u64, Vec<u8>)>,
        emptied: &Receiver<Vec<u8>>,
    ) -> Result<()> {
        let chunk_rows = new.ask.rows_at_once(self.row_bytes, n_rows);
        let mut first = 0;
        while first < n_rows {
            if watch.interrupted() {
                return Err(Error::Interrupted);
            }
            let rows = first..n_rows.min(first + chunk_rows);
            let mut buffer = emptied.try_recv().unwrap_or_default();
            buffer.resize(((rows.end - rows.start) * self.row_bytes) as usize, 0);
            (new.produce)(rows.clone(), &mut buffer).map_err(|source| Error::Producer {
                name: self.name.into(),
                first,
                source,
            })?;
            if full.send((first, buffer)).is_err() {
                return Ok(());
            }
            first = rows.end;
        }
        Ok(())
    }

    /// Hashes and writes chunks as they come, and returns their buffers.
    fn write_chunks(
        &self,
        filled: &Receiver<(u64, Vec<u8>)>,
        empty: &Sender<Vec<u8>>,
        watch: &dyn Watch,
    ) -> Result<[u8; 32]> {
        let mut digest = Sha256::new();
        while let Ok((first, buffer)) = filled.recv() {
            digest.update(&buffer);
            write_at(self.output.file(), &buffer, self.to + first * self.row_bytes)
                .map_err(|e| write_error(e, self.output.path()))?;
            watch.advance(buffer.len() as u64);
            // An error only means that no chunk follows.
            let _ = empty.send(buffer);
        }
        Ok(digest.finalize().into())
    }
}

/// The error of a write, where an interrupted watch came as an I/O error.
pub(crate) fn write_error(error: io::Error, path: &Path) -> Error {
    match error.kind() {
        io::ErrorKind::Interrupted => Error::Interrupted,
        _ => io_error("cannot write", path)(error),
    }
}

/// Opens the temp file as any reader would, and compares it with the plan, the sources and the sums
/// of the produced tensors.
fn read_back(
    model: &Model,
    file: &PlannedFile,
    output: &Output,
    digests: &[[u8; 32]],
    watch: &dyn Watch,
) -> Result<()> {
    let differs = |what: &str| Error::ReadBack { path: file.path.clone(), what: what.into() };
    let written = Shard::open(output.temp_path())?;
    if written.file_bytes() != file.bytes {
        return Err(differs("the length"));
    }
    if let Some(header) = &file.header {
        // Also by bytes: two headers are equal if only the order of their keys differs.
        if written.header != *header || !written.bytes().starts_with(&header.encode()) {
            return Err(differs("the header"));
        }
        watch.advance(written.data_offset);
    }
    let mut digests = digests.iter();
    let mut produced = Vec::new();
    for segment in &file.segments {
        match segment {
            Segment::Copy { shard, from, to } => {
                let len = from.end - from.start;
                let source = &model.shards()[*shard].bytes()[from.start as usize..][..len as usize];
                let copy = &written.bytes()[*to as usize..][..len as usize];
                if !equal(source, copy, watch)? {
                    return Err(differs("copied tensors"));
                }
            }
            Segment::Produce { name, to, row_bytes, n_rows } => {
                let len = row_bytes * n_rows;
                let bytes = &written.bytes()[*to as usize..][..len as usize];
                produced.push((name, bytes, digests.next()));
            }
        }
    }
    let same = |&(_, bytes, expected): &(_, &[u8], _)| Ok(expected == Some(&digest(bytes, watch)?));
    let checked: Vec<Result<bool>> = produced.par_iter().map(same).collect();
    for ((name, ..), same) in produced.into_iter().zip(checked) {
        if !same? {
            return Err(differs(name));
        }
    }
    Ok(())
}

/// Compares on all cores. The lengths must be equal too.
pub(crate) fn equal(a: &[u8], b: &[u8], watch: &dyn Watch) -> Result<bool> {
    let threads = rayon::current_num_threads().max(1);
    for (a, b) in a.chunks(COMPARE_BYTES * threads).zip(b.chunks(COMPARE_BYTES * threads)) {
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
        let pairs = a.par_chunks(COMPARE_BYTES).zip(b.par_chunks(COMPARE_BYTES));
        if !pairs.into_par_iter().all(|(a, b)| a == b) {
            return Ok(false);
        }
        watch.advance(a.len() as u64);
    }
    Ok(a.len() == b.len())
}
