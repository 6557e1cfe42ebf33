//! *Persistence differs*: a server crashes under writes, and restarts. Which acknowledged writes are lost? Were they
//! on disk when they were acknowledged? Which instances are listed after an outage longer than the leases?

mod crash;
mod servers;
mod syncs;

use self::crash::{CrashLoss, INSTANCES, LEASE_TTL, Outage};
use self::servers::Mode;
use self::syncs::Synced;
use super::{Effort, Progress, side_by_side};
use crate::harness::{Spread, StoreOptions, SyncCost, as_f64};
use crate::report::finding::{Bar, Exhibit, Finding, Plot, Verdict};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The result of one round.
#[derive(Clone, Debug, Serialize)]
struct Run {
    crash: CrashLoss,
    outage: Outage,
    /// The syncs, or why they were not traced.
    synced: Result<Synced, String>,
}

/// All rounds of each mode.
type Runs = BTreeMap<Mode, Vec<Run>>;

/// Runs the experiment.
pub async fn run(at: StoreOptions, effort: Effort, progress: Progress<'_>) -> Result<Finding> {
    let after = Duration::from_millis(if effort.quick { 600 } else { 2_000 });
    let once = async |mode: Mode, _| {
        let run = async {
            anyhow::Ok(Run {
                crash: crash::crash(mode, &at, after).await?,
                synced: syncs::trace(mode, &at).await.map_err(|error| format!("{error:#}")),
                outage: crash::survive_outage(mode, &at).await?,
            })
        };
        run.await.with_context(|| mode.name())
    };
    let runs = side_by_side(&Mode::ALL, effort, progress, once).await?;
    finding(&runs, effort)
}

/// Evaluates the figures.
fn finding(runs: &Runs, effort: Effort) -> Result<Finding> {
    let lost = |mode| spread(runs, mode, |run| as_f64(run.crash.lost));
    let exposed = |mode| spread(runs, mode, |run| as_f64(run.crash.lost + unsynced(run)));
    let unlisted = |mode| {
        spread(runs, mode, |run| as_f64(run.outage.registered.saturating_sub(run.outage.listed)))
    };
    let not_traced = runs.values().flatten().find_map(|run| run.synced.as_ref().err());
    let on_disk = |mode| {
        if not_traced.is_some() {
            return "not traced".to_owned();
        }
        let acknowledged = spread(runs, mode, |run| as_f64(acknowledged(run)));
        let unsynced = spread(runs, mode, |run| as_f64(unsynced(run)));
        format!("{unsynced} of {acknowledged}")
    };
    let (default_redis, always) = (lost(Mode::RedisDefault), exposed(Mode::RedisAlways));
    let verdict = judge(default_redis, always, exposed(Mode::Etcd));
    Ok(Finding {
        name: "persistence",
        claim: "persistence differs",
        verdict,
        figure: format!(
            "acknowledged writes lost in a crash: Redis with default settings {default_redis}, AOF everysec {}, AOF always {}, etcd {}; acknowledged before on disk: AOF everysec {}, AOF always {}, etcd {}; unlisted after an outage longer than the leases: plain keys {} of {INSTANCES}, registry on Redis {}, on etcd {}",
            lost(Mode::RedisEverySecond),
            lost(Mode::RedisAlways),
            lost(Mode::Etcd),
            on_disk(Mode::RedisEverySecond),
            on_disk(Mode::RedisAlways),
            on_disk(Mode::Etcd),
            unlisted(Mode::PlainKeys),
            unlisted(Mode::RedisAlways),
            unlisted(Mode::Etcd),
        ),
        reason: match (verdict, not_traced) {
            (Verdict::Confirmed, _) => "A Redis with default settings lost acknowledged writes; one that syncs its append-only file before each response lost writes, too, or acknowledged them before they were on disk; etcd did neither.".to_owned(),
            (Verdict::InPart, None) => "A Redis with default settings lost acknowledged writes in a crash. One that syncs its append-only file before each response lost none, and had them on disk when it acknowledged them, as etcd did.".to_owned(),
            (Verdict::InPart, Some(why)) => format!("A Redis with default settings lost acknowledged writes in a crash. One that syncs its append-only file before each response lost none, nor did etcd. Whether the writes were on disk by then was not traced: {why}."),
            (Verdict::Refuted, _) => "A Redis with default settings did not lose writes in every round, or etcd lost writes, too.".to_owned(),
        },
        exhibits: vec![crash_exhibit(runs)?, outage_exhibit(runs)],
        method: vec![
            "Records are registered one after the other, and the server is killed meanwhile (SIGKILL) and restarted with its data. A write is lost if it was acknowledged and is not listed then.".to_owned(),
            "Writes to the kernel survive a kill. So the server's sync calls are traced, too (strace): a registration is on disk if the server began and completed a sync of its log between the request and the response (twice on etcd, which grants the lease first). A power failure at that moment would lose all others. Redis keeps its data on a disk, except the one with default settings; etcd does.".to_owned(),
            format!("Then {INSTANCES} instances with leases of {} s are registered when another server is killed, which is down for {} s. An instance counts as listed if a new client lists it after the restart, before any renewal. (The Redis with default settings saved a snapshot before.) On Redis the leases of the registry run on their own clock, which is paused during an outage; etcd restarts all leases.", LEASE_TTL.as_secs(), crash::OUTAGE.as_secs()),
            "Median of the rounds, with minimum and maximum. Verdict: confirmed if Redis loses writes with default settings, and with `always` loses writes, too, or acknowledges them before they are on disk, and etcd does neither; in part if only with default settings; else refuted.".to_owned(),
        ],
        repeat: super::repeat("persistence", effort),
        raw: serde_json::to_value(runs)?,
    })
}

