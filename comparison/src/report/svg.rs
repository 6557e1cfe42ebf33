//! The plot of an exhibit: bars that lie, since their names are long, in colours that the page sets for light and dark.

use super::finding::{Exhibit, Row};
use crate::harness::as_f64;
use std::fmt::{self, Display, Formatter};

const WIDTH: f64 = 720.0;
const NAMES: f64 = 280.0;
const LINE: f64 = 30.0;
const TOP: f64 = 34.0;

/// Room for the number behind the longest bar.
const NUMBER: f64 = 70.0;

/// The plot, with the title as the text alternative.
pub(super) struct Bars<'a>(pub(super) &'a Exhibit);

impl Display for Bars<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Exhibit { title, parts, rows, .. } = self.0;
        let most = rows.iter().map(length).fold(0.0, f64::max);
        let unit = if most > 0.0 { (WIDTH - NAMES - NUMBER) / most } else { 0.0 };
        let (height, title) = (TOP + LINE * as_f64(rows.len()), escaped(title));
        writeln!(f, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">")?;
        for (n, part) in parts.iter().enumerate() {
            let x = NAMES + 180.0 * as_f64(n);
            writeln!(f, "<rect class=\"part{n}\" x=\"{x}\" y=\"6\" width=\"12\" height=\"12\"/>")?;
            writeln!(f, "<text x=\"{}\" y=\"16\">{}</text>", x + 18.0, escaped(part))?;
        }
        for (n, row) in rows.iter().enumerate() {
            bar(f, row, TOP + LINE * as_f64(n), unit)?;
        }
        writeln!(f, "</svg>")
    }
}

fn bar(f: &mut Formatter<'_>, row: &Row, y: f64, unit: f64) -> fmt::Result {
    let (middle, top, height) = (y + 17.0, y + 3.0, LINE - 8.0);
    let (name, end) = (escaped(&row.name), NAMES - 10.0);
    writeln!(f, "<text class=\"name\" x=\"{end}\" y=\"{middle}\">{name}</text>")?;
    let mut x = NAMES;
    for (n, part) in row.bar.iter().enumerate().filter(|(_, part)| **part > 0.0) {
        let width = part * unit;
        write!(f, "<rect class=\"part{n}\" x=\"{x:.1}\" y=\"{top:.1}\" ")?;
        writeln!(f, "width=\"{width:.1}\" height=\"{height:.1}\"/>")?;
        x += width;
    }
    let number = (length(row) * 100.0).round() / 100.0;
    writeln!(f, "<text x=\"{:.1}\" y=\"{middle}\">{number}</text>", x + 6.0)
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

fn length(row: &Row) -> f64 {
    row.bar.iter().sum()
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
        // 40 is the longest and takes 370: 30 of it are 277.5, and 10 are 92.5.
        assert!(plot.contains("class=\"part0\" x=\"280.0\" y=\"37.0\" width=\"277.5\""), "{plot}");
        assert!(plot.contains("class=\"part1\" x=\"557.5\" y=\"37.0\" width=\"92.5\""), "{plot}");
        assert!(plot.contains(">40</text>") && plot.contains(">0</text>"), "{plot}");
        exhibit.rows.remove(0);
        assert!(!Bars(exhibit).to_string().contains("NaN"), "all bars are of zeros");
    }
}
