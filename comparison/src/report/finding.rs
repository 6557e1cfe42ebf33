//! What an experiment found.

use serde::Serialize;
use std::fmt;

/// What an experiment found, and all that a reader needs to judge it.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The experiment's name on the command line.
    pub name: &'static str,
    /// The claim, as it is usually made.
    pub claim: &'static str,
    /// What the figures say of it.
    pub verdict: Verdict,
    /// The figure that decides.
    pub figure: String,
    pub reason: String,
    /// The figures, each group with its plot.
    pub exhibits: Vec<Exhibit>,
    /// What was done, and what decides.
    pub method: Vec<String>,
    /// The command that does it again.
    pub repeat: String,
    /// Every figure of every round.
    pub raw: serde_json::Value,
}

/// The verdict on a claim, computed from the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The claim is true.
    Confirmed,
    /// The claim is true of some arms, and not of others.
    InPart,
    /// It is not true.
    Refuted,
}

/// Figures as a table, and as a plot with a bar for each row.
#[derive(Clone, Debug, Serialize)]
pub struct Exhibit {
    pub title: String,
    /// On what they were taken, where it is not the same for all of the report.
    pub notes: Vec<String>,
    /// The columns of the table, after the name of the row.
    pub columns: Vec<String>,
    /// What the parts of a bar are.
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
    /// Confirmed if so, or else in part if so.
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

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Confirmed => "confirmed",
            Self::InPart => "in part",
            Self::Refuted => "refuted",
        })
    }
}
