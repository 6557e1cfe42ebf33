//! One change, until the last of so many tasks has it: from `register` to a view's updates, and beside
//! it the bare channels of tokio, which carry what somebody sends and know of no store.

use super::{INSTANCES, LONG, instance, runtime, service};
use comparison::latch::CountdownLatch;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use futures_util::StreamExt;
use registry_core::{CallOptions, Claim, Registry};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

const SUBSCRIBERS: [usize; 3] = [1, 100, 10_000];

/// How many changes a broadcast holds. Each is waited for.
const QUEUE: usize = 16;

pub(crate) fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for subscribers in SUBSCRIBERS {
        group.throughput(Throughput::Elements(subscribers as u64));
        updates(&mut group, subscribers);
        by_broadcast(&mut group, subscribers);
        by_watch(&mut group, subscribers);
    }
    group.finish();
}

/// Tasks that wait for the same, and count themselves.
struct Crowd {
    runtime: Runtime,
    latch: Arc<CountdownLatch>,
    tasks: JoinSet<()>,
}

impl Crowd {
    fn new(runtime: Runtime) -> Self {
        Self { runtime, latch: Arc::default(), tasks: JoinSet::new() }
    }

    fn add(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, self.runtime.handle());
    }

    fn bench(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: &str,
        mut change: impl AsyncFnMut(),
    ) {
        group.bench_function(BenchmarkId::new(name, self.tasks.len()), |b| {
            b.iter_custom(|n| {
                self.runtime.block_on(async {
                    let mut total = Duration::ZERO;
                    for _ in 0..n {
                        self.latch.reset(self.tasks.len());
                        let start = Instant::now();
                        change().await;
                        total += self.latch.wait().await.unwrap() - start;
                    }
                    total
                })
            });
        });
    }
}

fn updates(group: &mut BenchmarkGroup<'_, WallTime>, subscribers: usize) {
    let mut crowd = Crowd::new(runtime());
    let (registry, view) = crowd.runtime.block_on(service());
    crowd.latch.reset(subscribers);
    for _ in 0..subscribers {
        let (mut updates, latch) = (view.updates(), crowd.latch.clone());
        crowd.add(async move {
            while updates.next().await.is_some() {
                latch.count_down();
            }
        });
    }
    crowd.runtime.block_on(crowd.latch.wait()).unwrap(); // the state, first
    let (node, claim) = (instance(INSTANCES), Claim::new(LONG).unwrap());
    let mut weight = 0;
    crowd.bench(group, "updates", async || {
        weight += 1;
        registry
            .register(&node.clone().with_weight(weight), &claim, &CallOptions::DEFAULT)
            .await
            .unwrap();
    });
}

fn by_broadcast(group: &mut BenchmarkGroup<'_, WallTime>, subscribers: usize) {
    let mut crowd = Crowd::new(runtime());
    let sender = broadcast::Sender::new(QUEUE);
    for _ in 0..subscribers {
        let (mut changes, latch) = (sender.subscribe(), crowd.latch.clone());
        crowd.add(async move {
            while changes.recv().await.is_ok() {
                latch.count_down();
            }
        });
    }
    let change = Arc::new(instance(INSTANCES));
    crowd.bench(group, "broadcast", async || {
        sender.send(change.clone()).unwrap();
    });
}

fn by_watch(group: &mut BenchmarkGroup<'_, WallTime>, subscribers: usize) {
    let mut crowd = Crowd::new(runtime());
    let change = Arc::new(instance(INSTANCES));
    let sender = watch::Sender::new(change.clone());
    for _ in 0..subscribers {
        let (mut changes, latch) = (sender.subscribe(), crowd.latch.clone());
        crowd.add(async move {
            while changes.changed().await.is_ok() {
                let _change = changes.borrow_and_update().clone();
                latch.count_down();
            }
        });
    }
    crowd.bench(group, "watch", async || {
        sender.send(change.clone()).unwrap();
    });
}
