//! Starts engines for whole models and for single blocks.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::Result;
use super::parts::Parts;
use crate::gguf::Model;
use crate::llama::{Engine, Error as LlamaError, Options, Prober, Trial};

/// Starts engines for whole models and for single blocks.
pub(super) struct Engines<'a> {
    options: Options,
    prober: &'a Prober,
    /// Finished blocks; files that are only run meanwhile lie beside them.
    parts: &'a Parts,
    /// Headers of single blocks that llama.cpp is known to run.
    known: RefCell<HashSet<String>>,
}

impl<'a> Engines<'a> {
    pub(super) fn new(options: Options, prober: &'a Prober, parts: &'a Parts) -> Engines<'a> {
        Engines { options, prober, parts, known: RefCell::default() }
    }

    /// Finished blocks.
    pub(super) fn parts(&self) -> &'a Parts {
        self.parts
    }

    /// The folder for files that are run.
    pub(super) fn folder(&self) -> &'a Path {
        self.parts.folder()
    }

    /// Fails if llama.cpp cannot run the single block at `path`. It is tried in its own process,
    /// because llama.cpp aborts on some. Aborts depend only on the header, so that one block of
    /// each kind is tried.
    pub(super) fn try_alone(&self, path: &Path) -> Result<()> {
        let alone = Model::open(path)?;
        let infos: Vec<_> =
            alone.tensors().map(|t| (&t.info.name, &t.info.shape, t.info.ty)).collect();
        let header = format!("{:?} {infos:?}", alone.kv());
        if !self.known.borrow().contains(&header) {
            self.prober.first_token(&Trial { model: path, lora: None, options: self.options })?;
            self.known.borrow_mut().insert(header);
        }
        Ok(())
    }

    /// Fails once the work is interrupted: decodes check this themselves, algebra does not.
    pub(super) fn check_interrupt(&self) -> Result<()> {
        match self.prober.interrupt.load(Ordering::Relaxed) {
            true => Err(LlamaError::Interrupted.into()),
            false => Ok(()),
        }
    }

    pub(super) fn load(&self, path: &Path) -> Result<Engine> {
        Ok(Engine::load_interruptible(path, self.options, Arc::clone(&self.prober.interrupt))?)
    }
}
