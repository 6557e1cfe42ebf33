//! *Pub/sub is unsuitable for production*: an observer stands still while more is written than a server keeps for
//! it, or its server is killed and another takes over. What did it miss, and can it know?

mod failover;

use super::score::{Score, score};
use super::versioning::{SETTLED_WITHIN, settle};
use super::{Effort, Progress, as_f64, in_time, side_by_side};
use crate::arms::TTL;
use crate::observers::{Change, Diary, Means, Place, Servers, Stage, Way, Writer};
use crate::paired::Spread;
use crate::report::finding::{Bar, Exhibit, Finding, Plot, Verdict};
use crate::stores::Where;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::{LocalSet, yield_now};
use tokio::time::sleep;

/// How many instances there are.
const IDS: u8 = 50;

/// What each carries, in bytes.
const LOAD: usize = 4_000;

/// What one observer came to in one round.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Run {
    /// How it did.
    #[serde(flatten)]
    pub score: Score,
    /// How many connections or watches stood still.
    pub struck: u64,
}

/// All rounds of each way to follow.
pub type Runs = BTreeMap<Means, Vec<Run>>;

/// The same of those over a failover.
type Failovers = BTreeMap<Means, Vec<Score>>;

/// Makes the experiment.
///
/// # Errors
///
/// If a server is missing or fails, or if nothing stood still.
pub async fn run(at: Where, effort: Effort, progress: Progress<'_>) -> Result<Finding> {
    let servers = Servers::start(at.clone()).await?;
    let once = async |means: Means, round: u32| {
        let name = format!("delivery-{round}");
        let stage = means
            .open(&servers, Place { name: &name, load: LOAD, ttl: TTL, is_disturbed: true })
            .await?;
        stand_still(stage, &workload(means)).await.with_context(|| means.name())
    };
    let stalls =
        side_by_side(&Means::DISTURBED, effort, &|what, share| progress(what, share / 2.0), once)
            .await?;
    drop(servers);
    let changes = if effort.quick { 1_000 } else { 3_000 };
    let mut failovers = BTreeMap::<_, Vec<_>>::new();
    for round in 0..effort.rounds {
        let share = 0.5 + f64::from(round) / f64::from(effort.rounds) / 2.0;
        progress(&format!("failover, round {} of {}", round + 1, effort.rounds), share);
        for (means, score) in in_time(failover::once(&at, changes)).await? {
            failovers.entry(means).or_default().push(score);
        }
    }
    Ok(finding(&stalls, &failovers, effort))
}

/// More than a server keeps for a subscriber (32 MB) and the kernel beside it. Updates only, each instance in
/// turn.
fn workload(means: Means) -> Vec<Change> {
    // etcd takes ten times as long for each, and keeps nothing for a watch that stands still.
    let changes = if means == Means::OursOnEtcd { 2_000 } else { 12_000 };
    (1..=changes).map(|n| Change::in_turn(n, IDS)).collect()
}

async fn stand_still(stage: Stage, workload: &[Change]) -> Result<Run> {
    let Stage { mut writer, observer, diary, way } = stage;
    let observing = LocalSet::new();
    observing.spawn_local(observer);
    let struck = observing.run_until(write_meanwhile(&mut *writer, &way, workload, &diary)).await?;
    ensure!(struck > 0, "invalid: nothing stood still");
    Ok(Run { score: score(workload, &diary.read()), struck })
}

/// Writes most of the workload while the way stands still. How many connections or watches did.
async fn write_meanwhile(
    writer: &mut dyn Writer,
    way: &Way,
    workload: &[Change],
    diary: &Diary,
) -> Result<u64> {
    const AT_FIRST: usize = 100;
    sleep(Duration::from_millis(300)).await; // it connects
    for change in &workload[..AT_FIRST] {
        writer.write(*change).await?;
    }
    // One that does not follow even when nobody disturbs it would prove nothing by what it misses.
    let follows = settle(&workload[..AT_FIRST], diary, SETTLED_WITHIN).await;
    ensure!(follows, "invalid: it does not follow when nobody disturbs it");
    let before = way.hits();
    way.stall();
    for change in &workload[AT_FIRST..] {
        writer.write(*change).await?;
        // Memory answers at once: without this, the calls of those beside it would be late by all of these.
        yield_now().await;
    }
    let struck = way.hits() - before;
    way.heal();
    let _held = settle(workload, diary, SETTLED_WITHIN).await; // some never do: that is a result
    Ok(struck)
}

