//! What a view keeps that the store stopped listing, for how long, and how it says so.

use crate::support::*;
use registry_core::{CallOptions, ErrorKind, Lease, Registry};
use registry_engine::{DiscoveryOptions, View};
use registry_mem::Fault;
use std::time::Duration;
use tokio::time::Instant;

const MIN_HOLD_TIME: Duration = Duration::from_secs(30);

async fn put_all(world: &World, ids: &str) -> Vec<Lease> {
    let mut leases = Vec::new();
    for id in ids.split(' ') {
        leases.push(world.put(id).await);
    }
    leases
}

/// Trouble that is over before anything else happens.
async fn trouble(world: &World, view: &View) {
    world.link.inject(Fault::Cut);
    until(view, |state| !state.status().is_live()).await;
    until_live(view).await;
    assert_eq!(world.link.hits().watches_ended, 1);
}

/// The view is cut off, `lease` goes meanwhile, and its deletion cannot be read any more.
async fn lose_while_away(world: &World, view: &View, lease: &Lease) {
    world.link.inject(Fault::Outage);
    until(view, |state| !state.status().is_live()).await;
    world.store.deregister(lease, &CallOptions::DEFAULT).await.unwrap();
    world.link.inject(Fault::Compaction);
    world.link.heal();
    until(view, |state| !state.retained().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn on_a_healthy_watch_every_deletion_applies_at_once() {
    let world = World::new();
    put_all(&world, "a b c d").await;
    let view = world.view(DiscoveryOptions::default()).await;
    pass(secs(1)).await;
    let start = Instant::now();
    world.store.evict(&service());
    until_shown(&view, "").await;
    assert_eq!((start.elapsed(), retained(&view)), (secs(0), String::new()));
    assert_eq!(world.spy.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_instance_missing_from_a_reload_is_retained_until_a_second_load_one_ttl_later() {
    let world = World::new();
    let leases = put_all(&world, "a b c").await;
    let view = world.view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&view);
    lose_while_away(&world, &view, &leases[0]).await;
    let since = Instant::now();
    assert_eq!((shown(&view), retained(&view)), ("a b c".into(), "a".into()));
    assert_eq!(view.state().retained()[0].since, since);
    assert_eq!(ids(view.store_snapshot().unwrap().instances()), "b c");
    let loads = world.spy.loads();

    until_shown(&view, "b c").await;
    let held = since.elapsed();
    assert!((TTL..=TTL + TICK).contains(&held), "{held:?}");
    assert_eq!(world.spy.loads() - loads, 1, "the reload was the first of the two");
    assert_eq!(monitor.shown(), ["a b c", "b c"]);
    pass(secs(600)).await;
    assert_eq!(world.spy.loads() - loads, 1, "then there is nothing to ask");
}

#[tokio::test(start_paused = true)]
async fn a_mass_deletion_after_trouble_is_retained_until_two_loads_one_ttl_apart() {
    let world = World::new();
    put_all(&world, "a b c d").await;
    let view = world.view(DiscoveryOptions::default()).await;
    trouble(&world, &view).await;
    pass(TTL * 99 / 100).await;
    let (since, loads) = (Instant::now(), world.spy.loads());
    world.store.evict(&service());
    until(&view, |state| state.retained().len() == 4).await;
    assert_eq!(shown(&view), "a b c d");
    assert!(view.store_snapshot().unwrap().records().is_empty());
    assert!(view.status().is_live(), "it is not stale, it is suspicious");
    until_shown(&view, "").await;
    let held = since.elapsed();
    assert!((TTL..=TTL + TICK).contains(&held), "{held:?}");
    assert_eq!(world.spy.loads(), loads + 2);
}

#[tokio::test(start_paused = true)]
async fn a_mass_deletion_one_ttl_after_trouble_applies_at_once() {
    let world = World::new();
    put_all(&world, "a b c d").await;
    let view = world.view(DiscoveryOptions::default()).await;
    trouble(&world, &view).await;
    pass(TTL + TICK).await;
    let start = Instant::now();
    world.store.evict(&service());
    until_shown(&view, "").await;
    assert_eq!(start.elapsed(), secs(0));
    assert!(view.state().retained().is_empty());
}

#[tokio::test(start_paused = true)]
async fn less_than_half_deleted_after_trouble_applies_at_once_and_half_does_not() {
    let world = World::new();
    let leases = put_all(&world, "a b c d").await;
    let view = world.view(DiscoveryOptions::default()).await;
    trouble(&world, &view).await;
    let start = Instant::now();
    world.store.deregister(&leases[0], &CallOptions::DEFAULT).await.unwrap();
    until_shown(&view, "b c d").await;
    assert_eq!(start.elapsed(), secs(0));
    world.store.deregister(&leases[1], &CallOptions::DEFAULT).await.unwrap();
    until(&view, |state| state.retained().len() == 2).await;
    assert_eq!(shown(&view), "a b c d");
}

#[tokio::test(start_paused = true)]
async fn two_of_ten_instances_that_registered_during_trouble_are_deleted_at_once() {
    // The view opens while the store is down, and so knows of none when the trouble begins.
    let world = World::new();
    let leases = put_all(&world, "a b c d e f g h i j").await;
    world.link.inject(Fault::Outage);
    let view = world.discovery(DiscoveryOptions::default()).view(&service());
    until(&view, |state| matches!(state.status(), registry_engine::ViewStatus::Stale { .. })).await;
    world.link.heal();
    until_live(&view).await;
    assert!(world.link.hits().calls_refused > 0);
    for lease in &leases[..2] {
        world.store.deregister(lease, &CallOptions::DEFAULT).await.unwrap();
    }
    until(&view, |state| state.store_snapshot().unwrap().instances().len() == 8).await;
    assert_eq!(shown(&view), "c d e f g h i j", "2 of 10 is not half");
}

#[tokio::test(start_paused = true)]
async fn retention_lasts_at_most_two_ttls_or_30_s_while_no_load_succeeds() {
    for (ttl, limit) in [(TTL, MIN_HOLD_TIME), (secs(20), secs(40)), (secs(1), MIN_HOLD_TIME)] {
        let world = World::new();
        put_all(&world, "a b c d").await;
        let view =
            world.view(DiscoveryOptions { ttl: Some(ttl), ..DiscoveryOptions::default() }).await;
        trouble(&world, &view).await;
        let refuse = Twist::Refuse(ErrorKind::Unavailable);
        world.spy.twist(move |call| matches!(call, Call::Load).then_some(refuse));
        let (since, loads) = (Instant::now(), world.spy.loads());
        world.store.evict(&service());
        until_shown(&view, "").await;
        let held = since.elapsed();
        assert!((limit..=limit + TICK).contains(&held), "{ttl:?}: {held:?}");
        let asked = world.spy.loads() - loads;
        let most = usize::try_from(limit.as_secs() / ttl.as_secs()).unwrap() + 1;
        assert!((most - 1..=most).contains(&asked), "once in a ttl: {asked} in {limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retention_lasts_at_most_30_s_although_trouble_recurs() {
    let world = World::new();
    let leases = put_all(&world, "a b c").await;
    let view = world.view(DiscoveryOptions::default()).await;
    lose_while_away(&world, &view, &leases[0]).await;
    let since = view.state().retained()[0].since;
    let cut = async {
        loop {
            pass(TTL / 2).await;
            world.link.inject(Fault::Cut);
        }
    };
    tokio::select! {
        () = until_shown(&view, "b c") => {}
        () = cut => {}
    }
    let held = since.elapsed();
    assert!((MIN_HOLD_TIME..=MIN_HOLD_TIME + TICK).contains(&held), "{held:?}");
    assert!(world.link.hits().watches_ended >= 5);
}

#[tokio::test(start_paused = true)]
async fn new_trouble_restarts_the_confirmation() {
    let world = World::new();
    let leases = put_all(&world, "a b c").await;
    let view = world.view(DiscoveryOptions::default()).await;
    lose_while_away(&world, &view, &leases[0]).await;
    pass(TTL / 2).await;
    let cut = Instant::now();
    world.link.inject(Fault::Cut);
    until_shown(&view, "b c").await;
    let held = cut.elapsed();
    assert!(held >= TTL && held <= TTL + millis(100) + TICK, "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_returns_is_neither_retained_nor_dropped() {
    let world = World::new();
    put_all(&world, "a b").await;
    let view = world.view(DiscoveryOptions::default()).await;
    trouble(&world, &view).await;
    let monitor = Monitor::of(&view);
    world.store.evict(&service());
    until(&view, |state| state.retained().len() == 2).await;
    pass(TTL / 2).await;
    let moved = node("a").with_address("10.0.0.9:80".parse().unwrap());
    world.put_as(&moved).await;
    until(&view, |state| state.retained().len() == 1).await;
    assert_eq!((shown(&view), retained(&view)), ("a b".into(), "b".into()));
    assert_eq!(view.state().records()[0].instance(), &moved);
    until_shown(&view, "a").await;
    pass(secs(60)).await;
    assert_eq!(shown(&view), "a");
    assert_eq!(monitor.shown(), ["a b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_expired_in_an_outage_returns_with_its_owner() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    let near = world.view(DiscoveryOptions::default()).await;
    let far = World::over(world.store.clone()).view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&near);
    world.link.inject(Fault::Outage);
    until_shown(&far, "").await; // its watch is healthy, and it is right to drop it
    pass(3 * TTL).await;
    assert_eq!(monitor.shown(), ["a"]);
    world.link.heal();
    until_active(&registration).await;
    until_shown(&far, "a").await;
    until_live(&near).await;
    until_shown(&near, "a").await;
    // One alone is not protected on a watch that was resumed, since the last may always leave.
    assert!(monitor.seen().iter().filter(|(_, p)| p.records().is_empty()).count() <= 2);
    pass(3 * TTL).await;
    assert_eq!((shown(&near), retained(&near)), ("a".into(), String::new()));
}

#[tokio::test(start_paused = true)]
async fn without_retention_a_view_shows_exactly_what_the_store_lists() {
    let world = World::new();
    let leases = put_all(&world, "a b c d").await;
    let view = world.view(no_retention()).await;
    let monitor = Monitor::of(&view);
    world.link.inject(Fault::Outage);
    world.store.deregister(&leases[0], &CallOptions::DEFAULT).await.unwrap();
    world.link.inject(Fault::Compaction);
    world.link.heal();
    until_shown(&view, "b c d").await;
    world.store.evict(&service());
    until_shown(&view, "").await;
    assert!(monitor.seen().iter().all(|(_, state)| state.retained().is_empty()));
    pass(secs(60)).await;
    assert_eq!(world.spy.loads(), 2, "there is nothing to confirm");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_confirms_no_deletion_is_not_reported_as_a_change() {
    let world = World::new();
    put_all(&world, "a b c d").await;
    let view = world.view(DiscoveryOptions::default()).await;
    trouble(&world, &view).await;
    let monitor = Monitor::of(&view);
    let before = monitor.seen().len();
    world.store.evict(&service());
    until(&view, |state| state.retained().len() == 4).await;
    pass(TTL / 2).await;
    assert_eq!(monitor.seen().len() - before, 1, "the first of the two loads changed nothing");
}

#[tokio::test(start_paused = true)]
async fn an_unbounded_ttl_ends_no_view() {
    for ttl in [Duration::MAX, Duration::MAX / 2, secs(24 * 3600)] {
        let world = World::new();
        put_all(&world, "a b c d").await;
        let view =
            world.view(DiscoveryOptions { ttl: Some(ttl), ..DiscoveryOptions::default() }).await;
        trouble(&world, &view).await;
        world.store.evict(&service());
        until(&view, |state| state.retained().len() == 4).await;
        pass(secs(3600)).await;
        assert!(view.status().is_live());
        assert_eq!(shown(&view), "a b c d", "{ttl:?}");
        world.put("e").await;
        until_shown(&view, "a b c d e").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_zero_is_no_hot_loop() {
    let world = World::new();
    put_all(&world, "a b c d").await;
    let ttl = Duration::ZERO;
    let view = world.view(DiscoveryOptions { ttl: Some(ttl), ..DiscoveryOptions::default() }).await;
    world.link.inject(Fault::Outage);
    until(&view, |state| !state.status().is_live()).await;
    let refuse = Twist::Refuse(ErrorKind::Unavailable);
    world.spy.twist(move |call| matches!(call, Call::Load).then_some(refuse));
    world.store.evict(&service());
    world.link.heal();
    until(&view, |state| state.retained().len() == 4).await;
    let before = world.spy.loads();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let loads = world.spy.loads() - before;
    assert!(loads < 10, "{loads} at one time");
    pass(secs(10)).await;
    let loads = world.spy.loads() - before;
    assert!((50..=101).contains(&loads), "{loads}: it counts as the shortest ttl there is");
}
