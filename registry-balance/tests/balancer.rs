//! A balancer as its callers see it.

#![allow(clippy::unwrap_used)]

use registry_balance::{
    Balancer, BalancerOptions, Ejection, Member, NoPick, Outcome, PickOptions, Ticket, Transition,
};
use std::sync::Arc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const NOW: Duration = Duration::from_secs(10);

/// A balancer, and the random numbers of its picks.
struct World {
    balancer: Balancer<u32, Arc<u32>>,
    rng: fastrand::Rng,
}

impl World {
    fn new(members: impl IntoIterator<Item = Member<u32, Arc<u32>>>) -> Self {
        Self::with(BalancerOptions::default(), members)
    }

    fn with(
        options: BalancerOptions,
        members: impl IntoIterator<Item = Member<u32, Arc<u32>>>,
    ) -> Self {
        let balancer = Balancer::new(options, 7);
        balancer.set(members, NOW);
        Self { balancer, rng: fastrand::Rng::with_seed(7) }
    }

    fn pick(&mut self, now: Duration) -> Ticket<u32, Arc<u32>> {
        self.balancer.pick(&PickOptions::default(), now, &mut self.rng).unwrap()
    }

    /// Makes calls that end at once. Returns the keys of the members that got calls, in order.
    fn called(&mut self, now: Duration) -> Vec<u32> {
        let mut keys: Vec<u32> = (0..200).map(|_| *self.pick(now).key()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Picks the member with this key by excluding all others.
    fn pick_key(&mut self, key: u32, now: Duration) -> Ticket<u32, Arc<u32>> {
        let mut options = PickOptions::default();
        options.exclude = self.balancer.candidates();
        options.exclude.retain(|other| *other != key);
        self.balancer.pick(&options, now, &mut self.rng).unwrap()
    }
}

fn member(key: u32) -> Member<u32, Arc<u32>> {
    Member::new(key, Arc::new(key))
}

fn near(key: u32) -> Member<u32, Arc<u32>> {
    Member { near: true, ..member(key) }
}

fn standby(key: u32) -> Member<u32, Arc<u32>> {
    Member { standby: true, ..member(key) }
}

#[test]
fn only_ready_members_take_calls() {
    let options = BalancerOptions::default().with_initially_ready(false);
    let mut world = World::with(options, [member(1), member(2), member(3)]);
    let none = world.balancer.pick(&PickOptions::default(), NOW, &mut world.rng);
    assert_eq!(none.unwrap_err(), NoPick::NotReady);
    world.balancer.set_ready(&1, true);
    world.balancer.set_ready(&3, true);
    world.balancer.set_ready(&9, true);
    assert_eq!(world.called(NOW), [1, 3]);
    world.balancer.set([member(2), member(3)], NOW);
    assert_eq!(world.called(NOW), [3], "readiness stays with the key");
    world.balancer.set_ready(&3, false);
    assert!(world.balancer.candidates().is_empty());
}

#[test]
fn member_of_weight_0_takes_no_calls() {
    let mut world = World::new([member(1), Member { weight: 0, ..member(2) }]);
    assert_eq!(world.called(NOW), [1]);
}

#[test]
fn near_members_are_preferred_while_half_of_them_are_ready() {
    let mut world = World::new([near(1), near(2), near(3), member(4), member(5)]);
    assert_eq!(world.called(NOW), [1, 2, 3]);
    world.balancer.set_ready(&1, false);
    assert_eq!(world.called(NOW), [2, 3]);
    world.balancer.set_ready(&2, false);
    assert_eq!(world.called(NOW), [3, 4, 5], "one of three is too few to take all calls");
    world.balancer.set_ready(&3, false);
    assert_eq!(world.called(NOW), [4, 5]);
}

#[test]
fn standby_takes_calls_only_while_no_other_member_is_ready() {
    let mut world = World::new([member(1), standby(2)]);
    assert_eq!(world.called(NOW), [1]);
    world.balancer.set_ready(&1, false);
    assert_eq!(world.called(NOW), [2]);
}

#[test]
fn statistics_stay_with_the_key_while_value_and_weight_change() {
    let mut world = World::new([member(1), member(2)]);
    world.pick_key(1, NOW).finish(Outcome::Success, NOW + MS);
    world.pick_key(2, NOW).finish(Outcome::Success, NOW + 500 * MS);
    assert_eq!(world.called(NOW + 500 * MS), [1]);
    let changed = Member { weight: 50, ..Member::new(2, Arc::new(22)) };
    world.balancer.set([member(1), changed], NOW);
    assert_eq!(world.called(NOW + 500 * MS), [1]);
    world.balancer.set_ready(&1, false);
    assert_eq!(**world.pick(NOW).value(), 22);
    // Another key is another server, which starts with the median latency.
    world.balancer.set_ready(&1, true);
    world.balancer.set([member(1), member(3)], NOW);
    assert_eq!(world.called(NOW + 500 * MS), [1, 3]);
}

#[test]
fn dropped_ticket_only_lowers_the_calls_in_flight() {
    let mut world = World::new([member(1), member(2)]);
    let ticket = world.pick_key(1, NOW);
    assert_eq!(world.called(NOW), [2], "the other one has a call in flight");
    drop(ticket);
    // If the drop counted as a call of an hour, or of no time, one of them would be preferred.
    assert_eq!(world.called(NOW), [1, 2]);
}

#[test]
fn stream_counts_with_its_first_answer_and_stays_in_flight() {
    let mut world = World::new([member(1), member(2)]);
    let mut stream = world.pick_key(1, NOW);
    stream.answered(NOW + MS);
    assert_eq!(world.called(NOW), [2]);
    stream.finish(Outcome::Success, NOW + Duration::from_secs(3600));
    world.pick_key(2, NOW).finish(Outcome::Success, NOW + MS);
    assert_eq!(world.called(NOW + MS), [1, 2], "the latency of each is 1 ms");
}

#[test]
fn consecutive_failures_eject_and_the_probe_readmits() {
    let mut world = World::new([member(1), member(2)]);
    world.balancer.set_ready(&2, false);
    for n in 1..=5 {
        // A single member is never ejected.
        assert_eq!(world.pick(NOW).finish(Outcome::Failure, NOW), None, "{n}");
    }
    world.balancer.set_ready(&2, true);
    let ejected = world.pick_key(1, NOW).finish(Outcome::Failure, NOW);
    let Some(Transition::Ejected { failures: 6, duration, .. }) = ejected else {
        panic!("{ejected:?}")
    };
    assert!((800..=1_200).contains(&duration.as_millis()), "{duration:?}");
    assert_eq!(world.called(NOW), [2]);

    let later = NOW + duration + MS;
    let probe = world.pick_key(1, later);
    assert_eq!(world.called(later), [2], "one call probes it");
    drop(probe);
    let probe = world.pick_key(1, later);
    let again = probe.finish(Outcome::Failure, later);
    let Some(Transition::Ejected { duration, .. }) = again else { panic!("{again:?}") };
    assert!(duration > Duration::from_millis(1_500), "{duration:?}");

    let last = later + duration + MS;
    world.pick_key(1, last).finish(Outcome::Success, last + MS);
    world.pick_key(2, last).finish(Outcome::Success, last + MS);
    assert_eq!(world.called(last + MS), [1, 2]);
}

/// An abandoned call counted as a failure if it had taken a second and ten times the expected latency, and so could
/// eject a member whose callers are impatient.
#[test]
fn abandoned_call_is_not_a_failure_but_raises_the_latency() {
    let ejection = Ejection::default().with_failures(1);
    let options = BalancerOptions::default().with_ejection(Some(ejection));
    let mut world = World::with(options, [member(1), member(2)]);
    world.pick_key(1, NOW).finish(Outcome::Success, NOW + MS);
    world.pick_key(2, NOW).finish(Outcome::Success, NOW + MS);
    let mut answered = world.pick_key(1, NOW);
    answered.answered(NOW + MS);
    answered.abandon(NOW + 60_000 * MS);
    assert_eq!(world.called(NOW + MS), [1, 2], "the answer came in time");
    world.pick_key(1, NOW).abandon(NOW + 60_000 * MS);
    assert_eq!(world.called(NOW + MS), [2]);
    world.balancer.set_ready(&2, false);
    assert_eq!(*world.pick(NOW + MS).key(), 1, "it is slow, and not ejected");
    world.balancer.set_ready(&2, true);
    let ejected = world.pick_key(1, NOW + MS).finish(Outcome::Failure, NOW + MS);
    assert!(ejected.is_some(), "it was not ejected before");
}

#[test]
fn neutral_outcome_does_not_change_a_known_member() {
    let ejection = Ejection::default().with_failures(1);
    let options = BalancerOptions::default().with_ejection(Some(ejection));
    let mut world = World::with(options, [member(1), member(2)]);
    for key in [1, 2] {
        world.pick_key(key, NOW).finish(Outcome::Success, NOW + MS);
    }
    for _ in 0..10 {
        assert_eq!(world.pick_key(1, NOW).finish(Outcome::Neutral, NOW + 60_000 * MS), None);
    }
    assert_eq!(world.called(NOW + MS), [1, 2]);
}

#[test]
fn ticket_outlives_its_balancer_and_holds_no_other_value() {
    let mut world = World::new([]);
    let (one, two) = (Arc::new(1), Arc::new(2));
    world.balancer.set([Member::new(1, one.clone()), Member::new(2, two.clone())], NOW);
    let ticket = world.pick_key(1, NOW);
    drop(world);
    assert_eq!((Arc::strong_count(&one), Arc::strong_count(&two)), (2, 1));
    assert_eq!(ticket.finish(Outcome::Failure, NOW), None);
    assert_eq!(Arc::strong_count(&one), 1);
}

#[test]
fn threads_pick_while_members_change() {
    let balancer = Balancer::new(BalancerOptions::default(), 7);
    balancer.set((0..8).map(|key| Member::new(key, key)), NOW);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let balancer = &balancer;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                for n in 0..10_000_u32 {
                    let now = NOW + n * MS;
                    let ticket = balancer.pick(&PickOptions::default(), now, &mut rng).unwrap();
                    assert_eq!(ticket.key(), ticket.value());
                    let outcome = if n % 3 == 0 { Outcome::Failure } else { Outcome::Success };
                    ticket.finish(outcome, now + MS);
                }
            });
        }
        for n in 0..1_000_u32 {
            balancer.set((n % 4..8).map(|key| Member::new(key, key)), NOW);
            balancer.set_ready(&7, n % 2 == 0);
        }
    });
    assert!(balancer.candidates().len() >= 4);
}

