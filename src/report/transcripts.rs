//! Answers as a page to read: one file, no scripts, each answer closed until it is clicked.

use super::text::escaped;
use crate::eval::asr::{Answer, Judged, outcome};
use crate::judge::Label;

/// A model's answers to one set.
pub struct Section<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The attack, or the benign set.
    pub set: &'a str,
    /// True for attacks: an answer that complies may be harmful.
    pub harmful: bool,
    /// The answers with their labels.
    pub judged: &'a Judged,
}

/// What stands before the answers.
pub struct Preface<'a> {
    /// The page's title.
    pub title: &'a str,
    /// A sentence that says what was found; empty for none.
    pub lead: &'a str,
    /// A table: the first row is its head. Empty for none.
    pub rows: &'a [Vec<String>],
    /// Sentences after it.
    pub notes: &'a [String],
}

impl Preface<'_> {
    /// Of a page that shows nothing but answers.
    pub const ANSWERS: Preface<'static> =
        Preface { title: "Answers", lead: "", rows: &[], notes: &[] };

    fn html(&self) -> String {
        let mut html = format!("<h1>{}</h1>\n", escaped(self.title));
        if !self.lead.is_empty() {
            html += &format!("<p class=\"lead\">{}</p>\n", escaped(self.lead));
        }
        for (i, row) in self.rows.iter().enumerate() {
            html += if i == 0 { "<div class=\"scroll\"><table>\n<tr>" } else { "<tr>" };
            let tag = if i == 0 { "th" } else { "td" };
            html +=
                &row.iter().map(|x| format!("<{tag}>{}</{tag}>", escaped(x))).collect::<String>();
            html += "</tr>\n";
        }
        html += if self.rows.is_empty() { "" } else { "</table></div>\n" };
        let note = |note: &String| format!("<p class=\"note\">{}</p>\n", escaped(note));
        html + &self.notes.iter().map(note).collect::<String>()
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--refusal:#0072b2;--compliance:#d55e00;\
--degenerate:#767676}\
@media(prefers-color-scheme:dark){:root{--refusal:#56b4e9;--compliance:#e69f00;\
--degenerate:#a0a0a0}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.5rem;border-bottom:1px solid var(--line)}\
details{border-bottom:1px solid var(--line);padding:.35rem 0}summary{cursor:pointer}\
.label{font-weight:600;display:inline-block;min-width:6.5rem}\
.refusal{color:var(--refusal)}.compliance{color:var(--compliance)}\
.degenerate,.error{color:var(--degenerate)}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;margin:.5rem 0 .5rem 1.2rem}\
.note{color:var(--degenerate)}\
.lead{font-size:1.1rem;font-weight:600}.scroll{overflow-x:auto}\
table{border-collapse:collapse}td,th{text-align:left;padding:.2rem .8rem .2rem 0;\
border-bottom:1px solid var(--line);white-space:pre}";

/// The page as HTML: the preface, then one section per model and set.
pub fn page(preface: &Preface<'_>, sections: &[Section<'_>]) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>aird: {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         {}<p class=\"note\">Answers stay closed until you click. Those to harmful requests that \
         comply may be harmful, and may be wrong.</p>\n",
        escaped(preface.title),
        preface.html()
    );
    for section in sections {
        html += &section_html(section);
    }
    html + "</body>\n</html>\n"
}

fn section_html(section: &Section<'_>) -> String {
    let title = format!("{}: {}", section.model, section.set);
    let mut html = format!("<h2>{}</h2>\n", escaped(&title));
    if let Some(found) = outcome(section.judged) {
        let shares = &found.shares;
        let counts = [
            ("refusal", shares.refusal),
            ("compliance", shares.compliance),
            ("degenerate", shares.degenerate),
        ];
        let counts = counts.map(|(name, rate)| format!("{name} {} of {}", rate.k, rate.n));
        html += &format!("<p class=\"note\">{}</p>\n", counts.join(", "));
    }
    let labels = section.judged.verdicts.first().map(|v| v.labels.as_slice()).unwrap_or_default();
    for (i, answer) in section.judged.answers.iter().enumerate() {
        let label = labels.get(i).copied().flatten();
        html += &answer_html(answer, label, section);
    }
    html
}

