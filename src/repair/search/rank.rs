//! What each half of a block says about refusal: `c = E_harmful[r . o] - E_harmless[r . o]`, o what
//! it adds to the residual stream at the prompt's last token.
//!
//! AIRD multiplies that part of o by 1 + alpha. A half with c below 0 writes r more on harmless
//! prompts than on harmful ones: strengthened, it makes things worse.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::direction;
use crate::llama::architecture::Part;
use crate::llama::{Hooks, Prefill, Reading, Site};
use crate::repair::half::Half;

/// A half and its c.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// The half.
    pub half: Half,
    /// The difference of means along r, in the residual stream's own unit.
    pub c: f64,
}

/// Every half of `halves` with its c, in the same order.
///
/// Read off the residual stream before and behind each half, so that norms and biases in between
/// count. Where llama.cpp has no name for the stream between the halves (phi3), or there is none
/// (command-r: side by side), attention's is what its matrix puts out: a bias behind it is the same
/// for both kinds of prompts, and the models in question have no norm there. Halves that cannot be
/// told apart both get the block's c.
///
/// # Errors
/// A failing decode.
pub fn rank(
    prefill: &mut Prefill<'_>,
    halves: &[Half],
    unit: &[f32],
    harmful: &[&[i32]],
    harmless: &[&[i32]],
) -> direction::Result<Vec<Ranked>> {
    let a = means(prefill, unit, harmful)?;
    let b = means(prefill, unit, harmless)?;
    let along = |site| Some(a.get(&site)? - b.get(&site)?);
    let c = |half: Half| {
        let Half { block, part } = half;
        let (input, output) = (along(Site::Input(block))?, along(Site::Input(block + 1))?);
        let attention = match along(Site::Middle(block)) {
            Some(middle) => Some(middle - input),
            None => along(Site::Output(block, Part::Attention)),
        };
        Some(match (attention, part) {
            (None, _) => output - input,
            (Some(attention), Part::Attention) => attention,
            (Some(attention), Part::Mlp) => output - input - attention,
        })
    };
    Ok(halves.iter().map(|&half| Ranked { half, c: c(half).unwrap_or(0.0) }).collect())
}

/// Mean of `r . x` at every residual site, over the prompts' last tokens.
fn means(
    prefill: &mut Prefill<'_>,
    unit: &[f32],
    prompts: &[&[i32]],
) -> direction::Result<HashMap<Site, f64>> {
    let sums = RefCell::new(HashMap::<Site, f64>::new());
    let reading = Reading {
        at: Box::new(|site| !matches!(site, Site::Output(_, Part::Mlp))),
        n_last: 1,
        row: Box::new(|site, _, _, x| {
            let dot = x.iter().zip(unit).map(|(x, r)| f64::from(*x) * f64::from(*r));
            *sums.borrow_mut().entry(site).or_default() += dot.sum::<f64>();
            Ok(())
        }),
    };
    prefill.run(prompts, Hooks::new(), Some(reading), |_, _| Ok(()))?;
    let n = prompts.len().max(1) as f64;
    Ok(sums.into_inner().into_iter().map(|(site, sum)| (site, sum / n)).collect())
}
