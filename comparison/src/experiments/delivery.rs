//! *Pub/sub is unsuitable for production*: an observer stands still while more is written than a server keeps for
//! it. What did it miss, and can it know?

use super::score::{Score, score};
use super::versioning::settle;
use super::{Effort, Progress, as_f64, side_by_side};
use crate::arms::TTL;
use crate::observers::{Change, Diary, Means, Place, Servers, Stage, Way, Writer};
use crate::paired::Spread;
use crate::report::finding::{Bar, Bars, Exhibit, Finding, Plot, Verdict};
use crate::stores::Where;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::sleep;

/// How many instances there are.
const IDS: u32 = 50;

/// What each carries, in bytes.
const LOAD: usize = 4_000;

/// Who is compared.
const ALL: [Means; 5] = [
    Means::Publish,
    Means::PublishAndReread,
    Means::OursOnRedis,
    Means::OursOnEtcd,
    Means::OursInMemory,
];

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

/// Makes the experiment.
///
/// # Errors
///
/// If a server is missing or fails, or if nothing stood still.
pub async fn run(at: Where, effort: Effort, progress: Progress<'_>) -> Result<Finding> {
    let servers = Servers::start(at).await?;
    let once = async |means: Means, round: u32| {
        let name = format!("delivery-{round}");
        let stage = means.open(&servers, Place { name: &name, load: LOAD, ttl: TTL }).await?;
        stand_still(stage, &workload(means)).await.with_context(|| means.name())
    };
    finding(&side_by_side(&ALL, effort, progress, once).await?, effort)
}

/// More than a server keeps for a subscriber (32 MB) and the kernel beside it. Updates only, each instance in
/// turn.
fn workload(means: Means) -> Vec<Change> {
    // etcd takes ten times as long for each, and keeps nothing for a watch that stands still.
    let changes = if means == Means::OursOnEtcd { 2_000 } else { 12_000 };
    let change = |value: u32| {
        let id = u8::try_from(value % IDS).unwrap_or_default();
        Change { id, value: Some(value) }
    };
    (1..=changes).map(change).collect()
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
    let follows = settle(&workload[..AT_FIRST], diary).await;
    ensure!(follows, "invalid: it does not follow when nobody disturbs it");
    let before = way.hits();
    way.stall();
    for change in &workload[AT_FIRST..] {
        writer.write(*change).await?;
    }
    let struck = way.hits() - before;
    way.heal();
    let _held = settle(workload, diary).await; // some never do: that is a result
    Ok(struck)
}

/// What the figures say.
fn finding(runs: &Runs, effort: Effort) -> Result<Finding> {
    let spread = |means: Means, figure: fn(&Score) -> usize| {
        Spread::of(runs[&means].iter().map(|run| as_f64(figure(&run.score))))
    };
    let unnoticed = |means| spread(means, |score| score.unnoticed);
    let share = |means: Means, figure: fn(&Score) -> usize| {
        spread(means, figure).median * 100.0 / spread(means, |score| score.written).median
    };
    let head = ["", "written", "missed", "unnoticed", "told by the store", "wrong in the end"];
    let rows = ALL.map(|means| {
        vec![
            means.name().to_owned(),
            spread(means, |score| score.written).to_string(),
            spread(means, |score| score.missed).to_string(),
            unnoticed(means).to_string(),
            spread(means, |score| score.resyncs).to_string(),
            spread(means, |score| score.wrong_at_the_end).to_string(),
        ]
    });
    let bars = ALL.map(|means| {
        let lost = share(means, |score| score.unnoticed).round();
        let told = share(means, |score| score.missed - score.unnoticed).round();
        Bar { name: means.name().to_owned(), parts: vec![lost, told] }
    });
    let published = [Means::Publish, Means::PublishAndReread].map(unnoticed);
    let verdict = judge(&published, unnoticed(Means::OursOnRedis));
    Ok(Finding {
        name: "delivery",
        claim: "pub/sub is unsuitable for production",
        verdict,
        figure: format!(
            "who stood still missed without a word: a subscriber {} of {}, the registry on Redis {}, on etcd {}",
            published[0],
            spread(Means::Publish, |score| score.written),
            unnoticed(Means::OursOnRedis),
            unnoticed(Means::OursOnEtcd),
        ),
        reason: match verdict {
            Verdict::Confirmed => "A server gives up a subscriber that does not keep up, and what was published meanwhile is gone; nobody is told what. A stream that is read by position keeps it, or says that it does not.",
            Verdict::InPart => "Subscribers miss what is published while they stand still, and so does the registry.",
            Verdict::Refuted => "Nothing that was published was missed.",
        }
        .to_owned(),
        exhibits: vec![Exhibit {
            title: "Changes missed by an observer that stood still, in percent".to_owned(),
            notes: Vec::new(),
            plot: Plot::Bars(Bars {
                parts: vec!["unnoticed".to_owned(), "told by the store".to_owned()],
                bars: bars.to_vec(),
            }),
            head: head.map(str::to_owned).to_vec(),
            rows: rows.to_vec(),
        }],
        method: vec![
            format!("Updates of {IDS} instances of {LOAD} bytes are written one after the other, while nothing is read from the observer's connections, as of a process that stands still. They are 48 MB, which is more than Redis keeps for a subscriber (client-output-buffer-limit pubsub 32mb 8mb 60); on etcd 8 MB, since it takes longer for each."),
            "The registry on Redis keeps 10,000 changes of a shard: who comes back after more is told that history is gone, and reads what there is.".to_owned(),
            "Subscribers that are disconnected are the matter of the experiment versioning. A failover under subscribers is not measured here.".to_owned(),
            "Median of the rounds, with least and most. Verdict: confirmed if subscribers miss something unnoticed in every round, and the registry on Redis never; in part if it does, too; else refuted.".to_owned(),
        ],
        repeat: super::repeat("delivery", effort),
        raw: serde_json::to_value(runs)?,
    })
}

/// By what was missed unnoticed: by the subscribers, and by the registry on Redis.
fn judge(published: &[Spread], ours: Spread) -> Verdict {
    if published.iter().any(|spread| spread.min <= 0.0) {
        Verdict::Refuted
    } else if ours.max > 0.0 {
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
        assert_eq!(judge(&[some, some], none), Verdict::Confirmed);
        assert_eq!(judge(&[some, some], some), Verdict::InPart);
        assert_eq!(judge(&[some, spread(0.0, 9.0)], none), Verdict::Refuted);
    }
}
