//! The keys of a service whose layout has side keys, each with its side key.
//!
//! A side key counts only while it has the same lease as the key it belongs to. So whoever takes over
//! the key, such as a publisher in Go, leaves the side key of the former holder behind.

use super::service::{Kv, Part, ServiceLayout};
use etcd_client::EventType;
use registry_core::record::MAX_RECORD_LEN;
use registry_core::{BoxError, Change, Instance, InstanceId};
use std::collections::BTreeMap;

/// All keys of a service, by instance.
#[derive(Debug)]
pub(super) struct Pairs {
    service: ServiceLayout,
    pairs: BTreeMap<InstanceId, Pair>,
}

/// The keys of one instance that exist; at least one of them does.
#[derive(Clone, Debug, Default)]
struct Pair {
    key: Option<Stored>,
    side: Option<Stored>,
}

/// A key and its value, in one allocation.
#[derive(Clone, Debug)]
struct Stored {
    bytes: Box<[u8]>,
    key_len: usize,
    lease: i64,
}

/// An instance that the events of a revision are about.
struct Touched {
    id: InstanceId,
    before: Option<Instance>,
    /// Its key was put: it was registered, even if nothing differs.
    is_registered: bool,
}

impl Pairs {
    /// The pairs of these keys. Keys that should not exist are passed to `report`.
    pub(super) fn new<'a>(
        service: ServiceLayout,
        kvs: impl Iterator<Item = Kv<'a>>,
        mut report: impl FnMut(&[u8], BoxError),
    ) -> Self {
        let mut pairs = Self { service, pairs: BTreeMap::new() };
        for kv in kvs {
            match pairs.service.locate(kv.key) {
                Ok(Some((part, id))) => pairs.set(part, &id, Some(kv.into())),
                Ok(None) => {}
                Err(why) => report(kv.key, why),
            }
        }
        pairs
    }

    /// The instances that the pairs describe. Keys that cannot be decoded are passed to `report`.
    pub(super) fn instances(&self, mut report: impl FnMut(&[u8], BoxError)) -> Vec<Instance> {
        self.pairs.keys().filter_map(|id| self.instance(id, &mut report)).collect()
    }

    /// Applies all events of one revision. Returns at most one change for each instance.
    pub(super) fn apply<'a>(
        &mut self,
        events: impl Iterator<Item = (EventType, Kv<'a>)>,
        mut report: impl FnMut(&[u8], BoxError),
    ) -> Vec<Change> {
        let mut touched = Vec::<Touched>::new();
        for (kind, kv) in events {
            let is_put = kind == EventType::Put;
            let (part, id) = match self.service.locate(kv.key) {
                Ok(Some(located)) => located,
                Ok(None) => continue,
                Err(why) => {
                    if is_put {
                        report(kv.key, why);
                    }
                    continue;
                }
            };
            let is_registered = is_put && part == Part::Key;
            match touched.iter_mut().find(|touched| touched.id == id) {
                Some(touched) => touched.is_registered |= is_registered,
                None => touched.push(Touched {
                    before: self.instance(&id, &mut |_, _| {}),
                    id: id.clone(),
                    is_registered,
                }),
            }
            self.set(part, &id, is_put.then(|| kv.into()));
        }
        touched.into_iter().filter_map(|touched| self.change(touched, &mut report)).collect()
    }

    fn change(&self, touched: Touched, report: &mut impl FnMut(&[u8], BoxError)) -> Option<Change> {
        match (self.instance(&touched.id, report), touched.before) {
            // A side key of another lease, or one that says nothing new, changes nothing.
            (Some(after), before) if touched.is_registered || before.as_ref() != Some(&after) => {
                Some(Change::Put(after))
            }
            (None, Some(_)) => Some(Change::Delete(touched.id)),
            _ => None,
        }
    }

    /// The instance with `id`.
    ///
    /// If only its side key cannot be decoded, the instance is listed without it, as programs list it
    /// that know nothing of side keys.
    fn instance(
        &self,
        id: &InstanceId,
        report: &mut impl FnMut(&[u8], BoxError),
    ) -> Option<Instance> {
        let Pair { key, side } = self.pairs.get(id)?;
        let key = key.as_ref()?;
        let side = side.as_ref().filter(|side| side.lease == key.lease);
        let decoded = self.service.decode(id, key.value(), side.map(Stored::value));
        let decoded = match (decoded, side) {
            (Err(why), Some(side)) => {
                let without = self.service.decode(id, key.value(), None);
                if without.is_ok() {
                    report(side.key(), why);
                }
                without
            }
            (decoded, _) => decoded,
        };
        decoded.unwrap_or_else(|why| {
            report(key.key(), why);
            None
        })
    }

    fn set(&mut self, part: Part, id: &InstanceId, stored: Option<Stored>) {
        let pair = self.pairs.entry(id.clone()).or_default();
        match part {
            Part::Key => pair.key = stored,
            Part::SideKey => pair.side = stored,
        }
        if pair.key.is_none() && pair.side.is_none() {
            self.pairs.remove(id);
        }
    }
}

impl Stored {
    fn key(&self) -> &[u8] {
        &self.bytes[..self.key_len]
    }

    fn value(&self) -> &[u8] {
        &self.bytes[self.key_len..]
    }
}

impl From<Kv<'_>> for Stored {
    fn from(Kv { key, value, lease }: Kv<'_>) -> Self {
        // Of a value that is too large, as much as shows that.
        let value = &value[..value.len().min(MAX_RECORD_LEN + 1)];
        Self { bytes: [key, value].concat().into(), key_len: key.len(), lease }
    }
}
