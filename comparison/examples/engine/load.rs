//! 10,000 changes a second over 1,000 services with ten subscribers each, some of which never read.

use crate::backlog;
use crate::fixture::two_threads;
use crate::heap::Heap;
use crate::traffic::{DeliveryErrors, Histogram, SERVICES, Schedule, Traffic, follow};
use anyhow::{Context, Result};
use comparison::figures::{Figure, Report};
use comparison::meter::{as_f64, process_time, resident};
use futures_util::{FutureExt, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Subscribers of each service that read; one that is stuck makes ten.
const READERS: u64 = 9;

pub(crate) fn report(quick: bool) -> Result<Report> {
    let mut report = Report::default();
    let phase = Duration::from_secs(if quick { 1 } else { 5 });
    let phases = if quick { 4 } else { 12 };
    // One stuck: what is lost, and what piles up.
    let steady = run(|service| service == 0, phase, phases)?;
    steady.integrity(&mut report, "one stuck");
    let [early, late] = steady.memory;
    report.add(Figure::timed("resident after a third", early.resident, "MiB"));
    report.add(Figure::timed("resident near the end", late.resident, "MiB"));
    let growth = (late.heap - early.heap) / 1024.0;
    report.add(Figure::counted("heap: growth in between", growth, "KiB").at_most(8192.0));
    report.add(Figure::timed("of a core", steady.cores * 100.0, "%").aim(25.0));
    backlog::bounded(&mut report)?;

    // One stuck in each of half of the services: what the others of these notice.
    let halves = run(|service| service % 2 == 0, phase, phases)?;
    halves.integrity(&mut report, "500 stuck");
    let [with, without, again] = halves.p99();
    let ratio = |times: &[f64]| -> Vec<f64> {
        times.iter().zip(&without).map(|(time, without)| time / without).collect()
    };
    report.add(Figure::median("p99 from the due time, without", &without, "us"));
    report.add(Figure::median("p99 from the due time, with one stuck", &with, "us"));
    report.add(Figure::median("p99 with / without", &ratio(&with), "x").at_most(1.05));
    report.add(Figure::median("A/A: p99 without / without", &ratio(&again), "x"));
    let lag: Vec<f64> = halves.phases.iter().map(|phase| phase.lag.quantile(990)).collect();
    report.add(Figure::median("p99 of the generator's own lag", &lag, "us"));
    let whole = phase * phases;
    report.note(format!("{whole:?} with one stuck, then {whole:?} with one stuck in each other service; each service has 9 readers"));
    report.note(format!("p99 of {phase:?} each, over all deliveries in services with a stuck one, and in those without, whose changes take turns"));
    Ok(report)
}

/// What was seen.
struct Outcome {
    errors: Arc<DeliveryErrors>,
    missing: u64,
    phases: Arc<[Phase]>,
    /// After a third, and near the end.
    memory: [Memory; 2],
    cores: f64,
}

struct Phase {
    /// Of services with a stuck subscriber in the second run, and twice of services without.
    late: [Histogram; 3],
    lag: Histogram,
}

impl Phase {
    fn new() -> Self {
        Self { late: [0; 3].map(|_| Histogram::new()), lag: Histogram::new() }
    }

    /// Neighbours are in different groups, so that what the machine does hits all alike.
    fn late(&self, service: u64) -> &Histogram {
        match service % 4 {
            0 | 2 => &self.late[0],
            1 => &self.late[1],
            _ => &self.late[2],
        }
    }
}

#[derive(Clone, Copy)]
struct Memory {
    heap: f64,
    resident: f64,
}

impl Outcome {
    fn integrity(&self, report: &mut Report, label: &str) {
        let none = |name: &str, count: u64| {
            let count = as_f64(count);
            Figure::counted(format!("{label}: {name}"), count, "").exactly(0.0)
        };
        let seen: u64 =
            self.phases.iter().flat_map(|phase| &phase.late).map(Histogram::count).sum();
        let seen = as_f64(seen);
        report.add(Figure::counted(format!("{label}: changes delivered"), seen, ""));
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        report.add(none("lost", count(&self.errors.lost) + self.missing));
        report.add(none("duplicated", count(&self.errors.duplicated)));
        report.add(none("out of order", count(&self.errors.out_of_order)));
    }

    fn p99(&self) -> [Vec<f64>; 3] {
        [0, 1, 2].map(|n| self.phases.iter().map(|phase| phase.late[n].quantile(990)).collect())
    }
}

/// Runs phases, with a subscriber that is stuck in some services.
fn run(is_stuck: impl Fn(u64) -> bool, phase: Duration, phases: u32) -> Result<Outcome> {
    let length = phase * phases;
    let runtime = two_threads()?;
    runtime.block_on(async {
        let traffic = Arc::new(Traffic::new().await?);
        let schedule = Schedule::new(Instant::now() + Duration::from_secs(2), length);
        let changes = schedule.changes.div_ceil(phases.into());
        let nth = move |n: u64| usize::try_from(n / changes).unwrap_or(usize::MAX);
        let phases: Arc<[Phase]> = (0..phases).map(|_| Phase::new()).collect();
        let (errors, mut followers) = (Arc::new(DeliveryErrors::default()), JoinSet::new());
        let mut stuck = Vec::new();
        for service in 0..SERVICES {
            let view = traffic.view(service).await?;
            if is_stuck(service) {
                let mut updates = view.updates();
                let _ = updates.next().now_or_never(); // the state: a stream that has not begun needs no batch
                stuck.push(updates);
            }
            for _ in 0..READERS {
                let (errors, phases, updates) = (errors.clone(), phases.clone(), view.updates());
                followers.spawn(async move {
                    let arrived = |n, late| phases[nth(n)].late(service).add(late);
                    follow(updates, service, schedule, &errors, arrived).await
                });
            }
        }
        let lags = phases.clone();
        let driver = traffic.drive(schedule, move |n, lag| lags[nth(n)].lag.add(lag));
        let heap = Heap::now();
        sleep_until(schedule.start + length / 3).await;
        let (early, start, spent) = (memory(heap), Instant::now(), process_time());
        sleep_until(schedule.start + length * 19 / 20).await; // while all are still there
        let (late, wall) = (memory(heap), start.elapsed().as_secs_f64());
        let cores = (process_time() - spent) / wall;
        let missing = match timeout(Duration::from_secs(20), ended(&mut followers)).await {
            Ok(ended) => ended.map(|()| 0)?,
            Err(_) => followers.len() as u64,
        };
        driver.join().ok().context("the generator panicked")??;
        drop(stuck);
        Ok(Outcome { errors, missing, phases, memory: [early, late], cores })
    })
}

async fn ended(followers: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = followers.join_next().await {
        ended??;
    }
    Ok(())
}

fn memory(since: Heap) -> Memory {
    Memory { heap: since.grown(), resident: resident() }
}
