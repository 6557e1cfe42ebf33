//! Retention: which deleted instances a view still shows, and for how long. Pure: time is an argument.
//!
//! After data loss or a mass expiry, a store reports live instances as deleted. So an instance whose deletion nobody
//! announced stays in the view, marked, for as long as its owner may need to register it again.

use crate::bounds::return_bound;
use registry_core::{InstanceId, InstanceStatus, LeaseId, Record, Records};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// The shortest full hold time.
const MIN_FULL_HOLD_TIME: Duration = Duration::from_secs(30);

/// An instance that a view still shows although the store no longer lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retained {
    /// The record, as the store last listed it.
    pub record: Record,
    /// When the view saw that the store no longer lists it.
    pub since: Instant,
}

/// The retained instances, and what a view knows of the store's health.
#[derive(Debug)]
pub(super) struct Retention {
    /// The ttl of records that state none. `None` turns retention off.
    ttl: Option<Duration>,
    retained: BTreeMap<InstanceId, Entry>,
    health: Health,
    /// The numbers of listed instances that no later number exceeds, oldest first, and until when each was valid.
    peaks: VecDeque<(Instant, usize)>,
}

#[derive(Debug)]
struct Entry {
    retained: Retained,
    /// Whether the deletion is doubtful, so that the instance is held for the full time.
    is_doubtful: bool,
    /// Whether the deletion came while the view was cut, so that the end of the cut decides.
    is_undecided: bool,
}

/// Whether the store answers this view.
#[derive(Clone, Copy, Debug)]
enum Health {
    /// It has answered all the time.
    Sound,
    /// It does not answer.
    Broken,
    /// It has answered since then. Before, there was trouble that may have cost living instances their lease.
    Recovered(Instant),
}

impl Health {
    /// Whether there is trouble, or was within the last `time`.
    fn saw_trouble(self, now: Instant, time: Duration) -> bool {
        match self {
            Self::Sound => false,
            Self::Broken => true,
            Self::Recovered(at) => now < at + time,
        }
    }
}

impl Retention {
    pub(super) fn new(ttl: Option<Duration>) -> Self {
        Self { ttl, retained: BTreeMap::new(), health: Health::Sound, peaks: VecDeque::new() }
    }

    /// The view lost its watch, or the store does not answer. No hold time ends before the store answers again.
    pub(super) fn broken(&mut self) {
        self.health = Health::Broken;
    }

    /// The store answers again after trouble, and has since `now`: what is retained is doubtful.
    pub(super) fn recovered(&mut self, now: Instant) {
        self.health = Health::Recovered(now);
        self.doubt_all();
    }

    /// The watch continues after a cut that cost no instance its lease. `before` is the health before the cut.
    pub(super) fn resumed(&mut self, before: Option<Instant>) {
        self.health = before.map_or(Health::Sound, Health::Recovered);
        let Self { health, retained, ttl, .. } = self;
        for Entry { retained, is_doubtful, is_undecided } in retained.values_mut() {
            if std::mem::take(is_undecided) {
                let ttl = retained.record.ttl().or(*ttl).unwrap_or_default();
                *is_doubtful |= health.saw_trouble(retained.since, full_hold_time(ttl));
            }
        }
    }

    /// Returns since when the store has answered, if there was trouble before.
    pub(super) fn recovered_at(&self) -> Option<Instant> {
        match self.health {
            Health::Recovered(at) => Some(at),
            Health::Sound | Health::Broken => None,
        }
    }

    /// The store lists `id`. Returns whether it was retained.
    pub(super) fn listed(&mut self, id: &InstanceId) -> bool {
        self.retained.remove(id).is_some()
    }

    /// This incarnation of `id` refused a connection, as was reported at `at`. Returns whether that ended its retention: a
    /// refusal from before the deletion does not.
    pub(super) fn refused(
        &mut self,
        id: &InstanceId,
        incarnation: Option<LeaseId>,
        at: Instant,
    ) -> bool {
        let is_evidence = |Entry { retained, .. }: &Entry| {
            retained.record.lease() == incarnation && retained.since <= at
        };
        let ends = self.retained.get(id).is_some_and(is_evidence);
        ends && self.retained.remove(id).is_some()
    }

