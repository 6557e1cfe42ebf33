//! Bars that lie, since their names are long.

use super::super::finding::{Bar, Bars};
use super::super::html::escaped;
use super::WIDTH;
use crate::harness::as_f64;
use std::fmt::{self, Formatter};

const NAMES: f64 = 280.0;
const LINE: f64 = 30.0;
const TOP: f64 = 34.0;

/// Room for the number behind the longest bar.
const NUMBER: f64 = 70.0;

pub(super) fn draw(f: &mut Formatter<'_>, title: &str, Bars { parts, bars }: &Bars) -> fmt::Result {
    let most = bars.iter().map(length).fold(0.0, f64::max);
    let unit = if most > 0.0 { (WIDTH - NAMES - NUMBER) / most } else { 0.0 };
    let (height, title) = (TOP + LINE * as_f64(bars.len()), escaped(title));
    writeln!(f, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">")?;
    let mut x = NAMES;
    for (n, part) in parts.iter().enumerate() {
        writeln!(f, "<rect class=\"part{n}\" x=\"{x}\" y=\"6\" width=\"12\" height=\"12\"/>")?;
        writeln!(f, "<text x=\"{}\" y=\"16\">{}</text>", x + 18.0, escaped(part))?;
        x += 180.0;
    }
    for (n, bar) in bars.iter().enumerate() {
        draw_bar(f, bar, TOP + LINE * as_f64(n), unit)?;
    }
    writeln!(f, "</svg>")
}

fn draw_bar(f: &mut Formatter<'_>, bar: &Bar, y: f64, unit: f64) -> fmt::Result {
    let (middle, top, height) = (y + 17.0, y + 3.0, LINE - 8.0);
    let (name, end) = (escaped(&bar.name), NAMES - 10.0);
    writeln!(f, "<text class=\"name\" x=\"{end}\" y=\"{middle}\">{name}</text>")?;
    let mut x = NAMES;
    for (n, part) in bar.parts.iter().enumerate().filter(|(_, part)| **part > 0.0) {
        let width = part * unit;
        write!(f, "<rect class=\"part{n}\" x=\"{x:.1}\" y=\"{top:.1}\" ")?;
        writeln!(f, "width=\"{width:.1}\" height=\"{height:.1}\"/>")?;
        x += width;
    }
    writeln!(f, "<text x=\"{:.1}\" y=\"{middle}\">{}</text>", x + 6.0, length(bar))
}

fn length(bar: &Bar) -> f64 {
    bar.parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::{Plot, Verdict};
    use super::super::super::tests::sample;
    use super::super::Figure;

    #[test]
    fn the_length_of_a_bar_is_proportional_to_its_value() {
        let sample = sample(Verdict::Confirmed);
        let plot = &sample.findings[0].exhibits[0].plot;
        let plot = Figure { title: "Missed", plot }.to_string();
        // 40 is the longest and takes 370: 30 of it are 277.5, and 10 are 92.5.
        assert!(plot.contains("class=\"part0\" x=\"280.0\" y=\"37.0\" width=\"277.5\""), "{plot}");
        assert!(plot.contains("class=\"part1\" x=\"557.5\" y=\"37.0\" width=\"92.5\""), "{plot}");
        assert!(plot.contains(">40</text>") && plot.contains(">0</text>"), "{plot}");
    }

    #[test]
    fn bars_of_zeros_have_no_length() {
        let mut plot = sample(Verdict::Confirmed).findings[0].exhibits[0].plot.clone();
        let Plot::Bars(bars) = &mut plot else { panic!("{plot:?}") };
        bars.bars.remove(0);
        assert!(!Figure { title: "", plot: &plot }.to_string().contains("NaN"));
    }
}