/// A member whose first connection took 300 ms was idle for seconds while another took all calls.
#[test]
fn latency_of_a_first_call_that_connects_does_not_count() {
    let options = BalancerOptions::default().with_connects_on_demand(true);
    let balancer = Balancer::new(options, 7);
    balancer.set([Member::new("a", ()), Member::new("b", ())], NOW);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut first = std::collections::HashMap::new();
    while first.len() < 2 {
        let ticket = balancer.pick(&PickOptions::default(), NOW, &mut rng).unwrap();
        first.insert(*ticket.key(), ticket);
    }
    let second = loop {
        let ticket = balancer.pick(&PickOptions::default(), NOW, &mut rng).unwrap();
        if *ticket.key() == "a" {
            break ticket; // this call waits for the same connection
        }
    };
    for (key, ticket) in first {
        ticket.finish(Outcome::Success, NOW + if key == "a" { 300 * MS } else { MS });
    }
    second.finish(Outcome::Success, NOW + 301 * MS);
    let mut now = NOW + 302 * MS;
    let mut picked = 0;
    for _ in 0..200 {
        let ticket = balancer.pick(&PickOptions::default(), now, &mut rng).unwrap();
        picked += u32::from(*ticket.key() == "a");
        now += MS;
        ticket.finish(Outcome::Success, now);
    }
    assert!((60..=140).contains(&picked), "{picked} of 200");
}

/// A server that failed at once got five calls in a row, until it was ejected, because its initial guess was better than
/// the latency of the other server.
#[test]
fn member_whose_first_calls_fail_or_are_neutral_does_not_look_fast() {
    for outcome in [Outcome::Failure, Outcome::Neutral] {
        let mut world = World::new([member(1), member(2)]);
        world.pick_key(2, NOW).finish(Outcome::Success, NOW + 5 * MS);
        world.pick_key(1, NOW).finish(outcome, NOW + MS);
        let picked = world.called(NOW + 10 * MS);
        assert_eq!(picked, [2], "{outcome:?}");
        assert!(world.called(NOW + Duration::from_secs(2)).contains(&1), "it is asked again");
    }
}