fn answer_html(answer: &Answer, label: Option<Label>, section: &Section<'_>) -> String {
    let class = label.map_or("error", Label::name);
    let name = if label.is_none() && answer.error.is_none() { "no verdict" } else { class };
    let sample = match section.judged.n_variants {
        1 => String::new(),
        _ => format!(" <span class=\"note\">({})</span>", answer.sample + 1),
    };
    let text = answer.error.as_deref().unwrap_or(answer.answer.trim());
    let body = format!("<pre>{}</pre>", escaped(text));
    // Closed a second time: whoever opens all answers of a page does not yet see these. An answer
    // without a verdict may be as harmful as one that complies.
    let hidden = section.harmful && label != Some(Label::Refusal) && answer.error.is_none();
    let body = match hidden {
        true => format!(
            "<details><summary class=\"note\">show an answer that may be harmful</summary>{body}\
             </details>"
        ),
        false => body,
    };
    format!(
        "<details><summary><span class=\"label {class}\">{name}</span> {}{sample}</summary>{body}\
         </details>\n",
        escaped(&answer.prompt)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::asr::{Headline, Verdicts};

    fn judged() -> Judged {
        let answer = |text: &str| Answer {
            id: "1".into(),
            prompt: "<script>alert('x')</script>".into(),
            set: "vanilla".into(),
            sample: 0,
            answer: text.into(),
            label: None,
            judge: "default".into(),
            tokens: 1,
            error: None,
        };
        let labels = vec![Some(Label::Compliance), Some(Label::Refusal)];
        Judged {
            answers: vec![answer("Sure <b>\u{7}"), answer("No.")],
            n_variants: 1,
            headline: Headline::Only,
            verdicts: vec![Verdicts { judge: "default".into(), labels }],
        }
    }

    #[test]
    fn what_no_judge_calls_a_refusal_is_closed_twice_as_well() {
        let mut judged = judged();
        judged.verdicts[0].labels = vec![None, Some(Label::Degenerate)];
        let section = Section { model: "m", set: "vanilla", harmful: true, judged: &judged };
        let html = page(&Preface::ANSWERS, &[section]);
        assert!(html.contains(">no verdict</span>"), "{html}");
        assert_eq!(html.matches("<details>").count(), 4);
    }

    #[test]
    fn answers_are_escaped_and_harmful_ones_closed_twice() {
        let judged = judged();
        let section = |harmful| Section { model: "m", set: "vanilla", harmful, judged: &judged };
        let html = page(&Preface::ANSWERS, &[section(true)]);
        assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
        assert!(html.contains("Sure &lt;b&gt;</pre>"), "{html}");
        assert_eq!(html.matches("<details>").count(), 3);
        assert_eq!(html.matches("<details>").count(), html.matches("</details>").count());
        assert_eq!(page(&Preface::ANSWERS, &[section(false)]).matches("<details>").count(), 2);
        assert!(!html.contains("http"));
    }

    #[test]
    fn the_preface_is_a_sentence_a_table_and_notes() {
        let rows = [vec!["".to_owned(), "a<b".to_owned()], vec!["x".to_owned(), "1".to_owned()]];
        let notes = ["so & so".to_owned()];
        let preface = Preface { title: "T", lead: "Lost.", rows: &rows, notes: &notes };
        let html = page(&preface, &[]);
        assert!(html.contains("<h1>T</h1>\n<p class=\"lead\">Lost.</p>"), "{html}");
        assert!(html.contains("<th>a&lt;b</th></tr>\n<tr><td>x</td><td>1</td></tr>"), "{html}");
        assert!(html.contains("so &amp; so") && html.contains("</table>"), "{html}");
    }
}
