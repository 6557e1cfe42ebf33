//! What an experiment found.

use serde::Serialize;
use std::fmt;

/// What an experiment found, and all that a reader needs to judge it.
#[derive(Clone, Debug, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Finding {
    /// The experiment's name on the command line.
    pub name: &'static str,
    /// The claim, as it is usually made.
    pub claim: &'static str,
    /// What the figures say of it.
    pub verdict: Verdict,
    /// The figure that decides.
    pub figure: String,
    /// Why, in words.
    pub reason: String,
    /// The head of the table.
    pub head: Vec<String>,
    /// The rows of the table; the first cell names what the others are of.
    pub rows: Vec<Vec<String>>,
    /// The same as a plot.
    pub bars: Bars,
    /// What was done, and what decides.
    pub method: Vec<String>,
    /// The command that does it again.
    pub repeat: String,
    /// Every figure of every round.
    pub raw: serde_json::Value,
}

/// What the figures say of a claim. It is computed from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums)]
pub enum Verdict {
    /// The claim is true.
    Confirmed,
    /// It is true of some means, and not of others.
    InPart,
    /// It is not true.
    Refuted,
}

/// Bars, each of parts on top of each other.
#[derive(Clone, Debug, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Bars {
    /// What they show.
    pub title: String,
    /// What each part is.
    pub parts: Vec<String>,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Clone, Debug, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Bar {
    /// What it is of.
    pub name: String,
    /// The length of each part.
    pub parts: Vec<f64>,
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
