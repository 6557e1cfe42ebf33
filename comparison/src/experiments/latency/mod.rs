//! *The latency of Redis is higher than that of etcd's watch*: the time from when a change is due until an observer
//! sees it, and how late it sees that an instance has expired.

mod expiry;
mod pushes;

use self::expiry::Expirations;
use self::pushes::{AtLevel, Pushes};
use super::observers::ObserverArm;
use super::{Effort, Progress};
use crate::harness::{Level, Spread, StoreOptions, SyncCost, as_f64};
use crate::report::finding::{Axis, Exhibit, Finding, Line, Lines, Plot, Tick, Verdict};
use anyhow::{Context, Result};
use serde_json::json;
use std::iter;

/// Two arms that are compared.
#[derive(Clone, Copy)]
struct Pair {
    name: &'static str,
    redis: ObserverArm,
    etcd: ObserverArm,
}

const PAIRS: [Pair; 2] = [
    Pair { name: "plain", redis: ObserverArm::Publish, etcd: ObserverArm::PlainEtcd },
    Pair { name: "registry", redis: ObserverArm::OursOnRedis, etcd: ObserverArm::OursOnEtcd },
];

/// Runs the experiment.
pub async fn run(at: StoreOptions, effort: Effort, progress: Progress<'_>) -> Result<Finding> {
    let pushes = pushes::run(&at, effort, &|what, share| progress(what, share * 0.6)).await?;
    let expirations =
        expiry::run(&at, effort, &|what, share| progress(what, 0.6 + share * 0.4)).await?;
    finding(&pushes, &expirations, effort)
}

/// Evaluates the figures.
fn finding(pushes: &Pushes, expirations: &Expirations, effort: Effort) -> Result<Finding> {
    let ratios: Vec<_> = pushes
        .levels
        .iter()
        .flat_map(|(level, at)| PAIRS.map(|pair| Some((*level, pair.name, ratio(at, pair)?))))
        .flatten()
        .collect();
    let (others, most) = expirations.late.last_key_value().context("no instance expired")?;
    let median = |run: &Vec<f64>| run[run.len() / 2];
    let late = |arm| Spread::of(most[&arm].iter().map(median));
    let native = most[&ObserverArm::Keyspace].iter().zip(&most[&ObserverArm::OursOnEtcd]);
    let native = Spread::of(native.map(|(redis, etcd)| median(redis) / median(etcd)));
    let verdict = judge(&ratios.iter().map(|(_, _, ratio)| *ratio).collect::<Vec<_>>(), native);
    let multiples: Vec<String> = ratios
        .iter()
        .map(|(level, name, ratio)| format!("{}: {name} {}", level.name(), rounded(*ratio, 2)))
        .collect();
    let levels = pushes.levels.iter().map(|(level, at)| level_exhibit(*level, at, pushes.sync));
    Ok(Finding {
        name: "latency",
        claim: "the latency of Redis is higher than that of etcd's watch",
        verdict,
        figure: format!(
            "a pushed change, Redis as a multiple of etcd: {}; an expiry, beside {others} others: keys of Redis {} ms late, the registry on Redis {}, on etcd {}",
            multiples.join("; "),
            rounded(late(ObserverArm::Keyspace), 0),
            rounded(late(ObserverArm::OursOnRedis), 0),
            rounded(late(ObserverArm::OursOnEtcd), 0),
        ),
        reason: match verdict {
            Verdict::Confirmed => "A pushed change is seen later on Redis than on etcd at each level of durability, in every round.",
            Verdict::InPart => "Pushes and expirations differ, and so do the levels of durability: in some of these cases, but not in all, Redis is later in every round.",
            Verdict::Refuted => "Redis is not later than etcd in every round at any level: neither for a pushed change where both promise the same durability, nor for the expiry of a key.",
        }
        .to_owned(),
        exhibits: levels.chain(iter::once(expiry_exhibit(expirations))).collect(),
        method: vec![
            format!("Pushes: updates of 50 instances with {} bytes each by one writer, one every {} ms, regardless of how long the previous one took (an open loop). The latency is from when a change is due to when the observer has decoded it, in one process with one clock. It includes the lateness of the harness, which is listed, too. A round in which the writer did not keep up is ignored.", pushes::PAYLOAD_LEN, pushes::INTERVAL.as_millis()),
            "An update is one pipeline with HSET + PUBLISH, one SET with keys, one put on plain etcd, and one script of the registry on Redis. The registry on etcd makes one transaction, and renews the lease beside it. So plain beside plain compares the stores, and registry beside registry compares what a user of the registry waits for.".to_owned(),
            "Arms take turns, and the first one rotates. Each store is one server, on this machine. Keys with notifications have their own server; the value is read after the notification, which does not carry it.".to_owned(),
            format!("Expirations: {} instances with a ttl of {} s are registered over one second and never renewed, beside other live instances. The latency is from the end of the ttl to when the observer sees the deletion. With `HSET` and `PUBLISH` it never does: the fields of a hash do not expire.", expiry::EXPIRING, expiry::TTL.as_secs()),
            "Median of the rounds, with minimum and maximum. Verdict: confirmed if in every round a pushed change takes longer on Redis than on etcd at each level, plain beside plain and registry beside registry; in part if it does in some case, or if keys of Redis expire later than etcd's leases in every round; else refuted.".to_owned(),
        ],
        repeat: super::repeat("latency", effort),
        raw: json!({ "pushes": pushes, "expirations": expirations }),
    })
}

