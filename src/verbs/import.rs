//! A Hugging Face checkpoint as a GGUF model.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::error::Result;
use super::files::FileReport;
use super::host::Host;
use super::model::file_name;
use super::output::{Output, no_sha256};
use super::stopped::Stopped;
use crate::checkpoint::{Checkpoint, Import, ImportType};
use crate::gguf::{self, Assembly, MappedFile, Step, Watch, sha256_of_sums};
use crate::llama::Options;

/// What to import.
#[derive(Debug, Clone)]
pub struct Request {
    /// The folder of the checkpoint.
    pub folder: PathBuf,
    /// Type of the matrices.
    pub ty: ImportType,
    /// Where the model goes.
    pub output: Output,
    /// How llama.cpp tries the result.
    pub engine: Options,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What `config.json` calls the architecture.
    pub family: String,
    /// What GGUF calls it.
    pub architecture: String,
    /// Type of the matrices.
    #[serde(rename = "type")]
    pub ty: String,
    /// Tensors of the checkpoint.
    pub tensors_read: usize,
    /// Tensors of the model.
    pub tensors: usize,
    /// Tokens of the vocabulary.
    pub tokens: u64,
    /// The files that were (with a dry run, would be) written.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
    /// Bytes of the tensors that are computed, not copied.
    pub computed_bytes: u64,
}

/// Imports.
///
/// # Errors
/// The folder is no checkpoint that aird imports, the disk's, llama.cpp cannot run the model, an
/// interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let checkpoint = Checkpoint::open(&request.folder)?;
    let import = Import::plan(&checkpoint, request.ty)?;
    for tensor in &import.tensors {
        let sources: Vec<&str> = tensor.sources().collect();
        let from = match sources.as_slice() {
            [] => "computed".to_owned(),
            [one] => (*one).to_owned(),
            [first, .., last] => format!("{first} to {last}"),
        };
        host.detail(format_args!("{} {} from {from}", tensor.name, tensor.ty));
    }
    let assembly = import.assembly(&checkpoint)?;
    let mut report = Report {
        family: import.family.name.into(),
        architecture: import.family.architecture.into(),
        ty: import.ty.to_string(),
        tensors_read: checkpoint.tensors.len(),
        tensors: import.tensors.len(),
        tokens: import.tokens(),
        files: Vec::new(),
        dry_run: request.output.dry_run,
        computed_bytes: assembly.made_bytes(),
    };
    report.files = match request.output.dry_run {
        true => {
            let small = small_files(&checkpoint)?;
            let assembly = recorded(assembly, &checkpoint, &small, &import)?;
            vec![FileReport::new(&request.output.path, assembly.bytes())]
        }
        false => write(&request.output, request.engine, &checkpoint, (&import, assembly), host)?,
    };
    Ok(report)
}

fn write(
    output: &Output,
    engine: Options,
    checkpoint: &Checkpoint,
    (import, assembly): (&Import, Assembly<'_>),
    host: &dyn Host,
) -> Result<Vec<FileReport>> {
    let small = small_files(checkpoint)?;
    let assembly = recorded(assembly, checkpoint, &small, import)?;
    output.write_assembly(host, assembly, &source_paths(checkpoint, &small), engine)
}

/// Every file that is read: none of them may be written over.
pub(super) fn source_paths<'c>(
    checkpoint: &'c Checkpoint,
    small: &'c [MappedFile],
) -> Vec<&'c Path> {
    let weights = checkpoint.shards.iter().map(|shard| shard.path.as_path());
    weights.chain(small.iter().map(|file| file.path.as_path())).collect()
}

/// Adds the step with the sha256 of every file that decides the result. Weights are hashed while
/// the model is written.
pub(super) fn recorded<'c>(
    mut assembly: Assembly<'c>,
    checkpoint: &'c Checkpoint,
    small: &'c [MappedFile],
    import: &Import,
) -> Result<Assembly<'c>> {
    let step = Step::new("import", crate::VERSION)
        .parameter("family", import.family.name)
        .parameter("type", import.ty.name().to_lowercase());
    let like = with_sources(step.clone(), small, &no_sha256(), |_| Ok(no_sha256()))?;
    assembly.record(&like, move |watch| {
        let weights = weights_sha256(checkpoint, watch)?;
        with_sources(step, small, &weights, |file| file.sha256(watch))
    })?;
    Ok(assembly)
}

fn with_sources(
    step: Step,
    small: &[MappedFile],
    weights: &str,
    sum: impl Fn(&MappedFile) -> gguf::Result<String>,
) -> gguf::Result<Step> {
    small.iter().try_fold(step.source("weights", weights), |step, file| {
        Ok(step.source(&file_name(&file.path), &sum(file)?))
    })
}

/// The sha256 of the weights: of their file, or of the sums of their shards.
pub(super) fn weights_sha256(checkpoint: &Checkpoint, watch: &dyn Watch) -> gguf::Result<String> {
    let sums = checkpoint.shards.par_iter().map(|shard| shard.sha256(watch));
    Ok(sha256_of_sums(&sums.collect::<gguf::Result<Vec<_>>>()?))
}

/// The files beside the weights, mapped.
pub(super) fn small_files(checkpoint: &Checkpoint) -> Result<Vec<MappedFile>> {
    let paths = checkpoint.small_files()?;
    Ok(paths.iter().map(|path| MappedFile::open(path)).collect::<gguf::Result<Vec<_>>>()?)
}
