//! Tests of the request limits: many registrations of one process on a slow store.

use crate::support::*;
use registry_engine::Registration;
use tokio::time::Instant;

/// The maximum number of registrations in flight: 300 per second of their timeout, which is 2.67 s.
const REGISTRATIONS: usize = 799;

/// The maximum number of renewals in flight: 1,000 per second of their timeout.
const RENEWALS: usize = 3_333;

const _: () = assert!(TTL.as_secs() == 10);

async fn start_in_background(world: &World, count: usize) -> Vec<Registration> {
    let mut registrations = Vec::new();
    for n in 0..count {
        let node = node(&n.to_string());
        registrations.push(world.try_start(node, in_background()).await.unwrap());
    }
    registrations
}

fn active(registrations: &[Registration]) -> usize {
    registrations.iter().filter(|one| one.status().is_active()).count()
}

#[tokio::test(start_paused = true)]
async fn no_more_registrations_are_in_flight_than_a_slow_store_answers_in_time() {
    // If all requests were in flight at once, such a slow store would answer none in time, and all would be repeated.
    let world = World::new();
    world.spy.intercept(|call| {
        matches!(call, Call::Register(..)).then_some(Interception::DelayedReply(secs(2)))
    });
    let registrations = start_in_background(&world, 2_000).await;
    advance(secs(1)).await;
    let mut counts = Vec::new();
    for _ in 0..3 {
        counts.push((world.spy.claims().len(), active(&registrations)));
        advance(secs(2)).await;
    }
    assert_eq!(
        counts,
        [(REGISTRATIONS, 0), (2 * REGISTRATIONS, REGISTRATIONS), (2_000, 2 * REGISTRATIONS)]
    );
    advance(TTL).await;
    assert_eq!(
        (world.spy.claims().len(), active(&registrations)),
        (2_000, 2_000),
        "no request timed out"
    );
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_waits_for_a_permit_stops_at_once() {
    let world = World::new();
    world.spy.intercept(|call| matches!(call, Call::Register(..)).then_some(Interception::Hang));
    let mut registrations = start_in_background(&world, REGISTRATIONS + 1).await;
    advance(secs(1)).await;
    let start = Instant::now();
    registrations.pop().unwrap().stop().await.unwrap();
    assert!(start.elapsed() <= TICK, "{:?}", start.elapsed());
    assert_eq!(world.spy.claims().len(), REGISTRATIONS, "it sent a request");
}

#[tokio::test(start_paused = true)]
async fn no_more_renewals_are_in_flight_than_a_slow_store_answers_in_time() {
    let world = World::new();
    let registrations = start_in_background(&world, 5_000).await;
    advance(secs(1)).await;
    assert_eq!(active(&registrations), 5_000);
    world.spy.intercept(|call| {
        matches!(call, Call::KeepAlive(_)).then_some(Interception::DelayedReply(secs(3)))
    });
    let before = world.spy.renewals().len();
    advance(6 * TTL).await;
    let asked = world.spy.renewals().split_off(before);
    let in_flight = |(n, at): (usize, &Instant)| {
        n + 1 - asked.partition_point(|earlier| *earlier + secs(3) <= *at)
    };
    assert_eq!(asked.iter().enumerate().map(in_flight).max(), Some(RENEWALS));
    assert_eq!((world.spy.claims().len(), active(&registrations)), (5_000, 5_000));
}

#[tokio::test(start_paused = true)]
async fn the_status_changes_when_a_lease_expires_while_its_renewal_waits_for_a_permit() {
    let world = World::new();
    let registrations = start_in_background(&world, 5_000).await;
    advance(secs(1)).await;
    world.spy.intercept(|call| {
        let is_request = matches!(call, Call::KeepAlive(_) | Call::Register(..));
        is_request.then_some(Interception::Hang)
    });
    advance(TTL + secs(4)).await; // the last acknowledged renewals were sent within the last 4 s
    assert_eq!(active(&registrations), 0, "still active after the expiry");
    world.spy.stop_intercepting();
    advance(TTL).await;
    assert_eq!(active(&registrations), 5_000);
}
