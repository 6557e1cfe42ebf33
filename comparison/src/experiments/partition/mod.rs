//! *Raft against Sentinel and Cluster*: the primary or leader is partitioned with some of its clients. Which
//! acknowledged writes are lost when it rejoins, and which instances are unlisted meanwhile?

mod clients;
mod trial;

use self::clients::arms;
use self::trial::{LATE, LIVE, Run};
use super::deployment::Topology;
use super::observers::ObserverArm;
use super::{Effort, Progress, side_by_side};
use crate::harness::{Spread, StoreOptions, as_f64};
use crate::report::finding::{Exhibit, Finding, Verdict};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const MINORITY_WRITES: &str = " The writes on the minority side are those that began and were acknowledged during the partition; those after the takeover began when another server had taken over.";
const SURVIVE: &str =
    "An acknowledged registration must survive a partition and the failover that follows.";
const BOTH_SIDES: &str = "Both sides of a partition must accept registrations and keep them: Redis drops those of the minority side, and etcd rejects them.";
const AGAIN: &str =
    "A failover may lose registrations, because live instances register again on their own.";
const MIN_REPLICAS: &str =
    "Redis with Sentinel, `min-replicas-to-write 1` and `min-replicas-max-lag 1`";

/// All rounds of each topology, and of each arm on it.
type Runs = BTreeMap<Topology, Vec<BTreeMap<ObserverArm, Run>>>;

pub async fn run(at: StoreOptions, effort: Effort, progress: Progress<'_>) -> Result<Value> {
    let length = length(effort);
    let once = async |topology: Topology, _| {
        trial::run(topology, &at, length).await.with_context(|| topology.name())
    };
    Ok(json!(side_by_side(&Topology::ALL, effort, progress, once).await?))
}

fn length(effort: Effort) -> Duration {
    Duration::from_secs(if effort.quick { 7 } else { 12 })
}

pub fn evaluate(raw: Value, effort: Effort) -> Result<Finding> {
    let runs = &Runs::deserialize(&raw)?;
    let lost = |topology, arm| spread(runs, topology, arm, |run| as_f64(run.lost));
    let redis = [Topology::Sentinel, Topology::SentinelWithReplicas, Topology::Cluster];
    let plain = redis.map(|topology| lost(topology, ObserverArm::Publish));
    let raft = lost(Topology::Etcd, ObserverArm::OursOnEtcd);
    let verdict = judge(&plain, raft);
    let [sentinel, with_replicas, _] = plain;
    let mut all = runs.values().flatten().flat_map(BTreeMap::values);
    let is_counted = all.any(|run| run.minority_writes_after_takeover.is_some());
    let counted = if is_counted { MINORITY_WRITES } else { "" };
    let bars = redis.into_iter().zip(plain).chain([(Topology::Etcd, raft)]);
    let bars = bars.map(|(topology, lost)| (topology.name(), lost.median));
    let unlisted = |run: &Run| as_f64(LATE - run.late.unwrap_or_default());
    let unlisted = spread(runs, Topology::Sentinel, ObserverArm::OursOnRedis, unlisted);
    let mut advice = Vec::new();
    if verdict != Verdict::Refuted {
        advice.extend([["etcd", SURVIVE], ["neither", BOTH_SIDES]]);
    }
    if unlisted.max <= 0.0 {
        let loses_fewer = with_replicas.max < sentinel.min;
        advice.push([if loses_fewer { MIN_REPLICAS } else { "Redis with Sentinel" }, AGAIN]);
    }
    Ok(Finding {
        name: "partition",
        claim: "Redis Sentinel and Cluster lose acknowledged writes, and Raft does not",
        verdict,
        headline: format!(
            "Redis under Sentinel lost {} acknowledged writes in a partition, and etcd lost {}.",
            sentinel.median,
            raft.at_most("writes"),
        ),
        picture: Exhibit::picture("Acknowledged writes lost in a partition", bars),
        advice,
        reason: match verdict {
            Verdict::Confirmed => "In each of the three Redis topologies, and in every round, a partitioned primary acknowledged writes that it dropped when it became a replica of its successor; etcd lost none. The table below shows the registry: it loses writes with its Redis, and live instances register again on their own.",
            Verdict::InPart => "Some of the Redis topologies lose acknowledged writes, and others do not.",
            Verdict::Refuted => "No Redis topology lost writes in every round, or etcd lost writes, too.",
        }
        .to_owned(),
        exhibits: exhibits(runs).into(),
        method: vec![
            format!("The primary or leader is partitioned from all other servers for {} s: messages between them are dropped, and connections stay open. It is the minority side. Some clients are on its side and reach no other server until the partition heals; all other clients do not reach it. A primary that is silent for 1 s is replaced (Sentinel, Cluster); etcd elects a new leader after 1 s. With min-replicas 1 the servers have `min-replicas-to-write 1` and `min-replicas-max-lag 1`.", length(effort).as_secs()),
            format!("On both sides a client registers one instance after the other, and gives up on one after 1 s. A write is lost if it was acknowledged on either side and is missing after the partition, when the isolated server is a replica or follower. A round without a failover is invalid.{counted}"),
            format!("{LIVE} instances live on the majority side all the time, and {LATE} start on the minority side a second after the partition. A hash is written once; keys with a ttl of 5 s are set again every third of it; the registry renews its own registrations (ttl 5 s). Callers are on the majority side: with plain Redis they read everything every 50 ms, and keep the last answer; with the registry they have a view, which retains instances that disappear while the store is in trouble. The figures show what callers see, not what is in the store, until {} s after the end.", trial::AFTER.as_secs()),
            "Plain Redis is used through the Sentinel client and the cluster client of the `redis` crate. On a Cluster the registry connects to the address that the cluster gives for a node, and so no client registers with it on the minority side. A dash stands for a figure that was not measured.".to_owned(),
            "Median of the rounds, with minimum and maximum. Verdict: confirmed if plain Redis loses writes in each of the three topologies in every round, and etcd none; in part if in some; else refuted.".to_owned(),
        ],
        repeat: super::repeat("partition", effort),
        raw,
    })
}

