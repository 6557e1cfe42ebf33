//! Tests of the end of a registration: drained, stopped or dropped, with and without an outage.

use crate::support::*;
use futures_util::{FutureExt, StreamExt};
use registry_core::{ErrorKind, Instance, InstanceStatus};
use registry_engine::{DiscoveryOptions, RegistrationOptions, RegistrationStatus};
use registry_mem::Fault;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_drained_instance_is_draining_for_the_grace_period_and_then_withdrawn() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    let view = world.view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&view);
    let start = Instant::now();
    within(registration.drain(secs(25))).await.unwrap();
    assert_eq!(start.elapsed(), secs(25));
    assert_eq!(world.stored_ids().await, "");
    until_shown(&view, "").await;
    let mut seen: Vec<_> = monitor
        .seen()
        .iter()
        .map(|(at, p)| (*at - start, p.instances().next().map(Instance::status)))
        .collect();
    seen.dedup();
    let expected = [
        (secs(0), Some(InstanceStatus::Up)),
        (secs(0), Some(InstanceStatus::Draining)),
        (secs(25), None), // after two and a half ttls, so it was renewed meanwhile
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_drain_during_an_outage_fails_after_the_grace_and_the_stop_timeout() {
    for fault in [Fault::Outage, Fault::Silence] {
        let world = World::new();
        let registration = world.start(node("a")).await;
        world.link.inject(fault);
        let start = Instant::now();
        let error = within(registration.drain(secs(8))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let took = start.elapsed();
        assert!((secs(13)..=secs(13) + TICK).contains(&took), "{fault:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_grace_withdraws_at_once() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    within(registration.drain(secs(0))).await.unwrap();
    assert_eq!(world.stored_ids().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_instance_is_never_registered_again() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    let mut states = registration.statuses();
    within(registration.stop()).await.unwrap();
    assert_eq!(world.stored_ids().await, "");
    let last = within(states.next()).await.unwrap();
    assert!(matches!(last, RegistrationStatus::Stopped));
    assert!(within(states.next()).await.is_none());
    let calls = world.spy.calls().len();
    advance(10 * TTL).await;
    assert_eq!(world.spy.calls().len(), calls, "requests after the stop");
    assert_eq!(world.stored_ids().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_an_outage_fails_at_the_stop_timeout() {
    for fault in [Fault::Outage, Fault::Silence, Fault::LostReplies] {
        let world = World::new();
        let stop_timeout = secs(3);
        let options = RegistrationOptions::default().with_stop_timeout(stop_timeout);
        let registration = world.try_start(node("a"), options).await.unwrap();
        world.link.inject(fault);
        let start = Instant::now();
        let error = within(registration.stop()).await.unwrap_err();
        let took = start.elapsed();
        assert!(took <= stop_timeout + TICK, "{fault:?}: {took:?}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("until its ttl has passed"), "{error}");
        advance(TTL).await;
        world.link.heal();
        advance(TTL).await;
        assert_eq!(world.stored_ids().await, "", "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_short_outage_is_retried() {
    let world = World::new();
    let registration = world.try_start(node("a"), eager()).await.unwrap();
    world.link.inject(Fault::Outage);
    let heal = async {
        advance(secs(1)).await;
        world.link.heal();
    };
    let (stopped, ()) = tokio::join!(within(registration.stop()), heal);
    stopped.unwrap();
    assert_eq!(world.stored_ids().await, "");
    assert!(world.spy.withdrawals().len() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_request_in_flight() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    world.link.inject(Fault::Latency { min: secs(2), max: secs(2) });
    assert!(registration.update(|_| node("a").with_weight(7)).now_or_never().is_none());
    advance(millis(500)).await;
    let sent = world.spy.claims()[1].0;
    within(registration.stop()).await.unwrap();
    assert_eq!(world.spy.withdrawals(), [sent + secs(2)], "withdrawn before the answer");
    assert_eq!(sent.elapsed(), secs(4));
    assert_eq!(world.stored_ids().await, "");
    advance(10 * TTL).await;
    assert_eq!(world.stored_ids().await, "", "registered again after the stop");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_registration_is_withdrawn() {
    let world = World::new();
    let options = RegistrationOptions::default().with_ttl(secs(3600));
    let registration = world.try_start(node("a"), options).await.unwrap();
    drop(registration);
    advance(millis(1)).await;
    assert_eq!(world.stored_ids().await, "");
    assert_eq!(world.spy.withdrawals().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_a_superseded_registration_does_not_withdraw_its_successor() {
    let world = World::new();
    let first = world.start(node("a")).await;
    let second = world.start(node("a").with_weight(7)).await;
    within(first.stop()).await.unwrap();
    assert_eq!(world.stored().await, [second.instance()]);
    advance(5 * TTL).await;
    assert_eq!(world.stored().await, [second.instance()]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_stop_returns_the_error_at_once() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    world.spy.intercept(|call| {
        matches!(call, Call::Deregister).then_some(Interception::Refuse(ErrorKind::Denied))
    });
    let start = Instant::now();
    let error = within(registration.stop()).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed()), (ErrorKind::Denied, secs(0)));
}
