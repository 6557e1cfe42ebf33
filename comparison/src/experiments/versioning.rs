//! *Redis lacks versioning*: an observer is disconnected repeatedly while instances are registered, updated and
//! deregistered. Which changes does it miss, and can it detect that?

use super::observers::{ObserverArm, Servers};
use super::score::{Score, score};
use super::{Effort, Progress, side_by_side};
use crate::harness::{
    ArmOptions, Change, EventLog, Link, OpenArm, Spread, StoreOptions, Writer, as_f64,
};
use crate::report::finding::{Bar, Exhibit, Finding, Plot, Verdict};
use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The maximum number of instances.
const INSTANCES: u8 = 50;

/// How many changes are written before the first cut.
const BEFORE_CUTS: usize = 100;

/// The time between two changes.
const INTERVAL: Duration = Duration::from_millis(2);

/// How long an observer may take to converge after the last cut.
pub(super) const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(3);

/// The result of one observer in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// How it did.
    #[serde(flatten)]
    pub score: Score,
    /// How often its link was cut.
    pub cuts: u32,
    /// The cuts that hit a connection or a call.
    pub effective_cuts: u32,
    /// How often it resynced after the store had compacted its history once while it was disconnected. `None`
    /// where there is no history.
    pub resyncs_after_compaction: Option<usize>,
}

/// All rounds of each arm.
pub type Runs = BTreeMap<ObserverArm, Vec<Run>>;

/// Runs the experiment.
pub async fn run(at: StoreOptions, effort: Effort, progress: Progress<'_>) -> Result<Finding> {
    let servers = Servers::start(at).await?;
    let changes = if effort.quick { 1_000 } else { 10_000 };
    let once = async |arm: ObserverArm, round: u32| {
        let seed = effort.seed.wrapping_add(round.into());
        let name = format!("versioning-{round}");
        let opened =
            arm.open(&servers, ArmOptions { name: &name, payload_len: 0, via_proxy: true }).await?;
        follow(opened, &workload(seed, changes), seed).await.with_context(|| arm.name())
    };
    finding(&side_by_side(&ObserverArm::UNDER_FAULTS, effort, progress, once).await?, effort)
}

/// Returns so many random registrations, updates and deregistrations.
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

/// Writes the workload while the link of the observer is cut repeatedly.
async fn follow(opened: OpenArm, workload: &[Change], seed: u64) -> Result<Run> {
    let OpenArm { mut writer, observer, log, link } = opened;
    let observing = tokio::task::LocalSet::new();
    observing.spawn_local(observer);
    let work = async {
        sleep(Duration::from_millis(300)).await; // it connects
        // What an observer misses proves nothing if it does not even follow without faults.
        let (first, rest) = workload.split_at(BEFORE_CUTS);
        for change in first {
            writer.write(*change).await?;
        }
        ensure!(
            wait_until_converged(first, &log, CONVERGENCE_TIMEOUT).await,
            "invalid: the observer does not follow without faults"
        );
        let mut cuts = (0, 0);
        let writing = async {
            let start = Instant::now();
            for (change, n) in rest.iter().zip(0..) {
                sleep_until(start + INTERVAL * n).await;
                writer.write(*change).await?;
            }
            anyhow::Ok(())
        };
        let cutting = async {
            let mut random = Rng::with_seed(seed ^ 0x9e37_79b9_7f4a_7c15);
            loop {
                sleep(Duration::from_millis(200)).await;
                let before = link.hits();
                link.cut();
                sleep(Duration::from_millis(random.u64(50..500))).await;
                link.heal();
                cuts.0 += 1;
                cuts.1 += u32::from(link.hits() > before);
            }
        };
        tokio::select! {
            written = writing => written?,
            () = cutting => {}
        }
        link.heal();
        // Some observers never converge: that is a result.
        let _converged = wait_until_converged(workload, &log, CONVERGENCE_TIMEOUT).await;
        let score = score(workload, &log.events());
        let resyncs_after_compaction =
            compact_while_cut(&mut *writer, &link, workload, &log).await?;
        anyhow::Ok((cuts, score, resyncs_after_compaction))
    };
    let ((cuts, effective_cuts), score, resyncs_after_compaction) =
        observing.run_until(work).await?;
    ensure!(effective_cuts > 0, "invalid: none of {cuts} cuts took effect");
    Ok(Run { score, cuts, effective_cuts, resyncs_after_compaction })
}

/// Cuts the link once more, and compacts the history that the observer then misses.
async fn compact_while_cut(
    writer: &mut dyn Writer,
    link: &Link,
    workload: &[Change],
    log: &EventLog,
) -> Result<Option<usize>> {
    let resyncs = || score(workload, &log.events()).resyncs;
    let before = (resyncs(), link.hits());
    link.cut();
    let mut all = workload.to_vec();
    for n in 1..=3 {
        // None of the workload has such an id, and so none such a value.
        let change = Change { id: INSTANCES, value: Some(n) };
        writer.write(change).await?;
        all.push(change);
    }
    let has_history = writer.compact().await?;
    sleep(Duration::from_millis(100)).await; // meanwhile it tries to reconnect
    link.heal();
    let _converged = wait_until_converged(&all, log, CONVERGENCE_TIMEOUT).await;
    ensure!(link.hits() > before.1, "invalid: the last cut took no effect");
    Ok(has_history.then(|| resyncs() - before.0))
}

