//! Handles that are used on another runtime than the one that made them.

use crate::support::{
    claim, connect, instance, next_change, one_shard, register, server, watch_from_now, within,
};
use registry_core::{CallOptions, Registry};
use registry_redis::RedisOptions;
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The first call failed, since the connection had ended with its runtime.
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

/// A call waited for its deadline, 2 s, and failed; a watch was never opened.
#[test]
fn handle_works_while_the_runtime_that_made_it_stands_still() {
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
