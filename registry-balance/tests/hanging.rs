//! One member of three hangs, and callers give up after a second, by a simulated clock.

#![allow(clippy::unwrap_used)]

use registry_balance::{Balancer, BalancerOptions, Member, Outcome, PickOptions, Ticket};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(1);

/// The hanging member.
const HUNG: u32 = 0;

/// Callers that each start a call as soon as their last one has ended.
struct Simulation {
    balancer: Balancer<u32, ()>,
    rng: fastrand::Rng,
    now: Duration,
    latency: Duration,
    /// The ends of the calls in flight, and their slots.
    ends: BinaryHeap<Reverse<(Duration, usize)>>,
    calls: Vec<Option<Call>>,
}

struct Call {
    ticket: Ticket<u32, ()>,
    is_answered: bool,
}

impl Simulation {
    fn new(callers: usize, latency: Duration) -> Self {
        let balancer = Balancer::new(BalancerOptions::default(), 7);
        let now = Duration::from_secs(10);
        balancer.set((0..3).map(|key| Member::new(key, ())), now);
        let mut calls = Vec::new();
        calls.resize_with(callers, || None);
        // Every caller is about to begin its first call.
        let ends = (0..callers).map(|caller| Reverse((now, caller))).collect();
        Self { balancer, rng: fastrand::Rng::with_seed(7), now, latency, ends, calls }
    }

    /// Ends the call that ends first, and begins the next one of that caller. Returns the member
    /// that takes it.
    fn step(&mut self, hangs: bool) -> u32 {
        let Reverse((now, caller)) = self.ends.pop().unwrap();
        self.now = now;
        match self.calls[caller].take() {
            Some(Call { ticket, is_answered: true }) => {
                ticket.finish(Outcome::Success, now);
            }
            Some(Call { ticket, is_answered: false }) => ticket.abandon(now),
            None => {}
        }
        let ticket = self.balancer.pick(&PickOptions::default(), now, &mut self.rng).unwrap();
        let key = *ticket.key();
        let is_answered = !(hangs && key == HUNG);
        let takes = if is_answered { self.latency } else { TIMEOUT };
        self.ends.push(Reverse((now + takes, caller)));
        self.calls[caller] = Some(Call { ticket, is_answered });
        key
    }

    /// Makes calls for this long. Returns the share of the hanging member in percent.
    fn share(&mut self, period: Duration, hangs: bool) -> f64 {
        let (end, mut calls, mut hung) = (self.now + period, 0_u32, 0_u32);
        while self.now < end {
            calls += 1;
            hung += u32::from(self.step(hangs) == HUNG);
        }
        f64::from(hung) * 100.0 / f64::from(calls)
    }
}

/// An abandoned call did not count at all, so the hanging member kept looking as good as before, and got a third of all
/// calls.
#[test]
fn hanging_member_loses_its_calls_until_it_answers_again() {
    for callers in [1, 10] {
        for millis in [2, 20, 200] {
            let case = format!("callers=`{callers}`, latency=`{millis} ms`");
            let mut simulation = Simulation::new(callers, Duration::from_millis(millis));
            for _ in 0..20 {
                simulation.step(true);
            }
            let share = simulation.share(Duration::from_secs(60), true);
            assert!(share < 5.0, "{share:.1} % of the calls, {case}");

            // The member answers again. The next call to it begins at the latest when its estimate is stale: after a
            // hundred times the duration of its last call.
            simulation.share(Duration::from_secs(101), false);
            let share = simulation.share(Duration::from_secs(10), false);
            assert!((25.0..42.0).contains(&share), "{share:.1} % of the calls, {case}");
        }
    }
}
