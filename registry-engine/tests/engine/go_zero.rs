//! Schedules that break go-zero's discovery: they must not break this engine.

use crate::support::*;
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, ErrorKind, Registry, ServiceName};
use registry_engine::{
    Discovery, DiscoveryOptions, Registration, RegistrationStatus, Update, View, ViewStatus,
};
use registry_mem::Fault;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

async fn three(world: &World) -> Vec<Registration> {
    let mut registrations = Vec::new();
    for id in ["a", "b", "c"] {
        registrations.push(world.try_start(node(id), eager()).await.unwrap());
    }
    registrations
}

/// Asserts that a view always shows three instances during and after an outage that ends with `heal`.
async fn assert_never_less_than_three(outage: Duration, heal: impl FnOnce(&World)) {
    let world = World::new();
    let registrations = three(&world).await;
    let view = world.view(DiscoveryOptions::default()).await;
    advance(2 * TTL).await;
    world.link.inject(Fault::Checkpoint);
    let monitor = Monitor::of(&view);
    world.link.inject(Fault::Outage);
    advance(outage).await;
    heal(&world);
    world.link.heal();
    advance(MAX_BACKOFF + TTL / 2).await;
    assert_eq!(world.stored_ids().await, "a b c");
    assert!(registrations.iter().all(|registration| registration.status().is_active()));
    advance(10 * TTL).await;
    assert_eq!(monitor.fewest_shown(), 3, "{outage:?}: {:?}", monitor.shown());
    assert_eq!(monitor.shown(), ["a b c"]);
    assert_eq!((retained(&view), view.status().is_live()), (String::new(), true));
    assert!(world.link.hits().calls_refused > 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_without_data_loss_never_empties_a_view() {
    for outage in [5, 15, 25, 120] {
        // The server restarts, and its leases start again with their whole ttl.
        assert_never_less_than_three(secs(outage), |world| {
            world.link.inject(Fault::Rollback);
            assert_eq!(world.link.hits().rollbacks, 1);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_outage_in_which_all_leases_expire_never_empties_a_view() {
    for outage in [5, 15, 25, 120] {
        assert_never_less_than_three(secs(outage), |_| {}).await;
        // The same if a compaction removes the deletions from the history.
        assert_never_less_than_three(secs(outage), |world| {
            world.link.inject(Fault::Compaction);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_half_a_ttl_loses_no_lease_with_the_default_backoff() {
    let world = World::new();
    let mut registrations = Vec::new();
    for n in 0..300 {
        registrations.push(world.start(node(&n.to_string())).await);
    }
    advance(6 * TTL).await;
    world.link.inject(Fault::Outage);
    advance(TTL / 2).await;
    world.link.heal();
    advance(2 * TTL).await;
    // The store answers again at least a second before the first lease expires.
    assert_eq!(world.spy.claims().len() - 300, 0, "leases expired although the store answered");
}

#[tokio::test(start_paused = true)]
async fn wiped_data_never_empties_a_view() {
    let world = World::new();
    let registrations = three(&world).await;
    let view = world.view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&view);
    for _ in 0..3 {
        world.link.inject(Fault::Outage);
        advance(secs(15)).await;
        world.link.inject(Fault::Rollback); // without a checkpoint: to an empty store
        world.link.heal();
        advance(3 * TTL).await;
        assert_eq!(world.stored_ids().await, "a b c");
        assert!(registrations.iter().all(|registration| registration.status().is_active()));
    }
    assert_eq!((monitor.shown(), world.link.hits().rollbacks), (vec!["a b c".to_owned()], 3));
}

#[tokio::test(start_paused = true)]
async fn disconnects_with_compactions_leave_one_record_and_none_after_stop() {
    let world = World::new();
    let registration = world.try_start(node("a"), eager()).await.unwrap();
    let view = world.view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&view);
    for round in 1..=4 {
        world.link.inject(Fault::Outage);
        advance(millis(1_500)).await;
        let other = world.put_as(&node_of(&"other".parse().unwrap(), "x")).await;
        world.link.inject(Fault::Compaction);
        world.store.deregister(&other, &CallOptions::DEFAULT).await.unwrap();
        world.link.heal();
        advance(2 * TTL).await;
        assert_eq!(world.stored_ids().await, "a");
        assert_eq!(world.link.hits().compactions, round);
    }
    assert_eq!(monitor.shown(), ["a"]);
    let leases = world.spy.calls().into_iter().filter_map(|(_, call)| match call {
        Call::KeepAlive(lease) => Some(lease.id()),
        Call::Register(_, claim) => Some(claim.lease()),
        _ => None,
    });
    let mut leases: Vec<_> = leases.collect();
    leases.dedup();
    assert_eq!(leases.len(), 1, "the lease id changed");
    within(registration.stop()).await.unwrap();
    assert_eq!(world.stored_ids().await, "");
    advance(10 * TTL).await;
    assert_eq!(world.stored_ids().await, "");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_renewal_is_abandoned_before_the_lease_expires() {
    // New connections work, but requests in flight are never answered. Silent watches are tested with the stores, which
    // see the connection (`registry-etcd` and `registry-redis`).
    let world = World::new();
    let registration = world.start(node("a")).await;
    let view = world.view(DiscoveryOptions::default()).await;
    let monitor = Monitor::of(&view);
    let mut n = 0;
    world.spy.intercept(move |call| {
        n += u32::from(matches!(call, Call::KeepAlive(_)));
        (matches!(call, Call::KeepAlive(_)) && n % 2 == 1).then_some(Interception::Hang)
    });
    advance(20 * TTL).await;
    assert_eq!(monitor.shown(), ["a"]);
    assert!(registration.status().is_active());
    assert_eq!(world.spy.claims().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_any_silence_a_registration_returns_within_backoff_and_timeout() {
    for silence in [secs(8), secs(90), secs(3600)] {
        let world = World::new();
        let registration = world.start(node("a")).await;
        let view = world.view(DiscoveryOptions::default()).await;
        world.link.inject(Fault::Silence);
        advance(silence).await;
        let lapsed = matches!(registration.status(), RegistrationStatus::Retrying { .. });
        assert_eq!(lapsed, silence > TTL, "the status is wrong");
        world.link.heal();
        let healed = Instant::now();
        until_active(&registration).await;
        until_shown(&view, "a").await;
        until_live(&view).await;
        assert!(healed.elapsed() <= MAX_BACKOFF + secs(5), "{:?}", healed.elapsed());
        assert!(world.link.hits().calls_silenced > 0 && world.link.hits().watches_silenced >= 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_load_or_watch_is_reported_in_the_status_of_the_view() {
    for watch in [false, true] {
        let world = World::new();
        world.put("a").await;
        world.spy.intercept(move |call| match call {
            Call::Load if !watch => Some(Interception::Hang),
            Call::Watch(_) if watch => Some(Interception::Hang),
            _ => None,
        });
        let view = world.discovery(DiscoveryOptions::default()).view(&service());
        let start = Instant::now();
        until(&view, |state| state.status().error().is_some()).await;
        assert_eq!(
            matches!(view.status(), ViewStatus::Stale { .. }),
            watch,
            "without a load: loading"
        );
        assert!((secs(10)..=secs(10) + TICK).contains(&start.elapsed()));
        world.spy.stop_intercepting();
        until_live(&view).await;
        assert_eq!(shown(&view), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_moved_while_no_watch_was_open_is_replaced_in_one_step() {
    for compacted in [false, true] {
        let world = World::new();
        let old = node("a");
        let new = old.clone().with_address("10.0.0.100:80".parse().unwrap());
        let lease = world.put_as(&old).await;
        world.put("b").await;
        let view = world.view(DiscoveryOptions::default()).await;
        let monitor = Monitor::of(&view);
        world.link.inject(Fault::Outage);
        advance(secs(5)).await;
        world.store.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
        world.put_as(&new).await;
        if compacted {
            world.link.inject(Fault::Compaction);
        }
        world.link.heal();
        advance(secs(60)).await;
        let addresses = |id: &str| {
            let seen = monitor.seen().into_iter();
            let mut seen: Vec<_> = seen
                .map(|(_, p)| p.records().find(id).map(|node| node.instance().address().clone()))
                .collect();
            seen.dedup();
            seen
        };
        let (before, after) = (Some(old.address().clone()), Some(new.address().clone()));
        assert_eq!(addresses("a"), [before.clone(), after], "compacted: {compacted}");
        assert_eq!(addresses("b"), [before]);
        assert_eq!(retained(&view), "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_closed_right_after_its_opening_can_be_opened_again() {
    let world = World::new();
    let names: Vec<ServiceName> = (0..200).map(|n| format!("s{n}").parse().unwrap()).collect();
    for name in &names {
        world.put_as(&node_of(name, "a")).await;
    }
    let discovery = world.discovery(DiscoveryOptions::default());
    for (n, name) in names.iter().enumerate() {
        let view = discovery.view(name);
        if n % 3 == 1 {
            tokio::task::yield_now().await;
        } else if n % 3 == 2 {
            ready(&view, secs(5)).await.unwrap();
        }
    }
    advance(millis(1)).await;
    assert_eq!((world.spy.open_watches(), Handle::current().metrics().num_alive_tasks()), (0, 0));
    let views: Vec<View> = names.iter().map(|name| discovery.view(name)).collect();
    for view in &views {
        ready(view, secs(5)).await.unwrap();
        assert_eq!(shown(view), "a");
    }
    drop(views);
    advance(millis(1)).await;
    assert_eq!((world.spy.open_watches(), Handle::current().metrics().num_alive_tasks()), (0, 0));
}

#[test]
fn eight_concurrent_first_views_share_one_watch() {
    let builder = || tokio::runtime::Builder::new_multi_thread();
    let runtime = builder().worker_threads(4).enable_time().build().unwrap();
    runtime.block_on(async {
        let world = World::new();
        let discovery = world.discovery(DiscoveryOptions::default());
        let tasks: Vec<_> = (0..8 * 50)
            .map(|n| {
                let (discovery, name) = (discovery.clone(), format!("s{}", n / 8));
                tokio::spawn(async move {
                    let view = discovery.view(&name.parse().unwrap());
                    ready(&view, secs(20)).await.unwrap();
                    view
                })
            })
            .collect();
        let mut views = Vec::new();
        for task in tasks {
            views.push(within(task).await.unwrap());
        }
        assert_eq!(
            (world.spy.loads(), world.spy.watches().len(), world.spy.open_watches()),
            (50, 50, 50)
        );
    });
}

#[tokio::test(start_paused = true)]
async fn a_failing_service_delays_no_other() {
    let world = World::new();
    world.put("a").await;
    let discovery = world.discovery(DiscoveryOptions::default());
    let bad: ServiceName = "bad".parse().unwrap();
    // Watches end all the time, and no load and no watch is answered in time.
    let mut n = 0;
    world.spy.intercept(move |_| {
        n += 1;
        (n > 2).then_some(if n % 2 == 0 {
            Interception::Hang
        } else {
            Interception::Refuse(ErrorKind::Denied)
        })
    });
    let good = discovery.view(&service());
    ready(&good, secs(1)).await.unwrap();
    let stuck = discovery.view(&bad);
    for _ in 0..100 {
        advance(secs(1)).await;
        let lease = world.put("b").await;
        until_shown(&good, "a b").await;
        world.store.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
        until_shown(&good, "a").await;
        assert!(ready(&discovery.view(&bad), secs(0)).await.is_err());
    }
    assert!(good.status().is_live() && !stuck.status().is_live());
    world.spy.stop_intercepting();
    until_live(&stuck).await;
}

#[tokio::test(start_paused = true)]
async fn a_view_resumes_after_a_watch_error_and_shows_no_deleted_instance() {
    let world = World::new();
    world.put("a").await;
    let view = world.view(DiscoveryOptions::default()).await;
    for id in ["b", "c", "d"] {
        let lease = world.put(id).await;
        until_shown(&view, &format!("a {id}")).await;
        world.store.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
        until_shown(&view, "a").await;
    }
    let (monitor, mut updates) = (Monitor::of(&view), changes(&view));
    assert!(matches!(within(updates.next()).await, Some(Update::Reset(_))));
    let known = view.store_snapshot().unwrap();
    for _ in 0..10 {
        world.link.inject(Fault::Cut);
        until(&view, |state| !state.status().is_live()).await;
        until_live(&view).await;
        assert_eq!(world.spy.watches().last(), Some(known.cursor()));
    }
    assert_eq!(monitor.shown(), ["a"]);
    assert!(updates.next().now_or_never().is_none(), "nothing happened");
    assert_eq!(world.spy.loads(), 1);
}

// Without a snapshot file; `snapshot_file.rs` has the same schedule with one.
#[tokio::test(start_paused = true)]
async fn a_process_can_start_during_an_outage() {
    let world = World::new();
    world.link.inject(Fault::Outage);
    let registration = world.try_start(node("a"), in_background()).await.unwrap();
    let discovery: Discovery = world.discovery(DiscoveryOptions::default());
    let view = discovery.view(&service());
    advance(secs(3600)).await;
    world.link.heal();
    let healed = Instant::now();
    until_active(&registration).await;
    until_shown(&view, "a").await;
    assert!(healed.elapsed() <= 2 * MAX_BACKOFF);
    assert!(world.store.services(&CallOptions::DEFAULT).await.unwrap().contains(&service()));
}
