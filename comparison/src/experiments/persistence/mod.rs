//! *Persistence differs*: a server is killed under writes, and started again. What of all it acknowledged is
//! gone? Was it on disk when it was acknowledged? And who is still listed after an outage that outlasts the leases?

mod crash;
mod servers;
mod syncs;

use self::crash::{INSTANCES, Killed, Outage, SHORT};
use self::servers::Mode;
use self::syncs::Synced;
use super::{Effort, Progress, as_f64, side_by_side};
use crate::levels::SyncCost;
use crate::paired::Spread;
use crate::report::finding::{Bar, Exhibit, Finding, Plot, Verdict};
use crate::stores::Where;
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What became of one round.
#[derive(Clone, Debug, Serialize)]
struct Run {
    killed: Killed,
    outage: Outage,
    /// Or why nobody could look.
    synced: Result<Synced, String>,
}

/// All rounds of each mode.
type Runs = BTreeMap<Mode, Vec<Run>>;

/// Makes the experiment.
///
/// # Errors
///
/// If a server is missing, fails, or survives.
pub async fn run(at: Where, effort: Effort, progress: Progress<'_>) -> Result<Finding> {
    let after = Duration::from_millis(if effort.quick { 600 } else { 2_000 });
    let once = async |mode: Mode, _| {
        let run = async {
            anyhow::Ok(Run {
                killed: crash::kill(mode, &at, after).await?,
                synced: syncs::look(mode, &at).await.map_err(|error| format!("{error:#}")),
                outage: crash::outlast(mode, &at).await?,
            })
        };
        run.await.with_context(|| mode.name())
    };
    let runs = side_by_side(&Mode::ALL, effort, progress, once).await?;
    finding(&runs, effort)
}

/// What the figures say.
fn finding(runs: &Runs, effort: Effort) -> Result<Finding> {
    let lost = |mode| spread(runs, mode, |run| as_f64(run.killed.lost));
    let exposed = |mode| spread(runs, mode, |run| as_f64(run.killed.lost + unsynced(run)));
    let vanished =
        |mode| spread(runs, mode, |run| as_f64(run.outage.there.saturating_sub(run.outage.listed)));
    let unseen = runs.values().flatten().find_map(|run| run.synced.as_ref().err());
    let on_disk = |mode| {
        if unseen.is_some() {
            return "not looked at".to_owned();
        }
        let acknowledged = spread(runs, mode, |run| as_f64(acknowledged(run)));
        let unsynced = spread(runs, mode, |run| as_f64(unsynced(run)));
        format!("{unsynced} of {acknowledged}")
    };
    let (as_it_comes, always) = (lost(Mode::RedisAsItComes), exposed(Mode::RedisAlways));
    let verdict = judge(as_it_comes, always, exposed(Mode::Etcd));
    Ok(Finding {
        name: "persistence",
        claim: "persistence differs",
        verdict,
        figure: format!(
            "acknowledged and lost when killed: Redis as it comes {as_it_comes}, AOF everysec {}, AOF always {}, etcd {}; acknowledged before it was on disk: AOF everysec {}, AOF always {}, etcd {}; vanished in an outage longer than the leases: plain keys {} of {INSTANCES}, registry on Redis {}, on etcd {}",
            lost(Mode::RedisEverySecond),
            lost(Mode::RedisAlways),
            lost(Mode::Etcd),
            on_disk(Mode::RedisEverySecond),
            on_disk(Mode::RedisAlways),
            on_disk(Mode::Etcd),
            vanished(Mode::PlainKeys),
            vanished(Mode::RedisAlways),
            vanished(Mode::Etcd),
        ),
        reason: match (verdict, unseen) {
            (Verdict::Confirmed, _) => "A Redis as it comes lost what it had acknowledged; one that syncs its append-only file before each answer lost something, too, or did not have it on disk; etcd neither.".to_owned(),
            (Verdict::InPart, None) => "A Redis as it comes lost what it had acknowledged when it was killed. One that syncs its append-only file before each answer did not, and had it on disk by then, as etcd did.".to_owned(),
            (Verdict::InPart, Some(why)) => format!("A Redis as it comes lost what it had acknowledged when it was killed. One that syncs its append-only file before each answer did not, nor did etcd. Whether it was on disk by then nobody looked: {why}."),
            (Verdict::Refuted, _) => "A Redis as it comes did not lose something in every round, or etcd lost something, too.".to_owned(),
        },
        exhibits: vec![of_crashes(runs)?, of_outages(runs)],
        method: vec![
            "Instances are registered one after the other, and the server is killed meanwhile (SIGKILL) and started again with its data. Lost is what was acknowledged and is not listed then.".to_owned(),
            "A kill leaves what the kernel was given. So the server's calls are looked at, too (strace): a registration is on disk if the server began and ended to sync its log between the request and the answer (on etcd twice, since it grants the lease first). What is not would be lost if the power failed then. Redis keeps its data on a disk, but for the one as it comes; etcd does.".to_owned(),
            format!("Then {INSTANCES} instances with leases of {} s are there when another server is killed, which is away for {} s. Listed is who a newcomer is shown when it is back, before anybody renewed. (The Redis as it comes was told to save before.) On Redis the registry's leases run on a clock of their own that stands still in an outage, and etcd begins all leases anew.", SHORT.as_secs(), crash::OUTAGE.as_secs()),
            "Median of the rounds, with least and most. Verdict: confirmed if Redis loses something as it comes, and with `always` too or acknowledges there what is not on disk, and etcd does neither; in part if only as it comes; else refuted.".to_owned(),
        ],
        repeat: super::repeat("persistence", effort),
        raw: serde_json::to_value(runs)?,
    })
}

