//! The events of `follow`.

#![allow(clippy::unwrap_used)]

use futures_util::StreamExt;
use registry_core::{CallOptions, Claim, Cursor, Instance, Registry, ServiceName};
use registry_engine::{Backoff, FollowEvent, FollowOptions, follow};
use registry_mem::MemRegistry;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Returns the first `count` events as short texts.
async fn events(registry: &MemRegistry, after: Option<Cursor>, count: usize) -> Vec<String> {
    let backoff = Backoff::default();
    let options = FollowOptions::default()
        .with_backoff(backoff)
        .with_outage_backoff(backoff)
        .with_timeout(Duration::from_secs(1));
    let events = pin!(follow(Arc::new(registry.clone()), service(), after, options));
    let events = events.take(count).map(|event| match event {
        FollowEvent::Reset(snapshot) => format!("reset {}", snapshot.instances().len()),
        FollowEvent::Opened(_) => "opened".to_owned(),
        FollowEvent::Live => "live".to_owned(),
        FollowEvent::Batch(batch) => format!("batch {}", batch.changes[0].id()),
        FollowEvent::Trouble(error) => format!("trouble {}", error.kind()),
    });
    events.collect().await
}

fn service() -> ServiceName {
    "user.rpc".parse().unwrap()
}

async fn register(registry: &MemRegistry, id: &str) {
    let instance =
        Instance::from_parts(service(), id.parse().unwrap(), "10.0.0.1:80".parse().unwrap());
    let claim = Claim::new(Duration::from_secs(60)).unwrap();
    registry.register(&instance, &claim, &CallOptions::DEFAULT).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn follow_starts_from_a_snapshot_or_continues_after_a_cursor() {
    let registry = MemRegistry::new();
    register(&registry, "1").await;
    let cursor = registry.load(&service(), &CallOptions::DEFAULT).await.unwrap().cursor().clone();
    register(&registry, "2").await;
    assert_eq!(events(&registry, None, 3).await, ["reset 2", "opened", "live"]);
    assert_eq!(events(&registry, Some(cursor), 3).await, ["opened", "batch 2", "live"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_cursor_is_reported_before_the_stream_resets() {
    let registry = MemRegistry::new();
    let old = registry.load(&service(), &CallOptions::DEFAULT).await.unwrap().cursor().clone();
    register(&registry, "1").await;
    register(&registry, "2").await;
    registry.compact(
        registry.load(&service(), &CallOptions::DEFAULT).await.unwrap().cursor().revision(),
    );
    let expected = ["trouble compacted", "reset 2", "opened", "live"];
    assert_eq!(events(&registry, Some(old.clone()), 4).await, expected);
    let backup = registry.backup();
    register(&registry, "3").await;
    let undone = registry.load(&service(), &CallOptions::DEFAULT).await.unwrap().cursor().clone();
    registry.restore(backup);
    assert_eq!(events(&registry, Some(undone), 2).await, ["trouble diverged", "reset 2"]);
    let other = MemRegistry::new();
    assert_eq!(events(&other, Some(old), 2).await, ["trouble invalid", "reset 0"]);
}
