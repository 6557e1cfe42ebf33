//! The report of a run, and its comparison with Go.

use crate::event::What;
use crate::exceptions::reason;
use crate::figures::Figures;
use crate::keys;
use crate::schedules;
use crate::spec::{Language, RunSpec};
use crate::stage::Stage;
use crate::store::PREFIX;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use tokio::time::Instant;

/// The milliseconds by which a time of a pairing with Rust may exceed the time of Go with Go.
pub(crate) const MARGIN_MS: u64 = 100;

/// The number of calls within [`MARGIN_MS`]. A service without keys may lose that many more calls than Go with Go.
const MARGIN_CALLS: u64 = MARGIN_MS / 5;

/// The maximum lag of all processes with which failures count, as a multiple of the time of the run.
const TOLERATED_LAG: u32 = 1;

/// The report of a run, as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)] // `--resume` reads reports with fewer figures
pub(crate) struct Report {
    /// Why the run is invalid.
    pub(crate) invalid: Option<String>,
    /// Whether the run is invalid because its processes were not scheduled.
    pub(crate) starved: bool,
    /// The pairings. The first one is the reference: Go with Go.
    pub(crate) pairings: Vec<Pairing>,
    /// Errors in our keys, or in the lists of a Go subscriber.
    pub(crate) problems: Vec<String>,
    /// Observations about go-zero, which do not fail the run.
    pub(crate) notes: Vec<String>,
    pub(crate) lag_ms: u64,
}

/// Servers and a caller, with their figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pairing {
    /// `go`, `rust` or `mixed`.
    pub(crate) servers: String,
    pub(crate) caller: Language,
    pub(crate) figures: Figures,
}

/// A run, as stored in a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) spec: RunSpec,
    pub(crate) report: Report,
}

/// A compared figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Lost,
    Gap,
    Gone,
    Found,
    Back,
}

/// A figure of a pairing with Rust that is worse than the figure of Go with Go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) figure: Figure,
    pub(crate) ours: u64,
    pub(crate) bound: u64,
}

/// Executes a run.
pub(crate) async fn execute(mut stage: Stage) -> Result<Report> {
    let mut report = Report::default();
    report.problems.extend(keys::problems(&mut stage, &mut report.notes).await?);
    let began = Instant::now();
    let mut marks = schedules::run(&mut stage).await?;
    stage.finish(&mut marks).await?;
    let lag = stage.lag.between(began, Instant::now());
    report.lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
    report.problems.extend(keys::problems(&mut stage, &mut report.notes).await?);
    for (fleet, marks) in stage.fleets.iter().zip(&marks) {
        report.problems.extend(marks.problems.iter().cloned());
        for event in fleet.strange_lists() {
            if let What::Endpoints { list } = event.what {
                report.problems.push(format!(
                    "the Go subscriber of {} saw an unknown endpoint: {list:?}",
                    fleet.key
                ));
            }
        }
        report.pairings.extend(fleet.callers.iter().map(|caller| Pairing {
            servers: fleet.key.trim_start_matches(PREFIX).to_owned(),
            caller: caller.language,
            figures: Figures::evaluate(&caller.program.events(), marks),
        }));
    }
    if lag > began.elapsed() * TOLERATED_LAG && report.is_bad(&stage.spec) {
        report.starved = true;
        report.invalid = Some(format!("starved: the scheduling lag was {} ms", report.lag_ms));
    }
    Ok(report)
}

impl Report {
    pub(crate) fn invalid(why: String) -> Self {
        Self { invalid: Some(why), ..Self::default() }
    }

    /// Returns the compared pairings with their failures.
    pub(crate) fn compared(&self, spec: &RunSpec) -> Vec<(&Pairing, Vec<Failure>)> {
        let Some((reference, ours)) = self.pairings.split_first() else { return Vec::new() };
        let reference = &reference.figures;
        let margin = if spec.schedule.unlists_all() { MARGIN_CALLS } else { 0 };
        ours.iter().map(|one| (one, one.figures.failures(reference, margin))).collect()
    }

    /// Returns whether there is a failure that is not an exception.
    pub(crate) fn is_bad(&self, spec: &RunSpec) -> bool {
        let is_failed = |(pairing, failures): &(&Pairing, Vec<Failure>)| {
            failures.iter().any(|one| reason(spec, pairing, one.figure).is_none())
        };
        !self.problems.is_empty() || self.compared(spec).iter().any(is_failed)
    }
}

impl Figures {
    /// Returns the figures that are worse than those of Go with Go. The pairing may lose `margin` more calls.
    pub(crate) fn failures(&self, reference: &Self, margin: u64) -> Vec<Failure> {
        let time = |ours: Option<u64>, go: Option<u64>| ours.zip(go.map(|go| go + MARGIN_MS));
        let figures = [
            (Figure::Lost, Some((self.lost, reference.lost + self.under_way + margin))),
            (Figure::Gap, time(Some(self.gap_ms), Some(reference.gap_ms))),
            (Figure::Gone, time(self.gone_ms, reference.gone_ms)),
            (Figure::Found, time(self.found_ms, reference.found_ms)),
            (Figure::Back, time(self.back_ms, reference.back_ms)),
        ];
        let worse = figures.into_iter().filter_map(|(figure, pair)| {
            let (ours, bound) = pair.filter(|(ours, bound)| ours > bound)?;
            Some(Failure { figure, ours, bound })
        });
        worse.collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figure, ours, bound } = self;
        match figure {
            Figure::Lost => write!(f, "{ours} calls lost, bound {bound}"),
            Figure::Gap => write!(f, "no response for {ours} ms, bound {bound} ms"),
            Figure::Gone => write!(f, "called for {ours} ms after it stopped, bound {bound} ms"),
            Figure::Found => write!(f, "not called for {ours} ms, bound {bound} ms"),
            Figure::Back => write!(f, "a key was missing for {ours} ms, bound {bound} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_worse_than_go_with_go_fails() {
        let go = Figures { lost: 1, gap_ms: 20, gone_ms: Some(5), ..Figures::default() };
        let ours = Figures { lost: 2, under_way: 1, gap_ms: 120, ..go.clone() };
        assert_eq!(ours.failures(&go, 0), []);
        let ours = Figures { lost: 3, gap_ms: 121, gone_ms: Some(106), ..ours };
        let worse: Vec<Figure> = ours.failures(&go, 0).iter().map(|one| one.figure).collect();
        assert_eq!(worse, [Figure::Lost, Figure::Gap, Figure::Gone]);
    }

    #[test]
    fn a_figure_without_a_reference_is_not_compared() {
        let ours = Figures { back_ms: Some(9_000), ..Figures::default() };
        assert_eq!(ours.failures(&Figures::default(), 0), []);
    }
}
