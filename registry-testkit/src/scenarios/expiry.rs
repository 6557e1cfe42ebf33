//! An instance without renewals is deleted once, neither before its ttl nor later than the grace.

use crate::case::{
    Case, deleted, deletion, id, instance, long, next, pass, put, service, timed, until, version,
    within,
};
use futures_util::future::join_all;
use registry_core::{CallOptions, Change, Claim, ErrorKind, Instance, Lease, MAX_TTL, MIN_TTL};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) async fn an_instance_without_renewals_is_deleted_once_at_its_ttl(case: Case<'_>) {
    let user = service("user.rpc");
    let (_, mut watch) = case.follow(&user).await;
    let claim = Claim::new(case.traits.ttl).unwrap();
    // The ttl starts at some moment within the call: the upper bound counts from its end, the lower from its start.
    let (calling, lease) = timed(case.claim(&instance(&user, "1"), &claim)).await;
    let lease = lease.unwrap();
    let deadline = case.lag.deadline(lease.ttl() + case.traits.grace);
    let (waited, delete) = timed(async {
        put(next(&mut watch).await);
        deletion(next(&mut watch).await)
    })
    .await;
    deadline.assert_met();
    assert_eq!(delete.id(), lease.instance().id());
    assert!(calling + waited >= lease.ttl(), "deleted after {:?}", calling + waited);
    assert!(case.load(&user).await.records().is_empty());
    case.register(&instance(&user, "2")).await;
    assert_eq!(put(next(&mut watch).await), instance(&user, "2"), "more than one delete");
}

pub(super) async fn an_instance_expires_without_a_watcher(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    let claim = Claim::new(case.traits.ttl).unwrap();
    case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let deadline = case.lag.deadline(case.traits.ttl + case.traits.grace);
    pass(case.traits.ttl).await;
    let gone = async {
        while !case.load(&user).await.records().is_empty() {
            pass(Duration::from_millis(1)).await;
        }
    };
    deadline.timeout(gone).await.expect("the instance is still listed after its ttl and the grace");
    let listed = within(case.registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, BTreeSet::new());
    let mut watch = case.watch(&user, &before).await;
    put(next(&mut watch).await);
    deleted(next(&mut watch).await);
}

