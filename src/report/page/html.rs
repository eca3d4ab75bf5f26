//! Building blocks of the page: cells, tables, figures, sections. All text goes in escaped.

use crate::eval::interval::{Mean, Rate};
use crate::report::chart::Chart;
use crate::report::figures::{Figure, Shift};
use crate::report::stage::Stage;
use crate::report::text::{escaped, interval, mean_interval, p_value, percent, three};

/// A piece of a table, as HTML.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    html: String,
    class: &'static str,
}

impl Cell {
    /// Plain words, escaped.
    pub(super) fn text(text: &str) -> Cell {
        Cell { html: escaped(text), class: "" }
    }

    /// A number, right-aligned.
    pub(super) fn number(text: &str) -> Cell {
        Cell { html: escaped(text), class: "n" }
    }

    /// Words in place of a missing number.
    pub(super) fn none(why: &str) -> Cell {
        Cell { html: escaped(why), class: "none" }
    }

    /// Code, which may break at any character.
    pub(super) fn code(text: &str) -> Cell {
        Cell { html: format!("<code>{}</code>", escaped(text)), class: "" }
    }

    /// A number, or `why` it is missing.
    pub(super) fn number_or(text: Option<String>, why: &str) -> Cell {
        text.map_or_else(|| Cell::none(why), |text| Cell::number(&text))
    }

    /// Three decimals, or words.
    pub(super) fn three_or(x: Option<f64>, why: &str) -> Cell {
        Cell::number_or(x.filter(|x| x.is_finite()).map(three), why)
    }

    /// A share with its interval.
    pub(super) fn rate(rate: Option<&Rate>) -> Cell {
        match rate {
            None => Cell::none("not measured"),
            Some(rate) if rate.rate.is_none() => Cell::none("no cases"),
            Some(rate) => with_interval(&percent(rate), Some(&interval(rate))),
        }
    }

    /// A mean in nats with its interval.
    pub(super) fn mean(mean: &Mean) -> Cell {
        match mean.mean.filter(|m| m.is_finite()) {
            None => Cell::none("no cases"),
            Some(m) => with_interval(&three(m), mean_interval(mean).as_deref()),
        }
    }

    /// A figure with its interval.
    pub(super) fn figure(figure: Option<&Figure>) -> Cell {
        match figure {
            None => Cell::none("not measured"),
            Some(figure) => with_interval(&figure.text, figure.interval.as_deref()),
        }
    }

    /// A change, in the colour of better or worse where it is significant.
    pub(super) fn shift(shift: Option<&Shift>) -> Cell {
        let Some(shift) = shift else { return Cell::none("not known") };
        let class = match shift.better {
            Some(true) => "n better",
            Some(false) => "n worse",
            None => "n",
        };
        Cell { html: escaped(&shift.text), class }
    }

    /// A p-value, or words in its place.
    pub(super) fn p(p: Option<f64>) -> Cell {
        match p {
            Some(p) if p.is_finite() => Cell::number(&p_value(p)),
            _ => Cell::none("no pairs"),
        }
    }

    /// The head of a column; of one of numbers if it begins with `>`.
    pub(super) fn head(name: &str) -> Cell {
        name.strip_prefix('>').map_or_else(|| Cell::text(name), Cell::number)
    }

    /// A model's name with the mark of what was done to it.
    pub(super) fn model(stage: Stage<'_>, name: &str) -> Cell {
        Cell { html: format!("{} {}", mark(stage), escaped(name)), class: "" }
    }

    /// The head of a column of numbers of such models.
    pub(super) fn stage(stage: Stage<'_>) -> Cell {
        Cell { class: "n", ..Cell::model(stage, stage.title) }
    }
}

fn with_interval(text: &str, interval: Option<&str>) -> Cell {
    let interval = interval.map_or(String::new(), |i| format!(" <small>{}</small>", escaped(i)));
    Cell { html: format!("{}{interval}", escaped(text)), class: "n" }
}

/// The mark of what was done to a model, the same as in charts.
pub(super) fn mark(Stage { tone, title }: Stage<'_>) -> String {
    format!(
        "<span class=\"mark {}\" role=\"img\" aria-label=\"{}\">{}</span>",
        tone.class(),
        escaped(title),
        tone.mark().glyph()
    )
}

/// A table: a caption, columns, rows whose first cell names them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    caption: String,
    head: String,
    n_columns: usize,
    rows: String,
    n_rows: usize,
}

