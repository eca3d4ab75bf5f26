//! The edit at run time, with no file written: `W' y = W y + alpha v (u . W y)`, bias included, at
//! every matrix through which a half writes into the residual stream.

use std::collections::HashSet;

use super::arrival::along;
use super::error::{Error, Result};
use super::half::Half;
use super::scale::Scale;
use crate::gguf::Model;
use crate::llama::graph::{Link, Structure, Writer};
use crate::llama::{Hooks, Site};
use crate::numeric::dot;
use crate::quant::{Along, decoded};

/// The vectors of the edit, for every matrix that writes into the residual stream.
#[derive(Debug, Clone)]
pub struct Live {
    /// In the structure's order; None where nothing arrives.
    writers: Vec<Option<WriterEdit>>,
}

/// The edit of one matrix.
#[derive(Debug, Clone)]
struct WriterEdit {
    half: Half,
    along: Along,
    /// `u . b`: llama.cpp adds the bias after the product that hooks see, in its units.
    bias: f64,
}

impl Live {
    /// Reads the gains and biases of `model` that come after its residual writers; `unit` is r.
    ///
    /// # Errors
    /// A tensor is missing, or nothing is written along the direction.
    pub fn new(model: &Model, structure: &Structure, unit: &[f32]) -> Result<Live> {
        let mut writers = Vec::new();
        // A bias after a sum of several products is strengthened once.
        let mut biases = HashSet::new();
        for writer in structure.writers() {
            let along = match along(model, writer, unit) {
                Ok(along) => along,
                // Gains of zero let nothing through: such a matrix cannot be strengthened.
                Err(Error::NothingThere { .. }) => {
                    writers.push(None);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let bias = match bias(model, writer, &along.read)? {
                Some((name, bias)) if biases.insert(name.clone()) => bias,
                _ => 0.0,
            };
            writers.push(Some(WriterEdit { half: Half::of(writer), along, bias }));
        }
        Ok(Live { writers })
    }

    /// The halves that can be edited, ascending.
    pub fn halves(&self) -> Vec<Half> {
        let mut halves: Vec<Half> = self.writers.iter().flatten().map(|w| w.half).collect();
        halves.sort_unstable();
        halves.dedup();
        halves
    }

    /// Adds the edit of `halves` by `alpha` to `hooks`.
    ///
    /// # Errors
    /// [`Error::NoWriter`] for a half that writes nothing.
    pub fn strengthen<'a>(
        &'a self,
        hooks: Hooks<'a>,
        halves: &'a [Half],
        alpha: f64,
    ) -> Result<Hooks<'a>> {
        let known = |half: &Half| self.writers.iter().flatten().any(|w| w.half == *half);
        if let Some(half) = halves.iter().find(|half| !known(half)) {
            return Err(Error::NoWriter { block: half.block });
        }
        let written = |site| match site {
            Site::Output(place) => self.writers.get(place).and_then(Option::as_ref),
            Site::Point(_) => None,
        };
        Ok(hooks.change(
            move |site| written(site).is_some_and(|written| halves.contains(&written.half)),
            move |site, y| {
                let Some(WriterEdit { along, bias, .. }) = written(site) else { return };
                let more = alpha * (dot(y, &along.read) + bias);
                y.iter_mut()
                    .zip(&along.write)
                    .for_each(|(y, v)| *y += (more * f64::from(*v)) as f32);
            },
        ))
    }
}

/// The bias that is added to a matrix's product, and its `u . b` in the product's units.
fn bias<'w>(model: &Model, writer: &'w Writer, read: &[f32]) -> Result<Option<(&'w String, f64)>> {
    let plain = |link: &&Link| !matches!(link, Link::Gains(_) | Link::RmsNorm);
    for link in writer.links.iter().take_while(plain) {
        let Link::Bias(name) = link else { continue };
        // Each expert has its own bias, and a hook cannot tell experts apart.
        if let Some(bias) = model.tensor(name).filter(|bias| bias.info.n_rows() == 1) {
            let bias = dot(&decoded(bias, 0..1)?, read);
            return Ok(Some((name, Scale::of(model, writer)?.bias_before(bias))));
        }
    }
    Ok(None)
}
