//! The status of a registration.

use registry_core::Error;
use tokio::time::Instant;

/// Whether callers can find an instance, as far as its owner can tell.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RegistrationStatus {
    /// The instance is registered: the last acknowledged renewal was sent less than one ttl ago.
    Active,
    /// The instance may not be listed any more. The task keeps trying to register it.
    Retrying {
        /// When the registration was first presumed lost.
        since: Instant,
        /// The last error.
        why: Error,
    },
    /// Another incarnation holds the id. The task tries once per ttl to register, without takeover.
    Superseded,
    /// The registration was stopped.
    Stopped,
}

impl RegistrationStatus {
    /// Returns whether the instance is registered.
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active)
    }
}
