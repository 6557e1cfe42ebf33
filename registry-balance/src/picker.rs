//! The choice of an endpoint: by power of two choices, the better of two drawn endpoints; or by
//! rendezvous hashing, the endpoint with the highest score.

use crate::endpoint::Endpoint;
use crate::hash::score;
use crate::rng::{Rng, below, index};
use crate::stats::EndpointStats;
use crate::time::Ticks;
use std::sync::Arc;

/// How often a second endpoint is drawn until it differs from the first. The limit lets an endpoint
/// with almost all of the weight get almost all calls.
const MAX_DRAWS: usize = 4;

/// The factor by which the second endpoint must be better than the first. Endpoints that differ by less
/// share the calls by weight: otherwise a slightly better endpoint would get all of them.
const MARGIN: f32 = 1.5;

/// The endpoints that take calls. A new picker is built whenever they change.
#[derive(Debug)]
pub(crate) struct Picker<K, T> {
    candidates: Box<[Candidate<K, T>]>,
    /// The cumulative weights of the candidates; empty if all weights are equal.
    sums: Box<[u64]>,
}

#[derive(Debug)]
struct Candidate<K, T> {
    endpoint: Arc<Endpoint<K, T>>,
    /// The average weight divided by that of the endpoint: what each call in flight counts.
    share: f32,
}

impl<K, T> Picker<K, T> {
    /// Returns a picker of these endpoints, whose weights are not 0.
    pub(crate) fn new(endpoints: impl Iterator<Item = Arc<Endpoint<K, T>>>) -> Self {
        let candidate = |endpoint| Candidate { endpoint, share: 1.0 };
        let mut candidates: Box<[_]> = endpoints.map(candidate).collect();
        let weights = || candidates.iter().map(|candidate| candidate.endpoint.weight);
        let first = weights().next();
        if weights().all(|weight| Some(weight) == first) {
            return Self { candidates, sums: Box::default() };
        }
        let mut sum = 0;
        let sums = weights().map(|weight| {
            sum += u64::from(weight);
            sum
        });
        let sums: Box<[u64]> = sums.collect();
        #[allow(clippy::cast_precision_loss)]
        let average = sum as f32 / candidates.len() as f32;
        for candidate in &mut candidates {
            #[allow(clippy::cast_precision_loss)]
            let weight = candidate.endpoint.weight as f32;
            candidate.share = average / weight;
        }
        Self { candidates, sums }
    }

    /// Returns the endpoints that take calls.
    pub(crate) fn endpoints(&self) -> impl ExactSizeIterator<Item = &Arc<Endpoint<K, T>>> {
        self.candidates.iter().map(|candidate| &candidate.endpoint)
    }

    /// Returns whether the endpoint with these statistics may be ejected: at least half of all then remain.
    pub(crate) fn may_eject(&self, stats: &EndpointStats) -> bool {
        let others = self.endpoints().map(|endpoint| &*endpoint.stats);
        let others = others.filter(|other| !std::ptr::eq(*other, stats));
        let ejected = others.filter(|other| other.ejection.is_ejected()).count();
        (ejected + 1) * 2 <= self.candidates.len()
    }
}

impl<K, T> Picker<K, T> {
    /// Returns the better of two drawn endpoints. Another endpoint replaces a drawn one that is
    /// ejected. If all are ejected, any of them is returned: an attempt is better than a failure.
    /// `None` only if no key is accepted.
    pub(crate) fn pick(
        &self,
        accepts: impl Fn(&K) -> bool,
        now: Ticks,
        rng: &mut impl Rng,
    ) -> Option<&Arc<Endpoint<K, T>>> {
        let is_usable = |candidate: &Candidate<K, T>| {
            accepts(&candidate.endpoint.key) && candidate.endpoint.stats.ejection.is_usable(now)
        };
        let (first, second) = match &*self.candidates {
            [] => return None,
            [only] => return accepts(&only.endpoint.key).then_some(&only.endpoint),
            _ => self.two(rng),
        };
        match (is_usable(first), is_usable(second)) {
            (true, true) => Some(better(first, second, now)),
            (true, false) => self.with_stand_in(Some(first), accepts, now, rng),
            (false, true) => self.with_stand_in(Some(second), accepts, now, rng),
            (false, false) => self.with_stand_in(None, accepts, now, rng),
        }
    }

