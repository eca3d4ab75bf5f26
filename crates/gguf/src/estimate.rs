//! How long a rewrite would take here. Each kind of its work is done on a small part of the model
//! and timed; time goes by bytes. Nothing is left on the disk.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;

use crate::checksum::digest;
use crate::copy::{PAGE_BYTES, copy_range, write_at};
use crate::error::{Error, Result, io_error};
use crate::ggml_type::GgmlType;
use crate::model::{Model, Shard, map};
use crate::output::Output;
use crate::plan::{Plan, Segment};
use crate::rewrite::{Replacement, Rewrite, equal};
use crate::watch::Watch;

/// Bytes that are hashed, copied, synced and compared.
const COPIED_BYTES: u64 = 64 << 20;
/// Bytes of them that are written from memory, as new tensors are.
const WRITTEN_BYTES: u64 = 16 << 20;
/// Elements that each thread gets of a piece: as many as the transforms give to a task.
const ELEMENTS_PER_THREAD: u64 = 1 << 18;
/// How long new rows of one kind are asked for, and when no other kind is begun.
const KIND_TIME: Duration = Duration::from_millis(250);
const PRODUCING_TIME: Duration = Duration::from_millis(1000);
/// Bytes of a tensor that are read before it is timed: hashing a whole model leaves its pages in
/// memory.
const TOUCHED_BYTES: usize = 128 << 20;
/// A first piece that takes so many times a later one is taken to have read a whole matrix.
const PREPARED: f64 = 2.0;

/// Seconds that the stages of [`Rewrite::write`] would take here, and of a model's sha256 before.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Estimate {
    /// sha256 of all files of the model.
    pub hashing: f64,
    /// Making, copying, writing and syncing, which go on beside each other.
    pub writing: f64,
    /// The comparison with what was to be written.
    pub reading_back: f64,
    /// Seconds for each byte that all cores read of a mapped file that is in memory.
    pub read_byte: f64,
    /// The first rows that were made of each kind of tensor.
    pub pieces: Vec<Piece>,
}

/// Encoded rows of a new tensor.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Their type.
    pub ty: GgmlType,
    /// Elements of a row.
    pub n_cols: u64,
    /// Whole rows.
    pub bytes: Vec<u8>,
}

impl Rewrite<'_> {
    /// Estimates how long [`Rewrite::write`] to `out` would take here, in about two seconds: more
    /// where the disk or a type is slow. A temp file is written beside `out` and removed. The
    /// rewrite is used up, for producers are asked for rows only once.
    ///
    /// # Errors
    /// As [`Rewrite::plan`]; [`Error::Producer`]; the folder cannot be written;
    /// [`Error::Interrupted`].
    pub fn estimate(mut self, out: &Path, watch: &dyn Watch) -> Result<Estimate> {
        let model = self.model();
        let plan = self.plan(out)?;
        let rates = Rates::measure(model, &plan, out, watch)?;
        let works = works(model, &mut self, &plan);
        let n_produced = works.len().max(1);
        let made = self.produced(works, watch)?;

        let produced = plan.produced_bytes() as f64;
        let copied = plan.bytes() as f64 - produced;
        let copying = copied * rates.copy;
        let writing = produced * (rates.hash + rates.write);
        let n_threads = rayon::current_num_threads().max(1);
        // Producers use all cores. The threads that copy and write take their time from them.
        let busy = made.seconds + (copying + writing) / n_threads as f64;
        let to_disk = copied * rates.sync_copied + produced * rates.sync_written;
        let hashing_back = produced * rates.hash / n_threads.min(n_produced) as f64;
        Ok(Estimate {
            hashing: model.file_bytes() as f64 * rates.hash,
            writing: [busy, copying, writing, to_disk].into_iter().fold(0.0, f64::max),
            reading_back: 2.0 * copied * rates.read + hashing_back,
            read_byte: rates.read,
            pieces: made.pieces,
        })
    }

    /// What all new tensors take, by those of each kind that are timed.
    fn produced(&mut self, works: Vec<Work>, watch: &dyn Watch) -> Result<Produced> {
        let model = self.model();
        let mut kinds: IndexMap<Kind, Vec<Work>> = IndexMap::new();
        for work in works {
            kinds.entry(work.kind).or_default().push(work);
        }
        // Most elements first: what is not timed is taken to be as fast as what is.
        let elements = |works: &[Work]| works.iter().map(|w| w.kind.n_cols * w.n_rows).sum::<u64>();
        kinds.sort_by(|_, a, _, b| elements(b).cmp(&elements(a)));
        let begun = Instant::now();
        let (mut pieces, mut timed, mut untimed) = (Vec::new(), Timed::default(), 0);
        for (kind, works) in &kinds {
            if watch.interrupted() {
                return Err(Error::Interrupted);
            }
            let chosen = typical(works).filter(|_| begun.elapsed() < PRODUCING_TIME);
            let new = chosen.and_then(|work| Some((work, self.replacement(&work.name)?)));
            let Some((work, new)) = new else {
                untimed += elements(works);
                continue;
            };
            touch(model, &work.name);
            let (row_seconds, bytes) = work.time(new)?;
            let n_rows: u64 = works.iter().map(|work| work.n_rows).sum();
            timed.seconds += row_seconds * n_rows as f64;
            timed.elements += elements(works);
            pieces.push(Piece { ty: kind.to, n_cols: kind.n_cols, bytes });
        }
        let an_element = timed.seconds / timed.elements.max(1) as f64;
        Ok(Produced { seconds: timed.seconds + an_element * untimed as f64, pieces })
    }
}

