//! Expiry and the lease clock.

use crate::support::{
    Operator, claim, claim_for, connect, failure, ids, instance, load, next_change, one_shard,
    reconnect, register, server, service, watch, watch_from_now, within,
};
use futures_util::future::join_all;
use registry_core::{CallOptions, ErrorKind, Lease, Registry};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testkit::lag::tolerating;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The delay after which an expiry is seen, without the round trip (`docs/contract.md`).
const LATE: Duration = Duration::from_millis(100);

/// Each feed draws a random delay for its checks, up to 50 ms. Among several draws a limit that is twice as long would
/// show.
#[test]
fn watched_leases_expire_within_the_delay_of_their_feeds() {
    const ROUND_TRIPS: Duration = Duration::from_millis(15);
    tolerating(Duration::from_secs(5), async |lag| {
        let server = server(&[]).await;
        let limit = Duration::from_millis(50) + ROUND_TRIPS;
        // One after the other, so that they do not compete for the processor.
        for n in 0..16 {
            let url = format!("{}?prefix=of-{n}", server.url());
            let registry = connect(&url, RedisOptions::default()).await.unwrap();
            let mut watch = watch_from_now(&registry, "user.rpc").await;
            let ttl = Duration::from_millis(100);
            let sent = Instant::now();
            within(registry.register(
                &instance("user.rpc", "1"),
                &claim_for(ttl),
                &CallOptions::DEFAULT,
            ))
            .await
            .unwrap();
            let expiry = lag.deadline(ttl + limit);
            assert_eq!(next_change(&mut watch).await, "+1");
            assert_eq!(next_change(&mut watch).await, "-1");
            assert!(sent.elapsed() >= ttl, "the lease expires no earlier than its ttl");
            expiry.assert_met();
        }
    });
}

#[test]
fn watch_sees_leases_older_than_itself_expire_in_time() {
    tolerating(Duration::from_millis(500), async |lag| {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        let ttl = Duration::from_secs(1);
        let lease = within(registry.register(
            &instance("user.rpc", "1"),
            &claim_for(ttl),
            &CallOptions::DEFAULT,
        ))
        .await
        .unwrap();
        sleep(ttl / 2).await;
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        let expiry = lag.deadline(ttl + LATE);
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        assert_eq!(next_change(&mut watch).await, "-1");
        expiry.assert_met();
        let error = within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseLost);
    });
}

/// Registers `count` leases and lets them expire.
async fn register_expired(registry: &RedisRegistry, count: usize) -> Vec<Lease> {
    let ttl = Duration::from_millis(1500);
    let leases = register_many(registry, count, ttl).await;
    sleep(ttl + Duration::from_millis(2)).await;
    leases
}

async fn register_many(registry: &RedisRegistry, count: usize, ttl: Duration) -> Vec<Lease> {
    let register = async |n: usize| {
        let instance = instance("user.rpc", &n.to_string());
        registry.register(&instance, &claim_for(ttl), &CallOptions::DEFAULT).await.unwrap()
    };
    within(join_all((0..count).map(register))).await
}

#[tokio::test]
async fn expired_leases_are_hidden_and_block_nothing_even_beyond_the_budget_of_a_call() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let start = load(&registry, "user.rpc").await;
    let count = 450;
    let leases = register_expired(&registry, count).await;
    let error =
        within(registry.keep_alive(&leases[count - 1], &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    register(&registry, "user.rpc", &(count - 2).to_string()).await;
    let other = claim().with_lease(leases[count - 3].id());
    within(registry.register(&instance("user.rpc", "other"), &other, &CallOptions::DEFAULT))
        .await
        .unwrap();
    let remaining = [(count - 2).to_string(), "other".to_owned()];
    assert_eq!(ids(&registry, "user.rpc").await, remaining);

    let mut watch = watch(&registry, "user.rpc", start.cursor()).await;
    let mut deleted = BTreeSet::new();
    while deleted.len() < count {
        if let Some(id) = next_change(&mut watch).await.strip_prefix('-') {
            assert!(deleted.insert(id.to_owned()), "{id} expired twice");
        }
    }
}

#[tokio::test]
async fn service_whose_leases_have_all_expired_is_not_listed() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register_expired(&registry, 450).await;
    register(&registry, "other", "1").await;
    assert_eq!(
        within(registry.services(&CallOptions::DEFAULT)).await.unwrap(),
        [service("other")].into()
    );
}

