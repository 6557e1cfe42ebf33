//! Servers that come back with less than they acknowledged.

use crate::support::{
    Operator, claim, failure, ids, instance, load, next_change, one_shard, refusal, register,
    server, until, watch, watch_from_now, within,
};
use registry_core::{ErrorKind, Registry};

#[tokio::test]
async fn a_restart_from_an_older_file_is_told_to_whoever_saw_more() {
    let mut server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let before_the_fork = load(&registry, "user.rpc").await.cursor().clone();
    register(&registry, "user.rpc", "2").await;
    let two = instance("user.rpc", "two");
    let kept = within(registry.register(&two, &claim())).await.unwrap();
    Operator::of(&server).await.run::<()>("SAVE").await;

    let lost = within(registry.register(&instance("user.rpc", "3"), &claim())).await.unwrap();
    let claim = claim().with_lease(kept.id());
    let undone = within(registry.register(&two.with_weight(7), &claim)).await.unwrap();
    let beyond_the_fork = load(&registry, "user.rpc").await.cursor().clone();
    let mut open = watch_from_now(&registry, "user.rpc").await;
    server.process().unwrap().kill().unwrap();
    assert_eq!(failure(&mut open).await, ErrorKind::Unavailable);
    within(server.process().unwrap().restart()).await.unwrap();

    // The first call finds that the connection is gone, the next one makes another.
    let error = within(registry.keep_alive(&lost)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for lease in [&lost, &undone] {
        let error = within(registry.keep_alive(lease)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseLost, "its acknowledged write is gone");
    }
    within(registry.keep_alive(&kept)).await.unwrap();
    assert_eq!(refusal(&registry, "user.rpc", &beyond_the_fork).await, ErrorKind::Diverged);

    // The new history climbs over the old numbers.
    for id in ["4", "5", "6"] {
        register(&registry, "user.rpc", id).await;
    }
    assert!(load(&registry, "user.rpc").await.cursor().revision() > beyond_the_fork.revision());
    assert_eq!(refusal(&registry, "user.rpc", &beyond_the_fork).await, ErrorKind::Diverged);
    let mut resumed = watch(&registry, "user.rpc", &before_the_fork).await;
    for change in ["+2", "+two", "+4", "+5", "+6"] {
        assert_eq!(next_change(&mut resumed).await, change);
    }
}

/// Kills a server under a registration and a watch, and starts it again. What it acknowledged last.
async fn killed(arguments: &[&str], is_kept: bool) {
    let mut server = server(arguments).await;
    let registry = one_shard(&server).await;
    let (one, claim) = (instance("user.rpc", "1"), claim());
    let lease = within(registry.register(&one, &claim)).await.unwrap();
    let mut live = watch_from_now(&registry, "user.rpc").await;
    server.process().unwrap().kill().unwrap();
    assert_eq!(failure(&mut live).await, ErrorKind::Unavailable);
    let cursor = live.cursor().clone();
    within(server.process().unwrap().restart()).await.unwrap();

    let renewed = until(|| async {
        match registry.keep_alive(&lease).await {
            Err(error) if error.kind() == ErrorKind::LeaseLost => Ok(false),
            outcome => outcome.map(|()| true),
        }
    });
    assert_eq!(renewed.await, is_kept, "{arguments:?}");
    if is_kept {
        let mut resumed = watch(&registry, "user.rpc", &cursor).await;
        register(&registry, "user.rpc", "2").await;
        assert_eq!(next_change(&mut resumed).await, "+2");
    } else {
        within(registry.register(&one, &claim)).await.unwrap();
        assert_eq!(refusal(&registry, "user.rpc", &cursor).await, ErrorKind::Diverged);
    }
    assert!(ids(&registry, "user.rpc").await.contains(&"1".to_owned()));
}

#[tokio::test]
async fn a_killed_server_keeps_what_its_log_has_and_what_it_lost_is_back_with_one_renewal() {
    killed(&["--appendonly", "yes", "--appendfsync", "always"], true).await;
    // What was written is in the system's memory, which a killed process leaves as it is.
    killed(&["--appendonly", "yes", "--appendfsync", "everysec"], true).await;
    // A snapshot that is never due.
    killed(&["--save", "3600 1"], false).await;
    killed(&[], false).await;
}

#[tokio::test]
async fn a_failover_to_a_replica_that_lagged_is_told_to_whoever_saw_more() {
    let mut primary = server(&[]).await;
    let port = primary.address().rsplit(':').next().unwrap().to_owned();
    let replica = server(&["--replicaof", "127.0.0.1", &port]).await;
    let registry = one_shard(&primary).await;
    let mut at_primary = Operator::of(&primary).await;
    let mut at_replica = Operator::of(&replica).await;
    register(&registry, "user.rpc", "1").await;
    assert_eq!(at_primary.run::<u64>("WAIT 1 15000").await, 1, "the replica never came in sync");
    let common = load(&registry, "user.rpc").await.cursor().clone();

    at_replica.run::<()>("REPLICAOF NO ONE").await;
    let lost = within(registry.register(&instance("user.rpc", "2"), &claim())).await.unwrap();
    let ahead = load(&registry, "user.rpc").await.cursor().clone();
    let mut open = watch_from_now(&registry, "user.rpc").await;
    primary.process().unwrap().kill().unwrap();
    assert_eq!(failure(&mut open).await, ErrorKind::Unavailable);
    at_replica.run::<()>(&format!("CONFIG SET port {port}")).await;

    let error = within(registry.keep_alive(&lost)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = within(registry.keep_alive(&lost)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    assert_eq!(refusal(&registry, "user.rpc", &ahead).await, ErrorKind::Diverged);
    register(&registry, "user.rpc", "3").await;
    assert_eq!(load(&registry, "user.rpc").await.cursor().revision(), ahead.revision());
    assert_eq!(refusal(&registry, "user.rpc", &ahead).await, ErrorKind::Diverged);
    let mut resumed = watch(&registry, "user.rpc", &common).await;
    assert_eq!(next_change(&mut resumed).await, "+3");
    assert_eq!(ids(&registry, "user.rpc").await, ["1", "3"]);
}
