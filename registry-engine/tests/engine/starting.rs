//! Tests of the start of a registration: within a timeout, in the background, or refused.

use crate::support::*;
use registry_core::{ErrorKind, LeaseId};
use registry_engine::{RegistrationOptions, RegistrationStatus, Start};
use registry_mem::Fault;
use std::error::Error as _;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

fn start_within(limit: Duration) -> RegistrationOptions {
    // The ttl is long, so that a record that disappears was withdrawn and did not expire.
    RegistrationOptions::default().with_ttl(secs(3600)).with_start(Start::Within(limit))
}

#[tokio::test(start_paused = true)]
async fn a_start_returns_once_it_is_registered() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    assert_eq!(world.stored_ids().await, "a");
    assert!(registration.status().is_active());
    assert_eq!(registration.instance(), node("a"));
}

#[tokio::test(start_paused = true)]
async fn a_start_during_an_outage_fails_at_its_timeout_and_leaks_nothing() {
    let faults = [Fault::Outage, Fault::Silence, Fault::LostReplies];
    // With takeover it only reads, since the read is not answered. Without takeover, it claims.
    for (fault, takeover) in faults.into_iter().flat_map(|fault| [(fault, true), (fault, false)]) {
        let world = World::new();
        world.link.inject(fault);
        let options = start_within(secs(3)).with_takeover(takeover);
        let start = Instant::now();
        let error = world.try_start(node("a"), options).await.unwrap_err();
        let took = start.elapsed();
        assert!((secs(3)..=secs(3) + TICK).contains(&took), "{fault:?}: {took:?}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.source().is_some(), "{fault:?}: {}", error.chain());
        if matches!(fault, Fault::LostReplies) {
            assert!(world.link.hits().replies_lost > 0);
        }
        world.link.heal();
        advance(secs(15)).await; // the request in flight, and the withdrawal
        assert_eq!(world.stored_ids().await, "", "{fault:?}");
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "{fault:?}");
        let calls = world.spy.calls().len();
        advance(secs(600)).await;
        assert_eq!(world.spy.calls().len(), calls, "{fault:?}: requests after the failure");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_reply_was_lost_is_repeated_under_the_same_lease() {
    let world = World::new();
    world.link.inject(Fault::LostReplies);
    let heal = async {
        advance(millis(500)).await;
        world.link.heal();
    };
    let (registration, ()) = tokio::join!(world.start(node("a")), heal);
    assert!(world.link.hits().replies_lost > 0);
    assert_eq!(world.stored_ids().await, "a");
    within(registration.stop()).await.unwrap();
    assert_eq!(world.stored_ids().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_start_leaks_nothing() {
    // Dropped during the read of the holder, and during the claim.
    for (after, claims) in [(secs(1), 0), (secs(3), 1)] {
        let world = World::new();
        world.link.inject(Fault::Latency { min: secs(2), max: secs(2) });
        let start = world.try_start(node("a"), start_within(secs(10)));
        assert!(tokio::time::timeout(after, start).await.is_err());
        advance(secs(10)).await;
        assert_eq!(world.spy.claims().len(), claims);
        assert_eq!(world.stored_ids().await, "");
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_start_returns_the_error_at_once() {
    for kind in [ErrorKind::Invalid, ErrorKind::Denied] {
        let world = World::new();
        world.spy.intercept(move |call| {
            matches!(call, Call::Register(..)).then_some(Interception::Refuse(kind))
        });
        let start = Instant::now();
        let error = world.try_start(node("a"), start_within(secs(3))).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (kind, secs(0)));
        advance(secs(600)).await;
        assert_eq!(world.spy.claims().len(), 1);
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ttl_out_of_range_is_invalid_with_any_kind_of_start() {
    for ttl in [secs(0), millis(99), secs(24 * 3600 + 1)] {
        for start in [Start::Within(secs(1)), Start::InBackground] {
            let options = RegistrationOptions::default().with_ttl(ttl).with_start(start);
            let error = World::new().try_start(node("a"), options).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_without_takeover_is_superseded_at_once() {
    let world = World::new();
    let theirs = node("a").with_weight(7);
    world.put_as(&theirs).await;
    let options = start_within(secs(3)).with_takeover(false);
    let start = Instant::now();
    let error = world.try_start(node("a"), options).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed()), (ErrorKind::Superseded, secs(0)));
    advance(secs(600)).await;
    assert_eq!(world.stored().await, [theirs], "the holder was withdrawn");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_takes_over_the_registration_of_an_earlier_process() {
    let world = World::new();
    world.put_as(&node("a").with_weight(7)).await;
    let view = world.view(no_retention()).await;
    let monitor = Monitor::of(&view);
    let _registration = world.start(node("a")).await;
    until(&view, |state| state.records()[0].instance().weight() == node("a").weight()).await;
    assert_eq!(monitor.fewest_shown(), 1, "not replaced in one step");
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_background_returns_at_once_and_registers_when_the_store_answers() {
    let world = World::new();
    world.link.inject(Fault::Outage);
    let start = Instant::now();
    let registration = world.try_start(node("a"), in_background()).await.unwrap();
    assert_eq!(start.elapsed(), secs(0));
    advance(secs(60)).await;
    let RegistrationStatus::Retrying { since, why } = registration.status() else { panic!() };
    assert_eq!((since, why.kind()), (start, ErrorKind::Unavailable));
    assert!(why.to_string().contains("down"), "{why}");
    world.link.heal();
    let healed = Instant::now();
    until_active(&registration).await;
    assert!(healed.elapsed() <= MAX_BACKOFF + TICK);
    assert_eq!(world.stored_ids().await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_background_retries_after_a_refusal() {
    let world = World::new();
    world.spy.intercept(|call| {
        matches!(call, Call::Register(..)).then_some(Interception::Refuse(ErrorKind::Denied))
    });
    let registration = world.try_start(node("a"), in_background()).await.unwrap();
    advance(secs(60)).await;
    let RegistrationStatus::Retrying { why, .. } = registration.status() else { panic!() };
    assert_eq!(why.kind(), ErrorKind::Denied);
    world.spy.stop_intercepting();
    until_active(&registration).await;
    assert_eq!(world.stored_ids().await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_registration_uses_the_lease_id_it_is_given() {
    let (world, lease) = (World::new(), LeaseId::random());
    let options = RegistrationOptions::default().with_lease(lease);
    let _registration = world.try_start(node(&lease.to_string()), options).await.unwrap();
    world.link.inject(Fault::LeaseLost);
    advance(TTL).await;
    let claims = world.spy.claims();
    assert_eq!(claims.len(), 2);
    assert!(claims.iter().all(|(_, claim)| claim.lease() == lease));
    assert_eq!(world.stored_ids().await, lease.to_string());
}
