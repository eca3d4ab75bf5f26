//! What an edit in front of a norm comes to behind it.
//!
//! ```text
//! m = d / g             what left the norm, from d, what was added to the residual stream
//! m' = m + alpha v (u . m)
//! s = rms(m) / rms(m')
//! ```
//! The norm divides the edited product by its own root mean square, so that all of it comes out s
//! times: (1 + alpha) s along r, s across it. No edit of a matrix avoids that: s depends on the
//! token. It is below 1 and near it where little of m lies along u.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::arrival::{along, gains};
use super::edit::Edit;
use super::error::Result;
use super::half::Half;
use crate::gguf::Model;
use crate::llama::graph::{Link, Point};
use crate::llama::{Engine, Hooks, Prefill, Reading, Site};
use crate::quant::Along;

/// Rows of the residual stream by point and prompt.
type Rows = HashMap<(usize, usize), Vec<f32>>;

/// What arrives of an edit behind a norm, on average over tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrived {
    /// The half whose sum it is.
    pub half: Half,
    /// How many times what was added along r; 1 + alpha is asked for.
    pub along: f64,
    /// How many times what was added across r; 1 is asked for.
    pub across: f64,
    /// How many tokens it was seen on: the last one of each prompt.
    pub n_tokens: usize,
}

/// One norm behind edited matrices.
struct Normed {
    half: Half,
    place: usize,
    along: Along,
    /// [n_embd].
    gains: Vec<f64>,
}

/// Reads `prompts` in the unedited model; empty if no norm stands behind what is edited.
///
/// # Errors
/// A failing decode, a missing tensor.
pub fn arrivals(
    (model, engine): (&Model, &Engine),
    edit: Edit<'_>,
    prompts: &[&[i32]],
) -> Result<Vec<Arrived>> {
    let mut normed = Vec::new();
    for (place, point) in edit.structure.points.iter().enumerate() {
        normed.extend(behind_norm(model, edit, (place, point))?);
    }
    if normed.is_empty() || prompts.is_empty() {
        return Ok(Vec::new());
    }
    let rows = read(engine, &normed, prompts)?;
    let of = |normed: &Normed| {
        let shares = (0..prompts.len()).filter_map(|prompt| {
            let row = |place| rows.get(&(place, prompt));
            let (before, after) = (row(normed.place - 1)?, row(normed.place)?);
            Some(factor(normed, edit.alpha, before, after))
        });
        let shares: Vec<f64> = shares.filter(|share| share.is_finite()).collect();
        let n_tokens = shares.len();
        let across = shares.iter().sum::<f64>() / n_tokens as f64;
        Arrived { half: normed.half, along: (1.0 + edit.alpha) * across, across, n_tokens }
    };
    Ok(normed.iter().map(of).collect())
}

/// The norm of a sum whose writers are edited, if there is one for all of them.
fn behind_norm(
    model: &Model,
    edit: Edit<'_>,
    (place, point): (usize, &Point),
) -> Result<Option<Normed>> {
    let edited = |half: &Half| edit.halves.contains(half);
    let Some(writer) = point.writers.first().filter(|_| place > 0) else { return Ok(None) };
    let all = point.writers.iter().all(|other| edited(&Half::of(other)));
    let Some(at) = writer.links.iter().position(|link| *link == Link::RmsNorm).filter(|_| all)
    else {
        return Ok(None);
    };
    let gains = gains(model, writer, &writer.links[at..], edit.unit.len())?;
    let gains = gains.unwrap_or_else(|| vec![1.0; edit.unit.len()]);
    let along = along(model, writer, edit.unit)?;
    Ok(Some(Normed { half: Half::of(writer), place, along, gains }))
}

fn read(engine: &Engine, normed: &[Normed], prompts: &[&[i32]]) -> Result<Rows> {
    let places: HashSet<usize> = normed.iter().flat_map(|n| [n.place - 1, n.place]).collect();
    let rows = RefCell::new(Rows::new());
    let reading = Reading {
        at: Box::new(move |site| matches!(site, Site::Point(place) if places.contains(&place))),
        n_last: 1,
        row: Box::new(|site, prompt, _, row| {
            if let Site::Point(place) = site {
                rows.borrow_mut().insert((place, prompt), row.to_vec());
            }
            Ok(())
        }),
    };
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(1);
    let mut prefill = Prefill::new(engine, longest, prompts.len() as u32)?;
    prefill.run(prompts, Hooks::new(), Some(reading), |_, _| Ok(()))?;
    Ok(rows.into_inner())
}

/// s of one token.
fn factor(normed: &Normed, alpha: f64, before: &[f32], after: &[f32]) -> f64 {
    let added = before.iter().zip(after).map(|(a, b)| f64::from(*b) - f64::from(*a));
    // A channel without a gain shows nothing, and gets nothing.
    let left = added.zip(&normed.gains).map(|(d, g)| if *g == 0.0 { 0.0 } else { d / g });
    let left: Vec<f64> = left.collect();
    let Along { read, write } = &normed.along;
    let part: f64 = left.iter().zip(read).map(|(m, u)| m * f64::from(*u)).sum();
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let edited = left.iter().zip(write).map(|(m, v)| m + alpha * part * f64::from(*v));
    (square(&mut left.iter().copied()) / square(&mut edited.into_iter())).sqrt()
}
