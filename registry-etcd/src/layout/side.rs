//! Side records: the part of an instance that the Go formats cannot express.
//!
//! Their keys are `<service>.~meta/<id>`, outside the prefix `<service>/` that Go programs read. Each value is a
//! whole [record](registry_core::encoding), with its lease and ttl. It is valid only while its key has the same
//! lease as the public key. So a Go publisher that takes over the public key invalidates the side record.
//!
//! Go programs know no status and no weight. So an instance that is not available (draining, or weight 0) has
//! no public key, and its side record is read alone. A side record of an available instance is not read
//! alone, since then another client deleted the public key.

use super::names;
use super::{Encoded, ServiceKeys};
use registry_core::encoding::{self, DecodeError, Stored};
use registry_core::{Error, ErrorKind, Instance, InstanceId, Record, Result, ServiceName};

/// The suffix of a service name in side keys. Since `.` < `/` < `0`, the range from the first side key to the
/// last public key contains both and little else.
const SUFFIX: &str = ".~meta";

/// Returns the keys of `service` under `root`, in the layout named `layout`.
pub(super) fn keys(layout: &str, root: &str, service: &ServiceName) -> Result<ServiceKeys> {
    let service = service.as_str();
    if service.ends_with(SUFFIX) {
        let message = format!(
            "a service name in the {layout} layout must not end with `{SUFFIX}`, got=`{service}`"
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let keys = ServiceKeys::new([root, service, "/"].concat());
    Ok(keys.with_side_prefix([root, service, SUFFIX, "/"].concat()))
}

/// Returns the service of a key or side key, given without the root.
pub(super) fn service_of(names: &[u8]) -> Option<ServiceName> {
    let (name, _) = names::split(names)?;
    // With the suffix it may exceed the limit of a name.
    names::service(name.strip_suffix(SUFFIX.as_bytes()).unwrap_or(name))
}

/// Returns whether the service name is the prefix of another service's side keys.
pub(super) fn is_side(service: &ServiceName) -> bool {
    service.as_str().ends_with(SUFFIX)
}

/// Encodes the side record, and adds `public` if the instance is available.
pub(super) fn encode(record: &Record, public: impl Into<Vec<u8>>) -> Result<Encoded> {
    let (id, side) = (record.id().as_str(), encoding::encode(record)?);
    Ok(if record.instance().is_available() {
        Encoded::new(id, public).with_side(side)
    } else {
        Encoded::side_only(id, side)
    })
}

/// Encodes the side record of a withdrawn instance, which has no public key.
pub(super) fn encode_withdrawn(record: &Record) -> Result<Encoded> {
    let side = encoding::encode_withdrawn(record)?;
    Ok(Encoded::side_only(record.id().as_str(), side))
}

/// Decodes the record from the public key's instance, if there is one, and the side record.
pub(super) fn decode(
    service: &ServiceName,
    id: &InstanceId,
    public: Option<Instance>,
    side: Option<&[u8]>,
) -> Result<Option<Stored>, DecodeError> {
    let side = side.map(|side| encoding::decode(service, id, side)).transpose()?;
    Ok(match (public, side) {
        (Some(public), Some(Stored::Live(side))) => {
            Some(Stored::Live(at_address_of(&public, side)))
        }
        (Some(public), _) => Some(Stored::Live(Record::new(public))),
        (None, Some(Stored::Live(side))) if side.instance().is_available() => None,
        (None, side) => side,
    })
}

/// Uses the address of the public key, since Go programs call that one.
fn at_address_of(public: &Instance, side: Record) -> Record {
    if side.instance().address() == public.address() {
        return side;
    }
    let ttl = side.ttl();
    let moved = Record::new(side.into_instance().with_address(public.address().clone()));
    match ttl {
        Some(ttl) => moved.with_ttl(ttl),
        None => moved,
    }
}
