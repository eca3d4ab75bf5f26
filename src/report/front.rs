//! The front of a search as SVG: refusals of harmful prompts upwards, of harmless ones to the
//! right, so that the best lie at the upper left.

use std::fmt::Write;

use super::heatmap::escaped;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 44.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 52.0;

/// One candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Dot {
    /// What it is.
    pub name: String,
    /// False refusals, per cent.
    pub x: f64,
    /// Refusals, per cent.
    pub y: f64,
    /// KL to the unrepaired model, nats.
    pub kl_nats: f64,
    /// It was taken.
    pub chosen: bool,
    /// It is within the budget.
    pub allowed: bool,
}

/// Draws `dots`, and a line at `limit`, the most false refusals that are allowed, per cent.
pub fn front_chart(title: &str, dots: &[Dot], limit: f64) -> String {
    let highest = dots.iter().map(|d| d.x).fold(limit, f64::max);
    let x_max = (highest * 1.15 / 10.0).ceil().max(1.0) * 10.0;
    let x = |percent: f64| LEFT + (WIDTH - LEFT - RIGHT) * percent / x_max;
    let y = |percent: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * percent / 100.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    let mut line = |x1: f64, y1: f64, x2: f64, y2: f64, style: &str| {
        let _ = writeln!(
            svg,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>"
        );
    };
    for percent in [0.0, 25.0, 50.0, 75.0, 100.0] {
        line(LEFT, y(percent), WIDTH - RIGHT, y(percent), "stroke=\"#ddd\"");
    }
    line(x(limit), y(0.0), x(limit), y(100.0), "stroke=\"#666\" stroke-dasharray=\"4 4\"");
    let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(text)
        );
    };
    for percent in [0.0, 25.0, 50.0, 75.0, 100.0] {
        text(LEFT - 8.0, y(percent) + 4.0, "end", &format!("{percent:.0}"));
        let across = percent * x_max / 100.0;
        text(x(across), HEIGHT - BOTTOM + 18.0, "middle", &format!("{across:.0}"));
    }
    text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "middle", "harmless prompts refused, %");
    text(LEFT, TOP - 8.0, "start", "harmful prompts refused, %");
    for dot in dots {
        // Shape and colour both: not everyone sees colours.
        let (fill, stroke, r) = match (dot.chosen, dot.allowed) {
            (true, _) => ("#0072b2", "#000", 8.0),
            (false, true) => ("#56b4e9", "#0072b2", 5.0),
            (false, false) => ("#fff", "#d55e00", 5.0),
        };
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{r}\" fill=\"{fill}\" stroke=\"{stroke}\" \
             stroke-width=\"2\"><title>{}: {:.0} % and {:.0} % refused, KL {:.3}</title></circle>",
            x(dot.x),
            y(dot.y),
            escaped(&dot.name),
            dot.y,
            dot.x,
            dot.kl_nats
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_is_drawn_and_the_chosen_one_stands_out() {
        let dot = |y: f64, chosen| Dot {
            name: "14 <alpha>".into(),
            x: 2.0,
            y,
            kl_nats: 0.05,
            chosen,
            allowed: true,
        };
        let svg = front_chart("Front", &[dot(20.0, false), dot(80.0, true)], 7.0);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("r=\"8\"").count(), 1);
        assert!(svg.contains("14 &lt;alpha&gt;: 80 % and 2 % refused"));
    }
}
