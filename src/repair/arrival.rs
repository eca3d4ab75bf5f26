//! How the output of a matrix arrives in the residual stream, and along which vectors the matrix
//! has to be edited so that the output is strengthened along r and does not change across r.
//!
//! ```text
//! x + W y               W' = W + alpha r r^T W
//! x + g * (W y)         W' = W + alpha v u^T W       u = g * r, v = r / g: g * W' y is
//!                                                    (I + alpha r r^T)(g * W y)
//! x + g * (W y) / rms   the same W', but for rms: what arrives is (I + alpha r r^T) of what
//!                       arrived, times rms / rms', one number a token
//! ```
//! u and v are scaled so that u has length 1 and u . v is 1. Where g is nearly 0 in a channel, r /
//! g is huge: before a norm it would only make rms' large, so that less of everything arrives. v is
//! then `r g / (g^2 + l^2)`, l as small as |v| <= 2 allows, and g * v lies not only along r;
//! `norms` measures the rest. (gemma-3-270m: gains from 0.1 to 450 in one norm.)

use super::error::{Error, Result};
use crate::gguf::Model;
use crate::llama::graph::{Link, Writer};
use crate::quant::{Along, decoded};

/// The greatest length of v where u has length 1.
const MOST_WRITTEN: f64 = 2.0;
/// l, in parts of the gains' root mean square: the first that is tried, and by how much it grows.
const LEAST_GAIN: f64 = 1e-3;
const GROWTH: f64 = 1.1;
/// From here on v is u, up to a thousandth.
const MOST_GAIN: f64 = 1e3;

/// The vectors for the matrix of `writer`; `unit` is r.
///
/// # Errors
/// A vector of the file that is missing or of another length; nothing arrives along r.
pub(super) fn along(model: &Model, writer: &Writer, unit: &[f32]) -> Result<Along> {
    before(model, writer, &writer.links, unit)
}

/// Biases on the way of `writer`, each with the vectors for it.
///
/// # Errors
/// As [`along`].
pub(super) fn biases(model: &Model, writer: &Writer, unit: &[f32]) -> Result<Vec<(String, Along)>> {
    let mut biases = Vec::new();
    for (i, link) in writer.links.iter().enumerate() {
        if let Link::Bias(name) = link {
            biases.push((name.clone(), before(model, writer, &writer.links[i + 1..], unit)?));
        }
    }
    Ok(biases)
}

/// The vectors for what `links` come after.
fn before(model: &Model, writer: &Writer, links: &[Link], unit: &[f32]) -> Result<Along> {
    let Some(gains) = gains(model, writer, links, unit.len())? else {
        return Ok(Along::same(unit));
    };
    let root = (gains.iter().map(|g| g * g).sum::<f64>() / gains.len().max(1) as f64).sqrt();
    let read: Vec<f64> = gains.iter().zip(unit).map(|(g, r)| g * f64::from(*r)).collect();
    let length = read.iter().map(|u| u * u).sum::<f64>().sqrt();
    if !(length > 0.0 && length.is_finite()) {
        return Err(Error::NothingThere { name: writer.tensor.clone() });
    }
    let read: Vec<f64> = read.iter().map(|u| u / length).collect();
    let mut least = LEAST_GAIN;
    let write = loop {
        let write = write(&gains, unit, &read, least * root);
        if write.iter().map(|v| v * v).sum::<f64>().sqrt() <= MOST_WRITTEN || least > MOST_GAIN {
            break write;
        }
        least *= GROWTH;
    };
    let [read, write] = [read, write].map(|vector| vector.iter().map(|x| *x as f32).collect());
    Ok(Along { read, write })
}

/// `r g / (g^2 + l^2)`, scaled so that `u . v` is 1.
fn write(gains: &[f64], unit: &[f32], read: &[f64], least: f64) -> Vec<f64> {
    let pairs = gains.iter().zip(unit);
    let write = pairs.map(|(g, r)| f64::from(*r) * g / (g * g + least * least));
    let write: Vec<f64> = write.collect();
    let product: f64 = read.iter().zip(&write).map(|(u, v)| u * v).sum();
    write.iter().map(|v| v / product).collect()
}

/// The product of all gains in `links`; None if there are no gains.
fn gains(
    model: &Model,
    writer: &Writer,
    links: &[Link],
    n_embd: usize,
) -> Result<Option<Vec<f64>>> {
    let mut product: Option<Vec<f64>> = None;
    for link in links {
        let Link::Gains(name) = link else { continue };
        let missing = || crate::gguf::Error::NoTensor { name: name.clone() };
        let tensor = model.tensor(name).ok_or_else(missing)?;
        let gains = decoded(tensor, 0..1)?;
        if gains.len() != n_embd {
            let (name, matrix, found) = (name.clone(), writer.tensor.clone(), gains.len());
            return Err(Error::Gains { name, matrix, found, expected: n_embd });
        }
        if gains.iter().any(|g| !g.is_finite()) {
            return Err(Error::NotFinite { name: name.clone(), ty: tensor.info.ty });
        }
        let product = product.get_or_insert_with(|| vec![1.0; n_embd]);
        product.iter_mut().zip(gains).for_each(|(p, g)| *p *= f64::from(g));
    }
    Ok(product)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::graph::Part;
    use crate::numeric::length;

    const N: usize = 64;

    fn unit() -> Vec<f32> {
        let raw: Vec<f64> = (0..N).map(|i| (i as f64 * 1.7).sin()).collect();
        let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
        raw.iter().map(|x| (x / length) as f32).collect()
    }

    /// u and v, for gains, each `[i]`.
    fn along(gains: &[f32]) -> Along {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let mut file = crate::gguf::Builder::new();
        file.kv("general.architecture", "llama");
        let bytes = gains.iter().flat_map(|g| g.to_le_bytes()).collect();
        file.tensor("g", &[N as u64], crate::gguf::GgmlType::F32, bytes).unwrap();
        file.write(&path).unwrap();
        let (links, part) = (vec![Link::RmsNorm, Link::Gains("g".into())], Part::Mlp);
        let writer = Writer { tensor: "w".into(), block: 0, part, experts: false, links };
        super::along(&Model::open(&path).unwrap(), &writer, &unit()).unwrap()
    }

    #[test]
    fn after_gains_what_is_added_lies_along_the_direction() {
        let gains: Vec<f32> = (0..N).map(|i| 1.0 + 0.3 * (i as f32).cos()).collect();
        let Along { read, write } = along(&gains);
        let product: f64 = read.iter().zip(&write).map(|(u, v)| f64::from(u * v)).sum();
        assert!((product - 1.0).abs() < 1e-6 && (length(&read) - 1.0).abs() < 1e-6);
        let unit = unit();
        let scale = gains[1] * write[1] / unit[1];
        for i in 0..N {
            assert!((gains[i] * write[i] - scale * unit[i]).abs() < 1e-5 * scale, "{i}");
        }
    }

    #[test]
    fn channels_without_gains_do_not_swell_what_is_written() {
        let gains: Vec<f32> = (0..N).map(|i| if i % 3 == 0 { 1e-4 } else { 1.0 }).collect();
        let Along { read, write } = along(&gains);
        let product: f64 = read.iter().zip(&write).map(|(u, v)| f64::from(u * v)).sum();
        assert!((product - 1.0).abs() < 1e-6 && length(&write) <= MOST_WRITTEN + 1e-6);
        let plain = along(&[1.0; N]);
        assert!(plain.read.iter().zip(unit()).all(|(u, r)| (u - r).abs() < 1e-6));
    }
}
