//! Servers and connections that fail, and servers that refuse calls.

use crate::support::{
    Operator, claim, connect, failure, ids, instance, load, next_change, one_shard, reconnect,
    register, registry, server, service, watch, watch_failure, watch_from_now, within,
};
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_redis::RedisOptions;
use registry_testkit::lag::tolerating;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[test]
fn calls_to_a_paused_server_fail_within_the_deadline() {
    tolerating(Duration::from_secs(1), async |lag| {
        let mut server = server(&[]).await;
        let deadline = Duration::from_millis(300);
        let options = RedisOptions::default()
            .with_shards(1)
            .with_request_deadline(deadline)
            .with_connect_deadline(deadline);
        let registry = connect(server.url(), options).await.unwrap();
        let lease =
            within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
                .await
                .unwrap();
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        server.process().unwrap().pause().unwrap();

        // The first calls wait for a reply, the later ones for a connection. No call waits for another one.
        for _ in 0..2 {
            let start = Instant::now();
            let bound = lag.deadline(2 * deadline + Duration::from_millis(200));
            for outcome in within(join_all(
                (0..20).map(|_| registry.keep_alive(&lease, &CallOptions::DEFAULT)),
            ))
            .await
            {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
            }
            assert!(start.elapsed() >= deadline, "{:?}", start.elapsed());
            bound.assert_met();
        }
        assert_eq!(failure(&mut watch).await, ErrorKind::Unavailable);
        server.process().unwrap().resume().unwrap();
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(ids(&registry, "user.rpc").await, ["1"]);
    });
}

#[tokio::test]
async fn repeated_call_has_the_effect_of_one() {
    let mut server = server(&[]).await;
    let options =
        RedisOptions::default().with_shards(1).with_request_deadline(Duration::from_millis(200));
    let registry = connect(server.url(), options).await.unwrap();
    let (one, claim) = (instance("user.rpc", "1"), claim());
    let mut watch = watch_from_now(&registry, "user.rpc").await;
    server.process().unwrap().pause().unwrap();
    let error = within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    server.process().unwrap().resume().unwrap();
    let lease = within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(lease.revision().get(), 1, "one of the two calls took effect");
    assert_eq!(next_change(&mut watch).await, "+1");
    register(&registry, "user.rpc", "2").await;
    assert_eq!(next_change(&mut watch).await, "+2");
}

#[tokio::test]
async fn cancelled_call_does_not_affect_others() {
    let mut server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    server.process().unwrap().pause().unwrap();
    let name = service("user.rpc");
    let mut calls: Vec<_> = (0..10).map(|_| registry.load(&name, &CallOptions::DEFAULT)).collect();
    for call in &mut calls {
        assert!(call.now_or_never().is_none());
    }
    calls.truncate(1);
    server.process().unwrap().resume().unwrap();
    let last = within(calls.remove(0)).await.unwrap();
    assert_eq!(last.instances().len(), 1, "each call gets its own reply");
}

#[tokio::test]
async fn cut_feed_connection_ends_its_watches_and_the_next_watch_works() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let mut operator = Operator::of(&server).await;
    let mut one = watch_from_now(&registry, "user.rpc").await;
    let mut two = watch_from_now(&registry, "a").await;
    register(&registry, "user.rpc", "1").await;
    register(&registry, "a", "1").await;
    assert_eq!(next_change(&mut one).await, "+1");
    assert_eq!(next_change(&mut two).await, "+1");
    let cursor = one.cursor().clone();
    operator.cut("registry-feed").await;
    assert_eq!(failure(&mut one).await, ErrorKind::Unavailable);
    assert_eq!(failure(&mut two).await, ErrorKind::Unavailable);
    register(&registry, "user.rpc", "2").await;
    let mut resumed = watch(&registry, "user.rpc", &cursor).await;
    assert_eq!(next_change(&mut resumed).await, "+2");
    register(&registry, "user.rpc", "3").await;
    assert_eq!(next_change(&mut resumed).await, "+3");
}

#[tokio::test]
async fn cut_command_connection_is_replaced_and_ends_no_watch() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let mut watch = watch_from_now(&registry, "user.rpc").await;
    Operator::of(&server).await.cut("registry").await;
    reconnect(&registry).await;
    register(&registry, "user.rpc", "1").await;
    assert_eq!(next_change(&mut watch).await, "+1");
}

