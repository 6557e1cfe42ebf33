//! Layouts: which keys and values stand for an instance in etcd.
//!
//! The layouts `native`, `go-zero`, `grpc`, `kratos` and `kitex` are built in; a URL names one as `?layout=NAME`. For any
//! other format, implement [`Layout`] and pass it as [`EtcdOptions::layout`](crate::options::EtcdOptions::layout).
//!
//! This layout stores plain addresses as `/apps/<service>/<id>`:
//!
//! ```
//! use registry_core::encoding::Stored;
//! use registry_core::{Address, BoxError, Instance, InstanceId, Record, Result, ServiceName};
//! use registry_etcd::layout::{Encoded, Layout, ServiceKeys};
//!
//! #[derive(Debug)]
//! struct PlainAddresses;
//!
//! impl Layout for PlainAddresses {
//!     fn name(&self) -> &str {
//!         "plain-addresses"
//!     }
//!
//!     fn root(&self) -> &str {
//!         "/apps/"
//!     }
//!
//!     fn keys(&self, service: &ServiceName) -> Result<ServiceKeys> {
//!         Ok(ServiceKeys::new(format!("/apps/{service}/")))
//!     }
//!
//!     fn encode(&self, record: &Record) -> Result<Encoded> {
//!         let instance = record.instance();
//!         Ok(Encoded::new(instance.id().as_str(), instance.address().as_str()))
//!     }
//!
//!     fn decode_id(&self, text: &[u8]) -> Result<Option<InstanceId>, BoxError> {
//!         Ok(std::str::from_utf8(text)?.parse().ok())
//!     }
//!
//!     fn decode(
//!         &self,
//!         service: &ServiceName,
//!         id: &InstanceId,
//!         value: Option<&[u8]>,
//!         _side: Option<&[u8]>,
//!     ) -> Result<Option<Stored>, BoxError> {
//!         let Some(value) = value else { return Ok(None) };
//!         let address = Address::new(std::str::from_utf8(value)?)?;
//!         let instance = Instance::from_parts(service.clone(), id.clone(), address);
//!         Ok(Some(Stored::Live(Record::new(instance))))
//!     }
//!
//!     fn service_of(&self, key: &[u8]) -> Option<ServiceName> {
//!         let names = std::str::from_utf8(key).ok()?.strip_prefix("/apps/")?;
//!         let (service, _id) = names.rsplit_once('/')?;
//!         service.parse().ok()
//!     }
//! }
//! ```

pub(crate) mod builtin;
pub(crate) mod decoder;
mod error;
mod go_json;
mod go_zero;
#[cfg(test)]
mod golden;
mod grpc;
pub(crate) mod keyspace;
mod kitex;
mod kratos;
mod names;
mod native;
mod pairs;
mod public;
pub(crate) mod reading;
pub(crate) mod service;
mod side;

use registry_core::encoding::Stored;
use registry_core::{BoxError, InstanceId, Record, Result, ServiceName};
use std::fmt;

