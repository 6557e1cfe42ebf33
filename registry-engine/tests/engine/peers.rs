//! Schedules that break other service registries: they must not break this engine.

use crate::support::*;
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, Change, Lease, Registry, ServiceName};
use registry_engine::{DiscoveryOptions, RegistrationOptions, Update};
use registry_mem::Fault;
use tokio::runtime::Handle;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_ten_ttls_an_instance_is_registered_again_without_a_call() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    for fault in [Fault::Outage, Fault::Silence, Fault::LostReplies] {
        world.link.inject(fault);
        advance(10 * TTL).await;
        assert!(!registration.status().is_active(), "{fault:?}");
        world.link.heal();
        let healed = Instant::now();
        until_active(&registration).await;
        assert!(healed.elapsed() <= MAX_BACKOFF + TICK, "{fault:?}: {:?}", healed.elapsed());
        assert_eq!(world.stored_ids().await, "a");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_survives_twelve_restarts_of_the_store() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    for _ in 0..12 {
        advance(secs(3600)).await;
        world.link.inject(Fault::Outage);
        advance(secs(60)).await;
        world.link.inject(Fault::Rollback);
        world.link.heal();
        until_active(&registration).await;
        assert_eq!(world.stored_ids().await, "a");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_lease_is_registered_again_instead_of_renewed() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    world.link.inject(Fault::LeaseLost);
    advance(TICK).await;
    assert_eq!(world.stored_ids().await, "a", "its own-record watch reports the deletion at once");
    assert!(registration.status().is_active());
    advance(TTL.mul_f64(1.1 / 3.0)).await;
    let (renewals, claims) = (world.spy.renewals().len(), world.spy.claims().len());
    // The early first renewal of the new lease, and perhaps the next one.
    assert!((1..=2).contains(&renewals) && claims == 2, "{renewals} {claims}");
}

#[tokio::test(start_paused = true)]
async fn a_registration_outlives_five_ttls_without_any_call() {
    let world = World::new();
    let _registration = world.start(node("a")).await;
    for _ in 0..50 {
        advance(TTL / 10).await;
        assert_eq!(world.stored_ids().await, "a");
    }
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_is_an_update() {
    let world = World::new();
    let lease = world.put("a").await;
    let view = world.view(DiscoveryOptions::default()).await;
    let mut updates = changes(&view);
    assert!(matches!(within(updates.next()).await, Some(Update::Reset(_))));
    world.store.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
    let Some(Update::Batch(batch)) = within(updates.next()).await else { panic!() };
    assert_eq!(batch.changes.len(), 1);
    assert!(matches!(&batch.changes[0], Change::Delete(deleted) if deleted.id().as_str() == "a"));
    until_shown(&view, "").await;
}

#[tokio::test(start_paused = true)]
async fn no_change_of_a_burst_is_lost() {
    // 1,000 is more than a view handles in one burst.
    for size in [100, 1_000] {
        let world = World::new();
        let view = world.view(DiscoveryOptions::default()).await;
        let mut updates = changes(&view);
        assert!(matches!(within(updates.next()).await, Some(Update::Reset(_))));
        let mut leases: Vec<Lease> = Vec::new();
        for n in 0..size / 2 {
            leases.push(world.put(&n.to_string()).await);
        }
        for lease in &leases {
            world.store.deregister(lease, &CallOptions::DEFAULT).await.unwrap();
        }
        let mut changes = Vec::new();
        while changes.len() < size {
            let Some(Update::Batch(batch)) = within(updates.next()).await else { panic!() };
            changes.extend(batch.changes.clone());
        }
        for (n, change) in changes.iter().enumerate() {
            let id = (n % (size / 2)).to_string();
            assert_eq!(
                (change.id().as_str(), n < size / 2),
                (&*id, matches!(change, Change::Put(_)))
            );
        }
        until_shown(&view, "").await;
        assert_eq!((world.spy.loads(), world.spy.watches().len()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn all_deletions_of_one_revision_arrive_in_one_batch() {
    let world = World::new();
    for id in ["a", "b", "c"] {
        world.put(id).await;
    }
    let view = world.view(no_retention()).await;
    let (monitor, mut updates) = (Monitor::of(&view), changes(&view));
    assert!(matches!(within(updates.next()).await, Some(Update::Reset(_))));
    world.store.evict(&service());
    let Some(Update::Batch(batch)) = within(updates.next()).await else { panic!() };
    assert_eq!(batch.changes.len(), 3);
    until_shown(&view, "").await;
    assert_eq!(monitor.shown(), ["a b c", ""]);
}

#[tokio::test(start_paused = true)]
async fn expiries_arrive_on_time_and_in_order() {
    let world = World::new();
    let view = world.view(no_retention()).await;
    let start = Instant::now();
    for seconds in [3, 1, 2] {
        let claim = registry_core::Claim::new(secs(seconds)).unwrap();
        world
            .store
            .register(&node(&seconds.to_string()), &claim, &CallOptions::DEFAULT)
            .await
            .unwrap();
    }
    until_shown(&view, "1 2 3").await;
    let monitor = Monitor::of(&view);
    until_shown(&view, "").await;
    assert_eq!(monitor.shown(), ["1 2 3", "2 3", "3", ""]);
    for ((at, _), seconds) in monitor.seen().iter().rev().zip([3, 2, 1]) {
        assert!((secs(seconds)..=secs(seconds) + TICK).contains(&(*at - start)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_loses_nothing() {
    let world = World::new();
    let view = world.view(DiscoveryOptions::default()).await;
    let mut updates = changes(&view);
    assert!(matches!(within(updates.next()).await, Some(Update::Reset(_))));
    for n in 0..20 {
        world.put(&n.to_string()).await;
    }
    for n in 0..20 {
        advance(secs(1)).await;
        let Some(Update::Batch(batch)) = within(updates.next()).await else { panic!() };
        assert_eq!(batch.changes[0].id().as_str(), n.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_recovers_from_compactions_during_outages() {
    let world = World::new();
    world.put("a").await;
    let view = world.view(DiscoveryOptions::default()).await;
    for id in ["b", "c", "d"] {
        world.link.inject(Fault::Outage);
        advance(secs(30)).await;
        world.put(id).await;
        world.link.inject(Fault::Compaction);
        world.link.heal();
        until(&view, |state| state.records().find(id).is_some()).await;
        until_live(&view).await;
    }
    assert_eq!((shown(&view), world.spy.loads()), ("a b c d".into(), 4));
    world.put("e").await;
    until_shown(&view, "a b c d e").await;
}

#[tokio::test(start_paused = true)]
async fn no_deleted_instance_reappears_after_a_reconnect() {
    let world = World::new();
    let lease = world.put("a").await;
    world.put("b").await;
    let view = world.view(no_retention()).await;
    world.store.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
    until_shown(&view, "b").await;
    let monitor = Monitor::of(&view);
    for fault in [Fault::Cut, Fault::Compaction, Fault::Cut, Fault::Cut] {
        world.link.inject(fault);
        advance(secs(10)).await;
    }
    assert_eq!(monitor.shown(), ["b"]);
    assert_eq!(world.link.hits().watches_ended, 3);
}

#[tokio::test(start_paused = true)]
async fn an_instance_registered_between_load_and_watch_is_shown() {
    let world = World::new(); // empty: a watch before the first instance is no error
    let (store, mut done) = (world.store.clone(), false);
    world.spy.intercept(move |call| {
        if matches!(call, Call::Watch(_)) && !done {
            done = true;
            store
                .register(&node("a"), &long(), &CallOptions::DEFAULT)
                .now_or_never()
                .unwrap()
                .unwrap();
        }
        None
    });
    let view = world.view(DiscoveryOptions::default()).await;
    until_shown(&view, "a").await;
    assert_eq!(world.spy.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_instance_expires_although_another_renews() {
    let world = World::new();
    let crashed = World::over(world.store.clone());
    let _alive = world.start(node("a")).await;
    let registration = crashed.start(node("b")).await;
    crashed.link.inject(Fault::Outage); // kill -9, as the store sees it
    advance(TTL).await;
    assert_eq!(world.stored_ids().await, "a");
    drop(registration);
}

#[tokio::test(start_paused = true)]
async fn all_records_return_after_a_flush_and_no_task_remains_after_the_stop() {
    let world = World::new();
    let registrations = [world.start(node("a")).await, world.start(node("b")).await];
    world.link.inject(Fault::Rollback); // FLUSHALL
    assert_eq!(world.stored_ids().await, "");
    advance(TTL.mul_f64(1.1 / 3.0) + TICK).await;
    assert_eq!(world.stored_ids().await, "a b");
    for registration in registrations {
        within(registration.stop()).await.unwrap();
    }
    let calls = world.spy.calls().len();
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    advance(secs(600)).await;
    assert_eq!(world.spy.calls().len(), calls);
}

#[tokio::test(start_paused = true)]
async fn changes_are_delivered_in_order() {
    let (world, claim) = (World::new(), long());
    let view = world.view(DiscoveryOptions::default()).await;
    let weights = changes(&view).skip(1).take(300).map(|update| match update {
        Update::Batch(batch) => match &batch.changes[..] {
            [Change::Put(record)] => record.instance().weight(),
            other => panic!("{other:?}"),
        },
        other => panic!("the subscriber kept up, and received: {other:?}"),
    });
    let weights = tokio::spawn(weights.collect::<Vec<u32>>());
    tokio::task::yield_now().await;
    for n in 0..300 {
        world
            .store
            .register(&node("a").with_weight(n), &claim, &CallOptions::DEFAULT)
            .await
            .unwrap();
        if n % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(within(weights).await.unwrap(), (0..300).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_last_instance_is_removed_at_once_if_withdrawn_and_retained_if_expired() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    let view = world.view(DiscoveryOptions::default()).await;
    let start = Instant::now();
    within(registration.stop()).await.unwrap();
    until_shown(&view, "").await;
    assert_eq!(start.elapsed(), secs(0));

    let registrations = [world.start(node("a")).await, world.start(node("b")).await];
    until_shown(&view, "a b").await;
    world.link.inject(Fault::Outage);
    advance(3 * TTL).await;
    world.spy.intercept(|call| {
        let registers = matches!(call, Call::Register(..));
        registers.then_some(Interception::Refuse(registry_core::ErrorKind::Unavailable))
    });
    world.link.heal();
    until_live(&view).await;
    until(&view, |state| state.retained().len() == 2).await;
    assert_eq!(shown(&view), "a b");
    drop(registrations);
}

#[tokio::test(start_paused = true)]
async fn an_update_of_an_instance_from_the_first_load_reaches_every_view() {
    let world = World::new();
    let options = RegistrationOptions::default();
    let registration = world.try_start(node("a"), options).await.unwrap();
    let one = world.view(DiscoveryOptions::default()).await;
    let two = world.view(DiscoveryOptions::default()).await;
    within(registration.update(|_| node("a").with_weight(7))).await.unwrap();
    for view in [one, two] {
        until(&view, |state| state.records()[0].instance().weight() == 7).await;
    }
    let other: ServiceName = "other".parse().unwrap();
    assert!(world.store.load(&other, &CallOptions::DEFAULT).await.unwrap().records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn retained_instances_are_marked_and_removed_after_two_ttls() {
    let world = World::new();
    for id in ["a", "b", "c"] {
        world.put(id).await;
    }
    let view = world.view(DiscoveryOptions::default()).await;
    world.link.inject(Fault::Cut);
    until(&view, |state| !state.status().is_live()).await;
    until_live(&view).await;
    world.store.evict(&service());
    let start = Instant::now();
    until(&view, |state| state.retained().len() == 3).await;
    assert!(view.state().retained().iter().all(|retained| retained.since == start));
    let limit = view.state().retained()[0].record.ttl().unwrap() * 2;
    advance(limit.saturating_sub(secs(1))).await;
    assert_eq!(shown(&view), "a b c");
    advance(secs(1) + TICK).await;
    assert_eq!(shown(&view), "");
}
