//! Handles that are used on another runtime than the one on which they were made.

use crate::support::{
    Operator, claim, connect, ids, instance, next_change, one_shard, register, server, service,
    watch_from_now, within, within_a_minute,
};
use futures_util::FutureExt;
use registry_core::{CallOptions, Registry};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testbed::servers::RedisSentinel;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Starts servers under Sentinel, and the runtime of the network between them.
fn sentinels() -> (Runtime, RedisSentinel) {
    let network = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let servers = network.block_on(within_a_minute(Box::pin(RedisSentinel::start()))).unwrap();
    (network, servers)
}

/// Regression: the first call failed, since the connection had ended with its runtime.
#[test]
fn handle_works_after_the_runtime_that_made_it_was_dropped() {
    let (made, used) = (runtime(), runtime());
    let server = used.block_on(server(&[]));
    let (registry, lease) = made.block_on(async {
        let registry = one_shard(&server).await;
        let one = instance("user.rpc", "1");
        let lease = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await;
        drop(watch_from_now(&registry, "user.rpc").await);
        (registry, lease.unwrap())
    });
    drop(made);
    used.block_on(async {
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        register(&registry, "user.rpc", "2").await;
        assert_eq!(next_change(&mut watch).await, "+2");
    });
}

/// Regression: a call waited for its deadline of 2 s and failed, and no watch was ever opened.
#[test]
fn handle_works_while_the_runtime_that_made_it_is_not_driven() {
    let (made, used) = (runtime(), runtime());
    let server = used.block_on(server(&[]));
    let (registry, lease, _watch) = made.block_on(async {
        let registry = connect(server.url(), RedisOptions::default()).await.unwrap();
        let one = instance("user.rpc", "1");
        let lease = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await;
        let watch = watch_from_now(&registry, "user.rpc").await;
        (registry, lease.unwrap(), watch)
    });
    used.block_on(async {
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        register(&registry, "user.rpc", "2").await;
        assert_eq!(next_change(&mut watch).await, "+2");
    });
    drop(made);
}

/// Regression: a runtime that was not driven during a renewal blocked the renewals of all other runtimes in the shard.
#[test]
fn renewal_in_flight_on_a_runtime_that_is_not_driven_blocks_no_other() {
    let (still, used) = (runtime(), runtime());
    let server = used.block_on(server(&[]));
    let (registry, lease) = used.block_on(async {
        let registry = one_shard(&server).await;
        let one = instance("user.rpc", "1");
        let lease = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await;
        (registry, lease.unwrap())
    });
    let options = CallOptions::DEFAULT;
    let mut in_progress = registry.keep_alive(&lease, &options);
    still.block_on(async {
        assert!((&mut in_progress).now_or_never().is_none(), "the server has not replied yet");
    });
    used.block_on(async {
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    });
    still.block_on(async { within(in_progress).await.unwrap() });
}

/// Regression: a caller that held the query lock and was no longer polled kept all others from querying the sentinels.
#[test]
fn sentinel_query_on_a_runtime_that_is_not_driven_blocks_no_other() {
    let (still, used) = (runtime(), runtime());
    let (_network, servers) = sentinels();
    let registry = RedisRegistry::connect_lazy(&servers.url().parse().unwrap()).unwrap();
    let (name, options) = (service("user.rpc"), CallOptions::DEFAULT);
    let mut in_progress = registry.load(&name, &options);
    still.block_on(async {
        assert!((&mut in_progress).now_or_never().is_none(), "no sentinel has replied yet");
    });
    used.block_on(async {
        within(registry.load(&name, &options)).await.unwrap();
        // A caller on the same runtime that is no longer polled delays others only for a limited time.
        let other = RedisRegistry::connect_lazy(&servers.url().parse().unwrap()).unwrap();
        let mut in_progress = other.load(&name, &options);
        assert!((&mut in_progress).now_or_never().is_none(), "no sentinel has replied yet");
        within(other.load(&name, &options)).await.unwrap();
    });
    still.block_on(async { within(in_progress).await.unwrap() });
}

/// Regression: after the runtime that polled the sentinels had ended, a runtime whose calls used cached sessions never
/// polled them.
#[test]
fn sentinels_are_polled_after_the_runtime_that_polled_them_was_dropped() {
    let (made, used) = (runtime(), runtime());
    let (_network, servers) = sentinels();
    let url = servers.url();
    let registry = made.block_on(async {
        let registry = connect(&url, RedisOptions::default()).await.unwrap();
        register(&registry, "user.rpc", "1").await;
        registry
    });
    used.block_on(register(&registry, "user.rpc", "2"));
    drop(made);
    used.block_on(async {
        let (_, hosts) = url.split_once("://").unwrap();
        let mut sentinel = Operator::at(hosts.split([',', '/']).next().unwrap()).await;
        within(async {
            while sentinel.connections("registry-sentinel").await == 0 {
                ids(&registry, "user.rpc").await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    });
}
