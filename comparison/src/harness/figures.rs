//! Figures beside their targets, as plain text.

use super::heap::Heap;
use super::paired::{Comparison, Spread};
use super::table::Table;
use std::fmt;

/// The figures of one subject.
#[derive(Debug, Default)]
pub struct Figures {
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

    /// The median of `samples`, of which there is at least one, with the least and the most.
    pub fn median(name: impl Into<String>, samples: &[f64], unit: &'static str) -> Self {
        Self::spread(name, Spread::of(samples.iter().copied()), unit)
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

impl Figures {
    /// Adds a figure.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds a figure that is counted on the heap, if that is counted.
    pub fn add_heap(&mut self, figure: Figure) {
        if Heap::IS_COUNTED {
            self.add(figure);
        }
    }

    /// Adds what a paired run shows of `first` beside `second`: times in a unit of so many to a second.
    pub fn add_comparison(
        &mut self,
        [name, first, second]: [&str; 3],
        figures: &Comparison,
        (unit, per_second): (&'static str, f64),
        target: impl FnOnce(Figure) -> Figure,
    ) {
        self.add(Figure::timed(format!("{name}: {first}"), figures.first * per_second, unit));
        self.add(Figure::timed(format!("{name}: {second}"), figures.second * per_second, unit));
        self.add(target(Figure::spread(format!("{name}: {first} / {second}"), figures.ratio, "x")));
        self.add(Figure::spread(format!("{name}: A/A: {second} / {second}"), figures.floor, "x"));
        if !figures.is_sound() {
            self.note(format!(
                "{name}: void, A/A left 0.98..1.02; repeat it when the machine is quieter"
            ));
        }
    }

    /// Adds samples that were taken in turns: of the base, of other arms, and of the base again.
    pub fn add_turns<const N: usize>(
        &mut self,
        name: &str,
        arms: [&str; N],
        samples: &[Vec<f64>; N],
        unit: &'static str,
        target: impl Fn(Figure) -> Figure,
    ) {
        let ratio = |n: usize| -> Vec<f64> {
            samples[n].iter().zip(&samples[0]).map(|(sample, base)| sample / base).collect()
        };
        for (arm, samples) in arms.iter().zip(samples).take(N - 1) {
            self.add(Figure::median(format!("{name}{arm}"), samples, unit));
        }
        for n in 1..N - 1 {
            let figure = format!("{name}{} / {}", arms[n], arms[0]);
            self.add(target(Figure::median(figure, &ratio(n), "x")));
        }
        let floor = format!("{name}A/A: {0} / {0}", arms[0]);
        self.add(Figure::median(floor, &ratio(N - 1), "x"));
    }

    /// Adds what a reader must know.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Whether all that is counted holds.
    pub fn holds(&self) -> bool {
        self.figures.iter().all(|figure| !figure.counted || figure.holds())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["figure", "measured", "min..max", "target", "aim", "holds"];
        let mut table = Table::new(1, head);
        for figure in &self.figures {
            table.add(figure.cells());
        }
        write!(f, "{table}")?;
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
