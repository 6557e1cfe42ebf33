//! *Pub/sub is unsuitable for production*: an observer is paused while more is written than a server buffers for
//! it, or its server crashes and another takes over. Which changes does it miss, and can it detect that?

mod failover;

use super::observers::{ObserverArm, Servers};
use super::score::{Score, score};
use super::versioning::{CONVERGENCE_TIMEOUT, wait_until_converged};
use super::{Effort, Progress, side_by_side, with_timeout};
use crate::harness::{
    ArmOptions, Change, EventLog, Link, OpenArm, Spread, StoreOptions, Writer, as_f64,
};
use crate::report::finding::{Bar, Exhibit, Finding, Plot, Verdict};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::{LocalSet, yield_now};
use tokio::time::sleep;

/// How many instances there are.
const INSTANCES: u8 = 50;

/// How many bytes each instance carries.
const PAYLOAD_LEN: usize = 4_000;

/// The result of one observer in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// How it did.
    #[serde(flatten)]
    pub score: Score,
    /// How many connections or watches were paused.
    pub paused: u64,
}

/// All rounds of each arm.
pub type Runs = BTreeMap<ObserverArm, Vec<Run>>;

/// The rounds of each arm over a failover.
type Failovers = BTreeMap<ObserverArm, Vec<Score>>;

/// Runs the experiment.
pub async fn run(at: StoreOptions, effort: Effort, progress: Progress<'_>) -> Result<Finding> {
    let servers = Servers::start(at.clone()).await?;
    let once = async |arm: ObserverArm, round: u32| {
        let name = format!("delivery-{round}");
        let opened = arm
            .open(&servers, ArmOptions { name: &name, payload_len: PAYLOAD_LEN, via_proxy: true })
            .await?;
        pause(opened, &workload(arm)).await.with_context(|| arm.name())
    };
    let pauses = side_by_side(
        &ObserverArm::UNDER_FAULTS,
        effort,
        &|what, share| progress(what, share / 2.0),
        once,
    )
    .await?;
    drop(servers);
    let changes = if effort.quick { 1_000 } else { 3_000 };
    let mut failovers = BTreeMap::<_, Vec<_>>::new();
    for round in 0..effort.rounds {
        let share = 0.5 + f64::from(round) / f64::from(effort.rounds) / 2.0;
        progress(&format!("failover, round {} of {}", round + 1, effort.rounds), share);
        for (arm, score) in with_timeout(Box::pin(failover::once(&at, changes))).await? {
            failovers.entry(arm).or_default().push(score);
        }
    }
    Ok(finding(&pauses, &failovers, effort))
}

/// Returns more updates than a server buffers for a subscriber (32 MB) and the kernel beside it, in a round robin
/// of the instances.
fn workload(arm: ObserverArm) -> Vec<Change> {
    // etcd takes ten times as long for each, and buffers nothing for a paused watch.
    let changes = if arm == ObserverArm::OursOnEtcd { 2_000 } else { 12_000 };
    (1..=changes).map(|n| Change::round_robin(n, INSTANCES)).collect()
}

async fn pause(opened: OpenArm, workload: &[Change]) -> Result<Run> {
    let OpenArm { mut writer, observer, log, link } = opened;
    let observing = LocalSet::new();
    observing.spawn_local(observer);
    let paused = observing.run_until(write_meanwhile(&mut *writer, &link, workload, &log)).await?;
    ensure!(paused > 0, "invalid: no connection was paused");
    Ok(Run { score: score(workload, &log.events()), paused })
}

/// Writes most of the workload while the link is paused. Returns how many connections or watches were paused.
async fn write_meanwhile(
    writer: &mut dyn Writer,
    link: &Link,
    workload: &[Change],
    log: &EventLog,
) -> Result<u64> {
    const BEFORE_PAUSE: usize = 100;
    sleep(Duration::from_millis(300)).await; // it connects
    for change in &workload[..BEFORE_PAUSE] {
        writer.write(*change).await?;
    }
    // What an observer misses proves nothing if it does not even follow without faults.
    let converged = wait_until_converged(&workload[..BEFORE_PAUSE], log, CONVERGENCE_TIMEOUT).await;
    ensure!(converged, "invalid: the observer does not follow without faults");
    let before = link.hits();
    link.pause();
    for change in &workload[BEFORE_PAUSE..] {
        writer.write(*change).await?;
        // Memory answers at once: without this, the calls of the other arms would be late by all of these.
        yield_now().await;
    }
    let paused = link.hits() - before;
    link.heal();
    let _converged = wait_until_converged(workload, log, CONVERGENCE_TIMEOUT).await; // some never converge: that is a result
    Ok(paused)
}

