//! Tests of views: readiness, status, recovery, and closing.

use crate::support::*;
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_engine::{Discovery, DiscoveryOptions, Update, ViewStatus};
use registry_mem::Fault;
use std::error::Error as _;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

#[tokio::test(start_paused = true)]
async fn ready_waits_for_the_first_load_and_a_watch() {
    let world = World::new();
    world.put("a").await;
    world.link.inject(Fault::Latency { min: secs(1), max: secs(1) });
    let start = Instant::now();
    let view = world.discovery(DiscoveryOptions::default()).view(&service());
    let ViewStatus::Loading { since, why: None } = view.status() else { panic!() };
    assert_eq!((since, shown(&view), view.store_snapshot()), (start, String::new(), None));
    ready(&view, secs(5)).await.unwrap();
    assert_eq!(start.elapsed(), secs(2));
    assert!(view.status().is_live());
    assert_eq!(shown(&view), "a");
    assert_eq!(*view.service(), service());
    ready(&view, secs(0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ready_fails_at_its_timeout_with_the_cause_and_the_view_keeps_retrying() {
    for fault in [Fault::Outage, Fault::Silence] {
        let world = World::new();
        world.put("a").await;
        world.link.inject(fault);
        let options = DiscoveryOptions::default().with_timeout(secs(2));
        let view = world.discovery(options).view(&service());
        let start = Instant::now();
        let error = ready(&view, secs(3)).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (ErrorKind::Unavailable, secs(3)));
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("down") || cause.contains("did not answer"), "{cause}");
        world.link.heal();
        ready(&view, MAX_BACKOFF + secs(2)).await.unwrap();
        assert_eq!(shown(&view), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn ready_returns_a_permanent_error_at_once_and_succeeds_once_the_cause_is_corrected() {
    for kind in [ErrorKind::Denied, ErrorKind::Invalid] {
        let world = World::new();
        world.spy.intercept(move |call| {
            matches!(call, Call::Load).then_some(Interception::Refuse(kind))
        });
        let view = world.discovery(DiscoveryOptions::default()).view(&service());
        let start = Instant::now();
        let error = ready(&view, secs(60)).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (kind, secs(0)));
        assert!(error.source().is_some());
        world.spy.stop_intercepting();
        until_live(&view).await;
        assert!(start.elapsed() <= MAX_BACKOFF);
        ready(&view, secs(0)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn several_changes_between_two_calls_are_reported_as_one() {
    let world = World::new();
    let mut view = world.view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&view);
    let before = monitor.seen().len();
    while view.changed().now_or_never().is_some() {}
    for id in ["a", "b", "c"] {
        world.put(id).await;
    }
    within(view.changed()).await.unwrap();
    assert_eq!(shown(&view), "a b c");
    assert!(timeout(secs(60), view.changed()).await.is_err(), "a second change was reported");
    assert_eq!(monitor.seen().len() - before, 1, "the burst was published more than once");
}

#[tokio::test(start_paused = true)]
async fn changed_reports_changes_since_it_last_returned() {
    let world = World::new();
    let mut view = world.view(DiscoveryOptions::default()).await;
    while view.changed().now_or_never().is_some() {}
    let mut clone = view.clone();
    world.put("a").await;
    until_shown(&view, "a").await;
    assert!(view.changed().now_or_never().is_some(), "the change before the call was not reported");
    assert!(clone.changed().now_or_never().is_some(), "the clone did not report the change");
    assert!(view.changed().now_or_never().is_none());
    // All waiting handles are woken.
    let waiting = (0..10).map(|_| {
        let mut view = view.clone();
        tokio::spawn(async move { view.changed().await.unwrap() })
    });
    let waiting: Vec<_> = waiting.collect();
    advance(millis(1)).await;
    world.put("b").await;
    for task in waiting {
        within(task).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn changed_reports_the_status_and_a_stale_view_has_an_age_and_a_reason() {
    let world = World::new();
    world.put("a").await;
    let mut view = world.view(DiscoveryOptions::default()).await;
    while view.changed().now_or_never().is_some() {}
    advance(secs(100)).await;
    assert_eq!(view.staleness(), secs(0));
    world.link.inject(Fault::Outage);
    let down = Instant::now();
    within(view.changed()).await.unwrap();
    let ViewStatus::Stale { since, why: error } = view.status() else { panic!() };
    assert_eq!((since, error.kind()), (down, ErrorKind::Unavailable));
    advance(secs(7)).await;
    assert_eq!(view.staleness(), secs(7));
    assert_eq!(shown(&view), "a");
    advance(secs(3600)).await;
    let ViewStatus::Stale { since, .. } = view.status() else { panic!() };
    assert_eq!((since, shown(&view)), (down, "a".into()), "the outage changed the instances");

    world.link.heal();
    let healed = Instant::now();
    within(async {
        while !view.status().is_live() {
            view.changed().await.unwrap(); // each failed attempt may report a different error
        }
    })
    .await;
    assert!(healed.elapsed() <= MAX_BACKOFF + TICK);
    assert_eq!(view.staleness(), secs(0));
}

#[tokio::test(start_paused = true)]
async fn a_cut_watch_is_resumed_from_its_last_cursor() {
    let world = World::new();
    world.put("a").await;
    let view = world.view(DiscoveryOptions::default()).await;
    for (n, id) in ["b", "c", "d"].into_iter().enumerate() {
        world.put(id).await;
        until(&view, |state| state.instances().len() == n + 2).await;
        let known = view.store_snapshot().unwrap();
        world.link.inject(Fault::Cut);
        until(&view, |state| !state.status().is_live()).await;
        until_live(&view).await;
        assert_eq!(world.spy.watches().last(), Some(known.cursor()));
    }
    assert_eq!((world.spy.loads(), world.spy.open_watches()), (1, 1));
    assert_eq!(world.link.hits().watches_ended, 3);
}

#[tokio::test(start_paused = true)]
async fn a_view_is_live_again_once_it_has_received_all_missed_changes() {
    let world = World::new();
    world.put("a").await;
    let view = world.view(DiscoveryOptions::default()).await;
    world.link.inject(Fault::Outage);
    until(&view, |state| !state.status().is_live()).await;
    for id in ["b", "c", "d"] {
        world.put(id).await;
    }
    let monitor = Monitor::of(&view);
    world.link.heal();
    world.link.inject(Fault::SlowWatch { delay: secs(1) });
    until_live(&view).await;
    let live = monitor.seen().into_iter().filter(|(_, state)| state.status().is_live());
    let shown: Vec<_> = live.map(|(_, state)| ids(state.instances())).collect();
    assert_eq!(shown, ["a b c d"]);
    assert!(monitor.shown().contains(&"a b".to_owned()), "changes were not shown as they arrived");
}

/// Regression: retention ended before the view read the new registration, so the instance vanished.
#[tokio::test(start_paused = true)]
async fn an_instance_that_was_registered_again_during_a_disruption_stays_in_the_view() {
    let world = World::new();
    for id in ["a", "b", "c", "d"] {
        world.put(id).await;
    }
    let view = world.view(DiscoveryOptions::default()).await;
    let lease = world.put("e").await;
    until_shown(&view, "a b c d e").await;
    world.store.revoke(lease.id());
    until(&view, |state| !state.retained().is_empty()).await;
    advance(secs(5)).await; // 1 s before the hold time ends
    let monitor = Monitor::of(&view);
    world.link.inject(Fault::Outage);
    world.put("f").await;
    world.put("e").await;
    advance(secs(2)).await;
    world.link.heal();
    world.link.inject(Fault::SlowWatch { delay: secs(1) });
    until_live(&view).await;
    assert_eq!((shown(&view), retained(&view)), ("a b c d e f".into(), String::new()));
    assert_eq!(monitor.fewest_shown(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_reload_after_a_compaction_publishes_one_state() {
    for options in [no_retention(), DiscoveryOptions::default()] {
        let world = World::new();
        let lease = world.put("a").await;
        world.put("b").await;
        let view = world.view(options.clone()).await;
        let mut updates = changes(&view);
        let Update::Reset(first) = within(updates.next()).await.unwrap() else { panic!() };
        let monitor = Monitor::of(&view);
        world.link.inject(Fault::Outage);
        advance(secs(1)).await;
        world.store.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
        world.put("c").await;
        world.put("d").await;
        world.link.inject(Fault::Compaction);
        world.link.heal();
        until(&view, |state| state.status().is_live() && state.instances().len() > 2).await;
        let new = if options.retain { "a b c d" } else { "b c d" };
        assert_eq!(monitor.shown(), ["a b", new]);
        assert_eq!((ids(first.instances()), world.spy.loads()), ("a b".into(), 2));
        let Update::Reset(second) = within(updates.next()).await.unwrap() else { panic!() };
        assert_eq!(ids(second.instances()), "b c d", "the reset contains the retained instance");
        assert!(updates.next().now_or_never().is_none());
        assert_eq!(world.link.hits().compactions, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_watch_survives_a_compaction() {
    let world = World::new();
    world.put("a").await;
    let view = world.view(DiscoveryOptions::default()).await;
    world.link.inject(Fault::Compaction);
    world.put("b").await;
    until_shown(&view, "a b").await;
    assert_eq!((world.spy.loads(), world.spy.watches().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_view_retains_the_instances_that_a_rollback_lost() {
    let world = World::new();
    world.put("a").await;
    world.link.inject(Fault::Checkpoint);
    world.put("b").await;
    world.put("c").await;
    let view = world.view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&view);
    let start = Instant::now();
    world.link.inject(Fault::Rollback);
    assert_eq!(world.stored_ids().await, "a");
    until(&view, |state| state.status().is_live() && !state.retained().is_empty()).await;
    assert_eq!(start.elapsed(), secs(0), "the service was not loaded at once");
    assert_eq!((shown(&view), retained(&view)), ("a b c".into(), "b c".into()));
    assert_eq!(ids(view.store_snapshot().unwrap().instances()), "a");
    advance(secs(600)).await;
    assert_eq!(
        monitor.shown(),
        ["a b c"],
        "retained instances were dropped before their ttl of a day"
    );
}

#[tokio::test(start_paused = true)]
async fn all_views_of_a_service_share_one_watch() {
    let world = World::new();
    let discovery = world.discovery(DiscoveryOptions::default());
    let views: Vec<_> = (0..100).map(|_| discovery.clone().view(&service())).collect();
    let clones: Vec<_> = views.clone();
    for view in views.iter().chain(&clones) {
        ready(view, secs(5)).await.unwrap();
    }
    let calls = (world.spy.loads(), world.spy.watches().len(), world.spy.open_watches());
    assert_eq!(calls, (1, 1, 1));
    let tasks = Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks, 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_closes_with_the_last_handle_of_any_kind() {
    let world = World::new();
    world.put("a").await;
    let discovery = world.discovery(DiscoveryOptions::default());
    for _ in 0..3 {
        let view = discovery.view(&service());
        ready(&view, secs(5)).await.unwrap();
        let (clone, mut reader, mut updates) = (view.clone(), view.reader(), changes(&view));
        drop(view);
        drop(clone);
        advance(secs(1)).await;
        assert_eq!(world.spy.open_watches(), 1, "the watch closed despite a reader and a stream");
        assert_eq!(reader.state().instances().len(), 1);
        drop(reader);
        advance(secs(1)).await;
        assert_eq!(world.spy.open_watches(), 1, "the watch closed despite a stream");
        assert!(matches!(within(updates.next()).await, Some(Update::Reset(_))));
        let lease = world.put("b").await;
        assert!(matches!(within(updates.next()).await, Some(Update::Batch(_))));
        world.store.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
        drop(updates);
        advance(millis(1)).await;
        assert_eq!(world.spy.open_watches(), 0);
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
    assert_eq!(world.spy.watches().len(), 3, "the views did not open one watch each");
}

#[tokio::test(start_paused = true)]
async fn a_view_outlives_its_discovery() {
    let world = World::new();
    let view = world.view(DiscoveryOptions::default()).await; // its discovery is dropped
    world.put("a").await;
    until_shown(&view, "a").await;
    drop(view);
    advance(millis(1)).await;
    assert_eq!(world.spy.open_watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn two_discoveries_and_two_services_are_independent() {
    let world = World::new();
    let other = "user.rpc2".parse().unwrap();
    let views = [
        world.discovery(DiscoveryOptions::default()).view(&service()),
        world.discovery(DiscoveryOptions::default()).view(&service()),
        Discovery::new(world.spy.clone(), DiscoveryOptions::default()).view(&other),
    ];
    for view in &views {
        ready(view, secs(5)).await.unwrap();
    }
    assert_eq!(world.spy.open_watches(), 3);
    let [one, two, other] = views;
    drop(one);
    advance(millis(1)).await;
    assert_eq!(world.spy.open_watches(), 2);
    world.put("a").await;
    until_shown(&two, "a").await;
    assert_eq!(shown(&other), "");
}

#[test]
fn a_view_whose_runtime_was_shut_down_is_closed() {
    let world = World::new();
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let first = runtime().unwrap();
    let view = first.block_on(world.view(DiscoveryOptions::default()));
    assert!(view.status().is_live());
    let updates = view.updates();
    drop(first);
    assert!(!view.status().is_live());
    // The end is reported once as a change. Then waits fail at once.
    let mut clone = view.clone();
    let (ready, changed) = runtime().unwrap().block_on(async {
        within(clone.changed()).await.unwrap();
        (ready(&view, secs(1)).await, within(clone.changed()).await)
    });
    assert_eq!(ready.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(changed.unwrap_err().kind(), ErrorKind::Closed);
    let updates = runtime().unwrap().block_on(within(updates.collect::<Vec<_>>()));
    let [Update::Reset(_), Update::Status(last)] = &updates[..] else { panic!("{updates:?}") };
    assert_eq!(last.error().unwrap().kind(), ErrorKind::Closed);
}
