//! A repeated call has the same result as a single one.

use crate::case::{
    Case, LONG, deleted, end, instance, long, next, pass, put, retry, service, version, within,
};
use registry_core::{CallOptions, Claim, ErrorKind, Instance, Takeover};
use std::slice::from_ref;
use std::time::Duration;

pub(super) async fn a_repeated_registration_changes_nothing(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    let one = instance(&user, "1");
    let first = case.claim(&one, &claim).await.unwrap();
    let (_, mut watch) = case.follow(&user).await;
    for _ in 0..2 {
        assert_eq!(case.claim(&one, &claim).await.unwrap(), first);
    }
    case.register(&instance(&user, "2")).await;
    assert_eq!(
        put(next(&mut watch).await),
        instance(&user, "2"),
        "a repeated claim changed something"
    );
    case.keep_alive(&first).await.unwrap();
}

pub(super) async fn a_repeated_registration_renews_its_lease(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    for n in 0..8 {
        case.claim(&version(&user, "1", n / 4), &claim).await.unwrap();
        pass(case.traits.ttl / 4).await;
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
    let error = case.claim(&instance(&user, "2"), &claim).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(case.load(&user).await.records(), before.records());
    case.keep_alive(&lease).await.unwrap();
}

pub(super) async fn a_withdrawn_claim_can_be_repeated(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    for id in ["1", "1", "2"] {
        let lease = case.claim(&instance(&user, id), &claim).await.unwrap();
        assert_eq!(case.ids(&user).await, [id]);
        case.deregister(&lease).await;
        assert!(case.load(&user).await.records().is_empty());
    }
}

pub(super) async fn a_withdrawn_claim_can_be_repeated_with_another_ttl(case: Case<'_>) {
    let user = service("user.rpc");
    let short = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&instance(&user, "1"), &short).await.unwrap();
    case.deregister(&lease).await;
    let lease = case.claim(&instance(&user, "1"), &long().with_lease(short.lease())).await.unwrap();
    assert!(lease.ttl() >= LONG, "{lease:?}");
    pass(case.traits.ttl + case.traits.grace).await;
    assert_eq!(case.keep_alive(&lease).await.unwrap(), lease.ttl());
    assert_eq!(case.ids(&user).await, ["1"]);
}

pub(super) async fn a_registration_whose_reply_was_lost_leaves_one_record(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    // On every store, the request with the record, and so with the address, is the last one of a registration.
    let one = instance(&user, "1").with_address("10.9.8.7:6543".parse().unwrap());
    let before = case.load(&user).await;
    lose_the_reply(&case, &one, &claim).await;
    let lease = retry(|| case.claim(&one, &claim)).await;
    assert_eq!(case.instances(&user).await, from_ref(&one));
    let mut watch = case.watch(&user, &before).await;
    assert_eq!(put(next(&mut watch).await), one);
    case.keep_alive(&lease).await.unwrap();
    case.deregister(&lease).await;
    deleted(next(&mut watch).await);
}

pub(super) async fn a_takeover_whose_reply_was_lost_can_be_repeated(case: Case<'_>) {
    let user = service("user.rpc");
    let old = Claim::new(case.traits.ttl).unwrap();
    let old = case.claim(&instance(&user, "1"), &old).await.unwrap();
    let claim = Claim::new(case.traits.ttl * 10).unwrap();
    let refused = case.claim(&instance(&user, "1"), &claim).await.unwrap_err();
    let claim = claim.with_takeover(Takeover::From(*refused.holder().unwrap()));
    let one = instance(&user, "1").with_address("10.9.8.7:6543".parse().unwrap());
    lose_the_reply(&case, &one, &claim).await;
    let lease = retry(|| case.claim(&one, &claim)).await;
    assert_eq!(case.first_failure(&old).await, Some(ErrorKind::LeaseLost));
    case.keep_alive(&lease).await.unwrap();
    assert_eq!(case.instances(&user).await, from_ref(&one));
}

pub(super) async fn a_withdrawal_whose_reply_was_lost_can_be_repeated(case: Case<'_>) {
    let user = service("user.rpc");
    let lease = case.register(&instance(&user, "1")).await;
    let (_, mut watch) = case.follow(&user).await;
    let network = case.subject.reply_loss().expect("a remote store needs `reply_loss`");
    network.lose_replies();
    let error = within(case.registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    network.heal();
    retry(|| case.registry.deregister(&lease, &CallOptions::DEFAULT)).await;
    assert!(case.load(&user).await.records().is_empty());
    assert_eq!(end(&mut watch).await.kind(), ErrorKind::Unavailable, "the connection was closed");
    let mut watch =
        within(case.registry.watch(&user, watch.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    case.register(&instance(&user, "2")).await;
    assert_eq!(&deleted(next(&mut watch).await), lease.instance().id());
    assert_eq!(put(next(&mut watch).await), instance(&user, "2"));
}

pub(super) async fn every_call_ends_if_its_reply_is_lost(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let snapshot = case.load(&user).await;
    let network = case.subject.reply_loss().expect("a remote store needs `reply_loss`");
    network.lose_replies();
    let registry = &case.registry;
    let other = instance(&user, "2");
    let other_claim = long();
    // Concurrently, since each may take its whole timeout.
    let (registered, held, renewed, withdrawn, loaded, watched, listed) = within(async {
        tokio::join!(
            registry.register(&other, &other_claim, &CallOptions::DEFAULT),
            // The id is vacant, but the reply with that answer is lost.
            registry.holder(&other, &CallOptions::DEFAULT),
            registry.keep_alive(&lease, &CallOptions::DEFAULT),
            registry.deregister(&lease, &CallOptions::DEFAULT),
            registry.load(&user, &CallOptions::DEFAULT),
            registry.watch(&user, snapshot.cursor(), &CallOptions::DEFAULT),
            registry.services(&CallOptions::DEFAULT),
        )
    })
    .await;
    let errors = [
        registered.err(),
        held.err(),
        renewed.err(),
        withdrawn.err(),
        loaded.err(),
        watched.err(),
        listed.err(),
    ];
    for error in errors {
        assert_eq!(error.expect("succeeded without a reply").kind(), ErrorKind::Unavailable);
    }
    network.heal();
    retry(|| registry.load(&user, &CallOptions::DEFAULT)).await;
}

/// Registers `instance`, and loses the reply to the request with the record.
async fn lose_the_reply(case: &Case<'_>, instance: &Instance, claim: &Claim) {
    let network = case.subject.reply_loss().expect("a remote store needs `reply_loss`");
    network.lose_replies_from(instance.address().as_str());
    let error = case.claim(instance, claim).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(network.loses_replies(), "the request with the record was never sent");
    network.heal();
}
