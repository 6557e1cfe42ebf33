//! Long random runs, over connections that are cut and on a Cluster that changes constantly.

use crate::support::{connect, registry, server, within_a_minute};
use registry_redis::RedisOptions;
use registry_testbed::Soak;
use registry_testbed::proxy::Proxy;
use registry_testbed::servers::RedisCluster;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The environment variable with the number of changes to observe.
const CHANGES: &str = "REGISTRY_TEST_CHANGES";

/// A key of the only shard.
const LOG: &str = "{registry/00}:log";

#[tokio::test]
async fn contract_holds_in_a_long_run_over_cut_connections() {
    let server = server(&[]).await;
    let proxy = Proxy::start(server.address().parse().unwrap()).await.unwrap();
    let url = format!("redis://{}", proxy.address());
    let disturbed = Arc::new(connect(&url, RedisOptions::default()).await.unwrap());
    let direct = Arc::new(registry(&server).await);
    let seed = fastrand::u64(..);
    println!("seed {seed}"); // it determines the operations, not their timing
    let disturb = || if fastrand::bool() { proxy.cut() } else { proxy.reset() };
    let endured = Soak { disturbed, direct, disturb, changes: changes(), seed }.run().await;
    println!("{endured:?}");
    let faults = proxy.hits().cut + proxy.hits().reset;
    assert!(faults > 0 && endured.failures > 0, "no fault occurred: {endured:?}");
    assert_eq!(endured.direct_failures, 0, "undisturbed connections do not fail");
}

#[tokio::test]
async fn contract_holds_in_a_long_run_on_a_cluster_whose_shards_move_and_fail_over() {
    let cluster = Box::pin(within_a_minute(RedisCluster::start())).await.unwrap();
    // All changes are to the moving shard.
    let options = RedisOptions::default().with_shards(1);
    let registry = async || Arc::new(connect(&cluster.url(), options.clone()).await.unwrap());
    let (disturbed, direct) = (registry().await, registry().await);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (next, mut wanted) = mpsc::channel(1);
    // Requests that arrive while the operator is busy are dropped.
    let disturb = || {
        let _ = next.try_send(());
    };
    let (mut moves, mut failovers) = (0, 0);
    let operator = async {
        while wanted.recv().await.is_some() {
            // Alternating, so that even a short run includes both.
            if failovers > moves {
                cluster.move_on(LOG).await.unwrap();
                moves += 1;
            } else {
                cluster.fail_over(LOG).await.unwrap();
                failovers += 1;
            }
        }
    };
    let run = Soak { disturbed, direct, disturb, changes: changes(), seed };
    let endured = tokio::select! {
        endured = run.run() => endured,
        () = operator => unreachable!("`next` lives as long as this"),
    };
    println!("{endured:?}, {moves} moves, {failovers} failovers");
    assert!(moves > 0 && failovers > 0, "no fault occurred: {endured:?}");
}

fn changes() -> usize {
    std::env::var(CHANGES).map_or(1_000, |count| count.parse().expect(CHANGES))
}
