//! Tests of own-record watches.

use crate::support::*;
use registry_core::{CallOptions, ErrorKind, Holder, Presence, Registry};
use registry_engine::{Registration, RegistrationStatus};
use registry_mem::Fault;
use tokio::time::Instant;

/// The numbers of registrations to test. Up to 8 registrations of a service have a watch of their own, and the others
/// share one watch.
const COUNTS: [usize; 4] = [1, 8, 9, 100];

async fn start_many(world: &World, count: usize) -> Vec<Registration> {
    let mut registrations = Vec::new();
    for n in 0..count {
        registrations.push(world.start(node(&n.to_string())).await);
    }
    advance(TICK).await; // the watches open
    registrations
}

fn claims(world: &World) -> usize {
    world.spy.claims().len()
}

#[tokio::test(start_paused = true)]
async fn deleted_records_are_registered_again_at_once() {
    for count in COUNTS {
        let world = World::new();
        let registrations = start_many(&world, count).await;
        assert_eq!(claims(&world), count);
        for round in 2..=3 {
            world.store.evict(&service());
            assert_eq!(world.stored().await, []);
            advance(TICK).await;
            assert_eq!(world.stored().await.len(), count, "{count} registrations");
            assert_eq!(claims(&world), round * count, "each registers once more");
            assert!(registrations.iter().all(|one| one.status().is_active()));
            advance(2 * TTL).await;
        }
        assert_eq!(claims(&world), 3 * count, "a record was registered again without a loss");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_records_deleted_at_once_are_registered_again_within_a_second() {
    let world = World::new();
    let _registrations = start_many(&world, 1_000).await;
    world.store.evict(&service());
    advance(TICK).await;
    assert!(world.stored().await.len() >= 100, "the first hundred waited");
    advance(secs(1)).await;
    assert_eq!(world.stored().await.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_deleted_repeatedly_is_registered_with_backoff() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    advance(TICK).await;
    let start = Instant::now();
    while start.elapsed() < secs(60) {
        world.store.evict(&service());
        advance(TICK).await;
    }
    // The delay is at most 5 s, and half of that on average.
    assert!((12..60).contains(&claims(&world)), "{}", claims(&world));
    advance(MAX_BACKOFF).await;
    assert_eq!(world.stored_ids().await, "a", "not registered again");
    assert!(registration.status().is_active());
}

#[tokio::test(start_paused = true)]
async fn a_displaced_registration_registers_as_soon_as_its_successor_is_gone() {
    for count in COUNTS {
        let world = World::new();
        let registrations = start_many(&world, count).await;
        let last = registrations.last().unwrap();
        let node = last.instance();
        let theirs = world.displace(&node.clone().with_weight(7)).await;
        advance(TICK).await;
        assert!(matches!(last.status(), RegistrationStatus::Superseded));
        advance(secs(30)).await;
        world.store.deregister(&theirs, &CallOptions::DEFAULT).await.unwrap();
        advance(TICK).await;
        assert!(last.status().is_active(), "{count} registrations");
        assert!(world.stored().await.contains(&node));
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_of_the_successor_causes_no_request_of_the_displaced_registration() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    advance(TICK).await;
    let theirs = world.displace(&node("a").with_weight(7)).await;
    advance(TICK).await;
    let asked = claims(&world);
    let claim = long().with_lease(theirs.id());
    for weight in 10..20 {
        let node = node("a").with_weight(weight);
        within(world.store.register(&node, &claim, &CallOptions::DEFAULT)).await.unwrap();
        advance(TICK).await;
    }
    assert_eq!(claims(&world), asked);
    assert!(matches!(registration.status(), RegistrationStatus::Superseded));
}

#[tokio::test(start_paused = true)]
async fn one_kind_of_watch_suffices_for_all_registrations() {
    for (refused, kind) in [
        (Watching::Record, ErrorKind::Unsupported),
        (Watching::Record, ErrorKind::Denied),
        (Watching::Service, ErrorKind::Denied),
    ] {
        for count in [1, 20] {
            let world = World::new();
            world.spy.intercept(move |call| {
                let is_refused = match refused {
                    Watching::Record => matches!(call, Call::WatchRecord),
                    Watching::Service => matches!(call, Call::Load | Call::Watch(_)),
                };
                is_refused.then_some(Interception::Refuse(kind))
            });
            let _registrations = start_many(&world, count).await;
            advance(secs(1)).await; // only repeated refusals count
            world.store.evict(&service());
            advance(TICK).await;
            assert_eq!(world.stored().await.len(), count, "{refused:?} {kind}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Watching {
    Record,
    Service,
}

#[tokio::test(start_paused = true)]
async fn without_any_watch_renewals_detect_the_loss() {
    let world = World::new();
    world.spy.intercept(|call| {
        let is_watch = matches!(call, Call::WatchRecord | Call::Load | Call::Watch(_));
        is_watch.then_some(Interception::Refuse(ErrorKind::Denied))
    });
    let _registrations = start_many(&world, 20).await;
    let asked = world.spy.calls().len();
    world.store.evict(&service());
    advance(TTL.mul_f64(1.1 / 3.0) + TICK).await;
    assert_eq!(world.stored().await.len(), 20);
    let watches = world.spy.calls()[asked..]
        .iter()
        .filter(|(_, call)| matches!(call, Call::WatchRecord | Call::Load | Call::Watch(_)))
        .count();
    assert!(watches <= 40, "refused watches are retried too often: {watches}");
}

#[tokio::test(start_paused = true)]
async fn a_record_deleted_while_the_watch_is_cut_is_registered_again_once_the_watch_reopens() {
    for (count, compacted) in [(1, false), (1, true), (20, false), (20, true)] {
        let world = World::new();
        let registrations = start_many(&world, count).await;
        world.spy.intercept(|call| {
            let is_watch = matches!(call, Call::WatchRecord | Call::Load | Call::Watch(_));
            is_watch.then_some(Interception::Refuse(ErrorKind::Unavailable))
        });
        world.link.inject(Fault::Cut);
        advance(TICK).await;
        world.store.evict(&service());
        if compacted {
            world.link.inject(Fault::Compaction);
        }
        world.spy.stop_intercepting();
        advance(millis(700)).await; // the backoff of a watch, a fifth of the return bound
        assert_eq!(world.stored().await.len(), count, "compacted: {compacted}");
        assert!(registrations.iter().all(|one| one.status().is_active()));
    }
}

#[tokio::test(start_paused = true)]
async fn many_registrations_of_a_service_share_one_watch_and_close_it() {
    let world = World::new();
    let registrations = start_many(&world, 100).await;
    assert_eq!((world.spy.loads(), world.spy.watches().len(), world.spy.open_watches()), (1, 1, 1));
    let records = || {
        let calls = world.spy.calls();
        calls.iter().filter(|(_, call)| matches!(call, Call::WatchRecord)).count()
    };
    assert_eq!(records(), 8);
    advance(10 * TTL).await;
    assert_eq!((world.spy.loads(), world.spy.watches().len(), records()), (1, 1, 8));
    drop(registrations);
    advance(TICK).await;
    assert_eq!(world.spy.open_watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_skips_the_presence_check_only_while_the_watch_is_live() {
    for count in [1, 9] {
        let world = World::new();
        let registrations = start_many(&world, count).await;
        let proven = |world: &World| {
            let presences = world.spy.presences();
            let proven = presences.iter().filter(|one| **one == Presence::Proven).count();
            (proven, presences.len() - proven)
        };
        advance(TTL).await;
        let (with, without) = proven(&world);
        assert!(with >= 2 * count && without == 0, "{with} {without}");
        world.spy.intercept(|call| {
            let is_watch = matches!(call, Call::WatchRecord | Call::Load | Call::Watch(_));
            is_watch.then_some(Interception::Refuse(ErrorKind::Unavailable))
        });
        world.link.inject(Fault::Cut);
        advance(TTL).await;
        let (still, checks) = proven(&world);
        assert!(still == with && checks >= 2 * count, "{still} {with} {checks}");
        world.spy.stop_intercepting();
        advance(secs(1)).await;
        let (_, before) = proven(&world);
        advance(TTL).await;
        assert_eq!(proven(&world).1, before, "presence checks although the watch is live");
        assert_eq!(claims(&world), count);
        drop(registrations);
    }
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_record_that_holds_the_id_causes_no_loop_of_requests() {
    // The watch reports that the id is vacant, but the store reports that it is held.
    for count in [1, 9] {
        let world = World::new();
        let _registrations = start_many(&world, count).await;
        let holder = Holder::new(None, None);
        world.spy.intercept(move |call| {
            matches!(call, Call::Register(..)).then_some(Interception::Superseded(holder))
        });
        world.store.evict(&service());
        advance(5 * TTL).await;
        let refused = claims(&world) - count;
        assert!((5 * count..=15 * count).contains(&refused), "{refused} of {count}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_watches_are_opened_at_once_than_a_slow_store_opens_in_time() {
    // Each answer takes 3 s of the timeout of 5 s. If all requests were in flight at once, such a slow store would
    // answer none of them in time, and all would be repeated.
    let world = World::new();
    let asked = || {
        let calls = world.spy.calls();
        calls.iter().filter(|(_, call)| matches!(call, Call::WatchRecord)).count()
    };
    world.spy.intercept(|call| {
        matches!(call, Call::WatchRecord).then_some(Interception::DelayedReply(secs(3)))
    });
    let mut registrations = Vec::new();
    for n in 0..600 {
        let service = format!("service-{n}").parse().unwrap();
        registrations.push(world.start(node_of(&service, "a")).await);
    }
    advance(secs(1)).await;
    let mut counts = Vec::new();
    for _ in 0..3 {
        counts.push(asked());
        advance(secs(3)).await;
    }
    assert_eq!(counts, [250, 500, 600]);
    advance(TTL).await;
    assert_eq!(asked(), 600, "no request timed out");
    assert!(registrations.iter().all(|one| one.status().is_active()));
}
