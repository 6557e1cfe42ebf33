//! Who gets the next call: of two that are drawn, the better.

use crate::clock::Ticks;
use crate::endpoint::Connection;
use std::sync::Arc;

/// So often a second one is drawn, until it is another than the first. One that has nearly all of the weight has
/// nearly all of the calls.
const TRIES: usize = 4;

/// By how much another must be the better to be preferred to the one that was drawn first. Below it they
/// share the calls by their weights: else the one that is ahead by a hair would get all of them.
const BETTER: f32 = 1.5;

/// Those who may take calls. It is made anew whenever that changes.
#[derive(Debug, Default)]
pub(crate) struct Picker {
    candidates: Box<[Candidate]>,
    /// The sums of the weights up to each, unless all are the same.
    sums: Box<[u64]>,
}

#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) connection: Arc<Connection>,
    /// Not 0.
    pub(crate) weight: u32,
    /// What a pending call counts for, 1 at the average weight.
    share: f32,
}

impl Candidate {
    pub(crate) fn new(connection: Arc<Connection>, weight: u32) -> Self {
        Self { connection, weight, share: 1.0 }
    }

    fn is_usable(&self, now: Ticks) -> bool {
        self.connection.is_open() && self.connection.standing().is_usable(now)
    }
}

impl Picker {
    pub(crate) fn new(mut candidates: Vec<Candidate>) -> Self {
        let weights = || candidates.iter().map(|candidate| candidate.weight);
        let first = weights().next();
        if weights().all(|weight| Some(weight) == first) {
            return Self { candidates: candidates.into(), sums: Box::default() };
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
            let weight = candidate.weight as f32;
            candidate.share = average / weight;
        }
        Self { candidates: candidates.into(), sums }
    }

    /// Who may take calls.
    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The better of two. For one that is ejected another stands in, and if all are, any is taken: to try is
    /// better than to fail. `None` only if no connection is open.
    pub(crate) fn pick(&self, now: Ticks) -> Option<&Candidate> {
        let (first, second) = match &*self.candidates {
            [] => return None,
            [only] => return Some(only).filter(|only| only.connection.is_open()),
            _ => self.two(),
        };
        let turn = match (first.is_usable(now), second.is_usable(now)) {
            (true, true) => return Some(better(first, second, now)),
            (true, false) => first,
            (false, true) => second,
            (false, false) => return self.any_usable(now),
        };
        let is_another = |candidate: &&Candidate| !std::ptr::eq(*candidate, turn);
        let stand_in = self.round().filter(is_another).find(|another| another.is_usable(now));
        Some(stand_in.map_or(turn, |stand_in| better(turn, stand_in, now)))
    }

    /// Whether one more may be ejected: half of all stay at least.
    pub(crate) fn may_eject(&self, now: Ticks) -> bool {
        let ejected = |candidate: &&Candidate| candidate.connection.standing().is_ejected(now);
        let out = self.candidates.iter().filter(ejected).count();
        (out + 1) * 2 <= self.candidates.len()
    }

    /// Two, each drawn by its weight: different ones, if that can be.
    fn two(&self) -> (&Candidate, &Candidate) {
        let count = self.candidates.len();
        let first = self.draw();
        let others = || Some(self.draw()).filter(|second| *second != first);
        let second = if self.sums.is_empty() {
            // Any of the others, without a second try.
            let skip = fastrand::usize(..count - 1);
            if skip < first { skip } else { skip + 1 }
        } else {
            (0..TRIES).find_map(|_| others()).unwrap_or(first)
        };
        (&self.candidates[first], &self.candidates[second])
    }

    fn draw(&self) -> usize {
        match self.sums.last() {
            None => fastrand::usize(..self.candidates.len()),
            Some(total) => {
                let drawn = fastrand::u64(..total);
                self.sums.partition_point(|sum| *sum <= drawn)
            }
        }
    }

    fn any_usable(&self, now: Ticks) -> Option<&Candidate> {
        let usable = self.round().find(|candidate| candidate.is_usable(now));
        usable.or_else(|| self.round().find(|candidate| candidate.connection.is_open()))
    }

    /// All of them, from any of them on.
    fn round(&self) -> impl Iterator<Item = &Candidate> {
        let (before, from) = self.candidates.split_at(fastrand::usize(..self.candidates.len()));
        from.iter().chain(before)
    }
}

