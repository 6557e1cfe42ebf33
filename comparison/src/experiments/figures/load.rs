//! 10,000 changes a second to 1,000 services with nine readers each. Half of the services have a stuck subscriber that
//! never reads. It is an open loop: a change is due at a fixed time even if previous ones are late.

use crate::harness::fixture::{LONG, instance, service, view};
use crate::harness::{Figure, Figures, Heap, as_f64, process_time, resident, two_threads};
use anyhow::{Context, Result, ensure};
use futures_util::{FutureExt, StreamExt};
use hdrhistogram::Histogram;
use registry_core::{CallOptions, Change, Claim, Instance, Registry};
use registry_engine::{Update, Updates};
use registry_mem::MemRegistry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

const SERVICES: usize = 1_000;
const INSTANCES: usize = 10;
const READERS: usize = 9;
/// The time between two changes.
const PERIOD: Duration = Duration::from_micros(100);

/// The schedule: the nth change is of the service n % SERVICES, and its weight counts that service's changes.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    changes: usize,
    /// The number of changes in a part.
    part: usize,
}

/// The delivered changes: their latencies in each part, in microseconds, and the errors.
struct Deliveries {
    parts: Vec<[Mutex<Histogram<u32>>; 3]>,
    delivered: AtomicU64,
    lost: AtomicU64,
    /// Changes that were delivered twice or after a newer one.
    out_of_order: AtomicU64,
}

pub(super) fn figures(quick: bool) -> Result<Figures> {
    let (parts, seconds) = if quick { (4, 1) } else { (12, 5) };
    two_threads()?.block_on(run(parts, Duration::from_secs(seconds)))
}

async fn run(parts: usize, length: Duration) -> Result<Figures> {
    let part = usize::try_from(length.as_micros() / PERIOD.as_micros())? / SERVICES * SERVICES;
    let registry = MemRegistry::with_history_limit(10_000);
    let (mut nodes, mut stuck, mut readers) = (Vec::new(), Vec::new(), JoinSet::new());
    for n in 0..SERVICES * INSTANCES {
        let node = instance(&service(n / INSTANCES)?, n % INSTANCES)?.with_weight(0);
        let claim = Claim::new(LONG)?;
        registry.register(&node, &claim, &CallOptions::DEFAULT).await?;
        nodes.push((node, claim));
    }
    let start = Instant::now() + Duration::from_secs(2);
    let schedule = Schedule { start, changes: part * parts, part };
    let seen = Arc::new(Deliveries::new(parts)?);
    for n in 0..SERVICES {
        let view = view(Arc::new(registry.clone()), &service(n)?).await?;
        if n % 2 == 0 {
            let mut updates = view.updates();
            let _ = updates.next().now_or_never(); // the state: a stream that has not started has no backlog
            stuck.push(updates);
        }
        for _ in 0..READERS {
            readers.spawn(read(view.updates(), n, schedule, seen.clone()));
        }
    }
    let driver = thread::spawn(move || drive(&registry, &nodes, schedule));
    let whole = length * u32::try_from(parts)?;
    let heap = Heap::now();
    sleep_until(start + whole / 3).await;
    let (early, began, spent) = ((heap.grown(), resident()), Instant::now(), process_time());
    sleep_until(start + whole * 19 / 20).await; // before the first reader ends
    let (late, wall) = ((heap.grown(), resident()), began.elapsed().as_secs_f64());
    let cores = (process_time() - spent) / wall;
    let ended = async {
        while let Some(reader) = readers.join_next().await {
            reader??;
        }
        anyhow::Ok(())
    };
    timeout(whole + Duration::from_secs(60), ended)
        .await
        .context("a change was not delivered")??;
    driver.join().ok().context("the generator panicked")??;
    drop(stuck);

    let mut figures = Figures::default();
    let p99 = |n: usize| seen.parts.iter().map(|part| p99(&part[n])).collect();
    let samples: [Vec<f64>; 3] = [p99(1), p99(0), p99(2)];
    let arms = ["without", "with one stuck", "without"];
    figures.add_turns("p99 from the due time", arms, &samples, "us", |x| x.at_most(1.05));
    let count = |count: &AtomicU64| as_f64(count.load(Ordering::Relaxed));
    figures.add(Figure::counted("changes delivered", count(&seen.delivered), ""));
    figures.add(Figure::counted("changes lost", count(&seen.lost), "").exactly(0.0));
    let out_of_order =
        Figure::counted("changes twice or out of order", count(&seen.out_of_order), "");
    figures.add(out_of_order.exactly(0.0));
    figures.add(Figure::timed("resident after a third", early.1, "MiB"));
    figures.add(Figure::timed("resident near the end", late.1, "MiB"));
    let growth = (late.0 - early.0) / 1024.0;
    figures.add_heap(Figure::counted("heap: growth in between", growth, "KiB").at_most(8192.0));
    figures.add(Figure::timed("CPU, of a core", cores * 100.0, "%").aim(25.0));
    figures.note(format!(
        "{whole:?}; every second service has a stuck subscriber; A/A compares the other services with each other"
    ));
    Ok(figures)
}

