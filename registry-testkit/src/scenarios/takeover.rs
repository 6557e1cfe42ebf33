//! One lease holds an id at a time.

use crate::case::{
    Case, LONG, deleted, id, instance, long, next, only, pass, put, retry, service, version,
};
use futures_util::future::join_all;
use registry_core::{
    CallOptions, Change, Claim, ErrorKind, Holder, Instance, Lease, LeaseId, Takeover,
};

pub(super) async fn a_claim_without_takeover_is_superseded(case: Case<'_>) {
    let user = service("user.rpc");
    let holder = case.register(&version(&user, "1", 1)).await;
    let (before, mut watch) = case.follow(&user).await;
    let claim = long();
    let error = case.claim(&version(&user, "1", 2), &claim).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
    let same_record = case.claim(&version(&user, "1", 1), &long()).await.unwrap_err();
    assert_eq!(same_record.kind(), ErrorKind::Superseded);
    assert_eq!(case.load(&user).await.records(), before.records());
    case.keep_alive(&holder).await.unwrap();
    // The same claim may be repeated, and takes the id once it is vacant.
    case.deregister(&holder).await;
    assert_eq!(deleted(next(&mut watch).await), id("1"));
    case.claim(&version(&user, "1", 2), &claim).await.unwrap();
    assert_eq!(put(next(&mut watch).await), version(&user, "1", 2));
}

pub(super) async fn the_last_claim_that_takes_over_wins(case: Case<'_>) {
    let user = service("user.rpc");
    let first = case.claim(&version(&user, "1", 0), &brief(&case)).await.unwrap();
    let mut leases = vec![first];
    let (_, mut watch) = case.follow(&user).await;
    for n in 1..4 {
        // The last lease lives on while the superseded ones are renewed until their presence checks fail.
        let claim = if n < 3 { brief(&case) } else { long() };
        let taken = case.take_over(&version(&user, "1", n), &claim).await.unwrap();
        assert_eq!(put(next(&mut watch).await), version(&user, "1", n));
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
    let new = case.take_over(&version(&user, "1", 2), &long()).await.unwrap();
    case.take_over(&version(&user, "2", 2), &long()).await.unwrap();
    let (before, mut watch) = case.follow(&user).await;

    assert_eq!(case.first_failure(&old).await, Some(ErrorKind::LeaseLost));
    case.deregister(&old).await;
    case.subject.revoke(&expiring).await;
    pass(case.traits.ttl + case.traits.grace).await;
    case.keep_alive(&new).await.unwrap();
    assert_eq!(case.load(&user).await.records(), before.records());
    case.deregister(&new).await;
    assert_eq!(deleted(next(&mut watch).await), new.instance().id().clone());
}

pub(super) async fn a_superseded_claim_that_retries_does_not_displace_the_holder(case: Case<'_>) {
    let user = service("user.rpc");
    let (first, second) = (long(), long());
    case.claim(&version(&user, "1", 1), &first).await.unwrap();
    let winner = case.take_over(&version(&user, "1", 2), &second).await.unwrap();
    let (before, mut watch) = case.follow(&user).await;
    // The superseded claim is retried, as a registration does, while the holder renews.
    for _ in 0..10 {
        let error = case.claim(&version(&user, "1", 1), &first).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Superseded);
        case.keep_alive(&winner).await.unwrap();
    }
    assert_eq!(case.load(&user).await.records(), before.records());
    case.register(&instance(&user, "2")).await;
    assert_eq!(
        put(next(&mut watch).await),
        instance(&user, "2"),
        "a superseded claim changed something"
    );
}

