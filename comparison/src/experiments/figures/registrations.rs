//! Registrations kept alive by one process: the processor's time for that, and the memory.

use crate::harness::fixture::{LONG, instance, service};
use crate::harness::{Call, Figure, Figures, Heap, Routed, as_f64, process_time, two_threads};
use anyhow::Result;
use fastrand::f64 as random;
use registry_core::{CallOptions, Claim, Instance, Registry};
use registry_engine::{Registration, RegistrationOptions};
use registry_mem::MemRegistry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Records of one service.
const EACH: usize = 100;

/// How long to measure what.
struct Plan {
    many: usize,
    few: usize,
    ttl: Duration,
    measure: Duration,
}

pub(super) fn figures(quick: bool) -> Result<Figures> {
    let seconds = Duration::from_secs;
    let plan = if quick {
        Plan { many: 10_000, few: 100, ttl: seconds(3), measure: seconds(2) } // as many a second
    } else {
        Plan { many: 100_000, few: 1_000, ttl: seconds(30), measure: seconds(30) }
    };
    let Plan { many, few, .. } = plan;
    let mut figures = Figures::default();
    let ours = [registrations(&plan, many)?, registrations(&plan, few)?];
    let bare = [bare_tasks(&plan, many)?, bare_tasks(&plan, few)?];
    let load = |spent: &Spent| 100.0 * spent.seconds / spent.wall;
    let cost = |spent: &Spent| spent.seconds * 1e6 / as_f64(spent.renewals);
    let rate = |spent: &Spent| as_f64(spent.renewals) / spent.wall;
    let mut both = |what: &str, of: &dyn Fn(usize) -> f64, unit| {
        for (n, count) in [many, few].into_iter().enumerate() {
            figures.add(Figure::timed(format!("{count}{what}"), of(n), unit));
        }
    };
    both(": renewals", &|n| rate(&ours[n]), "/s");
    both(": a renewal", &|n| cost(&ours[n]), "us");
    both(" bare tasks: of a core", &|n| load(&bare[n]), "%");
    both(" bare tasks: a wake-up", &|n| cost(&bare[n]), "us");
    both(": a renewal less that", &|n| cost(&ours[n]) - cost(&bare[n]), "us");
    let figure =
        |n: usize, count| Figure::timed(format!("{count}: of a core"), load(&ours[n]), "%");
    figures.add(figure(0, many).at_most(5.0).aim(1.0));
    figures.add(figure(1, few));
    let ratio = cost(&ours[0]) / cost(&ours[1]);
    figures.add(Figure::timed(format!("a renewal at {many} / at {few}"), ratio, "x").at_most(1.5));
    figures.add(Figure::timed("the store's part: keep_alive alone", keep_alive(many)?, "us"));
    let lost = as_f64(ours[0].registers + ours[1].registers);
    figures.add(Figure::counted("registered anew", lost, "").exactly(0.0));
    figures.add_heap(Figure::counted("a registration holds", ours[0].bytes - stored(many)?, "B"));
    figures.note(format!(
        "ttl {:?}, so a renewal every third of it; measured for {:?}, after the first third",
        plan.ttl, plan.measure
    ));
    figures.note("bare tasks only sleep as long: what the runtime takes to wake one. The fewer they are, the fewer share a wake-up of the thread");
    figures.note("bytes (with `--features heap`) without the instance, and without what the store itself holds of it");
    Ok(figures)
}

/// What was spent.
struct Spent {
    seconds: f64,
    wall: f64,
    renewals: u64,
    registers: u64,
    /// For each registration, what the store holds among it.
    bytes: f64,
}

/// Keeps so many.
fn registrations(plan: &Plan, many: usize) -> Result<Spent> {
    let runtime = two_threads()?;
    runtime.block_on(async {
        let store: Arc<dyn Registry> = Arc::new(MemRegistry::new());
        let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let [registers, renewals] = &*counts;
        let counted = counts.clone();
        let registry = Arc::new(Routed(move |call| {
            match call {
                Call::Register => _ = counted[0].fetch_add(1, Ordering::Relaxed),
                Call::KeepAlive => _ = counted[1].fetch_add(1, Ordering::Relaxed),
                Call::Other => {}
            }
            store.clone()
        }));
        let instances = instances(many)?;
        let options = RegistrationOptions { ttl: Some(plan.ttl), ..RegistrationOptions::default() };
        let mut registrations = Vec::with_capacity(many);
        let heap = Heap::now();
        for instance in &instances {
            let start = Registration::start(registry.clone(), instance.clone(), options.clone());
            registrations.push(start.await?);
        }
        let size = as_f64(size_of::<Registration>() as u64);
        let bytes = heap.grown() / as_f64(many) + size;
        sleep(plan.ttl / 3).await;
        let before = registers.load(Ordering::Relaxed);
        let spent = spend(plan.measure, renewals).await;
        let registers = registers.load(Ordering::Relaxed) - before;
        drop(registrations);
        Ok(Spent { registers, bytes, ..spent })
    })
}

/// Tasks that sleep as long, and do nothing.
fn bare_tasks(plan: &Plan, many: usize) -> Result<Spent> {
    let runtime = two_threads()?;
    runtime.block_on(async {
        let woken = Arc::new(AtomicU64::new(0));
        let (third, mut tasks) = (plan.ttl / 3, JoinSet::new());
        for _ in 0..many {
            let woken = woken.clone();
            tasks.spawn(async move {
                let mut due = Instant::now() + third.mul_f64(random());
                loop {
                    sleep_until(due).await;
                    woken.fetch_add(1, Ordering::Relaxed);
                    due += third.mul_f64(0.9 + random() / 5.0);
                }
            });
        }
        sleep(third).await;
        Ok(spend(plan.measure / 2, &woken).await)
    })
}

async fn spend(wall: Duration, count: &AtomicU64) -> Spent {
    let (start, seconds, before) = (Instant::now(), process_time(), count.load(Ordering::Relaxed));
    sleep(wall).await;
    let renewals = count.load(Ordering::Relaxed) - before;
    let (seconds, wall) = (process_time() - seconds, start.elapsed().as_secs_f64());
    Spent { seconds, wall, renewals, registers: 0, bytes: 0.0 }
}

/// The bytes that the store holds for each instance, without registrations of the engine.
fn stored(many: usize) -> Result<f64> {
    two_threads()?.block_on(async {
        let (registry, instances) = (MemRegistry::new(), instances(many)?);
        let heap = Heap::now();
        for instance in &instances {
            registry.register(instance, &Claim::new(LONG)?, &CallOptions::DEFAULT).await?;
        }
        Ok(heap.grown() / as_f64(many))
    })
}

/// Microseconds for a renewal without the engine, in an order that no cache foresees.
fn keep_alive(many: usize) -> Result<f64> {
    two_threads()?.block_on(async {
        let (registry, mut leases) = (MemRegistry::new(), Vec::new());
        for instance in &instances(many)? {
            leases.push(
                registry.register(instance, &Claim::new(LONG)?, &CallOptions::DEFAULT).await?,
            );
        }
        fastrand::shuffle(&mut leases);
        let start = process_time();
        for lease in &leases {
            registry.keep_alive(lease, &CallOptions::DEFAULT).await?;
        }
        Ok((process_time() - start) * 1e6 / as_f64(many))
    })
}

fn instances(many: usize) -> Result<Vec<Instance>> {
    let services = (0..many.div_ceil(EACH)).map(service).collect::<Result<Vec<_>>>()?;
    (0..many).map(|n| instance(&services[n / EACH], n % EACH)).collect()
}