/// What all producers take, and rows that they made.
struct Produced {
    seconds: f64,
    pieces: Vec<Piece>,
}

/// Kinds that were timed.
#[derive(Default)]
struct Timed {
    seconds: f64,
    elements: u64,
}

/// Tensors whose rows take about as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    from: GgmlType,
    to: GgmlType,
    n_cols: u64,
    /// Importance and scales are mostly of the blocks' tensors.
    in_block: bool,
}

/// A tensor to produce.
struct Work {
    kind: Kind,
    name: String,
    row_bytes: u64,
    n_rows: u64,
    /// Of one matrix, where several are stacked.
    matrix_rows: u64,
    /// Rows to ask for at once.
    piece_rows: u64,
}

/// The tensors that `plan` has made.
fn works(model: &Model, rewrite: &mut Rewrite<'_>, plan: &Plan) -> Vec<Work> {
    let elements = ELEMENTS_PER_THREAD * rayon::current_num_threads() as u64;
    let mut works = Vec::new();
    for segment in plan.files.iter().flat_map(|file| &file.segments) {
        let Segment::Produce { name, row_bytes, n_rows, .. } = segment else { continue };
        let (Some(tensor), Some(new)) = (model.tensor(name), rewrite.replacement(name)) else {
            continue;
        };
        let (info, n_rows) = (tensor.info, *n_rows);
        let n_cols = info.n_cols();
        let kind = Kind { from: info.ty, to: new.ty, n_cols, in_block: info.block().is_some() };
        let few = (elements / n_cols.max(1)).max(1);
        let piece_rows = new.ask.rows_at_once(*row_bytes, n_rows);
        works.push(Work {
            kind,
            name: name.clone(),
            row_bytes: *row_bytes,
            n_rows,
            matrix_rows: info.shape.get(1).copied().unwrap_or(1),
            // A producer of the whole tensor gets no less.
            piece_rows: if piece_rows == n_rows { n_rows } else { piece_rows.min(few) },
        });
    }
    works
}

/// The smallest of `works` that has several pieces, else the largest.
fn typical(works: &[Work]) -> Option<&Work> {
    let many = works.iter().filter(|work| work.n_rows >= 3 * work.piece_rows);
    many.min_by_key(|work| work.n_rows).or(works.iter().max_by_key(|work| work.n_rows))
}

impl Work {
    /// Seconds that a row takes, on average over the whole tensor; and the first rows' bytes.
    fn time(&self, new: &mut Replacement<'_>) -> Result<(f64, Vec<u8>)> {
        let begun = Instant::now();
        let mut first: Option<Asked> = None;
        let (mut later, mut at) = (Asked::default(), 0);
        while at < self.n_rows && (later.rows == 0 || begun.elapsed() < KIND_TIME) {
            let rows = at..self.n_rows.min(at + self.piece_rows);
            at = rows.end;
            let asked = self.ask(new, rows)?;
            match first {
                None => first = Some(asked),
                Some(_) => {
                    later.rows += asked.rows;
                    later.seconds += asked.seconds;
                }
            }
        }
        let first = first.unwrap_or_default();
        let (rows, seconds) = (first.rows + later.rows, first.seconds + later.seconds);
        let row = later.seconds / later.rows.max(1) as f64;
        let usual = row * first.rows as f64;
        let prepared = later.rows > 0 && first.seconds > PREPARED * usual;
        // The pieces of a stack of small matrices hold what each of them needs.
        let row = match prepared && self.matrix_rows > rows {
            true => row + (first.seconds - usual) / self.matrix_rows as f64,
            false => seconds / rows.max(1) as f64,
        };
        Ok((row, first.bytes))
    }

    fn ask(&self, new: &mut Replacement<'_>, rows: Range<u64>) -> Result<Asked> {
        let (first, n_rows) = (rows.start, rows.end - rows.start);
        // Not zeros, whose pages the system would hand out only while they are written.
        let mut bytes = vec![1; (n_rows * self.row_bytes) as usize];
        let begun = Instant::now();
        (new.produce)(rows, &mut bytes).map_err(|source| Error::Producer {
            name: self.name.clone(),
            first,
            source,
        })?;
        Ok(Asked { rows: n_rows, seconds: begun.elapsed().as_secs_f64(), bytes })
    }
}

