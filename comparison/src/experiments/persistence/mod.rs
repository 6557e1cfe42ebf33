//! *Persistence differs*: a server crashes under writes, and restarts. Which acknowledged writes are lost? Were they
//! on disk when they were acknowledged? Which instances are listed after an outage longer than the leases?

mod servers;
mod syncs;

use self::servers::Mode;
use self::syncs::REGISTRATIONS;
use super::{Effort, Progress, poll, side_by_side, wait_until};
use crate::arms::TTL;
use crate::harness::{Server, Spread, StoreOptions, as_f64, describe_sync_cost};
use crate::report::finding::{Advice, Choice, Exhibit, Finding, Verdict};
use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::sleep;

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
    let after = crash_after(effort);
    let once = async |mode: Mode, _| round(mode, &at, after).await.with_context(|| mode.name());
    let runs = side_by_side(&Mode::ALL, effort, progress, once).await?;
    Ok(serde_json::to_value(Figures { runs, disk: describe_sync_cost()? })?)
}

fn crash_after(effort: Effort) -> Duration {
    Duration::from_millis(if effort.quick { 600 } else { 2_000 })
}

async fn round(mode: Mode, at: &StoreOptions, after: Duration) -> Result<Run> {
    let (acknowledged, lost) = crash(mode, at, after).await?;
    let unsynced = syncs::count_unsynced(mode, at).await.map_err(|error| format!("{error:#}"));
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
    let with_file = [Mode::RedisEverySecond, Mode::RedisAlways].map(|mode| lost(mode).max);
    let with_file = Spread::of(with_file);
    let (default_redis, always) = (lost(Mode::RedisDefault), exposed(Mode::RedisAlways));
    let verdict = judge(default_redis, always, exposed(Mode::Etcd));
    let is_traced = not_traced.is_none();
    let plain = spread(runs, Mode::PlainKeys, |run| INSTANCES - run.listed);
    let is_only = is_traced && always.max <= 0.0 && exposed(Mode::RedisEverySecond).min > 0.0;
    let crash = crash_exhibit(runs, disk);
    let killed = "Process killed: acknowledged writes lost, in %".to_owned();
    let killed = crash.plot(killed, 2, |row| format!("{} of {} writes", row[1], row[0]));
    let power = format!("Power lost: acknowledged writes not on disk, of {REGISTRATIONS}");
    let mut plots = [killed, crash.plot(power, 3, |_| String::new())];
    plots[1].notes.push(not_traced.map_or_else(|| "No power was cut: strace shows which writes were synced when they were acknowledged. Redis with `everysec` syncs once a second.".to_owned(), |why| format!("Not measured: {why}.")));
    for plot in &mut plots {
        plot.servers = vec!["Redis with its data on a disk, but in memory with snapshots only (the `save` rules of redis.conf, of which none was due yet)".to_owned(), "etcd with fsync, on a disk".to_owned()];
    }
    Ok(Finding {
        name: "persistence",
        claim: "Persistence differs",
        verdict,
        ruling: verdict.choose(["True", "True of Redis without an append-only file, false with `appendfsync always`", "Not confirmed"]),
        headline: format!(
            "When its process was killed, Redis without an append-only file lost {:.0} % of {:.1} s of writes, and with one {}{}.",
            Spread::of(runs[&Mode::RedisDefault].iter().map(share)).median,
            crash_after(effort).as_secs_f64(),
            with_file.at_most("writes"),
            if is_only { "; in a power failure, only `appendfsync always` would lose none" } else { "" },
        ),
        plots: plots.into(),
        failed: (plain.min > 0.0).then(|| format!("{} of {INSTANCES} keys with a ttl had expired after an outage, until their instances registered again", plain.median)),
        advice: Advice::all([
            (verdict == Verdict::Confirmed, Advice::When(Choice::Etcd, "an acknowledged registration must survive a crash of its server".to_owned())),
            (is_traced && exposed(Mode::Etcd).max <= 0.0, Advice::With(Choice::Etcd, "fsync on, as by default".to_owned())),
            (with_file.max <= 0.0, Advice::With(Choice::Redis, "`appendonly yes` and `appendfsync everysec`, with which a killed process loses nothing".to_owned())),
            (is_traced && always.max <= 0.0, Advice::With(Choice::Redis, "`appendfsync always` instead, if a power failure must lose no acknowledged registration either".to_owned())),
        ]),
        reason: verdict.choose([
            "Redis without an append-only file lost acknowledged writes; one that syncs its append-only file before each response lost writes, too, or acknowledged them before they were on disk; etcd did neither.".to_owned(),
            format!("Redis without an append-only file lost acknowledged writes when its process was killed. One that syncs its append-only file before each response lost none, and neither did etcd. {}", not_traced.map_or_else(|| "Both had the writes on disk when they acknowledged them.".to_owned(), |why| format!("Whether the writes were on disk by then was not traced: {why}."))),
            "Redis without an append-only file did not lose writes in every round, or etcd lost writes, too.".to_owned(),
        ]),
        exhibits: vec![crash, outage_exhibit(runs)],
        method: vec![
            "Records are registered one after the other, and the server is killed meanwhile (SIGKILL) and restarted with its data. A write is lost if it was acknowledged and is not listed then.".to_owned(),
            "Writes to the kernel survive a kill. So the server's sync calls are traced, too (strace): a registration is on disk if the server began and completed a sync of its log between the request and the response (twice on etcd, which grants the lease first). A power failure at that moment would lose all others. Redis keeps its data on a disk, except the one with snapshots only; etcd does. It makes its first snapshot after 60 s at the earliest, and is killed before.".to_owned(),
            format!("Then {INSTANCES} instances with leases of {} s are registered when another server is killed, which is down for {} s. An instance counts as listed if a new client lists it after the restart, before any renewal. The Redis with snapshots only loses them in that crash, too. On Redis the leases of the library run on their own clock, which is paused during an outage; etcd restarts all leases.", LEASE_TTL.as_secs(), OUTAGE.as_secs()),
            "Median of the rounds, with minimum and maximum. Verdict: confirmed if Redis loses writes without an append-only file, and with `always` loses writes, too, or acknowledges them before they are on disk, and etcd does neither; in part if only without an append-only file; else refuted.".to_owned(),
        ],
        repeat: super::repeat("persistence", effort),
        raw,
    })
}

