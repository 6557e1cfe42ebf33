//! The metadata of records, their holders, and own-record watches.

use crate::support::{
    Operator, STATE, claim, claim_for, failure, holder_of, ids, instance, load, next, one_shard,
    reconnect, register, server, watch, watch_from_now, within,
};
use futures_util::StreamExt;
use registry_core::{
    CallOptions, Change, Claim, DeleteReason, ErrorKind, Holder, Lease, LeaseId, Presence, Record,
    Registry, Revision, Takeover, Watch,
};
use registry_redis::RedisRegistry;
use registry_testkit::case::{deletion, take_over};
use std::time::Duration;

async fn claimed(registry: &RedisRegistry, id: &str, claim: &Claim) -> Lease {
    let instance = instance("user.rpc", id);
    within(registry.register(&instance, claim, &CallOptions::DEFAULT)).await.unwrap()
}

async fn watch_record(registry: &RedisRegistry, lease: &Lease) -> registry_core::Result<Watch> {
    within(registry.watch_record(lease, &CallOptions::DEFAULT)).await
}

#[tokio::test]
async fn load_and_watch_give_equal_records_with_lease_ttl_and_revision() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let start = load(&registry, "user.rpc").await;
    register(&registry, "other", "1").await;
    let claim = claim_for(Duration::from_millis(54_321)).with_lease(LeaseId::new(7).unwrap());
    claimed(&registry, "1", &claim).await;
    let loaded = load(&registry, "user.rpc").await;
    let expected = Record::new(instance("user.rpc", "1"))
        .with_lease(claim.lease())
        .with_ttl(claim.ttl())
        .with_revision(Revision::new(2));
    assert_eq!(loaded.records()[..], *std::slice::from_ref(&expected));
    let mut replayed = watch(&registry, "user.rpc", start.cursor()).await;
    assert_eq!(next(&mut replayed).await.changes, [Change::Put(expected)]);
}

#[tokio::test]
async fn renewal_returns_the_granted_ttl_in_every_mode() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let lease = claimed(&registry, "1", &claim_for(Duration::from_micros(200_001))).await;
    let proven = CallOptions::default().with_presence(Presence::Proven);
    for options in [CallOptions::DEFAULT, proven] {
        let granted = within(registry.keep_alive(&lease, &options)).await.unwrap();
        assert_eq!(granted, Duration::from_millis(201));
    }
}

/// A holder is a lease and the revision since which it holds the id. An update keeps both. A lease that lost
/// the id and took it back is another holder.
#[tokio::test]
async fn holder_survives_an_update_and_not_a_gap() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let claim = claim();
    let one = instance("user.rpc", "1");
    claimed(&registry, "1", &claim).await;
    let holder = holder_of(&registry, &one).await;
    assert_eq!(holder, Holder::new(Some(claim.lease()), Some(Revision::new(1))));
    let heavier = one.clone().with_weight(7);
    let lease = within(registry.register(&heavier, &claim, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(holder_of(&registry, &one).await, holder);
    within(registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
    claimed(&registry, "1", &claim).await;
    let stale_claim = crate::support::claim().with_takeover(Takeover::From(holder));
    let refused = within(registry.register(&one, &stale_claim, &CallOptions::DEFAULT)).await;
    let named = *refused.unwrap_err().holder().unwrap();
    assert_eq!(named, Holder::new(Some(claim.lease()), Some(Revision::new(4))));
}

/// A value of another program has no lease, and so its expiry has no reason.
#[tokio::test]
async fn overwritten_record_expires_without_a_reason() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let ttl = Duration::from_millis(1500);
    let mut watch = watch_from_now(&registry, "user.rpc").await;
    for id in ["1", "2"] {
        claimed(&registry, id, &claim_for(ttl)).await;
        next(&mut watch).await;
    }
    let mut operator = Operator::of(&server).await;
    operator.run_words::<()>(&["HSET", STATE, "user.rpc\u{1f}1", "junk"]).await;
    let deletions = [deletion(next(&mut watch).await), deletion(next(&mut watch).await)];
    for deleted in deletions {
        let expected = (deleted.id().as_str() == "2").then_some(DeleteReason::Expired);
        assert_eq!(deleted.reason(), expected, "{deleted:?}");
    }
}

#[tokio::test]
async fn own_record_watch_shares_the_feed_and_ends_with_its_handle() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let lease = claimed(&registry, "1", &claim()).await;
    let mut of_service = watch_from_now(&registry, "user.rpc").await;
    let mut own = watch_record(&registry, &lease).await.unwrap();
    register(&registry, "user.rpc", "2").await;
    next(&mut of_service).await;
    let progress = within(own.next()).await.unwrap().unwrap();
    assert!(progress.is_progress(), "{progress:?}");
    let mut operator = Operator::of(&server).await;
    assert_eq!(operator.connections("registry-feed").await, 1);
    drop(of_service);
    let other = within(take_over(&registry, lease.instance(), &claim())).await.unwrap();
    let batch = next(&mut own).await;
    let [Change::Put(record)] = &batch.changes[..] else { panic!("{batch:?}") };
    assert_eq!(record.lease(), Some(other.id()));
    drop(own);
    within(async { while operator.connections("registry-feed").await > 0 {} }).await;
}

