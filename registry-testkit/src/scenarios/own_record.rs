//! An owner's watch on its own record reports every change by others.

use crate::case::{
    Case, deletion, end, instance, long, next, next_item, only, park, pass, retry, service,
    version, within,
};
use registry_core::{Batch, CallOptions, Change, Claim, ErrorKind, Lease, Result, Watch};
use std::sync::Arc;

pub(super) async fn an_own_record_watch_reports_an_eviction(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "0")).await;
    let lease = case.register(&instance(&user, "1")).await;
    case.register(&instance(&user, "2")).await;
    let mut own = watch_record(&case, &lease).await;
    park(&mut own);
    case.subject.evict(&user).await;
    let deletion = deletion(next(&mut own).await);
    assert_eq!(deletion.id(), lease.instance().id());
    assert_eq!(deletion.reason(), None, "an eviction is neither a withdrawal nor an expiry");
}

pub(super) async fn an_own_record_watch_reports_the_expiry(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let mut own = watch_record(&case, &lease).await;
    assert_eq!(deletion(next(&mut own).await).id(), lease.instance().id());
}

pub(super) async fn an_own_record_watch_reports_a_takeover(case: Case<'_>) {
    let user = service("user.rpc");
    let lease = case.register(&version(&user, "1", 1)).await;
    let mut own = watch_record(&case, &lease).await;
    park(&mut own);
    let other = case.take_over(&version(&user, "1", 2), &long()).await.unwrap();
    let Change::Put(record) = only(next(&mut own).await) else { panic!("expected a put") };
    assert_eq!(record.instance(), other.instance());
    assert!(record.lease().is_none_or(|lease| lease == other.id()));
}

pub(super) async fn an_own_record_watch_reports_an_overwritten_record(case: Case<'_>) {
    let user = service("user.rpc");
    let lease = case.register(&instance(&user, "1")).await;
    let mut own = watch_record(&case, &lease).await;
    park(&mut own);
    case.subject.poison(&user, lease.instance().id()).await;
    assert_eq!(deletion(next(&mut own).await).id(), lease.instance().id());
}

pub(super) async fn an_own_record_watch_ignores_renewals_and_other_records(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    let first = case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    let lease = case.claim(&version(&user, "1", 2), &claim).await.unwrap();
    let mut own = watch_record(&case, &lease).await;
    for other in ["10", "2", "a"] {
        case.keep_alive(&lease).await.unwrap();
        let other = case.register(&instance(&user, other)).await;
        case.deregister(&other).await;
    }
    case.register(&instance(&service("user"), "1")).await;
    park(&mut own);
    case.subject.revoke(&lease).await;
    assert_eq!(deletion(next(&mut own).await).id(), first.instance().id());
}

pub(super) async fn an_own_record_watch_of_a_lost_lease_reports_the_loss(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let expired = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let displaced = case.register(&version(&user, "2", 1)).await;
    case.take_over(&version(&user, "2", 2), &long()).await.unwrap();
    let claim = long();
    let outdated = case.claim(&version(&user, "3", 1), &claim).await.unwrap();
    case.claim(&version(&user, "3", 2), &claim).await.unwrap();
    // The same lease holds an equal record again, after it had lost it.
    let claim = long();
    let revoked = case.claim(&instance(&user, "4"), &claim).await.unwrap();
    case.subject.revoke(&revoked).await;
    case.claim(&instance(&user, "4"), &claim).await.unwrap();
    pass(case.traits.ttl + case.traits.grace).await;
    for lease in [expired, displaced, outdated, revoked] {
        let opened = within(case.registry.watch_record(&lease, &CallOptions::DEFAULT)).await;
        let first = match opened {
            Ok(mut own) => next_item(&mut own).await,
            Err(error) => Err(error),
        };
        match first {
            Ok(batch) => assert_eq!(only(batch).id(), lease.instance().id()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}"),
        }
    }
}

pub(super) async fn an_own_record_watch_reports_a_rollback(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    case.subject.backup().await;
    let undone = case.claim(&version(&user, "1", 2), &claim).await.unwrap();
    let lost = case.register(&instance(&user, "lost")).await;
    let mut open = watch_record(&case, &undone).await;
    park(&mut open);
    case.subject.restore().await;
    assert_reports_a_rollback(next_item(&mut open).await, &undone);
    retry(|| case.registry.load(&user, &CallOptions::DEFAULT)).await;
    for n in 3..6 {
        for lease in [&undone, &lost] {
            let opened = within(case.registry.watch_record(lease, &CallOptions::DEFAULT)).await;
            let first = match opened {
                Ok(mut own) => next_item(&mut own).await,
                Err(error) => Err(error),
            };
            assert_reports_a_rollback(first, lease);
        }
        // Another update gets the revision of the update that was rolled back.
        case.claim(&version(&user, "1", n), &claim).await.unwrap();
    }
}

pub(super) async fn a_disconnected_own_record_watch_is_unavailable(case: Case<'_>) {
    let user = service("user.rpc");
    let lease = case.register(&instance(&user, "1")).await;
    let mut own = watch_record(&case, &lease).await;
    park(&mut own);
    case.subject.cut().await;
    assert_eq!(end(&mut own).await.kind(), ErrorKind::Unavailable);
    let mut own = retry(|| case.registry.watch_record(&lease, &CallOptions::DEFAULT)).await;
    case.subject.revoke(&lease).await;
    assert_eq!(deletion(next(&mut own).await).id(), lease.instance().id());
}

/// Asserts that an own-record watch starts with a change of the record, or with an error that makes the owner check.
fn assert_reports_a_rollback(first: Result<Arc<Batch>>, lease: &Lease) {
    let kinds =
        [ErrorKind::LeaseLost, ErrorKind::Diverged, ErrorKind::Compacted, ErrorKind::Unavailable];
    match first {
        Ok(batch) => assert_eq!(only(batch).id(), lease.instance().id()),
        Err(error) => assert!(kinds.contains(&error.kind()), "{error}"),
    }
}

async fn watch_record(case: &Case<'_>, lease: &Lease) -> Watch {
    within(case.registry.watch_record(lease, &CallOptions::DEFAULT)).await.unwrap()
}
