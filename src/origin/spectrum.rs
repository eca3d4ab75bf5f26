//! Whether a matrix of errors has a direction: rounding leaves noise, an edit of low rank one long
//! direction.

/// Steps of the power method: a direction half as long as the next one is found to 1 in 10^6.
const STEPS: usize = 20;

/// The share of a matrix's squares that lie along its longest direction (`s_1^2 / |E|^2`), for
/// `rows` of `n_cols`, each divided by its entry of `sizes`: rows of large weights have large
/// errors. 0 for a matrix of zeros.
pub(super) fn longest_share(rows: &[f32], n_cols: usize, sizes: &[f64]) -> f64 {
    let weights: Vec<f64> = sizes.iter().map(|s| if *s > 0.0 { 1.0 / s } else { 0.0 }).collect();
    let rows: Vec<&[f32]> = rows.chunks_exact(n_cols.max(1)).collect();
    let total: f64 = rows
        .iter()
        .zip(&weights)
        .map(|(row, w)| row.iter().map(|x| (w * f64::from(*x)).powi(2)).sum::<f64>())
        .sum();
    if !(total > 0.0 && total.is_finite()) {
        return 0.0;
    }
    // A start that is no row's multiple, the same for every run.
    let mut v: Vec<f64> = (0..n_cols).map(|j| ((j * 7919 % 1013) as f64 - 506.0) / 506.0).collect();
    let mut square = 0.0;
    for _ in 0..STEPS {
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            return 0.0;
        }
        v.iter_mut().for_each(|x| *x /= length);
        let mut next = vec![0.0; n_cols];
        square = 0.0;
        for (row, w) in rows.iter().zip(&weights) {
            let along: f64 = row.iter().zip(&v).map(|(x, v)| f64::from(*x) * v).sum::<f64>() * w;
            square += along * along;
            next.iter_mut().zip(*row).for_each(|(n, x)| *n += along * w * f64::from(*x));
        }
        v = next;
    }
    square / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_rank_one_lies_along_its_direction_and_noise_does_not() {
        let (n_rows, n_cols) = (40, 60);
        let mut state = 1u32;
        let mut noise = |_: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let rank_1 = |i: usize| ((i / n_cols) as f32).sin() * ((i % n_cols) as f32 * 0.3).cos();
        let sizes = vec![1.0; n_rows];
        let one: Vec<f32> = (0..n_rows * n_cols).map(rank_1).collect();
        assert!((longest_share(&one, n_cols, &sizes) - 1.0).abs() < 1e-6);
        let all: Vec<f32> = (0..n_rows * n_cols).map(&mut noise).collect();
        let share = longest_share(&all, n_cols, &sizes);
        // (sqrt(40) + sqrt(60))^2 / 2400 for noise.
        assert!((0.05..0.11).contains(&share), "{share}");
    }
}