    /// Returns the better of the usable endpoint that was `drawn`, if any, and another usable one.
    #[cold]
    fn with_stand_in<'a>(
        &'a self,
        drawn: Option<&'a Candidate<K, T>>,
        accepts: impl Fn(&K) -> bool,
        now: Ticks,
        rng: &mut impl Rng,
    ) -> Option<&'a Arc<Endpoint<K, T>>> {
        let is_accepted = |candidate: &Candidate<K, T>| accepts(&candidate.endpoint.key);
        let is_usable = |candidate: &Candidate<K, T>| {
            is_accepted(candidate) && candidate.endpoint.stats.ejection.is_usable(now)
        };
        let Some(drawn) = drawn else {
            let any = self.round(rng).find(|any| is_usable(any));
            let any = any.or_else(|| self.round(rng).find(|any| is_accepted(any)));
            return any.map(|any| &any.endpoint);
        };
        let is_another = |another: &&Candidate<K, T>| !std::ptr::eq(*another, drawn);
        let stand_in = self.round(rng).filter(is_another).find(|another| is_usable(another));
        Some(stand_in.map_or(&drawn.endpoint, |stand_in| better(drawn, stand_in, now)))
    }

    /// Returns the accepted endpoint with the highest score for `hash` that is not ejected. If all are
    /// ejected, it returns one of them, as [`pick`](Self::pick) does.
    pub(crate) fn pick_by_hash(
        &self,
        hash: u64,
        accepts: impl Fn(&K) -> bool,
        now: Ticks,
    ) -> Option<&Arc<Endpoint<K, T>>> {
        let accepted = || self.endpoints().filter(|endpoint| accepts(&endpoint.key));
        let usable = accepted().filter(|endpoint| endpoint.stats.ejection.is_usable(now));
        highest(hash, usable).or_else(|| highest(hash, accepted()))
    }

    /// Returns two candidates drawn by weight, different ones if possible.
    fn two(&self, rng: &mut impl Rng) -> (&Candidate<K, T>, &Candidate<K, T>) {
        let first = self.draw(rng);
        let second = if self.sums.is_empty() {
            // Any of the others, without drawing again.
            let skip = index(self.candidates.len() - 1, rng);
            if skip < first { skip } else { skip + 1 }
        } else {
            let draw = |_| Some(self.draw(rng)).filter(|second| *second != first);
            (0..MAX_DRAWS).find_map(draw).unwrap_or(first)
        };
        (&self.candidates[first], &self.candidates[second])
    }

    fn draw(&self, rng: &mut impl Rng) -> usize {
        match self.sums.last() {
            None => index(self.candidates.len(), rng),
            Some(total) => {
                let drawn = below(*total, rng);
                self.sums.partition_point(|sum| *sum <= drawn)
            }
        }
    }

    /// Returns all candidates in order, starting at a random one.
    fn round(&self, rng: &mut impl Rng) -> impl Iterator<Item = &Candidate<K, T>> {
        let (before, from) = self.candidates.split_at(index(self.candidates.len(), rng));
        from.iter().chain(before)
    }
}

/// A picker without endpoints.
impl<K, T> Default for Picker<K, T> {
    fn default() -> Self {
        Self { candidates: Box::default(), sums: Box::default() }
    }
}

/// Returns the endpoint with the highest score for `hash`.
fn highest<'a, K, T>(
    hash: u64,
    endpoints: impl Iterator<Item = &'a Arc<Endpoint<K, T>>>,
) -> Option<&'a Arc<Endpoint<K, T>>> {
    let scored = endpoints.map(|endpoint| {
        let Endpoint { hash_key, weight, .. } = **endpoint;
        (score(hash, hash_key, weight), endpoint)
    });
    let highest = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    highest.map(|(_, endpoint)| endpoint)
}

