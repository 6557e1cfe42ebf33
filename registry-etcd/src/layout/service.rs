//! One service in a layout: the range of its keys, and their decoding.

use super::{Layout, ServiceKeys};
use etcd_client::KeyValue;
use registry_core::encoding::Stored;
use registry_core::{BoxError, InstanceId, LeaseId, Origin, Record, Result, Revision, ServiceName};
use std::sync::Arc;

/// The keys of one service, which lie in one range, and their decoding.
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
    /// The first key after the range.
    end: Vec<u8>,
}

/// Which of an instance's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    SideKey,
}

/// A key as etcd returns it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kv<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// 0: the key has no lease. Other clients may use negative ids.
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
    /// Returns the layout of `service`. Its cursors belong to `scope`.
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

    /// Restricts the range to one key. Cursors belong to `scope`.
    pub(super) fn with_one_key(self, key: &str, scope: &str) -> Self {
        let range = Range { start: key.into(), end: [key.as_bytes(), b"\0"].concat() };
        let origin = Origin::new("etcd", scope, &self.service);
        Self { range, origin, ..self }
    }

    /// Returns the first key of the range.
    pub(crate) fn start(&self) -> &[u8] {
        &self.range.start
    }

    /// Returns the first key after the range.
    pub(crate) fn end(&self) -> &[u8] {
        &self.range.end
    }

    /// Returns the origin of this service's cursors.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns whether an instance may have two keys. An event then has no meaning without the other key.
    pub(crate) fn has_side_keys(&self) -> bool {
        self.keys.side_prefix().is_some()
    }

    /// Returns the instance to which `key` belongs, or `None` if it is no instance key. `value` is empty if
    /// the key was deleted.
    ///
    /// # Errors
    ///
    /// If the layout says that the key should not exist.
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

    /// Decodes the record of an instance, with its lease and revision. Returns `None` if the keys are no
    /// instance. A side key with another lease than the key is ignored.
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

/// Sets the lease and revision of the stored keys, whatever lease the record states.
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

/// Returns the first key after all keys with this prefix.
pub(super) fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last += 1, // UTF-8 has no byte 0xff
        None => end.push(0),      // etcd treats "\0" as no end
    }
    end
}
