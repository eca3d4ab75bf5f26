//! How what a matrix writes arrives in the residual stream, and along which vectors it has to be
//! edited for that to be strengthened along r and nothing across r to change.
//!
//! ```text
//! x + W y               W' = W + alpha r r^T W
//! x + g * (W y)         W' = W + alpha v u^T W       u = g * r, v = r / g: g * W' y is
//!                                                    (I + alpha r r^T)(g * W y)
//! x + g * (W y) / rms   the same W', but for rms: what arrives is (I + alpha r r^T) of what
//!                       arrived, times rms / rms', one number a token
//! ```
//! u and v are scaled so that u has length 1 and u . v is 1. Where g has next to nothing of a
//! channel, r / g would be huge and move nothing: v is held back there.

use super::error::{Error, Result};
use crate::gguf::Model;
use crate::llama::graph::{Link, Writer};
use crate::quant::{Along, decoded};

/// Gains below this part of their root mean square are taken for none.
const LEAST_GAIN: f64 = 1e-3;

/// The vectors for the matrix of `writer`; `unit` is r.
///
/// # Errors
/// A vector of the file that is missing or of another length; nothing arrives along r.
pub(super) fn along(model: &Model, writer: &Writer, unit: &[f32]) -> Result<Along> {
    behind(model, writer, &writer.links, unit)
}

/// Biases on the way of `writer`, each with the vectors for it.
///
/// # Errors
/// As [`along`].
pub(super) fn biases(model: &Model, writer: &Writer, unit: &[f32]) -> Result<Vec<(String, Along)>> {
    let mut biases = Vec::new();
    for (i, link) in writer.links.iter().enumerate() {
        if let Link::Bias(name) = link {
            biases.push((name.clone(), behind(model, writer, &writer.links[i + 1..], unit)?));
        }
    }
    Ok(biases)
}

fn behind(model: &Model, writer: &Writer, links: &[Link], unit: &[f32]) -> Result<Along> {
    let Some(gains) = gains(model, writer, links, unit.len())? else {
        return Ok(Along::same(unit));
    };
    let square = gains.iter().map(|g| g * g).sum::<f64>() / gains.len().max(1) as f64;
    let least = LEAST_GAIN * LEAST_GAIN * square;
    let pairs = || gains.iter().zip(unit).map(|(g, r)| (*g, f64::from(*r)));
    let read: Vec<f64> = pairs().map(|(g, r)| g * r).collect();
    let write: Vec<f64> = pairs().map(|(g, r)| r * g / (g * g + least)).collect();
    let length = read.iter().map(|u| u * u).sum::<f64>().sqrt();
    let product = read.iter().zip(&write).map(|(u, v)| u * v).sum::<f64>();
    if !(length > 0.0 && length.is_finite() && product > 0.0 && product.is_finite()) {
        return Err(Error::NothingThere { name: writer.tensor.clone() });
    }
    Ok(Along {
        read: read.iter().map(|u| (u / length) as f32).collect(),
        write: write.iter().map(|v| (v * length / product) as f32).collect(),
    })
}

/// The product of all gains in `links`; None if there are none.
pub(super) fn gains(
    model: &Model,
    writer: &Writer,
    links: &[Link],
    n_embd: usize,
) -> Result<Option<Vec<f64>>> {
    let mut product: Option<Vec<f64>> = None;
    for link in links {
        let Link::Gains(name) = link else { continue };
        let no_norm = || Error::NoNorm { name: name.clone(), matrix: writer.tensor.clone() };
        let gains = decoded(model.tensor(name).ok_or_else(no_norm)?, 0..1)?;
        if gains.len() != n_embd {
            return Err(no_norm());
        }
        let product = product.get_or_insert_with(|| vec![1.0; n_embd]);
        product.iter_mut().zip(gains).for_each(|(p, g)| *p *= f64::from(g));
    }
    Ok(product)
}
