//! Shapes and tones: both show what was done to a model.

/// The shape of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A circle.
    Circle,
    /// A triangle with its tip down.
    Triangle,
    /// A square on its corner.
    Diamond,
    /// A square.
    Square,
    /// A cross of two strokes.
    Cross,
    /// A star of five points.
    Star,
}

/// What was done to a thing, as a colour. Readers who see fewer colours can tell each from the
/// others, too; `chart.css` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// The original: neutral.
    Base,
    /// Compressed: a warning.
    Compressed,
    /// Repaired: the accent.
    Repaired,
    /// Repaired in a second way.
    Repaired2,
    /// Repaired in a third way.
    Repaired3,
}

impl Mark {
    /// The shape of the i-th of several lines.
    pub fn nth(i: usize) -> Mark {
        [Mark::Circle, Mark::Triangle, Mark::Square, Mark::Diamond, Mark::Cross][i % 5]
    }

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Mark::Circle => "circle",
            Mark::Triangle => "triangle",
            Mark::Diamond => "diamond",
            Mark::Square => "square",
            Mark::Cross => "cross",
            Mark::Star => "star",
        }
    }

    /// A letter of that shape.
    pub(crate) fn glyph(self) -> char {
        match self {
            Mark::Circle => '●',
            Mark::Triangle => '▼',
            Mark::Diamond => '◆',
            Mark::Square => '■',
            Mark::Cross => '✖',
            Mark::Star => '★',
        }
    }

    /// The outline around a point, about as large as a circle of radius `r`.
    pub(super) fn path(self, x: f64, y: f64, r: f64) -> String {
        let polygon = |points: &[(f64, f64)]| {
            let place = |(dx, dy): &(f64, f64)| format!("{:.1} {:.1}", x + dx * r, y + dy * r);
            format!("M{}Z", points.iter().map(place).collect::<Vec<_>>().join("L"))
        };
        match self {
            Mark::Circle => {
                let (left, d) = (x - r, 2.0 * r);
                format!("M{left:.1} {y:.1}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0Z")
            }
            Mark::Triangle => polygon(&[(-1.15, -0.85), (1.15, -0.85), (0.0, 1.2)]),
            Mark::Diamond => polygon(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
            Mark::Square => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            Mark::Cross => polygon(&[
                (-1.1, -0.7),
                (-0.7, -1.1),
                (0.0, -0.4),
                (0.7, -1.1),
                (1.1, -0.7),
                (0.4, 0.0),
                (1.1, 0.7),
                (0.7, 1.1),
                (0.0, 0.4),
                (-0.7, 1.1),
                (-1.1, 0.7),
                (-0.4, 0.0),
            ]),
            Mark::Star => polygon(&std::array::from_fn::<_, 10, _>(|i| {
                let (sin, cos) = (f64::from(i as u32) * std::f64::consts::PI / 5.0).sin_cos();
                let size = if i % 2 == 0 { 1.4 } else { 0.6 };
                (size * sin, -size * cos)
            })),
        }
    }
}

impl Tone {
    /// Of the i-th way of repairing, from 0; after the third they begin again.
    pub(crate) fn repair(i: usize) -> Tone {
        [Tone::Repaired, Tone::Repaired2, Tone::Repaired3][i % 3]
    }

    /// Its class in `chart.css`.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Tone::Base => "base",
            Tone::Compressed => "variant",
            Tone::Repaired => "repaired",
            Tone::Repaired2 => "repaired-2",
            Tone::Repaired3 => "repaired-3",
        }
    }

    /// The shape that belongs to the tone.
    pub(crate) fn mark(self) -> Mark {
        match self {
            Tone::Base => Mark::Circle,
            Tone::Compressed => Mark::Triangle,
            Tone::Repaired => Mark::Diamond,
            Tone::Repaired2 => Mark::Square,
            Tone::Repaired3 => Mark::Star,
        }
    }
}

/// The dashes of the i-th of several lines.
pub(super) fn dashes(i: usize) -> &'static str {
    ["none", "7 3", "2 3", "9 3 2 3", "12 4"][i % 5]
}
