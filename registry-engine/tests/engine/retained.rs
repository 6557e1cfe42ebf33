//! Tests of retention: which deleted instances a view retains, for how long, and how it reports them.

use crate::support::*;
use registry_core::{CallOptions, Claim, ErrorKind, InstanceStatus, Lease, Registry};
use registry_engine::{DiscoveryOptions, Failure, RegistrationOptions, View, ViewStatus};
use registry_mem::Fault;
use std::time::Duration;
use tokio::time::Instant;

/// The regular hold time for a ttl of 10 s: a third of the ttl, plus 1 s.
const HOLD_TIME: Duration = Duration::from_millis(4_333);

/// The full hold time, for doubtful deletions.
const FULL_HOLD_TIME: Duration = Duration::from_secs(30);

/// Registers instances that outlive the test.
async fn put_all(world: &World, ids: &str) {
    for id in ids.split(' ') {
        world.put(id).await;
    }
}

/// Registers instances with a ttl of 10 s. The test deletes them before they expire.
async fn put_victims(world: &World, ids: &str) -> Vec<Lease> {
    let mut leases = Vec::new();
    for id in ids.split(' ') {
        let (node, claim) = (node(id), Claim::new(TTL).unwrap());
        let registered = world.store.register(&node, &claim, &CallOptions::DEFAULT);
        leases.push(within(registered).await.unwrap());
    }
    leases
}

/// Causes a disruption of more than a third of the ttl, and waits until it is over.
async fn trouble(world: &World, view: &View) {
    world.link.inject(Fault::Outage);
    until(view, |state| !state.status().is_live()).await;
    advance(TTL / 2).await;
    world.link.heal();
    until_live(view).await;
    assert!(world.link.hits().watches_ended >= 1);
}

async fn withdraw(world: &World, lease: &Lease) {
    within(world.store.deregister(lease, &CallOptions::DEFAULT)).await.unwrap();
}

/// Deletes an instance without withdrawing it.
fn revoke(world: &World, lease: &Lease) {
    world.store.revoke(lease.id());
}

