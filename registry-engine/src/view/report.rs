//! Reports of callers about instances.

use registry_core::{InstanceId, LeaseId};
use tokio::time::Instant;

/// A failure of a call, as a caller reports it to a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// A new connection was refused: nothing listens at the address.
    Refused,
}

/// A report that a retained instance refused a connection.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(super) id: InstanceId,
    pub(super) incarnation: Option<LeaseId>,
    /// When it was reported.
    pub(super) at: Instant,
}

/// The reason why instances are no longer retained.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Release {
    /// The store lists them again.
    Returned,
    /// They refused a connection.
    Refused,
    /// Their hold time is over.
    Expired,
}

impl Release {
    /// Returns the value of the label `reason`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}
