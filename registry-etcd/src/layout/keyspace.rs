//! All keys of a registry.

use super::builtin;
use super::service::{ServiceLayout, prefix_end};
use super::{Encoded, Layout};
use registry_core::{Error, ErrorKind, Instance, Result, ServiceName, Target};
use std::sync::Arc;

/// The layout of a registry. A clone is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Keyspace {
    layout: Arc<dyn Layout>,
    /// `<name>:<root>`: cursors of another layout, or of another root, are of other data.
    scope: Arc<str>,
}

/// What is written for an instance: a key, and in some layouts a side key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    /// `None`: the layout has no side keys.
    pub(crate) side: Option<SideRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SideRecord {
    pub(crate) key: String,
    /// `None`: the key must not exist.
    pub(crate) value: Option<Vec<u8>>,
}

impl Keyspace {
    pub(crate) fn new(layout: Arc<dyn Layout>) -> Self {
        let scope = format!("{}:{}", layout.name(), layout.root()).into();
        Self { layout, scope }
    }

    /// The layout of a URL, unless the options have one.
    ///
    /// # Errors
    ///
    /// `Invalid` if the URL names no built-in layout, or states a layout or a path beside one from the
    /// options, which has a root of its own.
    pub(crate) fn open(target: &Target, layout: Option<&Arc<dyn Layout>>) -> Result<Self> {
        let Some(layout) = layout else { return Ok(Self::new(builtin::from_target(target)?)) };
        if target.option("layout").is_some() || !target.path().is_empty() {
            let (name, root) = (layout.name(), layout.root());
            let message = format!(
                "the options have the layout `{name}` with the root `{root}`: leave path and `layout` out of the URL"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Self::new(layout.clone()))
    }

    pub(crate) fn layout(&self) -> &dyn Layout {
        &*self.layout
    }

    /// What all keys start with.
    pub(crate) fn root(&self) -> &str {
        self.layout.root()
    }

    /// The range of all keys: the first, and the first after them.
    pub(crate) fn range(&self) -> (Vec<u8>, Vec<u8>) {
        let start = match self.root() {
            "" => "\0", // etcd knows no empty key
            root => root,
        };
        (start.into(), prefix_end(self.root()))
    }

    /// The keys of `service`.
    ///
    /// # Errors
    ///
    /// `Invalid` if no service of this layout has that name.
    pub(crate) fn service(&self, service: &ServiceName) -> Result<ServiceLayout> {
        ServiceLayout::new(self.layout.clone(), &self.scope, service)
    }

    /// What is written for `instance`.
    ///
    /// # Errors
    ///
    /// `Invalid` if this layout cannot express the instance.
    pub(crate) fn record(&self, instance: &Instance) -> Result<Record> {
        let keys = self.layout.keys(instance.service())?;
        let Encoded { id, value, side } = self.layout.encode(instance)?;
        let side = keys
            .side_prefix()
            .map(|prefix| SideRecord { key: [prefix, &id].concat(), value: side });
        Ok(Record { key: [keys.prefix(), &id].concat(), value, side })
    }
}

impl Record {
    /// Whether `key` is one of its keys.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        let side = self.side.as_ref().map(|side| side.key.as_bytes());
        key == self.key.as_bytes() || Some(key) == side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_states_no_layout_or_path_beside_a_custom_layout() {
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
