//! Values by block: one dash per tensor.

use super::draw::{Anchor, Chart};
use super::marks::Tone;
use super::scale::{Scale, nice_above};
use crate::report::text::three;

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 370.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 178.0;

/// A block's tensors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BlockValues {
    /// The block, from 0.
    pub block: u32,
    /// Names and values of the tensors.
    pub tensors: Vec<(String, f64)>,
}

/// Draws `blocks` of `n_block`, from 0 up.
pub(crate) fn block_chart(
    title: &str,
    what: &str,
    tone: Tone,
    (blocks, n_block): (&[BlockValues], u32),
) -> Chart {
    let all = || blocks.iter().flat_map(|b| b.tensors.iter().map(move |t| (b.block, t)));
    let most = all().max_by(|a, b| a.1.1.total_cmp(&b.1.1));
    let highest = most.map_or(0.0, |(_, (_, value))| *value);
    let last = blocks.iter().map(|b| b.block).max().unwrap_or(0).max(n_block.saturating_sub(1));
    let x = Scale::linear((-0.5, f64::from(last) + 0.5), (LEFT, RIGHT));
    let y = Scale::linear((0.0, nice_above(highest)), (BOTTOM, TOP));
    let most = most.map_or_else(String::new, |(block, (name, value))| {
        format!("; most in block {block}, {name}: {}", three(*value))
    });
    let summary = format!("{what} of {} tensors of {} blocks{most}", all().count(), blocks.len());
    let mut chart = Chart::new(title, &summary, WIDTH, HEIGHT);
    chart.y_axis(&y, (LEFT, RIGHT), &y.ticks(4), what);
    let ticks: Vec<f64> = Scale::linear((0.0, f64::from(last)), (LEFT, RIGHT)).ticks(7);
    let ticks: Vec<f64> = ticks.into_iter().filter(|t| t.fract() == 0.0).collect();
    chart.x_axis(&x, BOTTOM, &ticks, "block");
    if blocks.is_empty() {
        let middle = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        chart.text(middle, Anchor::Middle, "muted", "no tensors in blocks");
    }
    let half = (0.36 * (RIGHT - LEFT) / (f64::from(last) + 1.0)).min(8.0);
    let whisker = format!("whisker {}", tone.class());
    for (block, (name, value)) in all() {
        let (at, y) = (x.at(f64::from(block)), y.at(*value));
        let tip = format!("{name}: {}", three(*value));
        chart.dash((at - half, y), (at + half, y), &whisker, &tip);
    }
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tensor_is_a_dash() {
        let block = |block, high| BlockValues {
            block,
            tensors: vec![(format!("blk.{block}.a"), 0.0), (format!("blk.{block}.b"), high)],
        };
        let svg =
            block_chart("t", "change", Tone::Compressed, (&[block(0, 0.2), block(7, 0.4)], 9));
        let svg = svg.inline("i");
        assert_eq!(svg.matches("class=\"whisker variant\"").count(), 4);
        assert!(svg.contains("4 tensors of 2 blocks; most in block 7, blk.7.b: 0.400"), "{svg}");
        assert!(svg.contains("<title>blk.0.b: 0.200</title>"), "{svg}");
        let none = block_chart("t", "change", Tone::Repaired, (&[], 0)).inline("i");
        assert!(none.contains("no tensors in blocks"), "{none}");
    }
}