/// Evaluates the figures.
fn finding(pauses: &Runs, failovers: &Failovers, effort: Effort) -> Finding {
    let pauses_of = |arm: ObserverArm| pauses[&arm].iter().map(|run| run.score).collect();
    let failovers_of = |arm: ObserverArm| failovers[&arm].clone();
    let undetected = |scores: Vec<Score>| spread(&scores, |score| score.undetected);
    let published =
        [ObserverArm::Publish, ObserverArm::PublishAndReread].map(pauses_of).map(undetected);
    let ours = undetected(pauses_of(ObserverArm::OursOnRedis));
    let ours_in_failover = undetected(failovers_of(ObserverArm::OursOnRedis));
    let verdict = judge(&published, &[ours, ours_in_failover]);
    Finding {
        name: "delivery",
        claim: "pub/sub is unsuitable for production",
        verdict,
        figure: format!(
            "undetected missed changes of a paused observer: a subscriber {} of {}, the registry on Redis {ours}, on etcd {}; over a failover: a subscriber {}, the registry on Redis {ours_in_failover}, on etcd {}",
            published[0],
            spread(&pauses_of(ObserverArm::Publish), |score| score.written),
            undetected(pauses_of(ObserverArm::OursOnEtcd)),
            undetected(failovers_of(ObserverArm::Publish)),
            undetected(failovers_of(ObserverArm::OursOnEtcd)),
        ),
        reason: match verdict {
            Verdict::Confirmed => "A server disconnects a subscriber that lags, and the messages published meanwhile are lost, undetected. A stream that is read by position keeps them, or reports that they are trimmed.",
            Verdict::InPart => "Paused subscribers miss what is published, and the registry on Redis missed changes undetected, too.",
            Verdict::Refuted => "Paused subscribers did not miss changes undetected in every round.",
        }
        .to_owned(),
        exhibits: vec![
            exhibit("Changes missed by a paused observer", &ObserverArm::UNDER_FAULTS, pauses_of),
            exhibit("Changes missed over a failover", &failover::ARMS, failovers_of),
        ],
        method: vec![
            format!("Paused: updates of {INSTANCES} instances of {PAYLOAD_LEN} bytes are written one after the other, while nothing is read from the observer's connections, as of a paused process. They are 48 MB, which is more than Redis buffers for a subscriber (client-output-buffer-limit pubsub 32mb 8mb 60); on etcd 8 MB, since each takes longer. A keyspace notification carries no value: all of them fit, and a client that receives them late reads only the current values."),
            "The registry on Redis keeps 10,000 changes of a shard: a client that resumes after more is told that the history is compacted, and reads everything.".to_owned(),
            "Failover: the primary under Sentinel, and the leader of an etcd of three members, are killed under writes, one every 5 ms; a write that is not acknowledged is retried until it is. Subscribers find the primary through Sentinel and reconnect at once.".to_owned(),
            "The experiment versioning tests disconnected subscribers.".to_owned(),
            "Median of the rounds, with minimum and maximum. Verdict: confirmed if paused subscribers miss changes undetected in every round, and the registry on Redis never, neither paused nor over a failover; in part if it does, too; else refuted.".to_owned(),
        ],
        repeat: super::repeat("delivery", effort),
        raw: json!({ "pauses": pauses, "failovers": failovers }),
    }
}

fn spread(scores: &[Score], figure: fn(&Score) -> usize) -> Spread {
    Spread::of(scores.iter().map(|score| as_f64(figure(score))))
}

fn exhibit(
    title: &str,
    all: &[ObserverArm],
    scores: impl Fn(ObserverArm) -> Vec<Score>,
) -> Exhibit {
    let row = |arm: &ObserverArm| {
        let of = |figure| spread(&scores(*arm), figure).to_string();
        vec![
            arm.name().to_owned(),
            of(|score| score.written),
            of(|score| score.missed),
            of(|score| score.undetected),
            of(|score| score.resyncs),
            of(|score| score.stale_at_end),
        ]
    };
    let bar = |arm: &ObserverArm| {
        let of = |figure| spread(&scores(*arm), figure).median;
        let detected = of(|score| score.missed - score.undetected);
        Bar { name: arm.name().to_owned(), parts: vec![of(|score| score.undetected), detected] }
    };
    let head = ["", "written", "missed", "undetected", "resyncs", "stale at the end"];
    let plot = Plot::bars(&["undetected", "detected"], all.iter().map(bar));
    Exhibit::new(title, plot).with_table(head, all.iter().map(row))
}

/// Judges by the undetected missed changes: of paused subscribers, and of the registry on Redis at any time.
fn judge(published: &[Spread], ours: &[Spread]) -> Verdict {
    if published.iter().any(|spread| spread.min <= 0.0) {
        Verdict::Refuted
    } else if ours.iter().any(|spread| spread.max > 0.0) {
        Verdict::InPart
    } else {
        Verdict::Confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_figures() {
        let spread = |min, max| Spread { median: min, min, max };
        let (none, some) = (spread(0.0, 0.0), spread(3.0, 9.0));
        assert_eq!(judge(&[some, some], &[none, none]), Verdict::Confirmed);
        assert_eq!(judge(&[some, some], &[none, some]), Verdict::InPart);
        assert_eq!(judge(&[some, spread(0.0, 9.0)], &[none, none]), Verdict::Refuted);
    }
}
