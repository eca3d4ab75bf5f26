//! What an edit in front of a norm comes to behind it.
//!
//! The norm divides the edited product by its own root mean square, so that all of it comes out s
//! times: (1 + alpha) s along r, s across it. No edit of a matrix avoids that: s depends on the
//! token. Here the edit is made at run time, one half at a time, so that each reads what it read
//! before, and what is added to the residual stream is compared with what was.

use std::cell::RefCell;
use std::collections::HashMap;

use super::edit::Edit;
use super::error::Result;
use super::half::Half;
use super::live::Live;
use crate::gguf::Model;
use crate::llama::graph::{Link, Structure};
use crate::llama::{Engine, Hooks, Prefill, Reading, Site};

/// Rows of the residual stream by point and prompt.
type Rows = HashMap<(usize, usize), Vec<f32>>;

/// What arrives of an edit behind a norm, over tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrived {
    /// The half whose first sum it is.
    pub half: Half,
    /// How many times what was added along r, by least squares; 1 + alpha is asked for.
    pub along: f64,
    /// How many times what was added across r, by least squares; 1 is asked for.
    pub across: f64,
    /// How many tokens it was seen on: the last one of each prompt.
    pub n_tokens: usize,
}

/// Reads `prompts` in `engine`, which is `model` unedited; empty if no norm stands behind what is
/// edited.
///
/// # Errors
/// A failing decode, a missing tensor.
pub fn arrivals(
    (model, engine): (&Model, &Engine),
    edit: Edit<'_>,
    prompts: &[&[i32]],
) -> Result<Vec<Arrived>> {
    let sums = edit.halves.iter().filter_map(|half| Some((*half, normed(edit.structure, *half)?)));
    let sums: Vec<(Half, usize)> = sums.collect();
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    if sums.is_empty() || longest == 0 {
        return Ok(Vec::new());
    }
    let live = Live::new(model, edit.structure, edit.unit)?;
    let mut prefill = Prefill::new(engine, longest, prompts.len() as u32)?;
    let before = read(&mut prefill, Hooks::new(), prompts)?;
    let mut arrived = Vec::new();
    for (half, place) in sums {
        let halves = [half];
        let hooks = live.strengthen(Hooks::new(), &halves, edit.alpha)?;
        let after = read(&mut prefill, hooks, prompts)?;
        let (mut along, mut across) = (Ratio::default(), Ratio::default());
        for prompt in 0..prompts.len() {
            let added = |rows: &Rows| added(rows, (place, prompt), edit.unit);
            let (Some((old, old_along)), Some((new, new_along))) = (added(&before), added(&after))
            else {
                continue;
            };
            along.add(old_along, new_along);
            old.iter().zip(&new).for_each(|(old, new)| across.add(*old, *new));
        }
        let (along, across) = (along.value(), across.value());
        arrived.push(Arrived { half, along, across, n_tokens: prompts.len() });
    }
    Ok(arrived)
}

/// The first sum that `half` writes into, if a norm stands in front of it.
fn normed(structure: &Structure, half: Half) -> Option<usize> {
    let mut points = structure.points.iter().enumerate();
    let (place, writer) = points.find_map(|(place, point)| {
        let writer = point.writers.iter().find(|writer| Half::of(writer) == half)?;
        Some((place, writer))
    })?;
    (place > 0 && writer.links.contains(&Link::RmsNorm)).then_some(place)
}

fn read(prefill: &mut Prefill<'_>, hooks: Hooks<'_>, prompts: &[&[i32]]) -> Result<Rows> {
    let rows = RefCell::new(Rows::new());
    let reading = Reading {
        at: Box::new(|site| matches!(site, Site::Point(_))),
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
fn added(rows: &Rows, (place, prompt): (usize, usize), unit: &[f32]) -> Option<(Vec<f64>, f64)> {
    let (before, after) = (rows.get(&(place - 1, prompt))?, rows.get(&(place, prompt))?);
    let added = before.iter().zip(after).map(|(a, b)| f64::from(*b) - f64::from(*a));
    let mut added: Vec<f64> = added.collect();
    let along: f64 = added.iter().zip(unit).map(|(x, r)| x * f64::from(*r)).sum();
    added.iter_mut().zip(unit).for_each(|(x, r)| *x -= along * f64::from(*r));
    Some((added, along))
}

/// The number that old values times it come nearest to new ones.
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
