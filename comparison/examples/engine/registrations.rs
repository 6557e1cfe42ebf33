//! Registrations kept alive by one process: the processor's time for that, and the memory.

use crate::fixture::{LONG, instance, service, two_threads};
use crate::heap::Heap;
use anyhow::Result;
use async_trait::async_trait;
use comparison::figures::{Figure, Report};
use comparison::meter::{as_f64, process_time};
use fastrand::f64 as random;
use registry_core::{
    CallOptions, Claim, Cursor, Holder, Instance, Lease, Registry, ServiceName, Snapshot, Watch,
};
use registry_engine::{Registration, RegistrationOptions};
use registry_mem::MemRegistry;
use std::collections::BTreeSet;
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

pub(crate) fn report(quick: bool) -> Result<Report> {
    let seconds = Duration::from_secs;
    let plan = if quick {
        Plan { many: 10_000, few: 100, ttl: seconds(3), measure: seconds(2) } // as many a second
    } else {
        Plan { many: 100_000, few: 1_000, ttl: seconds(30), measure: seconds(30) }
    };
    let Plan { many, few, .. } = plan;
    let mut report = Report::default();
    let [at_many, at_few] = [registrations(&plan, many)?, registrations(&plan, few)?];
    let [bare_many, bare_few] = [bare_tasks(&plan, many)?, bare_tasks(&plan, few)?];
    let timed = |name: String, value, unit| Figure::timed(name, value, unit);
    let load = |spent: &Spent| 100.0 * spent.seconds / spent.wall;
    let cost = |spent: &Spent| spent.seconds * 1e6 / as_f64(spent.renewals);
    let rate = |spent: &Spent| as_f64(spent.renewals) / spent.wall;

    report.add(timed(format!("{many}: of a core"), load(&at_many), "%").at_most(5.0).aim(1.0));
    report.add(timed(format!("{few}: of a core"), load(&at_few), "%"));
    report.add(timed(format!("{many}: renewals"), rate(&at_many), "/s"));
    report.add(timed(format!("{few}: renewals"), rate(&at_few), "/s"));
    report.add(timed(format!("{many}: a renewal"), cost(&at_many), "us"));
    report.add(timed(format!("{few}: a renewal"), cost(&at_few), "us"));
    let ratio = cost(&at_many) / cost(&at_few);
    report.add(timed(format!("a renewal at {many} / at {few}"), ratio, "x").at_most(1.5));
    report.add(timed(format!("{many} bare tasks: of a core"), load(&bare_many), "%"));
    report.add(timed(format!("{few} bare tasks: of a core"), load(&bare_few), "%"));
    report.add(timed(format!("{many} bare tasks: a wake-up"), cost(&bare_many), "us"));
    report.add(timed(format!("{few} bare tasks: a wake-up"), cost(&bare_few), "us"));
    let ours = |registrations: &Spent, bare_tasks: &Spent| cost(registrations) - cost(bare_tasks);
    report.add(timed(format!("{many}: a renewal less that"), ours(&at_many, &bare_many), "us"));
    report.add(timed(format!("{few}: a renewal less that"), ours(&at_few, &bare_few), "us"));
    report.add(timed("the store's part: keep_alive alone".into(), keep_alive(many)?, "us"));
    let lost = as_f64(at_many.registers + at_few.registers);
    report.add(Figure::counted("registered anew", lost, "").exactly(0.0));
    report.add(Figure::counted("a registration holds", at_many.bytes - stored(many)?, "B"));
    report.note(format!(
        "ttl {:?}, so a renewal every third of it; measured for {:?}, after the first third",
        plan.ttl, plan.measure
    ));
    report.note("bare tasks only sleep as long: what the runtime takes to wake one. The fewer they are, the fewer share a wake-up of the thread");
    report.note("bytes without the instance, and without what the store itself holds of it");
    Ok(report)
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
        let registry = Arc::new(CountingRegistry::default());
        let instances = instances(many)?;
        let options = RegistrationOptions { ttl: Some(plan.ttl), ..RegistrationOptions::default() };
        let mut registrations = Vec::with_capacity(many);
        let heap = Heap::now();
        for instance in &instances {
            let start = Registration::start(registry.clone(), instance.clone(), options.clone());
            registrations.push(start.await?);
        }
        let size = as_f64(size_of::<Registration>() as u64);
        let bytes = heap.grown() / as_f64(many as u64) + size;
        sleep(plan.ttl / 3).await;
        let before = registry.registers.load(Ordering::Relaxed);
        let spent = spend(plan.measure, &registry.renewals).await;
        let registers = registry.registers.load(Ordering::Relaxed) - before;
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
        Ok(heap.grown() / as_f64(many as u64))
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
        Ok((process_time() - start) * 1e6 / as_f64(many as u64))
    })
}

fn instances(many: usize) -> Result<Vec<Instance>> {
    let services = (0..many.div_ceil(EACH)).map(service).collect::<Result<Vec<_>>>()?;
    (0..many).map(|n| instance(&services[n / EACH], n % EACH)).collect()
}

/// A memory store that counts.
#[derive(Debug, Default)]
struct CountingRegistry {
    store: MemRegistry,
    renewals: AtomicU64,
    registers: AtomicU64,
}

#[async_trait]
impl Registry for CountingRegistry {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> registry_core::Result<Lease> {
        self.registers.fetch_add(1, Ordering::Relaxed);
        self.store.register(instance, claim, options).await
    }

    async fn holder(
        &self,
        instance: &Instance,
        options: &CallOptions,
    ) -> registry_core::Result<Option<Holder>> {
        self.store.holder(instance, options).await
    }

    async fn keep_alive(
        &self,
        lease: &Lease,
        options: &CallOptions,
    ) -> registry_core::Result<Duration> {
        self.renewals.fetch_add(1, Ordering::Relaxed);
        self.store.keep_alive(lease, options).await
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> registry_core::Result<()> {
        self.store.deregister(lease, options).await
    }

    async fn load(
        &self,
        service: &ServiceName,
        options: &CallOptions,
    ) -> registry_core::Result<Snapshot> {
        self.store.load(service, options).await
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> registry_core::Result<Watch> {
        self.store.watch(service, after, options).await
    }

    async fn services(
        &self,
        options: &CallOptions,
    ) -> registry_core::Result<BTreeSet<ServiceName>> {
        self.store.services(options).await
    }
}
