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
use crate::report::finding::{Advice, Choice, Exhibit, Finding, Verdict};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const MINORITY_WRITES: &str = " The writes on the minority side are those that began and were acknowledged during the partition; those after the takeover began when another server had taken over.";
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
    let acknowledged = spread(runs, Topology::Sentinel, ObserverArm::Publish, |run| {
        as_f64(run.minority_writes.unwrap_or_default())
    });
    let unseen = |topology, arm| spread(runs, topology, arm, |run| as_f64(run.unseen()));
    let ours = unseen(Topology::Sentinel, ObserverArm::OursOnRedis);
    let ours_with_replicas = unseen(Topology::SentinelWithReplicas, ObserverArm::OursOnRedis);
    let all_seen = ours.max <= 0.0 && unseen(Topology::Etcd, ObserverArm::OursOnEtcd).max <= 0.0;
    let (hash, live) = (unseen(Topology::Sentinel, ObserverArm::Publish), LIVE + LATE);
    let needs_replicas = ours_with_replicas.max < ours.min;
    let exhibit = exhibit(runs, length(effort));
    let writes = |row: &[&str]| match row[1] {
        "-" => "lost writes: not measured".to_owned(),
        lost => format!("lost {lost} of {} acknowledged writes", row[2]),
    };
    let title = "Live instances that callers lost sight of".to_owned();
    let mut plot = exhibit.plot(title, 0, writes);
    plot.notes.extend([
        format!("The writes are those that the isolated primary or leader acknowledged in {} s. One more may be lost, which was in flight when the partition began. An instance in a hash registers only once.", length(effort).as_secs()),
        format!("On a Cluster the library follows redirects, so none of its clients used the isolated node, and {LATE} instances fewer were started."),
        format!("With `min-replicas-to-write 1`, Redis lost {} writes of the hash instead of {}. Callers of the library lost sight of {} instances with it, and of {} without it. The price was not measured: Redis refuses writes while no replica follows.", with_replicas.median, sentinel.median, ours_with_replicas.median, ours.median),
    ]);
    Ok(Finding {
        name: "partition",
        claim: "Redis Sentinel and Cluster lose acknowledged writes, and Raft does not",
        verdict,
        ruling: verdict.choose(["True, with this library too", "True of some topologies", "Not confirmed"]),
        headline: format!(
            "Redis under Sentinel lost {} of the {} writes that an isolated primary had acknowledged, and etcd lost {}{}.",
            sentinel.median,
            acknowledged.median,
            raft.at_most("writes"),
            if all_seen { "; callers of the library saw every live instance on both" } else { "" },
        ),
        plots: vec![plot],
        failed: (hash.min > 0.0).then(|| format!("callers of a hash lost sight of {} of {live} live instances in a partition", hash.median)),
        advice: Advice::all([
            (verdict != Verdict::Refuted, Advice::When(Choice::Etcd, "an acknowledged registration must survive a failover".to_owned())),
            (verdict != Verdict::Refuted, Advice::When(Choice::Neither, "both sides of a partition must accept registrations and keep them (Redis drops those of the minority side, and etcd rejects them)".to_owned())),
            (raft.max <= 0.0, Advice::With(Choice::Etcd, "three members".to_owned())),
            (ours.max <= 0.0 || needs_replicas, Advice::When(Choice::Redis, format!("a failover may lose acknowledged registrations, but live instances register again (callers saw all {live} of them {} s after a partition)", trial::AFTER.as_secs()))),
            (true, Advice::With(Choice::Redis, "a primary, two replicas and three sentinels".to_owned())),
            (needs_replicas, Advice::With(Choice::Redis, "`min-replicas-to-write 1` and `min-replicas-max-lag 1`".to_owned())),
        ]),
        reason: verdict.choose([
            "In each of the three Redis topologies, and in every round, a partitioned primary acknowledged writes that it dropped when it became a replica of its successor; etcd lost none. The library loses writes with its Redis, and live instances register again on their own.",
            "Some of the Redis topologies lose acknowledged writes, and others do not.",
            "No Redis topology lost writes in every round, or etcd lost writes, too.",
        ]).to_owned(),
        exhibits: vec![exhibit],
        method: vec![
            format!("The primary or leader is partitioned from all other servers for {} s: messages between them are dropped, and connections stay open. It is the minority side. Some clients are on its side and reach no other server until the partition heals; all other clients do not reach it. A primary that is silent for 1 s is replaced (Sentinel, Cluster); etcd elects a new leader after 1 s. With min-replicas 1 the servers have `min-replicas-to-write 1` and `min-replicas-max-lag 1`.", length(effort).as_secs()),
            format!("On both sides a client registers one instance after the other, and gives up on one after 1 s. A write is lost if it was acknowledged on either side and is missing after the partition, when the isolated server is a replica or follower. Lost writes may be more than the acknowledged ones by one, which began before the partition. A round without a failover is invalid.{counted}"),
            format!("{LIVE} instances live on the majority side all the time, and {LATE} start on the minority side a second after the partition. A hash is written once; keys with a ttl of 5 s are set again every third of it; the library renews its own registrations (ttl 5 s). Callers are on the majority side: with plain Redis they read everything every 50 ms, and keep the last answer; with the library they have a view, which retains instances that disappear while the store is in trouble. The figures show what callers see, not what is in the store, until {} s after the end.", trial::AFTER.as_secs()),
            "Plain Redis is used through the Sentinel client and the cluster client of the `redis` crate. On a Cluster the library connects to the address that the cluster gives for a node, and so no client registers with it on the minority side. A dash stands for a figure that was not measured.".to_owned(),
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

fn spread(runs: &Runs, on: Topology, arm: ObserverArm, figure: impl Fn(&Run) -> f64) -> Spread {
    Spread::of(runs[&on].iter().map(|run| figure(&run[&arm])))
}

fn exhibit(runs: &Runs, length: Duration) -> Exhibit {
    let unlisted = format!("unlisted meanwhile, of {LIVE}");
    let late = format!("started on the minority side, listed at the end, of {LATE}");
    let columns = [
        "lost sight of",
        "lost writes",
        "acknowledged on the minority side",
        "of these, after the takeover",
        "longest unavailability on the majority side, s",
        &unlisted,
        "for at most, s",
        &late,
    ];
    let title = format!("What a partition of {} s costs", length.as_secs());
    let mut exhibit = Exhibit::new(title, &columns);
    for (topology, arm) in
        Topology::ALL.iter().flat_map(|on| arms(*on).iter().map(move |arm| (*on, *arm)))
    {
        let name = match arm {
            ObserverArm::Publish => "hash",
            ObserverArm::Keyspace => "keys with a ttl",
            _ => "service-registry",
        };
        let tenths =
            |figure: fn(&Run) -> f64| spread(runs, topology, arm, figure).rounded(1).to_string();
        let minority = |figure: fn(&Run) -> Option<usize>| {
            let figures = runs[&topology].iter().map(|run| figure(&run[&arm]).map(as_f64));
            let figures = figures.collect::<Option<Vec<_>>>();
            figures.map_or_else(|| "-".into(), |figures| Spread::of(figures).to_string())
        };
        let late = minority(|run| run.late);
        let live = if late == "-" { LIVE } else { LIVE + LATE };
        let cells = [
            format!("{} of {live}", tenths(|run| as_f64(run.unseen()))),
            minority(|run| run.minority_writes.map(|_| run.lost)),
            minority(|run| run.minority_writes),
            minority(|run| run.minority_writes_after_takeover),
            tenths(|run| run.unavailability),
            tenths(|run| as_f64(run.unlisted)),
            tenths(|run| run.longest_absence),
            late,
        ];
        exhibit.add(&format!("{}: {name}", topology.name()), cells);
    }
    exhibit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_figures() {
        let [none, some, at_times] = [[0.0; 2], [3.0, 9.0], [0.0, 9.0]].map(Spread::of);
        assert_eq!(judge(&[some, some, some], none), Verdict::Confirmed);
        assert_eq!(judge(&[some, at_times, some], none), Verdict::InPart, "not in every round");
        assert_eq!(judge(&[none, none, none], none), Verdict::Refuted);
        assert_eq!(judge(&[some, some, some], at_times), Verdict::Refuted, "Raft loses too");
    }
}
