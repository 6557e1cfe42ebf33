//! Opening a watch may delete an expired lease, which must be reported once.

#![allow(clippy::unwrap_used)]

use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, Claim, Instance, Registry, ServiceName};
use registry_mem::MemRegistry;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn watch_whose_opening_expires_a_lease_continues() {
    let registry = MemRegistry::new();
    let service: ServiceName = "a".parse().unwrap();
    let node = |id: &str| {
        Instance::from_parts(
            "a".parse().unwrap(),
            id.parse().unwrap(),
            "10.0.0.1:80".parse().unwrap(),
        )
    };
    let options = &CallOptions::DEFAULT;
    let claim = Claim::new(Duration::from_secs(1)).unwrap();
    registry.register(&node("1"), &claim, options).await.unwrap();
    let snapshot = registry.load(&service, options).await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    let mut watch = registry.watch(&service, snapshot.cursor(), options).await.unwrap();
    let batch = watch.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(batch.changes.len(), 1);
    let claim = Claim::new(Duration::from_secs(10)).unwrap();
    registry.register(&node("2"), &claim, options).await.unwrap();
    let batch = watch.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(batch.changes[0].id().as_str(), "2");
}