/// Judges by the latency of a pushed change on Redis as a multiple of etcd's at each level, and by the lateness of
/// Redis' own expiry as a multiple of etcd's.
fn judge(pushes: &[Spread], expiry: Spread) -> Verdict {
    let is_later = |ratio: &Spread| ratio.min > 1.0;
    if !pushes.is_empty() && pushes.iter().all(is_later) {
        Verdict::Confirmed
    } else if pushes.iter().any(is_later) || is_later(&expiry) {
        Verdict::InPart
    } else {
        Verdict::Refuted
    }
}

/// The median of a pushed change on Redis as a multiple of that on etcd, round by round, where both promise this
/// and both writers kept up.
fn ratio(at: &AtLevel, pair: Pair) -> Option<Spread> {
    let (redis, etcd) = (at.runs.get(&pair.redis)?, at.runs.get(&pair.etcd)?);
    let rounds = redis.iter().zip(etcd).filter(|(redis, etcd)| redis.kept_up() && etcd.kept_up());
    let ratios: Vec<f64> = rounds.map(|(redis, etcd)| redis.seen.p50 / etcd.seen.p50).collect();
    (!ratios.is_empty()).then(|| Spread::of(ratios))
}

fn level_exhibit(level: Level, at: &AtLevel, sync: SyncCost) -> Exhibit {
    let mut notes = at.servers.clone();
    notes.push(format!("disk: {sync}"));
    for pair in PAIRS {
        if let Some(ratio) = ratio(at, pair) {
            notes.push(format!("{}, Redis / etcd, p50: {}", pair.name, rounded(ratio, 2)));
        }
    }
    for (arm, runs) in &at.runs {
        let behind = runs.iter().filter(|run| !run.kept_up()).count();
        if behind > 0 {
            notes.push(format!(
                "{} did not keep up in {behind} of {} rounds",
                arm.name(),
                runs.len()
            ));
        }
    }
    let rows = at.runs.iter().map(|(arm, runs)| {
        let cell = |digits, figure: fn(&pushes::Run) -> f64| {
            rounded(Spread::of(runs.iter().map(|run| figure(run) / 1e3)), digits).to_string()
        };
        vec![
            arm.name().to_owned(),
            cell(2, |run| run.seen.p50),
            cell(2, |run| run.seen.p90),
            cell(2, |run| run.seen.p99),
            cell(2, |run| run.acknowledged.p50),
            cell(3, |run| run.harness.p50),
        ]
    });
    let head = ["ms", "seen, p50", "p90", "p99", "acknowledged, p50", "harness, p50"];
    let lines = at.seen.iter().map(|(arm, seen)| {
        let shares = (0..=75u32).map(|n| 1.0 - 10f64.powf(-f64::from(n) / 25.0));
        let point = |share| {
            let at = pushes::microseconds(seen.value_at_quantile(share));
            (Tick::of_share(share), at / 1e3)
        };
        line(*arm, shares.map(point).collect())
    });
    let lines: Vec<Line> = lines.collect();
    let heights = || lines.iter().flat_map(|line| &line.points).map(|(_, height)| *height);
    let (least, most) = (heights().fold(f64::MAX, f64::min), heights().fold(0.1, f64::max));
    let y = Axis::log("milliseconds", least.max(0.001), most);
    let plot = Plot::Lines(Lines { x: Axis::percentiles(), y, lines });
    let title = format!("From when a change is due to when it is seen: {}", level.name());
    Exhibit::new(title, plot).with_notes(notes).with_table(head, rows)
}

