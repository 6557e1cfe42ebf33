//! *The latency of Redis is higher than that of etcd's watch*: the time from when a change is due until an observer
//! sees it, and how late it sees that an instance has expired.

mod expiry;
mod pushes;

use self::expiry::Expirations;
use self::pushes::{AtLevel, Run};
use super::observers::ObserverArm;
use super::{Effort, Progress};
use crate::harness::{Level, Spread, StoreOptions, describe_sync_cost};
use crate::report::finding::{Advice, Choice, Exhibit, Finding, Verdict};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The arms that are compared: on Redis, and on etcd.
const PAIRS: [(&str, ObserverArm, ObserverArm); 2] = [
    ("plain", ObserverArm::Publish, ObserverArm::PlainEtcd),
    ("service-registry", ObserverArm::OursOnRedis, ObserverArm::OursOnEtcd),
];

/// A latency below this, in milliseconds, does not matter beside the ttl of an instance.
const NEGLIGIBLE: f64 = 100.0;

/// The percentiles of a round, in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Deserialize, Serialize)]
struct Figures {
    pushes: BTreeMap<Level, AtLevel>,
    expirations: Expirations,
    /// The servers of the expirations.
    servers: Vec<String>,
    /// What a sync to disk costs.
    disk: String,
}

pub async fn run(at: StoreOptions, effort: Effort, progress: Progress<'_>) -> Result<Value> {
    let pushes = pushes::run(&at, effort, progress).await?;
    let (servers, expirations) = expiry::run(&at, effort, progress).await?;
    let disk = describe_sync_cost()?;
    Ok(serde_json::to_value(Figures { pushes, expirations, servers, disk })?)
}

pub fn evaluate(raw: Value, effort: Effort) -> Result<Finding> {
    let Figures { pushes, expirations, servers, disk } = Figures::deserialize(&raw)?;
    let ratios = pushes.values().flat_map(AtLevel::ratios);
    let ratios: Vec<Spread> = ratios.map(|(_, ratio)| ratio).collect();
    let (others, most) = expirations.last_key_value().context("no instance expired")?;
    let native = most[&ObserverArm::Keyspace].iter().zip(&most[&ObserverArm::OursOnEtcd]);
    let native = Spread::of(native.map(|(redis, etcd)| redis.p50 / etcd.p50));
    let verdict = judge(&ratios, native);
    let durable = pushes.get(&Level::OnDisk).context("no change was pushed")?;
    let title = "Median time until a durable change is seen, in ms".to_owned();
    let pushed = level_exhibit(Level::OnDisk, durable, &disk);
    let mut pushed = pushed.plot(title, 0, |row| format!("p99: {} ms", row[2]));
    let expired = expiry_exhibit(&servers, &expirations);
    let title = format!("Median delay of an expiry beside {others} other instances, in ms");
    let mut late = expired.plot(title, expired.columns.len() - 2, |row| {
        format!("the latest of {}: {} ms", expiry::EXPIRING, row[row.len() - 1])
    });
    late.notes.push("Left out: a hash, whose fields do not expire.".to_owned());
    (pushed.servers, late.servers) = (durable.servers.clone(), servers);
    let slowest = pushed.bars.iter().map(|bar| bar.length).fold(0.0, f64::max);
    let beside =
        if slowest < NEGLIGIBLE { ", which does not matter beside a ttl of seconds" } else { "" };
    let keys = Spread::of(most[&ObserverArm::Keyspace].iter().map(|late| late.p50 / 1e3));
    let levels = pushes.iter().map(|(level, at)| level_exhibit(*level, at, &disk));
    Ok(Finding {
        name: "latency",
        claim: "The latency of Redis is higher than that of etcd's watch",
        verdict,
        ruling: verdict.choose(["True", if ratios.iter().any(|ratio| ratio.min > 1.0) { "True in some cases" } else { "False of changes, true of expiry on plain Redis" }, "Not confirmed"]),
        headline: format!(
            "A durable change is typically seen within {:.0} ms on either store{beside}; beside many others, plain Redis expires a key {:.1} s late.",
            slowest.ceil(),
            keys.median,
        ),
        plots: vec![pushed, late],
        failed: None,
        advice: Advice::all([(true, Advice::When(Choice::Neither, "a crashed instance must get no calls even before its ttl ends (let callers detect failed calls, as the balancer of the library does)".to_owned()))]),
        reason: verdict.choose([
            "A pushed change is seen later on Redis than on etcd at each level of durability, in every round.",
            "Pushes and expirations differ, and so do the levels of durability: in some of these cases, but not in all, Redis is later in every round.",
            "Redis is not later than etcd in every round at any level: neither for a pushed change where both promise the same durability, nor for the expiry of a key.",
        ]).to_owned(),
        exhibits: levels.chain([expired]).collect(),
        method: vec![
            format!("Pushes: a single writer updates 50 instances with {} bytes each, one every {} ms, regardless of how long the previous update took (an open loop). The latency is from when a change is due to when the observer has decoded it, in one process with one clock. A round in which the writer did not keep up is ignored.", pushes::PAYLOAD_LEN, pushes::INTERVAL.as_millis()),
            "An update is one pipeline with HSET + PUBLISH, one SET with keys, one put on plain etcd, and one script of the library on Redis. The library on etcd makes one transaction, and renews the lease beside it. So plain beside plain compares the stores, and library beside library compares what a user of the library waits for.".to_owned(),
            "Arms take turns, and the first one rotates. Each store is one server, on this machine. Keys with notifications have their own server; the value is read after the notification, which does not carry it.".to_owned(),
            format!("Expirations: {} instances with a ttl of {} s are registered over one second and never renewed, beside other live instances. The latency is from the end of the ttl to when the observer sees the deletion. With `HSET` and `PUBLISH` it never does: the fields of a hash do not expire.", expiry::EXPIRING, expiry::TTL.as_secs()),
            "Median of the rounds, with minimum and maximum. Verdict: confirmed if in every round a pushed change takes longer on Redis than on etcd at each level, plain beside plain and library beside library; in part if it does in some case, or if keys of Redis expire later than etcd's leases in every round; else refuted.".to_owned(),
        ],
        repeat: super::repeat("latency", effort),
        raw,
    })
}