#[tokio::test]
async fn own_record_watch_needs_no_history() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let lease = claimed(&registry, "1", &claim()).await;
    register(&registry, "user.rpc", "2").await;
    Operator::of(&server).await.run::<()>("XTRIM {registry/00}:log MAXLEN 0").await;
    let mut own = watch_record(&registry, &lease).await.unwrap();
    within(registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(deletion(next(&mut own).await).reason(), Some(DeleteReason::Withdrawn));
}

#[tokio::test]
async fn own_record_watch_of_another_history_is_lost_and_an_open_one_diverges() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let claim = claim();
    let lease = claimed(&registry, "1", &claim).await;
    let mut open = watch_record(&registry, &lease).await.unwrap();
    Operator::of(&server).await.run::<()>("FLUSHALL").await;
    // The same claim at the same revision again.
    let repeated = claimed(&registry, "1", &claim).await;
    assert_eq!(repeated.revision(), lease.revision());
    assert_ne!(repeated, lease);
    let error = watch_record(&registry, &lease).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    let error = within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    assert_eq!(failure(&mut open).await, ErrorKind::Diverged);
    within(registry.keep_alive(&repeated, &CallOptions::DEFAULT)).await.unwrap();
    watch_record(&registry, &repeated).await.unwrap();
}

#[tokio::test]
async fn lineage_changes_only_with_a_restart_or_a_wipe() {
    let mut server = server(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let registry = one_shard(&server).await;
    let lease = claimed(&registry, "1", &claim()).await;
    let first = load(&registry, "user.rpc").await;
    let same = one_shard(&server).await;
    within(same.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(load(&same, "user.rpc").await.lineage(), first.lineage());
    let own = watch_record(&registry, &lease).await.unwrap();
    assert_eq!(own.lineage(), first.lineage());

    within(server.process().unwrap().restart()).await.unwrap();
    reconnect(&registry).await;
    let restarted = load(&registry, "user.rpc").await;
    assert_ne!(restarted.lineage(), first.lineage());
    assert_eq!(restarted.records(), first.records());
    let resumed = watch(&registry, "user.rpc", first.cursor()).await;
    assert_eq!(resumed.lineage(), restarted.lineage());

    Operator::of(&server).await.run::<()>("FLUSHALL").await;
    let wiped = load(&registry, "user.rpc").await;
    assert!(![first, restarted].iter().any(|before| before.lineage() == wiped.lineage()));
}

#[tokio::test]
async fn names_of_a_shard_are_listed_in_pages() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let names: Vec<String> = (0..1003).map(|n| format!("service {n}")).collect();
    for chunk in names.chunks(100) {
        let all = chunk.iter().map(|name| register(&registry, name, "1"));
        futures_util::future::join_all(all).await;
    }
    // Names that are prefixes of each other are adjacent.
    for name in ["service", "service 10/a", "service 10!"] {
        register(&registry, name, "1").await;
        register(&registry, name, "2").await;
    }
    let listed = within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed.len(), 1006);
    assert!(names.iter().all(|name| listed.contains(name.as_str())));
    assert_eq!(ids(&registry, "service 10").await, ["1"]);
}
