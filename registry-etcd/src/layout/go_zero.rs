//! The layout of go-zero: `<Key>/<id>` contains `host:port` and nothing else.
//!
//! The rest of an instance is in a [side record](super::side).

use super::error::DecodeError;
use super::public::PublicForm;
use registry_core::{Address, Error, ErrorKind, Instance, InstanceId, Result, ServiceName};

/// The longest possible address: a host name of 253 bytes and a port.
const MAX_ADDRESS_LEN: usize = 253 + ":65535".len();

#[derive(Debug)]
pub(super) struct GoZero;

impl PublicForm for GoZero {
    const NAME: &'static str = "go-zero";

    fn encode(instance: &Instance) -> Result<Vec<u8>> {
        let id = instance.id().as_str();
        if !is_lease_id(id) {
            let message =
                "an id to register in the go-zero layout must be a decimal from 1 to 2^63-1";
            return Err(Error::new(ErrorKind::Invalid, format!("{message}, got=`{id}`")));
        }
        Ok(instance.address().as_str().into())
    }

    fn decode(
        service: &ServiceName,
        id: &InstanceId,
        value: &[u8],
    ) -> Result<Option<Instance>, DecodeError> {
        let address = decode_address(value)?;
        Ok(Some(Instance::from_parts(service.clone(), id.clone(), address)))
    }
}

/// Returns whether `id` is a lease id as Go prints it, which Go programs can parse.
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
