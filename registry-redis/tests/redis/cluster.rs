//! A Cluster: shards on different nodes, failovers, and slots that move.

use crate::support::{
    Operator, assert_service_continues, claim, connect_with_short_deadlines, failure, ids,
    instance, next_change, register, retry_while_unavailable, server, service, watch,
    watch_from_now, within, within_a_minute,
};
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testbed::servers::{Redis, RedisCluster};
use registry_testkit::lag::tolerating;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A key of the shard of `user.rpc`.
const USER_LOG: &str = "{registry/15}:log";

async fn start() -> RedisCluster {
    Box::pin(within_a_minute(RedisCluster::start())).await.unwrap()
}

/// Returns the shard of a service, as the documentation of the keys says.
fn shard_of(service: &str) -> u64 {
    let hash = service.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash % 16
}

async fn connect(url: &str) -> registry_core::Result<RedisRegistry> {
    connect_with_short_deadlines(url, RedisOptions::default()).await
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
        let lease =
            within(registry.register(&instance(name, "1"), &claim(), &CallOptions::DEFAULT))
                .await
                .unwrap();
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    }
    for live in &mut watches {
        assert_eq!(next_change(live).await, "+1");
    }
    let found = within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(found, names.iter().map(|name| service(name)).collect::<BTreeSet<_>>());
    let mut busy = 0;
    for node in 0..3 {
        let keys: usize = Operator::at(&cluster.address(node)).await.run("DBSIZE").await;
        busy += usize::from(keys > 0);
    }
    assert_eq!(busy, 3, "every node has shards");
}

#[tokio::test]
async fn killed_node_is_replaced_without_loss() {
    let mut cluster = start().await;
    let registry = connect(&cluster.url()).await.unwrap();
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let mut live = watch_from_now(&registry, "user.rpc").await;
    let owner = within_a_minute(cluster.owner(USER_LOG)).await.unwrap();
    let mut primary = Operator::at(&cluster.address(owner)).await;
    assert_eq!(primary.in_sync("WAIT 1 10000").await, 1, "the replica is not in sync");

    cluster.process(owner).kill().unwrap();
    assert_eq!(failure(&mut live).await, ErrorKind::Unavailable);
    within_a_minute(cluster.successor_of(owner, USER_LOG)).await.unwrap();
    assert_service_continues(&registry, &lease, &live).await;
}

#[test]
fn silent_node_ends_the_watches_of_its_shards_in_time_and_no_other() {
    tolerating(Duration::from_secs(1), async |lag| {
        let mut cluster = start().await;
        let url = format!("{}?ttl=3s", cluster.url());
        let registry = connect(&url).await.unwrap();
        // The other nodes do not notice the silence; otherwise they refuse to serve until the node is replaced.
        for node in 0..cluster.nodes() {
            let mut operator = Operator::at(&cluster.address(node)).await;
            operator.run::<()>("CONFIG SET cluster-node-timeout 30000").await;
        }
        let silent = within_a_minute(cluster.owner(USER_LOG)).await.unwrap();
        let mut watches = Vec::new();
        for n in 0..16 {
            let name = format!("service-{n}");
            let log = format!("{{registry/{:02}}}:log", shard_of(&name));
            let is_silent = within_a_minute(cluster.owner(&log)).await.unwrap() == silent;
            watches.push((is_silent, watch_from_now(&registry, &name).await));
        }
        let counts = [true, false].map(|of| watches.iter().filter(|(is, _)| *is == of).count());
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        let deadline = lag.deadline(Duration::from_millis(2500));
        cluster.process(silent).pause().unwrap();
        for (_, watch) in watches.iter_mut().filter(|(is_silent, _)| *is_silent) {
            assert_eq!(failure(watch).await, ErrorKind::Unavailable);
        }
        deadline.assert_met();
        for (_, watch) in watches.iter_mut().filter(|(is_silent, _)| !is_silent) {
            while let Some(item) = watch.next().now_or_never() {
                item.expect("a watch ends with an error").expect("the watch continues");
            }
        }
    });
}

#[tokio::test]
async fn partitioned_node_is_abandoned_and_becomes_a_replica_when_it_returns() {
    let parted = RedisCluster::start_partitionable(Redis::options());
    let mut cluster = Box::pin(within_a_minute(parted)).await.unwrap();
    let registry = connect(&cluster.url()).await.unwrap();
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let owner = within_a_minute(cluster.owner(USER_LOG)).await.unwrap();
    let mut primary = Operator::at(&cluster.address(owner)).await;
    assert_eq!(primary.in_sync("WAIT 1 10000").await, 1, "the replica is not in sync");

    cluster.cut_off(owner);
    within_a_minute(cluster.successor_of(owner, USER_LOG)).await.unwrap();
    let stops = async {
        while !primary.run::<String>("CLUSTER INFO").await.contains("cluster_state:fail") {}
    };
    within(stops).await;
    retry_while_unavailable(|| registry.keep_alive(&lease, &CallOptions::DEFAULT)).await;
    cluster.heal();
    within_a_minute(cluster.rejoined(owner)).await.unwrap();
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(ids(&registry, "user.rpc").await, ["1"]);
}

#[tokio::test]
async fn moving_a_slot_under_load_loses_nothing() {
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
            retry_while_unavailable(|| async {
                registry.register(&one, &claim, &CallOptions::DEFAULT).await
            })
            .await;
            written.push(id);
        }
        written
    };
    let owner = within_a_minute(cluster.owner(USER_LOG)).await.unwrap();
    let mover = async {
        for to in [(owner + 1) % 3, (owner + 2) % 3, owner] {
            within_a_minute(cluster.move_slot(USER_LOG, to)).await.unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let (mut written, ()) = tokio::join!(writer, mover);
    assert!(written.len() > 20, "too few writes: {}", written.len());

    // A client that resumes its watch after each error receives all of them, in order.
    let mut seen = vec!["+first".to_owned()];
    while seen.len() < written.len() {
        match within(live.next()).await.expect("a watch ends with an error") {
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
async fn shards_on_live_nodes_are_served_while_other_nodes_are_down() {
    let mut options = Redis::options();
    options.url = None;
    options.arguments = ["--cluster-require-full-coverage", "no"].map(str::to_owned).to_vec();
    let mut cluster = Box::pin(within_a_minute(RedisCluster::start_with(options))).await.unwrap();
    let registry = connect(&cluster.url()).await.unwrap();
    let layout = within_a_minute(cluster.owner("{registry}:layout")).await.unwrap();
    let mut elsewhere = None;
    for (name, shard) in [("a", 12), ("prod/order.rpc", 10), ("user.rpc", 15)] {
        let owner =
            within_a_minute(cluster.owner(&format!("{{registry/{shard}}}:log"))).await.unwrap();
        if owner != layout {
            elsewhere = Some((name, owner));
        }
    }
    let (name, owner) = elsewhere.expect("none of three shards is on another node than the layout");
    register(&registry, name, "1").await;
    // Together with its replica, so that no node takes over.
    for node in [layout, layout + 3] {
        cluster.process(node).kill().unwrap();
    }
    Operator::at(&cluster.address(owner)).await.cut("registry").await;
    let two = instance(name, "2");
    retry_while_unavailable(|| async {
        registry.register(&two, &claim(), &CallOptions::DEFAULT).await
    })
    .await;
    assert_eq!(ids(&registry, name).await, ["1", "2"]);
}

#[tokio::test]
async fn wrong_scheme_is_invalid_and_the_error_names_the_right_one() {
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