/// Waits until nothing is retained, and returns how long that took.
async fn until_none_is_retained(view: &View) -> Duration {
    let start = Instant::now();
    until(view, |state| state.retained().is_empty()).await;
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_instance_is_removed_at_once() {
    let world = World::new();
    let view = world.view(DiscoveryOptions::default()).await;
    trouble(&world, &view).await;
    let leases = put_victims(&world, "a b c d").await;
    until_shown(&view, "a b c d").await;
    let monitor = Monitor::of(&view);
    for lease in &leases {
        withdraw(&world, lease).await;
    }
    until_shown(&view, "").await;
    assert!(monitor.seen().iter().all(|(_, state)| state.retained().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_draining_instance_is_not_retained_after_its_deletion() {
    let world = World::new();
    put_all(&world, "a b c").await;
    let lease = world.put_as(&node("d").with_status(InstanceStatus::Draining)).await;
    let view = world.view(DiscoveryOptions::default()).await;
    let start = Instant::now();
    revoke(&world, &lease);
    until_shown(&view, "a b c").await;
    assert_eq!(start.elapsed(), secs(0));
}

#[tokio::test(start_paused = true)]
async fn an_instance_deleted_without_withdrawal_is_retained_for_the_hold_time() {
    let world = World::new();
    put_all(&world, "b c d").await;
    let leases = put_victims(&world, "a").await;
    let view = world.view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&view);
    revoke(&world, &leases[0]);
    until(&view, |state| state.retained().len() == 1).await;
    let state = view.state();
    assert_eq!((shown(&view), retained(&view)), ("a b c d".into(), "a".into()));
    assert_eq!(ids(view.store_snapshot().unwrap().instances()), "b c d");
    assert_eq!(ids(state.available()), "b c d", "the retained one is a standby");
    assert!(view.status().is_live());
    let retained_for = until_none_is_retained(&view).await;
    assert!((HOLD_TIME..=HOLD_TIME + TICK).contains(&retained_for), "{retained_for:?}");
    assert_eq!(monitor.shown(), ["a b c d", "b c d"]);
    assert_eq!(world.spy.loads(), 1, "retention needs no load");
}

#[tokio::test(start_paused = true)]
async fn the_hold_time_follows_the_ttl_of_the_record() {
    for (ttl, hold) in [(2, 2_000), (6, 3_000), (15, 6_000), (60, 6_000)] {
        let world = World::new();
        put_all(&world, "b c d").await;
        let owner = World::over(world.store.clone());
        let options = RegistrationOptions::default().with_ttl(secs(ttl));
        let _registration = owner.try_start(node("a"), options).await.unwrap();
        let view = world.view(DiscoveryOptions::default()).await;
        owner.link.inject(Fault::Outage); // it crashes
        until(&view, |state| state.retained().len() == 1).await;
        let retained_for = until_none_is_retained(&view).await;
        assert!(
            (millis(hold)..=millis(hold) + TICK).contains(&retained_for),
            "ttl {ttl} s: {retained_for:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_mass_deletion_on_a_healthy_watch_is_retained_for_the_full_hold_time() {
    let world = World::new();
    put_all(&world, "d").await;
    let leases = put_victims(&world, "a b c").await;
    let view = world.view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&view);
    for lease in &leases {
        revoke(&world, lease);
    }
    until(&view, |state| state.retained().len() == 3).await;
    assert_eq!(
        ids(view.state().available()),
        "a b c d",
        "the only listed instance must not receive all calls"
    );
    let retained_for = until_none_is_retained(&view).await;
    assert!((FULL_HOLD_TIME..=FULL_HOLD_TIME + TICK).contains(&retained_for), "{retained_for:?}");
    assert_eq!(monitor.shown(), ["a b c d", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_ends_the_retention_of_that_incarnation_only() {
    let world = World::new();
    let leases = put_victims(&world, "a b").await;
    let view = world.view(DiscoveryOptions::default()).await;
    let report = |n: usize| {
        let lease = &leases[n];
        view.report(lease.instance().id(), Some(lease.id()), Failure::Refused);
    };
    report(0);
    advance(TICK).await;
    world.store.evict(&service());
    until(&view, |state| state.retained().len() == 2).await;
    advance(TICK).await;
    assert_eq!(retained(&view), "a b", "the report was from before the deletion");
    view.report(leases[0].instance().id(), Some(leases[1].id()), Failure::Refused);
    advance(TICK).await;
    assert_eq!(retained(&view), "a b", "another incarnation was refused");
    report(0);
    advance(TICK).await;
    assert_eq!((retained(&view), shown(&view)), ("b".into(), "b".into()));
}

#[tokio::test(start_paused = true)]
async fn the_last_instance_of_a_service_is_retained_for_the_full_hold_time() {
    let world = World::new();
    put_victims(&world, "a").await;
    let view = world.view(DiscoveryOptions::default()).await;
    world.store.evict(&service());
    until(&view, |state| state.retained().len() == 1).await;
    assert_eq!(ids(view.state().available()), "a");
    let retained_for = until_none_is_retained(&view).await;
    assert!((FULL_HOLD_TIME..=FULL_HOLD_TIME + TICK).contains(&retained_for), "{retained_for:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_of_a_quarter_at_a_time_is_retained_for_the_regular_hold_time() {
    let world = World::new();
    let leases = put_victims(&world, "a b c d e f g h").await;
    let view = world.view(DiscoveryOptions::default()).await;
    for pair in leases.chunks(2) {
        for lease in pair {
            revoke(&world, lease);
        }
        for lease in pair {
            world.put(&format!("{}-new", lease.instance().id())).await;
        }
        advance(millis(500)).await;
    }
    let retained_for = until_none_is_retained(&view).await;
    assert!(retained_for <= HOLD_TIME, "{retained_for:?}");
}

#[tokio::test(start_paused = true)]
async fn after_trouble_a_single_deletion_is_retained_for_the_full_hold_time() {
    let world = World::new();
    put_all(&world, "b c d e f").await;
    let view = world.view(DiscoveryOptions::default()).await;
    trouble(&world, &view).await;
    let leases = put_victims(&world, "a").await;
    until_shown(&view, "a b c d e f").await;
    revoke(&world, &leases[0]);
    until(&view, |state| state.retained().len() == 1).await;
    let retained_for = until_none_is_retained(&view).await;
    assert!((FULL_HOLD_TIME..=FULL_HOLD_TIME + TICK).contains(&retained_for), "{retained_for:?}");
}

/// Regression: after a disruption with a compaction, go-zero removes a deleted instance in 0.3 s; the view took 11.8 s.
#[tokio::test(start_paused = true)]
async fn a_short_disruption_on_the_same_lineage_is_not_trouble_even_after_a_compaction() {
    for fault in [Fault::Cut, Fault::Compaction] {
        let world = World::new();
        put_all(&world, "b c d").await;
        let leases = put_victims(&world, "a").await;
        let view = world.view(DiscoveryOptions::default()).await;
        world.link.inject(Fault::Outage);
        until(&view, |state| !state.status().is_live()).await;
        revoke(&world, &leases[0]);
        world.link.inject(fault);
        world.link.heal();
        until(&view, |state| state.retained().len() == 1).await;
        let retained_for = until_none_is_retained(&view).await;
        assert!(
            (HOLD_TIME..=HOLD_TIME + TICK).contains(&retained_for),
            "{fault:?}: {retained_for:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn another_lineage_is_trouble_even_after_a_short_disruption() {
    let world = World::new();
    put_all(&world, "a b").await;
    let backup = world.store.backup();
    put_victims(&world, "c d e").await;
    let view = world.view(DiscoveryOptions::default()).await;
    world.store.restore(backup);
    until(&view, |state| state.retained().len() == 3).await;
    assert_eq!((shown(&view), retained(&view)), ("a b c d e".into(), "c d e".into()));
    let retained_for = until_none_is_retained(&view).await;
    assert!((FULL_HOLD_TIME..=FULL_HOLD_TIME + TICK).contains(&retained_for), "{retained_for:?}");
}

#[tokio::test(start_paused = true)]
async fn no_hold_time_ends_while_the_store_does_not_answer() {
    let world = World::new();
    put_all(&world, "b c d").await;
    let leases = put_victims(&world, "a").await;
    let view = world.view(DiscoveryOptions::default()).await;
    revoke(&world, &leases[0]);
    until(&view, |state| state.retained().len() == 1).await;
    world.link.inject(Fault::Outage);
    advance(10 * HOLD_TIME).await;
    assert_eq!(retained(&view), "a");
    world.link.heal();
    let retained_for = until_none_is_retained(&view).await;
    assert!(
        retained_for >= FULL_HOLD_TIME,
        "the hold time starts with the recovery: {retained_for:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_listed_again_is_no_longer_retained() {
    let world = World::new();
    put_victims(&world, "a b").await;
    let view = world.view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&view);
    world.store.evict(&service());
    until(&view, |state| state.retained().len() == 2).await;
    advance(TTL / 2).await;
    let moved = node("a").with_address("10.0.0.9:80".parse().unwrap());
    world.put_as(&moved).await;
    until(&view, |state| state.retained().len() == 1).await;
    assert_eq!((shown(&view), retained(&view)), ("a b".into(), "b".into()));
    assert_eq!(view.state().records()[0].instance(), &moved);
    until_none_is_retained(&view).await;
    assert_eq!(shown(&view), "a");
    assert_eq!(monitor.shown(), ["a b", "a"]);
}

/// Regression: after an outage of 20 s, a view showed 0 of 50 live instances with a ttl of 2 s for 3.9 s, and 1 of 50
/// for 5.5 s.
#[tokio::test(start_paused = true)]
async fn no_live_instance_is_missing_after_an_outage_of_any_length() {
    for ttl in [1, 2, 3, 5, 10, 30].map(secs) {
        for outage in [ttl / 2, ttl, 2 * ttl, secs(20), secs(61)] {
            let world = World::new();
            let options = in_background().with_ttl(ttl);
            let mut registrations = Vec::new();
            for n in 0..50 {
                let node = node(&n.to_string());
                registrations.push(world.try_start(node, options.clone()).await.unwrap());
            }
            for registration in &registrations {
                until_active(registration).await;
            }
            let discovery = DiscoveryOptions::default().with_ttl(ttl);
            let near = world.view(discovery.clone()).await;
            // The link of this view works, so it sees the instances expire.
            let far = World::over(world.store.clone()).view(discovery).await;
            let monitors = [Monitor::of(&near), Monitor::of(&far)];
            world.link.inject(Fault::Silence);
            world.spy.intercept(|_| Some(Interception::Hang));
            advance(outage).await;
            // Requests that were sent during the outage stay unanswered after it, as on a dead connection.
            world.link.heal();
            world.spy.stop_intercepting();
            advance(4 * ttl + secs(70)).await;
            for (monitor, name) in monitors.iter().zip(["near", "far"]) {
                let least = monitor.fewest_shown();
                let is_long = outage + Duration::from_secs(6) > 2 * ttl.max(secs(15));
                let expected = if name == "far" && is_long { 0 } else { 50 };
                assert!(least >= expected, "{name}, ttl {ttl:?}, outage {outage:?}: {least}");
            }
            assert_eq!(world.stored().await.len(), 50);
            assert!(near.state().retained().is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_retention_a_view_shows_exactly_what_the_store_lists() {
    let world = World::new();
    put_all(&world, "b c d").await;
    let leases = put_victims(&world, "a").await;
    let view = world.view(no_retention()).await;
    let monitor = Monitor::of(&view);
    world.link.inject(Fault::Outage);
    revoke(&world, &leases[0]);
    world.link.inject(Fault::Compaction);
    world.link.heal();
    until_shown(&view, "b c d").await;
    world.store.evict(&service());
    until_shown(&view, "").await;
    assert!(monitor.seen().iter().all(|(_, state)| state.retained().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn an_unbounded_ttl_does_not_break_a_view() {
    for ttl in [Duration::MAX, Duration::MAX / 2, secs(24 * 3600)] {
        let world = World::new();
        put_all(&world, "a b c d").await;
        let options = DiscoveryOptions::default().with_ttl(ttl);
        let view = world.view(options).await;
        world.link.inject(Fault::Cut);
        until(&view, |state| !state.status().is_live()).await;
        until_live(&view).await;
        world.store.evict(&service());
        until(&view, |state| state.retained().len() == 4).await;
        advance(secs(3600)).await;
        assert!(view.status().is_live());
        assert_eq!(shown(&view), "a b c d", "{ttl:?}");
        world.put("e").await;
        until_shown(&view, "a b c d e").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_zero_counts_as_the_minimum_ttl() {
    let world = World::new();
    put_all(&world, "a b c d").await;
    let ttl = Some(Duration::ZERO);
    let view = world.view(DiscoveryOptions::default().with_ttl(ttl)).await;
    world.link.inject(Fault::Outage);
    until(&view, |state| matches!(state.status(), ViewStatus::Stale { .. })).await;
    let refuse = Interception::Refuse(ErrorKind::Unavailable);
    world.spy.intercept(move |call| matches!(call, Call::Load).then_some(refuse));
    world.store.evict(&service());
    world.link.heal();
    until(&view, |state| state.retained().len() == 4).await;
    let before = world.spy.calls().len();
    advance(secs(10)).await;
    assert_eq!(world.spy.calls().len() - before, 0, "retained instances cause requests");
}
