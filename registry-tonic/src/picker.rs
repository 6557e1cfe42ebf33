//! Who gets the next call: of two that are drawn, the better.

use crate::endpoint::Connection;
use crate::load::Ticks;
use std::sync::Arc;

/// So often a second one is drawn that is not the first, until its neighbour is taken.
const TRIES: usize = 4;

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
        self.connection.is_open() && self.connection.load().is_usable(now)
    }

    fn cost(&self, now: Ticks) -> f32 {
        self.connection.load().cost(now, self.share)
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

    /// The better of two. If both are ejected any other, and if all are the better all the same: to try is
    /// better than to fail. `None` only if no connection is open.
    pub(crate) fn pick(&self, now: Ticks) -> Option<&Candidate> {
        let (first, second) = match &*self.candidates {
            [] => return None,
            [only] => return Some(only).filter(|only| only.connection.is_open()),
            _ => self.two(),
        };
        match (first.is_usable(now), second.is_usable(now)) {
            (true, true) => Some(cheaper(first, second, now)),
            (true, false) => Some(first),
            (false, true) => Some(second),
            (false, false) => self.any_usable(now),
        }
    }

    /// Whether one more may be ejected: half of all stay at least.
    pub(crate) fn may_eject(&self, now: Ticks) -> bool {
        let ejected = |candidate: &&Candidate| candidate.connection.load().is_ejected(now);
        let out = self.candidates.iter().filter(ejected).count();
        (out + 1) * 2 <= self.candidates.len()
    }

    /// Two different ones, each drawn by its weight.
    fn two(&self) -> (&Candidate, &Candidate) {
        let count = self.candidates.len();
        let first = self.draw();
        let others = || Some(self.draw()).filter(|second| *second != first);
        let second = if self.sums.is_empty() {
            // Any of the others, without a second try.
            let skip = fastrand::usize(..count - 1);
            if skip < first { skip } else { skip + 1 }
        } else {
            (0..TRIES).find_map(|_| others()).unwrap_or((first + 1) % count)
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
        let (before, from) = self.candidates.split_at(fastrand::usize(..self.candidates.len()));
        let round = || from.iter().chain(before);
        round()
            .find(|candidate| candidate.is_usable(now))
            .or_else(|| round().find(|candidate| candidate.connection.is_open()))
    }
}

fn cheaper<'a>(first: &'a Candidate, second: &'a Candidate, now: Ticks) -> &'a Candidate {
    if second.cost(now) < first.cost(now) { second } else { first }
}