/// What the figures say.
fn finding(stalls: &Runs, failovers: &Failovers, effort: Effort) -> Finding {
    let stalls_of = |means: Means| stalls[&means].iter().map(|run| run.score).collect();
    let failovers_of = |means: Means| failovers[&means].clone();
    let unnoticed = |scores: Vec<Score>| spread(&scores, |score| score.unnoticed);
    let published = [Means::Publish, Means::PublishAndReread].map(stalls_of).map(unnoticed);
    let ours = unnoticed(stalls_of(Means::OursOnRedis));
    let ours_over = unnoticed(failovers_of(Means::OursOnRedis));
    let verdict = judge(&published, &[ours, ours_over]);
    Finding {
        name: "delivery",
        claim: "pub/sub is unsuitable for production",
        verdict,
        figure: format!(
            "who stood still missed without a word: a subscriber {} of {}, the registry on Redis {ours}, on etcd {}; over a failover: a subscriber {}, the registry on Redis {ours_over}, on etcd {}",
            published[0],
            spread(&stalls_of(Means::Publish), |score| score.written),
            unnoticed(stalls_of(Means::OursOnEtcd)),
            unnoticed(failovers_of(Means::Publish)),
            unnoticed(failovers_of(Means::OursOnEtcd)),
        ),
        reason: match verdict {
            Verdict::Confirmed => "A server gives up a subscriber that does not keep up, and what was published meanwhile is gone; nobody is told what. A stream that is read by position keeps it, or says that it does not.",
            Verdict::InPart => "Subscribers miss what is published while they stand still, and the registry on Redis missed something unnoticed, too.",
            Verdict::Refuted => "Subscribers that stood still did not miss something unnoticed in every round.",
        }
        .to_owned(),
        exhibits: vec![
            exhibit("Changes missed by an observer that stood still", &Means::DISTURBED, stalls_of),
            exhibit("Changes missed over a failover", &failover::ALL, failovers_of),
        ],
        method: vec![
            format!("Standing still: updates of {IDS} instances of {LOAD} bytes are written one after the other, while nothing is read from the observer's connections, as of a process that stands still. They are 48 MB, which is more than Redis keeps for a subscriber (client-output-buffer-limit pubsub 32mb 8mb 60); on etcd 8 MB, since it takes longer for each. A notification of a key has no value with it: those fit, and who gets them late reads only what there is by then."),
            "The registry on Redis keeps 10,000 changes of a shard: who comes back after more is told that history is gone, and reads what there is.".to_owned(),
            "Failover: the primary under Sentinel, and the leader of an etcd of three members, are killed under writes, one each 5 ms; what is not acknowledged is written again until it is. Subscribers and listeners find the primary through Sentinel and connect again at once.".to_owned(),
            "Subscribers that are cut off are the matter of the experiment versioning.".to_owned(),
            "Median of the rounds, with least and most. Verdict: confirmed if subscribers that stood still miss something unnoticed in every round, and the registry on Redis never, there and over a failover; in part if it does, too; else refuted.".to_owned(),
        ],
        repeat: super::repeat("delivery", effort),
        raw: json!({ "stalls": stalls, "failovers": failovers }),
    }
}

fn spread(scores: &[Score], figure: fn(&Score) -> usize) -> Spread {
    Spread::of(scores.iter().map(|score| as_f64(figure(score))))
}

fn exhibit(title: &str, all: &[Means], scores: impl Fn(Means) -> Vec<Score>) -> Exhibit {
    let row = |means: &Means| {
        let of = |figure| spread(&scores(*means), figure).to_string();
        vec![
            means.name().to_owned(),
            of(|score| score.written),
            of(|score| score.missed),
            of(|score| score.unnoticed),
            of(|score| score.resyncs),
            of(|score| score.wrong_at_the_end),
        ]
    };
    let bar = |means: &Means| {
        let of = |figure| spread(&scores(*means), figure).median;
        let told = of(|score| score.missed - score.unnoticed);
        Bar { name: means.name().to_owned(), parts: vec![of(|score| score.unnoticed), told] }
    };
    let head = ["", "written", "missed", "unnoticed", "told by the store", "wrong in the end"];
    let plot = Plot::bars(&["unnoticed", "told by the store"], all.iter().map(bar));
    Exhibit::new(title, plot).with_table(head, all.iter().map(row))
}

/// By what was missed unnoticed: by the subscribers that stood still, and by the registry on Redis at any time.
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
    fn other_figures_lead_to_another_verdict() {
        let spread = |min, max| Spread { median: min, min, max };
        let (none, some) = (spread(0.0, 0.0), spread(3.0, 9.0));
        assert_eq!(judge(&[some, some], &[none, none]), Verdict::Confirmed);
        assert_eq!(judge(&[some, some], &[none, some]), Verdict::InPart);
        assert_eq!(judge(&[some, spread(0.0, 9.0)], &[none, none]), Verdict::Refuted);
    }
}
