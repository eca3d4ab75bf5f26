//! Shapes and tones: both show the role of a model.

use crate::report::results::Role;

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
}

/// The role of a thing, as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// The original: neutral.
    Base,
    /// Compressed: a warning.
    Compressed,
    /// Repaired: the accent.
    Repaired,
}

impl Mark {
    /// The tone of the i-th of several lines.
    pub fn nth(i: usize) -> Mark {
        [Mark::Circle, Mark::Triangle, Mark::Square, Mark::Diamond, Mark::Cross][i % 5]
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
        }
    }
}

impl Tone {
    /// Its class in `chart.css`.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Tone::Base => "base",
            Tone::Compressed => "variant",
            Tone::Repaired => "repaired",
        }
    }

    /// The shape that belongs to the tone.
    pub(crate) fn mark(self) -> Mark {
        match self {
            Tone::Base => Mark::Circle,
            Tone::Compressed => Mark::Triangle,
            Tone::Repaired => Mark::Diamond,
        }
    }
}

impl From<Role> for Tone {
    fn from(role: Role) -> Tone {
        match role {
            Role::Base => Tone::Base,
            Role::Variant => Tone::Compressed,
            Role::Repaired => Tone::Repaired,
        }
    }
}

/// The dashes of the i-th of several lines.
pub(super) fn dashes(i: usize) -> &'static str {
    ["none", "7 3", "2 3", "9 3 2 3", "12 4"][i % 5]
}