/// Judges by the writes that are lost without an append-only file, and those that the others lose or do not have on disk.
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

/// Returns the lost writes of a run in percent of the acknowledged ones.
fn share(run: &Run) -> f64 {
    100.0 * as_f64(run.lost) / as_f64(run.acknowledged)
}

fn crash_exhibit(runs: &Runs, disk: &str) -> Exhibit {
    let traced = format!("not on disk when acknowledged, of {REGISTRATIONS}");
    let columns = ["acknowledged", "lost when the process was killed", "in %", &traced];
    let mut exhibit = Exhibit::new("Acknowledged writes in a crash of the server", &columns);
    exhibit.notes.push(format!("disk: {disk}"));
    for mode in Mode::ALL {
        let of = |figure| spread(runs, mode, figure).to_string();
        let why = runs[&mode].iter().find_map(|run| run.unsynced.as_ref().err());
        let unsynced = why.map_or_else(|| of(unsynced), |why| format!("not traced: {why}"));
        let share = Spread::of(runs[&mode].iter().map(share)).rounded(1).to_string();
        exhibit.add(mode.name(), [of(|run| run.acknowledged), of(|run| run.lost), share, unsynced]);
    }
    exhibit
}

fn outage_exhibit(runs: &Runs) -> Exhibit {
    let title = "Listed after an outage longer than the leases, before any renewal";
    let mut exhibit = Exhibit::new(title, &[&format!("listed, of {INSTANCES}")]);
    for mode in Mode::ALL {
        exhibit.add(mode.name(), [spread(runs, mode, |run| run.listed)]);
    }
    exhibit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_figures() {
        let [none, some, at_times] = [[0.0; 2], [3.0, 9.0], [0.0, 9.0]].map(Spread::of);
        assert_eq!(judge(some, none, none), Verdict::InPart);
        assert_eq!(judge(some, some, none), Verdict::Confirmed);
        assert_eq!(judge(some, none, some), Verdict::Refuted);
        assert_eq!(judge(none, none, none), Verdict::Refuted);
        assert_eq!(judge(at_times, none, none), Verdict::Refuted, "not in every round");
    }
}
