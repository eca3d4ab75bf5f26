//! A heatmap as SVG: layers across, positions down, one colour scale from -1 to 1.

use std::fmt::Write;

const CELL: usize = 22;
const LEFT: usize = 46;
const TOP: usize = 40;

/// Draws `cells` [n_layer][n_pos], position -1 first, and frames the chosen layer and position.
/// Each cell carries its number as a tooltip.
pub fn heatmap(title: &str, cells: &[Vec<Option<f64>>], chosen: (usize, i32)) -> String {
    let n_pos = cells.first().map_or(0, Vec::len);
    let (width, height) = (LEFT + cells.len() * CELL + 10, TOP + n_pos * CELL + 34);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"13\">{}</text>\n",
        escaped(title)
    );
    for (layer, row) in cells.iter().enumerate() {
        let x = LEFT + layer * CELL;
        for (behind, value) in row.iter().enumerate() {
            let (y, position) = (TOP + behind * CELL, -1 - behind as i32);
            let number = value.map_or("-".to_owned(), |v| format!("{v:.3}"));
            let frame = match chosen == (layer, position) {
                true => "stroke=\"#000\" stroke-width=\"2\"",
                false => "stroke=\"#fff\"",
            };
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"{}\" {frame}>\
                 <title>layer {layer}, position {position}: {number}</title></rect>",
                colour(*value)
            );
        }
        if layer % 5 == 0 {
            let (x, y) = (x + CELL / 2, TOP + n_pos * CELL + 16);
            let _ =
                writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{layer}</text>");
        }
    }
    for behind in 0..n_pos {
        let (x, y) = (LEFT - 8, TOP + behind * CELL + CELL / 2 + 4);
        let position = -1 - behind as i32;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{position}</text>");
    }
    svg + "</svg>\n"
}

/// White at 0, blue at 1, orange at -1: told apart by every kind of colour vision.
fn colour(value: Option<f64>) -> String {
    let Some(value) = value else { return "#ccc".into() };
    let (end, share) = if value < 0.0 { ([230, 97, 1], -value) } else { ([33, 102, 172], value) };
    let mix = |end: i32| 255 - ((255 - end) as f64 * share.min(1.0)).round() as i32;
    let [r, g, b] = end.map(mix);
    format!("#{r:02x}{g:02x}{b:02x}")
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_drawn_and_the_chosen_one_framed() {
        let cells = vec![vec![Some(1.0), Some(0.0)], vec![Some(-1.0), None]];
        let svg = heatmap("a < b", &cells, (1, -1));
        assert_eq!(svg.matches("<title>").count(), 4);
        assert_eq!(svg.matches("stroke-width").count(), 1);
        assert!(svg.contains("#2166ac") && svg.contains("#e66101") && svg.contains("a &lt; b"));
    }
}
