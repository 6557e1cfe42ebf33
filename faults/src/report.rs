//! The report of a run.

use crate::bounds::{ANSWER, stale_bound};
use crate::cell::RunSpec;
use crate::owner::Owner;
use crate::stage::{Evidence, Stage};
use crate::tap::{State, Status};
use registry_core::InstanceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The report of a run, as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)] // `--resume` reads reports with fewer figures
pub(crate) struct Report {
    /// Why the run is invalid: the fault had no effect, or the run was starved.
    pub(crate) invalid: Option<String>,
    /// Whether the run is invalid because its processes were not scheduled.
    pub(crate) starved: bool,
    /// The number of states that the views published.
    pub(crate) states: u64,
    /// The total time that live instances were missing in views.
    pub(crate) missing_ms: u64,
    /// How often a live instance was missing in a view.
    pub(crate) missing: u64,
    pub(crate) late_stale: u32,
    pub(crate) double_holders: u32,
    /// The number of stale views that the fault does not affect.
    pub(crate) disturbed: u32,
    /// The number of unlisted owners in a fault that does not affect them.
    pub(crate) lost: u32,
    /// How long after the heal owners were active and listed, sorted.
    pub(crate) returns_ms: Vec<u64>,
    pub(crate) bound_ms: u64,
    /// The number of returns later than the bound.
    pub(crate) late_returns: u32,
    /// Other failures.
    pub(crate) problems: Vec<String>,
    /// The evidence that the fault had an effect.
    pub(crate) proof: String,
    /// The number of owners that were unlisted at some time.
    pub(crate) unlisted: usize,
    /// How long after the start of the fault views were stale, sorted.
    pub(crate) stale_ms: Vec<u64>,
    /// How long after the heal the last view was live again.
    pub(crate) live_ms: u64,
    /// The maximum lag within a third of the ttl.
    pub(crate) lag_ms: u64,
}

/// A run, as stored in a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) spec: RunSpec,
    pub(crate) report: Report,
}

impl Report {
    pub(crate) fn invalid(why: String) -> Self {
        Self { invalid: Some(why), ..Self::default() }
    }

    /// Returns the failures of the run.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = self.problems.clone();
        let mut add = |is_wrong: bool, text: String| {
            if is_wrong {
                failures.push(text);
            }
        };
        let (ms, missing) = (self.missing_ms, self.missing);
        add(
            ms > 0,
            format!("live instances were missing in views {missing} times, {ms} ms in total"),
        );
        add(self.late_stale > 0, format!("{} views became stale too late", self.late_stale));
        add(self.double_holders > 0, format!("{} double holders", self.double_holders));
        add(self.disturbed > 0, format!("{} views became stale without a fault", self.disturbed));
        add(self.lost > 0, format!("{} owners became unlisted without a fault", self.lost));
        let (late, bound) = (self.late_returns, self.bound_ms);
        let worst = self.returns_ms.last().copied().unwrap_or_default();
        add(
            late > 0,
            format!("{late} owners returned too late, the last after {worst} ms, bound {bound} ms"),
        );
        failures
    }

    /// Judges a completed run.
    pub(crate) fn judge(stage: &Stage, evidence: &Evidence) -> Self {
        let end = Instant::now();
        let ttl = stage.ttl;
        let views: Vec<Vec<State>> = stage.all_taps().map(|tap| tap.finish()).collect();
        let mut report = Self {
            bound_ms: millis(evidence.bound),
            late_stale: evidence.late_stale,
            double_holders: evidence.double_holders,
            problems: evidence.problems.clone(),
            proof: evidence.proof.clone(),
            unlisted: stage
                .owners
                .iter()
                .filter(|one| stage.listing.absence(one.id()).is_some())
                .count(),
            lag_ms: millis(stage.lag.worst(ttl / 3)),
            ..Self::default()
        };
        let mut absences = Vec::new();
        for states in &views {
            let counted = states.iter().filter(|state| state.at >= stage.ready_at);
            report.states += counted.count() as u64;
            absences.extend(missing(states, end));
            report.live_ms = report.live_ms.max(millis(live_after(states, evidence.healed, end)));
        }
        report.missing = absences.len() as u64;
        report.missing_ms =
            absences.iter().map(|(from, until)| millis(*until - *from).max(1)).sum();
        let lag = |from: Instant, took: Duration| stage.lag.between(from, from + took);
        // Returns whether a time exceeds its bound, and counts the late times that scheduling lag alone may explain.
        let mut excused = 0;
        let mut is_late = |from: Instant, took: Duration, bound: Duration| {
            let over = took.saturating_sub(bound + ANSWER);
            let is_late = over > lag(from, took).min(tolerated(ttl));
            excused += u32::from(is_late && over <= lag(from, took));
            is_late
        };
        for (tap, states) in stage.all_taps().zip(&views) {
            if evidence.spared.iter().any(|one| Arc::ptr_eq(one, tap)) {
                let length = evidence.healed - evidence.began;
                let noticed = stale_after(states, evidence.began);
                report.disturbed += u32::from(noticed.is_some_and(|took| took <= length));
            } else if evidence.cut_views {
                let took = stale_after(states, evidence.began);
                let took = took.unwrap_or_else(|| evidence.healed - evidence.began);
                report.stale_ms.push(millis(took));
                report.late_stale += u32::from(is_late(evidence.began, took, stale_bound(ttl)));
            }
        }
        report.stale_ms.sort_unstable();
        if evidence.spares_owners {
            report.lost = u32::try_from(report.unlisted).unwrap_or(u32::MAX);
        }
        let owners = stage.owners.iter().map(|owner| returned(stage, owner, evidence, end));
        let records = evidence.returns.iter().map(|took| (evidence.healed, *took));
        for (from, took) in owners.chain(records) {
            report.returns_ms.push(millis(took));
            report.late_returns += u32::from(is_late(from, took, evidence.bound));
        }
        report.returns_ms.sort_unstable();
        // An owner that was not scheduled may lose its lease, and returns when it is scheduled.
        let is_excused = |(from, until): &(Instant, Instant)| {
            let before = from.checked_sub(ttl).unwrap_or(*from);
            *until - *from <= stage.lag.between(before, *until)
        };
        let is_certain = evidence.late_stale > 0 || !absences.iter().all(is_excused);
        report.invalidate_if_starved(excused, evidence.late_stale, is_certain, tolerated(ttl));
        report
    }

    /// Marks the run as invalid if lag may explain each failure.
    fn invalidate_if_starved(
        &mut self,
        excused: u32,
        early_live: u32,
        is_certain: bool,
        tolerated: Duration,
    ) {
        let late = self.late_returns + self.late_stale - early_live;
        let is_certain = is_certain || late > excused || !self.problems.is_empty();
        let too_much = self.lag_ms > millis(tolerated);
        let is_bad =
            self.missing_ms > 0 || self.double_holders > 0 || self.disturbed + self.lost > 0;
        let may_be_lag = too_much && is_bad || late > 0;
        if is_certain || !may_be_lag {
            return;
        }
        self.starved = true;
        self.invalid = Some(format!(
            "starved: the scheduling lag was up to {} ms in a third of the ttl, the limit is {} ms: {}",
            self.lag_ms,
            millis(tolerated),
            self.failures().join("; ")
        ));
    }
}

