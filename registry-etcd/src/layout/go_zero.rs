//! go-zero's layout: `<Key>/<id>` holds `host:port` and nothing else, byte for byte.
//!
//! What go-zero cannot say of an instance stands under `<Key>.~meta/<id>`, outside of what its
//! subscribers read, and counts only while it hangs on the same lease as the key it belongs to: so
//! a publisher in Go that takes a key over takes the address, and leaves the rest behind.

use super::error::DecodeError;
use super::extras::Extras;
use super::names;
use super::{Encoded, Layout, ServiceKeys};
use registry_core::record::MAX_RECORD_LEN;
use registry_core::{
    Address, BoxError, Error, ErrorKind, Instance, InstanceId, Result, ServiceName,
};

pub(super) const NAME: &str = "go-zero";

/// What the side keys of a service have after its name. `.` < `/` < `0`: so the range from the first
/// side key to the end of the keys contains both, and little else.
const SIDE: &str = ".~meta";

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
        if service.as_str().ends_with(SIDE) {
            let message = format!("in the go-zero layout no service ends with `{SIDE}`");
            return Err(invalid(format!("{message}, got=`{service}`")));
        }
        let (root, service) = (&*self.root, service.as_str());
        let keys = ServiceKeys::new([root, service, "/"].concat());
        Ok(keys.with_side_prefix([root, service, SIDE, "/"].concat()))
    }

    fn encode(&self, instance: &Instance) -> Result<Encoded> {
        let id = instance.id().as_str();
        if !is_lease_id(id) {
            let message = "in the go-zero layout an id to register is a decimal from 1 to 2^63-1";
            return Err(invalid(format!("{message}, got=`{id}`")));
        }
        let encoded = Encoded::new(id, instance.address().as_str());
        Ok(match Extras::of(instance) {
            Some(extras) => encoded.with_side(extras.to_json()),
            None => encoded,
        })
    }

    fn decode_id(&self, text: &[u8]) -> Result<Option<InstanceId>, BoxError> {
        Ok(names::id(text))
    }

    fn decode(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        value: &[u8],
        side: Option<&[u8]>,
    ) -> Result<Option<Instance>, BoxError> {
        let instance = Instance::new(service.clone(), id.clone(), decode_address(value)?);
        Ok(Some(match side {
            Some(side) => decode_extras(side)?.apply_to(instance)?,
            None => instance,
        }))
    }

    fn service_of(&self, key: &[u8], value: &[u8]) -> Option<ServiceName> {
        let (service, _) = names::service_and_id(key.strip_prefix(self.root.as_bytes())?)?;
        decode_address(value).ok()?;
        (!service.as_str().ends_with(SIDE)).then_some(service)
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
    Ok(Address::new(str::from_utf8(value)?)?)
}

fn decode_extras(value: &[u8]) -> Result<Extras, DecodeError> {
    if value.len() > MAX_RECORD_LEN {
        return Err(DecodeError::TooLarge(value.len()));
    }
    Extras::from_json(value)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests;
