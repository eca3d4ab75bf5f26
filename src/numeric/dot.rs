//! Products, lengths and distances of vectors in f64.

/// `a . b`, summed in f64; over the shorter of them.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// `|a|`.
pub fn length(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

/// `|a - b| / |b|`; `|a|` where b is all zeros.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let missed: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    let all: f64 = b.iter().map(|b| square(*b)).sum();
    if all > 0.0 { (missed / all).sqrt() } else { missed.sqrt() }
}
