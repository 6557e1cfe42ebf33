//! Tests of the renewal scheduler: one task renews all leases, and the failure of one affects no other.

use crate::support::*;
use registry_core::ErrorKind;
use registry_engine::Registration;
use registry_mem::Fault;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::time::Instant;

async fn many(world: &World, count: usize) -> Vec<Registration> {
    let mut registrations = Vec::new();
    for n in 0..count {
        registrations.push(world.start(node(&format!("{n:03}"))).await);
    }
    registrations
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_renewal_delays_no_other() {
    let world = World::new();
    let registrations = many(&world, 100).await;
    world.spy.intercept(|call| match call {
        Call::KeepAlive(lease) if lease.instance().id().as_str() == "042" => {
            Some(Interception::Hang)
        }
        _ => None,
    });
    advance(TTL * 3).await;
    let lost: Vec<_> =
        world.spy.claims().into_iter().skip(100).map(|(_, claim)| claim.lease()).collect();
    assert!(!lost.is_empty(), "the one that hangs is registered again");
    assert!(lost.iter().all(|lease| *lease == lost[0]), "another one was registered again");
    let others = registrations.iter().filter(|one| one.instance().id().as_str() != "042");
    assert_eq!(others.filter(|one| one.status().is_active()).count(), 99);
    assert!(world.stored().await.len() >= 99);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_store_for_one_lease_affects_no_other() {
    let world = World::new();
    let _registrations = many(&world, 20).await;
    let mut panics = 0;
    world.spy.intercept(move |call| match call {
        Call::KeepAlive(lease) if lease.instance().id().as_str() == "007" && panics < 2 => {
            panics += 1;
            Some(Interception::Panic)
        }
        _ => None,
    });
    advance(TTL * 3).await;
    assert_eq!(world.stored().await.len(), 20);
    assert_eq!(world.spy.claims().len(), 20, "a lease was not renewed in time");
}

#[tokio::test(start_paused = true)]
async fn many_leases_that_are_due_together_are_all_renewed() {
    let world = World::new();
    let _registrations = many(&world, 1_000).await;
    world.link.inject(Fault::Outage);
    advance(TTL / 2).await;
    world.link.heal();
    advance(TTL * 2).await;
    assert_eq!(world.stored().await.len(), 1_000);
    assert_eq!(world.spy.claims().len(), 1_000, "a lease was not renewed in time");
}

#[tokio::test(start_paused = true)]
async fn the_renewal_task_ends_with_the_last_registration_and_starts_with_the_next() {
    let world = World::new();
    for _ in 0..3 {
        let registration = world.start(node("a")).await;
        advance(TTL * 2).await;
        assert_eq!(
            Handle::current().metrics().num_alive_tasks(),
            2,
            "its own task and the scheduler"
        );
        within(registration.stop()).await.unwrap();
        advance(millis(1)).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_renewal_in_flight() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    world.spy.intercept(|call| {
        matches!(call, Call::KeepAlive(_))
            .then_some(Interception::DelayedReply(Duration::from_secs(1)))
    });
    within(async {
        while world.spy.renewals().is_empty() {
            advance(millis(1)).await;
        }
    })
    .await;
    let start = Instant::now();
    within(registration.stop()).await.unwrap();
    assert!(start.elapsed() >= millis(990), "{:?}", start.elapsed());
    assert_eq!(world.spy.withdrawals().len(), 1);
    assert_eq!(world.stored_ids().await, "");
}

#[test]
fn each_runtime_renews_its_own_leases_on_its_own_clock() {
    let runtime =
        || Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (one, two) = (runtime(), runtime());
    let (world, other) = (World::new(), World::new());
    let first = one.block_on(world.start(node("a")));
    let second = two.block_on(other.start(node("b")));
    let before = other.spy.renewals().len(); // the first renewal may be due at once
    one.block_on(advance(TTL * 2));
    assert!(world.spy.renewals().len() >= 5, "the other runtime did not run");
    assert_eq!(other.spy.renewals().len(), before);
    drop(one); // ends its scheduler too
    two.block_on(advance(TTL * 2));
    two.block_on(async {
        assert!(second.status().is_active());
        within(second.stop()).await.unwrap();
    });
    let error = two.block_on(within(first.stop())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// Regression: a panic of `register`, `deregister`, `load` or `watch` ended the task of a registration or a view.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_store_ends_only_that_call() {
    let world = World::new();
    let registrations = many(&world, 20).await;
    let view = world.view(no_retention()).await;
    let monitor = Monitor::of(&view);
    let mut calls = 0;
    world.spy.intercept(move |_| {
        calls += 1;
        (calls % 3 == 0).then_some(Interception::Panic)
    });
    advance(TTL * 5).await;
    within(registrations[7].update(|_| node("007").with_weight(7))).await.unwrap();
    world.link.inject(Fault::Cut); // so that the view makes calls too
    advance(TTL * 5).await;
    world.spy.stop_intercepting();
    until(&view, |state| state.instances().any(|node| node.weight() == 7)).await;
    assert_eq!(world.stored().await.len(), 20);
    assert!(registrations.iter().all(|registration| registration.status().is_active()));
    assert_eq!(monitor.fewest_shown(), 20);
    for registration in registrations {
        within(registration.stop()).await.unwrap();
    }
}
