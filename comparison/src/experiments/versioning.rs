//! *Redis lacks versioning*: an observer is cut off again and again while instances come, change and go. What
//! did it miss, and can it know?

use super::score::{Score, score};
use super::{Effort, Progress, as_f64, side_by_side};
use crate::arms::TTL;
use crate::observers::{Change, Diary, Means, Place, Servers, Stage, Way, Writer};
use crate::paired::Spread;
use crate::report::finding::{Bar, Exhibit, Finding, Plot, Verdict};
use crate::stores::Where;
use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How many instances there are at most.
const IDS: u8 = 50;

/// How many changes are made before the first cut.
const UNDISTURBED: usize = 100;

/// When a change is due after the one before.
const EVERY: Duration = Duration::from_millis(2);

/// How long an observer may take to see the last change after the last cut.
pub(super) const SETTLED_WITHIN: Duration = Duration::from_secs(3);

/// What one observer came to in one round.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Run {
    /// How it did.
    #[serde(flatten)]
    pub score: Score,
    /// How often its way was cut.
    pub cuts: u32,
    /// How many of them hit a connection or a call.
    pub struck: u32,
    /// How often it was told that history is gone, after the store had forgotten all of it once while it was
    /// cut off. Nothing where there is no history.
    pub told: Option<usize>,
}

/// All rounds of each way to follow.
pub type Runs = BTreeMap<Means, Vec<Run>>;

/// Makes the experiment.
///
/// # Errors
///
/// If a server is missing or fails, or if no cut took effect.
pub async fn run(at: Where, effort: Effort, progress: Progress<'_>) -> Result<Finding> {
    let servers = Servers::start(at).await?;
    let changes = if effort.quick { 1_000 } else { 10_000 };
    let once = async |means: Means, round: u32| {
        let seed = effort.seed.wrapping_add(round.into());
        let name = format!("versioning-{round}");
        let stage = means
            .open(&servers, Place { name: &name, load: 0, ttl: TTL, is_disturbed: true })
            .await?;
        follow(stage, &workload(seed, changes), seed).await.with_context(|| means.name())
    };
    finding(&side_by_side(&Means::DISTURBED, effort, progress, once).await?, effort)
}

/// Random registrations, updates and withdrawals, as many as that.
fn workload(seed: u64, changes: u32) -> Vec<Change> {
    let mut random = Rng::with_seed(seed);
    let mut there = [false; IDS as usize];
    let change = |value| {
        let id = random.u8(..IDS);
        let is_there = &mut there[usize::from(id)];
        let goes = *is_there && random.u8(..4) == 0;
        *is_there = !goes;
        Change { id, value: (!goes).then_some(value) }
    };
    (1..=changes).map(change).collect()
}

/// Writes the workload while the observer is cut off again and again.
async fn follow(stage: Stage, workload: &[Change], seed: u64) -> Result<Run> {
    let Stage { mut writer, observer, diary, way } = stage;
    let observing = tokio::task::LocalSet::new();
    observing.spawn_local(observer);
    let work = async {
        sleep(Duration::from_millis(300)).await; // it connects
        // One that does not follow even when nobody disturbs it would prove nothing by what it misses.
        let (first, rest) = workload.split_at(UNDISTURBED);
        for change in first {
            writer.write(*change).await?;
        }
        ensure!(
            settle(first, &diary, SETTLED_WITHIN).await,
            "invalid: it does not follow when nobody disturbs it"
        );
        let mut cuts = (0, 0);
        let writing = async {
            let start = Instant::now();
            for (change, n) in rest.iter().zip(0..) {
                sleep_until(start + EVERY * n).await;
                writer.write(*change).await?;
            }
            anyhow::Ok(())
        };
        let cutting = async {
            let mut random = Rng::with_seed(seed ^ 0x9e37_79b9_7f4a_7c15);
            loop {
                sleep(Duration::from_millis(200)).await;
                let before = way.hits();
                way.cut();
                sleep(Duration::from_millis(random.u64(50..500))).await;
                way.heal();
                cuts.0 += 1;
                cuts.1 += u32::from(way.hits() > before);
            }
        };
        tokio::select! {
            written = writing => written?,
            () = cutting => {}
        }
        way.heal();
        // Some never see the end: that is a result.
        let _held = settle(workload, &diary, SETTLED_WITHIN).await;
        let score = score(workload, &diary.read());
        let told = forgetting(&mut *writer, &way, workload, &diary).await?;
        anyhow::Ok((cuts, score, told))
    };
    let ((cuts, struck), score, told) = observing.run_until(work).await?;
    ensure!(struck > 0, "invalid: none of {cuts} cuts took effect");
    Ok(Run { score, cuts, struck, told })
}

/// Cuts the observer off once more, and has the store forget what it then misses.
async fn forgetting(
    writer: &mut dyn Writer,
    way: &Way,
    workload: &[Change],
    diary: &Diary,
) -> Result<Option<usize>> {
    let resyncs = || score(workload, &diary.read()).resyncs;
    let before = (resyncs(), way.hits());
    way.cut();
    let mut all = workload.to_vec();
    for n in 1..=3 {
        // None of the workload has such an id, and so none such a value.
        let change = Change { id: IDS, value: Some(n) };
        writer.write(change).await?;
        all.push(change);
    }
    let has_history = writer.forget().await?;
    sleep(Duration::from_millis(100)).await; // it tries to come back meanwhile
    way.heal();
    let _held = settle(&all, diary, SETTLED_WITHIN).await;
    ensure!(way.hits() > before.1, "invalid: the last cut took no effect");
    Ok(has_history.then(|| resyncs() - before.0))
}

