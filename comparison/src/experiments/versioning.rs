//! *Redis lacks versioning*: an observer is disconnected repeatedly while instances are registered, updated and
//! deregistered. Which changes does it miss, and can it detect that?

use super::observation::{self, Scores, observe_fault, share, spread, write_all};
use super::observers::{ObserverArm, Servers};
use super::{Effort, Progress, side_by_side};
use crate::harness::{Change, Client, Spread, StoreOptions};
use crate::report::finding::{Advice, Choice, Finding, Verdict};
use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use registry_testbed::proxy::{Fault, Proxy};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

/// The maximum number of instances.
const INSTANCES: u8 = 50;
/// The time between two changes.
const INTERVAL: Duration = Duration::from_millis(2);

pub async fn run(at: StoreOptions, effort: Effort, progress: Progress<'_>) -> Result<Value> {
    let servers = Servers::start(at).await?;
    let changes = if effort.quick { 1_000 } else { 10_000 };
    let once = async |arm: ObserverArm, round: u32| {
        let seed = effort.seed.wrapping_add(round.into());
        let (clients, proxy) =
            arm.pair_via_proxy(&servers, &format!("versioning-{round}"), 0).await?;
        let workload = workload(seed, changes);
        let fault = async |writer: &mut dyn Client, rest: &[Change]| {
            tokio::select! {
                written = write_all(writer, rest, INTERVAL) => written?,
                () = cut_repeatedly(&proxy, seed) => {}
            }
            proxy.heal();
            ensure!(proxy.hits().reset > 0, "invalid: no cut took effect");
            Ok(())
        };
        observe_fault(clients, &workload, fault).await.with_context(|| arm.name())
    };
    Ok(json!(side_by_side(&ObserverArm::ALL, effort, progress, once).await?))
}

/// Returns random registrations, updates and deregistrations.
fn workload(seed: u64, changes: u32) -> Vec<Change> {
    let mut random = Rng::with_seed(seed);
    let mut there = [false; INSTANCES as usize];
    let change = |value| {
        let id = random.u8(..INSTANCES);
        let is_there = &mut there[usize::from(id)];
        let goes = *is_there && random.u8(..4) == 0;
        *is_there = !goes;
        Change { id, value: (!goes).then_some(value) }
    };
    (1..=changes).map(change).collect()
}

/// Repeatedly resets all connections and refuses new ones for a while.
async fn cut_repeatedly(proxy: &Proxy, seed: u64) {
    let mut random = Rng::with_seed(seed ^ 0x9e37_79b9_7f4a_7c15);
    loop {
        sleep(Duration::from_millis(200)).await;
        proxy.inject(Fault::Refuse);
        proxy.reset();
        sleep(Duration::from_millis(random.u64(50..500))).await;
        proxy.heal();
    }
}

pub fn evaluate(raw: Value, effort: Effort) -> Result<Finding> {
    let scores = Scores::deserialize(&raw)?;
    let undetected = |arm: &ObserverArm| spread(&scores[arm], |score| score.undetected);
    let written = scores[&ObserverArm::Publish][0].written;
    let plain = scores.keys().filter(|arm| arm.is_plain_redis());
    let plain: Vec<Spread> = plain.map(undetected).collect();
    let verdict = judge(&plain, undetected(&ObserverArm::OursOnRedis));
    let exhibit =
        observation::exhibit("Changes missed by a disconnected observer", INSTANCES, &scores);
    let title = format!("Instances out of date after disconnects, of {INSTANCES}");
    Ok(Finding {
        name: "versioning",
        claim: "Redis lacks versioning",
        verdict,
        ruling: verdict.choose(["True, with this library too", "True of plain Redis, false with this library", "Not confirmed"]),
        headline: format!(
            "A plain pub/sub client that was disconnected repeatedly missed {:.0} % of the changes, could not tell, and ended with {} of {INSTANCES} instances out of date; the library on Redis missed {}.",
            share(&scores[&ObserverArm::Publish], |score| score.undetected).median,
            spread(&scores[&ObserverArm::Publish], |score| score.stale_at_end).median,
            share(&scores[&ObserverArm::OursOnRedis], |score| score.missed).at_most("%"),
        ),
        plots: vec![observation::plot(exhibit.clone(), &title, &scores)],
        failed: None,
        advice: Advice::all([(verdict == Verdict::Confirmed, Advice::When(Choice::Etcd, "a client must detect the changes that it missed while it was disconnected".to_owned()))]),
        reason: verdict.choose([
            "Clients miss changes and cannot detect it, with the library too.",
            "Plain Redis has no revision by which a client detects a gap: a client that reconnects reads everything, and still does not know which changes it missed. Revisions can be built from scripts and streams, and then no change is missed.",
            "The library on Redis missed nothing, and not every arm of plain Redis missed changes undetected in every round.",
        ]).to_owned(),
        exhibits: vec![exhibit],
        method: vec![
            format!("{written} random registrations, updates and deregistrations of {INSTANCES} instances, one every {} ms, by a writer without faults.", INTERVAL.as_millis()),
            "The observer's connections are reset every 200 ms, and new ones are refused for 50 to 500 ms; the schedule is the same for all arms.".to_owned(),
            "A change is missed if it was written and never seen, neither as a change nor in a full read. It is undetected if nothing reported to the observer that it missed changes. Full reads are those that an observer makes because it cannot detect missed changes; resyncs are those that it makes because the store reported them.".to_owned(),
            "Median of the rounds, with minimum and maximum. Verdict: confirmed if the library on Redis misses anything undetected; in part if only plain Redis does, with all its arms and in every round; else refuted.".to_owned(),
        ],
        repeat: super::repeat("versioning", effort),
        raw,
    })
}

/// Judges by the undetected missed changes of each plain Redis arm, and of the library on Redis.
fn judge(plain: &[Spread], ours: Spread) -> Verdict {
    Verdict::of(ours.max > 0.0, plain.iter().all(|missed| missed.min > 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_figures() {
        let [none, some, at_times] = [[0.0; 2], [1.0, 9.0], [0.0, 9.0]].map(Spread::of);
        assert_eq!(judge(&[some, some, some], none), Verdict::InPart);
        assert_eq!(judge(&[some, at_times, some], none), Verdict::Refuted);
        assert_eq!(judge(&[none, none, none], none), Verdict::Refuted);
        assert_eq!(judge(&[some, some, some], at_times), Verdict::Confirmed);
    }

    #[test]
    fn a_workload_is_deterministic_and_removes_only_existing_instances() {
        let changes = workload(7, 1_000);
        assert_eq!(changes, workload(7, 1_000));
        assert_ne!(changes, workload(8, 1_000));
        let mut there = [false; INSTANCES as usize];
        for change in &changes {
            let is_there = &mut there[usize::from(change.id)];
            assert!(change.value.is_some() || *is_there, "{change:?}");
            *is_there = change.value.is_some();
        }
        assert!(changes.iter().any(|change| change.value.is_none()));
    }
}