    /// The number of listed instances changed from `before` to `after`, and nobody announced the deletion of
    /// `deleted`.
    pub(super) fn deleted(
        &mut self,
        now: Instant,
        deleted: Vec<Record>,
        before: usize,
        after: usize,
    ) {
        let Some(ttl) = self.ttl else { return };
        self.expire(now);
        let ttl = deleted.iter().filter_map(Record::ttl).max().unwrap_or(ttl);
        let most = self.most_listed(now, before, ttl);
        let lost = most.saturating_sub(after);
        for record in deleted {
            let id = record.id().clone();
            let is_undecided = matches!(self.health, Health::Broken);
            let time = full_hold_time(self.ttl_of(&record));
            let is_doubtful = !is_undecided && self.health.saw_trouble(now, time);
            let retained = Retained { record, since: now };
            self.retained.insert(id, Entry { retained, is_doubtful, is_undecided });
        }
        if after == 0 || (lost >= 2 && 2 * lost >= most) {
            self.doubt_all();
        }
    }

    /// Releases the instances whose hold time is over. Returns how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let before = self.retained.len();
        let ends: Vec<bool> = self.ends().map(|end| end.is_some_and(|end| end <= now)).collect();
        let mut ends = ends.into_iter();
        self.retained.retain(|_, _| !ends.next().unwrap_or_default());
        before - self.retained.len()
    }

    /// Returns whether deleted instances are retained.
    pub(super) fn is_on(&self) -> bool {
        self.ttl.is_some()
    }

    /// Returns when to [expire](Self::expire) next.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.ends().flatten().min()
    }

    /// Returns the retained instances, in order of id.
    pub(super) fn retained(&self) -> impl ExactSizeIterator<Item = &Retained> {
        self.retained.values().map(|entry| &entry.retained)
    }

    /// When the hold time of each retained instance ends, in order of id. `None`: not before the store answers.
    fn ends(&self) -> impl Iterator<Item = Option<Instant>> {
        self.retained.values().map(|Entry { retained, is_doubtful, .. }| {
            let ttl = self.ttl_of(&retained.record);
            match (self.health, is_doubtful) {
                (Health::Broken, _) => None,
                (_, false) => Some(retained.since + hold_time(ttl)),
                (Health::Sound, true) => Some(retained.since + full_hold_time(ttl)),
                (Health::Recovered(at), true) => Some(retained.since.max(at) + full_hold_time(ttl)),
            }
        })
    }

    fn doubt_all(&mut self) {
        self.retained.values_mut().for_each(|entry| entry.is_doubtful = true);
    }

    /// Returns the most instances that were listed at once within the last `ttl`, given that `listed` were until now.
    fn most_listed(&mut self, now: Instant, listed: usize, ttl: Duration) -> usize {
        while self.peaks.back().is_some_and(|(_, count)| *count <= listed) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((now, listed));
        while self.peaks.front().is_some_and(|(until, _)| *until + ttl < now) {
            self.peaks.pop_front();
        }
        self.peaks.front().map_or(listed, |(_, count)| *count)
    }

    fn ttl_of(&self, record: &Record) -> Duration {
        record.ttl().or(self.ttl).unwrap_or_default()
    }
}

/// How long an instance is held whose deletion is no more doubtful than any: as long as its owner may need to register it
/// again, and 1 s for the change to arrive.
fn hold_time(ttl: Duration) -> Duration {
    return_bound(ttl) + Duration::from_secs(1)
}

/// How long an instance is held whose deletion is doubtful, while the store answers without a break.
fn full_hold_time(ttl: Duration) -> Duration {
    MIN_FULL_HOLD_TIME.max(ttl * 2)
}

/// Returns the records of `before` that are not in `after`. Both are sorted by id.
pub(super) fn missing(before: &Records, after: &Records) -> Vec<Record> {
    let mut after = after.iter().peekable();
    let is_missing = |record: &&Record| {
        while after.next_if(|next| next.id() < record.id()).is_some() {}
        after.peek().is_none_or(|next| next.id() != record.id())
    };
    before.iter().filter(is_missing).cloned().collect()
}

/// Returns whether the instance has announced that it goes.
pub(super) fn is_draining(record: &Record) -> bool {
    record.instance().status() == InstanceStatus::Draining
}

#[cfg(test)]
mod tests;
