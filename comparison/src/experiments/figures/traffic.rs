//! An open loop of changes: each has a time when it is due, whether those before it are done or not.

use crate::harness::fixture::{LONG, instance, service};
use anyhow::{Context, Result, ensure};
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, Change, Claim, Instance, Registry};
use registry_engine::{Discovery, DiscoveryOptions, Update, Updates, View};
use registry_mem::MemRegistry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tokio::time::Instant;

pub(super) const SERVICES: u64 = 1_000;
/// Records of each service.
const INSTANCES: u64 = 10;
/// Between two changes.
const PERIOD: Duration = Duration::from_micros(100);

/// The nth change of all is of service n % SERVICES, and carries the number of that service's changes
/// as a weight.
#[derive(Clone, Copy)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) changes: u64,
}

impl Schedule {
    pub(super) fn new(start: Instant, length: Duration) -> Self {
        let changes = u64::try_from(length.as_micros() / PERIOD.as_micros()).unwrap_or(u64::MAX);
        Self { start, changes: changes / SERVICES * SERVICES }
    }

    fn due(&self, n: u64) -> Instant {
        self.start + PERIOD * u32::try_from(n).unwrap_or(u32::MAX)
    }
}

/// The services, all instances registered.
pub(super) struct Traffic {
    registry: MemRegistry,
    discovery: Discovery,
    nodes: Vec<(Instance, Claim)>,
}

impl Traffic {
    pub(super) async fn new() -> Result<Self> {
        let registry = MemRegistry::with_history_limit(10_000);
        let mut nodes = Vec::new();
        for s in 0..SERVICES {
            let service = service(usize::try_from(s)?)?;
            for n in 0..INSTANCES {
                let (node, claim) = (instance(&service, usize::try_from(n)?)?, Claim::new(LONG)?);
                registry
                    .register(&node.clone().with_weight(0), &claim, &CallOptions::DEFAULT)
                    .await?;
                nodes.push((node, claim));
            }
        }
        let discovery = Discovery::new(Arc::new(registry.clone()), DiscoveryOptions::default());
        Ok(Self { registry, discovery, nodes })
    }

    /// A live view of the nth service.
    pub(super) async fn view(&self, n: u64) -> Result<View> {
        let mut view = self.discovery.view(&service(usize::try_from(n)?)?);
        view.ready(Duration::from_secs(60)).await?;
        Ok(view)
    }

    /// Makes all changes, each when it is due, on a thread of its own. Tells each when it is made.
    pub(super) fn drive(
        self: &Arc<Self>,
        schedule: Schedule,
        made: impl Fn(u64, Duration) + Send + 'static,
    ) -> thread::JoinHandle<Result<()>> {
        let traffic = self.clone();
        thread::spawn(move || {
            for n in 0..schedule.changes {
                let due = schedule.due(n);
                wait_until(due);
                made(n, due.elapsed());
                traffic.change(n)?;
            }
            Ok(())
        })
    }

    fn change(&self, n: u64) -> Result<()> {
        let (service, turn) = (n % SERVICES, n / SERVICES);
        let node = usize::try_from(service * INSTANCES + turn % INSTANCES)?;
        let (node, claim) = &self.nodes[node];
        let node = node.clone().with_weight(u32::try_from(turn + 1)?);
        let registered = self.registry.register(&node, claim, &CallOptions::DEFAULT).now_or_never();
        registered.context("a store in memory does not wait")??;
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "on a thread of its own, there is no runtime to block"
)]
fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        thread::sleep(left);
    }
}

/// What went wrong with the changes that followers were to see.
#[derive(Debug, Default)]
pub(super) struct DeliveryErrors {
    pub(super) lost: AtomicU64,
    pub(super) duplicated: AtomicU64,
    pub(super) out_of_order: AtomicU64,
}

/// Follows every change of the nth service, up to the last, and tells how late each was.
pub(super) async fn follow(
    mut updates: Updates,
    service: u64,
    schedule: Schedule,
    errors: &DeliveryErrors,
    arrived: impl Fn(u64, Duration),
) -> Result<()> {
    let changes = u32::try_from(schedule.changes / SERVICES)?;
    let mut seen = 0;
    while seen < changes {
        let batch = match updates.next().await.context("updates have no end")? {
            Update::Batch(batch) => batch,
            // The state in place of changes: those up to there are lost.
            Update::Reset(state) => {
                let newest = state.instances().map(Instance::weight).max().unwrap_or(0);
                errors.lost.fetch_add(u64::from(newest.saturating_sub(seen)), Ordering::Relaxed);
                seen = newest.max(seen);
                continue;
            }
        };
        for change in &batch.changes {
            let Change::Put(instance) = change else { continue };
            let number = instance.instance().weight();
            if number == seen + 1 {
                let n = u64::from(number - 1) * SERVICES + service;
                arrived(n, schedule.due(n).elapsed());
            } else if number > seen {
                errors.lost.fetch_add(u64::from(number - seen - 1), Ordering::Relaxed);
            } else if number == seen {
                errors.duplicated.fetch_add(1, Ordering::Relaxed);
            } else {
                errors.out_of_order.fetch_add(1, Ordering::Relaxed);
            }
            seen = number.max(seen);
        }
    }
    ensure!(seen == changes, "more than all was seen");
    Ok(())
}
