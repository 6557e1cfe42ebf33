//! Layouts: the keys and values that represent an instance in etcd.
//!
//! The layouts `native`, `go-zero`, `grpc`, `kratos` and `kitex` are built in; a URL names one as
//! `?layout=NAME`. For any other format, implement [`Layout`] and pass it as
//! [`EtcdOptions::layout`](crate::options::EtcdOptions::layout).
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

/// The keys and values that represent an instance.
///
/// An instance has one key: the prefix of its service followed by its id. A layout may add a second key, the
/// *side key*, for what the value of the first cannot express. [`keys`](Self::keys) states the prefixes and
/// [`encode`](Self::encode) the rest. The store writes both keys in one transaction under one lease. A layout
/// may omit the first key, so that programs that know no side keys do not see the instance.
///
/// The methods are called for every key that is read, so they must neither block nor log.
/// [`encode`](Self::encode) is strict: it refuses an instance that [`decode`](Self::decode) would not return.
/// Decoding is tolerant: it ignores unknown fields.
pub trait Layout: fmt::Debug + Send + Sync + 'static {
    /// Returns a short name. Cursors contain it, so a cursor of another layout is refused.
    fn name(&self) -> &str;

    /// Returns the prefix of all keys, such as `/microservices/`. If it is empty, the layout shares the whole
    /// of etcd with other programs.
    fn root(&self) -> &str;

    /// Returns the key prefixes of `service`.
    ///
    /// # Errors
    ///
    /// `Invalid` if the layout cannot express that name.
    fn keys(&self, service: &ServiceName) -> Result<ServiceKeys>;

    /// Returns what to write for `record`, which has its lease and ttl. The value need not contain the lease,
    /// since etcd stores it with the key.
    ///
    /// # Errors
    ///
    /// `Invalid` if the layout cannot express the instance.
    fn encode(&self, record: &Record) -> Result<Encoded>;

    /// Returns what to write over the keys of `record` when its owner withdraws it, so that watches know the
    /// reason of the deletion that follows. [`decode`](Self::decode) must return [`Stored::Withdrawn`] for
    /// it. `None`, the default, means that the layout cannot express it: the keys are deleted at once.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded. The keys are then deleted at once as well.
    fn encode_withdrawn(&self, record: &Record) -> Result<Option<Encoded>> {
        let _ = record;
        Ok(None)
    }

    /// Decodes the id that follows a prefix of [`keys`](Self::keys). Returns `None` if no instance has such a
    /// key: the key is ignored.
    ///
    /// Two different texts must not decode to the same id.
    ///
    /// # Errors
    ///
    /// If the key should not exist at all. It is counted and reported as undecodable.
    fn decode_id(&self, text: &[u8]) -> Result<Option<InstanceId>, BoxError>;

    /// For a key for which [`decode_id`](Self::decode_id) returns `None`: returns why it is wrong, if its
    /// `value` claims to be of `service`. The key is then counted and reported as undecodable. By default
    /// such keys are ignored.
    fn stray(&self, service: &ServiceName, value: &[u8]) -> Option<BoxError> {
        let _ = (service, value);
        None
    }

    /// Decodes a record. Returns `None` if the values are no instance, or one of another service. The store
    /// sets lease and revision of the record.
    ///
    /// `value` is the value of the key, or `None` if only the side key exists. `side` is the value of the side key,
    /// if it exists and has the same lease as the key. At least one of them is given. A value longer than
    /// [`MAX_RECORD_LEN`](registry_core::encoding::MAX_RECORD_LEN) may be cut to one byte more than that.
    ///
    /// # Errors
    ///
    /// If the values cannot be decoded. They are counted and reported. If both were given, the instance is
    /// decoded again without `side`.
    fn decode(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        value: Option<&[u8]>,
        side: Option<&[u8]>,
    ) -> Result<Option<Stored>, BoxError>;

    /// Returns the service whose instance (if it can be decoded) has the key or side key `key`. Called for
    /// each key under [`root`](Self::root) to list the services.
    fn service_of(&self, key: &[u8]) -> Option<ServiceName>;

    /// Returns whether other programs may have their own keys under [`root`](Self::root). By default they
    /// may; a diagnosis then ignores a service of which no key can be decoded.
    fn shares_root(&self) -> bool {
        true
    }
}

/// The key prefixes of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceKeys {
    prefix: String,
    side_prefix: Option<String>,
}

impl ServiceKeys {
    /// Creates keys that consist of `prefix` and an id.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), side_prefix: None }
    }

    /// Adds side keys, which consist of `prefix` and the same id.
    ///
    /// One range is read and watched, from the lower of both prefixes to the end of the higher one. The
    /// prefixes should be neighbours, since keys between them are read and ignored.
    #[must_use]
    pub fn with_side_prefix(self, prefix: impl Into<String>) -> Self {
        Self { side_prefix: Some(prefix.into()), ..self }
    }

    /// Returns the prefix of an instance's key.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the prefix of a side key, if the layout has side keys.
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
    /// Creates a record with only a key: `id` follows the prefix of the service, `value` is the key's value.
    pub fn new(id: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { id: id.into(), value: Some(value.into()), side: None }
    }

    /// Creates a record with only a side key; the key is deleted. The layout must have side keys.
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
