//! Tests of updates: acknowledged, refused, or delayed until the end of an outage.

use crate::support::*;
use futures_util::FutureExt;
use registry_core::{CallOptions, ErrorKind, InstanceStatus, Registry};
use registry_engine::{RegistrationOptions, RegistrationStatus};
use registry_mem::Fault;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn an_update_is_stored_in_place_once_it_is_acknowledged() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    let view = world.view(no_retention()).await;
    let monitor = Monitor::of(&view);
    let heavy = node("a").with_weight(7).with_status(InstanceStatus::Draining);
    within(registration.update(|_| heavy.clone())).await.unwrap();
    assert_eq!(world.stored().await[0], heavy);
    assert_eq!(registration.instance(), heavy);
    until(&view, |state| state.instances().eq([&heavy])).await;
    assert_eq!(monitor.fewest_shown(), 1, "not replaced in one step");
    advance(10 * TTL).await;
    assert_eq!(world.stored().await, [heavy], "the new record is renewed");
    assert_eq!(world.spy.claims().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_update_changes_nothing() {
    for kind in [ErrorKind::Invalid, ErrorKind::Denied] {
        let world = World::new();
        let registration = world.start(node("a")).await;
        world.spy.intercept(move |call| match call {
            Call::Register(node, _) if node.weight() == 7 => Some(Interception::Refuse(kind)),
            _ => None,
        });
        let error = within(registration.update(|_| node("a").with_weight(7))).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(registration.instance(), node("a"));
        for _ in 0..100 {
            assert!(registration.status().is_active());
            assert_eq!(world.stored().await, [node("a")]);
            advance(TTL / 10).await;
        }
        let heavy = |call: &Call| matches!(call, Call::Register(node, _) if node.weight() == 7);
        let asked = world.spy.calls().iter().filter(|(_, call)| heavy(call)).count();
        assert_eq!(asked, 1, "a refused update was repeated");
        within(registration.update(|_| node("a").with_weight(8))).await.unwrap();
        assert_eq!(world.stored().await[0].weight(), 8);
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_that_changes_the_service_or_the_id_is_invalid() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    for other in [node("b"), node_of(&"other.rpc".parse().unwrap(), "a")] {
        let error = within(registration.update(|_| other)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(registration.instance(), node("a"));
    }
    advance(TTL).await;
    assert_eq!(world.spy.claims().len(), 1);
    assert_eq!(world.store.services(&CallOptions::DEFAULT).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_update_during_an_outage_waits_until_the_outage_is_over() {
    for outage in [TTL / 2, 5 * TTL] {
        let world = World::new();
        let registration = world.start(node("a")).await;
        world.link.inject(Fault::Outage);
        let heavy = node("a").with_weight(7);
        let update = async {
            within(registration.update(|_| heavy.clone())).await.unwrap();
            assert_eq!(world.stored().await[0], heavy);
            Instant::now()
        };
        let heal = async {
            advance(outage).await;
            world.link.heal();
            Instant::now()
        };
        let (updated, healed) = tokio::join!(update, heal);
        assert!((healed..=healed + MAX_BACKOFF + TICK).contains(&updated));
        assert!(world.link.hits().calls_refused > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_whose_future_was_dropped_is_still_applied() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    world.link.inject(Fault::Outage);
    assert!(registration.update(|_| node("a").with_weight(7)).now_or_never().is_none());
    advance(secs(1)).await;
    world.link.heal();
    advance(MAX_BACKOFF).await;
    assert_eq!(world.stored().await[0].weight(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_update_that_is_queued_behind_another_is_still_applied() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    world.link.inject(Fault::Silence);
    // The first request hangs in the store, and the other updates queue behind it.
    for weight in 7..=9 {
        assert!(registration.update(|_| node("a").with_weight(weight)).now_or_never().is_none());
        advance(millis(1)).await;
    }
    world.link.heal();
    advance(2 * MAX_BACKOFF).await;
    assert_eq!(world.stored().await[0].weight(), 9);
    assert!(world.link.hits().calls_silenced > 0);
}

#[tokio::test(start_paused = true)]
async fn an_update_whose_reply_was_lost_is_repeated() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    world.link.inject(Fault::LostReplies);
    let heavy = node("a").with_weight(7);
    let update = within(registration.update(|_| heavy.clone()));
    let heal = async {
        advance(secs(1)).await;
        assert_eq!(world.stored().await[0], heavy, "the update was not applied");
        world.link.heal();
    };
    tokio::join!(update, heal).0.unwrap();
    assert!(world.link.hits().replies_lost > 0);
    assert_eq!(world.stored().await, [heavy]);
}

#[tokio::test(start_paused = true)]
async fn an_update_to_the_registered_data_is_acknowledged() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    within(registration.update(|_| node("a"))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_update_that_is_reverted_before_it_was_sent_is_acknowledged() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    world.link.inject(Fault::Outage);
    let change = registration.update(|_| node("a").with_weight(7));
    let revert = registration.update(|_| node("a"));
    let heal = async {
        advance(secs(1)).await;
        world.link.heal();
    };
    let (change, revert, ()) = within(async { tokio::join!(change, revert, heal) }).await;
    change.unwrap();
    revert.unwrap();
    assert_eq!(world.stored().await, [node("a")]);
}

#[tokio::test(start_paused = true)]
async fn an_update_while_superseded_is_an_error_and_applies_once_the_holder_is_gone() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    let theirs = world.displace(&node("a")).await;
    until_status(&registration, |status| matches!(status, RegistrationStatus::Superseded)).await;
    let error = within(registration.update(|_| node("a").with_weight(7))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded);
    assert_eq!(world.stored().await, [node("a")]);
    world.store.deregister(&theirs, &CallOptions::DEFAULT).await.unwrap();
    until_active(&registration).await;
    assert_eq!(world.stored().await[0].weight(), 7);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_hangs_keeps_the_status_active_for_at_most_one_ttl() {
    let world = World::new();
    let ttl = secs(2); // shorter than the timeout of a request
    let options = RegistrationOptions::default().with_ttl(ttl);
    let registration = world.try_start(node("a"), options).await.unwrap();
    let claimed = Instant::now();
    advance(ttl).await;
    let acknowledged = world.spy.renewals().last().copied().unwrap_or(claimed);
    world.link.inject(Fault::Silence);
    assert!(registration.update(|_| node("a").with_weight(7)).now_or_never().is_none());
    until_status(&registration, |status| !status.is_active()).await;
    let active = acknowledged.elapsed();
    assert!(active <= ttl + TICK, "active for {active:?} after the last renewal was sent");
}

/// Regression: at a ttl below three times the timeout of a request, the lease expired because it was not renewed during
/// the update.
#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_while_an_update_hangs() {
    for ttl in [1, 2, 3, 5, 10, 60].map(secs) {
        let world = World::new();
        let options = RegistrationOptions::default().with_ttl(ttl);
        let registration = world.try_start(node("a"), options).await.unwrap();
        let view = world.view(no_retention()).await;
        let monitor = Monitor::of(&view);
        world
            .spy
            .intercept(|call| matches!(call, Call::Register(..)).then_some(Interception::Hang));
        assert!(registration.update(|_| node("a").with_weight(7)).now_or_never().is_none());
        advance(5 * ttl).await;
        assert!(registration.status().is_active());
        assert_eq!(monitor.fewest_shown(), 1, "ttl {ttl:?}");
        assert!(world.spy.claims().len() > 1, "no update was sent");
        world.spy.stop_intercepting();
        until(&view, |state| state.instances().all(|node| node.weight() == 7)).await;
    }
}

/// Regression: the second caller got `Ok`, because the first refusal had reverted the desired data, which was then
/// registered.
#[tokio::test(start_paused = true)]
async fn each_of_two_equal_updates_that_are_refused_is_an_error() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    world.spy.intercept(|call| match call {
        Call::Register(node, _) if node.weight() == 7 => {
            Some(Interception::DelayedRefusal(ErrorKind::Invalid))
        }
        _ => None,
    });
    let heavy = || registration.update(|_| node("a").with_weight(7));
    let second = async {
        advance(millis(10)).await; // while the first is in flight
        heavy().await
    };
    let (first, second) = within(async { tokio::join!(heavy(), second) }).await;
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(registration.instance(), node("a"));
}
