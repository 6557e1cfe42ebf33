//! Ejection: which calls count, how long a probe may take, and how many members stay.

#![allow(clippy::unwrap_used)]

use registry_balance::{
    Balancer, BalancerOptions, Ejection, Member, Outcome, PickOptions, Ticket, Transition,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const NOW: Duration = Duration::from_secs(10);

/// Members 0, 1, ..., which are ejected by two failures in a row.
fn balancer(members: u32) -> Balancer<u32, ()> {
    let ejection = Ejection::default().with_failures(2);
    let options = BalancerOptions::default().with_ejection(Some(ejection));
    let balancer = Balancer::new(options, 7);
    balancer.set((0..members).map(|key| Member::new(key, ())), NOW);
    balancer
}

fn pick(balancer: &Balancer<u32, ()>, key: u32, now: Duration) -> Ticket<u32, ()> {
    let mut rng = fastrand::Rng::with_seed(7);
    balancer.pick_where(None, |k| *k == key, now, &mut rng).unwrap()
}

/// Ejects a member. Returns for how long.
fn eject(balancer: &Balancer<u32, ()>, key: u32, now: Duration) -> Duration {
    assert_eq!(pick(balancer, key, now).finish(Outcome::Failure, now), None);
    match pick(balancer, key, now).finish(Outcome::Failure, now) {
        Some(Transition::Ejected { failures: 2, duration, .. }) => duration,
        other => panic!("it is not ejected: {other:?}"),
    }
}

/// Returns whether a member takes calls: at least one of 100 picks among all members goes to it.
fn takes_calls(balancer: &Balancer<u32, ()>, key: u32, now: Duration) -> bool {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut pick = || balancer.pick(&PickOptions::default(), now, &mut rng).unwrap();
    (0..100).any(|_| *pick().key() == key)
}

/// Lets members 1 and 2 answer a call in a millisecond, and picks each once more.
fn keep_busy(balancer: &Balancer<u32, ()>, now: Duration) -> [Ticket<u32, ()>; 2] {
    [1, 2].map(|key| {
        pick(balancer, key, now).finish(Outcome::Success, now + MS);
        pick(balancer, key, now)
    })
}

/// Regression: failures of calls that were in flight at an ejection prolonged the next ejection, and ejected a member
/// again right after its probe had succeeded.
#[test]
fn failures_of_calls_that_began_before_an_ejection_do_not_count() {
    let balancer = balancer(3);
    let mut under_way: Vec<_> = (0..10).map(|_| pick(&balancer, 0, NOW)).collect();
    let duration = eject(&balancer, 0, NOW);
    let half_open = NOW + duration + MS;
    // They neither extend the ejection, nor do they count as its probe.
    for ticket in under_way.drain(..3) {
        assert_eq!(ticket.finish(Outcome::Failure, half_open), None);
    }
    let probe = pick(&balancer, 0, half_open);
    for ticket in under_way.drain(..3) {
        assert_eq!(ticket.finish(Outcome::Failure, half_open), None);
    }
    let served = probe.finish(Outcome::Success, half_open + MS);
    assert_eq!(served, Some(Transition::Readmitted));
    for ticket in under_way {
        assert_eq!(ticket.finish(Outcome::Failure, half_open + MS), None);
    }
    drop(keep_busy(&balancer, half_open));
    assert!(takes_calls(&balancer, 0, half_open + MS), "it is as good as the others");
    assert_eq!(
        pick(&balancer, 0, half_open).finish(Outcome::Failure, half_open),
        None,
        "the first"
    );
}

/// Such a success tells nothing about the present state of the member.
#[test]
fn success_of_a_call_from_before_an_ejection_changes_nothing() {
    let balancer = balancer(3);
    let [first, second] = [0, 0].map(|key| pick(&balancer, key, NOW));
    let half_open = NOW + eject(&balancer, 0, NOW) + MS;
    first.finish(Outcome::Success, NOW + MS);
    assert!(!takes_calls(&balancer, 0, NOW + MS));

    pick(&balancer, 0, half_open).finish(Outcome::Success, half_open);
    assert_eq!(pick(&balancer, 0, half_open).finish(Outcome::Failure, half_open), None);
    second.finish(Outcome::Success, half_open);
    assert!(pick(&balancer, 0, half_open).finish(Outcome::Failure, half_open).is_some());
}

/// Regression: a half-open member took no calls for as long as its probe hung.
#[test]
fn hung_probe_is_followed_by_another() {
    let balancer = balancer(3);
    let half_open = NOW + eject(&balancer, 0, NOW) + MS;
    let hung = pick(&balancer, 0, half_open);
    assert!(!takes_calls(&balancer, 0, half_open + 900 * MS));
    let later = half_open + 1_001 * MS;
    pick(&balancer, 0, later).finish(Outcome::Success, later + MS);
    let _others = keep_busy(&balancer, later);
    assert!(takes_calls(&balancer, 0, later + MS));
    assert_eq!(hung.finish(Outcome::Failure, later + 60_000 * MS), None, "it began before");
}

#[test]
fn abandoned_probe_is_followed_by_another_later_and_a_dropped_one_at_once() {
    let balancer = balancer(3);
    let half_open = NOW + eject(&balancer, 0, NOW) + MS;
    drop(pick(&balancer, 0, half_open));
    pick(&balancer, 0, half_open).abandon(half_open + MS);
    assert!(
        !takes_calls(&balancer, 0, half_open + MS),
        "callers would time out on it one after another"
    );
    assert!(takes_calls(&balancer, 0, half_open + 1_001 * MS));
}

#[test]
fn probe_that_fails_after_its_answer_began_ejects_again() {
    let balancer = balancer(3);
    let half_open = NOW + eject(&balancer, 0, NOW) + MS;
    let mut probe = pick(&balancer, 0, half_open);
    probe.answered(half_open + MS);
    assert!(!takes_calls(&balancer, 0, half_open + MS), "it is judged by its outcome");
    let again = probe.finish(Outcome::Failure, half_open + 2 * MS);
    let Some(Transition::Ejected { duration, .. }) = again else { panic!("{again:?}") };
    assert!(duration > 1_500 * MS, "{duration:?}");
}

/// A long stream has no outcome for hours.
#[test]
fn probe_whose_answer_has_begun_ends_the_ejection_in_time() {
    let balancer = balancer(3);
    let half_open = NOW + eject(&balancer, 0, NOW) + MS;
    let mut stream = pick(&balancer, 0, half_open);
    stream.answered(half_open + MS);
    let later = half_open + 1_001 * MS;
    let _others = keep_busy(&balancer, later);
    assert!(takes_calls(&balancer, 0, later + MS));
    assert_eq!(stream.finish(Outcome::Failure, later + 60_000 * MS), None);
}

#[test]
fn ejected_member_that_is_set_again_stays_ejected() {
    let balancer = balancer(3);
    eject(&balancer, 0, NOW);
    balancer.set((0..4).map(|key| Member { weight: 50, ..Member::new(key, ()) }), NOW);
    assert!(!takes_calls(&balancer, 0, NOW));
}

/// Regression: two threads each ejected a member after both had counted that one more may be ejected.
#[test]
fn at_most_half_of_the_members_are_ejected_even_if_all_fail_at_once() {
    const MEMBERS: u32 = 100;
    for round in 0..200 {
        let balancer = balancer(MEMBERS);
        for key in 2..=MEMBERS / 2 {
            eject(&balancer, key, NOW);
        }
        // One more may be ejected, and two are about to fail for the second time.
        let last = [0, 1].map(|key| {
            assert_eq!(pick(&balancer, key, NOW).finish(Outcome::Failure, NOW), None);
            pick(&balancer, key, NOW)
        });
        let ready = AtomicUsize::new(0);
        let ejected: usize = thread::scope(|scope| {
            let threads = last.map(|ticket| {
                let ready = &ready;
                scope.spawn(move || {
                    // A barrier of the standard library wakes its threads one after another.
                    ready.fetch_add(1, Ordering::SeqCst);
                    while ready.load(Ordering::SeqCst) < 2 {
                        thread::yield_now();
                    }
                    usize::from(ticket.finish(Outcome::Failure, NOW).is_some())
                })
            });
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(ejected, 1, "round {round}");
    }
}
