//! 10,000 changes a second over 1,000 services with ten subscribers each, some of which never read.

use super::traffic::{DeliveryErrors, SERVICES, Schedule, Traffic, follow};
use crate::harness::{Figure, Figures, Heap, as_f64, process_time, resident, two_threads};
use anyhow::{Context, Result};
use futures_util::{FutureExt, StreamExt};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Subscribers of each service that read; one that is stuck makes ten.
const READERS: u64 = 9;

pub(super) fn figures(quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    let phase = Duration::from_secs(if quick { 1 } else { 5 });
    let phases = if quick { 4 } else { 12 };
    // One stuck: what is lost, and what piles up.
    let steady = run(|service| service == 0, phase, phases)?;
    steady.integrity(&mut figures, "one stuck");
    let [early, late] = steady.memory;
    figures.add(Figure::timed("resident after a third", early.resident, "MiB"));
    figures.add(Figure::timed("resident near the end", late.resident, "MiB"));
    let growth = (late.heap - early.heap) / 1024.0;
    figures.add_heap(Figure::counted("heap: growth in between", growth, "KiB").at_most(8192.0));
    figures.add(Figure::timed("of a core", steady.cores * 100.0, "%").aim(25.0));

    // One stuck in each of half of the services: what the others of these notice.
    let halves = run(|service| service % 2 == 0, phase, phases)?;
    halves.integrity(&mut figures, "500 stuck");
    let p99 = |n: usize| halves.phases.iter().map(|phase| phase.late[n].p99()).collect();
    let samples: [Vec<f64>; 3] = [p99(1), p99(0), p99(2)];
    let arms = ["without", "with one stuck", "without"];
    figures.add_turns("p99 from the due time", arms, &samples, "us", |x| x.at_most(1.05));
    let lag: Vec<f64> = halves.phases.iter().map(|phase| phase.lag.p99()).collect();
    figures.add(Figure::median("p99 of the generator's own lag", &lag, "us"));
    let whole = phase * phases;
    figures.note(format!("{whole:?} with one stuck, then {whole:?} with one stuck in each other service; each service has 9 readers"));
    figures.note(format!("p99 of {phase:?} each, over all deliveries in services with a stuck one, and in those without, whose changes take turns"));
    Ok(figures)
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
    late: [Lateness; 3],
    lag: Lateness,
}

impl Phase {
    fn new() -> Result<Self> {
        // Up to a minute.
        let late =
            || Histogram::new_with_bounds(1, 60_000_000, 3).map(|new| Lateness(Mutex::new(new)));
        Ok(Self { late: [late()?, late()?, late()?], lag: late()? })
    }

    /// Neighbours are in different groups, so that what the machine does hits all alike.
    fn late(&self, service: u64) -> &Lateness {
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
    fn integrity(&self, figures: &mut Figures, label: &str) {
        let none = |name: &str, count: u64| {
            let count = as_f64(count);
            Figure::counted(format!("{label}: {name}"), count, "").exactly(0.0)
        };
        let seen: u64 = self.phases.iter().flat_map(|phase| &phase.late).map(Lateness::count).sum();
        let seen = as_f64(seen);
        figures.add(Figure::counted(format!("{label}: changes delivered"), seen, ""));
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        figures.add(none("lost", count(&self.errors.lost) + self.missing));
        figures.add(none("duplicated", count(&self.errors.duplicated)));
        figures.add(none("out of order", count(&self.errors.out_of_order)));
    }
}

/// How late changes were, to a microsecond or three digits. All readers share it.
struct Lateness(Mutex<Histogram<u32>>);

impl Lateness {
    fn add(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn p99(&self) -> f64 {
        as_f64(self.0.lock().unwrap_or_else(PoisonError::into_inner).value_at_quantile(0.99))
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
        let phases: Arc<[Phase]> = (0..phases).map(|_| Phase::new()).collect::<Result<_>>()?;
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