#[tokio::test]
async fn missing_server_is_unavailable() {
    let mut server = server(&[]).await;
    server.process().unwrap().kill().unwrap();
    let error = connect(server.url(), RedisOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn missing_permission_is_denied() {
    let server = server(&["--requirepass", "s3cret"]).await;
    let with = |userinfo: &str| server.url().replace("redis://", &format!("redis://{userinfo}"));
    for userinfo in ["", ":wrong@", "default:wrong@", "nobody:s3cret@"] {
        let error = connect(&with(userinfo), RedisOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{userinfo}: {error:?}");
        assert!(!format!("{error:?}").contains("s3cret"));
    }
    let registry = connect(&with("default:s3cret@"), RedisOptions::default()).await.unwrap();
    assert!(!format!("{registry:?}").contains("s3cret"));
    register(&registry, "user.rpc", "1").await;
}

#[tokio::test]
async fn server_that_evicts_keys_is_refused_with_advice() {
    let server = server(&["--maxmemory-policy", "allkeys-lru"]).await;
    let error = connect(server.url(), RedisOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("allkeys-lru"), "{error}");
    Operator::of(&server).await.run::<()>("CONFIG SET maxmemory-policy volatile-lru").await;
    connect(server.url(), RedisOptions::default()).await.unwrap();
}

#[tokio::test]
async fn server_is_unavailable_while_it_loads_its_data() {
    // Loading takes about 20 ms for each key.
    let slowly = ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"];
    let slowly = [&slowly[..], &["--rdbcompression", "no"]].concat();
    let mut server = server(&slowly).await;
    let registry = one_shard(&server).await;
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let mut operator = Operator::of(&server).await;
    for n in 0..50 {
        operator.run::<()>(&format!("SET key-{n} {}", "x".repeat(2000))).await;
    }
    operator.run::<()>("SAVE").await;
    let refused = AtomicUsize::new(0);
    let is_back = async {
        while let Err(error) = registry.keep_alive(&lease, &CallOptions::DEFAULT).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            let source = std::error::Error::source(&error).map(ToString::to_string);
            if source.is_some_and(|source| source.contains("loading")) {
                refused.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let process = server.process().unwrap();
    process.kill().unwrap();
    let (restarted, ()) = within(join(process.restart(), is_back)).await;
    restarted.unwrap();
    assert!(refused.into_inner() > 0, "no call met the loading server");
}

#[tokio::test]
async fn full_server_is_unavailable_and_changes_nothing() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let before = load(&registry, "user.rpc").await;
    let mut operator = Operator::of(&server).await;
    operator.run::<()>("CONFIG SET maxmemory 1").await;
    let error =
        within(registry.register(&instance("user.rpc", "2"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    operator.run::<()>("CONFIG SET maxmemory 0").await;
    assert_eq!(load(&registry, "user.rpc").await, before);
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    register(&registry, "user.rpc", "2").await;
    assert_eq!(ids(&registry, "user.rpc").await, ["1", "2"]);
}

/// A policy that is set after connecting is not refused, but evictions are detected.
#[tokio::test]
async fn evicted_keys_are_restored_or_detected() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let one = instance("user.rpc", "1");
    let lease = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap();
    register(&registry, "user.rpc", "2").await;
    let cursor = load(&registry, "user.rpc").await.cursor().clone();
    let mut operator = Operator::of(&server).await;
    let used: u64 = operator.info("used_memory").await.parse().unwrap();
    let limit =
        format!("CONFIG SET maxmemory-policy allkeys-random maxmemory {}", used + 1_000_000);
    operator.run::<()>(&limit).await;
    let ours = ["state", "idx", "exp"].map(|key| format!("{{registry/00}}:{key}"));
    let exist = format!("EXISTS {}", ours.join(" "));
    let mut others = 0;
    while operator.run::<usize>(&exist).await == ours.len() {
        operator.run::<()>(&format!("SET other-{others} {}", "x".repeat(10_000))).await;
        others += 1;
    }
    assert_ne!(operator.info("evicted_keys").await, "0");
    operator.run::<()>("CONFIG SET maxmemory 0 maxmemory-policy noeviction").await;

    // Eviction is random, and may include the log.
    if let Err(error) = within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await {
        assert_eq!(error.kind(), ErrorKind::LeaseLost);
        within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(watch_failure(&registry, "user.rpc", &cursor).await, ErrorKind::Diverged);
    }
    assert!(ids(&registry, "user.rpc").await.contains(&"1".to_owned()));
}

#[tokio::test]
async fn server_that_cannot_save_is_unavailable_and_changes_nothing() {
    let server = server(&["--enable-protected-configs", "yes"]).await;
    let registry = one_shard(&server).await;
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let before = load(&registry, "user.rpc").await;
    let mut operator = Operator::of(&server).await;
    let gone = tempfile::tempdir().unwrap();
    operator.run_words::<()>(&["CONFIG", "SET", "save", "3600 1"]).await;
    operator.run::<()>(&format!("CONFIG SET dir {}", gone.path().display())).await;
    gone.close().unwrap();
    operator.run::<()>("BGSAVE").await;
    within(async { while operator.info("rdb_last_bgsave_status").await != "err" {} }).await;
    let error =
        within(registry.register(&instance("user.rpc", "2"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(source.contains("MISCONF"), "{error:?}");
    operator.run::<()>("CONFIG SET stop-writes-on-bgsave-error no").await;
    assert_eq!(load(&registry, "user.rpc").await, before);
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
}

#[tokio::test]
async fn server_with_too_many_clients_is_unavailable_and_not_denied() {
    let server = server(&["--requirepass", "pw", "--maxclients", "1"]).await;
    let url = server.url().replace("redis://", "redis://:pw@");
    let registry = connect(&url, RedisOptions::default()).await.unwrap();
    let error = connect(&url, RedisOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    drop(registry);
}

#[tokio::test]
async fn server_that_became_a_replica_is_abandoned() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let mut blocked = watch_from_now(&registry, "user.rpc").await;
    register(&registry, "user.rpc", "2").await;
    assert_eq!(next_change(&mut blocked).await, "+2");
    let mut operator = Operator::of(&server).await;
    operator.run::<()>("REPLICAOF 127.0.0.1 1").await;
    let error =
        within(registry.register(&instance("user.rpc", "3"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(failure(&mut blocked).await, ErrorKind::Unavailable);
    operator.run::<()>("REPLICAOF NO ONE").await;
    register(&registry, "user.rpc", "3").await;
}

#[tokio::test]
async fn server_that_became_a_replica_is_unavailable_to_readers() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let mut opening = watch_from_now(&registry, "user.rpc").await;
    // The feed connects only now, and finds a replica.
    let mut operator = Operator::of(&server).await;
    operator.run::<()>("REPLICAOF 127.0.0.1 1").await;
    assert_eq!(failure(&mut opening).await, ErrorKind::Unavailable);
    // A stale replica must not serve readers.
    let error = within(async {
        loop {
            if let Err(error) = registry.load(&service("user.rpc"), &CallOptions::DEFAULT).await {
                return error;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(error.await.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn feed_left_on_an_old_primary_is_detected() {
    let primary = server(&[]).await;
    let port = primary.address().rsplit(':').next().unwrap().to_owned();
    let successor = server(&["--replicaof", "127.0.0.1", &port]).await;
    let registry = one_shard(&primary).await;
    let mut at_primary = Operator::of(&primary).await;
    let mut at_successor = Operator::of(&successor).await;
    let mut watch = watch_from_now(&registry, "user.rpc").await;
    register(&registry, "user.rpc", "1").await;
    assert_eq!(next_change(&mut watch).await, "+1");
    assert_eq!(at_primary.in_sync("WAIT 1 15000").await, 1, "the replica never came in sync");

    // The address moves to the successor. The old primary stays alive and keeps the feed's connection.
    at_successor.run::<()>("REPLICAOF NO ONE").await;
    at_primary.run::<()>("CONFIG SET port 0").await;
    at_successor.run::<()>(&format!("CONFIG SET port {port}")).await;
    at_primary.cut("registry").await;
    reconnect(&registry).await;
    register(&registry, "user.rpc", "2").await;
    assert_eq!(failure(&mut watch).await, ErrorKind::Unavailable);
    let cursor = watch.cursor().clone();
    let mut resumed = crate::support::watch(&registry, "user.rpc", &cursor).await;
    assert_eq!(next_change(&mut resumed).await, "+2");
}
