//! How far a tensor may lie from what its original becomes, by type.
//!
//! `cargo bench --bench origin` measured 32 parts of real matrices in each type, written with four
//! importance matrices: flat, and lognormal with a spread of 0.5, 1 and 2. The least and the
//! greatest figures are in `fixtures/origin/figures.tsv`. The bounds leave room beyond them: 3 % of
//! the error, a quarter of the row's, half of the block's, as there are far more blocks in a model.
//! Types without misplaced values there have none here.

use crate::gguf::GgmlType;

/// The figures of an honest tensor, at most: see [`Figures`](super::Figures).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Least and greatest error, in parts of the plain one's.
    pub error: (f64, f64),
    /// Greatest error of a row.
    pub row: f64,
    /// Greatest error of a block.
    pub block: f64,
    /// Share of values that may stand at another level than the nearest.
    pub misplaced: f64,
    /// Length along the original, more or less.
    pub gain: f64,
    /// Greatest share of the error along one direction.
    pub direction: f64,
}

impl Bounds {
    /// The bounds of a type's tensors. Types that ignore importance are written in one way: only
    /// the last bit of a sum may differ.
    pub fn of(ty: GgmlType) -> Bounds {
        use GgmlType as T;
        let [least, most, row, block, misplaced, gain, direction] = match ty {
            T::Q4_0 => [0.92, 1.06, 1.44, 3.1, 0.0061, 0.0178, 1.84],
            T::Q4_1 => [0.86, 1.05, 1.47, 3.1, 0.0069, 0.0088, 1.62],
            T::Q5_0 => [0.91, 1.06, 1.45, 3.7, 0.0068, 0.0042, 1.56],
            T::Q5_1 => [0.86, 1.04, 1.43, 3.3, 0.0085, 0.0026, 1.44],
            T::Q2_K => [0.85, 1.08, 1.5, 2.0, 0.0, 0.1006, 2.85],
            T::Q3_K => [0.92, 1.11, 1.56, 2.0, 0.0, 0.0528, 2.8],
            T::Q4_K => [0.96, 1.14, 1.56, 2.0, 0.0, 0.0077, 1.79],
            T::Q5_K => [0.94, 1.1, 1.49, 2.0, 0.0, 0.0032, 1.49],
            T::Q6_K => [0.94, 1.16, 1.8, 2.4, 0.0, 0.0045, 3.47],
            T::IQ1_S => [0.98, 1.19, 1.67, 2.1, 0.0, 0.1584, 2.13],
            T::IQ1_M => [0.74, 0.98, 1.35, 1.7, 0.0, 0.2349, 2.44],
            T::IQ2_XXS => [0.97, 1.34, 2.78, 5.0, 0.0, 0.1299, 2.87],
            T::IQ2_XS => [0.98, 1.24, 1.63, 2.2, 0.0, 0.1101, 1.61],
            T::IQ2_S => [0.86, 1.13, 1.48, 2.1, 0.0, 0.1597, 1.45],
            T::IQ3_XXS => [0.75, 1.13, 1.59, 2.2, 0.0, 0.047, 1.7],
            T::IQ3_S => [0.76, 1.0, 1.35, 1.8, 0.0, 0.0286, 1.37],
            T::IQ4_NL => [0.94, 1.1, 1.49, 2.9, 0.0, 0.0131, 2.64],
            T::IQ4_XS => [0.95, 1.1, 1.49, 2.0, 0.0, 0.0122, 2.39],
            _ => [0.99, 1.005, 1.01, 1.05, 0.0, 0.001, 1.02],
        };
        Bounds { error: (least, most), row, block, misplaced, gain, direction }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the table: type, what was done, figure, least and greatest.
    fn table() -> Vec<(GgmlType, String, String, [f64; 2])> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/origin/figures.tsv");
        let text = std::fs::read_to_string(path).unwrap();
        let line = |line: &str| {
            let cells: Vec<&str> = line.split('\t').collect();
            let number = |i: usize| cells[i].parse().unwrap();
            let ty = GgmlType::from_name(cells[0]).unwrap();
            (ty, cells[1].to_owned(), cells[3].to_owned(), [number(4), number(6)])
        };
        text.lines().skip(1).map(line).collect()
    }

    #[test]
    fn what_was_measured_of_honest_tensors_lies_within_the_bounds() {
        let mut n = 0;
        for (ty, of, figure, [least, most]) in table() {
            let bounds = Bounds::of(ty);
            let room = match figure.as_str() {
                "error" => (1.0 - bounds.error.0 / least).min(bounds.error.1 / most - 1.0),
                "row" => bounds.row / most - 1.0,
                "block" => bounds.block / most - 1.0,
                "misplaced" => bounds.misplaced - most,
                "gain" => bounds.gain - most,
                "direction" => bounds.direction / most - 1.0,
                _ => continue,
            };
            if of == "honest" {
                n += 1;
                assert!(room >= 0.0, "{ty} {figure}: {least} to {most}, {bounds:?}");
            }
        }
        assert_eq!(n, 18 * 6);
    }

    #[test]
    fn edits_of_a_thirtieth_are_beyond_the_bounds_of_types_with_levels() {
        use GgmlType as T;
        for ty in
            [T::Q4_0, T::Q4_1, T::Q5_0, T::Q5_1, T::Q2_K, T::Q3_K, T::Q4_K, T::Q6_K, T::IQ4_XS]
        {
            for edit in ["rank 1, 3 %", "noise, 3 %"] {
                let found = table().into_iter().find(|(of_ty, of, figure, _)| {
                    *of_ty == ty && of == edit && figure == "misplaced"
                });
                let (_, _, _, [least, _]) = found.unwrap();
                assert!(least > Bounds::of(ty).misplaced, "{ty} {edit}: {least}");
            }
        }
    }
}
