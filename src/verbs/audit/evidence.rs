//! What the answers of an audit say, in the counts that a verdict is reached on.

use indexmap::IndexMap;

use super::report::AnswersReport;
use super::sets::HARMFUL;
use crate::eval::asr::{Difference, Outcome};
use crate::eval::audit::{Changed, Counted, Falsely, Original};
use crate::eval::interval::mcnemar;

/// How one of the two models answered.
pub(super) fn counted(
    answers: &IndexMap<String, AnswersReport>,
    of: fn(&AnswersReport) -> Option<&Outcome>,
) -> Option<Counted> {
    let all = || answers.values().filter_map(of);
    let harmful = answers.get(HARMFUL)?;
    let shares = &of(harmful)?.shares;
    // Compared are the prompts that both answered.
    let pairs = harmful.refusals.as_ref();
    Some(Counted {
        refused: pairs.map_or(shares.refusal.k, |pairs| pairs.rate.k),
        n_harmful: pairs.map_or(shares.refusal.n, |pairs| pairs.rate.n),
        degenerate: all().map(|outcome| outcome.shares.degenerate.k).sum(),
        n: all().map(|outcome| outcome.answers).sum(),
        unanswered: all().map(|outcome| outcome.asked - outcome.answers).sum(),
    })
}

/// How the original answered, and what changed from it; None for a model by itself.
pub(super) fn original(answers: &IndexMap<String, AnswersReport>) -> Option<Original> {
    let harmful = answers.get(HARMFUL)?.refusals.as_ref()?;
    let counted = counted(answers, |answers| answers.original.as_ref())?;
    let mut falsely = Falsely::default();
    for (_, one) in answers.iter().filter(|(name, _)| *name != HARMFUL) {
        let Some(Difference { base_rate, rate, more, fewer, .. }) = &one.refusals else { continue };
        falsely.original += base_rate.k;
        falsely.model += rate.k;
        falsely.n += rate.n;
        falsely.changed.more += more;
        falsely.changed.fewer += fewer;
    }
    falsely.changed.p = mcnemar(falsely.changed.more, falsely.changed.fewer);
    Some(Original {
        counted: Counted { refused: harmful.base_rate.k, ..counted },
        changed: Changed { fewer: harmful.fewer, more: harmful.more, p: harmful.p },
        falsely,
        is_unrelated: false,
    })
}
