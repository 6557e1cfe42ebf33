//! The key pairs of a service in a layout with side keys.
//!
//! A side key is valid only while it has the same lease as its key. So a client that takes over the key, such
//! as a Go publisher, invalidates the side key of the previous holder.

use super::service::{Kv, Part, ServiceLayout};
use etcd_client::EventType;
use registry_core::encoding::{MAX_RECORD_LEN, Stored};
use registry_core::{BoxError, Change, DeleteReason, Deleted, InstanceId, Record};
use std::collections::BTreeMap;

/// All keys of a service, by instance.
#[derive(Debug)]
pub(super) struct Pairs {
    service: ServiceLayout,
    pairs: BTreeMap<InstanceId, Pair>,
}

/// The existing keys of one instance, at least one.
#[derive(Clone, Debug, Default)]
struct Pair {
    key: Option<OwnedKv>,
    side: Option<OwnedKv>,
}

/// A key and its value, in one allocation.
#[derive(Clone, Debug)]
struct OwnedKv {
    bytes: Box<[u8]>,
    key_len: usize,
    lease: i64,
    modified: u64,
}

impl Pairs {
    /// Pairs up the keys. Keys that should not exist are passed to `report`.
    pub(super) fn new<'a>(
        service: ServiceLayout,
        kvs: impl Iterator<Item = Kv<'a>>,
        mut report: impl FnMut(&[u8], BoxError),
    ) -> Self {
        let mut pairs = Self { service, pairs: BTreeMap::new() };
        for kv in kvs {
            match pairs.service.locate(kv.key, kv.value) {
                Ok(Some((part, id))) => pairs.set(part, &id, Some(kv.into())),
                Ok(None) => {}
                Err(why) => report(kv.key, why),
            }
        }
        pairs
    }

    /// Decodes the records. Undecodable keys are passed to `report`.
    pub(super) fn records(&self, mut report: impl FnMut(&[u8], BoxError)) -> Vec<Record> {
        let stored = self.pairs.keys().map(|id| self.stored(id, &mut report));
        stored.filter_map(live).collect()
    }

    /// Applies all events of one revision. Returns at most one change for each instance.
    pub(super) fn apply<'a>(
        &mut self,
        events: impl Iterator<Item = (EventType, Kv<'a>)>,
        mut report: impl FnMut(&[u8], BoxError),
    ) -> Vec<Change> {
        let mut touched = Vec::<(InstanceId, Option<Record>)>::new();
        for (kind, kv) in events {
            let is_put = kind == EventType::Put;
            let (part, id) = match self.service.locate(kv.key, kv.value) {
                Ok(Some(located)) => located,
                Ok(None) => continue,
                Err(why) => {
                    if is_put {
                        report(kv.key, why);
                    }
                    continue;
                }
            };
            if touched.iter().all(|(touched, _)| *touched != id) {
                touched.push((id.clone(), live(self.stored(&id, &mut |_, _| {}))));
            }
            self.set(part, &id, is_put.then(|| kv.into()));
        }
        let changes = touched.into_iter();
        changes.filter_map(|(id, before)| self.change(id, before, &mut report)).collect()
    }

    fn change(
        &self,
        id: InstanceId,
        before: Option<Record>,
        report: &mut impl FnMut(&[u8], BoxError),
    ) -> Option<Change> {
        match (self.stored(&id, report), before) {
            // A side key with another lease does not change the record.
            (Some(Stored::Live(after)), before) if before.as_ref() != Some(&after) => {
                Some(Change::Put(after))
            }
            (Some(Stored::Withdrawn(_)), Some(_)) => {
                Some(Change::Delete(Deleted::new(id).with_reason(DeleteReason::Withdrawn)))
            }
            (None, Some(_)) => Some(Change::Delete(Deleted::new(id))),
            _ => None,
        }
    }

    /// Returns the stored record of an instance.
    ///
    /// If only its side key cannot be decoded, the instance is listed without it, as by programs that do not
    /// know side keys.
    fn stored(&self, id: &InstanceId, report: &mut impl FnMut(&[u8], BoxError)) -> Option<Stored> {
        let Pair { key, side } = self.pairs.get(id)?;
        let (key, side) = (key.as_ref().map(OwnedKv::get), side.as_ref().map(OwnedKv::get));
        let mut decoded = self.service.decode(id, key, side);
        if let (Err(why), Some(_), Some(side_kv)) = (&decoded, key, side) {
            let without_side = self.service.decode(id, key, None);
            if without_side.is_ok() {
                report(side_kv.key, why.to_string().into());
                decoded = without_side;
            }
        }
        decoded.unwrap_or_else(|why| {
            let first = key.or(side).map(|kv| kv.key);
            report(first.unwrap_or_default(), why);
            None
        })
    }

    fn set(&mut self, part: Part, id: &InstanceId, kv: Option<OwnedKv>) {
        let pair = self.pairs.entry(id.clone()).or_default();
        match part {
            Part::Key => pair.key = kv,
            Part::SideKey => pair.side = kv,
        }
        if pair.key.is_none() && pair.side.is_none() {
            self.pairs.remove(id);
        }
    }
}

impl OwnedKv {
    fn get(&self) -> Kv<'_> {
        let (key, value) = self.bytes.split_at(self.key_len);
        Kv { key, value, lease: self.lease, modified: self.modified }
    }
}

impl From<Kv<'_>> for OwnedKv {
    fn from(Kv { key, value, lease, modified }: Kv<'_>) -> Self {
        // An oversized value is cut to the length that still shows it is too large.
        let value = &value[..value.len().min(MAX_RECORD_LEN + 1)];
        Self { bytes: [key, value].concat().into(), key_len: key.len(), lease, modified }
    }
}

fn live(stored: Option<Stored>) -> Option<Record> {
    match stored {
        Some(Stored::Live(record)) => Some(record),
        Some(Stored::Withdrawn(_)) | None => None,
    }
}
