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
    /// The result in one sentence with at most two figures.
    pub headline: String,
    /// A plot of the figures in the headline, beside those of other arms.
    pub picture: Exhibit,
    /// Choices that follow: etcd, Redis with some settings, or neither, and the requirement that the choice meets.
    pub advice: Vec<[&'static str; 2]>,
    pub reason: String,
    pub exhibits: Vec<Exhibit>,
    /// What was done, and the rule of the verdict.
    pub method: Vec<String>,
    /// The command that repeats the experiment.
    pub repeat: String,
    /// Every figure of every round.
    pub raw: serde_json::Value,
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

/// Figures as a table, and as a plot with a bar for each row.
#[derive(Clone, Debug, Serialize)]
pub struct Exhibit {
    pub title: String,
    /// The servers of these figures, where they are not those of the whole report.
    pub notes: Vec<String>,
    /// The columns of the table, after the name of the row. A picture has none.
    pub columns: Vec<String>,
    /// The names of the parts of a bar.
    pub parts: Vec<String>,
    pub rows: Vec<Row>,
}

/// A row of the table, and its bar.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub cells: Vec<String>,
    /// The lengths of the parts.
    pub bar: Vec<f64>,
}

impl Verdict {
    pub fn of(is_confirmed: bool, is_in_part: bool) -> Self {
        match (is_confirmed, is_in_part) {
            (true, _) => Self::Confirmed,
            (false, true) => Self::InPart,
            (false, false) => Self::Refuted,
        }
    }
}

impl Exhibit {
    pub fn new(title: impl Into<String>, columns: &[&str], parts: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let (title, columns, parts) = (title.into(), owned(columns), owned(parts));
        Self { title, notes: Vec::new(), columns, parts, rows: Vec::new() }
    }

    /// Returns a plot without a table. The title names the unit.
    pub fn picture<'a>(title: &str, bars: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let mut picture = Self::new(title, &[], &[]);
        for (name, length) in bars {
            picture.add(name, None::<String>, [length]);
        }
        picture
    }

    pub fn add<S: ToString>(
        &mut self,
        name: impl Into<String>,
        cells: impl IntoIterator<Item = S>,
        bar: impl Into<Vec<f64>>,
    ) {
        let cells = cells.into_iter().map(|cell| cell.to_string()).collect();
        self.rows.push(Row { name: name.into(), cells, bar: bar.into() });
    }
}

impl Row {
    /// Returns the length of the bar.
    pub fn length(&self) -> f64 {
        self.bar.iter().sum()
    }

    /// Returns the length of the bar with two decimals.
    pub fn number(&self) -> f64 {
        (self.length() * 100.0).round() / 100.0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Confirmed => "confirmed",
            Self::InPart => "in part",
            Self::Refuted => "refuted",
        })
    }
}
