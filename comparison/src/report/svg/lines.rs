//! Lines over an axis: how something goes with time, or from the best to the worst.

use super::super::finding::{Axis, Line, Lines};
use super::super::html::escaped;
use super::WIDTH;
use crate::harness::as_f64;
use std::fmt::{self, Formatter};

const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const HEIGHT: f64 = 260.0;
const BELOW: f64 = 44.0;

/// Of the names of the lines, two beside each other.
const NAME: f64 = 20.0;
const COLUMNS: usize = 2;

pub(super) fn draw(f: &mut Formatter<'_>, title: &str, lines: &Lines) -> fmt::Result {
    let Lines { x, y, lines } = lines;
    let top = NAME * as_f64(lines.len().div_ceil(COLUMNS)) + 24.0;
    let bottom = top + HEIGHT;
    let (x, y) = (Scale::new(x, LEFT, WIDTH - RIGHT), Scale::new(y, bottom, top));
    let (height, title) = (bottom + BELOW, escaped(title));
    writeln!(f, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">")?;
    for (n, line) in lines.iter().enumerate() {
        name(f, n, line)?;
    }
    for tick in &y.axis.ticks {
        let at = y.position(tick.at);
        write!(f, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" ", WIDTH - RIGHT)?;
        writeln!(f, "y1=\"{at:.1}\" y2=\"{at:.1}\"/>")?;
        let label = escaped(&tick.label);
        writeln!(
            f,
            "<text class=\"name\" x=\"{}\" y=\"{:.1}\">{label}</text>",
            LEFT - 8.0,
            at + 4.0
        )?;
    }
    for tick in &x.axis.ticks {
        let (at, label) = (x.position(tick.at), escaped(&tick.label));
        write!(f, "<text class=\"middle\" x=\"{at:.1}\" y=\"{}\">", bottom + 18.0)?;
        writeln!(f, "{label}</text>")?;
    }
    writeln!(f, "<text x=\"4\" y=\"{}\">{}</text>", top - 10.0, escaped(&y.axis.name))?;
    write!(f, "<text class=\"name\" x=\"{}\" y=\"{}\">", WIDTH - RIGHT, bottom + 36.0)?;
    writeln!(f, "{}</text>", escaped(&x.axis.name))?;
    for line in lines {
        write!(f, "<polyline class=\"line line{}\" points=\"", line.style)?;
        for (right, up) in &line.points {
            write!(f, "{:.1},{:.1} ", x.position(*right), y.position(*up))?;
        }
        writeln!(f, "\"/>")?;
    }
    writeln!(f, "</svg>")
}

/// What a line is of, beside a piece of it.
fn name(f: &mut Formatter<'_>, n: usize, line: &Line) -> fmt::Result {
    let half = (WIDTH - LEFT) / as_f64(COLUMNS);
    let x = LEFT + half * as_f64(n % COLUMNS);
    let y = 12.0 + NAME * as_f64(n / COLUMNS);
    let style = line.style;
    writeln!(f, "<polyline class=\"line line{style}\" points=\"{x},{y} {},{y}\"/>", x + 24.0)?;
    writeln!(f, "<text x=\"{}\" y=\"{}\">{}</text>", x + 30.0, y + 4.0, escaped(&line.name))
}

/// An axis, from one coordinate to another.
struct Scale<'a> {
    axis: &'a Axis,
    from: f64,
    to: f64,
}

impl<'a> Scale<'a> {
    fn new(axis: &'a Axis, from: f64, to: f64) -> Self {
        Self { axis, from, to }
    }

    /// What is beyond an end is drawn at that end.
    fn position(&self, at: f64) -> f64 {
        let scale = |at: f64| if self.axis.is_log { at.log10() } else { at };
        let ticks = &self.axis.ticks;
        let (first, last) = (scale(ticks[0].at), scale(ticks[ticks.len() - 1].at));
        let share = (scale(at) - first) / (last - first);
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::{Plot, Tick};
    use super::super::Figure;
    use super::*;

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let line =
            Line { name: "a < b".to_owned(), style: 0, points: vec![(0.0, 1.0), (10.0, 1000.0)] };
        let lines = Lines {
            x: Axis::linear("s", 10.0),
            y: Axis::log("ms", 1.0, 1000.0),
            lines: vec![line],
        };
        let plot = Figure { title: "t", plot: &Plot::Lines(lines) }.to_string();
        assert!(plot.contains("points=\"64.0,304.0 700.0,44.0 \""), "{plot}");
        assert!(plot.contains("a &lt; b") && plot.contains(">100</text>"), "{plot}");
    }

    #[test]
    fn a_value_beyond_the_axis_is_drawn_at_its_end() {
        let axis = Axis::percentiles();
        let scale = Scale::new(&axis, 0.0, 300.0);
        assert!((scale.position(Tick::of_share(0.9)) - 100.0).abs() < 1e-9);
        assert!((scale.position(f64::INFINITY) - 300.0).abs() < 1e-9);
        let log = Axis::log("ms", 1.0, 10.0);
        assert!(Scale::new(&log, 0.0, 9.0).position(0.0).abs() < 1e-9, "log of nothing");
    }
}
