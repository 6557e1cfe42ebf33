//! Tests for hot loops: a store that always fails must be called with backoff.

use crate::support::*;
use registry_core::ErrorKind;
use registry_engine::{DiscoveryOptions, RegistrationStatus};
use std::time::Duration;
use tokio::time::Instant;

/// The kinds of errors that a store may return.
const KINDS: [ErrorKind; 7] = [
    ErrorKind::Unavailable,
    ErrorKind::Denied,
    ErrorKind::Compacted,
    ErrorKind::Diverged,
    ErrorKind::Internal,
    ErrorKind::Invalid,
    ErrorKind::LeaseLost,
];

const LONG: Duration = Duration::from_secs(600);

/// Opens a view and asserts that the rate of its calls is bounded over a long time.
async fn assert_bounded(world: &World, kind: ErrorKind, what: &str) {
    let view = world.discovery(DiscoveryOptions::default()).view(&service());
    advance(LONG).await;
    let times: Vec<Instant> = world.spy.calls().iter().map(|(at, _)| *at).collect();
    // A round is a load, a watch, or both. There is one every 2.5 s on average and every 5 s at least; if the store is
    // `Unavailable`, every 333 ms on average.
    let expected = if kind == ErrorKind::Unavailable { 1_200..3_000 } else { 120..800 };
    assert!(expected.contains(&times.len()), "{what}: {}", times.len());
    let burst = times.windows(40).map(|burst| burst[39] - burst[0]).min().unwrap();
    assert!(burst > secs(5), "{what}: 40 calls in {burst:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= MAX_BACKOFF + TICK), "{what}");
    world.spy.stop_intercepting();
    until_live(&view).await;
    until_shown(&view, "a").await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_always_fails_is_retried_with_backoff() {
    for kind in KINDS {
        let world = World::new();
        world.put("a").await;
        world.spy.intercept(move |call| {
            matches!(call, Call::Load).then_some(Interception::Refuse(kind))
        });
        assert_bounded(&world, kind, &format!("load {kind}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_never_opens_is_retried_with_backoff() {
    for kind in KINDS {
        let world = World::new();
        world.put("a").await;
        world.spy.intercept(move |call| {
            matches!(call, Call::Watch(_)).then_some(Interception::Refuse(kind))
        });
        assert_bounded(&world, kind, &format!("watch {kind}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_opens_and_ends_at_once_is_reopened_with_backoff() {
    for kind in KINDS {
        let world = World::new();
        world.put("a").await;
        world.spy.intercept(move |call| {
            matches!(call, Call::Watch(_)).then_some(Interception::EndAtOnce(kind))
        });
        assert_bounded(&world, kind, &format!("watch that ends {kind}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_register_that_always_fails_is_retried_with_backoff() {
    for kind in KINDS {
        let world = World::new();
        world.spy.intercept(move |call| {
            matches!(call, Call::Register(..)).then_some(Interception::Refuse(kind))
        });
        let registration = world.try_start(node("a"), in_background()).await.unwrap();
        advance(LONG).await;
        let claims = world.spy.claims().len();
        let expected = if kind == ErrorKind::Unavailable { 1_200..3_000 } else { 120..400 };
        assert!(expected.contains(&claims), "{kind}: {claims}");
        let RegistrationStatus::Retrying { why, .. } = registration.status() else { panic!() };
        assert_eq!(why.kind(), kind);
        world.spy.stop_intercepting();
        until_active(&registration).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_always_fails_is_retried_with_backoff() {
    for kind in KINDS {
        let world = World::new();
        let _registration = world.start(node("a")).await;
        world.spy.intercept(move |call| {
            matches!(call, Call::KeepAlive(_)).then_some(Interception::Refuse(kind))
        });
        advance(LONG).await;
        let calls = world.spy.calls().len();
        // After each loss the registration succeeds, and is renewed a third of a ttl later.
        assert!((60..2_000).contains(&calls), "{kind}: {calls}");
        world.spy.stop_intercepting();
        advance(TTL).await;
        assert_eq!(world.stored_ids().await, "a", "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_yields_progress_and_is_compacted_is_reloaded_with_backoff() {
    // go-zero #3364: progress alone must not reset the backoff.
    let world = World::new();
    world.put("a").await;
    world.spy.intercept(|call| {
        matches!(call, Call::Watch(_)).then_some(Interception::ProgressAndEnd(ErrorKind::Compacted))
    });
    let _view = world.discovery(DiscoveryOptions::default()).view(&service());
    for second in 0..600 {
        let before = world.spy.loads();
        advance(secs(1)).await;
        let loads = world.spy.loads() - before;
        assert!(loads <= 50, "{loads} loads in second {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_that_always_fails_is_retried_with_backoff() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    world.spy.intercept(|call| {
        matches!(call, Call::Deregister).then_some(Interception::Refuse(ErrorKind::Unavailable))
    });
    within(registration.stop()).await.unwrap_err();
    let withdrawals = world.spy.withdrawals().len();
    assert!((3..30).contains(&withdrawals), "{withdrawals}");
}
