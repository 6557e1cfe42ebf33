//! One of 100 instances, at random.

use super::{SERVICES, runtime, service};
use criterion::Criterion;
use fastrand::Rng;
use registry_core::{Record, Records, ServiceName};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::RwLock;

pub(crate) fn pick(criterion: &mut Criterion) {
    let runtime = runtime();
    let (_, view) = runtime.block_on(service());
    let slice = view.state().records().clone();
    let mut reader = view.reader();
    let mut rng = Rng::with_seed(7);
    let mut group = criterion.benchmark_group("pick");
    group.bench_function("slice", |b| b.iter(|| choose(&slice, &mut rng)));
    group.bench_function("state", |b| {
        b.iter(|| choose(view.state().records(), &mut rng));
    });
    group.bench_function("reader", |b| {
        b.iter(|| choose(reader.state().records(), &mut rng));
    });
    let (map, name) = (by_name(&slice), view.service().clone());
    group.bench_function("rwlock_map", |b| {
        b.iter(|| choose(&map.read().unwrap()[black_box(&name)], &mut rng));
    });
    group.finish();
}

/// What is written first: all services in a map, behind a lock.
fn by_name(instances: &Records) -> RwLock<HashMap<ServiceName, Records>> {
    let others = (1..SERVICES).map(|n| ServiceName::new(format!("bench-{n}")).unwrap());
    let names = others.chain([ServiceName::new("bench").unwrap()]);
    RwLock::new(names.map(|name| (name, instances.clone())).collect())
}

#[inline]
fn choose(instances: &[Record], rng: &mut Rng) {
    black_box(&instances[rng.usize(..instances.len())]);
}
