//! *Persistence differs*: a server crashes under writes, and restarts. Which acknowledged writes are lost? Were they
//! on disk when they were acknowledged? Which instances are listed after an outage longer than the leases?

mod servers;
mod syncs;

use self::servers::Mode;
use self::syncs::REGISTRATIONS;
use super::{Effort, Progress, poll, side_by_side, wait_until};
use crate::arms::TTL;
use crate::harness::{Server, Spread, StoreOptions, SyncCost, as_f64};
use crate::report::finding::{Exhibit, Finding, Verdict};
use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::sleep;

const SURVIVE: &str = "An acknowledged registration must survive a crash of its server.";
const DEFAULTS: &str =
    "An acknowledged registration must survive a crash with the default settings.";
const AOF: &str = "Redis with `appendonly yes` and `appendfsync always`";

/// The ttl of the leases, shorter than the outage, and long enough to register all instances on a busy machine.
const LEASE_TTL: Duration = Duration::from_secs(6);

const OUTAGE: Duration = Duration::from_secs(8);

/// The number of instances that are registered when the outage begins.
const INSTANCES: usize = 50;

/// The minimum number of acknowledged writes before a crash. A busy disk gets more time for them.
const MIN_ACKNOWLEDGED: usize = 10;

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Run {
    /// Registrations that were acknowledged before the crash.
    acknowledged: usize,
    /// Of these, those that are missing after the restart.
    lost: usize,
    /// The traced registrations that were not on disk when they were acknowledged, or why none was traced.
    unsynced: Result<usize, String>,
    /// The number of instances that are listed after the outage, before any renewal.
    listed: usize,
}

type Runs = BTreeMap<Mode, Vec<Run>>;

#[derive(Deserialize, Serialize)]
struct Figures {
    runs: Runs,
    /// What a sync to disk costs.
    disk: String,
}

pub async fn run(at: StoreOptions, effort: Effort, progress: Progress<'_>) -> Result<Value> {
    let after = Duration::from_millis(if effort.quick { 600 } else { 2_000 });
    let once = async |mode: Mode, _| round(mode, &at, after).await.with_context(|| mode.name());
    let runs = side_by_side(&Mode::ALL, effort, progress, once).await?;
    Ok(serde_json::to_value(Figures { runs, disk: SyncCost::of_disk()?.to_string() })?)
}

async fn round(mode: Mode, at: &StoreOptions, after: Duration) -> Result<Run> {
    let (acknowledged, lost) = crash(mode, at, after).await?;
    let unsynced = syncs::count_unsynced(mode, at).await;
    let unsynced = unsynced.map_err(|error| format!("{error:#}"));
    let listed = survive_outage(mode, at).await?;
    Ok(Run { acknowledged, lost, unsynced, listed })
}

/// Crashes a server some time after writes began, and restarts it. Returns the number of acknowledged writes, and how
/// many of these are missing after the restart.
async fn crash(mode: Mode, at: &StoreOptions, after: Duration) -> Result<(usize, usize)> {
    let mut server = mode.start(at).await?;
    let (client, acknowledged) = (mode.client(&server).await?, Cell::new(0));
    let writes = async {
        while client.register(&acknowledged.get().to_string(), TTL).await.is_ok() {
            acknowledged.set(acknowledged.get() + 1);
        }
    };
    let killing = async {
        sleep(after).await;
        let is_enough = || acknowledged.get() >= MIN_ACKNOWLEDGED;
        wait_until("too few writes are acknowledged", is_enough).await?;
        anyhow::Ok(server.process()?.kill()?)
    };
    tokio::select! {
        () = writes => bail!("invalid: a write failed before the crash"),
        killed = killing => killed?,
    }
    let left = list_after_restart(&mut server, mode).await?;
    let lost = (0..acknowledged.get()).filter(|id| !left.contains(&id.to_string())).count();
    Ok((acknowledged.get(), lost))
}

/// Kills a server, restarts it after all leases have expired, and counts the listed instances.
async fn survive_outage(mode: Mode, at: &StoreOptions) -> Result<usize> {
    let mut server = mode.start(at).await?;
    let client = mode.client(&server).await?;
    // All at once, so that none expires before the outage.
    let registering =
        (0..INSTANCES).map(async |id| client.register(&id.to_string(), LEASE_TTL).await);
    try_join_all(registering).await?;
    let registered = client.listed().await?.len();
    ensure!(registered == INSTANCES, "invalid: {registered} were registered before the outage");
    server.process()?.kill()?;
    sleep(OUTAGE).await;
    Ok(list_after_restart(&mut server, mode).await?.len())
}

/// Restarts a server, and returns the instances that a new client lists.
async fn list_after_restart(server: &mut Server, mode: Mode) -> Result<BTreeSet<String>> {
    server.process()?.restart().await?;
    let listed = async || mode.client(server).await.ok()?.listed().await.ok();
    poll("the server did not restart", listed).await
}

