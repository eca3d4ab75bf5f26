//! How each half of a block is aligned with refusal: `c = E_harmful[r . o] - E_harmless[r . o]`,
//! where o is what it adds to the residual stream at the prompt's last token.
//!
//! AIRD multiplies that part of o by 1 + alpha. A half with c below 0 writes r more on harmless
//! prompts than on harmful ones: strengthened, it makes things worse.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use crate::direction;
use crate::llama::graph::{Link, Part, PointKind, Structure, Writer};
use crate::llama::{Hooks, Prefill, Reading, Site};
use crate::numeric::dot;
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
/// Computed from the residual stream before and after each sum, so that norms and biases in between
/// count. Where one sum adds both halves of a block (in parallel, e.g. falcon), attention's c is
/// that of its matrix's output: a bias after it is the same for both kinds of prompts. Where that
/// cannot be read, or a norm changes it, both halves get the sum's c.
///
/// # Errors
/// A failing decode.
pub(super) fn rank(
    prefill: &mut Prefill<'_>,
    structure: &Structure,
    halves: &[Half],
    unit: &[f32],
    harmful: &[&[i32]],
    harmless: &[&[i32]],
) -> direction::Result<Vec<Ranked>> {
    let sites = sites(structure);
    let a = means(prefill, &sites, unit, harmful)?;
    let b = means(prefill, &sites, unit, harmless)?;
    let along = |site| Some(a.get(&site)? - b.get(&site)?);
    let mut sums: HashMap<Half, f64> = HashMap::new();
    for (place, point) in structure.points.iter().enumerate() {
        let (Some(before), PointKind::Sum) = (place.checked_sub(1), point.kind) else { continue };
        let Some(all) = along(Site::Point(place)).zip(along(Site::Point(before))) else { continue };
        let c = all.0 - all.1;
        let of = |part| point.writers.iter().find(move |writer| writer.part == part);
        let (attention, mlp) = match (of(Part::Attention), of(Part::Mlp)) {
            (Some(attention), Some(mlp)) => {
                let of_attention = point.writers.iter().zip(structure.outputs_of(place));
                let outputs = of_attention.filter(|(writer, _)| writer.part == Part::Attention);
                let put_out: Option<f64> = outputs
                    .map(|(writer, output)| {
                        along(Site::Output(output)).filter(|_| arrives_as_it_is(writer))
                    })
                    .sum();
                let parts = put_out.map_or((c, c), |put_out| (put_out, c - put_out));
                (Some((attention, parts.0)), Some((mlp, parts.1)))
            }
            (attention, mlp) => (attention.map(|w| (w, c)), mlp.map(|w| (w, c))),
        };
        for (writer, c) in attention.into_iter().chain(mlp) {
            *sums.entry(Half::of(writer)).or_default() += c;
        }
    }
    let c = |half| sums.get(&half).copied().unwrap_or(0.0);
    Ok(halves.iter().map(|&half| Ranked { half, c: c(half) }).collect())
}

fn arrives_as_it_is(writer: &Writer) -> bool {
    writer.links.iter().all(|link| matches!(link, Link::Bias(_)))
}

/// The sites to read: every point of the residual stream, and matrix outputs where one sum adds
/// both halves of a block.
fn sites(structure: &Structure) -> HashSet<Site> {
    let mut sites: HashSet<Site> = (0..structure.points.len()).map(Site::Point).collect();
    for (place, point) in structure.points.iter().enumerate() {
        let is_of = |part: Part| point.writers.iter().any(|writer| writer.part == part);
        if is_of(Part::Attention) && is_of(Part::Mlp) {
            sites.extend(structure.outputs_of(place).map(Site::Output));
        }
    }
    sites
}

/// Mean of `r . x` at each of `sites`, over the prompts' last tokens.
fn means(
    prefill: &mut Prefill<'_>,
    sites: &HashSet<Site>,
    unit: &[f32],
    prompts: &[&[i32]],
) -> direction::Result<HashMap<Site, f64>> {
    let sums = RefCell::new(HashMap::<Site, f64>::new());
    let reading = Reading {
        at: Box::new(|site| sites.contains(&site)),
        n_last: 1,
        row: Box::new(|site, _, _, x| {
            *sums.borrow_mut().entry(site).or_default() += dot(x, unit);
            Ok(())
        }),
    };
    prefill.run(prompts, Hooks::new(), Some(reading), |_, _| Ok(()))?;
    let n = prompts.len().max(1) as f64;
    Ok(sums.into_inner().into_iter().map(|(site, sum)| (site, sum / n)).collect())
}
