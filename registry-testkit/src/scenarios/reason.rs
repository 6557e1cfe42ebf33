//! A deletion carries its reason.

use crate::case::{Case, deletion, instance, long, next, pass, put, service};
use registry_core::{Claim, DeleteReason};

pub(super) async fn a_withdrawal_is_reported_if_the_store_knows_it(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    let (_, mut watch) = case.follow(&user).await;
    let lease = case.register(&instance(&user, "1")).await;
    case.deregister(&lease).await;
    let expected = expected_reason(&case, DeleteReason::Withdrawn);
    put(next(&mut watch).await);
    assert_eq!(deletion(next(&mut watch).await).reason(), expected);
    // A later watch reads the same reason from the history.
    let mut later = case.watch(&user, &before).await;
    put(next(&mut later).await);
    assert_eq!(deletion(next(&mut later).await).reason(), expected);
    // The id can be registered again.
    let again = case.claim(&instance(&user, "1"), &long()).await.unwrap();
    assert_eq!(&put(next(&mut watch).await), again.instance(), "more than one delete");
}

pub(super) async fn an_expiry_is_reported_if_the_store_knows_it(case: Case<'_>) {
    let user = service("user.rpc");
    let (before, mut watch) = case.follow(&user).await;
    let claim = Claim::new(case.traits.ttl).unwrap();
    case.claim(&instance(&user, "1"), &claim).await.unwrap();
    put(next(&mut watch).await);
    let expected = expected_reason(&case, DeleteReason::Expired);
    assert_eq!(deletion(next(&mut watch).await).reason(), expected);
    // A later watch reads the same reason from the history.
    let mut later = case.watch(&user, &before).await;
    put(next(&mut later).await);
    assert_eq!(deletion(next(&mut later).await).reason(), expected);
}

pub(super) async fn a_withdrawal_after_the_ttl_is_an_expiry(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    let claim = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    // The owner withdraws after the expiry, with no read in between.
    pass(case.traits.ttl + case.traits.grace).await;
    case.deregister(&lease).await;
    let mut watch = case.watch(&user, &before).await;
    put(next(&mut watch).await);
    let expected = expected_reason(&case, DeleteReason::Expired);
    assert_eq!(deletion(next(&mut watch).await).reason(), expected);
}

pub(super) async fn a_repeated_claim_is_no_longer_withdrawn(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    case.deregister(&lease).await;
    case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let (_, mut watch) = case.follow(&user).await;
    case.subject.evict(&user).await;
    assert_eq!(deletion(next(&mut watch).await).reason(), None);
}

pub(super) async fn a_deletion_by_others_has_no_reason(case: Case<'_>) {
    let user = service("user.rpc");
    let revoked = case.register(&instance(&user, "1")).await;
    let (_, mut watch) = case.follow(&user).await;
    case.subject.revoke(&revoked).await;
    assert_eq!(deletion(next(&mut watch).await).reason(), None);
    case.register(&instance(&user, "2")).await;
    put(next(&mut watch).await);
    case.subject.evict(&user).await;
    assert_eq!(deletion(next(&mut watch).await).reason(), None);
}

/// Returns the reason if the store reports it.
fn expected_reason(case: &Case<'_>, reason: DeleteReason) -> Option<DeleteReason> {
    case.traits.reasons.contains(&reason).then_some(reason)
}