pub(super) async fn a_vacant_id_can_be_claimed_by_anyone(case: Case<'_>) {
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

pub(super) async fn exactly_one_of_many_concurrent_claims_wins(case: Case<'_>) {
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
    assert_eq!(put(next(&mut watch).await), winner.instance().clone());
    assert_eq!(case.instances(&user).await, [winner.instance().clone()]);
    case.register(&instance(&user, "2")).await;
    assert_eq!(put(next(&mut watch).await), instance(&user, "2"), "more than one put");
}

pub(super) async fn a_refused_claim_names_the_holder(case: Case<'_>) {
    let user = service("user.rpc");
    let holder = case.register(&instance(&user, "1")).await;
    let named = holder_of(&case, &instance(&user, "1")).await;
    assert!(named.lease().is_none_or(|lease| lease == holder.id()), "{named:?}");
    // A holder can be stored as text, and every caller gets the same one.
    let written = serde_json::to_string(&named).unwrap();
    let read: Holder = serde_json::from_str(&written).unwrap();
    assert_eq!(read, holder_of(&case, &instance(&user, "1")).await);
    let claim = long().with_takeover(Takeover::From(read));
    case.claim(&version(&user, "1", 2), &claim).await.unwrap();
}

pub(super) async fn holder_returns_the_current_holder_and_none_for_a_vacant_id(case: Case<'_>) {
    let user = service("user.rpc");
    let (one, two) = (version(&user, "1", 1), version(&user, "1", 2));
    assert_eq!(case.holder(&one).await, None, "the id was never registered");
    let (_, mut watch) = case.follow(&user).await;
    let first = case.register(&one).await;
    let held = holder_of(&case, &two).await;
    assert!(held.lease().is_none_or(|lease| lease == first.id()), "{held:?}");
    // The holder depends only on service and id.
    assert_eq!(case.holder(&two).await, Some(held));
    assert_eq!(case.holder(&instance(&user, "2")).await, None);
    assert_eq!(case.holder(&instance(&service("user"), "1")).await, None);

    let second = case.take_over(&two, &long()).await.unwrap();
    let taken = holder_of(&case, &one).await;
    assert_ne!(taken, held);
    assert!(taken.lease().is_none_or(|lease| lease == second.id()), "{taken:?}");
    case.deregister(&first).await;
    assert_eq!(
        case.holder(&one).await,
        Some(taken),
        "a withdrawal of the displaced lease changed the holder"
    );
    case.deregister(&second).await;
    assert_eq!(case.holder(&one).await, None);
    let third = case.register(&one).await;
    case.subject.revoke(&third).await;
    assert_eq!(case.holder(&one).await, None);

    // The reads changed nothing.
    for (n, put_next) in [true, true, false, true, false].into_iter().enumerate() {
        let batch = next(&mut watch).await;
        let is_put = matches!(only(batch), Change::Put(_));
        assert_eq!(is_put, put_next, "change {n}");
    }
}

pub(super) async fn an_expired_lease_holds_no_id(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    case.claim(&instance(&user, "1"), &claim).await.unwrap();
    assert!(case.holder(&instance(&user, "1")).await.is_some());
    pass(case.traits.ttl + case.traits.grace).await;
    assert_eq!(case.holder(&instance(&user, "1")).await, None);
}

pub(super) async fn a_claim_that_names_another_holder_changes_nothing(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&version(&user, "1", 1)).await;
    let first = holder_of(&case, &version(&user, "1", 9)).await;
    let winner = case.take_over(&version(&user, "1", 2), &long()).await.unwrap();
    let (before, mut watch) = case.follow(&user).await;
    // The claim of an older incarnation arrives late.
    let late = long().with_takeover(Takeover::From(first));
    for _ in 0..2 {
        let error = case.claim(&version(&user, "1", 3), &late).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
        let named = error.holder().expect("`Superseded` without a holder");
        assert_ne!(*named, first);
        assert!(named.lease().is_none_or(|lease| lease == winner.id()));
    }
    assert_eq!(case.load(&user).await.records(), before.records());
    case.keep_alive(&winner).await.unwrap();
    // The same claim may be repeated, and takes the id once it is vacant.
    case.deregister(&winner).await;
    assert_eq!(deleted(next(&mut watch).await), id("1"), "a superseded claim changed something");
    case.claim(&version(&user, "1", 3), &late).await.unwrap();
    assert_eq!(put(next(&mut watch).await), version(&user, "1", 3));
}

pub(super) async fn a_claim_that_names_a_holder_takes_a_vacant_id(case: Case<'_>) {
    let user = service("user.rpc");
    let gone = case.register(&version(&user, "1", 1)).await;
    let named = holder_of(&case, &version(&user, "1", 9)).await;
    case.deregister(&gone).await;
    let claim = long().with_takeover(Takeover::From(named));
    let lease = case.claim(&version(&user, "1", 2), &claim).await.unwrap();
    case.keep_alive(&lease).await.unwrap();
    // Repeating the claim neither displaces a holder nor updates the record.
    assert_eq!(case.claim(&version(&user, "1", 2), &claim).await.unwrap(), lease);
}

pub(super) async fn an_update_does_not_change_the_holder(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = brief(&case);
    case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    let named = holder_of(&case, &version(&user, "1", 9)).await;
    let updated = case.claim(&version(&user, "1", 2), &claim).await.unwrap();
    case.keep_alive(&updated).await.unwrap();
    assert_eq!(holder_of(&case, &version(&user, "1", 9)).await, named);
    let taken = long().with_takeover(Takeover::From(named));
    case.claim(&version(&user, "1", 3), &taken).await.unwrap();
    assert_eq!(case.first_failure(&updated).await, Some(ErrorKind::LeaseLost));
}

