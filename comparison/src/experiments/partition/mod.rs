//! *Raft against Sentinel and Cluster*: the one that takes writes is cut off with some of its clients. What of all
//! that was acknowledged is gone when it is back, and who vanishes meanwhile?

mod clients;
mod plain;
mod sites;
mod trial;

use self::clients::Means;
use self::sites::System;
use self::trial::{LATE, LIVE, Run};
use super::{Effort, Progress, as_f64, side_by_side};
use crate::paired::Spread;
use crate::report::finding::{Axis, Bar, Exhibit, Finding, Line, Lines, Plot, Verdict};
use crate::stores::Where;
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// All rounds of each system, and of each means over it.
type Runs = BTreeMap<System, Vec<BTreeMap<Means, Run>>>;

/// Makes the experiment.
///
/// # Errors
///
/// If a server is missing or fails, or nobody took over from the one that was cut off.
pub async fn run(at: Where, effort: Effort, progress: Progress<'_>) -> Result<Finding> {
    let length = Duration::from_secs(if effort.quick { 7 } else { 12 });
    let once = async |system: System, _| {
        trial::once(system, &at, length).await.with_context(|| system.name())
    };
    let runs = side_by_side(&System::ALL, effort, progress, once).await?;
    Ok(finding(&runs, length, effort))
}

/// What the figures say.
fn finding(runs: &Runs, length: Duration, effort: Effort) -> Finding {
    let lost = |system, means| spread(runs, system, means, |run| as_f64(run.lost));
    let redis = [System::Sentinel, System::SentinelWithReplicas, System::Cluster];
    let plain = redis.map(|system| lost(system, Means::Hash));
    let raft = lost(System::Etcd, Means::Ours);
    let verdict = judge(&plain, raft);
    let said = redis.iter().zip(plain).map(|(system, lost)| format!("{} {lost}", system.name()));
    let late = |system, means| {
        spread(runs, system, means, |run| as_f64(run.late.map_or(0, |late| LATE - late)))
    };
    Finding {
        name: "partition",
        claim: "Redis Sentinel and Cluster lose what they acknowledged, and Raft does not",
        verdict,
        figure: format!(
            "acknowledged and gone after a partition: {}, etcd {raft}; of {LATE} that began beside the one that was cut off and live, not listed under Sentinel in the end: of a hash {}, of keys with a ttl {}, of the registry {}",
            said.collect::<Vec<_>>().join(", "),
            late(System::Sentinel, Means::Hash),
            late(System::Sentinel, Means::Keys),
            late(System::Sentinel, Means::Ours),
        ),
        reason: match verdict {
            Verdict::Confirmed => "In each of the three ways a Redis that was cut off acknowledged what it forgot when it had to follow its successor, in every round; etcd lost nothing. What the registry makes of it stands below: it loses writes with its Redis, and who lives registers again by itself.",
            Verdict::InPart => "Some of the ways to have Redis stand in for itself lose what they acknowledged, and others do not.",
            Verdict::Refuted => "In none of the ways was something lost in every round, or etcd lost something, too.",
        }
        .to_owned(),
        exhibits: vec![of_writes(runs), of_the_living(runs)],
        method: vec![
            format!("The one that takes writes is cut off from all others for {} s: what is sent between them vanishes, and connections stand. Some clients are cut off with it, and reach nobody else until the end; all others do not reach it. A primary that is silent for 1 s is replaced (Sentinel, Cluster), etcd elects after 1 s. With min-replicas 1 the servers have `min-replicas-to-write 1` and `min-replicas-max-lag 1`.", length.as_secs()),
            "On both sides a client registers one instance after the other, and gives up one that takes longer than 1 s. Lost is what was acknowledged to either and is not there after the end, when the one that was cut off follows again. A round in which nobody takes over is invalid.".to_owned(),
            format!("{LIVE} instances live with the others all the time, and {LATE} begin beside the one that is cut off a second later. A hash is written once; keys with a ttl of 5 s are set again every third of it; the registry keeps its own (ttl 5 s). Callers are with the others: of plain Redis they read everything each 50 ms, and keep the last answer; of the registry they have a view, which keeps who vanishes because the store was in trouble for a while. That is what callers go by, and not what is in the store. Looked at until {} s after the end.", trial::AFTER.as_secs()),
            "Plain Redis is used through the sentinel and the cluster client of the `redis` crate. On a Cluster the registry goes where the cluster says that the node is, and so nobody registers with it on the side that is cut off.".to_owned(),
            "Median of the rounds, with least and most. Verdict: confirmed if plain Redis loses something in each of the three ways in every round, and etcd nothing; in part if in some; else refuted.".to_owned(),
        ],
        repeat: super::repeat("partition", effort),
        raw: json!(runs),
    }
}