/// Rows that were asked for.
#[derive(Default)]
struct Asked {
    rows: u64,
    seconds: f64,
    bytes: Vec<u8>,
}

/// Reads a byte of each page of a tensor.
fn touch(model: &Model, name: &str) {
    let data = model.tensor(name).map_or(&[][..], |tensor| tensor.data());
    let pages = data.iter().take(TOUCHED_BYTES).step_by(PAGE_BYTES as usize);
    std::hint::black_box(pages.fold(0, |sum, byte| sum ^ byte));
}

/// Seconds a byte.
struct Rates {
    /// sha256, on one core.
    hash: f64,
    /// Copies from the model's file, before they are on the disk.
    copy: f64,
    /// Writes from memory, before they are on the disk.
    write: f64,
    /// Waiting for the disk, after either.
    sync_copied: f64,
    sync_written: f64,
    /// Reading a mapped file that is in memory, on all cores.
    read: f64,
}

/// A part of a model's largest file, which was hashed.
struct Hashed<'m> {
    shard: &'m Shard,
    from: Range<u64>,
    part: &'m [u8],
    /// How long each byte took.
    byte_seconds: f64,
}

impl<'m> Hashed<'m> {
    fn some_of(model: &'m Model, watch: &dyn Watch) -> Result<Hashed<'m>> {
        let shards = model.shards();
        let shard = shards.iter().max_by_key(|shard| shard.file_bytes()).unwrap_or(&shards[0]);
        let from = somewhere(shard.file_bytes());
        let part = &shard.bytes()[from.start as usize..from.end as usize];
        let (hashing, sum) = seconds(|| digest(part, watch));
        sum?;
        Ok(Hashed { shard, from, part, byte_seconds: hashing / part.len().max(1) as f64 })
    }
}

/// Estimates how long the sha256 of all files of `model` would take here, by a part of them.
///
/// # Errors
/// Only [`Error::Interrupted`].
pub fn hash_seconds(model: &Model, watch: &dyn Watch) -> Result<f64> {
    Ok(model.file_bytes() as f64 * Hashed::some_of(model, watch)?.byte_seconds)
}

impl Rates {
    /// Times a part of the model's largest file, and a temp file beside `out`.
    fn measure(model: &Model, plan: &Plan, out: &Path, watch: &dyn Watch) -> Result<Rates> {
        let hashed = Hashed::some_of(model, watch)?;
        let Hashed { shard, from, part, .. } = &hashed;
        let n = part.len().max(1) as f64;

        let cannot = |error| io_error("cannot write", out)(error);
        let output = Output::create(out)?;
        let written = &part[..part.len().min(WRITTEN_BYTES as usize)];
        // Beyond the copy: what is written may not be a part of what the copy replaces.
        let beyond = 2 * PAGE_BYTES + from.end - from.start;
        let (writing, done) = seconds(|| write_at(output.file(), written, beyond));
        done.map_err(cannot)?;
        let (syncing_written, done) = seconds(|| output.sync());
        done?;
        let (copying, done) = copy_part(shard, from, plan, &output, watch);
        done.map_err(cannot)?;
        let (syncing_copied, done) = seconds(|| output.sync());
        done?;
        let mapped = map(output.file()).map_err(cannot)?;
        let to = offset(plan) as usize;
        let copy = &mapped[to..to + part.len()];
        let (comparing, same) = seconds(|| equal(part, copy, watch));
        if !same? {
            return Err(Error::ReadBack { path: out.into(), what: "copied tensors".into() });
        }
        let n_written = written.len().max(1) as f64;
        Ok(Rates {
            hash: hashed.byte_seconds,
            copy: copying / n,
            write: writing / n_written,
            sync_copied: syncing_copied / n,
            sync_written: syncing_written / n_written,
            read: comparing / (2.0 * n),
        })
    }
}

/// Copies a part as long copies of `plan` are made: with the same shift within a page.
fn copy_part(
    shard: &Shard,
    from: &Range<u64>,
    plan: &Plan,
    output: &Output,
    watch: &dyn Watch,
) -> (f64, std::io::Result<()>) {
    seconds(|| copy_range(&shard.file, from.clone(), output.file(), offset(plan), watch))
}

/// Where a part that begins with a page is copied to.
fn offset(plan: &Plan) -> u64 {
    (PAGE_BYTES - plan.page_shift()) % PAGE_BYTES
}

/// Pages of a file of `bytes`, other ones at each call: what was read a moment ago is in memory,
/// and the rest of the file may not be.
fn somewhere(bytes: u64) -> Range<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let share = f64::from(now.subsec_micros()) / 1e6;
    let len = bytes.min(COPIED_BYTES);
    let start = ((bytes - len) as f64 * share) as u64 / PAGE_BYTES * PAGE_BYTES;
    start..start + len
}

/// How long `work` takes, and what it returns.
fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begun = Instant::now();
    let made = work();
    (begun.elapsed().as_secs_f64(), made)
}
