//! Criterion's view of the engine: a pick, and a change to all subscribers. Beside each stands what
//! somebody else would take for it.
//!
//! For figures beside their targets: `cargo run --release -p comparison --example engine -- all`.

#![allow(clippy::unwrap_used)]

mod fan_out;
mod pick;

use criterion::{Criterion, criterion_group, criterion_main};
use registry_core::{CallOptions, Claim, Instance, Registry};
use registry_engine::{Discovery, DiscoveryOptions, View};
use registry_mem::MemRegistry;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How many instances the service has.
const INSTANCES: u32 = 100;

/// How many services there are where one is found by its name.
const SERVICES: u32 = 1_000;

/// Longer than a run.
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
    let registry = MemRegistry::with_history_limit(8);
    for n in 0..INSTANCES {
        registry
            .register(&instance(n), &Claim::new(LONG).unwrap(), &CallOptions::DEFAULT)
            .await
            .unwrap();
    }
    let discovery = Discovery::new(Arc::new(registry.clone()), DiscoveryOptions::default());
    let mut view = discovery.view(&"bench".parse().unwrap());
    view.ready(LONG).await.unwrap();
    (registry, view)
}

fn config() -> Criterion {
    let quick = Criterion::default().sample_size(50).warm_up_time(Duration::from_millis(500));
    quick.measurement_time(Duration::from_secs(2)).without_plots()
}

criterion_group! {
    name = engine;
    config = config();
    targets = pick::pick, fan_out::fan_out
}
criterion_main!(engine);