/// By what was lost: in each of the ways of Redis, and by etcd.
fn judge(redis: &[Spread], raft: Spread) -> Verdict {
    let loses = |lost: &Spread| lost.min > 0.0;
    if raft.max > 0.0 || !redis.iter().any(loses) {
        Verdict::Refuted
    } else if redis.iter().all(loses) {
        Verdict::Confirmed
    } else {
        Verdict::InPart
    }
}

fn spread(runs: &Runs, system: System, means: Means, figure: impl Fn(&Run) -> f64) -> Spread {
    Spread::of(runs[&system].iter().map(|run| figure(&run[&means])))
}

/// Each means over each system, in order.
fn arms() -> impl Iterator<Item = (System, Means)> {
    let means = |system| Means::over(system).iter().map(move |means| (system, *means));
    System::ALL.into_iter().flat_map(means)
}

fn name((system, means): (System, Means)) -> String {
    format!("{}: {}", system.name(), means.name())
}

fn of_writes(runs: &Runs) -> Exhibit {
    let head = [
        "",
        "acknowledged alone",
        "lost",
        "of these from before the cut",
        "acknowledged to others",
        "longest silence there, s",
    ];
    let row = |arm: (System, Means)| {
        let of = |figure: fn(&Run) -> f64| spread(runs, arm.0, arm.1, figure);
        let nobody = runs[&arm.0].iter().any(|run| run[&arm.1].alone.is_none());
        let alone = of(|run| as_f64(run.alone.unwrap_or_default()));
        vec![
            name(arm),
            if nobody { "nobody writes".to_owned() } else { alone.to_string() },
            of(|run| as_f64(run.lost)).to_string(),
            of(|run| as_f64(run.lost_from_before)).to_string(),
            of(|run| as_f64(run.others)).to_string(),
            of(|run| (run.silence * 10.0).round() / 10.0).to_string(),
        ]
    };
    let bar = |arm: (System, Means)| {
        let of = |figure: fn(&Run) -> f64| spread(runs, arm.0, arm.1, figure).median;
        let before = of(|run| as_f64(run.lost_from_before));
        Bar { name: name(arm), parts: vec![of(|run| as_f64(run.lost)) - before, before] }
    };
    let plot = Plot::bars(&["acknowledged alone", "before the cut"], arms().map(bar));
    Exhibit::new("Acknowledged and gone after a partition", plot).with_table(head, arms().map(row))
}

fn of_the_living(runs: &Runs) -> Exhibit {
    let head = [
        "",
        "vanished meanwhile",
        "for at most, s",
        "of those that began alone, listed in the end",
    ];
    let row = |arm: (System, Means)| {
        let of = |figure: fn(&Run) -> f64| spread(runs, arm.0, arm.1, figure);
        let nobody = runs[&arm.0].iter().any(|run| run[&arm.1].late.is_none());
        let late = of(|run| as_f64(run.late.unwrap_or_default()));
        vec![
            name(arm),
            format!("{} of {LIVE}", of(|run| as_f64(run.vanished))),
            of(|run| (run.absence * 10.0).round() / 10.0).to_string(),
            if nobody { "nobody did".to_owned() } else { format!("{late} of {LATE}") },
        ]
    };
    // The first round, since a median of lines is none.
    let shown = arms().filter(|(system, _)| *system != System::SentinelWithReplicas);
    let line = |(look, arm): (usize, (System, Means))| {
        let listed = &runs[&arm.0][0][&arm.1].listed;
        let points = listed.iter().map(|(at, listed)| (*at, as_f64(*listed))).collect();
        Line { name: name(arm), look, points }
    };
    let lines: Vec<Line> = shown.enumerate().map(line).collect();
    let last = lines.iter().flat_map(|line| &line.points).map(|(at, _)| *at).fold(0.0, f64::max);
    let plot = Plot::Lines(Lines {
        x: Axis::linear("seconds; cut off at 1", last),
        y: Axis::linear("listed", as_f64(LIVE + LATE)),
        lines,
    });
    let title = format!("How many of the {} that live are listed, in the first round", LIVE + LATE);
    let notes = vec!["without min-replicas 1, whose lines are those of Sentinel".to_owned()];
    Exhibit::new(title, plot).with_notes(notes).with_table(head, arms().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_figures_lead_to_another_verdict() {
        let spread = |min, max| Spread { median: max, min, max };
        let (none, some, at_times) = (spread(0.0, 0.0), spread(3.0, 9.0), spread(0.0, 9.0));
        assert_eq!(judge(&[some, some, some], none), Verdict::Confirmed);
        assert_eq!(judge(&[some, at_times, some], none), Verdict::InPart, "not in every round");
        assert_eq!(judge(&[none, none, none], none), Verdict::Refuted);
        assert_eq!(judge(&[some, some, some], at_times), Verdict::Refuted, "Raft loses too");
    }
}
