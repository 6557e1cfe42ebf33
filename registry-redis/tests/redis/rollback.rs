//! Servers that lose acknowledged writes in a restart.

use crate::support::{
    Operator, claim, failure, ids, instance, load, next_change, one_shard, reconnect, register,
    retry_while_unavailable, server, watch, watch_failure, watch_from_now, within,
};
use registry_core::{CallOptions, ErrorKind, Registry};

#[tokio::test]
async fn restart_from_an_older_file_is_diverged_for_later_cursors() {
    let mut server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let before_the_fork = load(&registry, "user.rpc").await.cursor().clone();
    register(&registry, "user.rpc", "2").await;
    let two = instance("user.rpc", "two");
    let kept_lease =
        within(registry.register(&two, &claim(), &CallOptions::DEFAULT)).await.unwrap();
    Operator::of(&server).await.run::<()>("SAVE").await;

    let lost =
        within(registry.register(&instance("user.rpc", "3"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let claim = claim().with_lease(kept_lease.id());
    let undone = within(registry.register(&two.with_weight(7), &claim, &CallOptions::DEFAULT))
        .await
        .unwrap();
    let beyond_the_fork = load(&registry, "user.rpc").await.cursor().clone();
    let mut open = watch_from_now(&registry, "user.rpc").await;
    server.process().unwrap().kill().unwrap();
    assert_eq!(failure(&mut open).await, ErrorKind::Unavailable);
    within(server.process().unwrap().restart()).await.unwrap();

    reconnect(&registry).await;
    for lease in [&lost, &undone] {
        let error = within(registry.keep_alive(lease, &CallOptions::DEFAULT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseLost, "the acknowledged write was lost");
    }
    within(registry.keep_alive(&kept_lease, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(watch_failure(&registry, "user.rpc", &beyond_the_fork).await, ErrorKind::Diverged);

    // The new history passes the old revisions.
    for id in ["4", "5", "6"] {
        register(&registry, "user.rpc", id).await;
    }
    assert!(load(&registry, "user.rpc").await.cursor().revision() > beyond_the_fork.revision());
    assert_eq!(watch_failure(&registry, "user.rpc", &beyond_the_fork).await, ErrorKind::Diverged);
    let mut resumed = watch(&registry, "user.rpc", &before_the_fork).await;
    for change in ["+2", "+two", "+4", "+5", "+6"] {
        assert_eq!(next_change(&mut resumed).await, change);
    }
}

/// Kills and restarts a server, and asserts that the lease was kept or lost.
async fn assert_lease_after_kill(arguments: &[&str], is_kept: bool) {
    let mut server = server(arguments).await;
    let registry = one_shard(&server).await;
    let (one, claim) = (instance("user.rpc", "1"), claim());
    let lease = within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
    let mut live = watch_from_now(&registry, "user.rpc").await;
    server.process().unwrap().kill().unwrap();
    assert_eq!(failure(&mut live).await, ErrorKind::Unavailable);
    let cursor = live.cursor().clone();
    within(server.process().unwrap().restart()).await.unwrap();

    let renewed = retry_while_unavailable(|| async {
        match registry.keep_alive(&lease, &CallOptions::DEFAULT).await {
            Err(error) if error.kind() == ErrorKind::LeaseLost => Ok(false),
            outcome => outcome.map(|_| true),
        }
    });
    assert_eq!(renewed.await, is_kept, "{arguments:?}");
    if is_kept {
        let mut resumed = watch(&registry, "user.rpc", &cursor).await;
        register(&registry, "user.rpc", "2").await;
        assert_eq!(next_change(&mut resumed).await, "+2");
    } else {
        within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(watch_failure(&registry, "user.rpc", &cursor).await, ErrorKind::Diverged);
    }
    assert!(ids(&registry, "user.rpc").await.contains(&"1".to_owned()));
}

#[tokio::test]
async fn killed_server_keeps_what_it_persisted_and_a_lost_lease_is_registered_again() {
    assert_lease_after_kill(&["--appendonly", "yes", "--appendfsync", "always"], true).await;
    // The data is in the page cache, which survives the process.
    assert_lease_after_kill(&["--appendonly", "yes", "--appendfsync", "everysec"], true).await;
    // The snapshot is never written.
    assert_lease_after_kill(&["--save", "3600 1"], false).await;
    assert_lease_after_kill(&[], false).await;
}

#[tokio::test]
async fn failover_to_a_lagging_replica_is_diverged_for_later_cursors() {
    let mut primary = server(&[]).await;
    let port = primary.address().rsplit(':').next().unwrap().to_owned();
    let replica = server(&["--replicaof", "127.0.0.1", &port]).await;
    let registry = one_shard(&primary).await;
    let mut at_primary = Operator::of(&primary).await;
    let mut at_replica = Operator::of(&replica).await;
    register(&registry, "user.rpc", "1").await;
    assert_eq!(at_primary.in_sync("WAIT 1 15000").await, 1, "the replica never came in sync");
    let common = load(&registry, "user.rpc").await.cursor().clone();

    at_replica.run::<()>("REPLICAOF NO ONE").await;
    let lost =
        within(registry.register(&instance("user.rpc", "2"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let ahead = load(&registry, "user.rpc").await.cursor().clone();
    let mut open = watch_from_now(&registry, "user.rpc").await;
    primary.process().unwrap().kill().unwrap();
    assert_eq!(failure(&mut open).await, ErrorKind::Unavailable);
    at_replica.run::<()>(&format!("CONFIG SET port {port}")).await;

    reconnect(&registry).await;
    let error = within(registry.keep_alive(&lost, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    assert_eq!(watch_failure(&registry, "user.rpc", &ahead).await, ErrorKind::Diverged);
    register(&registry, "user.rpc", "3").await;
    assert_eq!(load(&registry, "user.rpc").await.cursor().revision(), ahead.revision());
    assert_eq!(watch_failure(&registry, "user.rpc", &ahead).await, ErrorKind::Diverged);
    let mut resumed = watch(&registry, "user.rpc", &common).await;
    assert_eq!(next_change(&mut resumed).await, "+3");
    assert_eq!(ids(&registry, "user.rpc").await, ["1", "3"]);
}
