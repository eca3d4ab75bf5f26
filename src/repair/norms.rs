//! The effect that an edit before a norm has after the norm.
//!
//! The norm divides the edited product by its own root mean square, so that all of it is scaled by
//! s: (1 + alpha) s along r, s across it. No edit of a matrix avoids that, because s depends on the
//! token. And where the norm has gains near 0 in some channels, what is added does not lie only
//! along r (`arrival`). Here the edit is made at run time, one half at a time, so that each half
//! reads what it read before, and what is added to the residual stream is compared with what was
//! added before.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::edit::Edit;
use super::error::Result;
use super::half::Half;
use super::live::Live;
use crate::gguf::Model;
use crate::llama::graph::{Structure, Writer};
use crate::llama::{Engine, Hooks, Prefill, Reading, Site};

/// Rows of the residual stream by point and prompt.
type PointRows = HashMap<(usize, usize), Vec<f32>>;

/// The effect of an edit after a norm, over tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrived {
    /// The matrix that the norm stands after; of several with one sum the first.
    pub tensor: String,
    /// Factor on what was added along r, by least squares; 1 + alpha is asked for.
    pub along: f64,
    /// Factor on what was added across r, by least squares; 1 is asked for.
    pub across: f64,
    /// The length of what was added besides, neither along r nor in proportion to what was added
    /// across it before, in parts of what was added along r; 0 is asked for. Root mean squares.
    pub astray: f64,
    /// Number of tokens measured: the last one of each prompt.
    pub n_tokens: usize,
}

/// Reads `prompts` in `engine`, which is `model` unedited; empty if no norm stands after what is
/// edited.
///
/// # Errors
/// A failing decode, a missing tensor.
pub fn arrivals(
    (model, engine): (&Model, &Engine),
    edit: Edit<'_>,
    prompts: &[&[i32]],
) -> Result<Vec<Arrived>> {
    let sums: Vec<(Half, usize, &Writer)> =
        edit.halves.iter().flat_map(|half| normed(edit.structure, *half)).collect();
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    if sums.is_empty() || longest == 0 {
        return Ok(Vec::new());
    }
    let live = Live::new(model, edit.structure, edit.unit)?;
    let mut prefill = Prefill::new(engine, longest, prompts.len() as u32)?;
    let places = sums.iter().flat_map(|(_, place, _)| [place - 1, *place]);
    let places: HashSet<usize> = places.collect();
    let before = read(&mut prefill, Hooks::new(), &places, prompts)?;
    let mut arrived = Vec::new();
    for (half, place, writer) in sums {
        let halves = [half];
        let hooks = live.strengthen(Hooks::new(), &halves, edit.alpha)?;
        let after = read(&mut prefill, hooks, &places, prompts)?;
        let (mut along, mut across) = (Ratio::default(), Ratio::default());
        let mut pairs = Vec::new();
        for prompt in 0..prompts.len() {
            let added = |rows: &PointRows| added(rows, (place, prompt), edit.unit);
            let (Some((old, old_along)), Some((new, new_along))) = (added(&before), added(&after))
            else {
                continue;
            };
            along.add(old_along, new_along);
            old.iter().zip(&new).for_each(|(old, new)| across.add(*old, *new));
            pairs.push((old, new, new_along - old_along));
        }
        let (along, across) = (along.value(), across.value());
        let (mut astray, mut added) = (0.0, 0.0);
        for (old, new, more) in &pairs {
            let besides = old.iter().zip(new).map(|(old, new)| (new - across * old).powi(2));
            astray += besides.sum::<f64>();
            added += more.powi(2);
        }
        let (tensor, n_tokens) = (writer.tensor.clone(), pairs.len());
        arrived.push(Arrived { tensor, along, across, astray: (astray / added).sqrt(), n_tokens });
    }
    Ok(arrived)
}

/// The sums that `half` writes into after a norm, each with its first matrix. A later one of the
/// same block reads what the earlier ones changed.
fn normed(structure: &Structure, half: Half) -> Vec<(Half, usize, &Writer)> {
    let points = structure.points.iter().enumerate().skip(1);
    let sums = points.filter_map(|(place, point)| {
        let writer = point.writers.iter().find(|writer| Half::of(writer) == half)?;
        writer.is_normed().then_some((half, place, writer))
    });
    sums.collect()
}

fn read(
    prefill: &mut Prefill<'_>,
    hooks: Hooks<'_>,
    places: &HashSet<usize>,
    prompts: &[&[i32]],
) -> Result<PointRows> {
    let rows = RefCell::new(PointRows::new());
    let reading = Reading {
        at: Box::new(|site| matches!(site, Site::Point(place) if places.contains(&place))),
        n_last: 1,
        row: Box::new(|site, prompt, _, row| {
            if let Site::Point(place) = site {
                rows.borrow_mut().insert((place, prompt), row.to_vec());
            }
            Ok(())
        }),
    };
    prefill.run(prompts, hooks, Some(reading), |_, _| Ok(()))?;
    Ok(rows.into_inner())
}

/// What is added at a point, the part across r as a vector and the part along it.
fn added(
    rows: &PointRows,
    (place, prompt): (usize, usize),
    unit: &[f32],
) -> Option<(Vec<f64>, f64)> {
    let (before, after) = (rows.get(&(place - 1, prompt))?, rows.get(&(place, prompt))?);
    let added = before.iter().zip(after).map(|(a, b)| f64::from(*b) - f64::from(*a));
    let mut added: Vec<f64> = added.collect();
    let along: f64 = added.iter().zip(unit).map(|(x, r)| x * f64::from(*r)).sum();
    added.iter_mut().zip(unit).for_each(|(x, r)| *x -= along * f64::from(*r));
    Some((added, along))
}

/// Least-squares factor from old values to new ones.
#[derive(Default)]
struct Ratio {
    product: f64,
    square: f64,
}

impl Ratio {
    fn add(&mut self, old: f64, new: f64) {
        self.product += old * new;
        self.square += old * old;
    }

    fn value(&self) -> f64 {
        self.product / self.square
    }
}
