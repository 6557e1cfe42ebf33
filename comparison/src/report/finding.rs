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

/// Figures as a plot and as a table.
#[derive(Clone, Debug, Serialize)]
pub struct Exhibit {
    pub title: String,
    /// On what they were taken, where it is not the same for all of the report.
    pub notes: Vec<String>,
    pub plot: Plot,
    pub head: Vec<String>,
    /// The rows of the table; the first cell names what the others are of.
    pub rows: Vec<Vec<String>>,
}

/// A plot: one bar beside the other, or lines over an axis.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plot {
    Bars(Bars),
    Lines(Lines),
}

/// Bars, each of parts on top of each other.
#[derive(Clone, Debug, Serialize)]
pub struct Bars {
    pub parts: Vec<String>,
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    pub name: String,
    pub parts: Vec<f64>,
}

/// Lines over an axis.
#[derive(Clone, Debug, Serialize)]
pub struct Lines {
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub name: String,
    /// The style of the page for it, 0 to 6.
    pub style: usize,
    pub points: Vec<(f64, f64)>,
}

/// An axis, from its first tick to its last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Axis {
    /// What it measures, and in what.
    pub name: String,
    /// Whether equal steps are equal factors.
    pub is_log: bool,
    /// Where something is written, in order.
    pub ticks: Vec<Tick>,
}

/// A place on an axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tick {
    pub at: f64,
    pub label: String,
}

impl Exhibit {
    /// With a plot, and no table yet.
    pub fn new(title: impl Into<String>, plot: Plot) -> Self {
        Self { title: title.into(), notes: Vec::new(), plot, head: Vec::new(), rows: Vec::new() }
    }

    /// The same with a table.
    #[must_use]
    pub fn with_table<S: ToString>(
        mut self,
        head: impl IntoIterator<Item = S>,
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Self {
        self.head = head.into_iter().map(|cell| cell.to_string()).collect();
        self.rows = rows.into_iter().collect();
        self
    }

    /// The same with what it was taken on.
    #[must_use]
    pub fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }
}

impl Plot {
    /// Bars of these parts.
    pub fn bars(parts: &[&str], bars: impl IntoIterator<Item = Bar>) -> Self {
        let parts = parts.iter().map(|part| (*part).to_owned()).collect();
        Self::Bars(Bars { parts, bars: bars.into_iter().collect() })
    }
}

impl Axis {
    /// From nothing to at least `most`, in some five steps of 1, 2 or 5 times a power of ten.
    pub fn linear(name: &str, most: f64) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / 5.0;
        let ten = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * ten).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let mut ticks = vec![Tick::number(0.0)];
        for n in (1..).map(f64::from) {
            ticks.push(Tick::number(n * step));
            if n * step >= most {
                break;
            }
        }
        Self { name: name.to_owned(), is_log: false, ticks }
    }

    /// From a power of ten below `least` to one above `most`, both of which are more than nothing.
    pub fn log(name: &str, least: f64, most: f64) -> Self {
        let power = |n: f64| 10f64.powf(n);
        let (from, to) = (least.log10().floor(), most.log10().ceil());
        let mut ticks = vec![Tick::number(power(from))];
        for n in (1..).map(f64::from) {
            ticks.push(Tick::number(power(from + n)));
            if from + n >= to {
                break;
            }
        }
        Self { name: name.to_owned(), is_log: true, ticks }
    }

    /// Of shares of all, with as much room between 90 and 99 percent as between 99 and 99.9: where a share
    /// is stands in [`Tick::of_share`].
    pub fn percentiles() -> Self {
        let tick =
            |share: f64, label: &str| Tick { at: Tick::of_share(share), label: label.into() };
        let ticks = [(0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9")];
        let ticks = ticks.map(|(share, label)| tick(share, label)).to_vec();
        Self { name: "percentile".to_owned(), is_log: false, ticks }
    }
}

impl Tick {
    /// Where a share of all is on an axis of [percentiles](Axis::percentiles).
    pub fn of_share(share: f64) -> f64 {
        -(1.0 - share).log10()
    }

    fn number(at: f64) -> Self {
        // 0.30000000000000004 is 0.3 to a reader.
        let label = format!("{at:.6}");
        Self { at, label: label.trim_end_matches('0').trim_end_matches('.').to_owned() }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| &*tick.label).collect()
    }

    #[test]
    fn an_axis_has_round_ticks_and_covers_all_values() {
        assert_eq!(labels(&Axis::linear("s", 17.0)), ["0", "5", "10", "15", "20"]);
        assert_eq!(labels(&Axis::linear("s", 0.9)), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels(&Axis::linear("s", 0.0)).first(), Some(&"0"));
        assert_eq!(
            labels(&Axis::log("ms", 0.03, 250.0)),
            ["0.01", "0.1", "1", "10", "100", "1000"]
        );
        assert_eq!(labels(&Axis::log("ms", 1.0, 1.0)), ["1", "10"]);
    }

    #[test]
    fn each_nine_takes_equal_space() {
        let at: Vec<f64> = Axis::percentiles().ticks.iter().map(|tick| tick.at).collect();
        assert!((at[3] - at[2] - (at[4] - at[3])).abs() < 1e-9, "{at:?}");
    }
}
