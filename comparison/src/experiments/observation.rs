//! What an observer misses while faults are injected.

use super::observers::ObserverArm;
use super::score::{Score, score};
use super::{poll, wait_until};
use crate::harness::{Change, Client, Event, EventLog, Spread, as_f64};
use crate::report::finding::Exhibit;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// How many changes are written before the fault.
const BEFORE_FAULT: usize = 100;

/// An observer that sees nothing for so long after the fault does not converge any more.
const SILENCE: Duration = Duration::from_secs(5);

/// Follows a service with an observer while something is done with the writer.
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
        // What an observer misses proves nothing if it does not even follow without faults.
        converge(first, log).await.context("it does not even follow without faults")?;
        fault(writer, rest).await?;
        let mut seen = None;
        while timeout(SILENCE, converge(workload, log)).await.is_err() {
            // Some observers never converge: that is a result.
            if seen.replace(log.events().len()) == Some(log.events().len()) {
                break;
            }
        }
        Ok(score_of(workload, log))
    })
    .await
}

/// Writes one change after the other, each when it is due, and retries it until it is acknowledged.
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

/// Waits until the observer has seen something, which is looked for from the last.
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

/// Shows what was missed in all rounds of each arm.
pub(super) fn exhibit(title: &str, scores: &BTreeMap<ObserverArm, Vec<Score>>) -> Exhibit {
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
