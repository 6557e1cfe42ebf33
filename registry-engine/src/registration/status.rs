//! The status of a registration.

use registry_core::Error;
use std::fmt;
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

/// In one or two words, with the last error where there is one: `active`, `retrying: unavailable: ...`.
impl fmt::Display for RegistrationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("active"),
            Self::Retrying { why, .. } => write!(f, "retrying: {why}"),
            Self::Superseded => f.write_str("superseded"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}