impl Table {
    /// Columns whose name begins with `>` hold numbers, flush right.
    pub(super) fn new(caption: &str, columns: &[&str]) -> Table {
        Table::headed(caption, &columns.iter().map(|name| Cell::head(name)).collect::<Vec<_>>())
    }

    /// With whole cells as its head.
    pub(super) fn headed(caption: &str, columns: &[Cell]) -> Table {
        let column = |Cell { html, class }: &Cell| match *class {
            "" => format!("<th scope=\"col\">{html}</th>"),
            class => format!("<th scope=\"col\" class=\"{class}\">{html}</th>"),
        };
        let head = columns.iter().map(column).collect();
        let (caption, n_columns) = (escaped(caption), columns.len());
        Table { caption, head, n_columns, rows: String::new(), n_rows: 0 }
    }

    /// Adds a row; its first cell names it.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.n_rows += 1;
        self.rows += "<tr>";
        for (i, Cell { html, class }) in cells.iter().enumerate() {
            let class = if class.is_empty() { "".into() } else { format!(" class=\"{class}\"") };
            self.rows += &match i {
                0 => format!("<th scope=\"row\"{class}>{html}</th>"),
                _ => format!("<td{class}>{html}</td>"),
            };
        }
        self.rows += "</tr>\n";
    }

    /// A row with only the reason why it has no figures.
    pub(super) fn missing(&mut self, Cell { html, .. }: Cell, why: &str) {
        self.n_rows += 1;
        self.rows += &format!(
            "<tr><th scope=\"row\">{html}</th><td colspan=\"{}\" class=\"none\">{}</td></tr>\n",
            self.n_columns.saturating_sub(1).max(1),
            escaped(why)
        );
    }

    /// Whether it has any row.
    pub(super) fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// In its own container, which scrolls if the table is wider than the page.
    pub(super) fn html(&self) -> String {
        format!(
            "<div class=\"scroll\" role=\"region\" aria-label=\"{0}\" tabindex=\"0\"><table>\n\
             <caption>{0}</caption>\n<thead><tr>{1}</tr></thead>\n<tbody>\n{2}</tbody>\n</table>\
             </div>\n",
            self.caption, self.head, self.rows
        )
    }

    /// Closed until it is clicked.
    pub(super) fn closed(&self, summary: &str) -> String {
        details(summary, &self.html())
    }

    /// The table, or a sentence that explains why it is empty.
    pub(super) fn or(&self, why: &str) -> String {
        if self.is_empty() { note(why) } else { self.html() }
    }
}

/// Closed until it is clicked.
pub(super) fn details(summary: &str, html: &str) -> String {
    format!("<details><summary>{}</summary>\n{html}</details>\n", escaped(summary))
}

/// A chart with a caption and its data as a table, collapsed.
pub(super) fn figure(id: &str, chart: &Chart, caption: &str, data: &Table) -> String {
    format!(
        "<figure id=\"{id}\">\n<div class=\"scroll\">{}</div>\n<figcaption>{}</figcaption>\n{}\
         </figure>\n",
        chart.inline(id),
        escaped(caption),
        data.closed("Data")
    )
}

/// Figures side by side where there is room.
pub(super) fn figures(figures: &[String]) -> String {
    match figures {
        [] => String::new(),
        figures => format!("<div class=\"figures\">\n{}</div>\n", figures.concat()),
    }
}

/// A paragraph of escaped text.
pub(super) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escaped(text))
}

/// A secondary paragraph, or one about what is missing.
pub(super) fn note(text: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escaped(text))
}

/// A section with a heading and an anchor; `html` is not escaped.
pub(super) fn section(id: &str, title: &str, html: &str) -> String {
    format!("<section id=\"{id}\">\n<h2>{}</h2>\n{html}</section>\n", escaped(title))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_and_says_so_when_it_is_empty() {
        let mut table = Table::new("A & B", &["model", ">share"]);
        assert_eq!(table.or("Nothing < here."), "<p class=\"note\">Nothing &lt; here.</p>\n");
        table.row(vec![Cell::model(Stage::BASE, "<m>"), Cell::none("not measured")]);
        let html = table.or("x");
        assert!(html.contains("<caption>A &amp; B</caption>"), "{html}");
        assert!(html.contains("<th scope=\"col\" class=\"n\">share</th>"), "{html}");
        assert!(html.contains("</span> &lt;m&gt;</th><td class=\"none\">not measured"), "{html}");
    }
}
