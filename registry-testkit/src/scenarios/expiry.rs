//! Unrenewed it is gone: once, not too soon, and not too late.

use crate::case::{Case, instance, next, only, pass, service, timed};
use registry_core::{Change, Claim, ErrorKind};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) async fn an_unrenewed_instance_is_gone_with_one_delete_on_time(case: Case<'_>) {
    let user = service("user.rpc");
    let (_, mut watch) = case.follow(&user).await;
    let claim = Claim::new(case.traits.ttl).unwrap();
    // The ttl runs from somewhere within the call, so the bounds are taken on either side of it.
    let (calling, lease) = timed(case.claim(&instance(&user, "1"), &claim)).await;
    let lease = lease.unwrap();
    let deadline = case.lag.deadline(lease.ttl() + case.traits.grace);
    let (waited, delete) = timed(async {
        assert!(matches!(only(next(&mut watch).await), Change::Put(_)));
        only(next(&mut watch).await)
    })
    .await;
    deadline.assert_met();
    assert_eq!(delete, Change::Delete(lease.instance().id().clone()));
    assert!(calling + waited >= lease.ttl(), "gone after {:?}", calling + waited);
    assert!(case.load(&user).await.instances().is_empty());
    case.register(&instance(&user, "2")).await;
    assert_eq!(only(next(&mut watch).await), Change::Put(instance(&user, "2")), "one delete only");
}

pub(super) async fn an_instance_nobody_watches_expires_as_well(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    let claim = Claim::new(case.traits.ttl).unwrap();
    case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let deadline = case.lag.deadline(case.traits.ttl + case.traits.grace);
    pass(case.traits.ttl).await;
    let gone = async {
        while !case.load(&user).await.instances().is_empty() {
            pass(Duration::from_millis(1)).await;
        }
    };
    deadline.timeout(gone).await.expect("it is gone by its ttl");
    let listed = crate::case::within(case.registry.services()).await.unwrap();
    assert_eq!(listed, BTreeSet::new());
    let mut watch = case.watch(&user, &before).await;
    assert!(matches!(only(next(&mut watch).await), Change::Put(_)));
    assert!(matches!(only(next(&mut watch).await), Change::Delete(_)), "history tells of it");
}

pub(super) async fn an_expired_lease_is_lost_and_resurrects_nothing(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let (_, mut watch) = case.follow(&user).await;
    assert!(matches!(only(next(&mut watch).await), Change::Delete(_)));
    assert_eq!(case.keep_alive(&lease).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert!(case.load(&user).await.instances().is_empty());
    case.deregister(&lease).await;
    let again = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    case.keep_alive(&again).await.unwrap();
    assert_eq!(case.ids(&user).await, ["1"]);
}

pub(super) async fn a_revoked_lease_is_lost_and_its_instance_deleted(case: Case<'_>) {
    let user = service("user.rpc");
    let lease = case.register(&instance(&user, "1")).await;
    case.register(&instance(&user, "2")).await;
    let (_, mut watch) = case.follow(&user).await;
    case.subject.revoke(&lease).await;
    assert_eq!(only(next(&mut watch).await), Change::Delete(lease.instance().id().clone()));
    assert_eq!(case.keep_alive(&lease).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(case.ids(&user).await, ["2"]);
}

pub(super) async fn many_leases_that_end_together_end_once_each(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = || Claim::new(case.traits.ttl).unwrap();
    let (_, mut watch) = case.follow(&user).await;
    for n in 0..100 {
        case.claim(&instance(&user, &n.to_string()), &claim()).await.unwrap();
    }
    let mut live = BTreeSet::new();
    let mut deleted = 0;
    while deleted < 100 {
        for change in next(&mut watch).await.changes {
            match change {
                Change::Put(instance) => assert!(live.insert(instance.id().clone())),
                Change::Delete(id) => {
                    assert!(live.remove(&id), "{id} was deleted twice");
                    deleted += 1;
                }
            }
        }
    }
    assert!(case.load(&user).await.instances().is_empty());
}
