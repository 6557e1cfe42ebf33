//! The keyspace of a registry: its layout, root and services.

use super::builtin;
use super::service::{ServiceLayout, prefix_end};
use super::{Encoded, Layout};
use registry_core::{
    Error, ErrorKind, Instance, Lease, LeaseId, MIN_TTL, Record, Result, ServiceName, Target,
};
use std::sync::Arc;

/// The layout of a registry. A clone is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Keyspace {
    layout: Arc<dyn Layout>,
    /// `<name>:<root>`, so that cursors of another layout or root are refused.
    scope: Arc<str>,
}

/// The keys to store for a record: a key, and in some layouts a side key. At least one of them has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DesiredKeys {
    pub(crate) key: DesiredKey,
    /// `None`: the layout has no side keys.
    pub(crate) side: Option<DesiredKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DesiredKey {
    pub(crate) name: String,
    /// `None`: the key must not exist.
    pub(crate) value: Option<Vec<u8>>,
}

impl Keyspace {
    pub(crate) fn new(layout: Arc<dyn Layout>) -> Self {
        let scope = format!("{}:{}", layout.name(), layout.root()).into();
        Self { layout, scope }
    }

    /// Returns the layout from the options, or else from the URL.
    ///
    /// # Errors
    ///
    /// `Invalid` if the URL names no built-in layout, or if it has a layout or a path while the options have
    /// a layout.
    pub(crate) fn open(target: &Target, layout: Option<&Arc<dyn Layout>>) -> Result<Self> {
        let Some(layout) = layout else { return Ok(Self::new(builtin::from_target(target)?)) };
        if target.option("layout").is_some() || !target.path().is_empty() {
            let (name, root) = (layout.name(), layout.root());
            let message = format!(
                "the options set the layout `{name}` with the root `{root}`: remove the path and `layout` from the URL"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Self::new(layout.clone()))
    }

    pub(crate) fn layout(&self) -> &dyn Layout {
        &*self.layout
    }

    /// Returns the prefix of all keys.
    pub(crate) fn root(&self) -> &str {
        self.layout.root()
    }

    /// Returns the range of all keys: the first key, and the first one after the range.
    pub(crate) fn range(&self) -> (Vec<u8>, Vec<u8>) {
        let start = match self.root() {
            "" => "\0", // etcd has no empty key
            root => root,
        };
        (start.into(), prefix_end(self.root()))
    }

    /// Returns the keys of `service`.
    ///
    /// # Errors
    ///
    /// `Invalid` if the layout cannot express that name.
    pub(crate) fn service(&self, service: &ServiceName) -> Result<ServiceLayout> {
        ServiceLayout::new(self.layout.clone(), &self.scope, service)
    }

    /// Returns a layout of one key of an instance of `service`. Its cursors belong to that instance.
    pub(crate) fn one_key(
        &self,
        desired: &DesiredKeys,
        key: &DesiredKey,
        service: &ServiceName,
    ) -> Result<ServiceLayout> {
        let scope = format!("{}:record:{}", self.scope, desired.key.name);
        Ok(self.service(service)?.with_one_key(&key.name, &scope))
    }

    /// Returns the keys of `record`.
    ///
    /// # Errors
    ///
    /// `Invalid` if this layout cannot express the instance.
    pub(crate) fn desired_keys(&self, record: &Record) -> Result<DesiredKeys> {
        self.keys_of(record, self.layout.encode(record)?)
    }

    /// Returns the keys of the id of `instance`, with the values for an arbitrary lease.
    ///
    /// # Errors
    ///
    /// `Invalid` if this layout cannot express the instance.
    pub(crate) fn keys_of_id(&self, instance: &Instance) -> Result<DesiredKeys> {
        let record = Record::new(instance.clone()).with_lease(LeaseId::random()).with_ttl(MIN_TTL);
        self.desired_keys(&record)
    }

    /// Returns the keys of the last acknowledged record of `lease`.
    ///
    /// # Errors
    ///
    /// `Invalid` if this layout cannot express the instance, so the lease is of another registry.
    pub(crate) fn acknowledged(&self, lease: &Lease) -> Result<DesiredKeys> {
        self.desired_keys(&record_of(lease.instance().clone(), lease))
    }

    /// Returns the keys that mark the instance of `lease` as withdrawn. They contain only its address. `None`
    /// if the layout has no withdrawn records.
    pub(crate) fn withdrawn(&self, lease: &Lease) -> Result<Option<DesiredKeys>> {
        let instance = lease.instance();
        let (service, id) = (instance.service().clone(), instance.id().clone());
        let record =
            record_of(Instance::from_parts(service, id, instance.address().clone()), lease);
        let encoded = self.layout.encode_withdrawn(&record)?;
        encoded.map(|encoded| self.keys_of(&record, encoded)).transpose()
    }

    fn keys_of(&self, record: &Record, encoded: Encoded) -> Result<DesiredKeys> {
        let keys = self.layout.keys(record.instance().service())?;
        let Encoded { id, value, side } = encoded;
        let side = keys
            .side_prefix()
            .map(|prefix| DesiredKey { name: [prefix, &id].concat(), value: side });
        if value.is_none() && side.as_ref().is_none_or(|side| side.value.is_none()) {
            let message = format!("the layout encoded no value, layout=`{}`", self.layout.name());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let key = DesiredKey { name: [keys.prefix(), &id].concat(), value };
        Ok(DesiredKeys { key, side })
    }
}

fn record_of(instance: Instance, lease: &Lease) -> Record {
    Record::new(instance).with_lease(lease.id()).with_ttl(lease.ttl())
}

impl DesiredKeys {
    /// Returns the key and, if there is one, the side key.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &DesiredKey> {
        std::iter::once(&self.key).chain(&self.side)
    }

    /// Returns whether `key` is one of them.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        self.keys().any(|desired| desired.name.as_bytes() == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_must_not_have_a_layout_or_path_beside_a_custom_layout() {
        let custom = builtin::from_target(&"etcd://h/apps?layout=grpc".parse().unwrap()).unwrap();
        let open = |url: &str| Keyspace::open(&url.parse().unwrap(), Some(&custom));
        for url in ["etcd://h", "etcd://h/"] {
            assert_eq!(&*open(url).unwrap().scope, "grpc:apps/", "{url}");
        }
        for url in ["etcd://h/prod", "etcd://h//", "etcd://h?layout=grpc"] {
            assert_eq!(open(url).unwrap_err().kind(), ErrorKind::Invalid, "{url}");
        }
    }
}
