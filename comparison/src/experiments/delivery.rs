//! *Pub/sub is unsuitable for production*: an observer is paused while more is written than a server buffers for
//! it, or its server crashes and another takes over. Which changes does it miss, and can it detect that?

use super::deployment::{Deployment, Topology};
use super::observation::{self, Scores, observe_fault, share, spread, write_all};
use super::observers::{ObserverArm, Servers};
use super::score::Score;
use super::{Effort, Progress, side_by_side};
use crate::harness::{Change, Client, Spread, StoreOptions};
use crate::report::finding::{Advice, Choice, Finding, Verdict};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use registry_testbed::proxy::Fault;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::time::sleep;

/// The number of instances, which are updated in turn.
const INSTANCES: u8 = 50;
/// The payload of each instance in bytes while the observer is paused.
const PAYLOAD_LEN: usize = 4_000;
/// The time between two changes in a failover.
const INTERVAL: Duration = Duration::from_millis(5);
/// The time from when all observers follow until a server is killed.
const KILLED_AFTER: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Figures {
    pauses: Scores,
    failovers: Scores,
}

pub async fn run(at: StoreOptions, effort: Effort, progress: Progress<'_>) -> Result<Value> {
    let servers = Servers::start(at.clone()).await?;
    let once = async |arm: ObserverArm, round: u32| {
        pause(arm, &servers, &format!("delivery-{round}")).await.with_context(|| arm.name())
    };
    let pauses = side_by_side(&ObserverArm::ALL, effort, progress, once).await?;
    drop(servers);
    let changes = if effort.quick { 1_000 } else { 3_000 };
    let once = async |topology: Topology, _| fail_over(topology, &at, changes).await;
    let progress: Progress<'_> = &|what, share| progress(&format!("failover, {what}"), share);
    let rounds =
        side_by_side(&[Topology::Sentinel, Topology::Etcd], effort, progress, once).await?;
    let mut failovers = Scores::new();
    for (arm, score) in rounds.into_values().flatten().flatten() {
        failovers.entry(arm).or_default().push(score);
    }
    Ok(json!({ "pauses": pauses, "failovers": failovers }))
}

/// Writes more updates than Redis buffers for a subscriber (32 MB), while nothing is read from its connections.
async fn pause(arm: ObserverArm, servers: &Servers, service: &str) -> Result<Score> {
    let (clients, proxy) = arm.pair_via_proxy(servers, service, PAYLOAD_LEN).await?;
    // A write to etcd takes ten times as long, and etcd buffers nothing for a paused watch.
    let workload = workload(if arm.is_on_etcd() { 2_000 } else { 12_000 });
    let fault = async |writer: &mut dyn Client, rest: &[Change]| {
        proxy.inject(Fault::Blackhole);
        write_all(writer, rest, Duration::ZERO).await?;
        ensure!(proxy.hits().held_directions > 0, "invalid: no connection was paused");
        proxy.heal();
        Ok(())
    };
    observe_fault(clients, &workload, fault).await
}

/// Kills the primary or leader under the writes of all arms on it, and waits until another takes over.
async fn fail_over(
    topology: Topology,
    at: &StoreOptions,
    changes: u32,
) -> Result<Vec<(ObserverArm, Score)>> {
    let mut deployment = Deployment::start(topology, at).await?;
    let url = deployment.url();
    // The raw client of etcd knows only one member.
    let is_on_it = |arm: &ObserverArm| arm.is_on_etcd() == (topology == Topology::Etcd);
    let arms = ObserverArm::ALL.into_iter().filter(is_on_it);
    let arms: Vec<_> = arms.filter(|arm| *arm != ObserverArm::PlainEtcd).collect();
    let (all_follow, workload) = (Barrier::new(arms.len() + 1), workload(changes));
    let observing = arms.into_iter().map(async |arm| {
        let clients = arm.pair([&url, &url], "failover", 0).await?;
        let fault = async |writer: &mut dyn Client, rest: &[Change]| {
            all_follow.wait().await;
            write_all(writer, rest, INTERVAL).await
        };
        let score = observe_fault(clients, &workload, fault).await.with_context(|| arm.name())?;
        anyhow::Ok((arm, score))
    });
    let operator = async {
        let primary = deployment.primary().await?;
        all_follow.wait().await;
        sleep(KILLED_AFTER).await;
        deployment.kill(primary)?;
        ensure!(deployment.successor_of(primary).await? != primary, "invalid: nothing took over");
        Ok(())
    };
    Ok(tokio::try_join!(try_join_all(observing), operator)?.0)
}

fn workload(changes: u32) -> Vec<Change> {
    (1..=changes).map(|n| Change::round_robin(n, INSTANCES)).collect()
}

