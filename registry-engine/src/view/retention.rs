//! Retention: which deleted instances a view still shows, and for how long. It is pure: time is an argument.
//!
//! After data loss or a mass expiry, a store reports live instances as deleted. So an instance that was deleted without
//! being withdrawn stays in the view, marked as retained, for as long as its owner may need to register it again.

use crate::bounds::return_bound;
use registry_core::{InstanceId, InstanceStatus, LeaseId, Record, Records};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// The minimum of the full hold time.
const MIN_FULL_HOLD_TIME: Duration = Duration::from_secs(30);

/// An instance that a view still shows although the store no longer lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retained {
    /// The record, as the store last listed it.
    pub record: Record,
    /// When the view noticed that the store no longer lists it.
    pub since: Instant,
}

/// The retained instances, and the health of the store as the view sees it.
#[derive(Debug)]
pub(super) struct Retention {
    /// The ttl of records without a ttl. `None` turns retention off.
    ttl: Option<Duration>,
    retained: BTreeMap<InstanceId, Entry>,
    health: Health,
    /// The counts of listed instances that no later count exceeds, oldest first, each with the time until which it was
    /// valid.
    peaks: VecDeque<(Instant, usize)>,
}

#[derive(Debug)]
struct Entry {
    retained: Retained,
    /// Whether the deletion is doubtful, so that the instance is held for the full hold time.
    is_doubtful: bool,
    /// Whether the deletion came during a disruption, so that the end of the disruption decides whether it is doubtful.
    is_undecided: bool,
}

/// The health of the store, as this view sees it.
#[derive(Clone, Copy, Debug)]
enum Health {
    /// There has been no trouble.
    Sound,
    /// The store does not answer.
    Broken,
    /// The store has answered since this time. The trouble before may have cost live instances their lease.
    Recovered(Instant),
}

impl Health {
    /// Returns whether there is trouble now, or was within the last `time`.
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

    /// Records that the view lost its watch or that the store does not answer. No hold time ends before the store
    /// answers again.
    pub(super) fn broken(&mut self) {
        self.health = Health::Broken;
    }

    /// Records that the store answers again after trouble, from `now` on. All retained deletions become doubtful.
    pub(super) fn recovered(&mut self, now: Instant) {
        self.health = Health::Recovered(now);
        self.doubt_all();
    }

    /// Records that the watch continues after a disruption that cost no instance its lease. `before` is the
    /// [recovery](Self::recovered_at) before the disruption.
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

    /// Returns since when the store has answered again, if there was trouble.
    pub(super) fn recovered_at(&self) -> Option<Instant> {
        match self.health {
            Health::Recovered(at) => Some(at),
            Health::Sound | Health::Broken => None,
        }
    }

    /// Records that the store lists `id`. Returns whether it was retained.
    pub(super) fn listed(&mut self, id: &InstanceId) -> bool {
        self.retained.remove(id).is_some()
    }

    /// Records a report from the time `at` that this incarnation of `id` refused a connection. Returns whether that
    /// ended its retention; a report from before the deletion does not.
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

    /// Records that `deleted` were deleted without being withdrawn, and that the number of listed instances changed
    /// from `before` to `after`.
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

    /// Releases the instances whose hold time is over, and returns their number.
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

    /// Returns the end of the hold time of each retained instance, in order of id. `None` while the store does not
    /// answer.
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

    /// Returns the maximum number of instances that were listed at once within the last `ttl`. `listed` is the number
    /// until now.
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

/// Returns the regular hold time: the time in which a live owner registers again, and 1 s for the change to arrive.
fn hold_time(ttl: Duration) -> Duration {
    return_bound(ttl) + Duration::from_secs(1)
}

/// Returns the full hold time, which applies to doubtful deletions.
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

/// Returns whether the instance is draining, so that its deletion is expected.
pub(super) fn is_draining(record: &Record) -> bool {
    record.instance().status() == InstanceStatus::Draining
}

#[cfg(test)]
mod tests;
