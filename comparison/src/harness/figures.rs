//! Figures and their targets, as plain text.

use super::heap::Heap;
use super::paired::{Comparison, Spread};
use super::table::{Table, seconds};
use std::fmt;

#[derive(Debug, Default)]
pub struct Figures {
    pairs: Vec<[String; 7]>,
    single: Vec<Figure>,
    notes: Vec<String>,
}

#[derive(Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    range: Option<(f64, f64)>,
    limit: Option<Limit>,
    aim: Option<f64>,
    /// Whether the figure is a count, which is the same on every machine.
    counted: bool,
}

#[derive(Debug)]
enum Limit {
    AtMost(f64),
    Exactly(f64),
}

impl Figure {
    /// Returns a figure that is a count. It fails the run if it misses its target.
    pub fn counted(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let name = name.into();
        Self { name, value, unit, range: None, limit: None, aim: None, counted: true }
    }

    /// Returns a figure that is a time, which depends on the machine and never fails the run.
    pub fn timed(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { counted: false, ..Self::counted(name, value, unit) }
    }

    /// Returns the median of one or more samples, with the minimum and maximum.
    pub fn median(name: impl Into<String>, samples: &[f64], unit: &'static str) -> Self {
        Self::spread(name, Spread::of(samples.iter().copied()), unit)
    }

    pub fn spread(name: impl Into<String>, spread: Spread, unit: &'static str) -> Self {
        let range = Some((spread.min, spread.max));
        Self { range, ..Self::timed(name, spread.median, unit) }
    }

    #[must_use]
    pub fn at_most(mut self, limit: f64) -> Self {
        self.limit = Some(Limit::AtMost(limit));
        self
    }

    /// Sets a target, with a tolerance of 0.01.
    #[must_use]
    pub fn exactly(mut self, limit: f64) -> Self {
        self.limit = Some(Limit::Exactly(limit));
        self
    }

    /// Sets a value that would be better than the target.
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

impl Figures {
    pub fn add(&mut self, figure: Figure) {
        self.single.push(figure);
    }

    /// Adds a figure of the heap, if the feature `heap` is on.
    pub fn add_heap(&mut self, figure: Figure) {
        if Heap::IS_COUNTED {
            self.add(figure);
        }
    }

    /// Adds the result of a paired run, with the target of its ratio.
    pub fn add_comparison(
        &mut self,
        operation: impl fmt::Display,
        [first, second]: [&str; 2],
        comparison: &Comparison,
        target: impl FnOnce(Figure) -> Figure,
    ) {
        let arms = [(first, comparison.first), (second, comparison.second)];
        let arms = arms.map(|(arm, took)| format!("{arm} {}", seconds(took)));
        self.add_pair(operation, arms, (&comparison.ratio, &comparison.floor), target);
    }

    /// Adds samples of [`in_turns`](super::in_turns): of the base, of other arms, and of the base again.
    pub fn add_turns<const N: usize>(
        &mut self,
        operation: impl fmt::Display,
        arms: [&str; N],
        samples: &[Vec<f64>; N],
        unit: &'static str,
        target: impl Fn(Figure) -> Figure,
    ) {
        let ratio = |n: usize| {
            Spread::of(samples[n].iter().zip(&samples[0]).map(|(sample, base)| sample / base))
        };
        let median = |n: usize| {
            let median = Spread::of(samples[n].iter().copied()).median;
            format!("{} {} {unit}", arms[n], number(median))
        };
        for n in 1..N - 1 {
            let spreads = (&ratio(n), &ratio(N - 1));
            self.add_pair(&operation, [median(n), median(0)], spreads, &target);
        }
    }

    fn add_pair(
        &mut self,
        operation: impl fmt::Display,
        [first, second]: [String; 2],
        (ratio, floor): (&Spread, &Spread),
        target: impl FnOnce(Figure) -> Figure,
    ) {
        let range = |spread: &Spread| {
            format!("{:.2} ({:.2}..{:.2})", spread.median, spread.min, spread.max)
        };
        let [.., target, _, mut holds] = target(Figure::spread("", *ratio, "x")).cells();
        if !floor.is_sound() {
            holds = "void".into();
            self.note("void: A/A is outside 0.98..1.02; repeat the run when the machine is quiet");
        }
        let operation = operation.to_string();
        self.pairs.push([operation, first, second, range(ratio), range(floor), target, holds]);
    }

    /// Adds a note below the tables. Notes with equal text are printed once.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Returns whether all counts meet their targets.
    pub fn holds(&self) -> bool {
        self.single.iter().all(|figure| !figure.counted || figure.holds())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["operation", "arm", "reference", "ratio (min..max)", "A/A", "target", "holds"];
        let mut pairs = Table::new(1, head);
        self.pairs.iter().for_each(|pair| pairs.add(pair.clone()));
        let head = ["figure", "measured", "min..max", "target", "aim", "holds"];
        let mut figures = Table::new(1, head);
        self.single.iter().for_each(|figure| figures.add(figure.cells()));
        for table in [pairs, figures].into_iter().filter(|table| !table.is_empty()) {
            write!(f, "{table}")?;
        }
        for note in &self.notes {
            writeln!(f, "* {note}")?;
        }
        Ok(())
    }
}

/// Formats a value with three digits or more.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_void_if_the_arm_differs_from_itself() {
        let spread = |median| Spread { median, min: median - 0.1, max: median + 0.1 };
        let comparison = |first, floor| Comparison {
            first,
            second: 0.5e-3,
            ratio: spread(first / 0.5e-3),
            floor: spread(floor),
        };
        let mut figures = Figures::default();
        let mut add = |operation, comparison| {
            figures.add_comparison(operation, ["ours", "raw"], &comparison, |x| x.at_most(1.5));
        };
        add("register", comparison(1.0e-3, 1.0));
        add("keep_alive", comparison(0.6e-3, 1.05));
        let expected = [
            "operation            arm     reference  ratio (min..max)                A/A   target       holds",
            "register    ours 1.00 ms  raw 500.0 us  2.00 (1.90..2.10)  1.00 (0.90..1.10)  <= 1.50  no (timed)",
            "keep_alive  ours 600.0 us  raw 500.0 us  1.20 (1.10..1.30)  1.05 (0.95..1.15)  <= 1.50        void",
            "* void: A/A is outside 0.98..1.02; repeat the run when the machine is quiet",
        ];
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let text = figures.to_string();
        assert_eq!(text.lines().map(words).collect::<Vec<_>>(), expected.map(words), "{text}");
        assert!(figures.holds(), "a time never fails the run");
        figures.add(Figure::counted("copies", 2.0, "").exactly(1.0));
        assert!(!figures.holds());
    }
}
