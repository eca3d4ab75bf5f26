//! A heatmap: layers from left to right, positions from top to bottom, one colour for each side of
//! 0, paler towards 0.

use super::draw::{Anchor, Chart};
use crate::report::text::{short, three};

const LEFT: f64 = 46.0;
const TOP: f64 = 26.0;
const CELL_HEIGHT: f64 = 18.0;
/// Largest and smallest width of a cell, and the width that all cells share.
const CELL_WIDTH: (f64, f64) = (9.0, 22.0);
const SHARED: f64 = 404.0;
/// Every so-manieth layer is numbered.
const NUMBERED: usize = 5;

/// A grid of numbers by layer and position.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat<'a> {
    /// The chart's title.
    pub title: &'a str,
    /// The name of the numbers.
    pub what: &'a str,
    /// `[n_layer][n_pos]`, position -1 first; None if not evaluated.
    pub cells: &'a [Vec<Option<f64>>],
    /// The layer and position to frame.
    pub chosen: Option<(usize, i32)>,
    /// The number that gets the full colour; by default the greatest one.
    pub limit: Option<f64>,
}

/// Draws the heatmap. Each cell has its number as a tooltip.
pub fn heatmap(heat: &Heat<'_>) -> Chart {
    let n_pos = heat.cells.iter().map(Vec::len).max().unwrap_or(0);
    let n_layer = heat.cells.len().max(1) as f64;
    let cell = (SHARED / n_layer).floor().clamp(CELL_WIDTH.0, CELL_WIDTH.1);
    let bottom = TOP + n_pos as f64 * CELL_HEIGHT;
    let (width, height) = ((LEFT + n_layer * cell + 10.0).max(300.0), bottom + 68.0);
    let greatest = heat.cells.iter().flatten().flatten().map(|x| x.abs()).fold(0.0, f64::max);
    let limit = heat.limit.unwrap_or(greatest).max(f64::MIN_POSITIVE);
    let mut chart = Chart::new(heat.title, &summary(heat, n_pos), width, height);
    chart.text((0.0, 12.0), Anchor::Start, "muted", "position");
    for from_end in 0..n_pos {
        let y = TOP + from_end as f64 * CELL_HEIGHT + CELL_HEIGHT / 2.0 + 4.0;
        let position = format!("−{}", from_end + 1);
        chart.text((LEFT - 8.0, y), Anchor::End, "muted", &position);
    }
    for (layer, row) in heat.cells.iter().enumerate() {
        let x = LEFT + layer as f64 * cell;
        for (from_end, value) in row.iter().enumerate() {
            let place = (x, TOP + from_end as f64 * CELL_HEIGHT);
            let tip = tip(layer, from_end, *value);
            draw_cell(&mut chart, place, (cell, CELL_HEIGHT), value.map(|v| v / limit), &tip);
        }
        if layer % NUMBERED == 0 {
            let place = (x + cell / 2.0, bottom + 16.0);
            chart.text(place, Anchor::Middle, "muted", &layer.to_string());
        }
    }
    if let Some((layer, position)) = heat.chosen {
        let from_end = f64::from(-1 - position);
        let place = (LEFT + layer as f64 * cell, TOP + from_end * CELL_HEIGHT);
        chart.rect(place, (cell, CELL_HEIGHT), "frame", None, "");
    }
    let middle = LEFT + n_layer * cell / 2.0;
    chart.text((middle, bottom + 32.0), Anchor::Middle, "muted", "layer");
    legend(&mut chart, bottom + 44.0, limit, heat.what);
    chart
}

fn summary(heat: &Heat<'_>, n_pos: usize) -> String {
    let missing = heat.cells.iter().flatten().filter(|x| x.is_none()).count();
    let mut text = format!("{} at {} layers and {n_pos} positions", heat.what, heat.cells.len());
    if missing > 0 {
        text += &format!("; {missing} not evaluated, marked with a dash");
    }
    if let Some((layer, position)) = heat.chosen {
        text += &format!("; framed: layer {layer}, position {position}");
    }
    text
}

fn tip(layer: usize, from_end: usize, value: Option<f64>) -> String {
    let number = value.map_or_else(|| "not evaluated".into(), three);
    format!("layer {layer}, position −{}: {number}", from_end + 1)
}

/// Colour of a cell: `share` of the full colour, -1 to 1.
fn draw_cell(
    chart: &mut Chart,
    (x, y): (f64, f64),
    (width, height): (f64, f64),
    share: Option<f64>,
    tip: &str,
) {
    chart.rect((x, y), (width, height), "cell", None, tip);
    match share {
        None => {
            let (middle, half) = (x + width / 2.0, width.min(10.0) / 4.0);
            let y = y + height / 2.0;
            chart.line((middle - half, y), (middle + half, y), "missing");
        }
        Some(share) => {
            let class = if share < 0.0 { "below" } else { "above" };
            let inside = (width - 1.0, height - 1.0);
            chart.rect((x + 0.5, y + 0.5), inside, class, Some(share.abs().min(1.0)), tip);
        }
    }
}

/// The scale of colours with its ends, and what they stand for.
fn legend(chart: &mut Chart, y: f64, limit: f64, what: &str) {
    const STEPS: i32 = 4;
    let (width, height) = (10.0, 10.0);
    let start = LEFT + 44.0;
    chart.text((start - 6.0, y + 9.0), Anchor::End, "muted", &short(-limit));
    for step in -STEPS..=STEPS {
        let share = f64::from(step) / f64::from(STEPS);
        let place = (start + f64::from(step + STEPS) * width, y);
        draw_cell(chart, place, (width, height), Some(share), "");
    }
    let end = start + f64::from(2 * STEPS + 1) * width + 6.0;
    chart.text((end, y + 9.0), Anchor::Start, "muted", &format!("{}  {what}", short(limit)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_drawn_and_the_chosen_one_framed() {
        let cells = vec![vec![Some(1.0), Some(0.0)], vec![Some(-0.5), None]];
        let heat = Heat {
            title: "a < b",
            what: "cosine",
            cells: &cells,
            chosen: Some((1, -1)),
            limit: Some(1.0),
        };
        let svg = heatmap(&heat).file();
        for cell in
            ["layer 0, position −1: 1.000", "layer 1, position −1: −0.500", "2: not evaluated"]
        {
            assert!(svg.contains(cell), "{cell}: {svg}");
        }
        assert_eq!((svg.matches("\"frame\"").count(), svg.matches("\"missing\"").count()), (1, 1));
        assert!(svg.contains("class=\"below\" fill-opacity=\"0.50\""), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("1 not evaluated"), "{svg}");
    }

    #[test]
    fn no_cells_at_all_are_no_panic() {
        let heat = Heat { title: "t", what: "x", cells: &[], chosen: None, limit: None };
        assert!(heatmap(&heat).inline("i").contains("0 layers"));
    }
}
