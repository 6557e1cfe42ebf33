//! Writes that wait for replicas or for a disk.

use crate::support::{Operator, claim, connect, ids, instance, server, within};
use futures_util::future::join_all;
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_redis::{Ack, RedisOptions};
use registry_testkit::lag::timeout;
use std::time::Duration;

#[tokio::test]
async fn unreplicated_write_is_unavailable_and_its_retry_changes_nothing() {
    let primary = server(&[]).await;
    let port = primary.address().rsplit(':').next().unwrap().to_owned();
    let mut replica = server(&["--replicaof", "127.0.0.1", &port]).await;
    let mut operator = Operator::of(&primary).await;
    assert_eq!(operator.in_sync("WAIT 1 15000").await, 1, "the replica never came in sync");
    let options = RedisOptions::default()
        .with_request_deadline(Duration::from_secs(3))
        .with_ack(Ack::Replicas(1));
    let registry = connect(primary.url(), options).await.unwrap();
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();

    replica.process().unwrap().pause().unwrap();
    let (two, claim) = (instance("user.rpc", "2"), claim());
    let error = within(registry.register(&two, &claim, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("wanted=`1`, had=`0`"), "{error}");
    // Reads do not queue behind writes.
    assert_eq!(ids(&registry, "user.rpc").await, ["1", "2"]);
    // Renewals do not wait for replicas, or live leases would expire on a healthy primary.
    let renewals = (0..20).map(|_| registry.keep_alive(&lease, &CallOptions::DEFAULT));
    for outcome in timeout(Duration::from_secs(2), join_all(renewals)).await.unwrap() {
        outcome.unwrap();
    }

    replica.process().unwrap().resume().unwrap();
    let repeated = within(registry.register(&two, &claim, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(repeated.revision().get(), 2, "the write took effect once");
    within(registry.deregister(&repeated, &CallOptions::DEFAULT)).await.unwrap();
}

#[tokio::test]
async fn fsync_ack_waits_for_the_disk_or_is_invalid() {
    let durable = server(&["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    let in_memory = server(&[]).await;
    // The server syncs once a second, which may take long.
    let patient = RedisOptions::default().with_request_deadline(Duration::from_secs(10));
    let options = || patient.clone().with_ack(Ack::Fsync { replicas: 0 });
    let is_able = {
        let commands: Vec<Option<Vec<redis::Value>>> =
            Operator::of(&durable).await.run("COMMAND INFO WAITAOF").await;
        commands.iter().any(Option::is_some)
    };
    let one = instance("user.rpc", "1");
    let registry = connect(durable.url(), options()).await.unwrap();
    let outcome = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await;
    if is_able {
        let lease = outcome.unwrap();
        Operator::of(&durable).await.run::<()>("CONFIG SET appendfsync no").await;
        let hasty = patient.clone().with_request_deadline(Duration::from_secs(2));
        let hasty = hasty.with_ack(Ack::Fsync { replicas: 0 });
        let registry = connect(durable.url(), hasty).await.unwrap();
        let two = instance("user.rpc", "2");
        let refused = within(registry.register(&two, &claim(), &CallOptions::DEFAULT)).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains("not yet on disk"), "{error}");
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    } else {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let registry = connect(in_memory.url(), options()).await.unwrap();
    let error = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("ack=fsync"), "{error}");
}