pub(super) async fn a_holder_that_registers_again_is_another_holder(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    let named = holder_of(&case, &version(&user, "1", 9)).await;
    case.subject.evict(&user).await;
    let back = case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    let late = long().with_takeover(Takeover::From(named));
    let error = case.claim(&version(&user, "1", 2), &late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
    case.keep_alive(&back).await.unwrap();
}

pub(super) async fn a_holder_from_before_a_rollback_is_not_mistaken_for_the_one_after_it(
    case: Case<'_>,
) {
    let user = service("user.rpc");
    case.register(&instance(&user, "0")).await;
    case.subject.backup().await;
    case.register(&version(&user, "1", 1)).await;
    let named = holder_of(&case, &version(&user, "1", 9)).await;
    case.subject.restore().await;
    retry(|| case.registry.load(&user, &CallOptions::DEFAULT)).await;
    // Another lease claims the id, at the revision of the lost claim.
    let present = case.register(&version(&user, "1", 2)).await;
    let late = long().with_takeover(Takeover::From(named));
    let error = case.claim(&version(&user, "1", 3), &late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
    case.keep_alive(&present).await.unwrap();
}

pub(super) async fn a_superseded_lease_does_not_extend_its_successor(case: Case<'_>) {
    let user = service("user.rpc");
    let old = case.register(&version(&user, "1", 1)).await;
    let claim = Claim::new(case.traits.ttl * 2).unwrap();
    let new = case.take_over(&version(&user, "1", 2), &claim).await.unwrap();
    assert_expires_in_time(&case, &new, || async {
        // The renewal may succeed until the next presence check.
        let _ = case.keep_alive(&old).await;
    })
    .await;
}

pub(super) async fn a_refused_claim_does_not_extend_the_holder(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl * 2).unwrap();
    let lease = case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    let other = Holder::new(Some(LeaseId::random()), Some(lease.revision()));
    let other = long().with_takeover(Takeover::From(other));
    let other_ttl = long().with_lease(claim.lease());
    assert_expires_in_time(&case, &lease, || async {
        holder_of(&case, &version(&user, "1", 2)).await;
        let error = case.claim(&version(&user, "1", 2), &other).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
        let error = case.claim(&version(&user, "1", 1), &other_ttl).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    })
    .await;
}

pub(super) async fn an_undecodable_record_holds_its_id_and_can_be_displaced(case: Case<'_>) {
    let user = service("user.rpc");
    case.subject.poison(&user, &id("1")).await;
    let named = holder_of(&case, &instance(&user, "1")).await;
    let claim = brief(&case).with_takeover(Takeover::From(named));
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    case.keep_alive(&lease).await.unwrap();
    assert_eq!(case.ids(&user).await, ["1"]);
    // Overwriting the record of a lease loses the lease.
    case.subject.poison(&user, &id("1")).await;
    assert_eq!(case.first_failure(&lease).await, Some(ErrorKind::LeaseLost));
    let error = case.claim(&instance(&user, "1"), &claim).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded, "another writer holds the id: {error}");
}

/// Asserts that `lease`, which was just granted, expires in time. Calls `disturb` twice in the first half of its ttl.
async fn assert_expires_in_time<F: Future<Output = ()>>(
    case: &Case<'_>,
    lease: &Lease,
    disturb: impl Fn() -> F,
) {
    let deadline = case.lag.deadline(lease.ttl() + case.traits.grace);
    let (_, mut watch) = case.follow(lease.instance().service()).await;
    for _ in 0..2 {
        pass(lease.ttl() / 4).await;
        disturb().await;
    }
    assert_eq!(&deleted(next(&mut watch).await), lease.instance().id());
    deadline.assert_met();
}

/// A claim with five times the shortest ttl: long enough for a scenario, short enough to wait for its presence check.
fn brief(case: &Case<'_>) -> Claim {
    Claim::new(case.traits.ttl * 5).unwrap()
}

/// Returns the holder of the id. Asserts that a read and the error of a claim without takeover agree.
async fn holder_of(case: &Case<'_>, instance: &Instance) -> Holder {
    let read = case.holder(instance).await;
    let error = case.claim(instance, &long()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
    let named = *error.holder().expect("`Superseded` without a holder");
    assert_eq!(read, Some(named));
    named
}