/// Returns the maximum lag within a third of the ttl, the interval of renewals, with which a failure still counts.
fn tolerated(ttl: Duration) -> Duration {
    (ttl / 6).max(Duration::from_millis(300))
}

/// Returns the intervals in which instances were missing in the states of a view.
fn missing(states: &[State], end: Instant) -> Vec<(Instant, Instant)> {
    let mut open = BTreeMap::<&InstanceId, Instant>::new();
    let mut absences = Vec::new();
    for state in states {
        open.retain(|id, from| {
            let is_missing = state.missing.contains(id);
            if !is_missing {
                absences.push((*from, state.at));
            }
            is_missing
        });
        for id in &state.missing {
            open.entry(id).or_insert(state.at);
        }
    }
    absences.extend(open.into_values().map(|from| (from, end)));
    absences
}

/// Returns how long after `began` a view was stale.
fn stale_after(states: &[State], began: Instant) -> Option<Duration> {
    let stale = |state: &&State| state.at >= began && state.status == Status::Stale;
    states.iter().find(stale).map(|state| state.at - began)
}

/// Returns how long after the heal a view was live.
fn live_after(states: &[State], healed: Instant, end: Instant) -> Duration {
    let until = |n: usize| states.get(n + 1).map_or(end, |next| next.at);
    let mut live = states.iter().enumerate().filter(|(_, state)| state.status == Status::Live);
    let first = live.find(|(n, _)| until(*n) > healed).map_or(end, |(_, state)| state.at);
    first.saturating_duration_since(healed)
}

/// Returns the start of the bound of an owner, and the time from then until the owner was active and listed for good,
/// or until the end if it never was.
fn returned(
    stage: &Stage,
    owner: &Owner,
    evidence: &Evidence,
    end: Instant,
) -> (Instant, Duration) {
    let (healed, absence) = (evidence.healed, stage.listing.absence(owner.id()));
    let deleted = absence.filter(|_| evidence.from_deletion).map(|absence| absence.since);
    let from = deleted.map_or(healed, |deleted| deleted.max(healed));
    let listed = absence.map_or(Some(from), |absence| absence.until);
    let back = listed.zip(owner.active_since(from)).map(|(listed, active)| listed.max(active));
    (from, back.unwrap_or(end).saturating_duration_since(from))
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(at: Instant, status: Status, missing: &[&str]) -> State {
        let missing = missing.iter().map(|id| id.parse().unwrap()).collect();
        State { at, status, len: 0, missing }
    }

    #[test]
    fn an_instance_is_missing_until_a_state_contains_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let live = Status::Live;
        let states = [
            state(at(0), live, &[]),
            state(at(10), live, &["a", "b"]),
            state(at(15), Status::Stale, &["b"]),
            state(at(20), live, &[]),
            state(at(30), live, &["b"]),
        ];
        let mut absences = missing(&states, at(100));
        absences.sort_unstable();
        assert_eq!(absences, [(at(10), at(15)), (at(10), at(20)), (at(30), at(100))]);
        assert_eq!(stale_after(&states, at(5)), Some(Duration::from_millis(10)));
        assert_eq!(stale_after(&states, at(16)), None);
        assert_eq!(live_after(&states, at(12), at(100)), Duration::ZERO);
        assert_eq!(live_after(&states, at(16), at(100)), Duration::from_millis(4));
    }

    #[test]
    fn every_figure_fails_a_run() {
        assert_eq!(Report::default().failures(), Vec::<String>::new());
        let bad = [
            Report { missing_ms: 1, ..Report::default() },
            Report { late_stale: 1, ..Report::default() },
            Report { double_holders: 1, ..Report::default() },
            Report { late_returns: 1, ..Report::default() },
            Report { disturbed: 1, ..Report::default() },
            Report { lost: 1, ..Report::default() },
            Report { problems: vec!["a fight".to_owned()], ..Report::default() },
        ];
        assert!(bad.iter().all(|report| report.failures().len() == 1));
    }
}