/// Waits until the observer has the current value of every instance. Returns whether it got there in time.
pub(super) async fn wait_until_converged(
    written: &[Change],
    log: &EventLog,
    within: Duration,
) -> bool {
    let converged = async {
        while score(written, &log.events()).stale_at_end > 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(within, converged).await.is_ok()
}

/// Evaluates the figures.
fn finding(runs: &Runs, effort: Effort) -> Result<Finding> {
    let spread = |arm: ObserverArm, figure: fn(&Run) -> usize| {
        Spread::of(runs[&arm].iter().map(|run| as_f64(figure(run))))
    };
    let undetected = |arm| spread(arm, |run| run.score.undetected);
    let head =
        ["", "missed", "undetected", "full reads", "stale at the end", "resyncs after compaction"];
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    for arm in ObserverArm::UNDER_FAULTS {
        let missed = spread(arm, |run| run.score.missed);
        let detected = missed.median - undetected(arm).median;
        rows.push(vec![
            arm.name().to_owned(),
            missed.to_string(),
            undetected(arm).to_string(),
            spread(arm, |run| run.score.rereads).to_string(),
            spread(arm, |run| run.score.stale_at_end).to_string(),
            match runs[&arm]
                .iter()
                .map(|run| run.resyncs_after_compaction)
                .collect::<Option<Vec<_>>>()
            {
                Some(resyncs) => Spread::of(resyncs.into_iter().map(as_f64)).to_string(),
                None => "no history".to_owned(),
            },
        ]);
        let parts = vec![undetected(arm).median, detected];
        bars.push(Bar { name: arm.name().to_owned(), parts });
    }
    let written = runs[&ObserverArm::OursOnRedis][0].score.written;
    let plain = ObserverArm::UNDER_FAULTS.into_iter().filter(|arm| arm.is_plain_redis());
    let plain: Vec<Spread> = plain.map(undetected).collect();
    let percent = |undetected: &Spread| (100.0 * undetected.median / as_f64(written)).round();
    let shares = Spread::of(plain.iter().map(percent));
    let verdict = judge(&plain, undetected(ObserverArm::OursOnRedis));
    Ok(Finding {
        name: "versioning",
        claim: "Redis lacks versioning",
        verdict,
        figure: format!(
            "Plain Redis clients missed {}-{} % of {written} changes without noticing; the registry missed {} on Redis and {} on etcd",
            shares.min,
            shares.max,
            undetected(ObserverArm::OursOnRedis),
            undetected(ObserverArm::OursOnEtcd),
        ),
        reason: match verdict {
            Verdict::Confirmed => "Clients miss changes and cannot detect it, with the registry too.",
            Verdict::InPart => "Plain Redis has no revision by which a client detects a gap: a client that reconnects reads everything, and still does not know which changes it missed. Revisions can be built from scripts and streams, and then no change is missed.",
            Verdict::Refuted => "The registry on Redis missed nothing, and not every arm of plain Redis missed changes undetected in every round.",
        }
        .to_owned(),
        exhibits: vec![
            Exhibit::new(
                format!("Changes missed, of {written}"),
                Plot::bars(&["undetected", "detected"], bars),
            )
            .with_table(head, rows),
        ],
        method: vec![
            format!("{written} random registrations, updates and deregistrations of {INSTANCES} instances, one every {} ms, by a writer without faults.", INTERVAL.as_millis()),
            "The observer's connections are reset every 200 ms, and new ones are refused for 50 to 500 ms; the schedule is the same for all arms.".to_owned(),
            "A change is missed if it was written and never seen, neither as a change nor in a full read. It is undetected if nothing reported to the observer that it missed changes. Median of the rounds, with minimum and maximum.".to_owned(),
            "Full reads are those that an observer makes because it cannot detect missed changes. At the end the history of the store is compacted once while the observer is disconnected: the last column counts the resyncs that follow.".to_owned(),
            "Verdict: confirmed if the registry on Redis misses anything undetected; in part if only plain Redis does, with all its arms and in every round; else refuted.".to_owned(),
        ],
        repeat: super::repeat("versioning", effort),
        raw: serde_json::to_value(runs)?,
    })
}

/// Judges by the undetected missed changes: of each arm of plain Redis, and of the registry on Redis.
fn judge(plain: &[Spread], ours: Spread) -> Verdict {
    if ours.max > 0.0 {
        Verdict::Confirmed
    } else if plain.iter().all(|spread| spread.min > 0.0) {
        Verdict::InPart
    } else {
        Verdict::Refuted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_figures() {
        let spread = |min, median, max| Spread { median, min, max };
        let (none, some) = (spread(0.0, 0.0, 0.0), spread(1.0, 5.0, 9.0));
        let at_times = spread(0.0, 5.0, 9.0);
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