fn expiry_exhibit(Expirations { servers, late: expirations }: &Expirations) -> Exhibit {
    let percentile = |run: &[f64], share: usize| run[(run.len() * share / 100).min(run.len() - 1)];
    let spread = |others: usize, arm, share| {
        Spread::of(expirations[&others][&arm].iter().map(|run| percentile(run, share)))
    };
    let mut head = vec!["ms".to_owned()];
    for others in expirations.keys() {
        head.push(format!("{others} others: p50"));
        head.push("max".to_owned());
    }
    let mut rows = vec![vec![ObserverArm::Publish.name().to_owned()]];
    rows[0].resize(head.len(), "never".to_owned());
    let mut lines = Vec::new();
    for arm in expiry::ARMS {
        let mut row = vec![arm.name().to_owned()];
        let mut points = Vec::new();
        for (n, others) in expirations.keys().enumerate() {
            let median = spread(*others, arm, 50);
            row.extend(
                [median, spread(*others, arm, 100)].map(|late| rounded(late, 1).to_string()),
            );
            points.push((as_f64(n), median.median.max(0.1)));
        }
        lines.push(line(arm, points));
        rows.push(row);
    }
    let ticks = expirations.keys().enumerate();
    let ticks = ticks.map(|(n, others)| Tick { at: as_f64(n), label: others.to_string() });
    let x = Axis { name: "others".to_owned(), is_log: false, ticks: ticks.collect() };
    let most =
        lines.iter().flat_map(|line| &line.points).map(|(_, late)| *late).fold(1.0, f64::max);
    let plot = Plot::Lines(Lines { x, y: Axis::log("milliseconds", 0.1, most), lines });
    Exhibit::new("How late an expiry is seen: the median", plot)
        .with_notes(servers.clone())
        .with_table(head, rows)
}

/// Returns a line in the style of the arm, which is the same in each plot.
fn line(arm: ObserverArm, points: Vec<(f64, f64)>) -> Line {
    Line { name: arm.name().to_owned(), style: arm as usize, points }
}

/// Rounds to so many decimals.
fn rounded(Spread { median, min, max }: Spread, digits: i32) -> Spread {
    let unit = 10f64.powi(digits);
    let [median, min, max] = [median, min, max].map(|figure| (figure * unit).round() / unit);
    Spread { median, min, max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_figures() {
        let spread = |min, median, max| Spread { median, min, max };
        let (less, more) = (spread(0.4, 0.5, 0.6), spread(1.2, 1.5, 2.0));
        assert_eq!(judge(&[less, less], less), Verdict::Refuted);
        assert_eq!(judge(&[less, less], more), Verdict::InPart);
        assert_eq!(judge(&[less, more], less), Verdict::InPart);
        assert_eq!(judge(&[less, spread(0.9, 1.5, 2.0)], less), Verdict::Refuted);
        assert_eq!(judge(&[more, more], less), Verdict::Confirmed);
        assert_eq!(judge(&[less], spread(0.9, 1.5, 2.0)), Verdict::Refuted, "not in every round");
        assert_eq!(judge(&[], more), Verdict::InPart);
    }
}
