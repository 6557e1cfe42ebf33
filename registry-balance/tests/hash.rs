//! Picks by hash: which member each hash goes to.

#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;
use registry_balance::{
    Balancer, BalancerOptions, Ejection, Member, Outcome, PickOptions, Transition, stable_hash,
};
use std::collections::HashMap;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(10);
const HASHES: u32 = 20_000;

/// Returns the member for each hash. The members have these weights by key.
fn assignment(weights: &[(u32, u32)]) -> Vec<u32> {
    let balancer = Balancer::new(BalancerOptions::default(), 7);
    let member = |&(key, weight): &(u32, u32)| Member { weight, ..Member::new(key, ()) };
    balancer.set(weights.iter().map(member), NOW);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut pick = |hash| {
        let options = PickOptions::default().with_hash(hash);
        *balancer.pick(&options, NOW, &mut rng).unwrap().key()
    };
    (0..HASHES).map(|n| pick(stable_hash(&n))).collect()
}

fn members() -> impl Strategy<Value = Vec<(u32, u32)>> {
    vec(1_u32..=400, 2..8).prop_map(|weights| (0..).zip(weights).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn members_get_shares_of_the_hashes_by_their_weights(members in members()) {
        let mut counts = HashMap::<u32, u32>::new();
        for key in assignment(&members) {
            *counts.entry(key).or_default() += 1;
        }
        let total: u32 = members.iter().map(|(_, weight)| weight).sum();
        for (key, weight) in &members {
            let expected = f64::from(*weight) * 100.0 / f64::from(total);
            let count = counts.get(key).copied().unwrap_or_default();
            let share = f64::from(count) * 100.0 / f64::from(HASHES);
            prop_assert!(
                (share - expected).abs() <= 3.0,
                "member {key} of {members:?}: {share:.1} %, expected=`{expected:.1}`"
            );
        }
    }

    /// One comparison covers adding and removing: the longer list has one member more than the shorter one.
    #[test]
    fn member_that_comes_or_goes_moves_only_its_own_hashes(
        members in members(),
        changed in any::<prop::sample::Index>(),
    ) {
        let changed = changed.index(members.len());
        let mut others = members.clone();
        let (key, _) = others.remove(changed);
        let (with, without) = (assignment(&members), assignment(&others));
        prop_assert!(with.contains(&key));
        prop_assert!(with.iter().zip(&without).all(|(with, without)| *with == key || with == without));
    }

    #[test]
    fn heavier_member_takes_hashes_from_others_and_loses_none(
        members in members(),
        changed in any::<prop::sample::Index>(),
        more in 1_u32..400,
    ) {
        let mut heavier = members.clone();
        let changed = changed.index(members.len());
        heavier[changed].1 += more;
        let (key, _) = members[changed];
        let (before, after) = (assignment(&members), assignment(&heavier));
        prop_assert!(before.iter().zip(&after).all(|(before, after)| *after == key || before == after));
    }
}

#[test]
fn hash_goes_to_the_same_member_regardless_of_latency_and_calls_in_flight() {
    let balancer = Balancer::new(BalancerOptions::default(), 7);
    balancer.set((0..5).map(|key| Member::new(key, ())), NOW);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut pick = |hash| balancer.pick(&PickOptions::default().with_hash(hash), NOW, &mut rng);
    let first = *pick(3).unwrap().key();
    let in_flight: Vec<_> = (0..20).map(|_| pick(3).unwrap()).collect();
    assert!(in_flight.iter().all(|ticket| *ticket.key() == first));
    for ticket in in_flight {
        ticket.finish(Outcome::Success, NOW + Duration::from_secs(30));
    }
    assert_eq!(*pick(3).unwrap().key(), first);
}

#[test]
fn hash_returns_to_its_member_after_the_ejection() {
    let ejection = Ejection::default().with_failures(1);
    let options = BalancerOptions::default().with_ejection(Some(ejection));
    let balancer = Balancer::new(options, 7);
    balancer.set((0..5).map(|key| Member::new(key, ())), NOW);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut pick = |now| balancer.pick(&PickOptions::default().with_hash(3), now, &mut rng);
    let ticket = pick(NOW).unwrap();
    let first = *ticket.key();
    let ejected = ticket.finish(Outcome::Failure, NOW);
    let Some(Transition::Ejected { duration, .. }) = ejected else { panic!("{ejected:?}") };
    let second = *pick(NOW).unwrap().key();
    assert_ne!(second, first);

    let later = NOW + duration + Duration::from_millis(1);
    let probe = pick(later).unwrap();
    assert_eq!(*probe.key(), first);
    assert_eq!(*pick(later).unwrap().key(), second, "one call probes it");
    probe.finish(Outcome::Success, later);
    assert_eq!(*pick(later).unwrap().key(), first);
}

/// A restart changes the key, so that latency and ejection start anew. When hashes went by the key, a restart also moved
/// hashes of all members.
#[test]
fn restarted_member_keeps_its_hashes_by_its_hash_key() {
    let assignment = |incarnation: u32| -> Vec<u32> {
        let balancer = Balancer::new(BalancerOptions::default(), 7);
        let member = |id: u32| {
            let incarnation = if id == 2 { incarnation } else { 1 };
            Member { hash_key: Some(stable_hash(&id)), ..Member::new((id, incarnation), ()) }
        };
        balancer.set((0..5).map(member), NOW);
        let mut rng = fastrand::Rng::with_seed(7);
        let mut pick = |hash| {
            let options = PickOptions::default().with_hash(hash);
            balancer.pick(&options, NOW, &mut rng).unwrap().key().0
        };
        (0..1_000).map(&mut pick).collect()
    };
    assert_eq!(assignment(1), assignment(2));
}

#[test]
fn predicate_excludes_members_by_a_part_of_their_key() {
    let balancer = Balancer::new(BalancerOptions::default(), 7);
    let keys = [("a", 1), ("a", 2), ("b", 1)];
    balancer.set(keys.map(|key| Member::new(key, ())), NOW);
    let mut rng = fastrand::Rng::with_seed(7);
    for hash in [None, Some(3)] {
        for _ in 0..100 {
            let accept = |&(id, _): &(&str, i32)| id != "a";
            let ticket = balancer.pick_where(hash, accept, NOW, &mut rng).unwrap();
            assert_eq!(*ticket.key(), ("b", 1));
        }
        assert!(balancer.pick_where(hash, |_| false, NOW, &mut rng).is_err());
    }
}