/// Judges by the writes lost with default settings, and by those lost or not on disk with the others, in all rounds.
fn judge(default_redis: Spread, always: Spread, etcd: Spread) -> Verdict {
    match (default_redis.min > 0.0, always.max > 0.0, etcd.max > 0.0) {
        (true, true, false) => Verdict::Confirmed,
        (true, false, false) => Verdict::InPart,
        _ => Verdict::Refuted,
    }
}

fn spread(runs: &Runs, mode: Mode, figure: impl Fn(&Run) -> f64) -> Spread {
    Spread::of(runs[&mode].iter().map(figure))
}

fn acknowledged(run: &Run) -> usize {
    run.synced.as_ref().map_or(0, |synced| synced.acknowledged)
}

fn unsynced(run: &Run) -> usize {
    run.synced.as_ref().map_or(0, |synced| synced.unsynced)
}

fn crash_exhibit(runs: &Runs) -> Result<Exhibit> {
    let lost_share = |run: &Run| as_f64(run.crash.lost * 100 / run.crash.acknowledged);
    let open_share = |run: &Run| as_f64(unsynced(run) * 100 / acknowledged(run).max(1));
    let row = |mode: Mode| {
        let of = |figure: fn(&Run) -> f64| spread(runs, mode, figure).to_string();
        let failure = runs[&mode].iter().find_map(|run| run.synced.as_ref().err());
        vec![
            mode.name().to_owned(),
            of(|run| as_f64(run.crash.acknowledged)),
            of(|run| as_f64(run.crash.lost)),
            failure.map_or_else(|| of(|run| as_f64(acknowledged(run))), |_| "not traced".into()),
            failure.map_or_else(|| of(|run| as_f64(unsynced(run))), Clone::clone),
        ]
    };
    let bar = |mode: Mode| {
        let lost = spread(runs, mode, lost_share).median;
        let besides = spread(runs, mode, open_share).median - lost;
        let parts = vec![lost, besides.max(0.0)];
        Bar { name: mode.name().to_owned(), parts }
    };
    let head =
        ["", "acknowledged", "lost in a crash", "acknowledged under strace", "not on disk by then"];
    let sync = format!("disk: {}", SyncCost::of_disk()?);
    let title = "Acknowledged writes lost in a crash of the server, and those a crash of the machine would lose, in percent";
    let plot = Plot::bars(&["lost in a crash", "others not on disk"], Mode::ALL.map(bar));
    Ok(Exhibit::new(title, plot).with_notes(vec![sync]).with_table(head, Mode::ALL.map(row)))
}

fn outage_exhibit(runs: &Runs) -> Exhibit {
    let unlisted = |run: &Run| as_f64(run.outage.registered.saturating_sub(run.outage.listed));
    let row = |mode: Mode| {
        let of = |figure: fn(&Run) -> f64| spread(runs, mode, figure).to_string();
        let registered = of(|run| as_f64(run.outage.registered));
        vec![mode.name().to_owned(), registered, of(|run| as_f64(run.outage.listed))]
    };
    let bar = |mode: Mode| Bar {
        name: mode.name().to_owned(),
        parts: vec![spread(runs, mode, unlisted).median],
    };
    let head = ["", "registered before the outage", "listed after it"];
    let title = format!("Unlisted after an outage longer than the leases, of {INSTANCES}");
    let plot = Plot::bars(&["unlisted"], Mode::ALL.map(bar));
    Exhibit::new(title, plot).with_table(head, Mode::ALL.map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_figures() {
        let spread = |min, max| Spread { median: min, min, max };
        let (none, some) = (spread(0.0, 0.0), spread(3.0, 9.0));
        assert_eq!(judge(some, none, none), Verdict::InPart);
        assert_eq!(judge(some, some, none), Verdict::Confirmed);
        assert_eq!(judge(some, none, some), Verdict::Refuted);
        assert_eq!(judge(none, none, none), Verdict::Refuted);
        assert_eq!(judge(spread(0.0, 9.0), none, none), Verdict::Refuted, "not in every round");
    }
}
