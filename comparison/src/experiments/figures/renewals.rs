//! 100,000 registrations of one process: the CPU time of renewals, and the shortest ttl that works.

use crate::harness::fixture::{AT_ONCE, active, spread, start_all};
use crate::harness::{Figure, Figures, Heap, Server, Store, as_f64, process_time};
use anyhow::{Result, ensure};
use futures_util::stream::{self, StreamExt};
use registry_core::{CallOptions, Change, Registry, ServiceName};
use registry_engine::Registration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// The number of services that share the registrations.
pub(super) const SERVICES: usize = 100;

/// The ttls in seconds, tried until one is too short. The first must work.
const TTLS: &[u64] = &[30, 10, 5, 3];

/// The timeout to register all instances, and to stop them.
const DEADLINE: Duration = Duration::from_secs(120);

pub(super) async fn figures(store: Store, quick: bool) -> Result<Figures> {
    let (many, ttls) = if quick { (1_000, [3, 2].as_slice()) } else { (100_000, TTLS) };
    let (mut figures, mut shortest) = (Figures::default(), None);
    for &ttl in ttls {
        if !renew(&mut figures, store, many, Duration::from_secs(ttl)).await? {
            break;
        }
        shortest = Some(ttl);
    }
    let shortest = shortest.map_or(f64::INFINITY, as_f64);
    let name = format!("{many} registrations: the shortest ttl without an expiry");
    figures.add(Figure::counted(name, shortest, "s").at_most(as_f64(ttls[0])));
    figures.note("CPU time of one core: measured for three ttls after the first; each registration renews every third of its ttl");
    figures.note("expired, registered again: the deletes and puts that another client sees, which watches all services");
    Ok(figures)
}

/// Renews registrations on a new server, and adds the cost. Returns whether all were registered and none expired.
async fn renew(figures: &mut Figures, store: Store, many: usize, ttl: Duration) -> Result<bool> {
    let server = Server::start(store).await?;
    figures.note(server.description());
    let (services, instances) = spread(SERVICES, many)?;
    let registry = Arc::new(server.registry().await?);
    let (heap, start) = (Heap::now(), Instant::now());
    let starting = timeout(DEADLINE, start_all(&registry, instances, ttl));
    let Ok(registrations) = starting.await else {
        figures.note(format!("{many} at {ttl:?}: not registered within {DEADLINE:?}"));
        return Ok(false);
    };
    let registrations: Vec<Registration> = registrations?;
    let registered = start.elapsed().as_secs_f64();
    let bytes = heap.grown() / as_f64(many);
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let mut watches = watch_all(&server, &services, &counts).await?;
    sleep(ttl).await;
    let (start, cpu_before, before) = (Instant::now(), server.cpu().await?, process_time());
    sleep(ttl * 3).await;
    let wall = start.elapsed().as_secs_f64();
    let load = |seconds: f64| 100.0 * seconds / wall;
    let ours = load(process_time() - before);
    let theirs = load(server.cpu().await? - cpu_before);
    ensure!(watches.try_join_next().is_none(), "a watch ended");
    let [puts, deletes] = counts.each_ref().map(|count| as_f64(count.load(Ordering::Relaxed)));
    let inactive = as_f64(many - active(&registrations));
    // Stops them before the server, so that they do not slow down the next one.
    let stops = registrations.iter().map(Registration::stop);
    let stopped = stream::iter(stops).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
    drop(timeout(DEADLINE, stopped).await); // an overloaded server may time out
    let name = |what: &str| format!("{many} at {} s: {what}", ttl.as_secs());
    figures.add_heap(Figure::counted(name("memory per registration"), bytes, "B"));
    let ours = Figure::timed(name("CPU of this process, of a core"), ours, "%");
    let in_memory = store == Store::Mem;
    figures.add(if in_memory && ttl.as_secs() == TTLS[0] { ours.at_most(5.0) } else { ours });
    figures.add(Figure::timed(name("all registered after"), registered, "s"));
    if !in_memory {
        figures.add(Figure::timed(name("CPU of the server, of a core"), theirs, "%"));
    }
    figures.add(Figure::timed(name("expired"), deletes, ""));
    figures.add(Figure::timed(name("registered again"), puts, ""));
    figures.add(Figure::timed(name("not active at the end"), inactive, ""));
    Ok(deletes + inactive <= 0.0)
}

async fn watch_all(
    server: &Server,
    services: &[ServiceName],
    counts: &Arc<[AtomicU64; 2]>,
) -> Result<JoinSet<()>> {
    let (registry, mut watches) = (server.registry().await?, JoinSet::new());
    for service in services {
        let loaded = registry.load(service, &CallOptions::DEFAULT).await?;
        let mut watch = registry.watch(service, loaded.cursor(), &CallOptions::DEFAULT).await?;
        let counts = counts.clone();
        watches.spawn(async move {
            while let Some(Ok(batch)) = watch.next().await {
                for change in &batch.changes {
                    let deleted = usize::from(matches!(change, Change::Delete(_)));
                    counts[deleted].fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    Ok(watches)
}
