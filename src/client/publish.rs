//! The address that an instance is registered at.

use crate::advertise::Advertise;
use crate::{Instance, Result};
use std::net::SocketAddr;

/// Returns `instance` with an address that others can dial: if its own is unspecified, with one of this machine.
pub(super) fn publishable(instance: Instance, is_remote: bool) -> Result<Instance> {
    let Ok(bound) = instance.address().as_str().parse::<SocketAddr>() else { return Ok(instance) };
    if bound.ip().is_unspecified() {
        let address = Advertise::new(bound.into()).address(bound)?;
        return Ok(instance.with_address(address));
    }
    if is_remote && bound.ip().is_loopback() {
        let (service, id, address) = (instance.service(), instance.id(), instance.address());
        tracing::warn!(
            %service, %id, %address,
            "an instance is registered in a remote store at a loopback address, which no other machine can call"
        );
    }
    Ok(instance)
}
