//! Large services: pages read at different revisions become one snapshot.

use crate::support::{claim, instance, load, one_shard, server, watch, within};
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, Change, Claim, Instance, Lease, Record, Registry, Snapshot};
use registry_redis::RedisRegistry;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of instances: more than two pages.
const INSTANCES: usize = 2_500;

async fn register_many(registry: &RedisRegistry) -> Vec<(Instance, Claim, Lease)> {
    let mut all = Vec::new();
    for chunk in (0..INSTANCES).collect::<Vec<_>>().chunks(100) {
        let registered = chunk.iter().map(|n| async move {
            let (one, claim) = (instance("user.rpc", &format!("{n:05}")), claim());
            let lease =
                within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
            (one, claim, lease)
        });
        all.extend(join_all(registered).await);
    }
    all
}

#[tokio::test]
async fn service_of_many_pages_is_loaded_completely() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register_many(&registry).await;
    // Services with adjacent names must not be included.
    for name in ["user.rpb", "user.rpc/a", "user.rpd"] {
        within(registry.register(&instance(name, "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    }
    let snapshot = load(&registry, "user.rpc").await;
    let ids: Vec<String> = snapshot.records().ids().map(ToString::to_string).collect();
    assert_eq!(ids, (0..INSTANCES).map(|n| format!("{n:05}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn load_under_writes_equals_the_log_at_its_revision() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let start = load(&registry, "user.rpc").await;
    let all = register_many(&registry).await;
    let is_over = AtomicBool::new(false);
    let writer = async {
        // Spread over all pages. Some instances are deleted and put again between two pages.
        for (n, (one, claim, lease)) in (0..400).zip(all.iter().cycle().step_by(37)) {
            if n % 3 == 0 {
                within(registry.deregister(lease, &CallOptions::DEFAULT)).await.unwrap();
            }
            let one = one.clone().with_weight(n + 2);
            within(registry.register(&one, claim, &CallOptions::DEFAULT)).await.unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let reader = async {
        let mut loads = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            loads.push(load(&registry, "user.rpc").await);
        }
        loads
    };
    let ((), loads) = tokio::join!(writer, reader);
    assert!(loads.len() > 10, "{} loads ran during the writes", loads.len());

    let mut log = watch(&registry, "user.rpc", start.cursor()).await;
    let mut folded: BTreeMap<String, Record> = BTreeMap::new();
    let mut loads = loads.iter().peekable();
    while let Some(batch) = log.next().now_or_never() {
        let batch = batch.unwrap().unwrap();
        while let Some(load) =
            loads.next_if(|load| load.cursor().revision() < batch.cursor.revision())
        {
            assert_same(load, &folded);
        }
        for change in &batch.changes {
            match change {
                Change::Put(one) => drop(folded.insert(one.id().to_string(), one.clone())),
                Change::Delete(deleted) => drop(folded.remove(deleted.id().as_str())),
            }
        }
    }
    for load in loads {
        assert_same(load, &folded);
    }
}

fn assert_same(load: &Snapshot, folded: &BTreeMap<String, Record>) {
    let folded: Vec<Record> = folded.values().cloned().collect();
    assert_eq!(load.records()[..], folded, "at {}", load.cursor());
}
