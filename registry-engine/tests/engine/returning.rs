//! Tests of the return bound: after an outage, every live owner is registered again within it.

use crate::support::*;
use registry_engine::Registration;
use registry_mem::Fault;
use std::time::Duration;
use tokio::time::Instant;

fn return_bound(ttl: Duration) -> Duration {
    (ttl / 3).clamp(secs(1), secs(5))
}

async fn start_all(world: &World, count: usize, ttl: Duration) -> Vec<Registration> {
    let mut registrations = Vec::new();
    for n in 0..count {
        let options = in_background().with_ttl(ttl);
        registrations.push(world.try_start(node(&n.to_string()), options).await.unwrap());
    }
    for registration in &registrations {
        until_active(registration).await;
    }
    registrations
}

/// Regression: after a silence of 20 s or more on a real etcd, registrations took 8 s to 13.5 s: the timeout of the
/// request in flight, and then a backoff of up to 5 s.
#[tokio::test(start_paused = true)]
async fn every_owner_is_registered_within_the_return_bound_of_an_outage() {
    for ttl in [1, 2, 3, 5, 10, 30, 60].map(secs) {
        for fault in [None, Some(Fault::Outage), Some(Fault::LostReplies)] {
            for outage in [ttl / 2, ttl * 2, ttl * 7 + millis(137)] {
                let world = World::new();
                let registrations = start_all(&world, 50, ttl).await;
                match &fault {
                    Some(fault) => world.link.inject(*fault),
                    // Requests that are sent during the outage stay unanswered after it, as on a dead connection.
                    None => world.spy.intercept(|_| Some(Interception::Hang)),
                }
                advance(outage).await;
                world.link.heal();
                world.spy.stop_intercepting();
                let healed = Instant::now();
                for registration in &registrations {
                    until_active(registration).await;
                }
                let took = healed.elapsed();
                let case = format!("ttl {ttl:?}, {fault:?} of {outage:?}");
                assert!(took <= return_bound(ttl) + TICK, "{case}: {took:?}");
                assert_eq!(world.stored().await.len(), 50, "{case}");
            }
        }
    }
}

/// If the lease clock stops with the store, as Redis' does, all owners must be back before a lease expires.
#[tokio::test(start_paused = true)]
async fn a_thousand_owners_are_registered_within_the_return_bound_of_an_outage() {
    let (world, ttl) = (World::new(), secs(3));
    let registrations = start_all(&world, 1_000, ttl).await;
    world.link.inject(Fault::Outage);
    advance(secs(60)).await;
    let tries = world.spy.claims().len();
    advance(secs(10)).await;
    let rate = (world.spy.claims().len() - tries) / 10;
    assert!((1_000..2_500).contains(&rate), "{rate} requests a second in an outage");
    world.link.heal();
    let healed = Instant::now();
    for registration in &registrations {
        until_active(registration).await;
    }
    let took = healed.elapsed();
    assert!(took <= return_bound(ttl) + TICK, "{took:?}");
}
