//! The common part of the layouts for Go programs: a public key in the format of these programs, and a [side
//! record](super::side).

use super::error::DecodeError;
use super::{Encoded, Layout, ServiceKeys, names, side};
use registry_core::encoding::{MAX_RECORD_LEN, Stored};
use registry_core::{
    BoxError, Error, ErrorKind, Instance, InstanceId, Record, Result, ServiceName,
};
use std::fmt;
use std::marker::PhantomData;

/// The format of public keys and values.
pub(super) trait PublicForm: fmt::Debug + Send + Sync + 'static {
    /// The name of the layout.
    const NAME: &'static str;

    /// Returns the prefix of all keys for the path of a URL.
    fn root(path: &str) -> String {
        names::root(path)
    }

    /// Refuses a service name that these programs cannot have.
    fn check(service: &ServiceName) -> Result<()> {
        let _ = service;
        Ok(())
    }

    /// Encodes the value of the public key.
    fn encode(instance: &Instance) -> Result<Vec<u8>>;

    /// Decodes a public value. Returns `None` if it is no instance of `service`.
    fn decode(
        service: &ServiceName,
        id: &InstanceId,
        value: &[u8],
    ) -> Result<Option<Instance>, DecodeError>;

    /// As [`Layout::stray`].
    fn stray(service: &ServiceName, value: &[u8]) -> Option<DecodeError> {
        let _ = (service, value);
        None
    }
}

/// The layout of a public format.
#[derive(Debug)]
pub(super) struct PublicLayout<F> {
    root: String,
    form: PhantomData<F>,
}

impl<F: PublicForm> PublicLayout<F> {
    pub(super) fn new(path: &str) -> Self {
        Self { root: F::root(path), form: PhantomData }
    }
}

impl<F: PublicForm> Layout for PublicLayout<F> {
    fn name(&self) -> &str {
        F::NAME
    }

    fn root(&self) -> &str {
        &self.root
    }

    fn keys(&self, service: &ServiceName) -> Result<ServiceKeys> {
        F::check(service)?;
        side::keys(F::NAME, &self.root, service)
    }

    fn encode(&self, record: &Record) -> Result<Encoded> {
        let value = F::encode(record.instance())?;
        let len = value.len();
        if len > MAX_RECORD_LEN {
            let message = format!(
                "the {} layout limits a value to {MAX_RECORD_LEN} bytes after escaping, got=`{len}`",
                F::NAME
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        side::encode(record, value)
    }

    fn encode_withdrawn(&self, record: &Record) -> Result<Option<Encoded>> {
        side::encode_withdrawn(record).map(Some)
    }

    fn decode_id(&self, text: &[u8]) -> Result<Option<InstanceId>, BoxError> {
        Ok(names::id(text))
    }

    fn stray(&self, service: &ServiceName, value: &[u8]) -> Option<BoxError> {
        Some(F::stray(service, value)?.into())
    }

    fn decode(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        value: Option<&[u8]>,
        side: Option<&[u8]>,
    ) -> Result<Option<Stored>, BoxError> {
        let public = match value {
            Some(value) => match F::decode(service, id, value)? {
                Some(public) => Some(public),
                None => return Ok(None),
            },
            None => None,
        };
        Ok(side::decode(service, id, public, side)?)
    }

    fn service_of(&self, key: &[u8]) -> Option<ServiceName> {
        let service = side::service_of(key.strip_prefix(self.root.as_bytes())?)?;
        F::check(&service).is_ok().then_some(service)
    }
}
