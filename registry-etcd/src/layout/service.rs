//! One service in a layout: which keys it has, and what each of them is.

use super::{Layout, ServiceKeys};
use etcd_client::KeyValue;
use registry_core::{BoxError, Instance, InstanceId, Origin, Result, ServiceName};
use std::sync::Arc;

/// The keys of one service, all in one range, and how to decode them.
#[derive(Clone, Debug)]
pub(crate) struct ServiceLayout {
    layout: Arc<dyn Layout>,
    service: ServiceName,
    keys: ServiceKeys,
    end: Vec<u8>,
    origin: Origin,
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
    /// 0: the key has no lease.
    pub(crate) lease: i64,
}

impl<'a> From<&'a KeyValue> for Kv<'a> {
    fn from(kv: &'a KeyValue) -> Self {
        Self { key: kv.key(), value: kv.value(), lease: kv.lease() }
    }
}

impl ServiceLayout {
    /// The keys of `service`. Its cursors belong to `scope`.
    pub(super) fn new(layout: Arc<dyn Layout>, scope: &str, service: &ServiceName) -> Result<Self> {
        let keys = layout.keys(service)?;
        let prefix = keys.prefix();
        let end = prefix_end(keys.side_prefix().map_or(prefix, |side| side.max(prefix)));
        let origin = Origin::new("etcd", scope, service);
        Ok(Self { layout, service: service.clone(), keys, end, origin })
    }

    /// The first key of the range.
    pub(crate) fn start(&self) -> &[u8] {
        let prefix = self.keys.prefix();
        self.keys.side_prefix().map_or(prefix, |side| side.min(prefix)).as_bytes()
    }

    /// The first key after the range.
    pub(crate) fn end(&self) -> &[u8] {
        &self.end
    }

    /// What the cursors of this service belong to.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether an instance may have two keys, so that an event means nothing without the other key.
    pub(crate) fn has_side_keys(&self) -> bool {
        self.keys.side_prefix().is_some()
    }

    /// Which key of which instance `key` is; `None` if it is no key of an instance.
    ///
    /// # Errors
    ///
    /// If the layout says that the key should not be there.
    pub(crate) fn locate(&self, key: &[u8]) -> Result<Option<(Part, InstanceId)>, BoxError> {
        let side = self.keys.side_prefix().and_then(|side| key.strip_prefix(side.as_bytes()));
        let (part, id) = match side {
            Some(id) => (Part::SideKey, Some(id)),
            None => (Part::Key, key.strip_prefix(self.keys.prefix().as_bytes())),
        };
        let Some(id) = id else { return Ok(None) };
        Ok(self.layout.decode_id(id)?.map(|id| (part, id)))
    }

    /// The instance that the values of its keys describe; `None` if they say that it is deleted.
    pub(super) fn decode(
        &self,
        id: &InstanceId,
        value: &[u8],
        side: Option<&[u8]>,
    ) -> Result<Option<Instance>, BoxError> {
        self.layout.decode(&self.service, id, value, side)
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
