//! A block to be refitted, with what that needs.

use super::block::renamed;
use super::engines::Engines;
use super::error::{Error, Result};
use super::fit::NormalMatrix;
use super::job::{Jobs, Towards};
use super::model_pass::RunMode;
use super::texts::Texts;
use crate::gguf::Watch;
use crate::numeric::{Factor, Gram};

/// A block to be refitted, with the models, texts and jobs.
pub(super) struct BlockWork<'a> {
    pub engines: &'a Engines<'a>,
    pub mode: RunMode,
    pub block: u32,
    pub n_block: u32,
    pub texts: &'a Texts,
    pub towards: Towards,
    pub job: Jobs<'a>,
    pub watch: &'a dyn Watch,
}

impl BlockWork<'_> {
    /// Reports the current part of the work.
    pub(super) fn report(&self, what: &str) {
        self.watch.part(what, self.block as usize, self.n_block as usize);
    }

    /// The factor of a Gram matrix with its ridge, which is `more` times the usual one.
    pub(super) fn normal_matrix(
        &self,
        gram: Gram,
        (first, more): (&str, f64),
    ) -> Result<NormalMatrix> {
        let diagonal = gram.diagonal();
        let failed = |channel| Error::NotFiniteInput { name: renamed(first, self.block), channel };
        if let Some(channel) = diagonal.iter().position(|x| !x.is_finite()) {
            return Err(failed(channel));
        }
        let mean = diagonal.iter().map(|x| f64::from(*x)).sum::<f64>() / diagonal.len() as f64;
        let (Towards::Original { prior: part } | Towards::Itself { damping: part }) = self.towards;
        // Without a token any ridge works.
        let ridge = if mean > f64::from(f32::MIN_POSITIVE) {
            (f64::from(part) * more * mean) as f32
        } else {
            1.0
        };
        let importance = diagonal.iter().map(|x| x + ridge).collect();
        let factor = Factor::new(gram, ridge).map_err(|e| failed(e.row))?;
        Ok(NormalMatrix { factor, ridge, importance })
    }
}
