//! Layouts: which keys and values stand for an instance in etcd.
//!
//! The layouts `native`, `go-zero` and `grpc` are built in; a URL names one as `?layout=NAME`. For any
//! other format, implement [`Layout`] and pass it as [`EtcdOptions::layout`](crate::options::EtcdOptions::layout).
//!
//! This layout stores plain addresses as `/apps/<service>/<id>`:
//!
//! ```
//! use registry_core::{Address, BoxError, Instance, InstanceId, Result, ServiceName};
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
//!     fn encode(&self, instance: &Instance) -> Result<Encoded> {
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
//!         value: &[u8],
//!         _side: Option<&[u8]>,
//!     ) -> Result<Option<Instance>, BoxError> {
//!         let address = Address::new(std::str::from_utf8(value)?)?;
//!         Ok(Some(Instance::new(service.clone(), id.clone(), address)))
//!     }
//!
//!     fn service_of(&self, key: &[u8], _value: &[u8]) -> Option<ServiceName> {
//!         let names = std::str::from_utf8(key).ok()?.strip_prefix("/apps/")?;
//!         let (service, _id) = names.rsplit_once('/')?;
//!         service.parse().ok()
//!     }
//!
//!     fn keys_suffice(&self) -> bool {
//!         true
//!     }
//! }
//! ```

pub(crate) mod builtin;
pub(crate) mod decoder;
mod error;
mod extras;
mod go_zero;
mod grpc;
pub(crate) mod keyspace;
mod names;
mod native;
mod pairs;
pub(crate) mod reading;
pub(crate) mod service;

use registry_core::{BoxError, Instance, InstanceId, Result, ServiceName};
use std::fmt;

/// Which keys and values stand for an instance.
///
/// An instance has one key: the prefix of its service followed by its id. A layout may add a second,
/// the *side key*, for what the value of the first cannot say. [`keys`](Self::keys) states the prefixes,
/// [`encode`](Self::encode) the rest; the store writes both keys in one transaction under one lease.
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

    /// What to write for `instance`.
    ///
    /// # Errors
    ///
    /// `Invalid` if the layout cannot express the instance.
    fn encode(&self, instance: &Instance) -> Result<Encoded>;

    /// The id that follows a prefix of [`keys`](Self::keys). `None` if no instance has such a key: the
    /// key is ignored.
    ///
    /// Two texts must not mean the same id.
    ///
    /// # Errors
    ///
    /// If the key should not be there at all. It is counted and reported as undecodable.
    fn decode_id(&self, text: &[u8]) -> Result<Option<InstanceId>, BoxError>;

    /// The instance that `value` describes; `None` if the value says that the instance is deleted, or
    /// belongs to another service.
    ///
    /// `side` is the value of the side key, if there is one under the same lease. Of a value above
    /// [`MAX_RECORD_LEN`](registry_core::record::MAX_RECORD_LEN), one byte more than that may be all that
    /// is passed.
    ///
    /// # Errors
    ///
    /// If the values cannot be decoded. They are counted and reported, and the instance is read again
    /// without `side`.
    fn decode(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        value: &[u8],
        side: Option<&[u8]>,
    ) -> Result<Option<Instance>, BoxError>;

    /// The service that has an instance under `key`, if `key` is not a side key and the value can be
    /// decoded. Called for each key under [`root`](Self::root) to list the services.
    fn service_of(&self, key: &[u8], value: &[u8]) -> Option<ServiceName>;

    /// Whether [`service_of`](Self::service_of) needs no value: then values are not read to list the
    /// services, and it is passed an empty one.
    fn keys_suffice(&self) -> bool {
        false
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
    value: Vec<u8>,
    side: Option<Vec<u8>>,
}

impl Encoded {
    /// `id` is written behind the prefixes of the service, `value` is that of the key.
    pub fn new(id: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { id: id.into(), value: value.into(), side: None }
    }

    /// Adds the value of the side key. Without one, the side key is deleted.
    ///
    /// Ignored unless [`ServiceKeys::with_side_prefix`] states where side keys are.
    #[must_use]
    pub fn with_side(self, value: impl Into<Vec<u8>>) -> Self {
        Self { side: Some(value.into()), ..self }
    }
}
