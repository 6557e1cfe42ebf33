//! An owner notices that its acknowledged write was lost.

use crate::case::{Case, deleted, instance, long, next, put, retry, service, version};
use registry_core::{CallOptions, Claim, ErrorKind};

pub(super) async fn a_record_lost_in_a_rollback_is_noticed(case: Case<'_>) {
    let user = service("user.rpc");
    let kept = case.register(&instance(&user, "kept")).await;
    case.subject.backup().await;
    let lost = case.register(&instance(&user, "lost")).await;
    case.subject.restore().await;
    retry(|| case.registry.services(&CallOptions::DEFAULT)).await;
    case.keep_alive(&kept).await.unwrap();
    assert_eq!(case.keep_alive(&lost).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let again = case.claim(lost.instance(), &long()).await.unwrap();
    case.keep_alive(&again).await.unwrap();
    assert_eq!(case.ids(&user).await, ["kept", "lost"]);
}

pub(super) async fn an_update_lost_in_a_rollback_is_noticed(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl * 3).unwrap();
    let old = case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    case.subject.backup().await;
    let updated = case.claim(&version(&user, "1", 2), &claim).await.unwrap();
    case.subject.restore().await;
    retry(|| case.registry.services(&CallOptions::DEFAULT)).await;
    assert_eq!(case.instances(&user).await, [old.instance().clone()]);
    assert_eq!(case.first_failure(&updated).await, Some(ErrorKind::LeaseLost));
    let repaired = case.claim(updated.instance(), &claim).await.unwrap();
    assert_eq!(case.instances(&user).await, [updated.instance().clone()]);
    case.keep_alive(&repaired).await.unwrap();
}

pub(super) async fn an_evicted_record_is_noticed_and_registered_again(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let (_, mut watch) = case.follow(&user).await;
    case.subject.evict(&user).await;
    assert_eq!(deleted(next(&mut watch).await), lease.instance().id().clone());
    assert_eq!(case.first_failure(&lease).await, Some(ErrorKind::LeaseLost));
    let again = case.claim(lease.instance(), &claim).await.unwrap();
    assert_eq!(put(next(&mut watch).await), lease.instance().clone());
    case.keep_alive(&again).await.unwrap();
    assert_eq!(case.ids(&user).await, ["1"]);
}

pub(super) async fn a_lease_is_lost_if_its_revision_is_reused_after_a_rollback(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl * 3).unwrap();
    case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    case.subject.backup().await;
    let undone = case.claim(&version(&user, "1", 2), &claim).await.unwrap();
    case.subject.restore().await;
    retry(|| case.registry.services(&CallOptions::DEFAULT)).await;
    // Other updates reach the revision of the update that was rolled back, or a later one.
    let mut updated = case.claim(&version(&user, "1", 3), &claim).await.unwrap();
    for n in 4..20 {
        if updated.revision() >= undone.revision() {
            break;
        }
        updated = case.claim(&version(&user, "1", n), &claim).await.unwrap();
    }
    assert_eq!(case.first_failure(&undone).await, Some(ErrorKind::LeaseLost));
    case.keep_alive(&updated).await.unwrap();
}

pub(super) async fn the_lease_from_before_an_update_is_lost(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let old = case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    let updated = case.claim(&version(&user, "1", 2), &claim).await.unwrap();
    assert_eq!(case.first_failure(&old).await, Some(ErrorKind::LeaseLost));
    case.keep_alive(&updated).await.unwrap();
}

pub(super) async fn the_lease_from_before_an_eviction_is_lost_after_its_claim_is_repeated(
    case: Case<'_>,
) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let evicted = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    case.subject.evict(&user).await;
    let again = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    assert_eq!(case.first_failure(&evicted).await, Some(ErrorKind::LeaseLost));
    case.keep_alive(&again).await.unwrap();
}