/// Judges by pushes at each level and by the expiry of keys, both as multiples of etcd's.
fn judge(pushes: &[Spread], expiry: Spread) -> Verdict {
    let is_later = |ratio: &Spread| ratio.min > 1.0;
    let is_later_in_part = pushes.iter().any(is_later) || is_later(&expiry);
    Verdict::of(!pushes.is_empty() && pushes.iter().all(is_later), is_later_in_part)
}

impl AtLevel {
    /// Returns the median latency of a pushed change on Redis as a multiple of etcd's, for each pair at this level.
    /// Rounds in which a writer did not keep up are ignored.
    fn ratios(&self) -> Vec<(&'static str, Spread)> {
        let mut ratios = Vec::new();
        for (name, redis, etcd) in PAIRS {
            let etcd = self.runs.get(&etcd).into_iter().flatten();
            let rounds = self.runs[&redis].iter().zip(etcd);
            let rounds = rounds.filter(|(redis, etcd)| redis.kept_up && etcd.kept_up);
            let rounds: Vec<f64> =
                rounds.map(|(redis, etcd)| redis.seen.p50 / etcd.seen.p50).collect();
            ratios.extend((!rounds.is_empty()).then(|| (name, Spread::of(rounds))));
        }
        ratios
    }
}

fn level_exhibit(level: Level, at: &AtLevel, disk: &str) -> Exhibit {
    let title = format!("From when a change is due to when it is seen, in ms: {}", level.name());
    let columns = ["seen, p50", "p90", "p99", "acknowledged, p50"];
    let mut exhibit = Exhibit::new(title, &columns);
    exhibit.notes.clone_from(&at.servers);
    exhibit.notes.push(format!("disk: {disk}"));
    for (pair, ratio) in at.ratios() {
        exhibit.notes.push(format!("{pair}, Redis / etcd, p50: {}", ratio.rounded(2)));
    }
    for (arm, runs) in &at.runs {
        let (name, behind) = (arm.name(), runs.iter().filter(|run| !run.kept_up).count());
        if behind > 0 {
            let rounds = runs.len();
            exhibit.notes.push(format!("{name} did not keep up in {behind} of {rounds} rounds"));
        }
        let of = |figure: fn(&Run) -> f64| Spread::of(runs.iter().map(figure)).rounded(2);
        let seen = [of(|run| run.seen.p50), of(|run| run.seen.p90), of(|run| run.seen.p99)];
        exhibit.add(name, seen.into_iter().chain([of(|run| run.acknowledged.p50)]));
    }
    exhibit
}

fn expiry_exhibit(servers: &[String], late: &Expirations) -> Exhibit {
    let column = |others: &usize| [format!("{others} others: p50"), "max".to_owned()];
    let columns: Vec<String> = late.keys().flat_map(column).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut exhibit = Exhibit::new("How late an expiry is seen, in ms", &columns);
    exhibit.notes = servers.to_vec();
    for arm in expiry::ARMS {
        let cells = late.values().flat_map(|arms| {
            let runs = arms[&arm].iter();
            let of = |figure: fn(&_) -> f64| Spread::of(runs.clone().map(figure)).rounded(1);
            [of(|late: &Percentiles| late.p50), of(|late| late.max)]
        });
        exhibit.add(arm.name(), cells);
    }
    exhibit
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let last = times.len() - 1;
        let at = |percent: usize| times[last * percent / 100].as_secs_f64() * 1e3;
        Self { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_figures() {
        let [less, more, at_times] = [[0.4, 0.6], [1.2, 2.0], [0.9, 2.0]].map(Spread::of);
        assert_eq!(judge(&[less, less], less), Verdict::Refuted);
        assert_eq!(judge(&[less, less], more), Verdict::InPart);
        assert_eq!(judge(&[less, more], less), Verdict::InPart);
        assert_eq!(judge(&[less, at_times], less), Verdict::Refuted);
        assert_eq!(judge(&[more, more], less), Verdict::Confirmed);
        assert_eq!(judge(&[less], at_times), Verdict::Refuted, "not in every round");
        assert_eq!(judge(&[], more), Verdict::InPart);
    }
}
