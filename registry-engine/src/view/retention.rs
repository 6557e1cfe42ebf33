//! Retention: which deleted instances a view still shows, and for how long. Pure: time is an argument.
//!
//! After data loss or a mass expiry, a store reports live instances as deleted. An instance that stopped
//! while the view had no watch looks the same. The view cannot tell them apart at once: it retains
//! instances that disappear under suspicious circumstances for a while, and marks them.

use registry_core::{InstanceId, Record, Records};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// The shortest hold time of an instance that the store does not confirm as deleted.
const MIN_HOLD_TIME: Duration = Duration::from_secs(30);

/// An instance that a view still shows although the store no longer lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retained {
    /// The record, as the store last listed it.
    pub record: Record,
    /// When the view saw that the store no longer lists it.
    pub since: Instant,
}

/// The retained instances, and the trouble that deletions may stem from.
#[derive(Debug)]
pub(super) struct Retention {
    /// `None` turns retention off.
    ttl: Option<Duration>,
    retained: BTreeMap<InstanceId, Entry>,
    trouble: Option<Trouble>,
    /// When the last load that can confirm deletions was sent.
    last_load: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    retained: Retained,
    /// The first load after the last trouble that did not list the instance.
    missing_since: Option<Instant>,
}

/// A period in which the store was unavailable, and the ttl after it.
#[derive(Debug)]
struct Trouble {
    /// One ttl after the recovery; `None` before it.
    until: Option<Instant>,
    /// The most instances that were listed at once since the trouble began.
    size: usize,
    /// The instances deleted since, while they are fewer than a mass deletion.
    deleted: BTreeMap<InstanceId, Retained>,
    is_mass_deletion: bool,
}

impl Retention {
    pub(super) fn new(ttl: Option<Duration>) -> Self {
        Self { ttl, retained: BTreeMap::new(), trouble: None, last_load: None }
    }

    /// The store became unavailable, after it listed `size` instances.
    pub(super) fn trouble(&mut self, now: Instant, size: usize) {
        self.expire_trouble(now);
        let new =
            || Trouble { until: None, size, deleted: BTreeMap::new(), is_mass_deletion: false };
        let trouble = self.trouble.get_or_insert_with(new);
        if trouble.until.take().is_some() {
            // The earlier mass deletion is retained already; this trouble is counted by itself.
            trouble.is_mass_deletion = false;
            trouble.size = size + trouble.deleted.len();
        }
        // Only loads after the recovery confirm deletions.
        self.last_load = None;
        for entry in self.retained.values_mut() {
            entry.missing_since = None;
        }
    }

    /// The store answers again.
    pub(super) fn recovered(&mut self, now: Instant) {
        let ttl = self.ttl.unwrap_or_default();
        if let Some(trouble) = &mut self.trouble {
            trouble.until.get_or_insert(now + ttl);
        }
    }

    /// The store lists `id`.
    pub(super) fn listed(&mut self, id: &InstanceId) {
        if let Some(trouble) = &mut self.trouble {
            trouble.deleted.remove(id);
        }
        self.retained.remove(id);
    }

    /// A watch reported the instance of `record` as deleted; `listed` instances were listed before.
    pub(super) fn deleted(&mut self, now: Instant, record: Record, listed: usize) {
        self.expire_trouble(now);
        let hold_time = self.hold_time();
        let (Some(_), Some(trouble)) = (self.ttl, &mut self.trouble) else { return };
        trouble.deleted.retain(|_, retained| now < retained.since + hold_time);
        trouble.size = trouble.size.max(listed + trouble.deleted.len());
        let retained = Retained { record, since: now };
        trouble.deleted.insert(retained.record.id().clone(), retained);
        let deleted = trouble.deleted.len();
        trouble.is_mass_deletion |= deleted >= 2 && 2 * deleted >= trouble.size;
        if trouble.is_mass_deletion {
            let deleted = std::mem::take(&mut trouble.deleted).into_iter();
            self.retained.extend(
                deleted.map(|(id, retained)| (id, Entry { retained, missing_since: None })),
            );
        }
    }

    /// A reload listed `loaded`; `deleted` were listed before.
    pub(super) fn reset(&mut self, now: Instant, loaded: &Records, deleted: Vec<Record>) {
        if self.ttl.is_none() {
            return;
        }
        for record in deleted {
            let id = record.id().clone();
            let retained = Retained { record, since: now };
            self.retained.entry(id).or_insert(Entry { retained, missing_since: None });
        }
        for id in loaded.ids() {
            self.listed(id);
        }
        self.confirm(now, loaded);
    }

    /// A load listed `loaded`: releases the instances that two loads one ttl apart did not list. Returns
    /// whether it released any.
    pub(super) fn confirm(&mut self, now: Instant, loaded: &Records) -> bool {
        let (ttl, before) = (self.ttl.unwrap_or_default(), self.retained.len());
        self.last_load = Some(now);
        self.retained.retain(|id, entry| {
            if loaded.find(id.as_str()).is_some() {
                entry.missing_since = None; // the watch will list it as well
                return true;
            }
            now < *entry.missing_since.get_or_insert(now) + ttl
        });
        self.retained.len() < before
    }

    /// A load that would confirm deletions failed: the next one is due one ttl later.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.last_load = Some(now);
    }

    /// Releases the instances whose hold time is over. Returns whether it released any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let (hold_time, before) = (self.hold_time(), self.retained.len());
        self.retained.retain(|_, entry| now < entry.retained.since + hold_time);
        self.retained.len() < before
    }

    /// Returns when to [expire](Self::expire) next.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.retained.values().map(|entry| entry.retained.since + self.hold_time()).min()
    }

    /// Returns when to load, to [confirm](Self::confirm) deletions: at most once per ttl.
    pub(super) fn next_load(&self) -> Option<Instant> {
        let first = self.retained.values().map(|entry| entry.retained.since).min()?;
        Some(self.last_load.map_or(first, |loaded| loaded + self.ttl.unwrap_or_default()))
    }

    /// Returns the retained instances, in order of id.
    pub(super) fn retained(&self) -> impl ExactSizeIterator<Item = &Retained> {
        self.retained.values().map(|entry| &entry.retained)
    }

    fn hold_time(&self) -> Duration {
        MIN_HOLD_TIME.max(self.ttl.unwrap_or_default() * 2)
    }

    fn expire_trouble(&mut self, now: Instant) {
        self.trouble.take_if(|trouble| trouble.until.is_some_and(|until| until <= now));
    }
}

#[cfg(test)]
mod tests;