pub fn evaluate(raw: Value, effort: Effort) -> Result<Finding> {
    let Figures { pauses, failovers } = &Figures::deserialize(&raw)?;
    let undetected = |scores: &Scores, arm| spread(&scores[&arm], |score| score.undetected);
    let published = [ObserverArm::Publish, ObserverArm::PublishAndReread];
    let published = published.map(|arm| undetected(pauses, arm));
    let ours = [pauses, failovers].map(|scores| undetected(scores, ObserverArm::OursOnRedis));
    let verdict = judge(&published, &ours);
    let missed = share(&pauses[&ObserverArm::OursOnRedis], |score| score.missed);
    let told = match (ours[0].max > 0.0, missed.max > 0.0) {
        (true, _) => ", not all of it told",
        (false, true) => ", was told, and read everything again",
        (false, false) => "",
    };
    let exhibit = observation::exhibit("Changes missed by a paused observer", INSTANCES, pauses);
    let title = format!("Instances out of date after a pause, of {INSTANCES}");
    let mut plot = observation::plot(exhibit.clone(), &title, pauses);
    plot.notes.extend([
        "Missed: seen neither as a change nor in a full read. A keyspace notification carries no value, so its client reads only current values.".to_owned(),
        format!("Over a failover instead of a pause, pub/sub missed {} of {} changes.", spread(&failovers[&ObserverArm::Publish], |score| score.missed), failovers[&ObserverArm::Publish][0].written),
    ]);
    Ok(Finding {
        name: "delivery",
        claim: "Pub/sub is unsuitable for production",
        verdict,
        ruling: verdict.choose(["True of pub/sub, which this library does not use", "True of pub/sub, and of this library on Redis", "Not confirmed"]),
        headline: format!(
            "A paused pub/sub client missed {:.0} % of the changes and was not told; a paused client of the library on Redis missed {:.0} %{told}.",
            share(&pauses[&ObserverArm::Publish], |score| score.undetected).median,
            missed.median,
        ),
        plots: vec![plot],
        failed: None,
        advice: Advice::all([(verdict == Verdict::InPart, Advice::When(Choice::Etcd, "a client that is paused or lags must detect the changes that it missed".to_owned()))]),
        reason: verdict.choose([
            "A server disconnects a subscriber that lags, and the messages published meanwhile are lost, undetected. A stream that is read by position keeps them, or reports that they are trimmed.",
            "Paused subscribers miss what is published, and the library on Redis missed changes undetected, too.",
            "Paused subscribers did not miss changes undetected in every round.",
        ]).to_owned(),
        exhibits: vec![
            exhibit,
            observation::exhibit("Changes missed over a failover", INSTANCES, failovers),
        ],
        method: vec![
            format!("Paused: updates of {INSTANCES} instances of {PAYLOAD_LEN} bytes are written one after the other, while nothing is read from the observer's connections, as of a paused process. They are 48 MB, which is more than Redis buffers for a subscriber (client-output-buffer-limit pubsub 32mb 8mb 60); on etcd 8 MB, since each takes longer. A keyspace notification carries no value: all of them fit, and a client that receives them late reads only the current values."),
            "The library on Redis keeps 10,000 changes of a shard: a client that resumes after more is told that the history is compacted, and reads everything.".to_owned(),
            "Failover: the primary under Sentinel, and the leader of an etcd of three members, are killed under writes, one every 5 ms; a write that is not acknowledged is retried until it is. Subscribers find the primary through Sentinel and reconnect at once. The raw client of etcd knows one member, and takes no part.".to_owned(),
            "The experiment versioning tests disconnected subscribers.".to_owned(),
            "Median of the rounds, with minimum and maximum. Verdict: confirmed if paused subscribers miss changes undetected in every round, and the library on Redis never, neither paused nor over a failover; in part if it does, too; else refuted.".to_owned(),
        ],
        repeat: super::repeat("delivery", effort),
        raw,
    })
}

/// Judges by the undetected missed changes of paused subscribers, and of the library on Redis in both tests.
fn judge(published: &[Spread], ours: &[Spread]) -> Verdict {
    let misses = published.iter().all(|missed| missed.min > 0.0);
    Verdict::of(misses && ours.iter().all(|missed| missed.max <= 0.0), misses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_figures() {
        let [none, some, at_times] = [[0.0; 2], [3.0, 9.0], [0.0, 9.0]].map(Spread::of);
        assert_eq!(judge(&[some, some], &[none, none]), Verdict::Confirmed);
        assert_eq!(judge(&[some, some], &[none, some]), Verdict::InPart);
        assert_eq!(judge(&[some, at_times], &[none, none]), Verdict::Refuted);
    }
}
