//! The changes that an observer misses while faults are injected.

use super::observers::ObserverArm;
use super::score::{Score, score};
use super::{poll, wait_until};
use crate::harness::{Change, Client, Event, EventLog, Spread, as_f64};
use crate::report::finding::Exhibit;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// The number of changes before the fault.
const BEFORE_FAULT: usize = 100;

/// All rounds of each arm.
pub(super) type Scores = BTreeMap<ObserverArm, Vec<Score>>;

/// An observer that sees no event for this long after the fault counts as not converging.
const SILENCE: Duration = Duration::from_secs(5);

/// Runs `work` with the writer while the observer follows the service.
pub(super) async fn observe<T>(
    [mut writer, observer]: [Box<dyn Client>; 2],
    work: impl AsyncFnOnce(&mut dyn Client, &EventLog) -> Result<T>,
) -> Result<T> {
    let log = EventLog::default();
    let work = async {
        wait_for(&log, &Event::Watching).await?;
        work(&mut *writer, &log).await
    };
    tokio::select! {
        never = observer.follow(&log) => match never {},
        outcome = work => outcome,
    }
}

/// Writes the start of a workload without faults and the rest during one, and scores the observer.
pub(super) async fn observe_fault(
    clients: [Box<dyn Client>; 2],
    workload: &[Change],
    fault: impl AsyncFnOnce(&mut dyn Client, &[Change]) -> Result<()>,
) -> Result<Score> {
    observe(clients, async |writer, log| {
        let (first, rest) = workload.split_at(BEFORE_FAULT);
        write_all(writer, first, Duration::ZERO).await?;
        // Missed changes prove nothing about an observer that does not follow without faults either.
        converge(first, log).await.context("the observer does not follow without faults")?;
        fault(writer, rest).await?;
        let mut seen = None;
        while timeout(SILENCE, converge(workload, log)).await.is_err() {
            // An observer that never converges is a result, not an error.
            if seen.replace(log.events().len()) == Some(log.events().len()) {
                break;
            }
        }
        Ok(score_of(workload, log))
    })
    .await
}

/// Writes the changes one after the other, each when it is due, and retries each until it is acknowledged.
pub(super) async fn write_all(
    writer: &mut dyn Client,
    changes: &[Change],
    interval: Duration,
) -> Result<()> {
    let start = Instant::now();
    for (change, n) in changes.iter().zip(0..) {
        sleep_until(start + interval * n).await;
        poll("no write is acknowledged", async || writer.write(*change).await.ok()).await?;
    }
    Ok(())
}

/// Waits until the observer has the current value of every instance.
async fn converge(written: &[Change], log: &EventLog) -> Result<()> {
    let has_converged = || score_of(written, log).stale_at_end == 0;
    wait_until("the observer does not converge", has_converged).await
}

/// Waits until the observer has seen an event. Searches from the latest, which is faster.
pub(super) async fn wait_for(log: &EventLog, event: &Event) -> Result<()> {
    let is_seen = || log.events().iter().rev().any(|(_, seen)| seen == event);
    let missing = format!("the observer does not see {event:?}");
    wait_until(&missing, is_seen).await
}

fn score_of(written: &[Change], log: &EventLog) -> Score {
    score(written, log.events().iter().map(|(_, event)| event))
}

pub(super) fn spread(scores: &[Score], figure: fn(&Score) -> usize) -> Spread {
    Spread::of(scores.iter().map(|score| as_f64(figure(score))))
}

/// Returns the undetected missed changes of an arm, in percent of the written ones.
pub(super) fn undetected_share(scores: &Scores, arm: ObserverArm) -> Spread {
    let share = |score: &Score| 100.0 * as_f64(score.undetected) / as_f64(score.written);
    Spread::of(scores[&arm].iter().map(share))
}

/// Plots the undetected missed changes of the arms that people choose from.
pub(super) fn picture(title: &str, scores: &Scores) -> Exhibit {
    let arms = [ObserverArm::Publish, ObserverArm::Keyspace, ObserverArm::OursOnRedis];
    let arms = arms.into_iter().chain([ObserverArm::OursOnEtcd]);
    let bar = |arm: ObserverArm| (arm.name(), undetected_share(scores, arm).rounded(1).median);
    Exhibit::picture(title, arms.map(bar))
}

/// Returns a table of the missed changes in all rounds of each arm.
pub(super) fn exhibit(title: &str, scores: &Scores) -> Exhibit {
    let columns = ["written", "missed", "undetected", "full reads", "resyncs", "stale at the end"];
    let mut exhibit = Exhibit::new(title, &columns, &["undetected", "detected"]);
    for (arm, scores) in scores {
        let of = |figure| spread(scores, figure);
        let (written, missed) = (of(|score| score.written), of(|score| score.missed));
        let (undetected, stale) = (of(|score| score.undetected), of(|score| score.stale_at_end));
        let (rereads, resyncs) = (of(|score| score.rereads), of(|score| score.resyncs));
        let bar = [undetected.median, of(|score| score.missed - score.undetected).median];
        exhibit.add(arm.name(), [written, missed, undetected, rereads, resyncs, stale], bar);
    }
    exhibit
}
