//! Products of vectors in f64.

/// `a . b`, summed in f64; over the shorter of them.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// `|a|`.
pub fn length(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}