/// Makes each change when it is due, on its own thread.
#[expect(clippy::disallowed_methods, reason = "there is no runtime to block on this thread")]
fn drive(registry: &MemRegistry, nodes: &[(Instance, Claim)], schedule: Schedule) -> Result<()> {
    for n in 0..schedule.changes {
        thread::sleep(schedule.due(n)?.saturating_duration_since(Instant::now()));
        let (service, turn) = (n % SERVICES, n / SERVICES);
        let (node, claim) = &nodes[service * INSTANCES + turn % INSTANCES];
        let node = node.clone().with_weight(u32::try_from(turn + 1)?);
        let registered = registry.register(&node, claim, &CallOptions::DEFAULT).now_or_never();
        registered.context("the memory store blocked")??;
    }
    Ok(())
}

/// Follows a service up to its last change.
async fn read(
    mut updates: Updates,
    service: usize,
    schedule: Schedule,
    seen: Arc<Deliveries>,
) -> Result<()> {
    let (changes, mut last) = (schedule.changes / SERVICES, 0);
    while last < changes {
        match updates.next().await.context("the updates ended")? {
            // A reset replaces changes, which count as lost.
            Update::Reset(state) => {
                let newest = state.instances().map(Instance::weight).max().unwrap_or(0);
                let newest = usize::try_from(newest)?;
                seen.lost.fetch_add(newest.saturating_sub(last) as u64, Ordering::Relaxed);
                last = newest.max(last);
            }
            Update::Batch(batch) => {
                for change in &batch.changes {
                    let Change::Put(record) = change else { continue };
                    let number = usize::try_from(record.instance().weight())?;
                    if number <= last {
                        seen.out_of_order.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    seen.lost.fetch_add((number - last - 1) as u64, Ordering::Relaxed);
                    last = number;
                    let n = (number - 1) * SERVICES + service;
                    seen.add(n / schedule.part, service, schedule.due(n)?.elapsed());
                }
            }
            Update::Status(_) => {}
        }
    }
    ensure!(last == changes, "more changes were delivered than made");
    Ok(())
}

impl Schedule {
    fn due(&self, n: usize) -> Result<Instant> {
        Ok(self.start + PERIOD * u32::try_from(n)?)
    }
}

impl Deliveries {
    fn new(parts: usize) -> Result<Self> {
        // Latencies up to a minute.
        let new = || Histogram::new_with_bounds(1, 60_000_000, 3).map(Mutex::new);
        let parts = (0..parts).map(|_| Ok([new()?, new()?, new()?])).collect::<Result<_>>()?;
        Ok(Self { parts, delivered: 0.into(), lost: 0.into(), out_of_order: 0.into() })
    }

    /// Records a latency. Adjacent services are in different groups, one with stuck subscribers and two without.
    fn add(&self, part: usize, service: usize, latency: Duration) {
        let group = [0, 1, 0, 2][service % 4];
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let mut histogram = self.parts[part][group].lock().unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(micros);
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }
}

fn p99(latencies: &Mutex<Histogram<u32>>) -> f64 {
    as_f64(latencies.lock().unwrap_or_else(PoisonError::into_inner).value_at_quantile(0.99))
}