/// Waits until the observer holds what there is, for so long at most. Whether it does.
pub(super) async fn settle(written: &[Change], diary: &Diary, within: Duration) -> bool {
    let settled = async {
        while score(written, &diary.read()).wrong_at_the_end > 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(within, settled).await.is_ok()
}

/// What the figures say.
fn finding(runs: &Runs, effort: Effort) -> Result<Finding> {
    let spread = |means: Means, figure: fn(&Run) -> usize| {
        Spread::of(runs[&means].iter().map(|run| as_f64(figure(run))))
    };
    let unnoticed = |means| spread(means, |run| run.score.unnoticed);
    let head =
        ["", "missed", "unnoticed", "full reads", "wrong in the end", "told that history is gone"];
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    for means in Means::DISTURBED {
        let missed = spread(means, |run| run.score.missed);
        let told = missed.median - unnoticed(means).median;
        rows.push(vec![
            means.name().to_owned(),
            missed.to_string(),
            unnoticed(means).to_string(),
            spread(means, |run| run.score.rereads).to_string(),
            spread(means, |run| run.score.wrong_at_the_end).to_string(),
            match runs[&means].iter().map(|run| run.told).collect::<Option<Vec<_>>>() {
                Some(told) => Spread::of(told.into_iter().map(as_f64)).to_string(),
                None => "there is none".to_owned(),
            },
        ]);
        let parts = vec![unnoticed(means).median, told];
        bars.push(Bar { name: means.name().to_owned(), parts });
    }
    let written = runs[&Means::OursOnRedis][0].score.written;
    let plain = Means::DISTURBED.into_iter().filter(|means| means.is_plain_redis());
    let plain: Vec<Spread> = plain.map(unnoticed).collect();
    let verdict = judge(&plain, unnoticed(Means::OursOnRedis));
    Ok(Finding {
        name: "versioning",
        claim: "Redis lacks versioning",
        verdict,
        figure: format!(
            "who was cut off missed without a word, of {written} changes: on plain Redis {}, with the registry on Redis {}, on etcd {}",
            plain.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            unnoticed(Means::OursOnRedis),
            unnoticed(Means::OursOnEtcd),
        ),
        reason: match verdict {
            Verdict::Confirmed => "Changes are missed and nobody can know, on the registry too.",
            Verdict::InPart => "What Redis gives by itself has no number to tell a gap by: whoever was away reads everything, and still does not know what happened. A version can be built from scripts and streams, and then nothing is missed.",
            Verdict::Refuted => "The registry on Redis missed nothing, and what Redis gives by itself did not miss something unnoticed in every round by all its means.",
        }
        .to_owned(),
        exhibits: vec![
            Exhibit::new(
                format!("Changes missed, of {written}"),
                Plot::bars(&["unnoticed", "told by the store"], bars),
            )
            .with_table(head, rows),
        ],
        method: vec![
            format!("{written} random registrations, updates and withdrawals of {IDS} instances, one each {} ms, by a writer that nobody disturbs.", EVERY.as_millis()),
            "The observer's connections are reset every 200 ms, and none can be made for 50 to 500 ms; the same schedule for all.".to_owned(),
            "Missed is what was written and never seen, by itself or as what there is. Unnoticed is what was missed while nothing told the observer that there was something to miss. Median of the rounds, with least and most.".to_owned(),
            "Full reads are those that an observer makes because it cannot know. In the end the store forgets its history once while the observer is cut off: told is how often that was said.".to_owned(),
            "Verdict: confirmed if the registry on Redis misses anything unnoticed; in part if only plain Redis does, by all its means and in every round; else refuted.".to_owned(),
        ],
        repeat: super::repeat("versioning", effort),
        raw: serde_json::to_value(runs)?,
    })
}

/// By what was missed unnoticed: by each of the means of plain Redis, and by the registry on it.
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
    fn other_figures_lead_to_another_verdict() {
        let spread = |min, median, max| Spread { median, min, max };
        let (none, some) = (spread(0.0, 0.0, 0.0), spread(1.0, 5.0, 9.0));
        let at_times = spread(0.0, 5.0, 9.0);
        assert_eq!(judge(&[some, some, some], none), Verdict::InPart);
        assert_eq!(judge(&[some, at_times, some], none), Verdict::Refuted);
        assert_eq!(judge(&[none, none, none], none), Verdict::Refuted);
        assert_eq!(judge(&[some, some, some], at_times), Verdict::Confirmed);
    }

    #[test]
    fn a_workload_is_the_same_for_the_same_seed_and_withdraws_only_what_is_there() {
        let changes = workload(7, 1_000);
        assert_eq!(changes, workload(7, 1_000));
        assert_ne!(changes, workload(8, 1_000));
        let mut there = [false; IDS as usize];
        for change in &changes {
            let is_there = &mut there[usize::from(change.id)];
            assert!(change.value.is_some() || *is_there, "{change:?}");
            *is_there = change.value.is_some();
        }
        assert!(changes.iter().any(|change| change.value.is_none()));
    }
}