/// One whose ejection is over, since it looks slow until a call has shown what it is now. Else the first, unless
/// the second is clearly better, or was forgotten.
fn better<'a>(first: &'a Candidate, second: &'a Candidate, now: Ticks) -> &'a Candidate {
    let awaits_probe = |candidate: &Candidate| candidate.connection.standing().awaits_probe(now);
    if awaits_probe(first) {
        return first;
    }
    let (turn, other) = (first.connection.load(), second.connection.load());
    let is_second = awaits_probe(second)
        || other.is_forgotten(now)
        || other.cost_out_of_turn(now, second.share) * BETTER < turn.cost(now, first.share);
    if is_second { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ejection::Ejection;
    use crate::load::Load;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    fn picker(weights: &[u32]) -> Picker {
        let candidate = |(n, weight): (usize, &u32)| {
            let connection = Connection::untried(format!("h{n}:1").parse().unwrap(), now());
            Candidate::new(Arc::new(connection), *weight)
        };
        Picker::new(weights.iter().enumerate().map(candidate).collect())
    }

    fn now() -> Ticks {
        Ticks::of(10 * MS)
    }

    fn load(picker: &Picker, n: usize) -> &Load {
        picker.candidates()[n].connection.load()
    }

    /// How many of 12,000 calls each gets that are over at once.
    fn shares(picker: &Picker) -> Vec<u32> {
        shares_at(picker, now())
    }

    fn shares_at(picker: &Picker, now: Ticks) -> Vec<u32> {
        let mut shares = vec![0; picker.candidates().len()];
        for _ in 0..12_000 {
            let host = picker.pick(now).unwrap().connection.address().host();
            shares[host[1..].parse::<usize>().unwrap()] += 1;
        }
        shares
    }

    #[tokio::test]
    async fn equals_share_the_calls() {
        let picker = picker(&[100, 100, 100]);
        for n in 0..3 {
            load(&picker, n).answered(MS + MS / 10 * u32::try_from(n).unwrap(), now());
        }
        assert!(shares(&picker).iter().all(|share| (3_600..4_400).contains(share)));
    }

    #[tokio::test]
    async fn weights_are_kept_while_all_are_equally_good() {
        let shares = shares(&picker(&[100, 100, 200, 400]));
        let expected = [1_500, 1_500, 3_000, 6_000];
        for (share, expected) in shares.iter().zip(expected) {
            assert!((expected * 9 / 10..expected * 11 / 10).contains(share), "{shares:?}");
        }
    }

    #[tokio::test]
    async fn a_slow_one_is_taken_only_where_two_slow_ones_are_drawn() {
        let picker = picker(&[100; 4]);
        for (n, latency) in [(0, 1), (1, 1), (2, 50), (3, 50)] {
            load(&picker, n).answered(latency * MS, now());
        }
        let shares = shares(&picker);
        assert!(shares[2] + shares[3] < 2_400, "{shares:?}");
    }

    #[tokio::test]
    async fn a_light_one_is_not_preferred_because_the_heavy_ones_have_calls() {
        let picker = picker(&[100, 1]);
        for _ in 0..4 {
            load(&picker, 0).begin();
        }
        let shares = shares(&picker);
        assert!((60..240).contains(&shares[1]), "a hundredth of them: {shares:?}");
    }

    #[tokio::test]
    async fn of_equals_the_one_with_fewer_calls_is_preferred() {
        let picker = picker(&[100, 100]);
        load(&picker, 0).begin();
        assert_eq!(shares(&picker)[0], 0);
    }

    #[tokio::test]
    async fn an_ejected_one_is_passed_over_and_half_of_them_stay() {
        let picker = picker(&[100, 100, 300]);
        let eject = |n: usize| {
            let standing = picker.candidates()[n].connection.standing();
            standing.eject(&Ejection::default(), now())
        };
        assert!(picker.may_eject(now()));
        assert!(eject(2).is_some());
        assert!(!picker.may_eject(now()), "a second of three");
        assert_eq!(shares(&picker)[2], 0);
        assert!(eject(0).is_some() && eject(1).is_some());
        assert!(picker.pick(now()).is_some(), "to try is better than to fail");
    }

    #[tokio::test]
    async fn a_slow_one_is_not_taken_because_the_other_that_was_drawn_is_ejected() {
        let picker = picker(&[100; 3]);
        for (n, latency) in [(0, 1), (1, 50), (2, 1)] {
            load(&picker, n).answered(latency * MS, now());
        }
        picker.candidates()[0].connection.standing().eject(&Ejection::default(), now());
        assert_eq!(shares(&picker), [0, 0, 12_000]);
    }

    #[tokio::test]
    async fn one_whose_ejection_is_over_gets_a_call_however_slow_it_looks() {
        let picker = picker(&[100, 100, 100]);
        for n in 0..3 {
            load(&picker, n).answered(MS, now());
        }
        let standing = picker.candidates()[2].connection.standing();
        for _ in 0..9 {
            load(&picker, 2).failed(now());
        }
        standing.eject(&Ejection::default(), now());
        assert_eq!(shares(&picker)[2], 0);
        let later = now().plus(Duration::from_millis(1_300));
        assert!((7_600..8_400).contains(&shares_at(&picker, later)[2]), "whenever it is drawn");
        let probe = standing.probe(later).unwrap();
        assert_eq!(shares_at(&picker, later)[2], 0, "one call is enough");
        for n in 0..3 {
            load(&picker, n).answered_again(MS, later);
        }
        standing.readmit(probe);
        assert!((3_600..4_400).contains(&shares_at(&picker, later)[2]), "as good as the others");
    }

    #[tokio::test]
    async fn a_lost_connection_is_passed_over_at_once() {
        let picker = picker(&[100, 100]);
        picker.candidates()[0].connection.lose();
        assert_eq!(shares(&picker)[0], 0);
        picker.candidates()[1].connection.lose();
        assert!(picker.pick(now()).is_none());
    }
}