pub(super) async fn an_expired_lease_is_lost_and_cannot_be_renewed(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let (_, mut watch) = case.follow(&user).await;
    deleted(next(&mut watch).await);
    assert_eq!(case.keep_alive(&lease).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert!(case.load(&user).await.records().is_empty());
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
    assert_eq!(deleted(next(&mut watch).await), lease.instance().id().clone());
    assert_eq!(case.keep_alive(&lease).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(case.ids(&user).await, ["2"]);
}

pub(super) async fn leases_that_expire_together_are_each_deleted_once(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = || Claim::new(case.traits.ttl).unwrap();
    let (_, mut watch) = case.follow(&user).await;
    for n in 0..100 {
        case.claim(&instance(&user, &n.to_string()), &claim()).await.unwrap();
    }
    let mut live = BTreeSet::new();
    let mut count = 0;
    while count < 100 {
        for change in &next(&mut watch).await.changes {
            match change {
                Change::Put(record) => assert!(live.insert(record.id().clone())),
                Change::Delete(deleted) => {
                    assert!(live.remove(deleted.id()), "{deleted:?} twice");
                    count += 1;
                }
            }
        }
    }
    assert!(case.load(&user).await.records().is_empty());
}

pub(super) async fn a_renewal_grants_and_returns_one_whole_ttl(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let (_, mut watch) = case.follow(&user).await;
    pass(lease.ttl() / 2).await;
    let (renewing, granted) = timed(case.keep_alive(&lease)).await;
    assert_eq!(granted.unwrap(), lease.ttl());
    let deadline = case.lag.deadline(lease.ttl() + case.traits.grace);
    let (waited, _) = timed(next(&mut watch)).await;
    deadline.assert_met();
    assert!(renewing + waited >= lease.ttl(), "deleted after {:?}", renewing + waited);
}

pub(super) async fn an_update_restarts_the_ttl(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    let (_, mut watch) = case.follow(&user).await;
    pass(lease.ttl() / 2).await;
    let (updating, updated) = timed(case.claim(&version(&user, "1", 2), &claim)).await;
    updated.unwrap();
    put(next(&mut watch).await);
    let (waited, _) = timed(next(&mut watch)).await;
    assert!(updating + waited >= lease.ttl(), "deleted after {:?}", updating + waited);
}

pub(super) async fn an_expired_lease_is_lost_without_a_read_in_between(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    let claim = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    pass(case.traits.ttl + case.traits.grace).await;
    assert_eq!(case.keep_alive(&lease).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    // A watch that is opened after the expiry reports it.
    let mut watch = case.watch(&user, &before).await;
    put(next(&mut watch).await);
    deleted(next(&mut watch).await);
}

pub(super) async fn an_expired_holder_does_not_supersede_a_claim(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    pass(case.traits.ttl + case.traits.grace).await;
    let lease = case.claim(&version(&user, "1", 2), &long()).await.unwrap();
    case.keep_alive(&lease).await.unwrap();
}

pub(super) async fn an_expired_instance_does_not_list_its_service(case: Case<'_>) {
    let claim = Claim::new(case.traits.ttl).unwrap();
    case.claim(&instance(&service("user.rpc"), "1"), &claim).await.unwrap();
    pass(case.traits.ttl + case.traits.grace).await;
    let listed = within(case.registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, BTreeSet::new());
}

pub(super) async fn a_claim_repeated_after_its_expiry_registers_again(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    let claim = Claim::new(case.traits.ttl).unwrap();
    let first = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    pass(case.traits.ttl + case.traits.grace).await;
    let second = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    assert!(second.revision() > first.revision(), "{second:?}");
    let mut watch = case.watch(&user, &before).await;
    put(next(&mut watch).await);
    deleted(next(&mut watch).await);
    put(next(&mut watch).await);
}

pub(super) async fn an_expired_holder_is_deleted_before_its_successor_is_put(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    let claim = Claim::new(case.traits.ttl).unwrap();
    case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    pass(case.traits.ttl + case.traits.grace).await;
    case.register(&version(&user, "1", 2)).await;
    let mut watch = case.watch(&user, &before).await;
    assert_eq!(put(next(&mut watch).await), version(&user, "1", 1));
    assert_eq!(deleted(next(&mut watch).await), id("1"));
    assert_eq!(put(next(&mut watch).await), version(&user, "1", 2));
}

pub(super) async fn a_watch_opened_after_the_expiry_reports_it(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    let claim = Claim::new(case.traits.ttl).unwrap();
    case.claim(&instance(&user, "1"), &claim).await.unwrap();
    pass(case.traits.ttl + case.traits.grace).await;
    let mut watch = case.watch(&user, &before).await;
    put(next(&mut watch).await);
    deleted(next(&mut watch).await);
}

pub(super) async fn an_expiry_does_not_delete_a_concurrent_claim(case: Case<'_>) {
    const MANY: usize = 20;
    let user = service("user.rpc");
    let ids: Vec<_> = (0..MANY).map(|n| n.to_string()).collect();
    for id in &ids {
        let claim = Claim::new(case.traits.ttl).unwrap();
        case.claim(&version(&user, id, 1), &claim).await.unwrap();
    }
    let (mut view, mut watch) = case.follow(&user).await;
    // Each successor retries in a loop, so that some claims arrive at the moment of the expiry.
    let succeed = async {
        let leases =
            join_all(ids.iter().map(|id| claim_when_vacant(&case, version(&user, id, 2)))).await;
        case.register(&instance(&user, "last")).await;
        leases
    };
    let last = id("last");
    let (batches, leases) = tokio::join!(until(&mut watch, &last), succeed);
    for batch in batches {
        view.apply(&batch).unwrap();
    }
    assert_eq!(view.records().len(), MANY + 1);
    assert_eq!(case.load(&user).await.records(), view.records());
    for lease in leases {
        case.keep_alive(&lease).await.unwrap();
    }
}

pub(super) async fn a_ttl_is_granted_to_the_millisecond_or_longer(case: Case<'_>) {
    let user = service("user.rpc");
    let (_, mut watch) = case.follow(&user).await;
    for ttl in [MIN_TTL, case.traits.ttl + Duration::from_millis(750)] {
        let claim = Claim::new(ttl).unwrap();
        let (calling, lease) = timed(case.claim(&instance(&user, "1"), &claim)).await;
        let lease = lease.unwrap();
        assert!(lease.ttl() >= ttl, "{lease:?}");
        // The lease expires neither before the requested ttl nor after the granted one.
        let deadline = case.lag.deadline(lease.ttl() + case.traits.grace);
        let (waited, batch) = timed(async {
            put(next(&mut watch).await);
            next(&mut watch).await
        })
        .await;
        deadline.assert_met();
        assert_eq!(&deleted(batch), lease.instance().id());
        assert!(calling + waited >= ttl, "deleted after {:?}", calling + waited);
    }
}

pub(super) async fn the_longest_ttl_is_granted(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(MAX_TTL).unwrap();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    assert!(lease.ttl() >= MAX_TTL, "{lease:?}");
    let record = case.load(&user).await.records()[0].clone();
    assert!(record.ttl().is_none_or(|ttl| ttl >= MAX_TTL), "{record:?}");
    // On a paused clock, wait for half of the ttl: first that of the claim, then that of a renewal.
    for _ in 0..2 {
        if case.traits.paused_clock {
            pass(MAX_TTL / 2).await;
            assert_eq!(case.ids(&user).await, ["1"]);
        }
        assert!(case.keep_alive(&lease).await.unwrap() >= MAX_TTL);
    }
}

/// Claims an id in a loop until its holder has expired.
async fn claim_when_vacant(case: &Case<'_>, instance: Instance) -> Lease {
    let claim = long();
    within(async {
        loop {
            match case.claim(&instance, &claim).await {
                Ok(lease) => return lease,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Superseded, "{error}"),
            }
            pass(Duration::from_millis(1)).await;
        }
    })
    .await
}
