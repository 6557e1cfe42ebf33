//! What is heard by who follows a service step by step.

#![allow(clippy::unwrap_used)]

use futures_util::StreamExt;
use registry_core::{Claim, Cursor, ErrorKind, Instance, Registry, ServiceName};
use registry_engine::{Backoff, FollowEvent, FollowOptions, follow};
use registry_mem::MemRegistry;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// What the first `count` steps are.
async fn steps(registry: &MemRegistry, after: Option<Cursor>, count: usize) -> Vec<String> {
    let pace = FollowOptions { backoff: Backoff::default(), timeout: Duration::from_secs(1) };
    let steps = pin!(follow(Arc::new(registry.clone()), service(), after, pace));
    let told = steps.take(count).map(|step| match step {
        FollowEvent::Reset(snapshot) => format!("reset {}", snapshot.instances().len()),
        FollowEvent::Live => "live".to_owned(),
        FollowEvent::Batch(batch) => format!("batch {}", batch.changes[0].id()),
        FollowEvent::Trouble(error) => format!("trouble {}", error.kind()),
    });
    told.collect().await
}

fn service() -> ServiceName {
    "user.rpc".parse().unwrap()
}

async fn register(registry: &MemRegistry, id: &str) {
    let instance = Instance::new(service(), id.parse().unwrap(), "10.0.0.1:80".parse().unwrap());
    let claim = Claim::new(Duration::from_secs(60)).unwrap();
    registry.register(&instance, &claim).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_service_is_followed_from_its_state_or_from_a_cursor_on() {
    let registry = MemRegistry::new();
    register(&registry, "1").await;
    let cursor = registry.load(&service()).await.unwrap().cursor().clone();
    register(&registry, "2").await;
    assert_eq!(steps(&registry, None, 2).await, ["reset 2", "live"]);
    assert_eq!(steps(&registry, Some(cursor), 2).await, ["live", "batch 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_is_of_no_more_use_is_told_before_it_begins_anew() {
    let registry = MemRegistry::new();
    let old = registry.load(&service()).await.unwrap().cursor().clone();
    register(&registry, "1").await;
    register(&registry, "2").await;
    registry.compact(registry.load(&service()).await.unwrap().cursor().revision());
    let expected = ["trouble compacted", "reset 2", "live"];
    assert_eq!(steps(&registry, Some(old.clone()), 3).await, expected);
    let other = MemRegistry::new();
    let foreign = other.watch(&service(), &old).await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::Diverged);
    assert_eq!(steps(&other, Some(old), 2).await, ["trouble diverged", "reset 0"]);
}
