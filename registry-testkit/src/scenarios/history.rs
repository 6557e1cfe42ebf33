//! Concurrent writers and readers, whose recorded history is checked against the laws.

use crate::case::{Case, id, instance, next_item, service, within};
use crate::contender::Contender;
use crate::laws::{History, Reader, check};
use futures_util::StreamExt;
use futures_util::future::join_all;
use registry_core::{Batch, CallOptions, Change, InstanceId, ServiceName, Snapshot, Watch};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

const WRITERS: u64 = 4;
const READERS: u64 = 4;
const IDS: u8 = 5;
const OPERATIONS: usize = 80;

pub(super) async fn concurrent_writers_and_readers_keep_every_law(case: Case<'_>) {
    let seed = fastrand::u64(..);
    println!("seed {seed}"); // repeats the operations, but not the timing of the store
    let name = service("user.rpc");
    let (start, canonical) = case.follow(&name).await;
    let failures = AtomicUsize::new(0);
    let writing = async {
        let contender = |n| Contender { ids: IDS, operations: OPERATIONS, seed: seed ^ n };
        let contenders = (0..WRITERS).map(|n| contender(n).run(&*case.registry, &name, &failures));
        let acknowledged = join_all(contenders).await;
        case.register(&instance(&name, "end")).await;
        (acknowledged.concat(), case.load(&name).await)
    };
    let reading = join_all((0..READERS).map(|n| read(&case, &name, &start, seed ^ (n + 100))));
    let loading = load(&case, &name);
    let (canonical, (acknowledged, end), readers, loads) =
        tokio::join!(to_the_end(canonical), writing, reading, loading);

    let history = History { canonical, readers, acknowledged, loads, end: Some(end) };
    assert_eq!(failures.into_inner(), 0, "calls failed without a disconnect");
    let changes: usize = history.canonical.iter().map(|batch| batch.changes.len()).sum();
    assert!(
        changes > OPERATIONS && history.acknowledged.len() > OPERATIONS / 2,
        "too few writes succeeded: {changes} changes"
    );
    check(&history).unwrap();
}

/// Reads to the end, over many watches that are dropped at random.
async fn read(case: &Case<'_>, name: &ServiceName, start: &Snapshot, seed: u64) -> Reader {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut reader = Reader { start: start.clone(), batches: Vec::new() };
    let mut cursor = start.cursor().clone();
    loop {
        let mut watch =
            within(case.registry.watch(name, &cursor, &CallOptions::DEFAULT)).await.unwrap();
        for _ in 0..random.u8(1..20) {
            let batch = within(watch.next()).await.expect("a watch has no bare end").unwrap();
            let over = is_end(&batch);
            reader.batches.push(batch);
            if over {
                return reader;
            }
        }
        cursor = watch.cursor().clone();
    }
}

async fn load(case: &Case<'_>, name: &ServiceName) -> Vec<Snapshot> {
    let mut loads = Vec::new();
    for _ in 0..40 {
        loads.push(case.load(name).await);
        tokio::task::yield_now().await;
    }
    loads
}

async fn to_the_end(mut watch: Watch) -> Vec<Arc<Batch>> {
    let mut batches = Vec::new();
    loop {
        batches.push(next_item(&mut watch).await.unwrap());
        if batches.last().is_some_and(|batch| is_end(batch)) {
            return batches;
        }
    }
}

fn is_end(batch: &Batch) -> bool {
    let end: InstanceId = id("end");
    batch
        .changes
        .iter()
        .any(|change| matches!(change, Change::Put(instance) if *instance.id() == end))
}
