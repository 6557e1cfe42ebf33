//! The latency of a change: the time from when it is due until an observer sees it.

use super::super::observation::{observe, wait_for};
use super::super::observers::{ObserverArm, Servers};
use super::super::{Effort, Progress, with_timeout};
use super::Percentiles;
use crate::harness::{Change, Client, Event, EventLog, Level, StoreOptions};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

/// The time between two changes. A single writer keeps up, except on a slow disk.
pub(super) const INTERVAL: Duration = Duration::from_millis(10);
/// The number of instances, which are updated in turn.
const INSTANCES: u8 = 50;
/// The payload of each instance in bytes, beside its value.
pub(super) const PAYLOAD_LEN: usize = 256;
/// The timer has a resolution of 1 ms, so the end of a wait is a busy loop.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// The result of one arm in one round.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Run {
    /// From when a change was due to when the observer saw it.
    pub(super) seen: Percentiles,
    /// From when a change was due to when it was acknowledged.
    pub(super) acknowledged: Percentiles,
    /// Whether the writer kept up with the schedule. If not, the figures mostly show queueing.
    pub(super) kept_up: bool,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct AtLevel {
    /// The servers, how they persist a write, and why etcd takes no part.
    pub(super) servers: Vec<String>,
    /// All rounds of each arm at this level.
    pub(super) runs: BTreeMap<ObserverArm, Vec<Run>>,
}

pub(super) async fn run(
    at: &StoreOptions,
    effort: Effort,
    progress: Progress<'_>,
) -> Result<BTreeMap<Level, AtLevel>> {
    let changes = if effort.quick { 100 } else { 600 };
    let mut levels = BTreeMap::new();
    for level in Level::ALL {
        let mut servers = Servers::start(level.servers(at)?).await?;
        let mut found = AtLevel { servers: servers.descriptions(), runs: BTreeMap::new() };
        if let Some(why) = level.unsupported_by(&found.servers[1]) {
            servers.etcd = None;
            found.servers[1] = format!("not on etcd: {why}");
        }
        // A full read after a reconnect makes no difference where nothing disconnects.
        let takes_part =
            |arm: &ObserverArm| *arm != ObserverArm::PublishAndReread && servers.url(*arm).is_ok();
        let mut arms: Vec<_> = ObserverArm::ALL.into_iter().filter(takes_part).collect();
        for round in 0..effort.rounds {
            let share = f64::from(round) / f64::from(effort.rounds);
            progress(&format!("pushes, {}, round {}", level.name(), round + 1), share);
            for arm in &arms {
                let url = servers.url(*arm)?;
                let clients = arm.pair([url, url], &format!("pushes-{round}"), PAYLOAD_LEN).await?;
                let pushing =
                    observe(clients, async |writer, log| push(writer, log, changes).await);
                let run = with_timeout(pushing).await.with_context(|| arm.name())?;
                found.runs.entry(*arm).or_default().push(run);
            }
            arms.rotate_left(1); // no arm is always first
        }
        levels.insert(level, found);
    }
    Ok(levels)
}

/// Writes each change when it is due, regardless of how long the previous one took.
async fn push(writer: &mut dyn Client, log: &EventLog, changes: u32) -> Result<Run> {
    let change = |n: u32| Change::round_robin(n, INSTANCES);
    let first = u32::from(INSTANCES) + 1;
    for n in 1..first {
        writer.write(change(n)).await?; // a registration, which is not measured
    }
    let (mut acknowledged, mut due) = (Vec::new(), Vec::new());
    let start = Instant::now() + INTERVAL;
    for n in 0..changes {
        let at = start + INTERVAL * n;
        wait_until(at).await;
        writer.write(change(first + n)).await?;
        acknowledged.push(at.elapsed());
        due.push((change(first + n), at));
    }
    let kept_up = start.elapsed() < INTERVAL * (changes + 5);
    let last = Event::Change(change(first + changes - 1));
    wait_for(log, &last).await?;
    let seen = Percentiles::of(latencies(&due, &log.borrow())?);
    Ok(Run { seen, acknowledged: Percentiles::of(acknowledged), kept_up })
}

async fn wait_until(at: Instant) {
    sleep_until(at - TIMER_SLACK).await;
    while Instant::now() < at {
        yield_now().await;
    }
}

/// Returns the latency of each change. A later change of the same instance counts, too.
fn latencies(due: &[(Change, Instant)], events: &[(Instant, Event)]) -> Result<Vec<Duration>> {
    let latency = |(change, due): &(Change, Instant)| {
        let seen = events.iter().find(|(_, event)| {
            matches!(event, Event::Change(seen) if seen.id == change.id && seen.value >= change.value)
        });
        let (at, _) = seen.with_context(|| format!("{change:?} was never seen"))?;
        ensure!(at >= due, "{change:?} was seen before it was written");
        Ok(*at - *due)
    };
    due.iter().map(latency).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superseded_change_is_seen_with_its_successor() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let change = |id, value| Change { id, value: Some(value) };
        let due = [(change(1, 1), at(0)), (change(2, 2), at(5)), (change(1, 3), at(10))];
        let seen = [(at(7), change(2, 2)), (at(12), change(1, 3))];
        let seen = seen.map(|(at, change)| (at, Event::Change(change)));
        let latencies = |seen: &[_]| latencies(&due, seen);
        let expected = [12, 2, 2].map(Duration::from_millis);
        assert_eq!(latencies(&seen).unwrap(), expected);
        assert!(latencies(&seen[..1]).unwrap_err().to_string().contains("never seen"));
    }
}
