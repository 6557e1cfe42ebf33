//! One service in a layout: which keys it has, and what each of them is.

use super::{Layout, ServiceKeys};
use etcd_client::KeyValue;
use registry_core::encoding::Stored;
use registry_core::{BoxError, InstanceId, LeaseId, Origin, Record, Result, Revision, ServiceName};
use std::sync::Arc;

/// The keys of one service, all in one range, and how to decode them.
#[derive(Clone, Debug)]
pub(crate) struct ServiceLayout {
    layout: Arc<dyn Layout>,
    service: ServiceName,
    keys: ServiceKeys,
    range: Range,
    origin: Origin,
}

/// The keys that are read and watched.
#[derive(Clone, Debug)]
struct Range {
    start: Vec<u8>,
    /// The first key after them.
    end: Vec<u8>,
}

/// Which key of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    SideKey,
}

/// A key as etcd holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kv<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// 0: the key has no lease. Others than this library may draw negative ones.
    pub(crate) lease: i64,
    /// The revision at which it was last put.
    pub(crate) modified: u64,
}

impl<'a> From<&'a KeyValue> for Kv<'a> {
    fn from(kv: &'a KeyValue) -> Self {
        let modified = kv.mod_revision().cast_unsigned();
        Self { key: kv.key(), value: kv.value(), lease: kv.lease(), modified }
    }
}

impl ServiceLayout {
    /// The keys of `service`. Its cursors belong to `scope`.
    pub(super) fn new(layout: Arc<dyn Layout>, scope: &str, service: &ServiceName) -> Result<Self> {
        let keys = layout.keys(service)?;
        let prefix = keys.prefix();
        let (first, last) = match keys.side_prefix() {
            Some(side) => (side.min(prefix), side.max(prefix)),
            None => (prefix, prefix),
        };
        let range = Range { start: first.into(), end: prefix_end(last) };
        let origin = Origin::new("etcd", scope, service);
        Ok(Self { layout, service: service.clone(), keys, range, origin })
    }

    /// The same with one key only. Its cursors belong to `scope`.
    pub(super) fn with_one_key(self, key: &str, scope: &str) -> Self {
        let range = Range { start: key.into(), end: [key.as_bytes(), b"\0"].concat() };
        let origin = Origin::new("etcd", scope, &self.service);
        Self { range, origin, ..self }
    }

    /// The first key of the range.
    pub(crate) fn start(&self) -> &[u8] {
        &self.range.start
    }

    /// The first key after the range.
    pub(crate) fn end(&self) -> &[u8] {
        &self.range.end
    }

    /// What the cursors of this service belong to.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether an instance may have two keys, so that an event means nothing without the other key.
    pub(crate) fn has_side_keys(&self) -> bool {
        self.keys.side_prefix().is_some()
    }

    /// Which key of which instance `key` is; `None` if it is no key of an instance. `value` is empty if it was deleted.
    ///
    /// # Errors
    ///
    /// If the layout says that the key should not be there.
    pub(crate) fn locate(
        &self,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<(Part, InstanceId)>, BoxError> {
        let side = self.keys.side_prefix().and_then(|side| key.strip_prefix(side.as_bytes()));
        let (part, id) = match side {
            Some(id) => (Part::SideKey, Some(id)),
            None => (Part::Key, key.strip_prefix(self.keys.prefix().as_bytes())),
        };
        let Some(id) = id else { return Ok(None) };
        match self.layout.decode_id(id)? {
            Some(id) => Ok(Some((part, id))),
            None => self.layout.stray(&self.service, value).map_or(Ok(None), Err),
        }
    }

    /// The record that its keys describe, with their lease and revision; `None` if they say that there is no
    /// instance. A side key of another lease counts for nothing.
    pub(crate) fn decode(
        &self,
        id: &InstanceId,
        key: Option<Kv<'_>>,
        side: Option<Kv<'_>>,
    ) -> Result<Option<Stored>, BoxError> {
        let side = side.filter(|side| key.is_none_or(|key| key.lease == side.lease));
        let Some(first) = key.or(side) else { return Ok(None) };
        let values = (key.map(|kv| kv.value), side.map(|kv| kv.value));
        let stored = self.layout.decode(&self.service, id, values.0, values.1)?;
        let modified = side.map_or(first.modified, |side| first.modified.max(side.modified));
        Ok(stored.map(|stored| match stored {
            Stored::Live(record) => Stored::Live(stamped(record, first.lease, modified)),
            Stored::Withdrawn(record) => Stored::Withdrawn(stamped(record, first.lease, modified)),
        }))
    }
}

/// The record as it lies under these keys, whatever lease it states itself.
fn stamped(record: Record, lease: i64, modified: u64) -> Record {
    let ttl = record.ttl();
    let mut stamped = Record::new(record.into_instance()).with_revision(Revision::new(modified));
    if let Ok(lease) = LeaseId::new(lease) {
        stamped = stamped.with_lease(lease);
    }
    match ttl {
        Some(ttl) => stamped.with_ttl(ttl),
        None => stamped,
    }
}

/// The first key after all that start with `prefix`.
pub(super) fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last += 1, // no byte of UTF-8 is 0xff
        None => end.push(0),      // to etcd, the range up to "\0" has no end
    }
    end
}