/// By what was lost as it comes, and by what was lost or not on disk with the others, each in all rounds.
fn judge(as_it_comes: Spread, always: Spread, etcd: Spread) -> Verdict {
    match (as_it_comes.min > 0.0, always.max > 0.0, etcd.max > 0.0) {
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

fn of_crashes(runs: &Runs) -> Result<Exhibit> {
    let lost_share = |run: &Run| as_f64(run.killed.lost * 100 / run.killed.acknowledged);
    let open_share = |run: &Run| as_f64(unsynced(run) * 100 / acknowledged(run).max(1));
    let row = |mode: Mode| {
        let of = |figure: fn(&Run) -> f64| spread(runs, mode, figure).to_string();
        let failure = runs[&mode].iter().find_map(|run| run.synced.as_ref().err());
        vec![
            mode.name().to_owned(),
            of(|run| as_f64(run.killed.acknowledged)),
            of(|run| as_f64(run.killed.lost)),
            failure.map_or_else(|| of(|run| as_f64(acknowledged(run))), |_| "not looked at".into()),
            failure.map_or_else(|| of(|run| as_f64(unsynced(run))), Clone::clone),
        ]
    };
    let bar = |mode: Mode| {
        let lost = spread(runs, mode, lost_share).median;
        let besides = spread(runs, mode, open_share).median - lost;
        let parts = vec![lost, besides.max(0.0)];
        Bar { name: mode.name().to_owned(), parts }
    };
    let head = [
        "",
        "acknowledged",
        "lost when killed",
        "acknowledged under strace",
        "not on disk by then",
    ];
    let sync = format!("disk: {}", SyncCost::of_disk()?);
    let title = "Of what was acknowledged, lost by a crash of the server, and what one of the machine would lose, in percent";
    let plot = Plot::bars(&["lost when killed", "not on disk besides"], Mode::ALL.map(bar));
    Ok(Exhibit::new(title, plot).with_notes(vec![sync]).with_table(head, Mode::ALL.map(row)))
}

fn of_outages(runs: &Runs) -> Exhibit {
    let gone = |run: &Run| as_f64(run.outage.there.saturating_sub(run.outage.listed));
    let row = |mode: Mode| {
        let of = |figure: fn(&Run) -> f64| spread(runs, mode, figure).to_string();
        let there = of(|run| as_f64(run.outage.there));
        vec![mode.name().to_owned(), there, of(|run| as_f64(run.outage.listed))]
    };
    let bar = |mode: Mode| Bar {
        name: mode.name().to_owned(),
        parts: vec![spread(runs, mode, gone).median],
    };
    let head = ["", "alive before the outage", "listed after it"];
    let title = format!("Vanished in an outage longer than the leases, of {INSTANCES}");
    let plot = Plot::bars(&["vanished"], Mode::ALL.map(bar));
    Exhibit::new(title, plot).with_table(head, Mode::ALL.map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_figures_lead_to_another_verdict() {
        let spread = |min, max| Spread { median: min, min, max };
        let (none, some) = (spread(0.0, 0.0), spread(3.0, 9.0));
        assert_eq!(judge(some, none, none), Verdict::InPart);
        assert_eq!(judge(some, some, none), Verdict::Confirmed);
        assert_eq!(judge(some, none, some), Verdict::Refuted);
        assert_eq!(judge(none, none, none), Verdict::Refuted);
        assert_eq!(judge(spread(0.0, 9.0), none, none), Verdict::Refuted, "not in every round");
    }
}
