//! What is made twice ends as if made once.

use crate::case::{Case, LONG, instance, long, next, only, pass, service, version};
use registry_core::{Change, Claim, ErrorKind};
use std::time::Duration;

pub(super) async fn a_repeated_registration_changes_nothing(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    let one = instance(&user, "1");
    let first = case.claim(&one, &claim).await.unwrap();
    let (_, mut watch) = case.follow(&user).await;
    for takeover in [false, true] {
        let again = case.claim(&one, &claim.with_takeover(takeover)).await.unwrap();
        assert_eq!(again, first);
    }
    case.register(&instance(&user, "2")).await;
    assert_eq!(only(next(&mut watch).await), Change::Put(instance(&user, "2")), "no batch between");
    case.keep_alive(&first).await.unwrap();
}

pub(super) async fn a_registration_is_refreshed_by_repeating_it(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    for n in 0..6 {
        case.claim(&version(&user, "1", n / 3), &claim).await.unwrap();
        pass(case.traits.ttl / 2).await;
        assert_eq!(case.ids(&user).await, ["1"]);
    }
}

pub(super) async fn a_lease_keeps_its_ttl_and_its_instance(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let before = case.load(&user).await;
    let other_ttl = Claim::new(LONG + Duration::from_secs(60)).unwrap().with_lease(claim.lease());
    let error = case.claim(&instance(&user, "1"), &other_ttl).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    for takeover in [false, true] {
        let error =
            case.claim(&instance(&user, "2"), &claim.with_takeover(takeover)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert_eq!(case.load(&user).await.instances(), before.instances());
    case.keep_alive(&lease).await.unwrap();
}

pub(super) async fn a_withdrawn_claim_may_be_made_again(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    for id in ["1", "1", "2"] {
        let lease = case.claim(&instance(&user, id), &claim).await.unwrap();
        assert_eq!(case.ids(&user).await, [id]);
        case.deregister(&lease).await;
        assert!(case.load(&user).await.instances().is_empty());
    }
}
