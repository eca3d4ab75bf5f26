//! The edit at run time, with no file written: `W' y = W y + alpha u (u . W y)`, bias included, at
//! every matrix through which a half writes into the residual stream.

use std::collections::HashMap;

use super::edit::{along, half_of};
use super::error::{Error, Result};
use super::half::Half;
use super::scale::Scale;
use crate::gguf::Model;
use crate::llama::{Hooks, Site};
use crate::quant::decoded;

/// What the edit works along, for every half of a model.
#[derive(Debug, Clone)]
pub struct Live {
    along: HashMap<Half, Along>,
}

/// Of one half.
#[derive(Debug, Clone)]
struct Along {
    /// u, [n_embd], of length 1.
    unit: Vec<f32>,
    /// `u . b`: llama.cpp adds the bias behind the product that hooks see, in its units.
    bias: f64,
}

impl Live {
    /// Reads the norms and biases of `model` that stand behind its residual writers; `unit` is r.
    ///
    /// # Errors
    /// A norm is missing, or a direction that nothing is written along.
    pub fn new(model: &Model, unit: &[f32]) -> Result<Live> {
        let mut halves = HashMap::new();
        for tensor in model.tensors() {
            let Some(half) = half_of(tensor) else { continue };
            let unit = along(model, tensor, unit)?;
            let name = tensor.info.name.strip_suffix(".weight").unwrap_or_default();
            let bias = match model.tensor(&format!("{name}.bias")) {
                // Of experts each has its own, which a hook cannot tell apart.
                Some(bias) if bias.info.n_rows() == 1 => {
                    Scale::of(model, tensor)?.bias_before(dot(&decoded(bias, 0..1)?, &unit))
                }
                _ => 0.0,
            };
            let found = halves.entry(half).or_insert(Along { unit, bias });
            if bias == 0.0 {
                found.bias = 0.0;
            }
        }
        Ok(Live { along: halves })
    }

    /// The halves that can be edited, ascending.
    pub fn halves(&self) -> Vec<Half> {
        let mut halves: Vec<Half> = self.along.keys().copied().collect();
        halves.sort_unstable();
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
        if let Some(half) = halves.iter().find(|half| !self.along.contains_key(half)) {
            return Err(Error::NoWriter { block: half.block });
        }
        let half = |site| match site {
            Site::Output(block, part) => Some(Half { block, part }),
            _ => None,
        };
        Ok(hooks.change(
            move |site| half(site).is_some_and(|half| halves.contains(&half)),
            move |site, y| {
                let Some(along) = half(site).and_then(|half| self.along.get(&half)) else { return };
                let more = alpha * (dot(y, &along.unit) + along.bias);
                y.iter_mut()
                    .zip(&along.unit)
                    .for_each(|(y, u)| *y += (more * f64::from(*u)) as f32);
            },
        ))
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}