/// Judges by the lost writes: in each Redis topology, and in etcd.
fn judge(redis: &[Spread], raft: Spread) -> Verdict {
    let (loses, keeps) = (|lost: &Spread| lost.min > 0.0, raft.max <= 0.0);
    Verdict::of(keeps && redis.iter().all(loses), keeps && redis.iter().any(loses))
}

fn spread(
    runs: &Runs,
    topology: Topology,
    arm: ObserverArm,
    figure: impl Fn(&Run) -> f64,
) -> Spread {
    Spread::of(runs[&topology].iter().map(|run| figure(&run[&arm])))
}

fn exhibits(runs: &Runs) -> [Exhibit; 2] {
    let columns = [
        "acknowledged on the minority side",
        "after the takeover",
        "lost",
        "longest unavailability on the other, s",
    ];
    let title = "Acknowledged writes lost after a partition";
    let mut writes = Exhibit::new(title, &columns, &["lost"]);
    let columns =
        ["unlisted meanwhile", "for at most, s", "started on the minority side, listed at the end"];
    let title = format!("How many of the {} live instances callers did not see", LIVE + LATE);
    let mut instances = Exhibit::new(title, &columns, &["meanwhile", "at the end"]);
    for (topology, arm) in
        Topology::ALL.iter().flat_map(|on| arms(*on).iter().map(move |arm| (*on, *arm)))
    {
        let name = match arm {
            ObserverArm::Publish => "hash",
            ObserverArm::Keyspace => "keys with a ttl",
            _ => "registry",
        };
        let name = format!("{}: {name}", topology.name());
        let of = |figure: fn(&Run) -> f64| spread(runs, topology, arm, figure);
        let tenths = |figure: fn(&Run) -> f64| of(figure).rounded(1).to_string();
        let minority = |figure: fn(&Run) -> Option<usize>, unit: &str| {
            let figures = runs[&topology].iter().map(|run| figure(&run[&arm]).map(as_f64));
            let figures = figures.collect::<Option<Vec<_>>>();
            figures.map_or_else(|| "-".into(), |figures| format!("{}{unit}", Spread::of(figures)))
        };
        let (lost, unlisted) = (of(|run| as_f64(run.lost)), of(|run| as_f64(run.unlisted)));
        let late = of(|run| as_f64(run.late.unwrap_or(LATE)));
        let cells = [
            minority(|run| run.minority_writes, ""),
            minority(|run| run.minority_writes_after_takeover, ""),
            lost.to_string(),
            tenths(|run| run.unavailability),
        ];
        writes.add(&name, cells, [lost.median]);
        let cells = [
            format!("{unlisted} of {LIVE}"),
            tenths(|run| run.longest_absence),
            minority(|run| run.late, &format!(" of {LATE}")),
        ];
        instances.add(&name, cells, [unlisted.median, as_f64(LATE) - late.median]);
    }
    [writes, instances]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_figures() {
        let spread = |min, max| Spread { median: max, min, max };
        let (none, some, at_times) = (spread(0.0, 0.0), spread(3.0, 9.0), spread(0.0, 9.0));
        assert_eq!(judge(&[some, some, some], none), Verdict::Confirmed);
        assert_eq!(judge(&[some, at_times, some], none), Verdict::InPart, "not in every round");
        assert_eq!(judge(&[none, none, none], none), Verdict::Refuted);
        assert_eq!(judge(&[some, some, some], at_times), Verdict::Refuted, "Raft loses too");
    }
}