#[test]
fn calls_of_a_mass_expiry_follow_each_other_at_once() {
    tolerating(Duration::from_secs(10), async |lag| {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        let (ttl, count) = (Duration::from_secs(3), 3000);
        register_many(&registry, count, ttl).await;
        let expiry = lag.deadline(ttl + Duration::from_millis(250));
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        for _ in 0..count {
            assert!(next_change(&mut watch).await.starts_with('-'));
        }
        expiry.assert_met();
    });
}

#[test]
fn restart_longer_than_the_ttl_expires_no_lease() {
    tolerating(Duration::from_secs(1), async |lag| {
        let mut server = server(&["--appendonly", "yes", "--appendfsync", "always"]).await;
        let registry = one_shard(&server).await;
        let ttl = Duration::from_millis(1500);
        let lease = within(registry.register(
            &instance("user.rpc", "1"),
            &claim_for(ttl),
            &CallOptions::DEFAULT,
        ))
        .await
        .unwrap();
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        server.process().unwrap().kill().unwrap();
        assert_eq!(failure(&mut watch).await, ErrorKind::Unavailable);
        sleep(ttl + Duration::from_millis(500)).await;
        within(server.process().unwrap().restart()).await.unwrap();
        reconnect(&registry).await;
        assert_eq!(ids(&registry, "user.rpc").await, ["1"]);
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        // The lease clock continues: a lease that is not renewed expires in time.
        let expiry = lag.deadline(ttl + LATE);
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        assert_eq!(next_change(&mut watch).await, "-1");
        expiry.assert_met();
    });
}

#[test]
fn lease_clock_continues_after_a_restart_without_writes() {
    tolerating(Duration::from_secs(1), async |lag| {
        let mut server = server(&["--appendonly", "yes", "--appendfsync", "always"]).await;
        let registry = one_shard(&server).await;
        let ttl = Duration::from_millis(4500);
        within(registry.register(
            &instance("user.rpc", "1"),
            &claim_for(ttl),
            &CallOptions::DEFAULT,
        ))
        .await
        .unwrap();
        within(server.process().unwrap().restart()).await.unwrap();
        let expiry = lag.deadline(ttl + LATE);
        reconnect(&registry).await;
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        assert_eq!(next_change(&mut watch).await, "-1");
        expiry.assert_met();
    });
}

#[tokio::test]
async fn lease_clock_of_an_idle_shard_advances() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let ttl = Duration::from_millis(1500);
    within(registry.register(&instance("user.rpc", "1"), &claim_for(ttl), &CallOptions::DEFAULT))
        .await
        .unwrap();
    within(registry.register(&instance("user.rpc", "2"), &claim(), &CallOptions::DEFAULT))
        .await
        .unwrap();
    sleep(ttl + Duration::from_millis(50)).await;
    assert_eq!(ids(&registry, "user.rpc").await, ["2"]);
}

#[test]
fn clock_set_back_changes_no_lease() {
    tolerating(Duration::from_secs(1), async |lag| {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        let ttl = Duration::from_secs(2);
        let claim = claim_for(ttl);
        within(registry.register(&instance("user.rpc", "1"), &claim, &CallOptions::DEFAULT))
            .await
            .unwrap();
        let (registered, expiry) = (Instant::now(), lag.deadline(ttl + LATE));
        // A test cannot set the real clock, but it can change the saved time.
        let mut operator = Operator::of(&server).await;
        let later = |ms: &str| (ms.parse::<i64>().unwrap() + 3_600_000).to_string();
        operator
            .edit_meta(|[.., clock_lag, _, saved_at, _]| {
                (*clock_lag, *saved_at) = (later(clock_lag), later(saved_at));
            })
            .await;
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        assert_eq!(next_change(&mut watch).await, "-1");
        assert!(registered.elapsed() >= ttl, "{:?}", registered.elapsed());
        expiry.assert_met();
    });
}
