//! Side records: what a layout of Go programs cannot say of an instance.
//!
//! They lie under `<service>.~meta/<id>`, outside of the prefix `<service>/` that programs in Go read. Each
//! is a whole [record](registry_core::encoding), with its lease and ttl, and counts only while its key has
//! the same lease as the public key: so a publisher in Go that takes a key over takes the address, and
//! leaves the rest behind.
//!
//! Programs in Go know no status and no weight. So an instance that is not available, since it drains or has
//! weight 0, has no public key, and its side record is read alone. That of an available instance is not: its
//! public key was deleted by others.

use super::names;
use super::{Encoded, ServiceKeys};
use registry_core::encoding::{self, DecodeError, Stored};
use registry_core::{Error, ErrorKind, Instance, InstanceId, Record, Result, ServiceName};

/// What the side keys of a service have after its name. `.` < `/` < `0`: so the range from the first
/// side key to the end of the keys contains both, and little else.
const SUFFIX: &str = ".~meta";

/// The keys of `service` under `root`, in the layout that is called `layout`.
pub(super) fn keys(layout: &str, root: &str, service: &ServiceName) -> Result<ServiceKeys> {
    let service = service.as_str();
    if service.ends_with(SUFFIX) {
        let message =
            format!("in the {layout} layout no service ends with `{SUFFIX}`, got=`{service}`");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let keys = ServiceKeys::new([root, service, "/"].concat());
    Ok(keys.with_side_prefix([root, service, SUFFIX, "/"].concat()))
}

/// The service that has an instance under a key or a side key, without the root.
pub(super) fn service_of(names: &[u8]) -> Option<ServiceName> {
    let (name, _) = names::split(names)?;
    // With the suffix it may be longer than a name.
    names::service(name.strip_suffix(SUFFIX.as_bytes()).unwrap_or(name))
}

/// Whether a service of this name is the side keys of another.
pub(super) fn is_side(service: &ServiceName) -> bool {
    service.as_str().ends_with(SUFFIX)
}

/// The side record, and beside it `public` if the instance is available.
pub(super) fn encode(record: &Record, public: impl Into<Vec<u8>>) -> Result<Encoded> {
    let (id, side) = (record.id().as_str(), encoding::encode(record)?);
    Ok(if record.instance().is_available() {
        Encoded::new(id, public).with_side(side)
    } else {
        Encoded::side_only(id, side)
    })
}

/// The side record of a withdrawn instance. It has no public key.
pub(super) fn encode_withdrawn(record: &Record) -> Result<Encoded> {
    let side = encoding::encode_withdrawn(record)?;
    Ok(Encoded::side_only(record.id().as_str(), side))
}

/// The record of the instance that the public key describes, if there is one, and the side record.
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

/// Go programs call the address of the public key, so it is the one that counts.
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