/// Returns the better of two endpoints. A half-open one is preferred: it looks slow until a probe succeeds. Otherwise
/// the first wins, unless the second is clearly better, or its estimate is stale and the first is not clearly better.
#[inline]
fn better<'a, K, T>(
    first: &'a Candidate<K, T>,
    second: &'a Candidate<K, T>,
    now: Ticks,
) -> &'a Arc<Endpoint<K, T>> {
    let (one, other) = (&*first.endpoint.stats, &*second.endpoint.stats);
    let cost = one.cost(now, first.share);
    // An equally good endpoint gets its share of calls when it is drawn first.
    let is_worse = || cost * MARGIN < other.cost(now, second.share);
    let lighter = first.share.max(second.share);
    let is_second = !one.ejection.is_half_open(now)
        && (other.ejection.is_half_open(now)
            || other.cost_as_second(now, second.share, lighter) * MARGIN < cost
            || other.is_stale(now) && is_worse());
    if is_second { &second.endpoint } else { &first.endpoint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ejection::Ejection;
    use crate::hash::stable_hash;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);
    const NO_JITTER: f64 = 1.0;

    fn picker(weights: &[u32]) -> Picker<usize, ()> {
        let endpoint = |(key, weight): (usize, &u32)| {
            let stats = Arc::new(EndpointStats::new(None, now()));
            let hash_key = stable_hash(&key);
            Arc::new(Endpoint { key, value: (), weight: *weight, hash_key, stats })
        };
        Picker::new(weights.iter().enumerate().map(endpoint))
    }

    fn now() -> Ticks {
        Ticks::of(10 * MS)
    }

    fn stats(picker: &Picker<usize, ()>, key: usize) -> &EndpointStats {
        &picker.candidates[key].endpoint.stats
    }

    fn eject(picker: &Picker<usize, ()>, key: usize) -> Option<Duration> {
        let ejection = &stats(picker, key).ejection;
        ejection.eject(&Ejection::default(), NO_JITTER, ejection.admit_anyway(), now())
    }

    /// How many of 12,000 calls each endpoint gets that are over at once.
    fn shares(picker: &Picker<usize, ()>) -> Vec<u32> {
        shares_at(picker, now())
    }

    fn shares_at(picker: &Picker<usize, ()>, now: Ticks) -> Vec<u32> {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut shares = vec![0; picker.candidates.len()];
        for _ in 0..12_000 {
            shares[picker.pick(|_| true, now, &mut rng).unwrap().key] += 1;
        }
        shares
    }

    #[test]
    fn equal_endpoints_share_the_calls() {
        let picker = picker(&[100, 100, 100]);
        for key in 0..3 {
            stats(&picker, key).answered(MS + MS / 10 * u32::try_from(key).unwrap(), now());
        }
        assert!(shares(&picker).iter().all(|share| (3_600..4_400).contains(share)));
    }

    #[test]
    fn equally_good_endpoints_share_the_calls_by_weight() {
        let shares = shares(&picker(&[100, 100, 200, 400]));
        let expected = [1_500, 1_500, 3_000, 6_000];
        for (share, expected) in shares.iter().zip(expected) {
            assert!((expected * 9 / 10..expected * 11 / 10).contains(share), "{shares:?}");
        }
    }

    #[test]
    fn slow_endpoint_is_picked_only_where_two_slow_ones_are_drawn() {
        let picker = picker(&[100; 4]);
        for (key, latency) in [(0, 1), (1, 1), (2, 50), (3, 50)] {
            stats(&picker, key).answered(latency * MS, now());
        }
        let shares = shares(&picker);
        assert!(shares[2] + shares[3] < 2_400, "{shares:?}");
    }

    #[test]
    fn light_endpoint_is_not_preferred_because_the_heavy_one_has_calls() {
        let picker = picker(&[100, 1]);
        for _ in 0..4 {
            stats(&picker, 0).begin();
        }
        let shares = shares(&picker);
        assert!((60..240).contains(&shares[1]), "a hundredth of them: {shares:?}");
    }

    #[test]
    fn endpoint_with_fewer_calls_in_flight_is_preferred_to_an_equal_one() {
        let picker = picker(&[100, 100]);
        stats(&picker, 0).begin();
        assert_eq!(shares(&picker)[0], 0);
    }

    #[test]
    fn ejected_endpoint_is_passed_over_and_half_of_them_stay() {
        let picker = picker(&[100, 100, 300]);
        assert!(picker.may_eject(stats(&picker, 2)));
        assert!(eject(&picker, 2).is_some());
        assert!(!picker.may_eject(stats(&picker, 0)), "a second of three");
        assert!(picker.may_eject(stats(&picker, 2)), "the same again");
        assert_eq!(shares(&picker)[2], 0);
        assert!(eject(&picker, 0).is_some() && eject(&picker, 1).is_some());
        assert_eq!(shares(&picker).iter().sum::<u32>(), 12_000, "a try is better than a failure");
    }

    #[test]
    fn slow_endpoint_is_not_picked_just_because_the_other_drawn_one_is_ejected() {
        let picker = picker(&[100; 3]);
        for (key, latency) in [(0, 1), (1, 50), (2, 1)] {
            stats(&picker, key).answered(latency * MS, now());
        }
        eject(&picker, 0);
        assert_eq!(shares(&picker), [0, 0, 12_000]);
    }

    #[test]
    fn half_open_endpoint_gets_a_call_even_if_it_looks_slow() {
        let picker = picker(&[100, 100, 100]);
        for key in 0..3 {
            stats(&picker, key).answered(MS, now());
        }
        let ejection = &stats(&picker, 2).ejection;
        for _ in 0..9 {
            stats(&picker, 2).failed(ejection.admit_anyway(), now()).unwrap();
        }
        eject(&picker, 2);
        assert_eq!(shares(&picker)[2], 0);
        let later = now().plus(Duration::from_millis(1_300));
        assert!((7_600..8_400).contains(&shares_at(&picker, later)[2]), "whenever it is drawn");
        let probe = ejection.admit(later, Some(&Ejection::default())).unwrap();
        assert!(probe.is_probe());
        assert_eq!(shares_at(&picker, later)[2], 0, "one call is enough");
        for key in 0..3 {
            stats(&picker, key).probe_answered(MS, later);
        }
        stats(&picker, 2).succeeded(probe);
        assert!((3_600..4_400).contains(&shares_at(&picker, later)[2]), "as good as the others");
    }

    #[test]
    fn excluded_endpoint_is_never_picked() {
        let picker = picker(&[100, 100, 100]);
        let mut rng = fastrand::Rng::with_seed(7);
        let mut pick = |exclude: &[usize]| {
            picker.pick(|key| !exclude.contains(key), now(), &mut rng).map(|it| it.key)
        };
        eject(&picker, 2);
        assert!((0..100).all(|_| pick(&[0]) == Some(1)), "the other one is ejected");
        assert!((0..100).all(|_| pick(&[0, 1]) == Some(2)), "ejected is better than excluded");
        assert_eq!(pick(&[0, 1, 2]), None);
    }
    #[test]
    fn excluded_or_ejected_endpoint_is_passed_over_by_hash() {
        let picker = picker(&[100, 100, 100]);
        let pick = |exclude: &[usize]| {
            picker.pick_by_hash(7, |key| !exclude.contains(key), now()).map(|it| it.key)
        };
        let first = pick(&[]).unwrap();
        let second = pick(&[first]).unwrap();
        eject(&picker, first);
        assert_eq!(pick(&[]), Some(second));
        eject(&picker, second);
        let third = pick(&[]).unwrap();
        assert!(third != first && third != second);
        assert_eq!(pick(&[third]), Some(first), "ejected is better than excluded");
        assert_eq!(pick(&[0, 1, 2]), None);
    }
}
