//! A plot as HTML: horizontal bars that the style sheet sizes, so that names stay readable on a phone.

use super::finding::{Exhibit, Row};
use std::fmt::{self, Display, Formatter};

/// A plot. Its title is the text alternative.
pub(super) struct Bars<'a>(pub(super) &'a Exhibit);

impl Display for Bars<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Exhibit { title, columns, parts, rows, .. } = self.0;
        let longest = rows.iter().map(Row::length).fold(f64::MIN_POSITIVE, f64::max);
        let title = escaped(title);
        writeln!(f, "<div class=\"bars\" role=\"img\" aria-label=\"{title}\">")?;
        if columns.is_empty() {
            writeln!(f, "<p>{title}</p>")?;
        }
        for (n, part) in parts.iter().enumerate() {
            writeln!(f, "<span class=\"key\"><i class=\"part{n}\"></i>{}</span>", escaped(part))?;
        }
        for row in rows {
            write!(f, "<div><span>{}</span><span class=\"bar\">", escaped(&row.name))?;
            for (n, part) in row.bar.iter().enumerate() {
                write!(f, "<i class=\"part{n}\" style=\"--share:{:.4}\"></i>", part / longest)?;
            }
            writeln!(f, "<b>{}</b></span></div>", row.number())?;
        }
        writeln!(f, "</div>")
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_length_of_a_bar_is_proportional_to_its_value() {
        let mut sample = sample(Verdict::Confirmed);
        let exhibit = &mut sample.findings[0].exhibits[0];
        let plot = Bars(exhibit).to_string();
        let bar = "part0\" style=\"--share:0.7500\"></i><i class=\"part1\" style=\"--share:0.2500\"></i><b>40";
        assert!(plot.contains(bar) && plot.contains("<b>0</b>"), "{plot}");
        exhibit.rows.remove(0);
        assert!(!Bars(exhibit).to_string().contains("NaN"), "all bars are of zeros");
    }
}
