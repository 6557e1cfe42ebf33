//! The result of an experiment.

use serde::Serialize;
use std::fmt;

/// The result of an experiment, with all that a reader needs to judge it.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The experiment's name on the command line.
    pub name: &'static str,
    /// The claim, as people make it.
    pub claim: &'static str,
    pub verdict: Verdict,
    /// The verdict in words that say of what it is true.
    pub ruling: &'static str,
    /// The result in one sentence with at most two figures.
    pub headline: String,
    /// Plots for the first page.
    pub plots: Vec<Plot>,
    /// What callers of a design on plain Redis lack in every round, if that design failed.
    pub failed: Option<String>,
    pub advice: Vec<Advice>,
    pub reason: String,
    pub exhibits: Vec<Exhibit>,
    /// What was done, and the rule of the verdict.
    pub method: Vec<String>,
    /// The command that repeats the experiment.
    pub repeat: String,
    /// Every figure of every round.
    pub raw: serde_json::Value,
}

/// What a reader can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// This library on Redis.
    Redis,
    Etcd,
    Neither,
}

/// A part of a row of the decision table, as a clause without a full stop.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advice {
    /// A requirement that the choice meets, and Redis does not if the choice is another.
    When(Choice, String),
    /// A setting that the choice needs.
    With(Choice, String),
}

/// The verdict on a claim, computed from the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Confirmed,
    /// The claim is true of some arms only.
    InPart,
    Refuted,
}

/// Figures as a table.
#[derive(Clone, Debug, Serialize)]
pub struct Exhibit {
    pub title: String,
    /// The servers of these figures, where they are not those of the whole report.
    pub notes: Vec<String>,
    /// The columns of the table, after the name of the row.
    pub columns: Vec<String>,
    /// The cells of each row, after its name. A dash stands for a figure that was not measured.
    pub rows: Vec<Vec<String>>,
}

/// A plot with a bar for each arm.
#[derive(Clone, Debug, Serialize)]
pub struct Plot {
    pub title: String,
    pub bars: Vec<Bar>,
    pub notes: Vec<String>,
    /// The servers, where they are not those of the whole report.
    pub servers: Vec<String>,
}

/// A bar of a plot.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    pub name: String,
    pub length: f64,
    /// The length with its unit or denominator.
    pub label: String,
    /// Another figure of the same arm.
    pub note: String,
}

impl Verdict {
    pub fn of(is_confirmed: bool, is_in_part: bool) -> Self {
        match (is_confirmed, is_in_part) {
            (true, _) => Self::Confirmed,
            (false, true) => Self::InPart,
            (false, false) => Self::Refuted,
        }
    }

    /// Returns the text for this verdict: confirmed, in part or refuted.
    pub fn choose<T>(self, [confirmed, in_part, refuted]: [T; 3]) -> T {
        match self {
            Self::Confirmed => confirmed,
            Self::InPart => in_part,
            Self::Refuted => refuted,
        }
    }
}

impl Exhibit {
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.into(), notes: Vec::new(), columns, rows: Vec::new() }
    }

    pub fn add<S: ToString>(&mut self, name: &str, cells: impl IntoIterator<Item = S>) {
        let cells = cells.into_iter().map(|cell| cell.to_string());
        self.rows.push([name.to_owned()].into_iter().chain(cells).collect());
    }

    /// Plots the medians of a column, without the rows that have none. `note` gets all medians of a row.
    pub fn plot(&self, title: String, column: usize, note: impl Fn(&[&str]) -> String) -> Plot {
        let bar = |row: &Vec<String>| {
            let medians = row[1..].iter().filter_map(|cell| cell.split(" (").next());
            let medians: Vec<&str> = medians.collect();
            let (label, note) = (medians[column].to_owned(), note(&medians));
            let length = label.split(' ').next()?.parse().ok()?;
            Some(Bar { name: row[0].clone(), length, label, note })
        };
        let bars = self.rows.iter().filter_map(bar).collect();
        Plot { title, bars, notes: Vec::new(), servers: Vec::new() }
    }
}

impl Plot {
    /// Returns each bar with its share of the longest one.
    pub fn shares(&self) -> impl Iterator<Item = (&Bar, f64)> {
        let longest = self.bars.iter().map(|bar| bar.length).fold(f64::MIN_POSITIVE, f64::max);
        self.bars.iter().map(move |bar| (bar, bar.length / longest))
    }
}

impl Advice {
    /// Returns those whose condition holds.
    pub fn all<const N: usize>(advice: [(bool, Self); N]) -> Vec<Self> {
        advice.into_iter().filter_map(|(holds, advice)| holds.then_some(advice)).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.choose(["confirmed", "in part", "refuted"]))
    }
}
