//! Figures beside their targets, as plain text.

use crate::paired::Spread;
use std::fmt;
use std::iter::once;

/// The figures of one subject.
#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

/// One figure, and what it has to be.
#[derive(Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    range: Option<(f64, f64)>,
    limit: Option<Limit>,
    aim: Option<f64>,
    /// Whether it is counted, and so the same on every machine.
    counted: bool,
}

#[derive(Debug)]
enum Limit {
    AtMost(f64),
    Exactly(f64),
}

impl Figure {
    /// A figure that is counted: to miss its target is a failure.
    pub fn counted(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let name = name.into();
        Self { name, value, unit, range: None, limit: None, aim: None, counted: true }
    }

    /// A figure that is timed: the machine has a say in it.
    pub fn timed(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { counted: false, ..Self::counted(name, value, unit) }
    }

    /// The median of `samples`, with the least and the most.
    pub fn median(name: impl Into<String>, samples: &[f64], unit: &'static str) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let value = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
        let range = sorted.first().copied().zip(sorted.last().copied());
        Self { range, ..Self::timed(name, value, unit) }
    }

    /// What the rounds of a paired run gave.
    pub fn spread(name: impl Into<String>, spread: Spread, unit: &'static str) -> Self {
        let range = Some((spread.min, spread.max));
        Self { range, ..Self::timed(name, spread.median, unit) }
    }

    /// Its target.
    #[must_use]
    pub fn at_most(mut self, limit: f64) -> Self {
        self.limit = Some(Limit::AtMost(limit));
        self
    }

    /// Its target, up to a hundredth.
    #[must_use]
    pub fn exactly(mut self, limit: f64) -> Self {
        self.limit = Some(Limit::Exactly(limit));
        self
    }

    /// What would be better than the target.
    #[must_use]
    pub fn aim(mut self, aim: f64) -> Self {
        self.aim = Some(aim);
        self
    }

    fn holds(&self) -> bool {
        match self.limit {
            Some(Limit::AtMost(limit)) => self.value <= limit,
            Some(Limit::Exactly(limit)) => (self.value - limit).abs() < 0.01,
            None => true,
        }
    }

    fn cells(&self) -> [String; 6] {
        let number = |value: f64| number(value).trim_end_matches(".00").to_owned();
        let target = match self.limit {
            Some(Limit::AtMost(limit)) => format!("<= {}", number(limit)),
            Some(Limit::Exactly(limit)) => number(limit),
            None => "-".into(),
        };
        let verdict = match (self.holds(), self.limit.is_some(), self.counted) {
            (true, false, _) => "-",
            (true, true, _) if self.aim.is_some_and(|aim| self.value <= aim) => "yes, aim too",
            (true, true, _) => "yes",
            (false, _, true) => "NO",
            (false, _, false) => "no (timed)",
        };
        [
            self.name.clone(),
            format!("{} {}", number(self.value), self.unit).trim_end().to_owned(),
            self.range
                .map_or_else(String::new, |(min, max)| format!("{}..{}", number(min), number(max))),
            target,
            self.aim.map_or_else(|| "-".into(), number),
            verdict.into(),
        ]
    }
}

impl Report {
    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.figures.is_empty()
    }

    /// Adds a figure.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds what a reader must know.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether all that is counted holds.
    pub fn holds(&self) -> bool {
        self.figures.iter().all(|figure| !figure.counted || figure.holds())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["figure", "measured", "min..max", "target", "aim", "holds"].map(str::to_owned);
        let rows: Vec<_> = self.figures.iter().map(Figure::cells).collect();
        let mut widths = [0; 6];
        for row in once(&head).chain(&rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        for [name, cells @ .., verdict] in once(&head).chain(&rows) {
            write!(f, "{name:<0$}", widths[0])?;
            for (cell, width) in cells.iter().zip(&widths[1..]) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f, "  {verdict}")?;
        }
        for note in &self.notes {
            writeln!(f, "* {note}")?;
        }
        Ok(())
    }
}

/// Three digits or more.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
