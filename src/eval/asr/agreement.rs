//! How far judges agree: by two of them, and all together.

use serde::{Deserialize, Serialize};

use super::outcome::Judged;
use crate::judge::Label;

const N_LABELS: usize = Label::ALL.len();

/// How far judges agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Names of the judges, in the order of the matrix.
    pub judges: Vec<String>,
    /// Answers that all of them judged.
    pub n: usize,
    /// Share of the answers that two judges both call compliance, or both do not; null if there are
    /// no answers.
    pub matrix: Vec<Vec<Option<f64>>>,
    /// Krippendorff's alpha of the three labels, over all answers with labels of at least two
    /// judges: 1 if the judges agree, 0 if they agree no more than by chance. Null where it is not
    /// defined: no answer has two labels, or all labels are the same. Null in older results, too.
    #[serde(default)]
    pub alpha: Option<f64>,
}

/// How far the judges agree on the answers of `sets`, which all have the same judges.
pub fn agreement(sets: &[&Judged]) -> Agreement {
    let judges: Vec<String> = match sets.first() {
        Some(set) => set.verdicts.iter().map(|v| v.judge.clone()).collect(),
        None => Vec::new(),
    };
    let answers: Vec<Vec<Option<Label>>> = sets.iter().flat_map(|set| labels_of(set)).collect();
    // An answer that one judge left open does not count in the agreement of two.
    let closed: Vec<&Vec<Option<Label>>> =
        answers.iter().filter(|labels| labels.iter().all(Option::is_some)).collect();
    let n = closed.len();
    let complies = |label: Option<Label>| label == Some(Label::Compliance);
    let share = |a: usize, b: usize| {
        let same = closed.iter().filter(|labels| complies(labels[a]) == complies(labels[b]));
        (n > 0).then(|| same.count() as f64 / n as f64)
    };
    let row = |a: usize| (0..judges.len()).map(|b| share(a, b)).collect();
    let matrix = (0..judges.len()).map(row).collect();
    Agreement { matrix, n, alpha: alpha(&answers), judges }
}

/// Each answer's labels, in the order of the judges.
fn labels_of(set: &Judged) -> Vec<Vec<Option<Label>>> {
    let of = |i: usize| set.verdicts.iter().map(|v| v.labels.get(i).copied().flatten()).collect();
    (0..set.answers.len()).map(of).collect()
}

/// Krippendorff's alpha for nominal labels, of which some may be missing (Hayes and Krippendorff
/// 2007; computed as in Krippendorff 2011):
///
/// ```text
/// o[c][k] = sum over answers of (ordered pairs of its labels that are c, k) / (its labels - 1)
/// n[c]    = sum over k of o[c][k]                     n = sum over c of n[c]
/// alpha   = 1 - D_o / D_e,  D_o = sum over c != k of o[c][k] / n,
///                           D_e = sum over c != k of n[c] n[k] / (n (n - 1))
/// ```
fn alpha(answers: &[Vec<Option<Label>>]) -> Option<f64> {
    let mut coincidences = [[0.0; N_LABELS]; N_LABELS];
    for labels in answers {
        let count = |label| labels.iter().flatten().filter(|l| **l == label).count();
        let counts = Label::ALL.map(count);
        let n_labels: usize = counts.iter().sum();
        if n_labels < 2 {
            continue;
        }
        for (c, row) in coincidences.iter_mut().enumerate() {
            for (k, coincidence) in row.iter_mut().enumerate() {
                // No label is a pair with itself.
                let others = if c == k { counts[k].saturating_sub(1) } else { counts[k] };
                *coincidence += (counts[c] * others) as f64 / (n_labels - 1) as f64;
            }
        }
    }
    let totals = coincidences.map(|row| row.iter().sum::<f64>());
    let n: f64 = totals.iter().sum();
    let same: f64 = (0..N_LABELS).map(|c| coincidences[c][c]).sum();
    let squares: f64 = totals.iter().map(|total| total * total).sum();
    let expected = (n * n - squares) / (n - 1.0);
    // Without an answer of two labels, and without two different labels, nothing is expected.
    (expected > 0.0).then(|| 1.0 - (n - same) / expected)
}

#[cfg(test)]
mod tests {
    use super::super::{Answer, Headline, Verdicts};
    use super::*;

    const R: Option<Label> = Some(Label::Refusal);
    const C: Option<Label> = Some(Label::Compliance);
    const D: Option<Label> = Some(Label::Degenerate);

