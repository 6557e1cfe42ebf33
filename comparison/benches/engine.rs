//! Criterion's view of the engine: a pick, and a change to all who subscribe.
//!
//! For figures beside their targets: `cargo run --release -p comparison --example engine -- all`.

#![allow(clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fastrand::Rng;
use futures_util::StreamExt;
use registry_core::{Claim, Discovery, DiscoveryOptions, Instance, Registry, View};
use registry_mem::MemRegistry;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

const INSTANCES: u32 = 100;

fn pick(criterion: &mut Criterion) {
    let runtime = runtime();
    let (_, view) = runtime.block_on(service());
    let slice = view.picture().instances().clone();
    let mut reader = view.reader();
    let mut rng = Rng::with_seed(7);
    let mut group = criterion.benchmark_group("pick");
    group.bench_function("slice", |b| b.iter(|| choose(&slice, &mut rng)));
    group.bench_function("picture", |b| {
        b.iter(|| choose(view.picture().instances(), &mut rng));
    });
    group.bench_function("reader", |b| {
        b.iter(|| choose(reader.picture().instances(), &mut rng));
    });
    group.finish();
}

#[inline]
fn choose(instances: &[Instance], rng: &mut Rng) {
    black_box(&instances[rng.usize(..instances.len())]);
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for subscribers in [1, 100, 10_000] {
        group.throughput(Throughput::Elements(subscribers));
        let runtime = runtime();
        let (registry, view) = runtime.block_on(service());
        let (done, mut all) = mpsc::channel(usize::try_from(subscribers).unwrap());
        let mut tasks = runtime.block_on(async { JoinSet::new() });
        for _ in 0..subscribers {
            let (mut updates, done) = (view.updates(), done.clone());
            let follow = async move {
                while updates.next().await.is_some() {
                    done.send(()).await.unwrap();
                }
            };
            tasks.spawn_on(follow, runtime.handle());
        }
        let mut weight = 0;
        let arrived = async |all: &mut mpsc::Receiver<()>| {
            for _ in 0..subscribers {
                all.recv().await.unwrap();
            }
        };
        runtime.block_on(arrived(&mut all)); // the state, first
        let (node, claim) = (instance(INSTANCES), Claim::new(LONG).unwrap());
        group.bench_function(BenchmarkId::from_parameter(subscribers), |b| {
            b.iter_custom(|n| {
                runtime.block_on(async {
                    let start = Instant::now();
                    for _ in 0..n {
                        weight += 1;
                        let node = node.clone().with_weight(weight);
                        registry.register(&node, &claim).await.unwrap();
                        arrived(&mut all).await;
                    }
                    start.elapsed()
                })
            });
        });
    }
    group.finish();
}

const LONG: Duration = Duration::from_secs(3600);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn instance(n: u32) -> Instance {
    let (id, address) = (format!("node-{n}"), format!("10.0.0.{}:8080", n + 1));
    Instance::new("bench".parse().unwrap(), id.parse().unwrap(), address.parse().unwrap())
}

/// A service, and a live view of it.
async fn service() -> (MemRegistry, View) {
    let registry = MemRegistry::with_retention(8);
    for n in 0..INSTANCES {
        registry.register(&instance(n), &Claim::new(LONG).unwrap()).await.unwrap();
    }
    let discovery = Discovery::new(Arc::new(registry.clone()), DiscoveryOptions::default());
    let mut view = discovery.view(&"bench".parse().unwrap());
    view.ready(LONG).await.unwrap();
    (registry, view)
}

criterion_group! {
    name = engine;
    config = Criterion::default().without_plots();
    targets = pick, fan_out
}
criterion_main!(engine);
