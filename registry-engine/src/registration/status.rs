//! The status of a registration.

use registry_core::Error;
use std::fmt;
use tokio::time::Instant;

/// The status of a registration, as far as its owner can tell.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RegistrationStatus {
    /// The instance is registered: the last acknowledged renewal was sent less than one ttl ago.
    Active,
    /// The instance is not registered yet, or may no longer be listed. The registration retries.
    Retrying {
        /// When the start began, or when the lease was first presumed lost.
        since: Instant,
        /// The last error.
        why: Error,
    },
    /// Another incarnation holds the id. The registration tries again once per ttl, without takeover, and when that
    /// incarnation is gone.
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

/// The name of the status, with the last error if there is one: `active`, `retrying: the store did not answer, ...`.
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
