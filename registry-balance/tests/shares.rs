//! What share of the calls each member gets, at any rate and latency, by a simulated clock.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use registry_balance::{Balancer, BalancerOptions, Member, Outcome, PickOptions, Ticket};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// The number of calls, and how many of the first ones are not counted.
const CALLS: u32 = 20_000;
const FIRST: u32 = 500;

/// Makes calls at random times in an open loop. Each call takes `latency`, and `load` calls are in flight on average.
/// Returns the share of the first of two members in percent.
fn share(weights: [u32; 2], latency: Duration, load: f64, seed: u64) -> f64 {
    let balancer = Balancer::<u32, ()>::new(BalancerOptions::default(), seed);
    let mut now = Duration::from_secs(10);
    let members =
        [0, 1].map(|key| Member { weight: weights[key as usize], ..Member::new(key, ()) });
    balancer.set(members, now);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut due = BinaryHeap::new();
    let mut under_way = HashMap::<u32, Ticket<u32, ()>>::new();
    let mut first = 0;
    for call in 0..CALLS {
        // As from many independent callers.
        now += latency.mul_f64(-(1.0 - rng.f64()).ln() / load);
        while let Some(Reverse((end, ended))) = due.peek().copied() {
            if end > now {
                break;
            }
            due.pop();
            under_way.remove(&ended).unwrap().finish(Outcome::Success, end);
        }
        let ticket = balancer.pick(&PickOptions::default(), now, &mut rng).unwrap();
        first += u32::from(call >= FIRST && *ticket.key() == 0);
        under_way.insert(call, ticket);
        due.push(Reverse((now + latency, call)));
    }
    f64::from(first) * 100.0 / f64::from(CALLS - FIRST)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn members_get_calls_by_their_weight_at_any_rate_and_latency(
        micros in 200_u64..100_000,
        load in 0.05_f64..20.0,
        seed: u64,
    ) {
        let latency = Duration::from_micros(micros);
        for (weights, expected, within) in
            [([100, 100], 50.0, 5.0), ([100, 50], 66.7, 3.0), ([100, 25], 80.0, 3.0)]
        {
            let share = share(weights, latency, load, seed);
            prop_assert!(
                (share - expected).abs() <= within,
                "{weights:?}: {share:.1} % of the calls, latency=`{latency:?}`, load=`{load:.2}`"
            );
        }
    }
}