pub fn evaluate(raw: Value, effort: Effort) -> Result<Finding> {
    let Figures { runs, disk } = &Figures::deserialize(&raw)?;
    let lost = |mode| spread(runs, mode, |run| run.lost);
    let exposed = |mode| spread(runs, mode, |run| run.lost + unsynced(run));
    let not_traced = runs.values().flatten().find_map(|run| run.unsynced.as_ref().err());
    let share = |mode: &Mode| {
        Spread::of(runs[mode].iter().map(|run| 100.0 * as_f64(run.lost) / as_f64(run.acknowledged)))
    };
    let modes = [Mode::RedisDefault, Mode::RedisEverySecond, Mode::RedisAlways, Mode::Etcd];
    let bars = modes.iter().map(|mode| (mode.name(), share(mode).rounded(1).median));
    let (default_redis, always) = (lost(Mode::RedisDefault), exposed(Mode::RedisAlways));
    let verdict = judge(default_redis, always, exposed(Mode::Etcd));
    Ok(Finding {
        name: "persistence",
        claim: "Persistence differs",
        verdict,
        headline: format!(
            "A crash of Redis with default settings lost {:.0} % of the acknowledged writes, and with `appendfsync always` it lost {}.",
            share(&Mode::RedisDefault).median,
            share(&Mode::RedisAlways).at_most("%"),
        ),
        picture: Exhibit::picture("Acknowledged writes lost in a crash of the server, in %", bars),
        advice: match verdict {
            Verdict::Confirmed => vec![["etcd", SURVIVE]],
            Verdict::InPart => vec![["etcd", DEFAULTS], [AOF, SURVIVE]],
            Verdict::Refuted => Vec::new(),
        },
        reason: match (verdict, not_traced) {
            (Verdict::Confirmed, _) => "A Redis with default settings lost acknowledged writes; one that syncs its append-only file before each response lost writes, too, or acknowledged them before they were on disk; etcd did neither.".to_owned(),
            (Verdict::InPart, None) => "A Redis with default settings lost acknowledged writes in a crash. One that syncs its append-only file before each response lost none, and had them on disk when it acknowledged them, as etcd did.".to_owned(),
            (Verdict::InPart, Some(why)) => format!("A Redis with default settings lost acknowledged writes in a crash. One that syncs its append-only file before each response lost none, nor did etcd. Whether the writes were on disk by then was not traced: {why}."),
            (Verdict::Refuted, _) => "A Redis with default settings did not lose writes in every round, or etcd lost writes, too.".to_owned(),
        },
        exhibits: vec![crash_exhibit(runs, disk), outage_exhibit(runs)],
        method: vec![
            "Records are registered one after the other, and the server is killed meanwhile (SIGKILL) and restarted with its data. A write is lost if it was acknowledged and is not listed then.".to_owned(),
            "Writes to the kernel survive a kill. So the server's sync calls are traced, too (strace): a registration is on disk if the server began and completed a sync of its log between the request and the response (twice on etcd, which grants the lease first). A power failure at that moment would lose all others. Redis keeps its data on a disk, except the one with default settings; etcd does.".to_owned(),
            format!("Then {INSTANCES} instances with leases of {} s are registered when another server is killed, which is down for {} s. An instance counts as listed if a new client lists it after the restart, before any renewal. The Redis with default settings loses them in that crash, too. On Redis the leases of the registry run on their own clock, which is paused during an outage; etcd restarts all leases.", LEASE_TTL.as_secs(), OUTAGE.as_secs()),
            "Median of the rounds, with minimum and maximum. Verdict: confirmed if Redis loses writes with default settings, and with `always` loses writes, too, or acknowledges them before they are on disk, and etcd does neither; in part if only with default settings; else refuted.".to_owned(),
        ],
        repeat: super::repeat("persistence", effort),
        raw,
    })
}

/// Judges by the writes that default settings lose, and those that the others lose or do not have on disk.
fn judge(default_redis: Spread, always: Spread, etcd: Spread) -> Verdict {
    let differs = default_redis.min > 0.0 && etcd.max <= 0.0;
    Verdict::of(differs && always.max > 0.0, differs)
}

fn spread(runs: &Runs, mode: Mode, figure: fn(&Run) -> usize) -> Spread {
    Spread::of(runs[&mode].iter().map(|run| as_f64(figure(run))))
}

fn unsynced(run: &Run) -> usize {
    run.unsynced.as_ref().map_or(0, |unsynced| *unsynced)
}

fn crash_exhibit(runs: &Runs, disk: &str) -> Exhibit {
    let traced = format!("not on disk by then, of {REGISTRATIONS} traced");
    let columns = ["acknowledged", "lost in a crash", &traced];
    let title = "Acknowledged writes lost in a crash of the server, and those a crash of the machine would lose, in percent";
    let mut exhibit = Exhibit::new(title, &columns, &["lost in a crash", "others not on disk"]);
    exhibit.notes.push(format!("disk: {disk}"));
    for mode in Mode::ALL {
        let of = |figure| spread(runs, mode, figure);
        let why = runs[&mode].iter().find_map(|run| run.unsynced.as_ref().err());
        let unsynced = why.map_or_else(|| of(unsynced).to_string(), Clone::clone);
        let [acknowledged, lost] = [of(|run| run.acknowledged), of(|run| run.lost)];
        let share = of(|run| run.lost * 100 / run.acknowledged).median;
        let others = of(|run| self::unsynced(run) * 100 / REGISTRATIONS).median - share;
        let cells = [acknowledged.to_string(), lost.to_string(), unsynced];
        exhibit.add(mode.name(), cells, [share, others.max(0.0)]);
    }
    exhibit
}

fn outage_exhibit(runs: &Runs) -> Exhibit {
    let title = format!("Unlisted after an outage longer than the leases, of {INSTANCES}");
    let mut exhibit = Exhibit::new(title, &["listed after the outage"], &["unlisted"]);
    for mode in Mode::ALL {
        let listed = spread(runs, mode, |run| run.listed);
        exhibit.add(mode.name(), [listed], [as_f64(INSTANCES) - listed.median]);
    }
    exhibit
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