/// Which keys and values stand for an instance.
///
/// An instance has one key: the prefix of its service followed by its id. A layout may add a second,
/// the *side key*, for what the value of the first cannot say. [`keys`](Self::keys) states the prefixes,
/// [`encode`](Self::encode) the rest; the store writes both keys in one transaction under one lease. A layout
/// may leave the first key out, so that programs that know nothing of side keys do not see the instance.
///
/// The methods are called for every key that is read, so they must neither block nor log.
/// [`encode`](Self::encode) is strict: it refuses an instance that [`decode`](Self::decode) would not give
/// back. Decoding is tolerant: it ignores unknown fields.
pub trait Layout: fmt::Debug + Send + Sync + 'static {
    /// A short name. Cursors carry it, so a cursor of another layout is refused.
    fn name(&self) -> &str;

    /// What all keys start with, such as `/microservices/`. May be empty: then the layout shares the
    /// whole of etcd with others.
    fn root(&self) -> &str;

    /// Where the keys of `service` are.
    ///
    /// # Errors
    ///
    /// `Invalid` if the layout cannot express that name.
    fn keys(&self, service: &ServiceName) -> Result<ServiceKeys>;

    /// What to write for `record`, which has its lease and ttl. The store knows the lease from the keys.
    ///
    /// # Errors
    ///
    /// `Invalid` if the layout cannot express the instance.
    fn encode(&self, record: &Record) -> Result<Encoded>;

    /// What to write over the keys of `record` when its owner withdraws it, before they are deleted, so that a
    /// watch knows why. [`decode`](Self::decode) gives [`Stored::Withdrawn`] for it. `None`, the default, if
    /// the layout cannot say it: then the keys are only deleted.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded. Then the keys are only deleted, too.
    fn encode_withdrawn(&self, record: &Record) -> Result<Option<Encoded>> {
        let _ = record;
        Ok(None)
    }

    /// The id that follows a prefix of [`keys`](Self::keys). `None` if no instance has such a key: the
    /// key is ignored.
    ///
    /// Two texts must not mean the same id.
    ///
    /// # Errors
    ///
    /// If the key should not be there at all. It is counted and reported as undecodable.
    fn decode_id(&self, text: &[u8]) -> Result<Option<InstanceId>, BoxError>;

    /// Why a key should not be there to which [`decode_id`](Self::decode_id) gives no id, if its `value` tells that it is meant
    /// for `service`. It is counted and reported as undecodable. By default such keys are ignored.
    fn stray(&self, service: &ServiceName, value: &[u8]) -> Option<BoxError> {
        let _ = (service, value);
        None
    }

    /// The record that `value` and `side` describe; `None` if they say that there is no instance, or that it
    /// belongs to another service. Lease and revision of the record are the store's to set.
    ///
    /// `value` is that of the key; `None` if only the side key exists. `side` is the value of the side key, if
    /// there is one: where both keys exist, one under the same lease. At least one of them is given. Of a value
    /// above [`MAX_RECORD_LEN`](registry_core::encoding::MAX_RECORD_LEN), one byte more than that may be all
    /// that is passed.
    ///
    /// # Errors
    ///
    /// If the values cannot be decoded. They are counted and reported, and if both were given the instance is
    /// read again without `side`.
    fn decode(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        value: Option<&[u8]>,
        side: Option<&[u8]>,
    ) -> Result<Option<Stored>, BoxError>;

    /// The service that has an instance, if it can be decoded, under `key` or under a side key `key`. Called
    /// for each key under [`root`](Self::root) to list the services.
    fn service_of(&self, key: &[u8]) -> Option<ServiceName>;

    /// Whether others may keep keys of their own under [`root`](Self::root). By default they may: then a
    /// diagnosis passes over a service of which no key can be decoded.
    fn shares_root(&self) -> bool {
        true
    }
}

/// The prefixes that the keys of one service have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceKeys {
    prefix: String,
    side_prefix: Option<String>,
}

impl ServiceKeys {
    /// Keys that are `prefix` and an id.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), side_prefix: None }
    }

    /// Adds side keys, which are `prefix` and the same id.
    ///
    /// One range is read and watched, from the lower of both prefixes to the end of the higher one. So
    /// they should be neighbours: keys between them are read and ignored.
    #[must_use]
    pub fn with_side_prefix(self, prefix: impl Into<String>) -> Self {
        Self { side_prefix: Some(prefix.into()), ..self }
    }

    /// What the key of an instance has in front of its id.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What a side key has in front of the id, if the layout has side keys.
    pub fn side_prefix(&self) -> Option<&str> {
        self.side_prefix.as_deref()
    }
}

/// What a layout writes for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    id: String,
    value: Option<Vec<u8>>,
    side: Option<Vec<u8>>,
}

impl Encoded {
    /// `id` is written behind the prefixes of the service, `value` is that of the key.
    pub fn new(id: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { id: id.into(), value: Some(value.into()), side: None }
    }

    /// Only the side key is written, and the key is deleted. The layout must have side keys.
    pub fn side_only(id: impl Into<String>, side: impl Into<Vec<u8>>) -> Self {
        Self { id: id.into(), value: None, side: Some(side.into()) }
    }

    /// Adds the value of the side key. Without one, the side key is deleted.
    ///
    /// Ignored unless [`ServiceKeys::with_side_prefix`] states where side keys are.
    #[must_use]
    pub fn with_side(self, value: impl Into<Vec<u8>>) -> Self {
        Self { side: Some(value.into()), ..self }
    }
}
