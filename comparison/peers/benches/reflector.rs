//! One of 100 instances at random, and a change of one of them: the registry's view beside the store that a
//! controller for Kubernetes keeps its objects in, with no cluster behind it.
//!
//! Both hold 1,000 services. In the store they are endpoint slices, found by their name at each read; a view is
//! of one service, found once.

#![allow(clippy::unwrap_used)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fastrand::Rng;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_runtime::reflector::store::Writer;
use kube_runtime::reflector::{ObjectRef, Store, store};
use kube_runtime::watcher::Event;
use registry_core::{CallOptions, Claim, Instance, Lease, LeaseId, Registry, ServiceName};
use registry_engine::{Discovery, DiscoveryOptions, View};
use registry_mem::MemRegistry;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

const SERVICES: u32 = 1_000;
const INSTANCES: u32 = 100;

/// Longer than a run.
const LONG: Duration = Duration::from_secs(3600);

fn pick(criterion: &mut Criterion) {
    let Followed { view, .. } = Followed::new();
    let (store, _writer) = slices();
    let (mut reader, mut rng) = (view.reader(), Rng::with_seed(7));
    let mut group = criterion.benchmark_group("pick");
    group.bench_function("reader", |b| {
        b.iter(|| choose(reader.state().records(), &mut rng));
    });
    group.bench_function("state", |b| {
        b.iter(|| choose(view.state().records(), &mut rng));
    });
    let name = ObjectRef::new("bench-0").within("default");
    group.bench_function("kube_store", |b| {
        b.iter(|| {
            let slice = store.get(black_box(&name)).unwrap();
            choose(slice.endpoints.as_deref().unwrap(), &mut rng);
        });
    });
    group.finish();
}

/// Until a reader sees it. The view's comes from a store, through a watch; nothing leads to the reflector's.
fn change(criterion: &mut Criterion) {
    let mut followed = Followed::new();
    let (_store, mut writer) = slices();
    let mut weight = 1;
    let mut group = criterion.benchmark_group("change");
    group.bench_function("view", |b| {
        b.iter(|| {
            weight += 1;
            followed.change(weight);
        });
    });
    group.bench_function("kube_store", |b| {
        let apply = |event| writer.apply_watcher_event(&event);
        b.iter_batched(|| Event::Apply(slice(0)), apply, BatchSize::SmallInput);
    });
    group.finish();
}

#[inline]
fn choose<T>(instances: &[T], rng: &mut Rng) {
    black_box(&instances[rng.usize(..instances.len())]);
}

/// A live view of one of the services in a store.
struct Followed {
    runtime: Runtime,
    registry: MemRegistry,
    view: View,
    lease: Lease,
}

impl Followed {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let registry = MemRegistry::with_history_limit(8);
        let (view, lease) = runtime.block_on(async {
            let mut first = None;
            for n in 0..SERVICES {
                for m in 0..INSTANCES {
                    let claim = Claim::new(LONG).unwrap();
                    let lease = registry.register(&instance(n, m), &claim, &CallOptions::DEFAULT).await.unwrap();
                    first.get_or_insert(lease);
                }
            }
            let options = DiscoveryOptions::default();
            let mut view = Discovery::new(Arc::new(registry.clone()), options).view(&service(0));
            view.ready(LONG).await.unwrap();
            (view, first.unwrap())
        });
        Self { runtime, registry, view, lease }
    }

    fn change(&mut self, weight: u32) {
        let Self { runtime, registry, view, lease } = self;
        runtime.block_on(async {
            let changed = instance(0, 0).with_weight(weight);
            let claim =
                Claim::new(LONG).unwrap().with_lease(LeaseId::new(lease.id().get()).unwrap());
            registry.register(&changed, &claim, &CallOptions::DEFAULT).await.unwrap();
            view.changed().await.unwrap();
        });
    }
}

fn service(n: u32) -> ServiceName {
    ServiceName::new(format!("bench-{n}")).unwrap()
}

fn instance(n: u32, m: u32) -> Instance {
    let (id, address) = (format!("node-{m}"), format!("10.0.0.{}:8080", m + 1));
    Instance::new(service(n), id.parse().unwrap(), address.parse().unwrap())
}

fn slices() -> (Store<EndpointSlice>, Writer<EndpointSlice>) {
    let (store, mut writer) = store();
    for n in 0..SERVICES {
        writer.apply_watcher_event(&Event::Apply(slice(n)));
    }
    (store, writer)
}

fn slice(n: u32) -> EndpointSlice {
    let endpoint =
        |n| Endpoint { addresses: vec![format!("10.0.0.{}", n + 1)], ..Endpoint::default() };
    EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints: Some((0..INSTANCES).map(endpoint).collect()),
        metadata: ObjectMeta {
            name: Some(format!("bench-{n}")),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        },
        ports: None,
    }
}

criterion_group! {
    name = reflector;
    config = Criterion::default().without_plots();
    targets = pick, change
}
criterion_main!(reflector);
