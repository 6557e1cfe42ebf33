//! Which of the instances that a store stopped listing a view keeps, and for how long. Pure: time is
//! an argument.
//!
//! A store that lost data, or expired leases that nobody could renew through it, says that living
//! instances are gone. So says an owner who left while nobody watched. A view cannot tell them apart at
//! once, so it keeps for a while what disappears under suspicious circumstances, and says that it does.

use registry_core::{Instance, InstanceId, Instances};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// The least time for which something is kept that nothing speaks against.
const LEAST_LIMIT: Duration = Duration::from_secs(30);

/// An instance that a view still shows though the store does not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retained {
    /// The instance, as the store last listed it.
    pub instance: Instance,
    /// Since when the store does not list it, as far as the view could see.
    pub since: Instant,
}

/// The instances kept, and what there is to suspect.
#[derive(Debug)]
pub(crate) struct Retention {
    /// `None` keeps nothing.
    ttl: Option<Duration>,
    kept: BTreeMap<InstanceId, Kept>,
    suspicion: Option<Suspicion>,
    /// When the last load was made that could confirm a loss.
    loaded: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    retained: Retained,
    /// The first load since the last trouble that did not list it.
    missed: Option<Instant>,
}

/// The store was in trouble: deletions may come of that.
#[derive(Debug)]
struct Suspicion {
    /// One ttl after the recovery; unknown before it.
    until: Option<Instant>,
    /// How many instances there were when the trouble began, or later if that were more.
    size: usize,
    /// What was deleted since, while it is too little to suspect.
    deleted: BTreeMap<InstanceId, Retained>,
    /// Whether it is enough.
    mass: bool,
}

impl Retention {
    pub(crate) fn new(ttl: Option<Duration>) -> Self {
        Self { ttl, kept: BTreeMap::new(), suspicion: None, loaded: None }
    }

    /// The store is in trouble, from now on, while it lists `size` instances.
    pub(crate) fn trouble(&mut self, now: Instant, size: usize) {
        self.expire_suspicion(now);
        let new = || Suspicion { until: None, size, deleted: BTreeMap::new(), mass: false };
        let suspicion = self.suspicion.get_or_insert_with(new);
        if suspicion.until.take().is_some() {
            suspicion.mass = false; // what it was about is kept; this is another trouble
            suspicion.size = size + suspicion.deleted.len();
        }
        // A loss is confirmed by loads after the recovery.
        self.loaded = None;
        for kept in self.kept.values_mut() {
            kept.missed = None;
        }
    }

    /// The trouble is over.
    pub(crate) fn recovered(&mut self, now: Instant) {
        let ttl = self.ttl.unwrap_or_default();
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.until.get_or_insert(now + ttl);
        }
    }

    /// The store lists `id`.
    pub(crate) fn listed(&mut self, id: &InstanceId) {
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.deleted.remove(id);
        }
        self.kept.remove(id);
    }

    /// A watch said that `instance` is gone, one of `listed`.
    pub(crate) fn deleted(&mut self, now: Instant, instance: Instance, listed: usize) {
        self.expire_suspicion(now);
        let limit = self.limit();
        let (Some(_), Some(suspicion)) = (self.ttl, &mut self.suspicion) else { return };
        suspicion.deleted.retain(|_, retained| now < retained.since + limit);
        suspicion.size = suspicion.size.max(listed + suspicion.deleted.len());
        let retained = Retained { instance, since: now };
        suspicion.deleted.insert(retained.instance.id().clone(), retained);
        let deleted = suspicion.deleted.len();
        suspicion.mass |= deleted >= 2 && 2 * deleted >= suspicion.size;
        if suspicion.mass {
            let deleted = std::mem::take(&mut suspicion.deleted);
            self.kept.extend(
                deleted.into_iter().map(|(id, retained)| (id, Kept { retained, missed: None })),
            );
        }
    }

    /// A load listed `loaded`, and by comparison with what was shown, `gone` are gone.
    pub(crate) fn reset(&mut self, now: Instant, loaded: &Instances, gone: Vec<Instance>) {
        if self.ttl.is_none() {
            return;
        }
        for instance in gone {
            let id = instance.id().clone();
            let retained = Retained { instance, since: now };
            self.kept.entry(id).or_insert(Kept { retained, missed: None });
        }
        for id in loaded.ids() {
            self.listed(id);
        }
        self.confirm(now, loaded);
    }

    /// A load listed `loaded`: what two loads a ttl apart do not list is gone.
    /// Whether that let any go.
    pub(crate) fn confirm(&mut self, now: Instant, loaded: &Instances) -> bool {
        let (ttl, before) = (self.ttl.unwrap_or_default(), self.kept.len());
        self.loaded = Some(now);
        self.kept.retain(|id, kept| {
            if loaded.find(id.as_str()).is_some() {
                kept.missed = None; // the watch will say so too
                return true;
            }
            now < *kept.missed.get_or_insert(now) + ttl
        });
        self.kept.len() < before
    }

    /// A load that was to confirm a loss failed: the next is due a ttl after it.
    pub(crate) fn postpone(&mut self, now: Instant) {
        self.loaded = Some(now);
    }

    /// Lets go of what was kept for too long. Whether that was any.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let (limit, before) = (self.limit(), self.kept.len());
        self.kept.retain(|_, kept| now < kept.retained.since + limit);
        self.kept.len() < before
    }

    /// When to [expire](Self::expire) next.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.kept.values().map(|kept| kept.retained.since + self.limit()).min()
    }

    /// When to load, to [confirm](Self::confirm) what was lost: at most once in a ttl.
    pub(crate) fn next_load(&self) -> Option<Instant> {
        let first = self.kept.values().map(|kept| kept.retained.since).min()?;
        Some(self.loaded.map_or(first, |loaded| loaded + self.ttl.unwrap_or_default()))
    }

    /// What is kept, in order of id.
    pub(crate) fn kept(&self) -> impl ExactSizeIterator<Item = &Retained> {
        self.kept.values().map(|kept| &kept.retained)
    }

    fn limit(&self) -> Duration {
        LEAST_LIMIT.max(self.ttl.unwrap_or_default() * 2)
    }

    fn expire_suspicion(&mut self, now: Instant) {
        self.suspicion.take_if(|suspicion| suspicion.until.is_some_and(|until| until <= now));
    }
}

#[cfg(test)]
mod tests;
