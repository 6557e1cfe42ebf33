//! On a Cluster: shards on different nodes, a node that is replaced, slots that move.

use crate::support::{
    Operator, agreed, claim, failure, goes_on, hasty, ids, instance, next_change, register, server,
    service, until, watch, watch_from_now, within,
};
use futures_util::StreamExt;
use registry_core::{ErrorKind, Registry};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testbed::servers::{Redis, RedisCluster};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// A key of the shard of `user.rpc`.
const USER_LOG: &str = "{registry/15}:log";

async fn start() -> RedisCluster {
    Box::pin(agreed(RedisCluster::start())).await.unwrap()
}

async fn connect(url: &str) -> registry_core::Result<RedisRegistry> {
    hasty(url, RedisOptions::default()).await
}

#[tokio::test]
async fn services_on_all_nodes_are_served_and_watched() {
    let cluster = start().await;
    let registry = connect(&cluster.url()).await.unwrap();
    let names: Vec<String> = (0..40).map(|n| format!("service-{n}")).collect();
    let mut watches = Vec::new();
    for name in &names {
        watches.push(watch_from_now(&registry, name).await);
    }
    for name in &names {
        let lease = within(registry.register(&instance(name, "1"), &claim())).await.unwrap();
        within(registry.keep_alive(&lease)).await.unwrap();
    }
    for live in &mut watches {
        assert_eq!(next_change(live).await, "+1");
    }
    let found = within(registry.services()).await.unwrap();
    assert_eq!(found, names.iter().map(|name| service(name)).collect::<BTreeSet<_>>());
    let mut busy = 0;
    for node in 0..3 {
        let keys: usize = Operator::at(&cluster.address(node)).await.run("DBSIZE").await;
        busy += usize::from(keys > 0);
    }
    assert_eq!(busy, 3, "every node has shards");
}

#[tokio::test]
async fn a_node_that_is_killed_is_replaced_and_what_it_had_goes_on() {
    let mut cluster = start().await;
    let registry = connect(&cluster.url()).await.unwrap();
    let lease = within(registry.register(&instance("user.rpc", "1"), &claim())).await.unwrap();
    let mut live = watch_from_now(&registry, "user.rpc").await;
    let owner = agreed(cluster.owner(USER_LOG)).await.unwrap();
    let mut primary = Operator::at(&cluster.address(owner)).await;
    assert_eq!(primary.run::<u64>("WAIT 1 10000").await, 1, "the replica is not in step");

    cluster.process(owner).kill().unwrap();
    assert_eq!(failure(&mut live).await, ErrorKind::Unavailable);
    agreed(cluster.successor_of(owner, USER_LOG)).await.unwrap();
    goes_on(&registry, &lease, &live).await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_is_left_and_follows_its_successor_when_it_is_back() {
    let parted = RedisCluster::start_partitionable(Redis::options());
    let mut cluster = Box::pin(agreed(parted)).await.unwrap();
    let registry = connect(&cluster.url()).await.unwrap();
    let lease = within(registry.register(&instance("user.rpc", "1"), &claim())).await.unwrap();
    let owner = agreed(cluster.owner(USER_LOG)).await.unwrap();
    let mut primary = Operator::at(&cluster.address(owner)).await;
    assert_eq!(primary.run::<u64>("WAIT 1 10000").await, 1, "the replica is not in step");

    cluster.cut_off(owner);
    agreed(cluster.successor_of(owner, USER_LOG)).await.unwrap();
    let stops = async {
        while !primary.run::<String>("CLUSTER INFO").await.contains("cluster_state:fail") {}
    };
    within(stops).await;
    until(|| registry.keep_alive(&lease)).await;
    cluster.heal();
    agreed(cluster.rejoined(owner)).await.unwrap();
    within(registry.keep_alive(&lease)).await.unwrap();
    assert_eq!(ids(&registry, "user.rpc").await, ["1"]);
}

#[tokio::test]
async fn a_slot_that_moves_under_load_loses_nothing() {
    let cluster = start().await;
    let registry = connect(&cluster.url()).await.unwrap();
    register(&registry, "user.rpc", "first").await;
    let mut live = watch_from_now(&registry, "user.rpc").await;
    let is_over = AtomicBool::new(false);
    let writer = async {
        let mut written = vec!["first".to_owned()];
        while !is_over.load(Ordering::Relaxed) {
            let id = written.len().to_string();
            let (one, claim) = (instance("user.rpc", &id), claim());
            until(|| async { registry.register(&one, &claim).await }).await;
            written.push(id);
        }
        written
    };
    let owner = agreed(cluster.owner(USER_LOG)).await.unwrap();
    let mover = async {
        for to in [(owner + 1) % 3, (owner + 2) % 3, owner] {
            agreed(cluster.move_slot(USER_LOG, to)).await.unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let (mut written, ()) = tokio::join!(writer, mover);
    assert!(written.len() > 20, "there was a load: {}", written.len());

    // A reader that resumes whenever its watch ends has seen all of them, in order.
    let mut seen = vec!["+first".to_owned()];
    while seen.len() < written.len() {
        match within(live.next()).await.expect("it ends with an error") {
            Ok(batch) => {
                seen.extend(batch.changes.iter().map(|change| format!("+{}", change.id())));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                let cursor = live.cursor().clone();
                live = watch(&registry, "user.rpc", &cursor).await;
            }
        }
    }
    assert_eq!(seen, written.iter().map(|id| format!("+{id}")).collect::<Vec<_>>());
    written.sort();
    assert_eq!(ids(&registry, "user.rpc").await, written);
}

#[tokio::test]
async fn nodes_that_are_down_take_nothing_away_of_what_lies_on_others() {
    let mut options = Redis::options();
    options.url = None;
    options.arguments = ["--cluster-require-full-coverage", "no"].map(str::to_owned).to_vec();
    let mut cluster = Box::pin(agreed(RedisCluster::start_with(options))).await.unwrap();
    let registry = connect(&cluster.url()).await.unwrap();
    let layout = agreed(cluster.owner("{registry}:layout")).await.unwrap();
    let mut elsewhere = None;
    for (name, shard) in [("a", 12), ("prod/order.rpc", 10), ("user.rpc", 15)] {
        let owner = agreed(cluster.owner(&format!("{{registry/{shard}}}:log"))).await.unwrap();
        if owner != layout {
            elsewhere = Some((name, owner));
        }
    }
    let (name, owner) = elsewhere.expect("no shard of three lies on another node than the layout");
    register(&registry, name, "1").await;
    // With its replica, so that nobody takes over.
    for node in [layout, layout + 3] {
        cluster.process(node).kill().unwrap();
    }
    Operator::at(&cluster.address(owner)).await.cut("registry").await;
    let two = instance(name, "2");
    until(|| async { registry.register(&two, &claim()).await }).await;
    assert_eq!(ids(&registry, name).await, ["1", "2"]);
}

#[tokio::test]
async fn a_url_of_the_other_kind_is_told_which_to_use() {
    let cluster = start().await;
    let error = connect(&format!("redis://{}", cluster.address(0))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("redis+cluster://"), "{error}");
    let standalone = server(&[]).await;
    let url = standalone.url().replace("redis://", "redis+cluster://");
    let error = connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("redis://"), "{error}");
}
