//! One lease holds an id at a time.

use crate::case::{Case, LONG, instance, long, next, only, pass, service, version};
use futures_util::future::join_all;
use registry_core::{Change, Claim, ErrorKind};

pub(super) async fn without_takeover_it_is_superseded(case: Case<'_>) {
    let user = service("user.rpc");
    let holder = case.register(&version(&user, "1", 1)).await;
    let (before, mut watch) = case.follow(&user).await;
    let claim = long();
    let error = case.claim(&version(&user, "1", 2), &claim).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
    let same_record = case.claim(&version(&user, "1", 1), &long()).await.unwrap_err();
    assert_eq!(same_record.kind(), ErrorKind::Superseded);
    assert_eq!(case.load(&user).await.instances(), before.instances());
    case.keep_alive(&holder).await.unwrap();
    // Nothing is left of the refused claim: its lease id is free.
    case.claim(&instance(&user, "2"), &claim).await.unwrap();
    assert_eq!(only(next(&mut watch).await), Change::Put(instance(&user, "2")));
}

pub(super) async fn the_last_claim_that_takes_over_wins(case: Case<'_>) {
    let user = service("user.rpc");
    let mut leases = vec![case.register(&version(&user, "1", 0)).await];
    let (_, mut watch) = case.follow(&user).await;
    for n in 1..4 {
        let taken = case.claim(&version(&user, "1", n), &long().with_takeover(true)).await.unwrap();
        assert_eq!(only(next(&mut watch).await), Change::Put(version(&user, "1", n)));
        leases.push(taken);
    }
    let winner = leases.pop().unwrap();
    case.keep_alive(&winner).await.unwrap();
    for lease in leases {
        assert_eq!(case.first_failure(&lease).await, Some(ErrorKind::LeaseLost));
    }
    assert_eq!(case.ids(&user).await, ["1"]);
}

pub(super) async fn a_superseded_lease_is_lost_and_harmless(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let old = case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    let expiring =
        case.claim(&version(&user, "2", 1), &Claim::new(case.traits.ttl).unwrap()).await.unwrap();
    let new = case.claim(&version(&user, "1", 2), &long().with_takeover(true)).await.unwrap();
    case.claim(&version(&user, "2", 2), &long().with_takeover(true)).await.unwrap();
    let (before, mut watch) = case.follow(&user).await;

    assert_eq!(case.first_failure(&old).await, Some(ErrorKind::LeaseLost));
    case.deregister(&old).await;
    case.subject.revoke(&expiring).await;
    pass(case.traits.ttl + case.traits.grace).await;
    case.keep_alive(&new).await.unwrap();
    assert_eq!(case.load(&user).await.instances(), before.instances());
    case.deregister(&new).await;
    assert_eq!(only(next(&mut watch).await), Change::Delete(new.instance().id().clone()));
}

pub(super) async fn two_holders_of_one_id_do_not_fight(case: Case<'_>) {
    let user = service("user.rpc");
    let (first, second) = (long(), long().with_takeover(true));
    case.claim(&version(&user, "1", 1), &first).await.unwrap();
    let winner = case.claim(&version(&user, "1", 2), &second).await.unwrap();
    let (before, mut watch) = case.follow(&user).await;
    // The superseded one asks again and again, as its engine does; the holder renews.
    for _ in 0..10 {
        let error = case.claim(&version(&user, "1", 1), &first).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Superseded);
        case.keep_alive(&winner).await.unwrap();
    }
    assert_eq!(case.load(&user).await.instances(), before.instances());
    case.register(&instance(&user, "2")).await;
    assert_eq!(only(next(&mut watch).await), Change::Put(instance(&user, "2")), "nothing moved");
}

pub(super) async fn a_vacant_id_is_free_for_all(case: Case<'_>) {
    let user = service("user.rpc");
    let first = case.register(&version(&user, "1", 1)).await;
    let claim = long();
    assert!(case.claim(&version(&user, "1", 2), &claim).await.is_err());
    case.deregister(&first).await;
    let lease = case.claim(&version(&user, "1", 2), &claim).await.unwrap();
    case.keep_alive(&lease).await.unwrap();
    case.subject.revoke(&lease).await;
    case.claim(&version(&user, "1", 3), &Claim::new(LONG).unwrap()).await.unwrap();
}

pub(super) async fn of_many_claims_at_once_one_wins(case: Case<'_>) {
    let user = service("user.rpc");
    let (_, mut watch) = case.follow(&user).await;
    let claims: Vec<_> = (0..8).map(|n| (version(&user, "1", n), long())).collect();
    let results =
        join_all(claims.iter().map(|(instance, claim)| case.claim(instance, claim))).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1, "{won:?}");
    for error in lost {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Superseded);
    }
    let winner = won.into_iter().next().unwrap().unwrap();
    assert_eq!(only(next(&mut watch).await), Change::Put(winner.instance().clone()));
    assert_eq!(case.load(&user).await.instances().iter().collect::<Vec<_>>(), [winner.instance()]);
    case.register(&instance(&user, "2")).await;
    assert_eq!(only(next(&mut watch).await), Change::Put(instance(&user, "2")), "one put only");
}
