//! go-zero's layout: `<Key>/<id>` holds `host:port` and nothing else, byte for byte.
//!
//! What go-zero cannot say of an instance stands in a [side record](super::side).

use super::error::DecodeError;
use super::names;
use super::side;
use super::{Encoded, Layout, ServiceKeys};
use registry_core::encoding::Stored;
use registry_core::{
    Address, BoxError, Error, ErrorKind, Instance, InstanceId, Record, Result, ServiceName,
};

pub(super) const NAME: &str = "go-zero";

/// The longest value that may be an address: a host name of 253 bytes, and a port.
const MAX_ADDRESS_LEN: usize = 253 + ":65535".len();

#[derive(Debug)]
pub(super) struct GoZero {
    root: String,
}

impl GoZero {
    pub(super) fn new(path: &str) -> Self {
        Self { root: names::root(path) }
    }
}

impl Layout for GoZero {
    fn name(&self) -> &str {
        NAME
    }

    fn root(&self) -> &str {
        &self.root
    }

    fn keys(&self, service: &ServiceName) -> Result<ServiceKeys> {
        side::keys(NAME, &self.root, service)
    }

    fn encode(&self, record: &Record) -> Result<Encoded> {
        let id = record.id().as_str();
        if !is_lease_id(id) {
            let message = "in the go-zero layout an id to register is a decimal from 1 to 2^63-1";
            return Err(Error::new(ErrorKind::Invalid, format!("{message}, got=`{id}`")));
        }
        side::encode(record, record.instance().address().as_str())
    }

    fn encode_withdrawn(&self, record: &Record) -> Result<Option<Encoded>> {
        side::encode_withdrawn(record).map(Some)
    }

    fn decode_id(&self, text: &[u8]) -> Result<Option<InstanceId>, BoxError> {
        Ok(names::id(text))
    }

    fn decode(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        value: Option<&[u8]>,
        side: Option<&[u8]>,
    ) -> Result<Option<Stored>, BoxError> {
        let address = value.map(decode_address).transpose()?;
        let public = address.map(|address| Instance::new(service.clone(), id.clone(), address));
        Ok(side::decode(service, id, public, side)?)
    }

    fn service_of(&self, key: &[u8]) -> Option<ServiceName> {
        side::service_of(key.strip_prefix(self.root.as_bytes())?)
    }
}

/// Whether `id` is a lease id as Go prints it, so that programs in Go parse it.
pub(super) fn is_lease_id(id: &str) -> bool {
    id.parse::<i64>().is_ok_and(|number| number > 0 && number.to_string() == id)
}

pub(super) fn decode_address(value: &[u8]) -> Result<Address, DecodeError> {
    if value.len() > MAX_ADDRESS_LEN {
        return Err(DecodeError::TooLong(value.len()));
    }
    let text = str::from_utf8(value)?;
    Address::read(text).ok_or_else(|| DecodeError::Address(text.to_owned()))
}

#[cfg(test)]
mod tests;
