//! Interventions at run time: a direction taken out of the residual stream, or added to it. They
//! measure what a direction does; no file is written.

use crate::llama::graph::Structure;
use crate::llama::{Hooks, Site};
use crate::numeric::{dot, length};

/// Removes `unit` from the residual stream everywhere: at the embeddings and after every sum,
/// `x -= unit (unit . x)`. This equals removing it from every block input and from the outputs of
/// attention and MLP (Arditi et al. 2024, section 2.4).
pub fn ablate<'a>(hooks: Hooks<'a>, unit: &'a [f32]) -> Hooks<'a> {
    let everywhere = |site| matches!(site, Site::Point(_));
    hooks.change(everywhere, move |_, x| {
        let along = dot(x, unit) as f32;
        x.iter_mut().zip(unit).for_each(|(x, r)| *x -= along * r);
    })
}

/// Adds `vector` to the residual stream where it enters block `layer` of `structure`'s model, for
/// every token.
pub fn add<'a>(
    hooks: Hooks<'a>,
    structure: &Structure,
    vector: &'a [f32],
    layer: u32,
) -> Hooks<'a> {
    let input = structure.input_of(layer);
    hooks.change(
        move |site| site == Site::Point(input),
        move |_, x| x.iter_mut().zip(vector).for_each(|(x, d)| *x += d),
    )
}

/// `vector` at length 1; None if its length is zero or not finite.
pub fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let length = length(vector);
    let scaled = || vector.iter().map(|x| (f64::from(*x) / length) as f32).collect();
    (length > 0.0 && length.is_finite()).then(scaled)
}

/// Cosine of two vectors; None if either has no length.
pub fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    (lengths > 0.0 && lengths.is_finite()).then(|| dot(a, b) / lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_length_one_and_cosines_their_signs() {
        let r = unit(&[3.0, 4.0]).unwrap();
        assert!((r[0] - 0.6).abs() < 1e-7 && (r[1] - 0.8).abs() < 1e-7);
        assert_eq!(unit(&[0.0, 0.0]), None);
        assert_eq!(unit(&[f32::NAN, 0.0]), None);
        assert_eq!(cosine(&[1.0, 0.0], &[-2.0, 0.0]), Some(-1.0));
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 0.0]), None);
    }
}
