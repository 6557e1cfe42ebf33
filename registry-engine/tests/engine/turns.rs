//! Many registrations of one process, and a store that is slow.

use crate::support::*;
use registry_engine::Registration;
use tokio::time::Instant;

/// How many registrations are made at a time: 300 for each second that one may take, which are 2.67.
const REGISTRATIONS: usize = 799;

/// How many renewals: 1,000 for each second.
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
async fn a_store_that_is_slow_is_asked_for_no_more_registrations_than_it_makes_in_time() {
    // If all asked at once, so slow a store would answer none of them in time, and would be asked again and again.
    let world = World::new();
    world.spy.twist(|call| matches!(call, Call::Register(..)).then_some(Twist::Late(secs(2))));
    let registrations = start_in_background(&world, 2_000).await;
    pass(secs(1)).await;
    let mut counts = Vec::new();
    for _ in 0..3 {
        counts.push((world.spy.claims().len(), active(&registrations)));
        pass(secs(2)).await;
    }
    assert_eq!(
        counts,
        [(REGISTRATIONS, 0), (2 * REGISTRATIONS, REGISTRATIONS), (2_000, 2 * REGISTRATIONS)]
    );
    pass(TTL).await;
    assert_eq!(
        (world.spy.claims().len(), active(&registrations)),
        (2_000, 2_000),
        "none was given up"
    );
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_waits_for_its_turn_stops_at_once() {
    let world = World::new();
    world.spy.twist(|call| matches!(call, Call::Register(..)).then_some(Twist::Hang));
    let mut registrations = start_in_background(&world, REGISTRATIONS + 1).await;
    pass(secs(1)).await;
    let start = Instant::now();
    registrations.pop().unwrap().stop().await.unwrap();
    assert!(start.elapsed() <= TICK, "{:?}", start.elapsed());
    assert_eq!(world.spy.claims().len(), REGISTRATIONS, "it never asked");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_is_asked_for_no_more_renewals_than_it_makes_in_time() {
    let world = World::new();
    let registrations = start_in_background(&world, 5_000).await;
    pass(secs(1)).await;
    assert_eq!(active(&registrations), 5_000);
    world.spy.twist(|call| matches!(call, Call::KeepAlive(_)).then_some(Twist::Late(secs(3))));
    let before = world.spy.renewals().len();
    pass(6 * TTL).await;
    let asked = world.spy.renewals().split_off(before);
    let in_flight = |(n, at): (usize, &Instant)| {
        n + 1 - asked.partition_point(|earlier| *earlier + secs(3) <= *at)
    };
    assert_eq!(asked.iter().enumerate().map(in_flight).max(), Some(RENEWALS));
    assert_eq!((world.spy.claims().len(), active(&registrations)), (5_000, 5_000));
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_renewal_waits_for_its_turn_expires_in_time() {
    let world = World::new();
    let registrations = start_in_background(&world, 5_000).await;
    pass(secs(1)).await;
    world.spy.twist(|call| {
        let is_request = matches!(call, Call::KeepAlive(_) | Call::Register(..));
        is_request.then_some(Twist::Hang)
    });
    pass(TTL + secs(4)).await; // the last renewals before were made up to 4 s later
    assert_eq!(active(&registrations), 0, "the status is not true");
    world.spy.untwist();
    pass(TTL).await;
    assert_eq!(active(&registrations), 5_000);
}