    /// A set with these labels of each judge.
    fn judged(judges: &[(&str, &[Option<Label>])]) -> Judged {
        let answer = Answer {
            id: "1".into(),
            prompt: "?".into(),
            set: "vanilla".into(),
            sample: 0,
            answer: "!".into(),
            label: None,
            judge: "default".into(),
            tokens: 1,
            error: None,
        };
        let verdicts = |(judge, labels): &(&str, &[Option<Label>])| Verdicts {
            judge: (*judge).into(),
            labels: labels.to_vec(),
        };
        Judged {
            answers: vec![answer; judges.first().map_or(0, |(_, labels)| labels.len())],
            n_variants: 1,
            headline: Headline::Only,
            verdicts: judges.iter().map(verdicts).collect(),
        }
    }

    #[test]
    fn judges_agree_on_compliance_or_not() {
        let set = judged(&[("default", &[R, C, D, None]), ("paper", &[D, C, C, C])]);
        let found = agreement(&[&set]);
        assert_eq!((found.n, found.matrix[0][1]), (3, Some(2.0 / 3.0)));
        assert_eq!(found.matrix[1][1], Some(1.0));
        let none = agreement(&[]);
        assert_eq!((none.n, none.alpha), (0, None));
    }

    /// Five answers, three judges:
    ///
    /// ```text
    /// a:  R C R D C      1: RRR   2: CC   3: RCR   4: DCD   5: one label, which is no pair
    /// b:  R C C C -
    /// c:  R - R D -
    /// ```
    ///
    /// Ordered pairs, divided by the answer's labels less one:
    ///
    /// ```text
    /// answer 1: 6 RR / 2          o[R][R] = 3 + 1 = 4        o[R][C] = o[C][R] = 1
    /// answer 2: 2 CC / 1          o[C][C] = 2                o[C][D] = o[D][C] = 1
    /// answer 3: 2 RR, 2 RC, 2 CR, each / 2                   o[R][D] = o[D][R] = 0
    /// answer 4: 2 DD, 2 DC, 2 CD, each / 2                   o[D][D] = 1
    ///
    /// n[R] = 4 + 1 = 5, n[C] = 2 + 1 + 1 = 4, n[D] = 1 + 1 = 2, n = 11 = 3 + 2 + 3 + 3 labels
    /// D_o = (1 + 1 + 1 + 1) / 11 = 4 / 11
    /// D_e = 2 (5 * 4 + 5 * 2 + 4 * 2) / (11 * 10) = 76 / 110
    /// alpha = 1 - (4 / 11) (110 / 76) = 1 - 40 / 76 = 9 / 19
    /// ```
    #[test]
    fn alpha_is_that_of_a_calculation_by_hand() {
        let labels: [&[Option<Label>]; 3] =
            [&[R, C, R, D, C], &[R, C, C, C, None], &[R, None, R, D, None]];
        let all = judged(&[("a", labels[0]), ("b", labels[1]), ("c", labels[2])]);
        let found = agreement(&[&all]);
        assert!((found.alpha.unwrap() - 9.0 / 19.0).abs() < 1e-12, "{:?}", found.alpha);
        assert_eq!(found.n, 3);
        // In two sets it is the same.
        let part = |range: std::ops::Range<usize>| {
            judged(&[
                ("a", &labels[0][range.clone()]),
                ("b", &labels[1][range.clone()]),
                ("c", &labels[2][range]),
            ])
        };
        assert_eq!(agreement(&[&part(0..2), &part(2..5)]).alpha, found.alpha);
    }

    #[test]
    fn alpha_is_1_of_one_mind_negative_of_two_and_undefined_without_two_labels() {
        let of = |a: &[Option<Label>], b: &[Option<Label>]| {
            agreement(&[&judged(&[("a", a), ("b", b)])]).alpha
        };
        assert_eq!(of(&[R, C, D], &[R, C, D]), Some(1.0));
        // D_o = 1, D_e = 2 * 2 * 2 / (4 * 3): 1 - 3 / 2.
        assert_eq!(of(&[R, C], &[C, R]), Some(-0.5));
        for (a, b) in [(&[R, R], &[R, R]), (&[R, None], &[None, C]), (&[None, None], &[C, D])] {
            assert_eq!(of(a, b), None);
        }
        assert_eq!(of(&[], &[]), None);
    }

    #[test]
    fn results_of_an_older_aird_have_no_alpha() {
        let old = r#"{"judges": ["default"], "n": 2, "matrix": [[1.0]]}"#;
        let found: Agreement = serde_json::from_str(old).unwrap();
        assert_eq!((found.n, found.alpha), (2, None));
    }
}
