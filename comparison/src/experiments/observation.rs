//! The changes that an observer misses while faults are injected.

use super::observers::ObserverArm;
use super::score::{Score, score};
use super::{poll, wait_until};
use crate::harness::{Change, Client, Event, EventLog, Spread, as_f64};
use crate::report::finding::{Exhibit, Plot};
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
            if seen.replace(log.borrow().len()) == Some(log.borrow().len()) {
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
    let is_seen = || log.borrow().iter().rev().any(|(_, seen)| seen == event);
    let missing = format!("the observer does not see {event:?}");
    wait_until(&missing, is_seen).await
}

fn score_of(written: &[Change], log: &EventLog) -> Score {
    score(written, log.borrow().iter().map(|(_, event)| event))
}

pub(super) fn spread(scores: &[Score], figure: fn(&Score) -> usize) -> Spread {
    Spread::of(scores.iter().map(|score| as_f64(figure(score))))
}

/// Returns a figure of an arm in percent of the written changes.
pub(super) fn share(scores: &[Score], figure: fn(&Score) -> usize) -> Spread {
    let share = |score: &Score| 100.0 * as_f64(figure(score)) / as_f64(score.written);
    Spread::of(scores.iter().map(share))
}

/// Returns a table of the missed changes in all rounds of each arm.
pub(super) fn exhibit(title: &str, instances: u8, scores: &Scores) -> Exhibit {
    let stale = format!("stale at the end, of {instances}");
    let columns = ["written", &stale, "missed", "undetected", "full reads", "resyncs"];
    let mut exhibit = Exhibit::new(title, &columns);
    for (arm, scores) in scores {
        let of = |figure| spread(scores, figure);
        let (written, missed) = (of(|score| score.written), of(|score| score.missed));
        let (undetected, stale) = (of(|score| score.undetected), of(|score| score.stale_at_end));
        let (rereads, resyncs) = (of(|score| score.rereads), of(|score| score.resyncs));
        exhibit.add(arm.name(), [written, stale, missed, undetected, rereads, resyncs]);
    }
    exhibit
}

/// Plots the instances that are stale at the end, and notes the missed changes. Leaves out the arms that received fewer.
pub(super) fn plot(mut exhibit: Exhibit, title: &str, scores: &Scores) -> Plot {
    let most = scores.values().flatten().map(|score| score.written).max().unwrap_or(0);
    let (shown, fewer) = exhibit.rows.into_iter().partition(|row| row[1] == most.to_string());
    exhibit.rows = shown;
    let mut plot = exhibit.plot(title.to_owned(), 1, |row| match row[2..4] {
        ["0", _] => format!("missed none of {most} changes"),
        [missed, "0"] => format!("missed {missed} of {most} changes, was told"),
        [missed, ..] => format!("missed {missed} of {most} changes, was not told"),
        [] => String::new(),
    });
    let fewer = fewer.iter().map(|row: &Vec<String>| format!("{} received {}", row[0], row[1]));
    let fewer = fewer.collect::<Vec<_>>().join(", ");
    if !fewer.is_empty() {
        plot.notes.push(format!("Left out, since the others received {most} changes: {fewer}."));
    }
    plot
}
