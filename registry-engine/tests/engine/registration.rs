//! Tests of running registrations: renewals, outages, lost leases, and competing registrations of one id.

use crate::support::*;
use futures_util::StreamExt;
use registry_core::{CallOptions, Claim, ErrorKind, MAX_TTL, MIN_TTL, Registry, Takeover};
use registry_engine::{RegistrationOptions, RegistrationStatus};
use registry_mem::{Fault, MemRegistry};
use std::time::Duration;
use tokio::time::Instant;

/// Returns whether `gap` is a third of the ttl, with a jitter of a tenth.
fn is_a_third(gap: Duration) -> bool {
    (TTL.mul_f64(0.9 / 3.0)..=TTL.mul_f64(1.1 / 3.0) + TICK).contains(&gap)
}

fn gaps(times: &[Instant]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_every_third_of_the_ttl_plus_or_minus_a_tenth() {
    let world = World::new();
    let start = Instant::now();
    let registration = world.start(node("a")).await;
    advance(secs(100)).await;
    let renewals = world.spy.renewals();
    assert!(renewals[0] - start <= TTL / 3 + TICK, "the first renewal is late");
    assert!(gaps(&renewals).into_iter().all(is_a_third), "{:?}", gaps(&renewals));
    assert!((26..=35).contains(&renewals.len()), "{}", renewals.len());
    assert_eq!(world.spy.claims().len(), 1);
    assert!(registration.status().is_active());
}

#[tokio::test(start_paused = true)]
async fn re_registrations_keep_the_lease_id_and_never_take_over() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    for lost in 1..=3 {
        world.link.inject(Fault::LeaseLost);
        assert_eq!(world.link.hits().leases_ended, lost);
        advance(TTL).await;
        assert_eq!(world.stored_ids().await, "a");
        assert!(registration.status().is_active());
    }
    let claims = world.spy.claims();
    assert_eq!(claims.len(), 4);
    assert!(claims.iter().all(|(_, claim)| claim.lease() == claims[0].1.lease()));
    assert!(claims.iter().all(|(_, claim)| claim.takeover() == Takeover::No));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_registered_again_at_the_next_renewal() {
    let world = World::new();
    let _registration = world.start(node("a")).await;
    world.link.inject(Fault::LeaseLost);
    assert_eq!(world.stored_ids().await, "");
    advance(TTL.mul_f64(1.1 / 3.0) + TICK).await;
    assert_eq!(world.stored_ids().await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_extends_the_lease_from_the_time_the_renewal_was_sent() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    let mut renewals = 0;
    world.spy.intercept(move |call| match call {
        Call::KeepAlive(_) if renewals == 0 => {
            renewals += 1;
            Some(Interception::DelayedReply(secs(3)))
        }
        _ => Some(Interception::Refuse(ErrorKind::Unavailable)),
    });
    until_status(&registration, |status| !status.is_active()).await;
    let sent = world.spy.renewals()[0];
    let active = sent.elapsed();
    assert!((TTL..=TTL + TICK).contains(&active), "{active:?}");
    let RegistrationStatus::Retrying { since, why } = registration.status() else { panic!() };
    assert_eq!((since, why.kind()), (Instant::now(), ErrorKind::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_renewal_is_sent_again_before_the_lease_expires() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    let mut hung = 0;
    world.spy.intercept(move |call| match call {
        Call::KeepAlive(_) if hung == 0 => {
            hung += 1;
            Some(Interception::Hang)
        }
        _ => None,
    });
    for _ in 0..300 {
        advance(millis(100)).await;
        assert_eq!(world.stored_ids().await, "a");
        assert!(registration.status().is_active());
    }
    assert_eq!(world.spy.claims().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_presumed_expired_is_registered_instead_of_renewed() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    advance(TTL).await;
    let last = *world.spy.renewals().last().unwrap();
    world.link.inject(Fault::Outage);
    advance(3 * TTL).await;
    assert!(world.link.hits().calls_refused > 0);
    assert!(world.spy.renewals().iter().all(|at| *at < last + TTL));
    let claims = world.spy.claims();
    assert!(claims[1..].iter().all(|(at, _)| *at >= last + TTL));
    assert!(claims.len() > 2);

    world.link.heal();
    until_active(&registration).await;
    let registered = Instant::now();
    advance(TTL).await;
    assert!(world.spy.renewals().iter().all(|at| *at < last + TTL || *at >= registered));
    assert_eq!(world.stored_ids().await, "a");
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_ttl_loses_no_lease() {
    let world = World::new();
    let registration = world.try_start(node("a"), eager()).await.unwrap();
    advance(TTL).await;
    world.link.inject(Fault::Outage);
    // The last renewal is at most 3.7 s old, and the next attempt follows within a second.
    advance(TTL / 2).await;
    world.link.heal();
    for _ in 0..100 {
        advance(millis(100)).await;
        assert!(registration.status().is_active());
    }
    assert!(world.link.hits().calls_refused > 0);
    assert_eq!(world.spy.claims().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_backoff_grows_to_its_maximum_and_resets_after_each_success() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    for _ in 0..2 {
        let before = world.spy.calls().len();
        world.link.inject(Fault::Outage);
        advance(secs(100)).await;
        let of_owner = |call: &Call| matches!(call, Call::Register(..) | Call::KeepAlive(_));
        let calls = world.spy.calls();
        let tries = calls[before..].iter().filter(|(_, call)| of_owner(call));
        let tries: Vec<Instant> = tries.map(|(at, _)| *at).collect();
        let gaps = gaps(&tries);
        for (n, gap) in (0..4).zip(&gaps) {
            assert!(*gap <= millis(100) * 2_u32.pow(n) + TICK, "gap {n} of {gaps:?}");
        }
        let longest = RETURN_BOUND / 5;
        assert!(gaps.iter().all(|gap| *gap <= longest + TICK), "{gaps:?}");
        assert!(gaps.iter().any(|gap| *gap > longest / 2), "{gaps:?}");
        // On average one attempt every 333 ms.
        assert!((200..500).contains(&tries.len()), "{}", tries.len());
        world.link.heal();
        until_active(&registration).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_superseded_registration_retries_once_per_ttl_without_takeover() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    let other = node("a").with_weight(7);
    let theirs = world.displace(&other).await;
    until_status(&registration, |status| matches!(status, RegistrationStatus::Superseded)).await;
    let superseded = Instant::now();
    advance(10 * TTL).await;
    assert_eq!(world.stored().await, [other], "the other registration was displaced");
    assert!(matches!(registration.status(), RegistrationStatus::Superseded));
    let claims = world.spy.claims();
    assert!(claims.iter().all(|(_, claim)| claim.takeover() == Takeover::No));
    let asked: Vec<Instant> =
        claims.iter().map(|(at, _)| *at).filter(|at| *at > superseded).collect();
    let allowed = TTL.mul_f64(0.9)..=TTL.mul_f64(1.1) + TICK;
    assert!(gaps(&asked).iter().all(|gap| allowed.contains(gap)), "{:?}", gaps(&asked));
    assert!((9..=12).contains(&asked.len()), "{}", asked.len());
    assert!(world.spy.renewals().iter().all(|at| *at <= superseded), "a renewal without a lease");

    world.store.deregister(&theirs, &CallOptions::DEFAULT).await.unwrap();
    let gone = Instant::now();
    until_active(&registration).await;
    assert!(gone.elapsed() <= TICK, "the release of the id was noticed late");
    assert_eq!(world.stored().await, [node("a")]);
}

#[tokio::test(start_paused = true)]
async fn two_registrations_of_one_id_do_not_displace_each_other_repeatedly() {
    let world = World::new();
    let first = world.start(node("a")).await;
    let second = world.start(node("a").with_weight(7)).await;
    advance(20 * TTL).await;
    assert!(matches!(first.status(), RegistrationStatus::Superseded));
    assert!(second.status().is_active());
    assert_eq!(world.stored().await, [second.instance()]);
    assert_eq!(world.spy.claims().iter().filter(|(_, claim)| takes_over(claim)).count(), 1);

    // The same holds after an outage in which both leases expire.
    world.link.inject(Fault::Outage);
    advance(3 * TTL).await;
    world.link.heal();
    advance(3 * TTL).await;
    let active = [&first, &second].iter().filter(|one| one.status().is_active()).count();
    assert_eq!(active, 1);
    assert_eq!(world.spy.claims().iter().filter(|(_, claim)| takes_over(claim)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn statuses_are_reported_in_order_and_end_with_stopped() {
    let world = World::new();
    world.link.inject(Fault::Outage);
    let registration = world.try_start(node("a"), in_background()).await.unwrap();
    let states = registration.statuses();
    let reported = tokio::spawn(states.map(|state| name(&state)).collect::<Vec<_>>());
    advance(secs(1)).await;
    world.link.heal();
    until_active(&registration).await;
    world.link.inject(Fault::Outage);
    advance(2 * TTL).await;
    world.link.heal();
    until_active(&registration).await;
    let theirs = world.displace(&node("a")).await;
    advance(TTL).await;
    world.store.deregister(&theirs, &CallOptions::DEFAULT).await.unwrap();
    advance(2 * TTL).await;
    within(registration.stop()).await.unwrap();
    let mut reported = within(reported).await.unwrap();
    reported.dedup(); // the error in the status may change
    let expected = ["retrying", "active", "retrying", "active", "superseded", "active", "stopped"];
    assert_eq!(reported, expected);
}

fn name(state: &RegistrationStatus) -> &'static str {
    match state {
        RegistrationStatus::Active => "active",
        RegistrationStatus::Retrying { .. } => "retrying",
        RegistrationStatus::Superseded => "superseded",
        RegistrationStatus::Stopped => "stopped",
        _ => "another",
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_registrations_that_start_together_do_not_renew_together() {
    let world = World::new();
    let mut registrations = Vec::new();
    for n in 0..100 {
        registrations.push(world.start(node(&n.to_string())).await);
    }
    let start = Instant::now();
    advance(secs(60)).await;
    for window in [0, 10, 30, 50] {
        let mut buckets = [0; 10];
        for time in world.spy.renewals() {
            let time = (time - start).as_millis();
            if (window * 1_000..window * 1_000 + 3_000).contains(&time) {
                buckets[usize::try_from((time - window * 1_000) / 300).unwrap()] += 1;
            }
        }
        // The average is 9.
        assert!(buckets.iter().all(|bucket| *bucket < 30), "{window}: {buckets:?}");
    }
    assert_eq!(world.spy.claims().len(), 100, "a lease was lost");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_registrations_spread_their_requests_after_an_outage() {
    let world = World::new();
    let mut registrations = Vec::new();
    for n in 0..100 {
        registrations.push(world.start(node(&n.to_string())).await);
    }
    world.link.inject(Fault::Outage);
    advance(secs(60)).await;
    world.link.heal();
    let (healed, before) = (Instant::now(), world.spy.claims().len());
    advance(RETURN_BOUND).await;
    assert!(registrations.iter().all(|registration| registration.status().is_active()));
    let mut buckets = [0; 11];
    for (at, _) in &world.spy.claims()[before..] {
        buckets[usize::try_from((*at - healed).as_millis() / 67).unwrap()] += 1;
    }
    assert_eq!(buckets.iter().sum::<u32>(), 100, "one call each");
    // With full jitter, 19 requests are in the first tenth of the longest backoff, and fewer in each later one.
    assert!(buckets.iter().all(|bucket| *bucket < 45), "{buckets:?}");
}

/// Regression: the ttl of a URL was ignored unless the options were created from that URL.
#[tokio::test(start_paused = true)]
async fn options_without_a_ttl_use_that_of_the_registry() {
    for (url, options, expected) in [
        ("mem://", None, TTL),
        ("mem://?ttl=5s", None, secs(5)),
        ("mem://?ttl=5s", Some(secs(4)), secs(4)),
    ] {
        let world = World::over(MemRegistry::connect(&url.parse().unwrap()).unwrap());
        let registration = RegistrationOptions::default().with_ttl(options);
        let _registration = world.try_start(node("a"), registration).await.unwrap();
        assert_eq!(world.spy.claims()[0].1.ttl(), expected, "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn registrations_renew_at_the_minimum_and_the_maximum_ttl() {
    for ttl in [MIN_TTL, MAX_TTL] {
        let world = World::new();
        let options = RegistrationOptions::default().with_ttl(ttl);
        let _registration = world.try_start(node("a"), options).await.unwrap();
        advance(10 * ttl).await;
        let renewals = world.spy.renewals().len();
        assert!((25..=38).contains(&renewals), "{ttl:?}: {renewals}");
        assert_eq!(world.spy.claims().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_longer_granted_ttl_is_renewed_at_a_third_of_the_granted_ttl() {
    let world = World::new();
    world.spy.intercept(|call| match call {
        Call::Register(..) => Some(Interception::Grant(6 * TTL)),
        // The memory store itself grants a shorter ttl, so a watch would report the record as lost.
        Call::WatchRecord | Call::Load => Some(Interception::Refuse(ErrorKind::Denied)),
        _ => None,
    });
    let registration = world.start(node("a")).await;
    let claimed = Instant::now();
    // The outage is longer than the requested ttl but not longer than the granted one.
    world.link.inject(Fault::Outage);
    advance(secs(59)).await;
    assert!(registration.status().is_active());
    let tries: Vec<Instant> = world.spy.renewals();
    assert!(tries[0] - claimed <= 2 * TTL + TICK);
    advance(secs(1) + TICK).await;
    assert!(!registration.status().is_active());
}

fn takes_over(claim: &Claim) -> bool {
    matches!(claim.takeover(), Takeover::From(_))
}

#[tokio::test(start_paused = true)]
async fn a_status_is_displayed_with_the_last_error() {
    let world = World::new();
    let registration = world.start(node("a")).await;
    let view = world.view(no_retention()).await;
    assert_eq!(
        (registration.status().to_string(), view.status().to_string()),
        ("active".into(), "live".into())
    );
    world.link.inject(Fault::Outage);
    advance(2 * TTL).await;
    let retrying = registration.status().to_string();
    assert!(retrying.starts_with("retrying: "), "{retrying}");
    let stale = view.status().to_string();
    assert!(stale.starts_with("stale: "), "{stale}");
}
